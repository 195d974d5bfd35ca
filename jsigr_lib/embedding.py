"""A record inside a picture: PNG carries it in a compressed text chunk, SVG in its <metadata>.

The record travels with the hash of what is drawn, so that a picture which was edited, but kept its record, is noticed;
lossless compression changes no pixel and does not count. It is no signature: whoever forges both is found out only by
the hashes that the repository keeps. What is read here may come from anywhere, so sizes are bounded before anything is
decoded, and nothing but InputError is raised.
"""

import hashlib
import io
import json
import zlib
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jsigr_lib.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
HEADER = len(PNG) + 25  # IHDR is always the first chunk, of this length
KEY = b"jsigr"
OPEN, CLOSE = b'<jsigr:record xmlns:jsigr="urn:jsigr:record">', b"</jsigr:record>"
DRAWN = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the chunks that decide the pixels
LONGEST = 2**20  # bytes of a record: more, and Pillow would refuse to open the picture
LARGEST = 20_000_000  # pixels
DEEPEST = 20  # levels of JSON


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
        return picture[:HEADER] + _chunk(b"zTXt", KEY + b"\0\0" + zlib.compress(text, 9)) + picture[HEADER:]
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
    if not all(isinstance(parcel.get(key), kind) for key, kind in (("record", dict), ("content", str), ("seal", str))):
        raise InputError("its record is damaged")
    record = parcel["record"]
    if parcel["content"] != content:
        return Drawing(record, content, "picture")
    return Drawing(record, content, "" if parcel["seal"] == _seal(record, content) else "record")


def is_svg(content: bytes) -> bool:
    return b"<svg" in content[:4096]


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object from outside. Raises InputError if it is none, or too long or too deep to handle."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InputError("its record is damaged or too large") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
    if level or not isinstance(value, dict):
        raise InputError("its record is none of jsigr")
    return value


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _refuse(constant: str) -> None:
    raise ValueError  # NaN and Infinity are no JSON


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
    chunks = _chunks(png)
    texts = [text for kind, body in chunks if (text := _record_chunk(kind, body)) is not None]
    return (texts[0] if texts else None), _pixels(chunks)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Type and body of every chunk, checksums verified."""
    found, at = [], len(PNG)
    while at < len(png) and (not found or found[-1][0] != b"IEND"):
        end = at + 8 + int.from_bytes(png[at : at + 4])
        kind, body, checksum = png[at + 4 : at + 8], png[at + 8 : end], png[end : end + 4]
        if len(checksum) < 4 or zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum):
            raise InputError("it is a truncated or damaged PNG")
        found.append((kind, body))
        at = end + 4
    if not found or (found[0][0], len(found[0][1]), found[-1][0]) != (b"IHDR", 13, b"IEND"):
        raise InputError("it is a truncated or damaged PNG")
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(body, zlib.crc32(kind)).to_bytes(4)


def _record_chunk(kind: bytes, body: bytes) -> bytes | None:
    """The record's text from a text chunk of any type: programs that save a PNG again choose their own."""
    key, _, rest = body.partition(b"\0")
    if key != KEY or kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflate(rest[1:])
    packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]  # after flag, method, language and translated key
    return _inflate(text) if packed else text


def _inflate(packed: bytes) -> bytes:
    try:
        stream = zlib.decompressobj()
        text = stream.decompress(packed, LONGEST)
    except zlib.error:
        raise InputError("its record is damaged") from None
    if not stream.eof:
        raise InputError("its record is damaged or too large")
    return text


def _pixels(chunks: list[tuple[bytes, bytes]]) -> str:
    """SHA-256 of size and colours, whatever they are compressed by. Pillow sees only what decides them."""
    width, height = (int.from_bytes(chunks[0][1][at : at + 4]) for at in (0, 4))
    if width * height > LARGEST:
        raise InputError(f"it is a PNG of {width} x {height} pixels; accepted: at most {LARGEST:,} pixels")
    drawn = PNG + b"".join(_chunk(kind, body) for kind, body in chunks if kind in DRAWN)
    try:
        with Image.open(io.BytesIO(drawn)) as image:
            colours = image.convert("RGBA").tobytes()
    except Exception:  # Pillow's readers raise whatever a damaged file leads them to
        raise InputError("it is a truncated or damaged PNG") from None
    return hashlib.sha256(f"{width} x {height} ".encode() + colours).hexdigest()
