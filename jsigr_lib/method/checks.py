"""What penalties, maps, attacks and judges ask of the images, the labels and the model that they are given.

Each check raises InputError in one line that names the value and what is accepted.
"""

from numbers import Real

import torch
from torch import Tensor, nn

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.method.shapes import Images

HALVES = (torch.float16, torch.bfloat16)  # a square in them overflows or vanishes, a pixel's step may be an attack's
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
    try:
        z = model(x.clone())
    except RuntimeError as error:
        weights = model.parameters() if isinstance(model, nn.Module) else ()
        weight = next((weight for weight in weights if weight.is_floating_point()), x)
        if (weight.dtype, weight.device) == (x.dtype, x.device):
            raise
        here, there = (f"{tensor.dtype} on {tensor.device}" for tensor in (x, weight))
        raise InputError(f"images are {here}, the model is {there}; accepted: the same for both") from error
    if not torch.is_tensor(z) or z.ndim != 2 or len(z) != len(x) or not z.is_floating_point():
        raise InputError(f"the model gives {described(z)}; accepted: one tensor of logits [{len(x)}, classes]")
    if y is not None and y.numel() and y.max() >= z.shape[1]:
        raise InputError(f"label {y.max()}; accepted: 0 to {z.shape[1] - 1}, as the model has {z.shape[1]} outputs")
    return at_least_single(z)


def at_least_single(t: Tensor) -> Tensor:
    """Half precision made single."""
    return t.float() if t.dtype in HALVES else t


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


# What attacks and judges are given, made into what they work with.


def check_number(what: str, value: float) -> None:
    """`value` has to be one number, and no tensor with a number for each image."""
    if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.ndim == 0):
        said = f"a tensor {[*value.shape]}" if isinstance(value, Tensor) else shown(value)
        raise InputError(f"{what} = {said}; accepted: one number for all images")


def images_of(x: Tensor) -> Images:
    """x without graph, if it is a batch of any rank from 2."""
    if not isinstance(x, Tensor):
        raise InputError(f"images are a {type(x).__name__}; accepted: a tensor [batch, ...]")
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(f"images are {x.dtype} {[*x.shape]}; accepted: a floating-point tensor [batch, ...]")
    x = x.detach()
    return x.clone() if x.is_inference() else x  # autograd takes no tensor that was made in inference mode


def labels_of(y: Tensor, x: Images, what: str = "labels") -> Tensor:
    """y as int64 [batch] beside the images x in [0, 1], if it holds whole numbers [batch] or [batch, 1]."""
    accepted = f"accepted: class indices, one for each of {len(x)} images, as whole numbers [{len(x)}]"
    if not isinstance(y, Tensor):
        raise InputError(f"{what} are a {type(y).__name__}; {accepted}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.shape not in ((len(x),), (len(x), 1)):
        raise InputError(f"{what} are {y.dtype} {[*y.shape]}; {accepted}")
    y = y.detach().reshape(-1).to(x.device, torch.int64)
    check_batch(x, y)
    return y.clone() if y.is_inference() else y


class Function(nn.Module):
    """A model that is a plain function. It is called as it is: it has no modes and no parameters that are known."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def module_of(model) -> nn.Module:
    """The model, if need be as a module."""
    if not callable(model):
        raise InputError(f"the model is a {type(model).__name__}; accepted: a torch module or a function")
    return model if isinstance(model, nn.Module) else Function(model)
