"""What moves: the live saliency explorer, and the progress line of a notebook that has something to compute."""

import io
import time

import ipywidgets as w
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure

from jsigr_lib import attacks, plotting
from jsigr_lib.artefacts import Progress, Spec
from jsigr_lib.saliency import gradient_map, perturbation_saliency
from jsigr_lib.study import Study
from jsigr_lib.threats import sources_of

EXPLORER_STEPS = 10


def progress_display() -> Progress:
    """A progress callback for notebooks: one line that is rewritten in place."""
    start, handle = time.perf_counter(), None

    def progress(spec: Spec, done: float, total: float) -> None:
        nonlocal handle
        elapsed = time.perf_counter() - start
        left = elapsed * (total - done) / done
        line = f"{done / total:.0%} of what was missing is made; {elapsed / 60:.1f} min, about {left / 60:.1f} min left"
        if handle is None:
            handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            handle.update({"text/plain": line}, raw=True)

    return progress


class SaliencyExplorer:
    """Pick an image, a defence, an attack, its eps and the blur; the maps follow.

    `widget` is what a notebook displays. Sliders report when they are released, and each change redraws one picture. A
    bad combination shows its message in the caption and leaves the picture.
    """

    def __init__(self, study: Study):
        self.study = study
        self.models = {label: study.model(study.training(name)) for name, label in study.labels.items()}
        source = sources_of(study, study.architecture)[0]
        self.source = study.model(study.surrogate(source))
        p = study.profile
        self.images, self.labels = study.batch("test", min(100, p.test_images))
        wide = {"style": {"description_width": "90px"}, "layout": w.Layout(width="360px"), "continuous_update": False}
        narrow = {"style": {"description_width": "90px"}, "layout": w.Layout(width="360px")}
        transferred = f"MI-FGSM, from {source}"
        self.controls = {
            "image": w.IntSlider(0, 0, len(self.images) - 1, description="image", **wide),
            "defence": w.Dropdown(
                options=list(self.models), value=study.labels["jsigr"], description="defence", **narrow
            ),
            "attack": w.Dropdown(options=[transferred, "PGD, white-box"], description="attack", **narrow),
            "eps": w.FloatSlider(
                p.eps, min=0, max=max(0.4, p.eps), step=0.01, description="eps", readout_format=".2f", **wide
            ),
            "blur_sigma": w.FloatSlider(
                p.penalty.blur_sigma, min=0.5, max=8, step=0.5, description="blur sigma", readout_format=".1f", **wide
            ),
        }
        self.picture = w.Image(format="png", layout=w.Layout(width="920px", height="230px"))
        self.caption = w.HTML(layout=w.Layout(min_height="2.6em"))
        for control in self.controls.values():
            control.observe(lambda _: self.draw(), names="value")
        rows = [w.HBox(list(self.controls.values())[i : i + 2]) for i in (0, 2, 4)]
        self.widget = w.VBox([*rows, self.picture, self.caption])
        self.draw()

    def draw(self) -> None:
        """Compute and show the picture of the current settings."""
        try:
            figure, caption = self.render(**{name: control.value for name, control in self.controls.items()})
        except ValueError as error:
            self.caption.value = f"<b>{error}</b>"
            return
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        self.picture.value, self.caption.value = buffer.getvalue(), caption

    def render(self, *, image: int, defence: str, attack: str, eps: float, blur_sigma: float) -> tuple[Figure, str]:
        """The picture of some settings, and the same in words."""
        model, p = self.models[defence], self.study.profile
        x, y = self.images[image : image + 1], self.labels[image : image + 1]
        if attack.startswith("PGD"):
            x_adv = attacks.pgd(model, x, y, eps=eps, steps=EXPLORER_STEPS, generator=self.study.generator())
        else:
            x_adv = attacks.mi_fgsm(self.source, x, y, eps=eps)
        settings = {**p.penalty.selection.perturbation, "blur_sigma": blur_sigma}
        both = torch.cat([x, x_adv])
        gradients = gradient_map(model, both, y.expand(2))
        costly = perturbation_saliency(model, both, y.expand(2), **settings)
        with torch.no_grad():
            chances = model(both).softmax(1)
        classes, truth = self.study.dataset.classes, int(y)
        said = [f"{classes[int(c.argmax())]} ({c.max():.0%})" for c in chances]
        fig = plotting.figure(9.2, 2.3)
        axes = plotting.panels(fig, 1, 7)[0]
        plotting.show_image(axes[0], x[0].cpu().numpy(), title="image")
        plotting.show_image(axes[1], x_adv[0].cpu().numpy(), title="attacked")
        magnified = 0.5 + (x_adv - x)[0].cpu().numpy() / max(2 * eps, 1e-9)
        plotting.show_image(axes[2], np.clip(magnified, 0, 1), title="perturbation,\nmagnified")
        for i, given in enumerate(("clean", "attacked")):
            plotting.show_map(axes[3 + i], gradients[i, 0].cpu().numpy(), title=f"gradient,\n{given}")
            plotting.show_map(axes[5 + i], costly[i, 0].cpu().numpy(), title=f"perturbation\nmap, {given}")
        for i, c in enumerate(chances):
            right = int(c.argmax()) == truth
            axes[i].set_xlabel(said[i], fontsize=8, color="#007a4d" if right else "#c03000")
        caption = (
            f"True class: <b>{classes[truth]}</b>. {defence} says <b>{said[0]}</b> for the image and <b>{said[1]}</b> "
            f"under {attack} with eps {eps:.2f}. Maps are about the true class."
        )
        return fig, caption
