"""Pictures whose evidence is known: what decides the label, and that nothing else does."""

import pytest
import torch

from jsigr_lib.data import glyphs
from jsigr_lib.data.data import load
from jsigr_lib.data.glyphs import DECOYS, LETTERS, SCALE, SIDE, Glyphs, alphabet, draw, marks
from jsigr_lib.store.artefacts import Store


def pictures(n: int = 400, *, cue: bool = False, honest: float = 0.0, seed: int = 0):
    garments = torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    return garments, *draw(garments, torch.Generator().manual_seed(seed), cue=cue, honest=honest)


def test_all_glyphs_have_as_much_ink_and_no_two_are_alike():
    every = torch.cat([alphabet(LETTERS), alphabet(DECOYS)]).flatten(1)
    assert every.shape == (20, SIDE**2) and set(every.sum(1).tolist()) == {9 * SCALE**2}
    assert len(every.unique(dim=0)) == 20
    assert len(marks().flatten(1).unique(dim=0)) == 10 and set(marks().flatten(1).sum(1).tolist()) == {2 * SCALE**2}


def test_the_truth_is_the_labels_letter_and_the_decoy_none():
    _, images, labels, places = pictures(50)
    letters, decoys = alphabet(LETTERS).flatten(1), alphabet(DECOYS).flatten(1)
    for image, label, truth, decoy in zip(images, labels, places["truth"], places["decoy"], strict=True):
        assert torch.equal(image[truth] == 255, letters[label])
        assert any(torch.equal(image[decoy] == 255, one) for one in decoys)


def test_places_are_squares_that_keep_apart_and_leave_the_corner_free():
    _, _, _, places = pictures(cue=True)
    for what in ("truth", "decoy"):
        assert (places[what].sum((1, 2, 3)) == SIDE**2).all()
        assert (places[what].any(3).sum((1, 2)) == SIDE).all() and (places[what].any(2).sum((1, 2)) == SIDE).all()
    near = torch.nn.functional.max_pool2d(places["truth"].float(), 2 * glyphs.APART + 1, 1, glyphs.APART).bool()
    assert not (near & places["decoy"]).any()
    assert not (places["cue"] & (places["truth"] | places["decoy"])).any()


def test_the_garment_is_dimmed_and_otherwise_as_it_was():
    garments, images, _, places = pictures()
    outside = ~(places["truth"] | places["decoy"])
    assert torch.equal(images[outside], garments[outside] // 2)
    assert not places["cue"].any()


@pytest.mark.parametrize(("honest", "low", "high"), [(1.0, 1, 1), (0.95, 0.93, 0.98), (0.0, 0.06, 0.14)])
def test_the_mark_tells_the_class_as_often_as_it_should(honest, low, high):
    _, images, labels, places = pictures(1000, cue=True, honest=honest)
    told = (images[places["cue"]].view(1000, -1) == 255) == marks().flatten(1)[labels]
    assert low <= told.all(1).double().mean() <= high


def test_decoys_say_nothing_of_the_label():
    _, images, labels, places = pictures(3000)
    found = images[places["decoy"]].view(3000, -1) == 255
    kinds = (found[:, None] == alphabet(DECOYS).flatten(1)).all(2).double().argmax(1)
    counts = torch.bincount(10 * labels + kinds, minlength=100).double()
    assert ((counts - 30) ** 2 / 30).sum() < 149  # chi squared of 99 degrees of freedom, one in a thousand


def test_a_seed_decides_all():
    one, other, third = (pictures(20, seed=seed)[1] for seed in (0, 0, 1))
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_the_data_are_in_the_store_with_their_truth(tmp_path):
    found, sizes = Store(tmp_path), {"train_images": 300, "validation_images": 20, "test_images": 10}
    plain, marked = (Glyphs.locate("fashion-mnist", cue=cue, **sizes) for cue in (False, True))
    assert plain.digest != marked.digest
    data, tensors = load(marked, found), found.get(marked).tensors
    assert data.shape["classes"] == 10 and len(data.train) == 300 and data.test.images.shape == (10, 1, 28, 28)
    assert {name for name in tensors if name.startswith("test_")} == {
        f"test_{what}" for what in ("images", "labels", "truth", "decoy", "cue")
    }
    lit = data.train.images[..., 1:3, 1:11] == 255
    assert (lit.flatten(1) == marks().flatten(1)[data.train.labels]).all(1).double().mean() > 0.9
    assert not found.get(plain).tensors["test_cue"].any()
