"""`Spec`: what an artefact is made from, and the key that this gives it."""

import hashlib
import json
from functools import cache, cached_property
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from jsigr_lib.store.keys import Code, Keyed, code_of, methods_of


class Spec(Keyed, BaseModel):
    """What an artefact is made from. Subclasses add fields and define `compute`, `needs` and `uses`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    finite: ClassVar[bool] = False  # whether no value of its tensors may be infinite or NaN
    here: ClassVar[bool] = False  # whether it reads files of this machine, and is made by no other one

    def needs(self) -> list["Spec"]:
        """Artefacts that `compute` loads."""
        return []

    def uses(self) -> list[Any]:
        """Entries of registries that `compute` calls by their names."""
        return []

    @property
    def shares(self) -> str:
        """The digest of what `compute` loads that is large, and that other artefacts load as well; "" if nothing is."""
        return ""

    def work(self) -> float:
        """Rough size of the computation (any unit, the same for all kinds), for progress and order."""
        return 1.0

    def compute(self, store: Any, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        """The artefact, from what the `Store` holds: its tensors (on the CPU) and facts about it for the header."""
        raise NotImplementedError

    def confirm(self) -> None:
        """Called after `compute`. Raises InputError if what it read from outside is not what the spec names."""

    def __getstate__(self) -> dict[Any, Any]:
        """Without what was worked out: another process has to find its own code and key."""
        state = super().__getstate__()
        return state | {"__dict__": {name: state["__dict__"][name] for name in type(self).model_fields}}

    @cached_property
    def code(self) -> Code:
        """The code that decides the result, without that of the artefacts which it needs."""
        return _code(type(self), *self.uses())

    @cached_property
    def digest(self) -> str:
        kept = (name for name, field in type(self).model_fields.items() if not field.exclude)
        fields = {name: _plain(getattr(self, name)) for name in kept}
        content = {"kind": self.kind, "fields": fields, "needs": [need.digest for need in self.needs()]}
        content |= {"code": self.code.digest, "libraries": self.code.libraries}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def parts(self) -> dict[str, "Spec"]:
        """This spec, the specs among its fields and what they need, each by its path ("sources.0.teacher")."""
        found = within(self)
        for path, one in list(found.items()):
            for i, need in enumerate(one.needs()):
                if need not in found.values():
                    found[f"{path}.needs.{i}".removeprefix(".")] = need
        return found

    @property
    def made_from(self) -> dict[str, Any]:
        """All that the digest covers, spelt out for whoever asks why it is another one, and how much work it is."""
        code = {path: part.code.files for path, part in self.parts.items()}
        libraries = {name: version for part in self.parts.values() for name, version in part.code.libraries.items()}
        return {"spec": json.loads(self.model_dump_json()), "code": code, "libraries": libraries, "work": self.work()}


@cache
def _code(kind: type[Spec], *uses: Any) -> Code:
    return code_of(*methods_of(kind, "compute"), *uses)


def within(value: Any, path: str = "") -> dict[str, Spec]:
    """A spec, the specs among its fields, those among theirs and so on, each by its path."""
    found = {path: value} if isinstance(value, Spec) else {}
    parts = value if isinstance(value, Spec) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        found |= within(part, f"{path}.{name}" if path else str(name))
    return found


def _plain(value: Any) -> Any:
    """A field as JSON: a spec inside a spec counts by its own digest."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.digest if isinstance(value, Spec) else value
