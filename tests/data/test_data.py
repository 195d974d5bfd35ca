import gzip
import os
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from jsigr_lib.data.data import DataSpec, Split, load
from jsigr_lib.data.sources import DATASETS, FASHION_CLASSES, IDX
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.paths import DATA

CPU = torch.device("cpu")
FASHION = DATA / "fashion-mnist"
SIZES = {"train_images": 3, "validation_images": 2, "test_images": 2}


def locate(dataset: str, root: Path | str = "", **options) -> DataSpec:
    return DataSpec.locate(dataset, str(root), **{**SIZES, **options})


def tensors_of(spec: DataSpec) -> dict:
    return spec.compute(None, CPU)[0]


def published(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of Fashion-MNIST, decoded without the library."""
    images = gzip.decompress((FASHION / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FASHION / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    count, height, width = struct.unpack(">III", images[4:16])
    return np.frombuffer(images, np.uint8, offset=16).reshape(count, height, width), np.frombuffer(labels[8:], np.uint8)


def prints(images, labels) -> Counter:
    """How often each image with its label occurs."""
    return Counter((i.tobytes(), int(y)) for i, y in zip(images, labels, strict=True))


@pytest.fixture(scope="module")
def everything() -> dict:
    return tensors_of(locate("fashion-mnist", train_images=59_000, validation_images=1_000, test_images=10_000))


def test_fashion_mnist_is_all_there(everything):
    expected = {"train": 59_000, "validation": 1_000, "test": 10_000}
    for name, count in expected.items():
        images, labels = everything[f"{name}_images"], everything[f"{name}_labels"]
        assert (images.shape, images.dtype) == ((count, 1, 28, 28), torch.uint8)
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
    training = torch.cat([everything["train_labels"], everything["validation_labels"]])
    assert training.bincount().tolist() == [6_000] * 10
    assert everything["test_labels"].bincount().tolist() == [1_000] * 10


def test_train_and_validation_divide_the_published_training_set(everything):
    """Every published pair of image and label is in exactly one of them; the test set is a set of its own."""
    train, validation, test = (
        prints(everything[f"{name}_images"].numpy(), everything[f"{name}_labels"])
        for name in ("train", "validation", "test")
    )
    assert train + validation == prints(*published("train"))
    assert test == prints(*published("t10k"))


def test_smaller_choices_are_prefixes(everything):
    """More training images add to the same ones, and the validation images never move."""
    few = tensors_of(locate("fashion-mnist", train_images=300, validation_images=1_000, test_images=50))
    for name, count in (("train", 300), ("validation", 1_000), ("test", 50)):
        for what in ("images", "labels"):
            assert torch.equal(few[f"{name}_{what}"], everything[f"{name}_{what}"][:count])


def test_load_decodes_once(study, monkeypatch):
    again = DataSpec.locate("fashion-mnist", train_images=512, validation_images=64, test_images=32)
    assert again == study.data
    assert study.dataset.classes == FASHION_CLASSES
    monkeypatch.setattr(DataSpec, "compute", None)
    assert torch.equal(load(again, study.store).train.images, study.dataset.train.images)


def test_shape_is_what_a_model_has_to_know(study):
    pixels = study.dataset.train.images.double() / 255
    assert study.dataset.shape == {
        "channels": 1,
        "size": 28,
        "classes": 10,
        "mean": [pytest.approx(pixels.mean().item(), abs=1e-4)],
        "std": [pytest.approx(pixels.std().item(), abs=1e-4)],
    }


def test_batch_scales_bytes_and_passes_floats():
    images = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(2, 2, 1, 1)
    x, y = Split(images, torch.tensor([3, 4])).batch(slice(None))
    assert_close(x, torch.tensor([0, 0.2, 1, 0.4]).view(2, 2, 1, 1))
    assert y.tolist() == [3, 4]
    attacked = torch.rand(2, 2, 3, 3)
    x, _ = Split(attacked, torch.tensor([3, 4])).batch(slice(None))
    assert torch.equal(x, attacked)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_batch_takes_slices_and_indices(study):
    split = study.dataset.train
    x, y = split.batch(torch.tensor([5, 2]))
    assert_close(x, split.images[[5, 2]].float() / 255)
    assert torch.equal(y, split.labels[[5, 2]])
    assert torch.equal(split.first(7).batch(slice(2, 9))[0], split.batch(slice(2, 7))[0])
    assert (len(split), len(split.first(7))) == (512, 7)


def damaged_copy(root: Path, name: str, damage) -> Path:
    """Links to the bundled files, but for one of them."""
    root.mkdir()
    for path in FASHION.glob("*.gz"):
        if path.name != name:
            os.symlink(path, root / path.name)
    content = damage((FASHION / name).read_bytes())
    if content is not None:
        (root / name).write_bytes(content)
    return root


DAMAGES = {
    "missing": lambda raw: None,
    "empty": lambda raw: b"",
    "truncated": lambda raw: raw[: len(raw) // 2],
    "one byte short": lambda raw: raw[:-1],
    "one bit flipped": lambda raw: raw[:1000] + bytes([raw[1000] ^ 4]) + raw[1001:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_bad_file_is_named_and_nothing_is_written(tiny, tmp_path, name, damage):
    root = damaged_copy(tmp_path / "data", name, DAMAGES[damage])
    with pytest.raises(InputError) as error:
        tiny(tmp_path / "runs", data_root=str(root))
    assert str(root / name) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [name for name, _ in IDX.values()])
def test_each_of_the_four_files_is_needed(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is missing; restore it"):
        locate("fashion-mnist", damaged_copy(tmp_path / "data", name, DAMAGES["missing"]))


def test_unknown_dataset():
    with pytest.raises(InputError, match=f"^unknown dataset 'imagenet'; accepted: {', '.join(DATASETS)}$"):
        locate("imagenet")


# folders of images


def picture(path: Path, colour, size=(12, 9), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """3 + 3 training and 2 + 2 test images of different sizes and modes, each of one colour that tells it apart."""
    root = tmp_path / "animals"
    for i in range(3):
        picture(root / "train" / "cat" / f"{i}.png", (200, 10 * i, 0), size=(8 + 5 * i, 30 - 4 * i))
        picture(root / "train" / "dog" / f"{i}.png", 100 + i, mode="L", size=(20, 6 + i))
    for name, label in (("cat", 0), ("dog", 1)):
        picture(root / "test" / name / "wide.png", (label, 2, 3), size=(50, 4))
        picture(root / "test" / name / "clear.png", (label, 5, 6, 128), mode="RGBA")
    return root


def test_folder_becomes_rgb_squares(folder):
    parts = tensors_of(locate("folder", folder, image_size=8, train_images=5, validation_images=1, test_images=4))
    assert parts["train_images"].shape == (5, 3, 8, 8)
    images = torch.cat([parts["train_images"], parts["validation_images"]])
    labels = torch.cat([parts["train_labels"], parts["validation_labels"]])
    assert torch.equal(images, images[..., :1, :1].expand_as(images))  # one colour stays one colour
    seen = {(*image[:, 0, 0].tolist(), label) for image, label in zip(images, labels.tolist(), strict=True)}
    assert seen == {(200, 10 * i, 0, 0) for i in range(3)} | {(100 + i, 100 + i, 100 + i, 1) for i in range(3)}
    pairs = zip(parts["test_images"], parts["test_labels"].tolist(), strict=True)
    test = sorted((*image[:, 0, 0].tolist(), y) for image, y in pairs)
    half = [round((128 * colour + 127 * 255) / 255) for colour in (0, 1, 5, 6)]  # half transparent, on white
    assert test == [(0, 2, 3, 0), (1, 2, 3, 1), (half[0], *half[2:], 0), (half[1], *half[2:], 1)]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: picture(path, "red")])
def test_pictures_that_change_after_they_were_hashed_are_not_kept(folder, tmp_path, change):
    """Also those that are in no split."""
    spec, store = locate("folder", folder, train_images=2, validation_images=1, test_images=1), Store(tmp_path / "runs")
    path = sorted((folder / "train").rglob("*.*"))[0]
    before = path.read_bytes()
    change(path)
    with pytest.raises(InputError, match=r"changed during the run|has no picture"):
        load(spec, store)
    assert spec not in store
    path.write_bytes(before)
    load(spec, store)


def test_folder_gives_names_of_classes_and_the_wanted_size(folder, tmp_path):
    loaded = load(locate("folder", folder, image_size=16), Store(tmp_path / "runs"))
    assert loaded.classes == ("cat", "dog")
    assert {name: loaded.shape[name] for name in ("channels", "size", "classes")} == {
        "channels": 3,
        "size": 16,
        "classes": 2,
    }


@pytest.mark.parametrize(
    ("root", "missing"), [("", "train"), ("nowhere", "train"), ("animals/train", "train"), ("animals", "test")]
)
def test_folder_without_its_parts(folder, tmp_path, root, missing):
    shutil.rmtree(folder / "test")
    root = root and str(tmp_path / root)
    with pytest.raises(InputError) as error:
        locate("folder", root)
    assert str(error.value) == (
        f"data_root = {root!r} has no {missing}/; accepted: a folder with train/<class>/ and test/<class>/"
    )


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: os.rename(root / "test" / "dog", root / "test" / "fox"), "classes of .*/train and .* differ"),
        (lambda root: picture(root / "train" / "emu" / "1.png", 3, mode="L"), "classes of .*/train and .* differ"),
        (lambda root: shutil.rmtree(root / "train" / "dog") or (root / "train" / "dog").mkdir(), "dog has no picture"),
        (lambda root: [shutil.rmtree(path) for path in (root / "train").iterdir()], "train has 0 .*one per class"),
    ],
    ids=["class renamed", "class added", "class empty", "no class"],
)
def test_folder_with_other_classes(folder, tmp_path, harm, message):
    harm(folder)
    store = Store(tmp_path / "runs")
    with pytest.raises(InputError, match=message) as error:
        load(locate("folder", folder), store)
    assert "\n" not in str(error.value)
    assert not store.root.exists()


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_file_that_is_no_image_is_named(folder, tmp_path, content):
    bad = folder / "test" / "dog" / "wide.png"
    bad.write_bytes(content)
    store = Store(tmp_path / "runs")
    with pytest.raises(InputError, match=r"test/dog/wide\.png is no readable image") as error:
        load(locate("folder", folder, test_images=4), store)
    assert "\n" not in str(error.value)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"validation_images": 6}, "validation_images of folder = 6 is out of range; accepted: 1 to 5"),
        ({"validation_images": 0}, "validation_images of folder = 0 is out of range; accepted: 1 to 5"),
        ({"train_images": 5}, "train_images of folder = 5 is out of range; accepted: 1 to 4"),
        ({"train_images": 0}, "train_images of folder = 0 is out of range; accepted: 1 to 4"),
        ({"test_images": 5}, "test_images of folder = 5 is out of range; accepted: 1 to 4"),
        ({"test_images": -1}, "test_images of folder = -1 is out of range; accepted: 1 to 4"),
    ],
)
def test_sizes_out_of_range(folder, tmp_path, sizes, message):
    store = Store(tmp_path / "runs")
    with pytest.raises(InputError) as error:
        load(locate("folder", folder, **sizes), store)
    assert str(error.value) == message
    assert not store.root.exists()


def test_digest_does_not_know_the_path(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert locate("folder", moved).digest == locate("folder", folder).digest
    links = shutil.copytree(FASHION, tmp_path / "links", copy_function=os.symlink)
    assert locate("fashion-mnist", links).digest == locate("fashion-mnist").digest


@pytest.mark.parametrize(
    "harm",
    [
        lambda root: picture(root / "train" / "cat" / "new.png", (1, 2, 3)),
        lambda root: os.rename(root / "train" / "cat" / "0.png", root / "train" / "dog" / "9.png"),
        lambda root: picture(root / "test" / "cat" / "wide.png", (9, 9, 9), size=(3, 3)),
        lambda root: (root / "test" / "cat" / "clear.png").unlink(),
        lambda root: os.rename(root / "test" / "cat" / "clear.png", root / "test" / "cat" / "glass.png"),
    ],
    ids=["added", "moved", "changed", "removed", "renamed"],
)
def test_digest_knows_the_content_of_a_folder(folder, harm):
    before = locate("folder", folder).digest
    harm(folder)
    assert locate("folder", folder).digest != before


def test_digest_of_a_folder_does_not_know_times_and_other_files(folder):
    """Unpacking the same archive again makes nothing stale, and neither does what a file manager leaves."""
    before = locate("folder", folder).digest
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))
    (folder / "train" / "cat" / "Thumbs.db").write_bytes(b"\0")
    (folder / "train" / ".cache").mkdir()
    assert locate("folder", folder).digest == before


def test_digest_knows_every_size(folder):
    changes = [{}, {"train_images": 4}, {"validation_images": 1}, {"test_images": 1}, {"image_size": 8}]
    assert len({locate("folder", folder, **change).digest for change in changes}) == len(changes)


def test_rare_classes_are_in_both_parts_of_the_training_pictures(tmp_path):
    """5 classes with 60, 2, 2, 3 and 1 pictures: the single one is for training."""
    root, counts = tmp_path / "rare", (60, 2, 2, 3, 1)
    for label, count in enumerate(counts):
        for i in range(count):
            picture(root / "train" / f"{label}" / f"{i}.png", (label, i, 0))
        picture(root / "test" / f"{label}" / "0.png", (label, 0, 1))
    for validation, train in [(8, 60), (8, 5), (20, 30), (4, 64)]:
        sizes = {"train_images": train, "validation_images": validation, "test_images": 5}
        parts = tensors_of(locate("folder", root, image_size=4, **sizes))
        held, used = parts["validation_labels"], parts["train_labels"]
        assert (len(held), len(used)) == (validation, train)
        assert held.unique().tolist() == [0, 1, 2, 3] and used.unique().tolist() == [0, 1, 2, 3, 4]
        images = torch.cat([parts["train_images"], parts["validation_images"]])[:, :, 0, 0]
        assert len(images.unique(dim=0)) == len(images)


def test_a_split_of_a_folder_that_has_every_class_is_the_random_one(folder):
    sizes = {"train_images": 4, "validation_images": 2, "test_images": 4}
    parts = tensors_of(locate("folder", folder, image_size=8, **sizes))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(20220713))
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert labels[order[:2]].tolist() in ([0, 1], [1, 0])
    assert torch.equal(parts["validation_labels"], labels[order[:2]])
    assert torch.equal(parts["train_labels"], labels[order[2:]])


def test_home_may_be_written_as_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    sizes = {"image_size": 8, "train_images": 4, "validation_images": 2, "test_images": 4}
    one, other = (locate("folder", root, **sizes) for root in (folder, "~/animals"))
    assert one.content == other.content
    assert torch.equal(tensors_of(one)["train_images"], tensors_of(other)["train_images"])
    (folder.parent / "fashion").symlink_to(FASHION)
    assert locate("fashion-mnist", "~/fashion").content == locate("fashion-mnist").content
