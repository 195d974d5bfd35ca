"""J-SIGR, with its special cases one class.

    L = mean_i l_i + lambda_J mean_i ||J_i||_F^2 + lambda_S mean_i ||(1 - m_i) * g_i||^2

lambda_J = 0 is SIGR, lambda_S = 0 is Jacobian regularisation (Hoffman et al. 2019), lambda_J = 0 with an empty
selection, m = 0, is input-gradient regularisation (Ross & Doshi-Velez 2018), and both zero is standard training.
The other defences, and the registry of them all, are in `defences`.

Five fractions occur here, and each has one name:

    fraction            q: of the images of a whole training, those that carry the penalty;
    penalised_steps     of the training steps, those with a penalised image in them;
    penalised_images    of the batch of such a step, the images that carry the penalty, so that
                        fraction = penalised_steps * penalised_images;
    coin                pi: of the penalised images, those whose one gradient serves R_J and not R_S (single pass);
    share               of the pixels of an image, those that a selection keeps free (`saliency.selection_mask`).
"""

from contextlib import nullcontext
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.autograd import CheapDoubleBackward, differentiable_twice
from jsigr_lib.method.batch_norm import BatchStatistics, logits_apart
from jsigr_lib.method.checks import at_least_single, constant, described, gradient_by, images_of, labels_of, logits_of
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.jacobian import jacobian_norms, sphere, squared_norm, vjp, with_graph
from jsigr_lib.method.objective import Objective
from jsigr_lib.method.saliency import Selection, linearised_saliency, mask_of
from jsigr_lib.method.shapes import Float, Images, Maps

FEWEST_PENALISED = 0.5  # of a batch: fewer images cost nearly as much, so that fewer steps are penalised instead


class JSIGR(Objective):
    """Jacobian norm with selective input-gradient regularisation.

    Args:
        lambda_j, lambda_s: weights of the Jacobian and of the selective input-gradient term (pixel units, x in
            [0, 1]; means over samples of squared norms, without 1/2).
        estimator: how the two terms are computed, with the same value in expectation:
            "exact"           every class's gradient for R_J, one more for R_S;
            "double-backprop" one random projection for R_J, one gradient for R_S;
            "single-pass"     a coin per sample decides which of the two its one gradient serves.
        fraction: share of the images, drawn at random, that carries the penalty. Below FEWEST_PENALISED it is that part
            of the batch on some of the steps, as few images cost nearly as much as many.
        norm: "l2", or "l1": (||.||_1)^2 / N in place of ||.||_2^2, dual to L-infinity attacks.
        coin: chance that the single pass serves R_J, when both weights are positive.
        selection: how self targets are made from the gradient; None keeps no place free, m = 0.

    Calling it with `mask` [batch, 1, H, W] uses that selection (a teacher's) instead of self targets. `terms` then
    holds the parts of the last loss: cross_entropy, and unbiased estimates of jacobian (R_J) and selective (R_S), both
    unweighted and detached; a step without the penalty estimates them as 0. Without self targets and mask, x may
    have any shape [batch, ...].

    The penalty sees the model in its own mode: dropout is on in training mode, with batch norm and without. With batch
    norm in training mode the penalty has a pass of its own, with the statistics of the batch and new draws of dropout.

    Raises InputError for weights, fractions or names out of range, and for the exact estimator of the L1 form of R_J.
    """

    guide = "selection"

    def __init__(
        self,
        lambda_j: float,
        lambda_s: float,
        *,
        estimator: str = "single-pass",
        fraction: float = 0.1,
        norm: str = "l2",
        coin: float = 0.1,
        selection: Selection | None = Selection(),  # noqa: B008 - frozen
    ):
        between("lambda_j", lambda_j, 0, 1e6)
        between("lambda_s", lambda_s, 0, 1e6)
        one_of("estimator", estimator, ("exact", "double-backprop", "single-pass"))
        one_of("norm", norm, ("l2", "l1"))
        between("fraction", fraction, 1e-6, 1)
        between("coin", coin, 1e-6, 1 - 1e-6)
        if norm == "l1" and estimator == "exact" and lambda_j > 0:
            raise InputError(
                "estimator = 'exact' with norm = 'l1' and lambda_j > 0; accepted: 'double-backprop' or 'single-pass', "
                "as the L1 form of R_J is defined by its projections"
            )
        self.lambda_j, self.lambda_s = lambda_j, lambda_s
        self.estimator, self.fraction, self.norm, self.selection = estimator, fraction, norm, selection
        self.coin = float(lambda_j > 0) if 0 in (lambda_j, lambda_s) else coin
        self.checked = False
        self.penalised_images = max(fraction, FEWEST_PENALISED)
        self.penalised_steps = 0.0 if lambda_j == lambda_s == 0 else fraction / self.penalised_images

    def kinds_of_step(self) -> list[tuple[float, Objective]]:
        """Penalised ones and, where there are others, standard ones."""
        if self.penalised_steps in (0, 1):
            return [(1.0, self)]
        return [(self.penalised_steps, self.always()), (1 - self.penalised_steps, JSIGR(0.0, 0.0))]

    def always(self) -> "JSIGR":
        """The same with the penalty on every step, of as many images as now on some."""
        other = copy(self)
        other.fraction, other.penalised_steps = self.penalised_images, 1.0
        return other

    @with_graph
    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Tensor,
        mask: Maps | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        x, y = images_of(x), labels_of(y, x, values=False)
        mask = self._checked(mask, x)
        if not self._penalises(generator):
            return self._standard_step(model, x, y)
        chosen, others = self._draw_images(len(x), generator, x.device)
        x_chosen, mask = x[chosen].requires_grad_(), None if mask is None else mask[chosen]
        if self.estimator == "single-pass":
            layers = CheapDoubleBackward(x_chosen)
            loss, z = self._forward(model, x, y, x_chosen, chosen, others, layers)
            with layers.inputs_only():
                penalty, parts = self._single_pass(z, x_chosen, y[chosen], mask, generator)
        else:
            loss, z = self._forward(model, x, y, x_chosen, chosen, others, nullcontext())
            penalty, parts = self._double_backprop(z, x_chosen, y[chosen], mask, generator)
        self.terms = {"cross_entropy": loss.detach(), **parts}
        return loss + penalty / self.penalised_steps

    def _checked(self, mask: Maps | None, x: Images) -> Maps | None:
        """The mask beside the images: on every step, as an error that only some steps show is hard to find."""
        selects = self.lambda_s > 0 and (mask is not None or self.selection is not None)
        if selects and x.ndim != 4:
            raise InputError(
                f"the images are {described(x)}; accepted: [batch, channels, height, width], or selection=None"
            )
        if mask is None:
            return None
        if not torch.is_tensor(mask) or mask.is_complex() or mask.shape not in (x[:, :1].shape, x.shape):
            raise InputError(f"the mask is {described(mask)}; accepted: {list(x[:, :1].shape)}")
        return constant(mask).to(x)

    def _penalises(self, generator: torch.Generator | None) -> bool:
        """Whether this step carries the penalty: drawn, unless all steps do or none does."""
        if self.penalised_steps in (0, 1):
            return self.penalised_steps == 1
        return bool(_uniform(1, generator) < self.penalised_steps)

    def _standard_step(self, model: nn.Module, x: Images, y: Tensor) -> Tensor:
        if self.penalised_steps and not self.checked:  # a model that no penalty can see is refused at the first step
            x = x.clone().requires_grad_()
            with differentiable_twice():
                z = logits_of(model, x, y)
                gradient_by(x, z.sum(), retain_graph=True)
            self.checked = True
        else:
            z = logits_of(model, x, y)
        loss = F.cross_entropy(z, y)
        weights = {"jacobian": self.lambda_j, "selective": self.lambda_s}
        zeros = {name: torch.zeros_like(loss) for name, weight in weights.items() if weight > 0}
        self.terms = {"cross_entropy": loss.detach(), **zeros}
        return loss

    def _draw_images(
        self, batch: int, generator: torch.Generator | None, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """The places in a batch of the images that carry the penalty, and of the others, in their order, int64. The
        mean of the former is without bias that of the batch."""
        size = max(1, round(self.penalised_images * batch))
        if size == batch:
            return torch.arange(batch, device=device), torch.arange(0, device=device)
        drawn = torch.randperm(batch, generator=generator, device=_device_of(generator))
        places = torch.cat([drawn[:size], drawn[size:].sort().values]).to(device)  # in one copy
        return places[:size], places[size:]

    def _forward(
        self, model: nn.Module, x: Images, y: Tensor, x_chosen: Images, chosen: Tensor, others: Tensor, layers
    ) -> tuple[Tensor, Tensor]:
        """The batch's mean cross-entropy; and the logits of the chosen images, in one graph with them by `layers`."""
        with differentiable_twice():
            z = logits_apart(model, x_chosen, y, layers)
            if z is None:  # batch norm mixes samples: the penalty needs a forward pass of its own
                statistics = BatchStatistics()
                with statistics:
                    loss = F.cross_entropy(logits_of(model, x, y), y)
                with layers, statistics.carried(model):
                    return loss, logits_of(model, x_chosen)
        total = F.cross_entropy(z, y[chosen], reduction="sum")
        if len(others):
            total = total + F.cross_entropy(logits_of(model, x[others]), y[others], reduction="sum")
        return total / len(x), z

    def _double_backprop(
        self, z: Tensor, x: Images, y: Tensor, mask: Maps | None, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """lambda_J R_J + lambda_S R_S with a gradient for each; and R_J and R_S, estimated for all steps."""
        penalty, parts = z.new_zeros(()), {}
        if self.lambda_j > 0:
            if self.estimator == "exact":
                r_j = jacobian_norms(z, x, projections="exact").mean()
            else:
                v = sphere(*z.shape, like=z, generator=generator)
                r_j = z.shape[1] * self._size(vjp(z, x, v)).mean()
            penalty = penalty + self.lambda_j * r_j
            parts["jacobian"] = r_j.detach() / self.penalised_steps
        if self.lambda_s > 0:
            g = vjp(z, x, residual(z, y))
            r_s = self._size(self._unselected(x, g, mask) * g).mean()
            penalty = penalty + self.lambda_s * r_s
            parts["selective"] = r_s.detach() / self.penalised_steps
        return penalty, parts

    def _single_pass(
        self, z: Tensor, x: Images, y: Tensor, mask: Maps | None, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same from one vector-Jacobian product, as both terms are squared norms of J^T c:

        heads (chance pi, the coin): c = sqrt(lambda_J K / pi) v,             weight 1;
        tails:                       c = sqrt(lambda_S / (1 - pi)) (p - y),   weight 1 - m.
        """
        batch, classes = z.shape
        heads = _uniform(batch, generator).to(z.device) < self.coin
        v = sphere(batch, classes, like=z, generator=generator)
        jacobian_weight = self.lambda_j * classes / max(self.coin, 1e-12)
        selective_weight = self.lambda_s / max(1 - self.coin, 1e-12)
        cotangent = torch.where(heads[:, None], jacobian_weight**0.5 * v, selective_weight**0.5 * residual(z, y))
        product = vjp(z, x, cotangent)
        if self.lambda_s > 0:
            weight = torch.where(heads.view(-1, *[1] * (x.ndim - 1)), 1.0, self._unselected(x, product, mask))
            product = weight * product
        penalties = self._size(product)
        return penalties.mean(), self._parts(penalties.detach(), heads)

    def _parts(self, penalties: Tensor, heads: Tensor) -> dict[str, Tensor]:
        """R_J and R_S from one squared norm per image, each estimated from its own side of the coin."""
        parts = {}
        if self.lambda_j > 0:
            parts["jacobian"] = (penalties * heads).mean() / (self.lambda_j * self.penalised_steps)
        if self.lambda_s > 0:
            parts["selective"] = (penalties * ~heads).mean() / (self.lambda_s * self.penalised_steps)
        return parts

    def _unselected(self, x: Images, gradient: Images, mask: Maps | None) -> Maps:
        """1 - m. A mask that is given is m. Self targets take m from the linearised perturbation map of the loss: the
        gradient that the penalty needs anyway gives it without another pass, up to a factor, on which no selection
        depends."""
        if mask is not None:
            return 1 - mask
        if self.selection is None:
            return torch.ones_like(x[:, :1])
        with torch.no_grad():
            saliency = linearised_saliency(at_least_single(x), at_least_single(gradient), **self.selection.perturbation)
            return 1 - mask_of(saliency, self.selection.share, self.selection.kind)

    def _size(self, g: Images) -> Float[Tensor, " batch"]:
        """||g_i||_2^2, or its L1 counterpart (||g_i||_1)^2 / N (Finlay & Oberman 2021: the dual norm)."""
        return (
            squared_norm(g)
            if self.norm == "l2"
            else at_least_single(g).flatten(1).norm(1, dim=1).square() / g[0].numel()
        )


def _uniform(n: int, generator: torch.Generator | None) -> Tensor:
    """n numbers in [0, 1), drawn where the generator is."""
    return torch.rand(n, generator=generator, device=_device_of(generator))


def _device_of(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator else torch.device("cpu")


def residual(z: Tensor, y: Tensor) -> Tensor:
    """p - onehot(y) = dl/dz, in the graph: its own derivative is part of R_S's gradient."""
    return z.softmax(1) - F.one_hot(y, z.shape[1])
