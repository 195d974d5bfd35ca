"""The defences that J-SIGR is compared with, each an `Objective`: one class, and one line in OBJECTIVES.

Batch norm is in the model's own mode in every forward pass, as in the official codes, except under J-SIGR's penalties
(see `autograd`); attacks run in evaluation mode.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.attack_loop import Loss, Settings, ascend, cross_entropy
from jsigr_lib.method.autograd import CheapDoubleBackward, differentiable_twice
from jsigr_lib.method.checks import check_count, described, gradient_by, images_of, labels_of, logits_of, number_of
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.jacobian import evaluation_mode, sphere, squared_norm, vjp, with_graph
from jsigr_lib.method.jsigr import JSIGR, Objective
from jsigr_lib.method.registry import Registry
from jsigr_lib.method.saliency import Selection
from jsigr_lib.method.shapes import Float, Images


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


class Adversarial(Objective):
    """Abstract: what defences share that train on attacked images. PGD training's attack (Madry et al. 2018) has
    steps = 7 and step_size = eps / 4, fast training's (Wong et al. 2020) steps = 1 and step_size = 1.25 eps.

    `warm_up` is the share of the training in which eps and step_size grow linearly from 0, as `progress` says: from the
    start, a large budget keeps a small network at chance for good (eps .15 on MNIST).
    """

    warm_up: float = 0.0

    def __init__(self, eps: float, steps: int, step_size: float | None):
        if step_size is None:
            step_size = number_of("eps", eps) * (1.25 if steps == 1 else 0.25)
        self.attack = Settings(eps=eps, steps=steps, step_size=step_size, random_start=True)

    def attacked(
        self, model: nn.Module, x: Images, y: Tensor, generator: torch.Generator | None, loss: Loss = cross_entropy
    ) -> Images:
        """x as the attack leaves them, which raises `loss`."""
        share, full = min(self.progress / self.warm_up, 1) if self.warm_up else 1, self.attack
        settings = replace(full, eps=share * full.eps, step_size=share * full.step_size)
        return ascend(model, x, y, settings, loss=loss, generator=generator)


class AdversarialTraining(Adversarial):
    """Another objective's loss on attacked images, mean_i l(x_adv_i) + ...: cross-entropy alone, or with J-SIGR's
    penalty ("can they be stacked?")."""

    def __init__(
        self,
        eps: float,
        *,
        steps: int = 7,
        step_size: float | None = None,
        warm_up: float = 0.0,
        objective: JSIGR | None = None,
    ):
        super().__init__(eps, steps, step_size)
        between("warm_up", warm_up, 0, 1)
        self.warm_up = warm_up
        self.objective = objective or JSIGR(0.0, 0.0)

    @property
    def guide(self) -> str | None:
        """That of the other objective, where its penalty selects places."""
        return self.objective.guide if self.objective.lambda_s else None

    def kinds_of_step(self) -> list[tuple[float, Objective]]:
        """Those of the other objective, each on attacked images."""
        return [(how_often, self._with(kind)) for how_often, kind in self.objective.kinds_of_step()]

    def _with(self, objective: JSIGR) -> "AdversarialTraining":
        """The same attack under another objective."""
        if objective is self.objective:
            return self
        other = copy(self)
        other.objective = objective
        return other

    @with_graph
    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Tensor,
        guide: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        x, y = images_of(x), labels_of(y, x)
        x_adv = self.attacked(model, x, y, generator)
        loss = self.objective(model, x_adv, y, guide, generator=generator)
        self.terms = self.objective.terms
        return loss


class TRADES(Adversarial):
    """Zhang et al. 2019 (yaodongyu/TRADES): clean accuracy, and the same answer around each image,

        L = mean_i l(x_i) + beta mean_i KL(p(x_i) || p(x_adv_i)),  x_adv raising that divergence.

    The attack starts at a random point of the ball, as in PGD training; theirs starts beside the image.
    """

    def __init__(self, eps: float, *, beta: float = 6.0, steps: int = 7, step_size: float | None = None):
        super().__init__(eps, steps, step_size)
        between("beta", beta, 0, 1e6)
        self.beta = beta

    @with_graph
    def __call__(
        self, model: nn.Module, x: Images, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x, y = images_of(x), labels_of(y, x)
        with evaluation_mode(model), torch.no_grad():
            z_fixed = logits_of(model, x, y)
        x_adv = self.attacked(model, x, y, generator, loss=lambda z_adv, _: divergence(z_fixed, z_adv))
        z = logits_of(model, x)
        loss, apart = F.cross_entropy(z, y), divergence(z, logits_of(model, x_adv)).mean()
        self.terms = {"cross_entropy": loss.detach(), "divergence": apart.detach()}
        return loss + self.beta * apart


def divergence(z: Tensor, z_adv: Tensor) -> Float[Tensor, " batch"]:
    """KL(softmax(z) || softmax(z_adv)) per image; in logarithms, as the gradient of p log p by p is NaN at 0."""
    return F.kl_div(z_adv.log_softmax(1), z.log_softmax(1), reduction="none", log_target=True).sum(1)


class OTJR(Adversarial):
    """Le, Tariq, Woo 2024 (Leminhbinh0209/OTJR): adversarial training, the clean and the attacked logits drawn together
    as point clouds, and the Jacobian held down in the direction v in which they have to move,

        L = mean_i l(x_adv_i) + transport SW(z_adv, z) + jacobian K mean_i ||J_i^T v_i||_2^2,

    SW the squared sliced Wasserstein distance of the batch over `slices` directions theta_k, delta_ik how far sample i
    moves along theta_k, v_i = sum_k delta_ik theta_k, of length 1 and without gradient.
    """

    def __init__(
        self,
        eps: float,
        *,
        transport: float = 64.0,
        jacobian: float = 0.005,
        slices: int = 32,
        steps: int = 7,
        step_size: float | None = None,
    ):
        super().__init__(eps, steps, step_size)
        between("transport", transport, 0, 1e6)
        between("jacobian", jacobian, 0, 1e6)
        check_count("slices", slices)
        self.transport, self.jacobian, self.slices = transport, jacobian, slices

    @with_graph
    def __call__(
        self, model: nn.Module, x: Images, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x, y = images_of(x), labels_of(y, x)
        x_adv = self.attacked(model, x, y, generator)
        x, layers = x.requires_grad_(), CheapDoubleBackward()
        with differentiable_twice(), layers:
            z = logits_of(model, x, y)
        z_adv = logits_of(model, x_adv)
        theta = sphere(self.slices, z.shape[1], like=z, generator=generator)
        delta = moves(z_adv @ theta.T, z @ theta.T)
        v = F.normalize((delta @ theta).detach())
        loss, apart = F.cross_entropy(z_adv, y), delta.square().mean()
        with layers.inputs_only():
            norm = z.shape[1] * squared_norm(vjp(z, x, v)).mean()
        self.terms = {"cross_entropy": loss.detach(), "transport": apart.detach(), "jacobian": norm.detach()}
        return loss + self.transport * apart + self.jacobian * norm


def moves(source: Tensor, target: Tensor) -> Tensor:
    """How far each sample of `source` [batch, slices] moves, slice by slice, when the batch is transported to `target`
    optimally: the k-th smallest goes to the k-th smallest."""
    rank = source.argsort(0).argsort(0)
    return target.sort(0).values.gather(0, rank) - source


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
