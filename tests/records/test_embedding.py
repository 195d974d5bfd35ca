"""A picture carries its record through whatever leaves its content alone, and hostile pictures end in one line."""

import io
import json
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jsigr_lib.figures import plotting
from jsigr_lib.method.errors import InputError
from jsigr_lib.records import embedding
from jsigr_lib.records.embedding import CLOSE, OPEN, PNG, embed, extract, parse

CHUNKS = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"tEXt", b"zTXt", b"iTXt"]
RECORD = {"name": "dots", "alt": "x < y & z > \u03bb </metadata>]]> \u2028", "numbers": [0, 0.1, None, True]}


@pytest.fixture(scope="module")
def plain() -> dict[str, bytes]:
    """A drawing as PNG and as SVG, without a record."""
    fig = plotting.figure(2, 1)
    fig.subplots().plot([1, 2])
    files = {}
    for kind, metadata in {"png": {}, "svg": {"Date": None}}.items():
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    return files


@pytest.fixture(scope="module")
def kept(plain) -> dict[str, bytes]:
    return {kind: embed(content, RECORD) for kind, content in plain.items()}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    return png[: embedding.HEADER] + chunk(kind, body) + png[embedding.HEADER :]


def saved_again(png: bytes, **options) -> bytes:
    """By Pillow, its text chunks kept, as a program for pictures would."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        info = PngInfo()
        for key, text in image.text.items():
            info.add_text(key, text, zip=options.get("zip", False))
        image.convert(options.get("mode", image.mode)).save(buffer, format="png", pnginfo=info, compress_level=1)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_record_comes_back(plain, kept, kind):
    found = extract(kept[kind])
    assert (found.record, found.altered) == (RECORD, "")
    bare = extract(plain[kind])
    assert (bare.record, bare.content, bare.altered) == (None, found.content, "")
    assert embed(plain[kind], RECORD) == kept[kind]


def test_pictures_stay_valid(plain, kept):
    with Image.open(io.BytesIO(kept["png"])) as image, Image.open(io.BytesIO(plain["png"])) as before:
        assert json.loads(image.text["jsigr"])["record"] == RECORD
        assert image.size == before.size
    (node,) = ElementTree.fromstring(kept["svg"]).iter("{urn:jsigr:record}record")
    assert json.loads(node.text)["record"] == RECORD


@pytest.mark.parametrize("options", [{}, {"zip": True}, {"mode": "RGB"}])
def test_lossless_compression_alters_nothing(kept, options):
    """White on opaque RGBA is the same picture as RGB."""
    again = saved_again(kept["png"], **options)
    assert again != kept["png"]
    assert extract(again) == extract(kept["png"])


def test_international_text_chunks_are_read(plain, kept):
    text = json.loads(Image.open(io.BytesIO(kept["png"])).text["jsigr"])
    for packed in (False, True):
        body = json.dumps(text).encode()
        body = b"jsigr\0" + bytes([packed, 0]) + b"en\0key\0" + (zlib.compress(body) if packed else body)
        assert extract(with_chunk(plain["png"], b"iTXt", body)).record == RECORD


def test_edited_pixel_is_noticed(kept):
    with Image.open(io.BytesIO(kept["png"])) as image:
        info = PngInfo()
        info.add_text("jsigr", image.text["jsigr"])
        pixels = np.array(image)
    pixels[3, 4, 0] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", pnginfo=info)
    assert extract(buffer.getvalue()).altered == "picture"
    assert extract(buffer.getvalue()).record == RECORD


def test_edited_drawing_is_noticed(kept):
    assert extract(kept["svg"].replace(b"stroke-linejoin: round", b"stroke-linejoin: bevel")).altered == "picture"
    second = OPEN + b"{}" + CLOSE
    assert extract(kept["svg"].replace(b"<defs>", second + b"<defs>", 1)).altered == "picture"


def test_edited_record_is_noticed(plain, kept):
    assert extract(kept["svg"].replace(b'"name":"dots"', b'"name":"bars"')).altered == "record"
    text = json.loads(Image.open(io.BytesIO(kept["png"])).text["jsigr"])
    text["record"]["name"] = "bars"
    edited = extract(with_chunk(plain["png"], b"tEXt", b"jsigr\0" + json.dumps(text).encode()))
    assert (edited.record["name"], edited.altered) == ("bars", "record")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_truncated_pictures_are_refused(kept, kind):
    content = kept[kind].rstrip()
    for end in (*range(len(PNG), 200), *range(200, len(content), len(content) // 40), len(content) - 1):
        with pytest.raises(InputError, match=r"truncated|no PNG and no SVG"):
            extract(content[:end])


def test_damaged_png_is_refused(kept):
    content = bytearray(kept["png"])
    content[len(content) // 2] ^= 1
    with pytest.raises(InputError, match="damaged PNG"):
        extract(bytes(content))


def test_huge_record_is_not_unpacked(plain):
    bomb = zlib.compress(b" " * 30_000_000, 1)
    for kind, body in ((b"zTXt", b"jsigr\0\0" + bomb), (b"iTXt", b"jsigr\0\1\0\0\0" + bomb)):
        with pytest.raises(InputError, match="too large"):
            extract(with_chunk(plain["png"], kind, body))
    with pytest.raises(InputError, match="too large"):
        extract(with_chunk(plain["png"], b"tEXt", b"jsigr\0" + b" " * (embedding.LONGEST + 1)))


def test_huge_picture_is_not_decoded():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0)
    png = PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=r"100000 x 100000 pixels; accepted: at most 20,000,000 pixels"):
        extract(png)


def test_entities_of_an_svg_are_not_expanded(kept):
    """The billion laughs: each of the entities is ten of the next. Found by search, they are mere text."""
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i + 1};" * 10}">' for i in range(20))
    bomb = f"<!DOCTYPE svg [{laughs}<!ENTITY l20 'ha'>]><svg>&l0;</svg>".encode()
    assert extract(bomb).record is None
    with pytest.raises(InputError, match="damaged"):
        extract(bomb.replace(b"&l0;", OPEN + b"&l0;" + CLOSE))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b" " * (embedding.LONGEST + 1) + b"{}",
    ],
)
def test_text_that_is_no_record_is_refused(text):
    with pytest.raises(InputError, match=r"^its record is "):
        parse(text)


@pytest.mark.parametrize("parcel", [{}, {"record": []}, {"record": {}, "content": 1, "seal": ""}, {"record": {}}])
def test_parcel_without_its_parts_is_refused(plain, parcel):
    for kind, made in (
        ("png", with_chunk(plain["png"], b"tEXt", b"jsigr\0" + json.dumps(parcel).encode())),
        ("svg", plain["svg"].replace(b"</metadata>", OPEN + json.dumps(parcel).encode() + CLOSE + b"</metadata>")),
    ):
        assert made != plain[kind]
        with pytest.raises(InputError, match="its record is damaged"):
            extract(made)


def survives(content: bytes) -> None:
    try:
        extract(content)
    except InputError as error:
        assert "\n" not in str(error)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from([b"", PNG, b"<svg", OPEN, b"<svg>" + OPEN]))
def test_any_bytes_end_in_input_error_or_nothing(content, start):
    survives(start + content)
    survives(start + content + CLOSE + b"</svg>")


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(CHUNKS), st.binary(max_size=60))))
def test_any_chunks_end_in_input_error_or_nothing(chunks):
    """With checksums that are right, so that what comes after them is reached."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0))
    made = b"".join(chunk(kind, b"jsigr\0" + body if kind.endswith(b"Xt") else body) for kind, body in chunks)
    survives(PNG + made + chunk(b"IEND", b""))
    survives(PNG + header + made + chunk(b"IDAT", zlib.compress(bytes(6))) + chunk(b"IEND", b""))


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_damaged_picture_with_a_record_ends_in_input_error_or_is_noticed(kept, data):
    kind = data.draw(st.sampled_from(["png", "svg"]))
    content = bytearray(kept[kind])
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_record_comes_back(plain, record):
    for content in plain.values():
        found = extract(embed(content, record))
        assert (found.record, found.altered) == (record, "")
