import copy
import io

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from jsigr_lib import attacks, widgets
from jsigr_lib.errors import InputError
from jsigr_lib.saliency import gradient_map, perturbation_saliency
from jsigr_lib.widgets import SaliencyExplorer, progress_display


@pytest.fixture(scope="module")
def explorer(study) -> SaliencyExplorer:
    return SaliencyExplorer(study)


@pytest.fixture(autouse=True)
def settings(explorer):
    """Every control as it was, after each test."""
    before = {name: control.value for name, control in explorer.controls.items()}
    yield
    for name, value in before.items():
        explorer.controls[name].value = value


CHANGES = {"image": 3, "defence": "standard", "attack": "PGD, white-box", "eps": 0.3, "blur_sigma": 6.0}


def test_explorer_starts_with_the_profiles_settings(study, explorer):
    p = study.profile
    assert explorer.controls.keys() == CHANGES.keys()
    assert {name: control.value for name, control in explorer.controls.items()} == {
        "image": 0,
        "defence": "J-SIGR",
        "attack": "MI-FGSM, from mlp",
        "eps": p.eps,
        "blur_sigma": p.penalty.blur_sigma,
    }
    assert explorer.controls["defence"].options == tuple(study.labels.values())
    assert explorer.controls["image"].max == 31
    with Image.open(io.BytesIO(explorer.picture.value)) as picture:
        assert picture.format == "PNG" and picture.width > 800


def test_widget_holds_all_that_is_seen(explorer):
    def inside(widget) -> list:
        return [widget, *(one for child in getattr(widget, "children", ()) for one in inside(child))]

    found = inside(explorer.widget)
    for part in (*explorer.controls.values(), explorer.picture, explorer.caption):
        assert part in found
    assert all(control.description for control in explorer.controls.values())
    assert isinstance(explorer.widget, ipywidgets.Widget)


@pytest.mark.parametrize("name", CHANGES)
def test_every_control_changes_the_picture(explorer, name):
    control = explorer.controls[name]
    picture, value = explorer.picture.value, control.value
    control.value = CHANGES[name]
    assert explorer.picture.value != picture
    control.value = value
    assert explorer.picture.value == picture


def test_caption_names_the_true_class_and_the_settings(study, explorer):
    for i in (5, 1):
        explorer.controls["image"].value = i
        assert f"True class: <b>{study.dataset.classes[study.dataset.test.labels[i]]}</b>" in explorer.caption.value
    explorer.controls["defence"].value = "SIGR"
    explorer.controls["eps"].value = 0.25
    assert "SIGR says" in explorer.caption.value
    assert "MI-FGSM, from mlp with eps 0.25" in explorer.caption.value


def test_picture_shows_what_the_library_computes(study, explorer):
    """With the white-box attack, where every panel depends on the chosen defence."""
    given = {"image": 2, "defence": "standard", "attack": "PGD, white-box", "eps": 0.2, "blur_sigma": 2.0}
    figure, caption = explorer.render(**given)
    model = study.model(study.training("standard"))
    x, y = (part[2:3] for part in study.batch("test", 3))
    x_adv = attacks.pgd(model, x, y, eps=0.2, steps=widgets.EXPLORER_STEPS, generator=study.generator())
    both, labels = torch.cat([x, x_adv]), y.expand(2)
    selection = {**study.profile.penalty.selection.perturbation, "blur_sigma": 2.0}
    expected = [
        *both[:, 0],
        None,  # the perturbation
        *gradient_map(model, both, labels)[:, 0],
        *perturbation_saliency(model, both, labels, **selection)[:, 0],
    ]
    for axes, array in zip(figure.axes, expected, strict=True):
        if array is not None:
            np.testing.assert_allclose(axes.images[0].get_array(), array, rtol=1e-3, atol=1e-5)
    names = study.dataset.classes
    for axes, chances in zip(figure.axes, model(both).softmax(1), strict=False):
        assert axes.get_xlabel() == f"{names[chances.argmax()]} ({chances.max():.0%})"
    assert f"<b>{figure.axes[0].get_xlabel()}</b> for the image" in caption
    assert f"<b>{figure.axes[1].get_xlabel()}</b> under" in caption


def test_transferred_attack_comes_from_the_surrogate(study, explorer):
    figure, _ = explorer.render(image=0, defence="standard", attack="MI-FGSM, from mlp", eps=0.1, blur_sigma=3.0)
    x, y = study.batch("test", 1)
    expected = attacks.mi_fgsm(study.model(study.surrogate("mlp")), x, y, eps=0.1)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected[0, 0], atol=1e-6)


def test_no_budget_shows_no_perturbation(explorer):
    figure, _ = explorer.render(image=0, defence="standard", attack="MI-FGSM, from mlp", eps=0.0, blur_sigma=3.0)
    image, attacked, perturbation = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    assert np.array_equal(image, attacked)
    assert (perturbation == 0.5).all()


def test_message_of_a_bad_setting_is_shown_and_the_picture_stays(monkeypatch, explorer):
    picture = explorer.picture.value

    def refuse(**settings):
        raise InputError("blur_sigma = 0 is out of range; accepted: 0.1 to 100")

    monkeypatch.setattr(explorer, "render", refuse)
    explorer.draw()
    assert "blur_sigma = 0 is out of range; accepted: 0.1 to 100" in explorer.caption.value
    assert explorer.picture.value == picture
    monkeypatch.undo()
    explorer.draw()
    assert "True class" in explorer.caption.value


def test_other_errors_are_not_hidden(monkeypatch, explorer):
    def break_down(**settings):
        raise ZeroDivisionError

    monkeypatch.setattr(explorer, "render", break_down)
    with pytest.raises(ZeroDivisionError):
        explorer.draw()


def test_explorer_starts_with_a_large_eps(study):
    large = copy.copy(study)
    large.profile = study.profile.model_copy(update={"eps": 0.5})
    assert SaliencyExplorer(large).controls["eps"].value == 0.5


# progress


class Line:
    """Stands in for IPython's display and for the handle it gives."""

    def __init__(self):
        self.shown, self.updates = [], []

    def __call__(self, data, *, raw, display_id):
        assert raw and display_id
        self.shown.append(data["text/plain"])
        return self

    def update(self, data, *, raw):
        assert raw
        self.updates.append(data["text/plain"])


def test_progress_is_one_line_that_is_rewritten(monkeypatch, study):
    line, clock = Line(), iter([100.0, 160.0, 220.0])
    monkeypatch.setattr(widgets, "display", line)
    monkeypatch.setattr(widgets.time, "perf_counter", lambda: next(clock))
    progress = progress_display()
    assert line.shown == []
    spec = study.training("standard")
    progress(spec, 1.0, 4.0)
    progress(spec, 4.0, 4.0)
    assert line.shown == ["25% of what was missing is made; 1.0 min, about 3.0 min left"]
    assert line.updates == ["100% of what was missing is made; 2.0 min, about 0.0 min left"]
