"""What a training step takes, counted on narrow networks: operations and memory, the same on every machine."""

import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from jsigr_lib.method import defences
from jsigr_lib.networks import models

Options = tuple[tuple[str, float | int | str | bool], ...]
PLAIN: tuple[str, Options] = ("jsigr", (("lambda_j", 0.0), ("lambda_s", 0.0)))  # standard training
NARROW = (8, 24, 32)  # widths that are counted for those of a wider network; not 16, that of WRN's stem
IMAGES = 20  # of a step whose memory is counted


@lru_cache
def count_flops(architecture: str, width: int | None, objective: str, options: Options, size: int) -> int:
    """Floating-point operations of one training step per image, the mean over its kinds; element-wise work does not
    count. Images are size x size, grey if 28 pixels wide, else colour."""
    return round(_widened(_operations, architecture, width, objective, options, size))


@lru_cache
def count_bytes(architecture: str, width: int | None, objective: str, options: Options, size: int, batch: int) -> int:
    """Bytes that a training step on `batch` images, of its dearest kind, holds at most: the network, its gradients and
    AdamW's state, and what is kept between forward and backward pass. What a library or a kernel keeps to itself does
    not count. Of a wide network, what is kept is in proportion to a narrow one's, as its channels are, or nearly so.
    That is too much, up to three times, where weights outweigh what is kept of the images."""
    width = width or models.default_width(architecture)
    narrow = min(width, max(NARROW))
    options = tuple((name, 1 if name == "steps" else value) for name, value in options)  # each frees what it took
    steps = _steps(architecture, narrow, objective, options, size, images=IMAGES)
    kept = max(peak_bytes(step) for _, step in steps) - 4 * _parameters(architecture, narrow, size)
    return round(16 * _parameters(architecture, width, size) + kept * batch / IMAGES * width / narrow)


def _parameters(architecture: str, width: int, size: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in _network(architecture, width, size).parameters())


def _widened(count: Callable[..., float], architecture: str, width: int | None, *step_and_images) -> float:
    """count(architecture, width, objective, options, ...), of a wide network by narrow ones: it would take minutes. A
    layer takes operations and parameters in proportion to its inputs times its outputs, so a plain step's are a
    quadratic polynomial of the width, which three networks tell; other steps take as many plain ones as in the widest
    of these, or nearly so [derived]."""
    width, (_, _, *images) = width or models.default_width(architecture), step_and_images
    if width <= max(NARROW):
        return count(architecture, width, *step_and_images)
    own, plain = count(architecture, max(NARROW), *step_and_images), count(architecture, max(NARROW), *PLAIN, *images)
    counts = [count(architecture, one, *PLAIN, *images) for one in NARROW]
    weights = [prod((width - other) / (one - other) for other in NARROW if other != one) for one in NARROW]
    return own / plain * sum(weight * value for weight, value in zip(weights, counts, strict=True))


@lru_cache
def _operations(architecture: str, width: int, objective: str, options: Options, size: int) -> float:
    total = 0.0
    for how_often, step in _steps(architecture, width, objective, options, size, images=2):
        with Operations() as counter:
            step()
        total += how_often * counter.total / 2
    return total


def _network(architecture: str, width: int, size: int) -> nn.Module:
    deep = channels(size)
    shape = {"channels": deep, "size": size, "classes": 10, "mean": [0.5] * deep, "std": [0.5] * deep}
    return models.build(architecture, width=width, seed=0, **shape)


def channels(size: int) -> int:
    """Of the images of the given size, in pixels: grey if 28, else colour."""
    return 1 if size == 28 else 3


def _steps(
    architecture: str, width: int, objective: str, options: Options, size: int, *, images: int
) -> Iterator[tuple[float, Callable[[], None]]]:
    """Each kind of step: how often, and a function that takes it, forward and backward, on the same images."""
    tiny, model = _network("mlp", 1, size), _network(architecture, width, size)

    def step(kind: defences.Objective, network: nn.Module) -> None:
        generator = torch.Generator().manual_seed(0)
        x, y = torch.rand(images, channels(size), size, size, generator=generator), torch.arange(images) % 10
        kind(network, x, y, x if kind.guide == "gradient" else None, generator=generator).backward()

    for how_often, kind in defences.build(objective, **dict(options)).kinds_of_step():
        step(kind, tiny)  # the first also makes what is kept for the next ones, such as masks
        yield how_often, partial(step, kind, model)


class Operations(TorchDispatchMode):
    """How many there are in its context, `total`, by torch's own flop formulas. (torch's FlopCounterMode also tracks
    modules, which fails in grad by x.)"""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


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
