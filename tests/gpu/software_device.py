"""A device without hardware: torch takes it for another one than the CPU, on which its numbers are in fact computed.

Its tensors refuse what CUDA's refuse: tensors and indices that lie on the CPU, its generators, and to become arrays.
Where a CUDA program would wait for the device, or copy to it, is counted by the line of jsigr_lib that asks for it.
`install` cannot be undone, so it is for a process of its own.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import jsigr_lib

NAME = "software"
PACKAGE = Path(jsigr_lib.__file__).parent
aten = torch.ops.aten
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
COPYING = {aten.copy_.default, aten._to_copy.default}
WAITING = {  # the host needs a number, or how many there are
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
}
_traffic: Counter[tuple[str, str]] = Counter()
_kept: list[Any] = []  # what lasts as long as the process


class Held(Tensor):
    """A tensor on the device; `held`, on the CPU, has its numbers."""

    @staticmethod
    def __new__(cls, held: Tensor):
        options = {"dtype": held.dtype, "layout": held.layout, "device": torch.device(NAME, 0)}
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        self = Tensor._make_wrapper_subclass(cls, held.size(), **place, **options)
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Held(inner["held"])

    def __repr__(self) -> str:
        return f"Held({self.held})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else repr(self)

    def __deepcopy__(self, memo):
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        return memo[id(self)]


class _Factories(TorchDispatchMode):
    """For what makes tensors from none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Backend(backend_registration._DummyBackendModule):
    """What torch asks of a device's module beyond the least."""

    def get_rng_state(self, device=None) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state, device=None) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def install() -> torch.device:
    """From here on, `tensor.to("software")` works, in this process."""
    if not _kept:
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
        library = torch.library.Library("aten", "IMPL")  # torch.tensor comes here, and not to the mode
        library.impl("empty_strided", lambda *a, **k: _run(aten.empty_strided.default, a, k), "PrivateUse1")
        library.impl("copy_", lambda *a, **k: _run(aten.copy_.default, a, k), "PrivateUse1")
        _kept.extend([library, _Factories().__enter__()])
    return torch.device(NAME)


@contextmanager
def counted() -> Iterator[Counter]:
    """("wait" or "copy", line of jsigr_lib) -> how often, within the context."""
    before, found = _traffic.copy(), Counter()
    yield found
    found.update(_traffic - before)


def _run(func, args: tuple, kwargs: dict) -> Any:
    leaves = _pytree.tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, Held)]
    device = kwargs.get("device")
    there = bool(ours) if device is None else torch.device(device).type == NAME
    _refuse(func, args, leaves, there)
    _count(func, args, there)
    if device is not None and there:
        kwargs = {**kwargs, "device": torch.device("cpu"), "pin_memory": False}
    out = func(*_pytree.tree_map(_numbers, args), **_pytree.tree_map(_numbers, kwargs))
    if func is aten.copy_.default:
        return args[0]
    if not there:
        return out
    known = {id(one.held): one for one in ours}
    out = _pytree.tree_map(lambda one: known.get(id(one), Held(one)) if isinstance(one, Tensor) else one, out)
    same = ours and any(isinstance(one, Held) for one in _pytree.tree_leaves(out))
    return return_and_correct_aliasing(func, args, kwargs, out) if same else out


def _numbers(value: Any) -> Any:
    return value.held if isinstance(value, Held) else value


def _refuse(func, args: tuple, leaves: list, there: bool) -> None:
    """Raise RuntimeError where CUDA does."""
    drawn = next((leaf for leaf in leaves if isinstance(leaf, torch.Generator)), None)
    if drawn is not None and there:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{drawn.device.type}' ({func})")
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if func in INDEXING:
        elsewhere = [isinstance(i, Held) for i in args[1] if i is not None]
        tensors = [args[0], *args[2:3]]
        if any(elsewhere) and not isinstance(args[0], Held):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    mixed = {one.device.type for one in tensors if isinstance(one, Held) or one.ndim}
    if len(mixed) > 1 and func not in COPYING:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {sorted(mixed)} ({func})")


def _count(func, args: tuple, there: bool) -> None:
    ours = bool(args) and isinstance(args[0], Held)
    if func in COPYING:
        into, of = (there, ours) if func is aten._to_copy.default else (ours, isinstance(args[1], Held))
        _note("copy", into and not of)
        _note("wait", of and not into)
    elif func in INDEXING and ours:
        for i in args[1]:
            _note("copy", i is not None and not isinstance(i, Held))
            _note("wait", isinstance(i, Held) and i.dtype in (torch.bool, torch.uint8))
    else:
        _note("wait", ours and func in WAITING)


def _note(kind: str, happens: bool) -> None:
    if happens:
        frame = sys._getframe(1)
        while frame and PACKAGE not in Path(frame.f_code.co_filename).parents:
            frame = frame.f_back
        where = Path(frame.f_code.co_filename).relative_to(PACKAGE) if frame else "elsewhere"
        _traffic[kind, f"{where}:{frame.f_lineno}" if frame else where] += 1
