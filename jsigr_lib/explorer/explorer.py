"""What the saliency explorer shows for given settings: the maps that several networks draw of a clean and an attacked
image, what they predict, and what the maps measure on this very image. `widgets.py` shows it live; `snapshot.py` shows
it without a kernel."""

import base64
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jsigr_lib.data import photographs
from jsigr_lib.explorer import pretrained
from jsigr_lib.explorer.controls import ATTACKS, STEPS, Settings, control, slider, steps, thumbnails
from jsigr_lib.explorer.parcel import Parcel
from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS, MAPS, saliency_map
from jsigr_lib.measure.measures import area, gini, probability_curve, ssim
from jsigr_lib.method import attacks
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.saliency import Selection
from jsigr_lib.store.hardware import one_thread
from jsigr_lib.study.map_tables import MEASURES
from jsigr_lib.study.maps import REFERENCE, pixels
from jsigr_lib.study.sources import sources_of
from jsigr_lib.study.study import Study

SHOWN = ("agreement", "stability", "SSIM", "deletion AUC", "insertion AUC", "sparseness")
"""The measures, in the order in which they are shown."""
REMEMBERED = 64  # how many batches of attacked images
IMAGES = 48  # how many are offered
GRIDS = (3, 4, 5, 6, 7, 8, 10, 12, 14)
PERTURBED = [name for name in MAPS if name.startswith("perturbation")]
"""The maps that blur what they mask."""


@dataclass(frozen=True)
class Explorer:
    """Networks and images to explore.

    Args:
        models: name -> network in evaluation mode; labels: name -> how it is called.
        source: the name of the network that transferred attacks are made on, and the network.
        images, truths: uint8 [n, channels, height, width], and the class of each; None if it shows none of them.
        selection, eps, chosen: what the controls show at first: of the maps, of the attacks, and of the defences.
        note: where networks and images come from.
        offered: what the images are.
    """

    models: dict[str, nn.Module]
    labels: dict[str, str]
    source: tuple[str, nn.Module]
    images: Tensor
    truths: list[int | None]
    classes: tuple[str, ...]
    selection: Selection
    eps: float
    note: str
    offered: str = "the first test images, in their order"
    chosen: tuple[str, ...] = ("standard", "jsigr")
    remembered: dict[tuple, Tensor] = field(default_factory=dict, repr=False)

    def about(self) -> dict[str, Any]:
        """What the front end must know before it asks for a scene: classes, sizes and controls."""
        source, s = self.source[0], self.selection
        given = {**ATTACKS, "transferred": f"MI-FGSM from {source}"}
        kept = "share of the pixels that a hard selection keeps"
        budgets = [round(i * self.eps / 10, 6) for i in range(41) if i != 10 and i * self.eps <= 10]
        maps = {name: one.label for name, one in MAPS.items() if name not in CONTROLS}
        return {
            "title": "Saliency explorer",
            "note": f"{self.note}. Maps are about the true class; of a picture without one, as of yours, about the "
            "class that the first network predicts.",
            "size": list(self.images.shape[-2:]),
            "channels": self.images.shape[1],
            "classes": list(self.classes),
            "upload": True,
            "controls": [
                thumbnails(self.images, self.offered),
                control("defences", "several", self.labels, list(self.chosen), "how the networks were trained"),
                control("map", "choice", maps, "gradient", "what is drawn"),
                control("attack", "choice", given, "transferred", "what attacks the image"),
                slider("eps", budgets, self.eps, 2 if self.eps >= 0.1 else 3, "budget: largest change of a pixel"),
                slider("steps", range(1, 31), STEPS, 0, "of the attack"),
                slider("blur_sigma", steps(0.5, 8, 0.5), s.blur_sigma, 1, "pixels, of the masks", maps=PERTURBED),
                slider("grid", GRIDS, s.grid, 0, "masks per side", maps=[*PERTURBED, "occlusion"]),
                slider("share", steps(0, 1, 0.05), s.share, 2, kept, local=True),
            ],
        }

    def scene(self, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """All that is shown for these settings, as JSON and the bytes of its pictures. Raises InputError if a setting
        is out of range."""
        settings, parcel = Settings.of(given), Parcel()
        x, truth = self._image(settings)
        with one_thread():  # for so few small images many threads are no faster, and on a busy machine far slower
            (scene,) = self.scenes(settings, x, truth, parcel)
            return {**scene, "flipped": self._flipped(settings)}, bytes(parcel.content)

    def _flipped(self, settings: Settings) -> dict[str, list[int]] | None:
        """Defence -> the images about which it is right, and no longer under this attack; None in a white-box attack,
        which takes too long for all of them. An image without a true class is never among them."""
        if settings.attack != "transferred":
            return None
        known = [i for i, truth in enumerate(self.truths) if truth is not None]
        device = next(self.source[1].parameters()).device
        x, y = self.images[known].to(device).float() / 255, torch.tensor([self.truths[i] for i in known], device=device)
        x_adv, found = self._attacked("", x, y, settings), {}
        for name in settings.defences:
            with torch.no_grad():
                right, still = (self.models[name](one).argmax(1) == y for one in (x, x_adv))
            found[name] = [known[i] for i in torch.nonzero(right & ~still).flatten().tolist()]
        return found

    def scenes(self, settings: Settings, x: Tensor, truth: list[int | None], parcel: Parcel) -> list[dict[str, Any]]:
        """A scene for each of the images x [batch, channels, height, width] in [0, 1]."""
        for name in settings.defences:
            one_of("defence", name, tuple(self.models))
        if not settings.defences or len(set(settings.defences)) < len(settings.defences):
            chosen = list(settings.defences)
            raise InputError(f"defences = {chosen}; accepted: some of {', '.join(self.models)}, each once")
        with torch.no_grad():
            guessed = self.models[settings.defences[0]](x).argmax(1).tolist()
        about = [guess if known is None else known for known, guess in zip(truth, guessed, strict=True)]
        y = torch.tensor(about, device=x.device)
        cards = [self._cards(name, settings, x, y, parcel) for name in settings.defences]
        return [
            {
                "image": parcel.put_image(x[i]),
                "truth": truth[i],
                "about": about[i],
                "eps": settings.eps,
                "summary": self._titled(truth[i], settings),
                "cards": [card[i] for card in cards],
            }
            for i in range(len(x))
        ]

    def _titled(self, truth: int | None, settings: Settings) -> str:
        if truth is not None:
            return f"True class: {self.classes[truth]}."
        return "It shows none of the classes." if settings.upload is None else "Your picture."

    def _image(self, settings: Settings) -> tuple[Tensor, list[int | None]]:
        shape = self.images.shape[1:]
        if settings.upload is None:
            between("image", settings.image, 0, len(self.images) - 1)
            image, truth = self.images[settings.image], self.truths[settings.image]
        else:
            try:
                raw = base64.b64decode(settings.upload, validate=True)
            except (TypeError, ValueError):  # binascii.Error is a ValueError
                raw = b""
            if len(raw) != shape.numel():
                raise InputError(f"picture of {len(raw)} bytes; accepted: {shape.numel()} bytes, base64")
            image = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(*shape[1:], shape[0]).permute(2, 0, 1)
            truth = None
        device = next(self.source[1].parameters()).device
        return image[None].to(device).float() / 255, [truth]

    def _attacked(self, name: str, x: Tensor, y: Tensor, s: Settings) -> Tensor:
        """The images attacked for one network: by MI-FGSM on the source, or by PGD from a random start on the network
        itself. They are remembered, as most controls leave the attack as it was."""
        key = (s.attack, s.eps, s.steps, s.attack == "transferred" or name, x.cpu().numpy().tobytes(), *y.tolist())
        if key in self.remembered:
            return self.remembered[key]
        if len(self.remembered) >= REMEMBERED:
            self.remembered.clear()
        options = {"eps": s.eps, "steps": s.steps}
        if s.attack == "transferred":
            x_adv = attacks.mi_fgsm(self.source[1], x, y, **options)
        else:
            each = zip(x.split(1), y.split(1), strict=True)  # so that an image starts where it starts alone
            parts = [
                attacks.pgd(self.models[name], *one, generator=torch.Generator().manual_seed(0), **options)
                for one in each
            ]
            x_adv = torch.cat(parts)
        self.remembered[key] = x_adv
        return x_adv

    def _cards(self, defence: str, settings: Settings, x: Tensor, y: Tensor, parcel: Parcel) -> list[dict[str, Any]]:
        """One network's card for each image: its predictions, its maps and their measures."""
        model, n = self.models[defence], len(x)
        x_adv = self._attacked(defence, x, y, settings)
        both, twice = torch.cat([x, x_adv]), y.repeat(2)
        options = {"grid": settings.grid, "blur_sigma": settings.blur_sigma, "mask_sigma": self.selection.mask_sigma}
        kinds = dict.fromkeys((settings.map, REFERENCE))  # each once
        maps = {kind: saliency_map(kind, model, both, twice, **options) for kind in kinds}
        with torch.no_grad():
            chances = model(both).softmax(1).cpu().double().numpy().round(3)
        measured = self._measured(model, both, twice, maps, settings)
        shown = maps[settings.map]
        return [
            {
                "defence": defence,
                "label": self.labels[defence],
                "summary": self._said(self.labels[defence], chances[i], chances[n + i]),
                "attacked": parcel.put_image(x_adv[i]),
                "maps": {"clean": parcel.put_map(shown[i]), "attacked": parcel.put_map(shown[n + i])},
                "chances": {"clean": chances[i].tolist(), "attacked": chances[n + i].tolist()},
                "measures": [
                    {"name": name, "help": MEASURES[name].meaning, "clean": values[i], "attacked": values[n + i]}
                    for name, values in measured.items()
                ],
            }
            for i in range(n)
        ]

    def _measured(self, model: nn.Module, both: Tensor, y: Tensor, maps: dict[str, Tensor], s: Settings) -> dict:
        """Measure -> its values on the clean images, then on the attacked ones. A measure that compares the two has its
        values with the attacked ones."""
        shown = maps[s.map]
        flat, n = pixels(shown), len(both) // 2
        none = np.full(n, np.nan)
        values = {
            "agreement": statistics.rank_correlation(flat, pixels(maps[REFERENCE])),
            "stability": np.concatenate([none, statistics.rank_correlation(flat[:n], flat[n:])]),
            "SSIM": np.concatenate([none, ssim(shown[:n], shown[n:]).double().cpu().numpy()]),
            "sparseness": gini(flat),
        }
        for kind in ("deletion", "insertion"):
            curve = probability_curve(model, both, y, shown, kind=kind, blur_sigma=s.blur_sigma)
            values[f"{kind} AUC"] = area(curve.double().cpu().numpy())
        return {name: [None if np.isnan(value) else round(float(value), 3) for value in values[name]] for name in SHOWN}

    def _said(self, label: str, clean: np.ndarray, attacked: np.ndarray) -> str:
        """A network's predictions in a sentence."""
        first, second = (f"{self.classes[chances.argmax()]} ({chances.max():.0%})" for chances in (clean, attacked))
        return f"{label} says {first} for the image, {second} under attack."


def of_study(study: Study, images: int = IMAGES) -> Explorer:
    """The networks of a study, on its first test images."""
    first, source = study.dataset.test.first(images), sources_of(study, study.architecture)[0]
    return Explorer(
        models={name: study.model(study.training(name)) for name in study.labels},
        labels=study.labels,
        source=(source, study.model(study.surrogate(source))),
        images=first.images,
        truths=first.labels.tolist(),
        classes=study.dataset.classes,
        selection=study.profile.penalty.selection,
        eps=study.profile.eps,
        note=f"{study.footer}; the first {len(first)} test images",
    )


def of_pretrained(images: int = IMAGES) -> Explorer:
    """The shipped networks for garments, on the first of the bundled test images."""
    first, labels = pretrained.images(images)
    return _shipped("fashion-mnist", first, labels.tolist(), f"the first {images} test images of fashion-mnist")


def of_photographs() -> Explorer:
    """The shipped networks for photographs, on those that come with the repository: their centred squares, shrunk."""
    facts = pretrained.load(pretrained.names("cifar10")[0]).facts
    images, shown = photographs.squares(facts["shape"]["size"])
    truths = [facts["classes"].index(one) if one else None for one in shown]
    offered = f"free photographs, of which the first {len(truths) - truths.count(None)} show a class of the networks"
    return _shipped("cifar10", images, truths, f"{len(images)} photographs (data/photographs)", offered=offered)


def _shipped(of: str, images: Tensor, truths: list[int | None], about: str, **more: str) -> Explorer:
    """The networks of a set, attacked through its first source."""
    networks = [pretrained.load(name) for name in pretrained.names(of)]
    defences = [one for one in networks if "transferred" in one.facts["accuracy"]]
    source = networks[len(defences)]
    jsigr = next(one.facts["options"] for one in defences if one.facts["name"] == "jsigr")
    return Explorer(
        models={one.facts["name"]: one.model for one in defences},
        labels={one.facts["name"]: one.label for one in defences},
        source=(source.facts["architecture"], source.model),
        images=images,
        truths=truths,
        classes=source.classes,
        selection=Selection(**{one.name: jsigr[one.name] for one in fields(Selection)}),
        eps=defences[0].facts["accuracy"]["transferred"]["eps"],
        note=f"pretrained networks of the {source.facts['profile']} profile, one seed; {about}",
        **more,
    )
