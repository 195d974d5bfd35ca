"""Folders of pictures that somebody made to do harm, or by accident."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from jsigr_lib.data import pictures
from jsigr_lib.method.errors import InputError


def draw(path: Path, size=(4, 3), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (1, 2, 3)).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            draw(tmp_path / "pictures" / part / name / "1.png")
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


def test_a_pipe_never_blocks(root):
    os.mkfifo(root / "train" / "cat" / "2.png")
    assert len(pictures.find(str(root))["train"].paths) == 2


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
