"""Tensors, and facts about them, in one safetensors file, which is checked when it is read."""

import hashlib
import json
import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.files import opened, replace

STORED = re.compile("[0-9a-f]{16}")  # names of a store's files
LONGEST = 2**26  # bytes of a header
NO_ARTEFACT = (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading another file can lead to."""


@dataclass(frozen=True)
class Artefact:
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write a safetensors file that is either complete or not there; equal artefacts are equal files."""
    metadata = {"facts": json.dumps(facts), "sha256": _checksum(tensors), "seal": ""}
    content = save(tensors, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()  # safetensors has metadata in any order
    header += b" " * (-len(header) % 8)
    sealed = header.replace(b'"seal": ""', f'"seal": "{_seal(header, path)}"'.encode())
    replace(path, len(sealed).to_bytes(8, "little") + sealed + content[end:])


def _seal(header: bytes, path: Path) -> str:
    """SHA-256 of a header that has none yet, and of the name by which a store finds the file."""
    name = f"{path.parent.name}/{path.stem}" if STORED.fullmatch(path.stem) else ""
    return hashlib.sha256(name.encode() + b"\n" + header).hexdigest()


def read(path: Path, content: bytes | None = None) -> Artefact:
    """Load a safetensors file of ours, or what was read of it. Raises InputError if it cannot be read, is damaged or
    something else; a damaged file of a store is set aside, so that it is made anew."""
    try:
        with opened(path) if content is None else BytesIO(content) as file:
            said, names = _header(file, path)
            file.seek(0)
            loaded = load(file.read())  # in any order
        tensors = {name: loaded[name] for name in names}
        if _checksum(tensors) != said["sha256"]:
            raise ValueError("its tensors do not match their SHA-256")
        return Artefact(tensors, json.loads(said["facts"]))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}); accepted: a readable file") from None
    except NO_ARTEFACT as error:
        raise InputError(f"{path} is no complete artefact ({error}); {set_aside(path)}") from None


def read_finite(path: Path) -> Artefact:
    """The same, of which no value may be infinite or NaN."""
    found = read(path)
    if not finite(found.tensors):
        raise InputError(f"{path} has values that are not finite; {set_aside(path)}")
    return found


def _header(file: BinaryIO, path: Path) -> tuple[dict[str, str], list[str]]:
    """What the header says beside its tensors, and their names in the order of the file. Raises one of NO_ARTEFACT
    unless it is as it was written, and the file is as long as it says. The oldest files have no seal."""
    length = int.from_bytes(file.read(8), "little")
    if length > LONGEST:
        raise ValueError(f"a header of {length:,} bytes")
    raw = file.read(length)
    header = json.loads(raw)
    said = header.pop("__metadata__")
    if said.keys() != {"facts", "sha256"} and _seal(raw.replace(said["seal"].encode(), b"", 1), path) != said["seal"]:
        raise ValueError("its header was altered, or is that of another one")
    if file.seek(0, os.SEEK_END) != 8 + length + max((one["data_offsets"][1] for one in header.values()), default=0):
        raise ValueError("it is not as long as its header says")
    return said, sorted(header, key=lambda name: header[name]["data_offsets"])


def set_aside(path: Path) -> str:
    """Rename a file that a store named by a digest; what is to be done about it, in words."""
    if not STORED.fullmatch(path.stem):
        return "accepted: an undamaged copy of it"
    with suppress(FileNotFoundError):  # another process was quicker
        os.replace(path, path.with_suffix(".damaged"))
    return f"set aside as {path.stem}.damaged; the same command makes it anew"


def read_facts(path: Path) -> dict[str, Any]:
    """What the header says; the tensors are not read. Raises InputError if the file is cut off or no artefact of a
    store."""
    try:
        with opened(path) as file:
            facts = json.loads(_header(file, path)[0]["facts"])
        parts = [facts["spec"], facts.get("code", {}), facts.get("libraries", {})]
        numbers = [facts["seconds"], facts.get("cpu_seconds", 0), facts.get("work", 0)]
        if not all(isinstance(part, dict) for part in parts) or not all(0 <= n < math.inf for n in numbers):
            raise ValueError("it names no spec, or no time")
        return facts
    except (OSError, *NO_ARTEFACT) as error:
        raise InputError(f"{path} is no complete artefact ({error})") from None


def read_sum(path: Path) -> str | None:
    """The hash of a file's tensors, from its header; None if it is not there, or damaged."""
    with suppress(OSError, *NO_ARTEFACT), opened(path) as file:
        return str(_header(file, path)[0]["sha256"])


def _checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all tensors: safetensors checks their sizes, not their bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def finite(tensors: dict[str, Tensor]) -> bool:
    """Whether no value of them is infinite or NaN."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
