"""Maps of what a policy looks at, tile by tile: two scores of a perturbation, and the gradient's mass. All are of the
action that the policy takes, a = argmax z, and hold one value per place of a grid x grid raster [batch, grid^2]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.jacobian import evaluation_mode
from jsigr_lib.method.saliency import blur, bumps
from jsigr_lib.method.shapes import Float, Images

Scores = Float[Tensor, "batch places"]


def blurred_logits(
    model: nn.Module, x: Images, *, grid: int, mask_sigma: float, blur_sigma: float
) -> tuple[Float[Tensor, "batch actions"], Float[Tensor, "places batch actions"]]:
    """z(s), and z(s') with each place of s blurred away in turn, s' = s (1 - M_k) + A(s) M_k as in
    `saliency.perturbation_saliency`: all that either score needs."""
    masks, away = bumps(grid, *x.shape[-2:], mask_sigma).to(x), blur(x, blur_sigma)
    with evaluation_mode(model), torch.no_grad():
        return model(x), torch.stack([model(torch.lerp(x, away, mask)) for mask in masks])


def greydanus(z: Tensor, blurred: Tensor) -> Scores:
    """1/2 ||z(s) - z(s')||^2 (Greydanus et al. 2018, visualize_atari)."""
    return (blurred - z).square().sum(2).T / 2


def sarfa(z: Tensor, blurred: Tensor) -> Scores:
    """2 D k / (D + k) where D > 0, else 0, with D = pi_a(s) - pi_a(s') and k = 1 / (1 + KL(r || r')), r and r' the
    other actions' probabilities before and after, each divided by their sum (Puri et al. 2020,
    nikaashpuri/sarfa-saliency): it counts what takes from this action, and not what only moves the others about."""
    action = z.argmax(1)
    others = (torch.arange(z.shape[1], device=z.device) != action[:, None]).nonzero()[:, 1].view(len(z), -1)
    before, after = z.softmax(1), blurred.softmax(2)
    rest, rest_after = z.gather(1, others), blurred.gather(2, others.expand(len(blurred), -1, -1))
    drop = before.gather(1, action[:, None])[:, 0] - after.gather(2, action.expand(len(after), -1)[..., None])[..., 0]
    log_rest = rest.log_softmax(1)
    moved = (log_rest.exp() * (log_rest - rest_after.log_softmax(2))).sum(2)
    keeps = 1 / (1 + moved)
    return torch.where(drop > 0, 2 * drop * keeps / (drop + keeps), 0.0).T


def mass(gradient: Images, grid: int) -> Scores:
    """The sum of |gradient| over each cell of the raster, all channels."""
    cells = F.adaptive_avg_pool2d(gradient.abs().sum(1, keepdim=True), grid)
    return cells.flatten(1) * (gradient[0, 0].numel() / grid**2)


def share_of(scores: Scores, places: Tensor) -> Float[Tensor, " batch"]:
    """Which share of the scores lies on some places, bool [batch, places]; 0 where all scores are 0."""
    total = scores.double().sum(1)
    return (scores * places).double().sum(1) / total.where(total > 0, 1)
