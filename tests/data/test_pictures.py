"""Folders of pictures that somebody made to do harm, or by accident."""

import logging
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jsigr_lib.data import pictures
from jsigr_lib.method.errors import InputError
from tests.strangers import each_stranger, promptly


def draw(path: Path, size=(4, 3), colour=(1, 2, 3), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    for i, part in enumerate(("train", "test")):
        for j, name in enumerate(("cat", "dog")):
            draw(tmp_path / "pictures" / part / name / "1.png", colour=(i, j, 0))
    return tmp_path / "pictures"


def refused(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert "\n" not in str(error.value) and "accepted: " in str(error.value)
    return str(error.value)


def test_pictures_by_class_and_path(root):
    draw(root / "train" / "cat" / "below" / "2.JPG")
    draw(root / "train" / "cat" / "0.webp")
    (root / "train" / "readme.txt").write_text("not a class")
    (root / "train" / "cat" / "notes.csv").write_text("no picture")
    train = pictures.find(str(root))["train"]
    assert [os.path.relpath(path, root / "train") for path in train.paths] == [
        *("cat/0.webp", "cat/1.png", "cat/below/2.JPG", "dog/1.png")
    ]
    assert (train.labels, train.classes) == ([0, 0, 0, 1], ("cat", "dog"))


@pytest.mark.parametrize("kind", ["png", "jpg", "ppm", "bmp", "webp", "tiff"])
def test_every_format_is_decoded(tmp_path, kind):
    path = draw(tmp_path / f"one.{kind}", size=(20, 30))
    image = pictures.decode(path, 8)
    assert image.shape == (3, 8, 8)
    assert (image.float().mean((1, 2)).round().tolist() == [1, 2, 3]) or kind in ("jpg", "webp")


@pytest.mark.parametrize("kind", ["gif", "eps", "ico", "pcx", "tga", "pdf"])
def test_other_decoders_are_never_asked(tmp_path, kind):
    path = draw(tmp_path / f"one.{kind}").rename(tmp_path / "one.png")
    assert "one.png is no readable image" in refused(pictures.decode, path, 8)


# links


def test_a_link_to_a_file_inside_is_a_picture(root):
    (root / "test" / "cat" / "2.png").symlink_to(root / "train" / "dog" / "1.png")
    assert len(pictures.find(str(root))["test"].paths) == 3


@pytest.mark.parametrize("target", ["../../../secret.png", "/etc/hostname", "../../../nowhere.png"])
def test_a_link_that_leaves_is_refused(root, tmp_path, target):
    draw(tmp_path / "secret.png")
    link = root / "test" / "cat" / "2.png"
    link.symlink_to(target)
    assert refused(pictures.find, str(root)).startswith(f"{link} is a link; ")


@pytest.mark.parametrize("place", ["train/cat/loop", "train/emu", "test"])
def test_a_link_to_a_folder_is_refused(root, place):
    """It could lead around in a circle."""
    if place == "test":
        (root / "test").rename(root / "other")
        (root / "test").symlink_to(root / "other")
    else:
        (root / place).symlink_to(root / "train")
    assert f"{root / place} is a link; " in refused(pictures.find, str(root))


def test_content_does_not_know_how_the_root_is_written(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    spelt = [str(root), f"{root}/", str(tmp_path / "link"), "pictures", "./pictures", "pictures/../pictures"]
    assert len({pictures.content(pictures.find(one), one) for one in spelt}) == 1
    monkeypatch.chdir(root)
    assert pictures.content(pictures.find("."), ".") == pictures.content(pictures.find(str(root)), str(root))


@each_stranger
@pytest.mark.parametrize("late", [False, True])
def test_a_stranger_never_blocks(root, stranger, late):
    """Nor if it comes after the pictures were found."""
    path = root / "train" / "cat" / "2.png"
    parts = pictures.find(str(draw(path) and root)) if late else None
    path.unlink(missing_ok=True)
    stranger(path)
    with promptly():
        try:
            pictures.content(parts or pictures.find(str(root)), str(root))
        except InputError as error:
            assert "2.png" in str(error) and "accepted: " in str(error)
        else:
            assert not late
        assert "2.png is no readable image" in refused(pictures.decode, str(path), 8)


def test_a_deep_folder_is_no_deep_stack(root):
    path = root / "train" / "cat"
    here = os.open(path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        here, before = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(before)
    os.close(here)
    assert len(pictures.find(str(root))["train"].paths) == 2


@pytest.mark.parametrize("root", ["", "x" * 5000, "a\0b", "\n"])
def test_what_is_no_path(root):
    assert refused(pictures.find, root).startswith("data_root = ")


# bombs


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 5_001), (9_500, 9_500), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_not_decoded(tmp_path, monkeypatch, size):
    """Said by the header; above some numbers Pillow itself warns, or refuses."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    assert "up to 50,000,000 pixels" in refused(pictures.decode, path, 8)


def test_as_many_pixels_as_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 12)
    assert pictures.decode(draw(tmp_path / "a.png", size=(4, 3)), 8).shape == (3, 8, 8)
    assert "13 x 1 pixels" in refused(pictures.decode, draw(tmp_path / "b.png", size=(13, 1)), 8)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "tiff", "ppm"])
def test_truncated_file_is_named(tmp_path, kind):
    path = draw(tmp_path / f"half.{kind}", size=(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert f"half.{kind} is no readable image" in refused(pictures.decode, path, 8)


def test_content_is_of_every_byte(root):
    before = pictures.content(pictures.find(str(root)), str(root))
    path = root / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes() + b"\0")
    assert pictures.content(pictures.find(str(root)), str(root)) != before


# odd pictures


RAMP = np.linspace(0, 65535, 8 * 8).reshape(8, 8)
GREY = torch.tensor(RAMP / 257).round().byte().expand(3, 8, 8)
SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:6, 2:6] = 255
ON_WHITE = torch.from_numpy(255 - SQUARE).expand(3, 8, 8)
"""What is transparent around a black square is white."""


def saved(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled(tmp_path, kind):
    path = saved(tmp_path / f"grey.{kind}", RAMP.astype(np.uint16))
    assert torch.equal(pictures.decode(path, 8), GREY)


@pytest.mark.parametrize(("order", "white_is_zero"), [("<", False), (">", False), ("<", True)])
def test_16_bit_grey_of_any_tiff(tmp_path, order, white_is_zero):
    """Big-endian too, and with black and white exchanged."""
    values = (65535 - RAMP if white_is_zero else RAMP).astype(f"{order}u2")
    path = tmp_path / "grey.tif"
    path.write_bytes(tiff(values, order, {258: 16, 262: 0 if white_is_zero else 1}))
    assert torch.equal(pictures.decode(path, 8), GREY)


def tiff(values: np.ndarray, order: str, tags: dict[int, int]) -> bytes:
    """An uncompressed grey TIFF of one strip."""
    height, width = values.shape
    tags = {256: width, 257: height, 259: 1, 277: 1, 278: height, 279: values.nbytes, **tags}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4  # where the strip begins
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values.tobytes()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_refused(tmp_path, kind):
    path = saved(tmp_path / "deep.tif", (RAMP / 65535).astype(kind))
    said = "float" if kind is np.float32 else "32-bit"
    assert f"deep.tif is no readable image ({said} pixels have no known white)" in refused(pictures.decode, path, 8)


def transparent(mode: str) -> Image.Image:
    """A black square in nothing, which is red where nobody sees it."""
    red = np.stack([255 - SQUARE, 0 * SQUARE, 0 * SQUARE, SQUARE], 2)
    return Image.fromarray(red).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_transparent_pictures_are_on_white(tmp_path, mode, kind):
    transparent(mode).save(tmp_path / f"square.{kind}", **({"lossless": True} if kind == "webp" else {}))
    assert torch.equal(pictures.decode(tmp_path / f"square.{kind}", 8), ON_WHITE)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_transparent_colour_is_white(tmp_path, mode):
    """Of a palette, a grey and a true-colour picture; here that of the surroundings."""
    values = np.where(SQUARE > 0, 0, 90).astype(np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values).convert(mode)
    image.save(tmp_path / "square.png", transparency=image.getpixel((0, 0)))
    assert torch.equal(pictures.decode(tmp_path / "square.png", 8), ON_WHITE)


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 100, 200, 51)).save(tmp_path / "a.png")
    assert pictures.decode(tmp_path / "a.png", 1).flatten().tolist() == [204, 224, 244]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_pictures_stand_upright(tmp_path, orientation, kind):
    """Four corners of four shades: where each must be, as the EXIF standard describes the orientations."""
    corners = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}
    shades = np.kron([[0, 80], [160, 240]], np.ones((8, 16))).astype(np.uint8)  # a, b above c, d; 16 high, 32 wide
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(kind, {})
    path = saved(tmp_path / f"one.{kind}", np.stack([shades] * 3, 2), exif=exif, **options)
    image = pictures.decode(path, 16)[0].float()
    seen = [image[row, column].item() for row in (3, 12) for column in (3, 12)]
    assert "".join("abcd"[round(shade / 80)] for shade in seen) == corners[orientation]


def test_damaged_exif_turns_nothing(tmp_path):
    path = draw(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert pictures.decode(path, 4).shape == (3, 4, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif", "webp"])
def test_ordinary_pictures_are_read_as_ever(tmp_path, mode, kind):
    """To the bit; opaque RGBA too."""
    noise = np.random.default_rng(0).integers(256, size=(30, 20, 3), dtype=np.uint8)
    path = tmp_path / f"noise.{kind}"
    try:
        Image.fromarray(noise).convert(mode).save(path)
    except (OSError, ValueError):
        return  # there are no such files
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB").resize((9, 9), Image.Resampling.BILINEAR))
    assert np.array_equal(pictures.decode(path, 9).permute(1, 2, 0).numpy(), expected)


# what is hidden, and what is there twice


def test_hidden_pictures_are_skipped_and_counted(root, caplog):
    before = pictures.content(pictures.find(str(root)), str(root))
    assert not caplog.records
    (root / "train" / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"\0")
    draw(root / "train" / "dog" / ".ipynb_checkpoints" / "1-checkpoint.png")
    draw(root / "test" / "dog" / ".ipynb_checkpoints" / "deep" / "1-checkpoint.png")
    draw(root / "test" / ".ipynb_checkpoints" / "1.png")
    parts = pictures.find(str(root))
    assert [len(part.paths) for part in parts.values()] == [2, 2]
    assert [part.hidden for part in parts.values()] == [2, 1]
    with caplog.at_level(logging.WARNING):
        assert pictures.content(parts, str(root)) == before
    assert [record.message for record in caplog.records] == [
        f"data_root = {str(root)!r}: hidden pictures were skipped (3)"
    ]


def test_a_class_whose_pictures_are_all_hidden(root):
    (root / "train" / "cat" / "1.png").rename(root / "train" / "cat" / ".1.png")
    assert "cat has no picture but 1 hidden; accepted: " in refused(pictures.find, str(root))


def test_a_hidden_link_is_not_followed(root):
    (root / "train" / "cat" / ".all").symlink_to(root / "train")
    (root / "train" / "cat" / ".1.png").symlink_to("/etc/hostname")
    assert len(pictures.find(str(root))["train"].paths) == 2


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        ({"train/cat/1.png": "test/cat/2.png"}, "1 files of test/ are in train/ as well"),
        ({"train/cat/1.png": "train/dog/2.png"}, "1 files are in two classes"),
        (
            {"test/dog/1.png": "train/dog/7.png", "train/cat/1.png": "test/cat/7.png"},
            "2 files of test/ are in train/ as well",
        ),
        (
            {"test/dog/1.png": "train/cat/7.png"},
            "1 files of test/ are in train/ as well, and 1 files are in two classes",
        ),
    ],
)
def test_files_that_are_there_twice_are_counted(root, copies, message):
    for source, copy in copies.items():
        shutil.copy(root / source, root / copy)
    with pytest.warns(UserWarning) as warned:
        pictures.content(pictures.find(str(root)), str(root))
    said = [str(one.message) for one in warned]
    assert said == [f"data_root = {str(root)!r}: {message}; results say less than they seem"]


def test_the_same_file_twice_in_a_class_is_no_matter(root):
    shutil.copy(root / "train/cat/1.png", root / "train/cat/2.png")
    pictures.content(pictures.find(str(root)), str(root))
