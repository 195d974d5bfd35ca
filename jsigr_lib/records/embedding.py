"""A record inside a picture: PNG carries it in a compressed text chunk, SVG in its <metadata>.

The record travels with the hash of what is drawn, so that an edited picture is noticed; another lossless compression is
no edit. Pictures come from anywhere: sizes are checked before anything is decoded, and only InputError is raised.
"""

import hashlib
import io
import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL.PngImagePlugin import PngImageFile

from jsigr_lib.method.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
HEADER = len(PNG) + 25  # IHDR is always the first chunk, of this length
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk, always the same
KEY = "jsigr"
OPEN, CLOSE = b'<jsigr:record xmlns:jsigr="urn:jsigr:record">', b"</jsigr:record>"
DAMAGED = "it is a truncated, animated or damaged PNG, or its texts are too large"
LONGEST = 2**20  # bytes of a record, as Pillow unpacks no longer text
DEEPEST = 20  # levels of JSON
LARGEST = 20_000_000  # pixels


@dataclass(frozen=True)
class Drawing:
    """What a picture holds: its record, None without one, and the hash of what is drawn; `altered` is "picture" or
    "record" if that is not the one that was embedded."""

    record: dict[str, Any] | None
    content: str
    altered: str = ""


def embed(picture: bytes, record: dict[str, Any]) -> bytes:
    """A PNG or SVG that holds no record yet, with one."""
    content = extract(picture).content
    text = _text({"record": record, "content": content, "seal": _seal(record, content)})
    if picture.startswith(PNG):
        chunk = b"zTXt" + KEY.encode() + b"\0\0" + zlib.compress(text, 9)
        framed = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
        return picture[:HEADER] + framed + picture[HEADER:]
    before, after = picture.split(b"</metadata>", 1)
    return before + OPEN + text + CLOSE + b"\n </metadata>" + after


def extract(picture: bytes) -> Drawing:
    """What a PNG or SVG holds. Raises InputError if it is neither, truncated, damaged or too large."""
    if picture.startswith(PNG):
        text, content = _from_png(picture)
    elif is_svg(picture):
        text, content = _from_svg(picture)
    else:
        raise InputError("it is no PNG and no SVG")
    if text is None:
        return Drawing(None, content)
    parcel = parse(text)
    if [type(parcel.get(key)) for key in ("record", "content", "seal")] != [dict, str, str]:
        raise InputError("its record is damaged")
    edited = "" if parcel["seal"] == _seal(record := parcel["record"], content) else "record"
    return Drawing(record, content, edited if parcel["content"] == content else "picture")


def is_svg(content: bytes) -> bool:
    return b"<svg" in content[:4096]


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object from outside. Raises InputError if it is none, or too long or too deep to handle."""
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=str) if len(text) <= LONGEST else None
        if not isinstance(value, dict) or _depth(value) > DEEPEST:
            raise ValueError
    except (ValueError, RecursionError):
        raise InputError("its record is damaged or too large") from None
    return value


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def _text(value: Any) -> bytes:
    """Compact JSON in ASCII, without any character that XML knows."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").encode()


def _seal(record: dict[str, Any], content: str) -> str:
    return hashlib.sha256(json.dumps([record, content], sort_keys=True).encode()).hexdigest()


def _from_svg(svg: bytes) -> tuple[bytes | None, str]:
    """By search alone: an XML parser would expand entities."""
    if not svg.rstrip().endswith(b"</svg>"):
        raise InputError("it is a truncated SVG")
    start, end = svg.find(OPEN), svg.find(CLOSE)
    if not 0 <= start < end:
        return None, hashlib.sha256(svg).hexdigest()
    without = svg[:start] + svg[end + len(CLOSE) :].removeprefix(b"\n ")
    return svg[start + len(OPEN) : end], hashlib.sha256(without).hexdigest()


def _from_png(png: bytes) -> tuple[bytes | None, str]:
    """The record's text, and SHA-256 of size and colours, whatever they are compressed by."""
    with _opened(png) as image:
        (width, height), animated = image.size, image.is_animated
        image.verify()  # the checksums of all chunks
    if width * height > LARGEST:
        raise InputError(f"it is a PNG of {width} x {height} pixels; accepted: at most {LARGEST:,} pixels")
    if animated or END not in png:
        raise InputError(DAMAGED)
    with _opened(png) as image:
        colours, text = image.convert("RGBA").tobytes(), image.text.get(KEY)
    content = hashlib.sha256(f"{width} x {height} ".encode() + colours).hexdigest()
    return None if text is None else text.encode(), content


@contextmanager
def _opened(png: bytes) -> Iterator[PngImageFile]:
    """The picture, not decoded yet. Pillow bounds what it unpacks of texts, and raises or warns of whatever a damaged
    file leads it to."""
    try:
        with warnings.catch_warnings(action="error"), PngImageFile(io.BytesIO(png)) as image:
            yield image
    except Exception:
        raise InputError(DAMAGED) from None
