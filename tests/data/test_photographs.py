"""The bundled photographs, their distortions, crops and labels."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.data import photographs
from jsigr_lib.data.photographs import CROP, DISTORTIONS, GRID, PHOTOGRAPHS, SPLITS, STRENGTHS, VARIANTS, Photographs
from jsigr_lib.method.errors import InputError

SIZES = {"train": 2, "validation": 1, "test": 2, "crops": 2}


def source(name: str = "chelsea.png") -> torch.Tensor:
    return photographs._pixels(photographs._content(name))


@pytest.fixture(scope="module")
def made():
    pytest.importorskip("piq")
    spec = Photographs.locate(**SIZES)
    return spec.compute(None, torch.device("cpu"))


def test_every_photograph_has_a_licence_and_a_sum():
    text = (PHOTOGRAPHS / "README.md").read_text(encoding="utf-8")
    rows = {row[0]: row for row in re.findall(r"^\| ([\w-]+\.png) \| (.+) \| (.+) \| (.+) \| (.+) \|$", text, re.M)}
    files = {path.name for path in PHOTOGRAPHS.glob("*.png")}
    assert rows.keys() == files == photographs._listed().keys()
    free = ("CC BY", "CC0", "public domain", "no known copyright restrictions")
    assert all(row[2].startswith(free) and "NC" not in row[2] and "SA" not in row[2] for row in rows.values())
    assert sum(path.stat().st_size for path in PHOTOGRAPHS.glob("*.png")) < 6e6
    assert all(max(source(name).shape) <= 512 for name in files)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_stronger_distortion_is_farther_from_the_source(name):
    clean, generator = source().float(), torch.Generator().manual_seed(0)
    made = [photographs.distorted(source(), name, i, generator) for i in range(STRENGTHS)]
    errors = [(one.float() - clean).square().mean().item() for one in made]
    assert errors == sorted(errors) and errors[0] > 0
    assert all(one.dtype == torch.uint8 and one.shape == clean.shape for one in made)


def test_contrast_by_hand():
    flat = torch.tensor([[[0, 200]]], dtype=torch.uint8).expand(3, 1, 2)
    factor = DISTORTIONS["contrast"][0]
    expected = torch.tensor([100 - 100 * factor, 100 + 100 * factor]).round()
    assert_close(photographs.distorted(flat, "contrast", 0, torch.Generator())[0, 0].float(), expected)


def test_crops_are_different_places_on_the_grid_with_more_structure_than_the_rest():
    picture = torch.zeros(3, 160, 160)
    picture[:, 80:, 80:] = torch.randint(256, (3, 80, 80), generator=torch.Generator().manual_seed(1)).float()
    found = photographs.places(picture, 4, torch.Generator().manual_seed(0))
    assert len(set(found)) == 4
    assert all(y % GRID == x % GRID == 0 and y <= 160 - CROP and x <= 160 - CROP for y, x in found)
    assert sum(y + x for y, x in found) / 4 > 96  # the mean of all places


def test_splits_are_disjoint_by_source(made):
    _, facts = made
    names = [name for part in SPLITS for name in facts["sources"][part]]
    assert len(names) == len(set(names)) == 5


def test_test_pictures_stay_whatever_the_other_sizes_are():
    pytest.importorskip("piq")
    _, facts = Photographs.locate(**{**SIZES, "train": 1, "crops": 1}).compute(None, torch.device("cpu"))
    again = Photographs.locate(**{**SIZES, "validation": 2, "crops": 1}).compute(None, torch.device("cpu"))[1]
    assert facts["sources"]["test"] == again["sources"]["test"]


def test_labels_are_haarpsi_against_the_same_place_of_the_source(made):
    piq = pytest.importorskip("piq")
    tensors, _ = made
    images, labels = tensors["test_images"], tensors["test_labels"]
    assert images.shape == (2, len(VARIANTS), 2, 3, CROP, CROP) and labels.shape == images.shape[:3]
    clean, blurred = images[1, 0, 1].float() / 255, images[1, 5, 1].float() / 255
    assert_close(labels[1, 5, 1], piq.haarpsi(blurred[None], clean[None], data_range=1.0))
    assert (labels[:, 0] > 0.999).all() and (labels[:, 1:] < 1).all() and (labels > 0).all()


def test_labels_fall_with_the_strength(made):
    each = made[0]["train_labels"].mean((0, 2))[1:].view(len(DISTORTIONS), STRENGTHS)
    assert (each.diff(dim=1) < 0).all()


@pytest.mark.parametrize(
    ("sizes", "said"), [({"train": 500}, "photographs in all = 503"), ({"validation": -5}, "photographs in all")]
)
def test_too_many_photographs_are_refused(sizes, said):
    with pytest.raises(InputError, match=said):
        Photographs.locate(**{**SIZES, **sizes})


def test_too_many_crops_are_refused():
    pytest.importorskip("piq")
    spec = Photographs.locate(**{**SIZES, "crops": 10_000})
    with pytest.raises(InputError, match=r"crops = 10000; accepted: at most \d+"):
        spec.compute(None, torch.device("cpu"))


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    def missing(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(photographs, "importlib", SimpleNamespace(import_module=missing))
    for ask in (lambda: Photographs.locate(**SIZES), lambda: photographs.haarpsi(torch.zeros(1), torch.zeros(1))):
        with pytest.raises(InputError, match=re.escape("needs the package piq; pip install 'jsigr[neighbours]'")):
            ask()


def test_an_altered_file_is_refused(monkeypatch):
    content = photographs._content
    monkeypatch.setattr(photographs, "_content", lambda name: content(name) + b"x" * (name == "coins.png"))
    with pytest.raises(InputError, match=r"coins\.png is truncated or altered"):
        Photographs.locate(**SIZES)


def test_a_missing_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        Photographs.locate(**SIZES)
