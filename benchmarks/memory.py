"""Peak memory of a computation, above what was held before it."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(case: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Most bytes that the tensors made by one call occupy at a time.

    Call the case once before: an optimiser makes its state, and a network its gradients, the first time only.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _LiveBytes() as memory:
        case()
    return memory.peak


class _LiveBytes(TorchDispatchMode):
    """Follows every storage from the operation that makes it to its release.

    torch keeps no such count for the CPU, and a process's resident size tells little: allocators hold on to pages,
    and libraries bring their own. What a kernel allocates and frees within itself is not seen.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):
            self._known.add(storage)  # held before: written in place, it must not count
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage not in self._known:
                self._known.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._release, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _release(self, size: int) -> None:
        self.live -= size


def _storages(values) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
