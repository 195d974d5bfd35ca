"""Training on attacked images: PGD training, fast training, TRADES and OTJR, all with one attack. It runs in evaluation
mode; batch norm is in the model's own mode in every other pass, as in the official codes."""

from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.attack_loop import Loss, Settings, ascend, cross_entropy
from jsigr_lib.method.autograd import CheapDoubleBackward, differentiable_twice
from jsigr_lib.method.checks import check_count, images_of, labels_of, logits_of, number_of
from jsigr_lib.method.errors import between, one_of
from jsigr_lib.method.jacobian import evaluation_mode, sphere, squared_norm, vjp, with_graph
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.objective import Objective
from jsigr_lib.method.shapes import Float, Images


class Adversarial(Objective):
    """Abstract: what defences share that train on attacked images. PGD training's attack (Madry et al. 2018) has
    steps = 7 and step_size = eps / 4, fast training's (Wong et al. 2020) steps = 1 and step_size = 1.25 eps.

    `warm_up` is the share of the training in which eps and step_size grow linearly from 0, as `progress` says: from the
    start, a large budget keeps a small network at chance for good (eps .15 on MNIST).
    """

    def __init__(self, eps: float, steps: int, step_size: float | None, warm_up: float):
        if step_size is None:
            step_size = number_of("eps", eps) * (1.25 if steps == 1 else 0.25)
        between("warm_up", warm_up, 0, 1)
        self.attack = Settings(eps=eps, steps=steps, step_size=step_size, random_start=True)
        self.warm_up = warm_up

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
        super().__init__(eps, steps, step_size, warm_up)
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

    def __init__(
        self, eps: float, *, beta: float = 6.0, steps: int = 7, step_size: float | None = None, warm_up: float = 0.0
    ):
        super().__init__(eps, steps, step_size, warm_up)
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

    Both ideas can be replaced by plainer ones, to see what they are for: with `align`, SW by mean_i KL(p(x_i) ||
    p(x_adv_i)) ("kl", as in TRADES) or mean_i ||z_adv_i - z_i||^2 ("pairs"); with `along`, v by a random direction
    ("random") or by that from an image's attacked logits to its clean ones ("pairs").
    """

    def __init__(
        self,
        eps: float,
        *,
        transport: float = 64.0,
        jacobian: float = 0.005,
        slices: int = 32,
        align: str = "sliced",
        along: str = "transport",
        steps: int = 7,
        step_size: float | None = None,
        warm_up: float = 0.0,
    ):
        super().__init__(eps, steps, step_size, warm_up)
        between("transport", transport, 0, 1e6)
        between("jacobian", jacobian, 0, 1e6)
        check_count("slices", slices)
        one_of("align", align, ("sliced", "kl", "pairs"))
        one_of("along", along, ("transport", "random", "pairs"))
        self.transport, self.jacobian, self.slices = transport, jacobian, slices
        self.align, self.along = align, along

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
        v = self._direction(z, z_adv, delta @ theta, generator)
        loss, apart = F.cross_entropy(z_adv, y), self._apart(z, z_adv, delta)
        with layers.inputs_only():
            norm = z.shape[1] * squared_norm(vjp(z, x, v)).mean()
        self.terms = {"cross_entropy": loss.detach(), "transport": apart.detach(), "jacobian": norm.detach()}
        return loss + self.transport * apart + self.jacobian * norm

    def _apart(self, z: Tensor, z_adv: Tensor, delta: Tensor) -> Tensor:
        """How far attacked logits are from clean ones, both [batch, classes]; `delta` [batch, slices] are the moves."""
        if self.align == "kl":
            return divergence(z, z_adv).mean()
        return delta.square().mean() if self.align == "sliced" else squared_norm(z_adv - z).mean()

    def _direction(self, z: Tensor, z_adv: Tensor, moved: Tensor, generator: torch.Generator | None) -> Tensor:
        """v [batch, classes], without gradient."""
        if self.along == "random":
            return sphere(*z.shape, like=z, generator=generator)
        return F.normalize((moved if self.along == "transport" else z - z_adv).detach())


def moves(source: Tensor, target: Tensor) -> Tensor:
    """How far each sample of `source` [batch, slices] moves, slice by slice, when the batch is transported to `target`
    optimally: the k-th smallest goes to the k-th smallest."""
    rank = source.argsort(0).argsort(0)
    return target.sort(0).values.gather(0, rank) - source
