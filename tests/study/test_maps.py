"""What is kept of each network's maps, against the library called by hand."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from jsigr_lib.data.data import Split
from jsigr_lib.measure.attributions import CONTROLS, MAPS, saliency_map
from jsigr_lib.measure.measures import (
    CURVE_STEPS,
    area,
    gini,
    infidelity,
    max_sensitivity,
    probability_curve,
    randomised,
    square_changes,
    ssim,
    top_overlap,
)
from jsigr_lib.measure.statistics import partial_rank_correlation, rank_correlation
from jsigr_lib.networks.zoo import trained
from jsigr_lib.study.map_tables import explained, sanity
from jsigr_lib.study.maps import REFERENCE, Explained, Sanity, pixels
from jsigr_lib.study.sources import headline_attack

SHOWN = ("gradient", "grad-cam", "perturbation")


@pytest.fixture(scope="module")
def spec(study) -> Explained:
    return explained(study, study.training("jsigr"), SHOWN)


@pytest.fixture(scope="module")
def kept(study, spec) -> dict[str, torch.Tensor]:
    return study.get(spec).tensors


@pytest.fixture(scope="module")
def inputs(study, spec) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    x, y = study.batch("test", 8)
    x_adv = study.get(headline_attack(study, "small-cnn")).tensors["images"][:8]
    return {"clean": (x, y), "attacked": (x_adv, y)}


@pytest.fixture(scope="module")
def draw(study):
    model, settings = study.model(study.training("jsigr")), study.profile.penalty.selection.perturbation
    return lambda name, x, y, model=model: saliency_map(name, model, x, y, **settings)


def test_spec_needs_what_it_reads(study, spec):
    assert spec.needs() == [study.training("jsigr"), study.data, headline_attack(study, "small-cnn")]
    clean = explained(study, study.training("jsigr"), SHOWN, attacked=False)
    assert clean.needs() == spec.needs()[:2]
    assert spec.work() == 2 * clean.work() > 0
    more = explained(study, study.training("jsigr"), tuple(name for name in MAPS if name not in CONTROLS))
    assert more.work() > spec.work()


def test_every_measure_of_every_map_and_input_is_there(kept):
    per_input = {
        *("deletion AUC", "insertion AUC", "deletion curve", "insertion curve", "deletion gain", "insertion gain"),
        *("infidelity", "agreement", "agreement given the energy map", "top overlap", "sparseness", "map"),
    }
    every = (*SHOWN, *CONTROLS)
    expected = {(measure, name, given) for measure in per_input for name in every for given in ("clean", "attacked")}
    expected |= {(measure, name, "both") for measure in ("stability", "SSIM") for name in every}
    assert {tuple(name.split("|")) for name in kept} == expected
    assert {len(value) for value in kept.values()} == {8}


@pytest.mark.parametrize("given", ["clean", "attacked"])
@pytest.mark.parametrize("name", SHOWN)
def test_values_are_those_of_the_library(study, kept, inputs, draw, name, given):
    model, (x, y) = study.model(study.training("jsigr")), inputs[given]
    drawn = {one: draw(one, x, y) for one in (name, REFERENCE, *CONTROLS)}
    assert_close(kept[f"map|{name}|{given}"], drawn[name])
    flat = {one: pixels(value) for one, value in drawn.items()}
    assert_allclose(kept[f"agreement|{name}|{given}"], rank_correlation(flat[name], flat[REFERENCE]), atol=1e-6)
    left = partial_rank_correlation(flat[name], flat[REFERENCE], flat["energy"])
    assert_allclose(kept[f"agreement given the energy map|{name}|{given}"], left, atol=1e-6)
    assert_allclose(kept[f"top overlap|{name}|{given}"], top_overlap(flat[name], flat[REFERENCE]), atol=1e-6)
    assert_allclose(kept[f"sparseness|{name}|{given}"], gini(flat[name]), rtol=1e-5)
    assert_close(
        kept[f"infidelity|{name}|{given}"], infidelity(square_changes(model, x, y), drawn[name]), rtol=1e-3, atol=1e-5
    )
    blur_sigma = study.profile.penalty.blur_sigma
    for kind, sign in (("deletion", -1), ("insertion", +1)):
        curves = {
            one: probability_curve(model, x, y, drawn[one], kind=kind, blur_sigma=blur_sigma)
            for one in (name, "random")
        }
        areas = {one: area(curve.double().numpy()) for one, curve in curves.items()}
        assert kept[f"{kind} curve|{name}|{given}"].shape == (8, CURVE_STEPS + 1)
        assert_close(kept[f"{kind} curve|{name}|{given}"], curves[name])
        assert_allclose(kept[f"{kind} AUC|{name}|{given}"], areas[name], rtol=1e-5)
        assert_allclose(kept[f"{kind} AUC|random|{given}"], areas["random"], rtol=1e-5)
        gain = sign * (areas[name] - areas["random"])
        assert_allclose(kept[f"{kind} gain|{name}|{given}"], gain, atol=1e-6)


@pytest.mark.parametrize("name", SHOWN)
def test_survival_compares_clean_and_attacked(kept, inputs, draw, name):
    clean, attacked = (draw(name, *inputs[given]) for given in ("clean", "attacked"))
    assert_allclose(kept[f"stability|{name}|both"], rank_correlation(pixels(clean), pixels(attacked)), atol=1e-6)
    assert_close(kept[f"SSIM|{name}|both"], ssim(clean, attacked))
    assert kept[f"stability|{name}|both"].max() < 1


def test_the_costly_map_agrees_with_itself(kept):
    for given in ("clean", "attacked"):
        assert_allclose(kept[f"agreement|{REFERENCE}|{given}"], 1)
        assert_allclose(kept[f"top overlap|{REFERENCE}|{given}"], 1)
        assert_allclose(kept[f"agreement given the energy map|energy|{given}"], 0)


def test_without_an_attack_only_the_clean_half_is_made(study, kept):
    spec = explained(study, study.training("jsigr"), SHOWN, attacked=False)
    clean = spec.compute(study.store, study.store.device)[0]
    assert clean.keys() == {name for name in kept if name.endswith("|clean")}
    for name, value in clean.items():
        assert_close(value, kept[name])


def test_batches_are_a_detail_and_only_the_first_maps_are_kept(study, spec, kept, monkeypatch):
    """In float64: in float32, two pixels almost alike change places in a curve on some processors."""
    batch, network = Split.batch, trained
    monkeypatch.setattr(Split, "batch", lambda *args: (batch(*args)[0].double(), batch(*args)[1]))
    monkeypatch.setattr("jsigr_lib.study.maps.trained", lambda *args: network(*args).double())
    whole = spec.compute(study.store, study.store.device)[0]
    monkeypatch.setattr("jsigr_lib.study.maps.BATCH", 3)
    monkeypatch.setattr("jsigr_lib.study.maps.KEPT", 5)
    parts = spec.compute(study.store, study.store.device)[0]
    assert parts.keys() == whole.keys() == kept.keys()
    for name, value in parts.items():
        expected = whole[name][:5] if name.startswith("map|") else whole[name]
        assert_close(value, expected, rtol=2e-3, atol=2e-4, msg=name)


# sanity


@pytest.fixture(scope="module")
def checked(study) -> tuple[Sanity, dict[str, torch.Tensor]]:
    spec = sanity(study, study.training("jsigr"))
    return spec, study.get(spec).tensors


def test_sanity_is_of_fewer_images(study, checked):
    spec, tensors = checked
    assert spec.images == study.profile.sanity_images == 3
    assert spec.maps == tuple(study.profile.saliency_maps)
    names = {f"{what}|{name}|clean" for what in ("max-sensitivity", "cascade") for name in spec.every}
    assert tensors.keys() == names
    assert {len(value) for value in tensors.values()} == {3}


def test_sensitivity_is_the_librarys(study, checked, draw):
    _, tensors = checked
    x, y = study.batch("test", 3)
    for name in ("gradient", "perturbation"):
        expected = max_sensitivity(lambda x, y, name=name: draw(name, x, y), x, y, torch.Generator().manual_seed(0))
        assert_close(tensors[f"max-sensitivity|{name}|clean"], expected)


def test_cascade_goes_from_the_last_layer_to_the_first(study, checked, draw):
    _, tensors = checked
    model, (x, y) = study.model(study.training("jsigr")), study.batch("test", 3)
    original = pixels(draw("gradient", x, y))
    for step, changed in enumerate(randomised(model)):
        expected = rank_correlation(original, pixels(draw("gradient", x, y, changed)))
        assert_allclose(tensors["cascade|gradient|clean"][:, step], expected, atol=1e-6)
    assert tensors["cascade|gradient|clean"].shape == (3, 4)
    assert np.abs(tensors["cascade|gradient|clean"][:, -1].numpy()).max() < 0.8
