"""Where the statements of the theory notebook end: what they say beside what the trained network does, as numbers for
figures. Distances are L2, in pixel units."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from jsigr_lib import formulas, theory
from jsigr_lib.jacobian import Images, evaluation_mode, sphere, squared_norm, vjp
from jsigr_lib.jsigr import JSIGR, residual
from jsigr_lib.specimens import SOFTNESS, WEIGHTS, Specimen, offsets, penalty, second_derivative, softened

RADII = np.geomspace(3e-5, 3, 26)


def input_gradients(one: Specimen, image: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """S3, every pixel of one image: autograd's gradient of the loss, and J^T (p - onehot)."""
    x = one.x[image : image + 1].detach().requires_grad_()
    with evaluation_mode(one.model):
        loss = nn.functional.cross_entropy(one.model(x), one.y[image : image + 1])
    (g,) = torch.autograd.grad(loss, x)
    onehot = nn.functional.one_hot(one.y[image], one.logits.shape[1])
    product = one.jacobian[image].T @ formulas.residual(one.logits[image].softmax(0), onehot)
    return g.flatten().cpu().numpy(), product.cpu().numpy()


def coin_outcomes(one: Specimen, coins: np.ndarray) -> dict[str, np.ndarray]:
    """S4, against the coin's chance of heads: what heads and tails count on average, and the mean over the coin."""
    x = one.x.detach().requires_grad_()
    with evaluation_mode(one.model):
        z = one.model(x)
    norm = one.jacobian.square().sum((1, 2)).mean().item()
    selective = squared_norm(vjp(z, x, residual(z, one.y), create_graph=False)).mean().item()
    classes = z.shape[1]
    on_heads = formulas.heads(WEIGHTS["lambda_j"], classes, coins) * norm / classes
    on_tails = formulas.tails(WEIGHTS["lambda_s"], coins) * selective
    return {"heads": on_heads, "tails": on_tails, "mean": coins * on_heads + (1 - coins) * on_tails}


def half_batches(one: Specimen, images: int = 8, share: float = 0.1) -> tuple[np.ndarray, float]:
    """S5: what every half of a batch counts, relative to the whole batch's penalty, and the chance of such a step."""
    objective, one = JSIGR(**WEIGHTS, fraction=share), one.few(images)
    single = torch.stack([penalty(one, [i]) for i in range(images)])
    halves = torch.stack([single[list(half)].mean() for half in combinations(range(images), images // 2)])
    counted = formulas.fraction(halves, objective.penalised_steps) / single.mean()
    return counted.cpu().numpy(), objective.penalised_steps


def towards_boundary(one: Specimen, shares: np.ndarray) -> dict[str, np.ndarray]:
    """S7: from every image straight towards the boundary of its tangent, in shares of rho~. Each [shares, batch]: the
    gap of the two classes, relative to what it is at the image, as the network has it, and whether its decision is
    still the same."""
    gaps, gradients, lengths = one.slopes
    rows = torch.arange(len(gaps), device=gaps.device)
    nearest = (gaps / lengths).argmin(1)
    rho = formulas.distance(gaps, lengths)[rows, nearest]
    step = (-gradients[rows, nearest] / lengths[rows, nearest, None] * rho[:, None]).view_as(one.x)
    top = one.logits.argmax(1)
    other = nearest + (nearest >= top)  # the gaps leave the top class out
    gap, same = [], []
    for share in shares:
        z = predict(one.model, one.x + share * step)
        gap.append((z[rows, top] - z[rows, other]) / gaps[rows, nearest])
        same.append(z.argmax(1) == top)
    return {"gap": torch.stack(gap).cpu().numpy(), "same": torch.stack(same).double().cpu().numpy()}


def predict(model: nn.Module, x: Images) -> Tensor:
    with torch.no_grad(), evaluation_mode(model):
        return model(x)


def tangent_errors(one: Specimen, radii: np.ndarray = RADII) -> dict[str, np.ndarray]:
    """S9, along one random direction per image, relative to the logits' length, each [radii, batch]: the tangent's
    error for the network, for the softened network, and the bound M ||d||^2 / 2 of the latter, M the largest second
    derivative up to there."""
    u = sphere(len(one.x), one.x[0].numel(), like=one.x, generator=torch.Generator().manual_seed(0)).view_as(one.x)
    soft = softened(one.model, SOFTNESS)
    curvature = second_derivative(soft, one.x, float(radii[-1]) * u, torch.as_tensor(radii / radii[-1])).norm(dim=2)
    curvature = curvature.cummax(0).values / radii[-1] ** 2
    scale = one.logits.norm(dim=1)
    found = {"network": [], "softened": []}
    for name, model in (("network", one.model), ("softened", soft)):
        first = torch.einsum("bkn,bn->bk", theory.full_jacobian(model, one.x), u.flatten(1))
        z = predict(model, one.x)
        for radius in radii:
            error = predict(model, one.x + radius * u) - z - radius * first
            found[name].append(error.norm(dim=1) / scale)
    bound = formulas.remainder(curvature, torch.as_tensor(radii).to(curvature)[:, None]) / scale
    return {name: torch.stack(errors).cpu().numpy() for name, errors in found.items()} | {"bound": bound.cpu().numpy()}


def alignment_gaps(one: Specimen, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """S8, per image: |rho~ - alpha| at a point this far from it, in a random direction, and |beta| / ||grad|| with the
    gradient of that point, and the beta of the *image's* linear region."""
    u = sphere(len(one.x), one.x[0].numel(), like=one.x, generator=torch.Generator().manual_seed(0)).view_as(one.x)
    there = Specimen(one.model, one.x + away * u, one.y)
    robust = theory.linearised_robustness(one.model, there.x)
    gaps, _, lengths = there.slopes
    nearest = (gaps / lengths).argmin(1, keepdim=True)
    same = there.logits.argmax(1) == one.logits.argmax(1)
    most = formulas.alignment_gap(offsets(one), lengths).gather(1, nearest)[:, 0]
    left = (robust["robustness"] - robust["alignment"]).abs()
    return left[same].cpu().numpy(), most[same].cpu().numpy()
