"""What penalties, maps, attacks and judges ask of the images, the labels and the model that they are given.

Each check raises InputError in one line that names the value and what is accepted.
"""

from numbers import Integral, Real

import torch
from torch import Tensor, nn

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.method.shapes import Images

HALVES = (torch.float16, torch.bfloat16)  # a square in them overflows or vanishes, a pixel's step may be an attack's
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
NEGATIVE = "label {}; accepted: class indices from 0"
PROBABILITY_TOLERANCE = 1e-4  # of a sum of float32 probabilities


def images_of(x: Tensor, *, rank: int | None = None) -> Images:
    """x without graph, if it is a batch of floating-point samples, of `rank` dimensions if given."""
    if not holds_floats(x) or x.ndim < 2 or x.ndim != (rank or x.ndim):
        accepted = "[batch, channels, height, width]" if rank == 4 else "[batch, ...]"
        raise InputError(f"the images are {described(x)}; accepted: floating-point numbers {accepted}")
    return constant(x)


def labels_of(y: Tensor, x: Images, what: str = "labels", *, values: bool = True) -> Tensor:
    """y as int64 [batch] beside the images x, if it holds whole numbers from 0, [batch] or [batch, 1]. Without
    `values` these are not looked at, as each look waits for the device: `logits_of` does it."""
    n = len(x)
    if not torch.is_tensor(y) or y.dtype not in WHOLE or y.shape not in ((n,), (n, 1)):
        accepted = f"class indices, one for each of {n} images, as whole numbers [{n}]"
        raise InputError(f"the {what} are {described(y)}; accepted: {accepted}")
    y = constant(y).reshape(-1).to(x.device, torch.int64)
    if n and values and y.min() < 0:
        raise InputError(NEGATIVE.format(y.min()))
    return y


def constant(t: Tensor) -> Tensor:
    """Without graph, and known to autograd, which takes no tensor that was made in inference mode."""
    return t.detach().clone() if t.is_inference() else t.detach()


def logits_of(model, x: Tensor, y: Tensor | None = None) -> Tensor:
    """The model's logits [batch, classes], in single precision at least; with labels y, of the classes that they name.
    The model gets a copy of x, as it may change what it is given."""
    if not callable(model) or isinstance(model, type):
        raise InputError(f"the model is a {type(model).__name__}; accepted: a torch module or a function")
    try:
        z = model(x.clone())
    except RuntimeError as error:
        weights = model.parameters() if isinstance(model, nn.Module) else ()
        weight = next((weight for weight in weights if weight.is_floating_point()), x)
        if (weight.dtype, weight.device) == (x.dtype, x.device):
            raise
        here, there = (f"{tensor.dtype} on {tensor.device}" for tensor in (x, weight))
        raise InputError(f"images are {here}, the model is {there}; accepted: the same for both") from error
    if not holds_floats(z) or z.ndim != 2 or len(z) != len(x) or not z.shape[1]:
        raise InputError(f"the model gives {described(z)}; accepted: one tensor of logits [{len(x)}, classes]")
    if y is not None and y.numel():
        low, high = torch.stack(y.aminmax()).cpu().tolist()
        if low < 0:
            raise InputError(NEGATIVE.format(low))
        if high >= z.shape[1]:
            raise InputError(f"label {high}; accepted: 0 to {z.shape[1] - 1}, as the model has {z.shape[1]} outputs")
    return at_least_single(z)


def gradient_by(x: Tensor, z: Tensor, cotangent: Tensor | None = None, **options) -> Tensor:
    """The gradient by the images x of what was made of a model's logits; `torch.autograd.grad` has the options."""
    if z.requires_grad:
        (gradient,) = torch.autograd.grad(z, x, cotangent, allow_unused=True, **options)
        if gradient is not None:
            return gradient
    raise InputError("the model's logits have no gradient by the images; accepted: a model that torch differentiates")


def holds_floats(value: object) -> bool:
    """Whether it is a dense tensor of floating-point numbers."""
    return torch.is_tensor(value) and value.is_floating_point() and value.layout is torch.strided


def at_least_single(t: Tensor) -> Tensor:
    """Half precision made single."""
    return t.float() if t.dtype in HALVES else t


def described(value: object) -> str:
    """What came, in a few words."""
    if not torch.is_tensor(value):
        return f"a {type(value).__name__}"
    sparse = "" if value.layout is torch.strided else "sparse "
    return f"{sparse}{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


# what attacks and judges ask


def check_count(what: str, value: int, low: int = 1) -> None:
    """`value` has to be a whole number from `low`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise InputError(f"{what} = {value!r}; accepted: a whole number from {low}")


def check_pixels(x: Images) -> None:
    """x have to be images in [0, 1]."""
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise InputError(f"images span {x.min():g} to {x.max():g}; accepted: 0 to 1")


def check_logits(z: Tensor) -> None:
    """z [batch, classes] have to be finite logits."""
    if not z.isfinite().all():
        raise InputError(f"the model gives {z[~z.isfinite()][0]:g}; accepted: finite logits")
    if are_probabilities(z):
        raise InputError(f"the model gives probabilities, such as {z[0, 0]:.3g}; accepted: logits")


def are_probabilities(z: Tensor) -> bool:
    """Whether each row of z [batch, classes] is a distribution: no entry is negative, and their sum is 1."""
    sums = z.detach().double().sum(1)
    return bool(len(z) and z.shape[1] > 1 and z.min() >= 0 and ((sums - 1).abs() < PROBABILITY_TOLERANCE).all())


def number_of(what: str, value: float) -> float:
    """`value` as a float, if it is one number, and no tensor with a number for each image."""
    if torch.is_tensor(value) and value.ndim == 0 and not value.is_complex():
        return float(value.item())
    if isinstance(value, bool) or not isinstance(value, Real):
        said = f"a tensor {[*value.shape]}" if torch.is_tensor(value) else shown(value)
        raise InputError(f"{what} = {said}; accepted: one number for all images")
    return float(value)
