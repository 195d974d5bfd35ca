"""What a user sets over a profile: any of its keys, a table's with dots; and what gives way for a small folder."""

import hashlib
import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from jsigr_lib.data import pictures
from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.method.judges import FEWEST_CLASSES

HELD_OUT = 5  # of so many training pictures, one is for validation


def applied(fields: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's fields with some replaced: "eps", or "penalty.share" of a table; None replaces nothing. A weight that
    is set counts among those that are tried. Raises InputError for a key that leads through what is no table."""
    fields = deepcopy(fields)
    given = {str(key): value for key, value in settings.items() if value is not None}
    for key, value in sorted(given.items(), key=lambda item: item[0].count(".")):  # a table before what is in it
        place, (*tables, last) = fields, key.split(".")
        for name in tables:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InputError(f"unknown field {shown(key)}; accepted: {shown(name)} alone, which is no table")
        place[last] = value
        if tables[:1] == ["defences"] and tables[2:] == ["options"]:
            _try_too(fields["defences"][tables[1]].get("tried"), last, value)
    return fields


def _try_too(tried: Any, weight: str, value: Any) -> None:
    candidates = tried.get(weight) if isinstance(tried, dict) else None
    if isinstance(candidates, list) and value not in candidates:
        candidates.append(value)


def fitted(profile: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a profile's fields gives way where its images are a folder with fewer, or with fewer classes than
    AutoAttack needs: field -> value. What is set stays."""
    if profile["dataset"] != "folder":
        return {}
    parts = pictures.find(profile["data_root"])
    there, tested, classes = len(parts["train"].paths), len(parts["test"].paths), len(parts["train"].classes)
    held = max(1, min(profile["validation_images"], max(classes, there // HELD_OUT), there - classes))
    if profile["train_images"] + profile["validation_images"] <= there:
        held = profile["validation_images"]
    held = settings.get("validation_images") or held
    tested = settings.get("test_images") or min(profile["test_images"], tested)
    seen = settings.get("saliency_images") or min(profile["saliency_images"], tested)
    found = {
        "train_images": min(profile["train_images"], max(1, there - held)),
        "validation_images": held,
        "test_images": tested,
        "saliency_images": seen,
        "gallery_images": min(profile["gallery_images"], seen),
        "autoattack": profile["autoattack"] if classes >= FEWEST_CLASSES else [],
    }
    return {key: value for key, value in found.items() if settings.get(key) is None and value != profile[key]}


def said(fits: Mapping[str, Any], root: str) -> str:
    """In words for people, what gave way."""
    sizes = [f"{key} = {value:,}" for key, value in fits.items() if key != "autoattack"]
    words = [f"{', '.join(sizes)}, as there are no more pictures"] * bool(sizes)
    words += [f"no AutoAttack, which needs {FEWEST_CLASSES} classes"] * ("autoattack" in fits)
    return f"data_root = {shown(root)}: {'; '.join(words)}"


def named(settings: Mapping[str, Any]) -> str:
    """A name for the folder of these settings that is not the name of others, such as "eps=0.05-21f8a0c3"."""
    words = ",".join(f"{key}={value}" for key, value in sorted(settings.items()))
    own = json.dumps(settings, sort_keys=True, default=str)
    clean = re.sub(r"[^a-zA-Z0-9.,=_]+", "-", words)[:40].strip("-.")
    return f"{clean}-{hashlib.sha256(own.encode()).hexdigest()[:8]}"
