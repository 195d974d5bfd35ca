"""Why an artefact is not there: never made, or made from something else that has changed since.

The nearest artefact of its kind that nothing asks for any more explains a missing one: that with the fewest fields that
differ, the latest of several. Whatever differs between the two made it stale.
"""

import json
from typing import Any

import numpy as np

from jsigr_lib.artefacts import Spec, within

FEW = 3  # changes that leave an artefact the same thing, to be made anew; with more it is another
Facts = dict[str, Any]


def explain(specs: list[Spec], orphans: list[Facts]) -> list[str]:
    """Why each of some missing specs of one kind is stale, "" if it was never made. `orphans` are headers of artefacts
    of that kind that nothing asks for, the latest first."""
    if not orphans:
        return [""] * len(specs)
    wanted, others = ([_fields(one) for one in some] for some in (map(_plain, specs), (one["spec"] for one in orphans)))
    columns = {item: i for i, item in enumerate({item for one in (*wanted, *others) for item in one.items()})}
    new, old = (np.zeros((len(some), len(columns)), np.float32) for some in (wanted, others))
    for table, some in ((new, wanted), (old, others)):
        for row, one in zip(table, some, strict=True):
            row[[columns[item] for item in one.items()]] = 1
    nearest = (2 * new @ old.T - old.sum(1)).argmax(1)  # the first of those with the fewest differences
    return [_reason(spec, orphans[i]) for spec, i in zip(specs, nearest, strict=True)]


def _plain(spec: Spec) -> Facts:
    return spec.model_dump(mode="json")


def _reason(spec: Spec, old: Facts) -> str:
    """What differs between a spec and the header of an older artefact, in words; "" if that is too much."""
    changes = _changed_fields(spec, old["spec"]) + _changed_code(spec, old)
    return "" if len(changes) > FEW else ", ".join(changes) or "made by an older version"


def _changed_fields(spec: Spec, old: Facts) -> list[str]:
    """ "epochs 2 -> 3", "its model's epochs 2 -> 3"; a change that reaches the spec on several ways counts once."""
    before, after, parts = _fields(old), _fields(_plain(spec)), within(spec)
    changes = {}
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            owner = max((part for part in parts if f"{path}.".startswith(f"{part}.")), key=len, default="")
            name = path.removeprefix(owner).removeprefix(".")
            values = (_short(some.get(path, "nothing")) for some in (before, after))
            changes[f"{_whose(parts[owner], spec)}{name} {' -> '.join(values)}"] = None
    return list(changes)


def _changed_code(spec: Spec, old: Facts) -> list[str]:
    """ "code of training.py changed", the artefact's own or that of what it is made from; "torch 2.13.0 -> 2.14.1"."""
    if not {"code", "libraries"} <= old.keys():
        return []  # an older version did not write it down
    changes, said = [], set()
    for path, part in spec.parts.items():
        before, after = old["code"].get(path, {}), part.code.files
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        if names := [f"{name}.py" for name in sorted(changed - said)]:
            changes.append(f"{_whose(part, spec)}code of {', '.join(names)} changed")
        said |= changed
    before, now = old["libraries"], spec.made_from["libraries"]
    return changes + [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]


def _whose(part: Spec, spec: Spec) -> str:
    return "" if part is spec else f"its {part.kind}'s "


def _fields(value: Any, path: str = "") -> dict[str, str]:
    """Nested fields by path, each value as JSON; pairs of a name and a value, as options are, count as fields."""
    if isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        value = dict(value)
    elif isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: json.dumps(value)}
    below = (_fields(part, f"{path}.{name}" if path else str(name)) for name, part in value.items())
    return {name: part for fields in below for name, part in fields.items()}


def _short(value: str) -> str:
    """Hashes and lists by their beginning."""
    value = value.strip('"')
    return value if len(value) <= 24 else f"{value[:8]}..."
