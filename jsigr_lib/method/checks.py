"""What penalties, maps, attacks and judges ask of the images, the labels and the model that they are given.

Each check raises InputError in one line that names the value and what is accepted.
"""

import torch
from torch import Tensor

from jsigr_lib.method.errors import InputError
from jsigr_lib.method.shapes import Images

PROBABILITY_TOLERANCE = 1e-4  # of a sum of float32 probabilities


def check_inputs(x: Tensor, y: Tensor | None = None, *, rank: int | None = None) -> None:
    """x has to be a batch of floating-point samples, of `rank` dimensions if given, and y [batch] its labels."""
    if not torch.is_tensor(x) or not x.is_floating_point() or x.ndim < 2 or x.ndim != (rank or x.ndim):
        accepted = "[batch, channels, height, width]" if rank == 4 else "[batch, ...]"
        raise InputError(f"the images are {described(x)}; accepted: floating-point numbers {accepted}")
    if y is None:
        return
    if not torch.is_tensor(y) or y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise InputError(f"the labels are {described(y)}; accepted: class indices, int64 [{len(x)}]")
    if y.numel() and y.min() < 0:
        raise InputError(f"label {y.min()}; accepted: class indices from 0")


def logits_of(model, x: Tensor, y: Tensor | None = None) -> Tensor:
    """The model's logits [batch, classes], in single precision at least; with labels y, of the classes that they name.
    The model gets a copy of x, as it may change what it is given."""
    z = model(x.clone())
    if not torch.is_tensor(z) or z.ndim != 2 or len(z) != len(x) or not z.is_floating_point():
        raise InputError(f"the model gives {described(z)}; accepted: one tensor of logits [{len(x)}, classes]")
    if y is not None and y.numel() and y.max() >= z.shape[1]:
        raise InputError(f"label {y.max()}; accepted: 0 to {z.shape[1] - 1}, as the model has {z.shape[1]} outputs")
    return at_least_single(z)


def at_least_single(t: Tensor) -> Tensor:
    """Half precision made single: a square in it overflows or vanishes too soon."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def described(value: object) -> str:
    """What came, in a few words."""
    if not torch.is_tensor(value):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


# what attacks and judges ask


def check_count(what: str, value: int, low: int = 1) -> None:
    """`value` has to be a whole number from `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{what} = {value!r}; accepted: a whole number from {low}")


def check_batch(x: Images, y: Tensor) -> None:
    """x have to be images in [0, 1], and y [batch] can be labels."""
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise InputError(f"images span {x.min():g} to {x.max():g}; accepted: 0 to 1")
    if y.numel() and y.min() < 0:
        raise InputError(f"label {y.min()}; accepted: class indices from 0")


def check_logits(z: Tensor, y: Tensor) -> None:
    """z [batch, classes] have to be finite logits, and of the classes that the labels y [batch] name."""
    if y.numel() and y.max() >= z.shape[1]:
        raise InputError(f"label {y.max()}; accepted: 0 to {z.shape[1] - 1}, as the model has {z.shape[1]} outputs")
    if not z.isfinite().all():
        raise InputError(f"the model gives {z[~z.isfinite()][0]:g}; accepted: finite logits")
    if are_probabilities(z):
        raise InputError(f"the model gives probabilities, such as {z[0, 0]:.3g}; accepted: logits")


def are_probabilities(z: Tensor) -> bool:
    """Whether each row of z [batch, classes] is a distribution: no entry is negative, and their sum is 1."""
    sums = z.detach().double().sum(1)
    return bool(len(z) and z.shape[1] > 1 and z.min() >= 0 and ((sums - 1).abs() < PROBABILITY_TOLERANCE).all())
