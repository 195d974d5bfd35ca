"""J-SIGR, with its special cases one class:

    L = mean_i l_i + lambda_J mean_i ||J_i||_F^2 + lambda_S mean_i ||(1 - m_i) * g_i||^2

lambda_J = 0 is SIGR, lambda_S = 0 is Jacobian regularisation (Hoffman et al. 2019), lambda_J = 0 with an empty
selection, m = 0, is input-gradient regularisation (Ross & Doshi-Velez 2018), and both zero is standard training.
An objective is called as objective(model, x, y, mask=None, generator=None) and returns the loss to differentiate; the
other defences, and the registry of them all, are in `defences`.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.batch_norm import BatchStatistics, trains_batch_norm
from jsigr_lib.double_backward import CheapDoubleBackward
from jsigr_lib.errors import InputError, between, one_of
from jsigr_lib.jacobian import Images, evaluation_mode, jacobian_norms, sphere, squared_norm, vjp
from jsigr_lib.saliency import Selection, linearised_saliency, selection_mask

SMALLEST_SHARE = 0.5  # of a batch that a penalised step takes


class JSIGR:
    """Jacobian norm with selective input-gradient regularisation.

    Args:
        lambda_j, lambda_s: weights of the Jacobian and of the selective input-gradient term (pixel units, x in
            [0, 1]; means over samples of squared norms, without 1/2).
        estimator: how the two terms are computed, with the same value in expectation:
            "exact"           every class's gradient for R_J, one more for R_S;
            "double-backprop" one random projection for R_J, one gradient for R_S;
            "single-pass"     a coin per sample decides which of the two its one gradient serves.
        fraction: share of the images, drawn at random, that carries the penalty. Below SMALLEST_SHARE it is that share
            of the batch on some of the steps, as few images cost nearly as much as many.
        norm: "l2", or "l1": (||.||_1)^2 / N in place of ||.||_2^2, dual to L-infinity attacks.
        coin: chance that the single pass serves R_J, when both weights are positive.
        selection: how self targets are made from the gradient; None keeps no place free, m = 0.

    Calling it with `mask` [batch, 1, H, W] uses that selection (a teacher's) instead of self targets. `terms` then
    holds the parts of the last loss: cross_entropy, and unbiased estimates of jacobian (R_J) and selective (R_S), both
    unweighted and detached; a step without the penalty estimates them as 0.
    """

    guide = "selection"  # what it takes from a teacher, if it has one

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
        self.share = max(fraction, SMALLEST_SHARE)  # of a batch, on a step that carries the penalty
        self.chance = 0.0 if lambda_j == lambda_s == 0 else fraction / self.share  # of such a step
        self.terms: dict[str, Tensor] = {}

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        x = x.detach()
        if self.chance == 0 or (self.chance < 1 and _uniform(1, generator) >= self.chance):
            loss = F.cross_entropy(model(x), y)
            weights = {"jacobian": self.lambda_j, "selective": self.lambda_s}
            zeros = {name: torch.zeros_like(loss) for name, weight in weights.items() if weight > 0}
            self.terms = {"cross_entropy": loss.detach(), **zeros}
            return loss
        chosen = self._draw_share(len(x), generator)
        mask = None if mask is None else mask[chosen]
        layers = CheapDoubleBackward() if self.estimator == "single-pass" else nullcontext()
        loss, x_share, z = self._forward(model, x, y, chosen, layers)
        self.terms = {"cross_entropy": loss.detach()}
        if self.estimator != "single-pass":
            return loss + self._double_backprop(z, x_share, y[chosen], mask, generator) / self.chance
        with layers.inputs_only():
            return loss + self._single_pass(z, x_share, y[chosen], mask, generator) / self.chance

    def _draw_share(self, batch: int, generator: torch.Generator | None) -> Tensor:
        """Which samples carry the penalty. Their mean is an unbiased estimate of the batch's."""
        size = max(1, round(self.share * batch))
        if size == batch:
            return torch.arange(batch, device="cpu")
        return torch.randperm(batch, generator=generator, device=_device_of(generator))[:size].cpu()

    def _forward(self, model: nn.Module, x: Images, y: Tensor, chosen: Tensor, layers) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cross-entropy of the batch; the chosen images and, in one graph with them by `layers`, their logits."""
        x_share = x[chosen].requires_grad_()
        if trains_batch_norm(model):  # which mixes samples: the penalty needs a forward pass of its own
            statistics = BatchStatistics()
            with statistics:
                loss = F.cross_entropy(model(x), y)
            with evaluation_mode(model), layers, statistics:
                return loss, x_share, model(x_share)
        with layers:
            z = model(x_share)
        others = torch.ones(len(x), dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, False)
        total = F.cross_entropy(z, y[chosen], reduction="sum")
        if others.any():
            total = total + F.cross_entropy(model(x[others]), y[others], reduction="sum")
        return total / len(x), x_share, z

    def _double_backprop(self, z: Tensor, x: Images, y: Tensor, mask: Tensor | None, generator) -> Tensor:
        """lambda_J R_J + lambda_S R_S with a gradient for each."""
        penalty = z.new_zeros(())
        if self.lambda_j > 0:
            if self.estimator == "exact":
                r_j = jacobian_norms(z, x, projections="exact").mean()
            else:
                v = sphere(*z.shape, like=z, generator=generator)
                r_j = z.shape[1] * self._size(vjp(z, x, v)).mean()
            penalty = penalty + self.lambda_j * r_j
            self.terms["jacobian"] = r_j.detach() / self.chance
        if self.lambda_s > 0:
            g = vjp(z, x, residual(z, y))
            r_s = self._size(self._unselected(x, g, mask) * g).mean()
            penalty = penalty + self.lambda_s * r_s
            self.terms["selective"] = r_s.detach() / self.chance
        return penalty

    def _single_pass(self, z: Tensor, x: Images, y: Tensor, mask: Tensor | None, generator) -> Tensor:
        """Both terms from one vector-Jacobian product, as both are squared norms of J^T c:

        heads (chance pi): c = sqrt(lambda_J K / pi) v,             weight 1;
        tails:             c = sqrt(lambda_S / (1 - pi)) (p - y),   weight 1 - m.
        """
        batch, classes = z.shape
        heads = (_uniform(batch, generator) < self.coin).to(z.device)[:, None]
        v = sphere(batch, classes, like=z, generator=generator)
        jacobian_weight = self.lambda_j * classes / max(self.coin, 1e-12)
        selective_weight = self.lambda_s / max(1 - self.coin, 1e-12)
        cotangent = torch.where(heads, jacobian_weight**0.5 * v, selective_weight**0.5 * residual(z, y))
        product = vjp(z, x, cotangent)
        if self.lambda_s > 0:
            weight = torch.where(heads[..., None, None], 1.0, self._unselected(x, product, mask))
            product = weight * product
        penalties = self._size(product)
        self._log_single_pass(penalties.detach(), heads[:, 0])
        return penalties.mean()

    def _log_single_pass(self, penalties: Tensor, heads: Tensor) -> None:
        """Unweighted estimates of R_J and R_S, each re-weighted for its side of the coin."""
        if self.lambda_j > 0:
            self.terms["jacobian"] = (penalties * heads).mean() / (self.lambda_j * self.chance)
        if self.lambda_s > 0:
            self.terms["selective"] = (penalties * ~heads).mean() / (self.lambda_s * self.chance)

    def _unselected(self, x: Images, gradient: Images, mask: Tensor | None) -> Tensor:
        """1 - m. Self targets: m from the linearised perturbation map of the loss, which the gradient that the
        penalty needs anyway (up to a factor, which no selection depends on) gives without another pass."""
        if mask is not None:
            return 1 - mask
        if self.selection is None:
            return torch.ones_like(x[:, :1])
        with torch.no_grad():
            saliency = linearised_saliency(x, gradient, **self.selection.perturbation)
            return 1 - selection_mask(saliency, share=self.selection.share, kind=self.selection.kind)

    def _size(self, g: Images) -> Tensor:
        """||g_i||_2^2, or its L1 counterpart (||g_i||_1)^2 / N (Finlay & Oberman 2021: the dual norm)."""
        return squared_norm(g) if self.norm == "l2" else g.flatten(1).norm(1, dim=1).square() / g[0].numel()


def _uniform(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(n, generator=generator, device=_device_of(generator))


def _device_of(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator else torch.device("cpu")


def residual(z: Tensor, y: Tensor) -> Tensor:
    """p - onehot(y) = dl/dz, in the graph: its own derivative is part of R_S's gradient."""
    return z.softmax(1) - F.one_hot(y, z.shape[1])
