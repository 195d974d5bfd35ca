"""The penalties that J-SIGR is compared with, and the registry of all defences: each is an `Objective`, one class, and
one line in OBJECTIVES. Those that train on attacked images are in `adversarial_training`.

Batch norm is in the model's own mode in every forward pass, as in the official codes, except under J-SIGR's penalties
(see `autograd`); attacks run in evaluation mode.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.adversarial_training import OTJR, TRADES, AdversarialTraining
from jsigr_lib.method.attack_loop import cross_entropy
from jsigr_lib.method.autograd import differentiable_twice
from jsigr_lib.method.checks import described, gradient_by, images_of, labels_of, logits_of
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.jacobian import squared_norm, vjp, with_graph
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.objective import Objective
from jsigr_lib.method.registry import Registry
from jsigr_lib.method.saliency import Selection
from jsigr_lib.method.shapes import Images


class ScaleableInputGradient(Objective):
    """Finlay & Oberman 2021 (cfinlay/tulip): the squared norm of the input gradient by a finite difference,

        L = mean_i l(x_i) + lambda mean_i ((l(x_i + h d_i) - l(x_i)) / h)^2,

    d = g / ||g||_2 for norm = "l2"; d = sign(g) / sqrt(N) for "l1", dual to L-infinity attacks, where the difference
    tends to ||g||_1 / sqrt(N). d is a constant, so no double backward pass is needed. tulip's lambda is twice this one.
    """

    def __init__(self, lambda_s: float, *, norm: str = "l2", h: float = 0.01):
        between("lambda_s", lambda_s, 0, 1e6)
        one_of("norm", norm, ("l2", "l1"))
        between("h", h, 1e-6, 1)
        self.lambda_s, self.norm, self.h = lambda_s, norm, h

    @with_graph
    def __call__(
        self, model: nn.Module, x: Images, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x, y = images_of(x), labels_of(y, x)
        x.requires_grad_()
        with differentiable_twice():
            losses = cross_entropy(logits_of(model, x, y), y)
        g = gradient_by(x, losses.sum(), retain_graph=True)
        # normalize leaves d short, and not huge, where the square of g underflows
        d = F.normalize(g.flatten(1)).view_as(g) if self.norm == "l2" else g.sign() / g[0].numel() ** 0.5
        slopes = (cross_entropy(logits_of(model, x.detach() + self.h * d), y) - losses) / self.h
        penalty = slopes.square().mean()
        self.terms = {"cross_entropy": losses.detach().mean(), "selective": penalty.detach()}
        return losses.mean() + self.lambda_s * penalty


class InterpretationRegularisation(Objective):
    """Noack et al. 2021 (a1noack/interp_regularization): the gradient of the right class's logit, d_i = dz_y/dx, is
    small and points where a fixed network's does,

        L = mean_i l_i + lambda_cs mean_i (1 - cos(d_i, T_i)) + lambda_gm sqrt(mean_i ||d_i||_2^2),

    T_i its target: the fixed network's gradient, its entries within one standard deviation of their mean set to 0.
    Theirs is the norm of the whole batch: their lambda_gm is this one over the root of the batch size.
    """

    guide = "gradient"

    def __init__(self, lambda_cs: float, lambda_gm: float):
        between("lambda_cs", lambda_cs, 0, 1e6)
        between("lambda_gm", lambda_gm, 0, 1e6)
        self.lambda_cs, self.lambda_gm = lambda_cs, lambda_gm

    @with_graph
    def __call__(
        self, model: nn.Module, x: Images, y: Tensor, guide: Images, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x, y = images_of(x), labels_of(y, x)
        if not torch.is_tensor(guide) or guide.shape != x.shape:
            raise InputError(f"the guide is {described(guide)}; accepted: gradients {list(x.shape)}")
        x.requires_grad_()
        with differentiable_twice():
            z = logits_of(model, x, y)
        d = vjp(z, x, F.one_hot(y, z.shape[1]).to(z))
        dissimilarity = 1 - F.cosine_similarity(d.flatten(1), guide.flatten(1)).mean()
        magnitude = squared_norm(d).mean().clamp_min(torch.finfo(d.dtype).tiny).sqrt()
        loss = F.cross_entropy(z, y)
        parts = {"cross_entropy": loss, "dissimilarity": dissimilarity, "magnitude": magnitude}
        self.terms = {name: part.detach() for name, part in parts.items()}
        return loss + self.lambda_cs * dissimilarity + self.lambda_gm * magnitude


def target_gradient(d: Images) -> Images:
    """T of a gradient: each image's entries within one standard deviation of their mean set to 0."""
    mean, deviation = (stat(d, dim=(1, 2, 3), keepdim=True) for stat in (torch.mean, torch.std))
    return d * ((d - mean).abs() > deviation)


def regulariser(**options) -> JSIGR:
    """JSIGR from flat options: those that are fields of Selection describe its self targets."""
    selection = {name: options.pop(name) for name in Selection.__dataclass_fields__ if name in options}
    return JSIGR(selection=Selection(**selection), **options)


def input_gradient(*, lambda_s: float, **options) -> JSIGR:
    """Ross & Doshi-Velez 2018: lambda_s mean_i ||g_i||^2, no place spared; options of the selection have no use."""
    options = {name: value for name, value in options.items() if name not in Selection.__dataclass_fields__}
    return JSIGR(0.0, lambda_s, selection=None, **options)


def adversarial(
    *, eps: float, steps: int = 7, step_size: float | None = None, warm_up: float = 0.0, **penalty
) -> AdversarialTraining:
    """Adversarial training, with J-SIGR's penalty if options of it are given."""
    objective = regulariser(**penalty) if penalty else None
    return AdversarialTraining(eps, steps=steps, step_size=step_size, warm_up=warm_up, objective=objective)


OBJECTIVES: dict[str, Callable[..., Objective]] = Registry(
    {
        "jsigr": regulariser,
        "input-gradient": input_gradient,
        "scaleable-input-gradient": ScaleableInputGradient,
        "interpretation": InterpretationRegularisation,
        "adversarial": adversarial,
        "trades": TRADES,
        "otjr": OTJR,
    }
)
"""A name in a profile -> what makes the objective from the profile's options."""
PENALISED = ("jsigr", "input-gradient", "adversarial")  # those that a profile's [penalty] describes


def build(name: str, **options) -> Objective:
    """The objective called `name`. Raises InputError for an unknown name, option or value, and if what is registered
    under the name makes something else than an objective."""
    one_of("objective", name, OBJECTIVES)
    try:
        built = OBJECTIVES[name](**options)
    except TypeError as error:
        raise InputError(f"objective {name!r}: {error}") from None
    if not isinstance(built, Objective):
        raise InputError(f"objective {name!r} is a {type(built).__name__}; accepted: a class derived from Objective")
    return built
