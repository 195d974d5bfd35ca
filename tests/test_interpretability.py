import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from jsigr_lib import interpretability
from jsigr_lib.interpretability import (
    CURVE_STEPS,
    MAPS,
    area,
    maps_of,
    maps_spec,
    measures,
    probability_curve,
    specs,
    top_overlap,
)
from jsigr_lib.outcomes import Attacked
from jsigr_lib.saliency import blur, gradient_map, perturbation_saliency

SIDE = 4
WEIGHTS = torch.linspace(-1, 2, SIDE * SIDE, dtype=torch.double).view(1, 1, SIDE, SIDE)


class Weighted(nn.Module):
    """Logits <w, x> - 1 and 0, hence p(class 0) = sigmoid(<w, x> - 1)."""

    def forward(self, x):
        z = (WEIGHTS * x).sum((1, 2, 3)) - 1
        return torch.stack([z, torch.zeros_like(z)], 1)


def p(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid((WEIGHTS * x).sum((1, 2, 3)) - 1)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(3, 1, SIDE, SIDE, dtype=torch.double)


CLASS_0 = torch.zeros(3, dtype=torch.long)


def curve(x, saliency, kind: str, **options) -> torch.Tensor:
    return probability_curve(Weighted(), x, CLASS_0, saliency, kind=kind, **{"blur_sigma": 1.0, "steps": 16, **options})


# deletion and insertion


def test_ends_of_the_curves(pixels):
    saliency = torch.rand_like(pixels)
    deletion, insertion = (curve(pixels, saliency, kind) for kind in ("deletion", "insertion"))
    assert deletion.shape == insertion.shape == (3, 17)
    assert_close(deletion[:, 0], p(pixels))
    assert_close(deletion[:, -1], p(0 * pixels))
    assert_close(insertion[:, 0], p(blur(pixels, 1.0)))
    assert_close(insertion[:, -1], p(pixels))


@pytest.mark.parametrize("steps", [16, 4, 3])
def test_every_point_by_hand(pixels, steps):
    """After step s, the round(16 s / steps) most salient pixels are changed."""
    saliency = torch.rand_like(pixels)
    blurred = blur(pixels, 1.0)
    order = saliency.flatten(1).argsort(1, descending=True)
    for step in range(steps + 1):
        chosen = torch.zeros(3, 16, dtype=torch.bool).scatter(1, order[:, : round(16 * step / steps)], True)
        chosen = chosen.view_as(pixels)
        deletion, insertion = (curve(pixels, saliency, kind, steps=steps) for kind in ("deletion", "insertion"))
        assert_close(deletion[:, step], p(pixels.masked_fill(chosen, 0)))
        assert_close(insertion[:, step], p(torch.where(chosen, pixels, blurred)))


def test_perfect_map_beats_its_reverse(pixels):
    """The contribution w x of each pixel is the best order to delete in; its negative is the worst."""
    perfect = WEIGHTS * pixels
    random = torch.rand_like(pixels)
    best, middle, worst = (area(curve(pixels, m, "deletion").numpy()) for m in (perfect, random, -perfect))
    assert (best < middle).all() and (middle < worst).all()
    gain = WEIGHTS * (pixels - blur(pixels, 1.0))
    best, middle, worst = (area(curve(pixels, m, "insertion").numpy()) for m in (gain, random, -gain))
    assert (best > middle).all() and (middle > worst).all()


def test_curve_is_about_the_class_asked_for(pixels):
    saliency = torch.rand_like(pixels)
    other = probability_curve(Weighted(), pixels, CLASS_0 + 1, saliency, kind="deletion", blur_sigma=1.0, steps=16)
    assert_close(other, 1 - curve(pixels, saliency, "deletion"))


def test_only_the_order_of_a_map_counts(pixels):
    saliency = torch.rand_like(pixels)
    for kind in ("deletion", "insertion"):
        assert torch.equal(curve(pixels, saliency, kind), curve(pixels, 5 * saliency**3, kind))
    constant = curve(pixels, torch.ones_like(pixels), "deletion")
    assert_close(constant[:, 1], p(pixels.clone().index_fill_(2, torch.tensor([0]), 0) + first_row_but_one(pixels)))


def first_row_but_one(x: torch.Tensor) -> torch.Tensor:
    """The first row without its first pixel: ties go in reading order."""
    kept = torch.zeros_like(x)
    kept[:, :, 0, 1:] = x[:, :, 0, 1:]
    return kept


def test_blur_is_where_insertion_starts(pixels):
    saliency = torch.rand_like(pixels)
    weak, strong = (curve(pixels, saliency, "insertion", blur_sigma=sigma) for sigma in (0.5, 3.0))
    assert not torch.equal(weak[:, 0], strong[:, 0])
    deletions = [curve(pixels, saliency, "deletion", blur_sigma=sigma) for sigma in (0.5, 3.0)]
    assert torch.equal(*deletions)


def test_mode_is_given_back(pixels):
    model = nn.Sequential(nn.Dropout(0.5), Weighted()).train()
    values = probability_curve(model, pixels, CLASS_0, pixels, kind="deletion", blur_sigma=1.0, steps=2)
    assert_close(values[:, 0], p(pixels))
    assert model.training and model[0].training


def test_unknown_kind(pixels):
    with pytest.raises(ValueError, match="delete"):
        curve(pixels, pixels, "delete")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.3] * 21, 0.3), (np.linspace(0, 1, 6), 0.5), ([1, 0], 0.5), ([1, 0, 0, 0, 0], 0.125), ([0, 1, 0], 0.5)],
)
def test_area_of_known_curves(values, expected):
    assert area(np.array(values)) == pytest.approx(expected)
    assert_allclose(area(np.stack([np.zeros(len(values)), values])), [0, expected], atol=1e-15)


# overlap of the tops


def test_top_overlap_of_known_maps():
    a = np.arange(20.0)[None]
    swapped = a.copy()
    swapped[0, [19, 0]] = swapped[0, [0, 19]]
    assert top_overlap(a, a) == [1]
    assert top_overlap(a, -a) == [0]
    assert top_overlap(a, swapped, share=0.1) == [pytest.approx(1 / 3)]  # {18, 19} and {18, 0}
    assert top_overlap(a, swapped, share=0.5) == [pytest.approx(9 / 11)]
    assert top_overlap(a, swapped, share=1.0) == [1]
    assert top_overlap(a, swapped, share=0.001) == [0]  # at least one pixel


def test_top_overlap_is_per_image_and_ignores_scale():
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 50)), rng.random((4, 50))
    values = top_overlap(a, b)
    assert values.shape == (4,)
    assert_allclose(values, [top_overlap(a[i : i + 1], b[i : i + 1])[0] for i in range(4)])
    assert_allclose(top_overlap(a, 7 * b + 3), values)
    assert_allclose(top_overlap(b, a), values)


# maps of a study


def test_specs_are_clean_and_attacked_maps_of_every_network(study):
    p, every = study.profile, specs(study)
    assert len(every) == 2 * len(p.defences)
    clean, attacked = every[0], every[1]
    assert clean.attacked is None
    assert attacked.attacked == Attacked(sources=study.surrogate("mlp"), attack="mi-fgsm", eps=p.eps)
    assert {spec.attacked for spec in every} == {None, attacked.attacked}
    assert (clean.images, clean.grid, clean.mask_sigma, clean.blur_sigma) == (
        p.saliency_images,
        p.penalty.grid,
        p.penalty.mask_sigma,
        p.penalty.blur_sigma,
    )
    assert clean.needs() == [study.training("standard"), study.data]
    assert attacked.needs() == [study.training("standard"), study.data, attacked.attacked]


def test_maps_are_those_of_the_first_test_images(study):
    spec = maps_spec(study, study.training("standard"), attacked=False)
    tensors = study.get(spec).tensors
    x, y = study.batch("test", 8)
    model = study.model(study.training("standard"))
    assert_close(tensors["gradient"], gradient_map(model, x, y))
    settings = study.profile.penalty.selection.perturbation
    assert_close(tensors["perturbation"], perturbation_saliency(model, x, y, **settings))
    for kind in ("deletion", "insertion"):
        for name in MAPS:
            expected = probability_curve(model, x, y, tensors[name], kind=kind, blur_sigma=settings["blur_sigma"])
            assert tensors[f"{kind}_{name}"].shape == (8, CURVE_STEPS + 1)
            assert_close(tensors[f"{kind}_{name}"], expected)


def test_attacked_maps_are_of_attacked_images_and_true_classes(study):
    spec = maps_spec(study, study.training("standard"), attacked=True)
    images = study.get(spec.attacked).tensors["images"][:8]
    _, y = study.batch("test", 8)
    expected = gradient_map(study.model(study.training("standard")), images, y)
    assert_close(study.get(spec).tensors["gradient"], expected)


def test_batches_of_maps_are_a_detail(study, monkeypatch):
    spec = maps_spec(study, study.training("jsigr"), attacked=False)
    whole = study.get(spec).tensors
    monkeypatch.setattr(interpretability, "BATCH", 3)
    parts = spec.compute(study.store, study.store.device)[0]
    for name in MAPS:
        assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


# measures


def test_measures_and_their_ranges(study):
    values = measures(study, study.training("jsigr"))
    expected = {("stability", name, "both") for name in MAPS}
    for given in ("clean", "attacked"):
        expected |= {(f"{kind} AUC", name, given) for kind in ("deletion", "insertion") for name in MAPS}
        expected |= {("agreement", "both", given), ("top overlap", "both", given)}
    assert values.keys() == expected
    for (measure, _, _), value in values.items():
        assert value.shape == (8,)
        low = -1 if measure in ("agreement", "stability") else 0
        assert (low <= value).all() and (value <= 1).all()
        assert value.std() > 0


def fake_maps(monkeypatch, clean: dict, attacked: dict) -> None:
    curves = {f"{kind}_{name}": np.full((2, 5), 0.25) for kind in ("deletion", "insertion") for name in MAPS}
    given = {False: {**clean, **curves}, True: {**attacked, **curves}}
    monkeypatch.setattr(interpretability, "maps_of", lambda study, target, *, attacked: given[attacked])


def test_identical_maps_agree_and_are_stable(monkeypatch, study):
    maps = np.random.default_rng(0).random((2, 30))
    same = {"gradient": maps, "perturbation": maps}
    fake_maps(monkeypatch, same, same)
    values = measures(study, None)
    for key, value in values.items():
        assert_allclose(value, 0.25 if "AUC" in key[0] else 1, err_msg=str(key))


def test_measures_compare_what_they_say(monkeypatch, study):
    """Clean maps are opposite, attacked ones equal; the gradient map turns round, the perturbation map stays."""
    up = np.tile(np.arange(30.0), (2, 1))
    down = -up
    fake_maps(monkeypatch, {"gradient": down, "perturbation": up}, {"gradient": up, "perturbation": up})
    values = {key: value.tolist() for key, value in measures(study, None).items()}
    assert values["agreement", "both", "clean"] == pytest.approx([-1, -1])
    assert values["agreement", "both", "attacked"] == pytest.approx([1, 1])
    assert values["top overlap", "both", "clean"] == [0, 0]
    assert values["stability", "gradient", "both"] == pytest.approx([-1, -1])
    assert values["stability", "perturbation", "both"] == pytest.approx([1, 1])


def test_maps_are_flat_doubles(study):
    maps = maps_of(study, study.training("standard"), attacked=False)
    assert {name: value.shape for name, value in maps.items() if name in MAPS} == dict.fromkeys(MAPS, (8, 784))
    assert {value.dtype for value in maps.values()} == {np.dtype(float)}


# tables


def test_measures_table(study, table):
    rows = table("measures")
    what = ["architecture", "defence", "measure", "map", "input"]
    assert list(rows) == [*what, "images", "seeds", "mean", "low", "high"]
    assert len(rows) == len(rows[what].drop_duplicates()) == 14 * len(study.profile.defences)
    assert set(rows.images) == {8} and set(rows.seeds) == {1}
    assert (rows.low <= rows["mean"]).all() and (rows["mean"] <= rows.high).all()
    values = measures(study, study.training("jsigr"))
    for row in rows[rows.defence == "jsigr"].itertuples():
        assert row.mean == pytest.approx(values[row.measure, row.map, row.input].mean())


def test_curves_table(study, table):
    rows = table("curves")
    what = ["defence", "input", "curve", "map"]
    assert list(rows) == [*what, "share", "probability"]
    assert len(rows) == 8 * len(study.profile.defences) * (CURVE_STEPS + 1)
    for _, line in rows.groupby(what):
        assert_allclose(line.share, np.linspace(0, 1, CURVE_STEPS + 1))
    ends = rows[rows.share == 0].pivot_table(index=["defence", "input"], columns=["curve", "map"], values="probability")
    assert_allclose(ends["deletion", "gradient"], ends["deletion", "perturbation"], rtol=1e-4)
    last = rows[rows.share == 1].pivot_table(index=["defence", "input"], columns=["curve", "map"], values="probability")
    assert_allclose(last["insertion", "gradient"], ends["deletion", "gradient"], rtol=1e-4)
