"""Tensors, and facts about them, in one safetensors file, which is checked when it is read."""

import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jsigr_lib.method.errors import InputError


@dataclass(frozen=True)
class Artefact:
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write a safetensors file that is either complete or not there; equal artefacts are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{platform.node()}.{os.getpid()}.tmp")
    content = save(tensors, metadata={"facts": json.dumps(facts), "sha256": _checksum(tensors)})
    try:
        with open(temporary, "wb") as file:
            file.write(_sorted_header(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say what was written
    finally:
        temporary.unlink(missing_ok=True)


def _sorted_header(content: bytes) -> bytes:
    """safetensors writes its metadata in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def read(path: Path) -> Artefact:
    """Load a safetensors file of ours. Raises InputError if it cannot be read, is damaged or something else; a damaged
    file of a store is set aside, so that it is made anew."""
    try:
        with open(path, "rb"):  # safe_open says of every file that it cannot open that there is none
            pass
        with safe_open(path, framework="pt") as file:
            facts, expected = json.loads(file.metadata()["facts"]), file.metadata()["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _checksum(tensors) != expected:
            raise ValueError("its tensors do not match their SHA-256")
        return Artefact(tensors, facts)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}); accepted: a readable file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no complete artefact ({error}); {_set_aside(path)}") from None


def _set_aside(path: Path) -> str:
    """Rename a file that a store named by a digest; what is to be done about it, in words."""
    if not re.fullmatch("[0-9a-f]{16}", path.stem):
        return "accepted: an undamaged copy of it"
    with suppress(FileNotFoundError):  # another process was quicker
        os.replace(path, path.with_suffix(".damaged"))
    return f"set aside as {path.stem}.damaged; the same command makes it anew"


def read_facts(path: Path) -> dict[str, Any]:
    """What the header says; the tensors are not read. Raises InputError if the file is cut off or none of ours."""
    try:
        with safe_open(path, framework="pt") as file:  # this compares the sizes in the header with the file's
            facts = json.loads(file.metadata()["facts"])
        if not isinstance(facts.get("spec"), dict):
            raise ValueError("it names no spec")
        return facts
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
        raise InputError(f"{path} is no complete artefact ({error})") from None


def _checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all tensors: safetensors checks their sizes, not their bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
