"""The statements of the theory notebook as functions that check them, and linearised robustness per image."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib import statistics
from jsigr_lib.artefacts import Spec, Store
from jsigr_lib.data import load
from jsigr_lib.jacobian import Images, evaluation_mode, sphere, vjp
from jsigr_lib.jsigr import residual
from jsigr_lib.outcomes import Attacked, attacked_split
from jsigr_lib.study import Study
from jsigr_lib.threats import headline_attack
from jsigr_lib.zoo import Training, trained


def full_jacobian(model: nn.Module, x: Images) -> Tensor:
    """J = dz/dx of every image: [batch, classes, pixels]."""
    with evaluation_mode(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        z = model(x)
        rows = [vjp(z, x, e.expand_as(z), create_graph=False) for e in torch.eye(z.shape[1]).to(z)]
    return torch.stack([row.flatten(1) for row in rows], 1)


def projection_variance(jacobian: Tensor) -> Tensor:
    """Var[K ||J^T v||^2] = 2K/(K+2) (||J J^T||_F^2 - ||J||_F^4 / K), v uniform on the sphere [derived]."""
    classes = jacobian.shape[1]
    gram = jacobian @ jacobian.mT
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    return 2 * classes / (classes + 2) * (gram.square().sum((1, 2)) - trace.square() / classes)


def projection_draws(jacobian: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """K ||J^T v||^2 for many v: [draws, batch]."""
    batch, classes, _ = jacobian.shape
    gram = jacobian @ jacobian.mT
    v = sphere(draws * batch, classes, like=jacobian, generator=generator).view(draws, batch, classes)
    return classes * torch.einsum("dbk,bkl,dbl->db", v, gram, v)


def input_gradient_error(model: nn.Module, x: Images, y: Tensor) -> float:
    """Largest |g - J^T (p - onehot(y))|: the loss gradient needs no more than the Jacobian [derived]."""
    x = x.detach().requires_grad_()
    z = model(x)
    (g,) = torch.autograd.grad(F.cross_entropy(z, y, reduction="sum"), x, retain_graph=True)
    return (g - vjp(z, x, residual(z, y), create_graph=False)).abs().max().item()


def linearised_robustness(model: nn.Module, x: Images) -> dict[str, Tensor]:
    """Distance to the boundary of the linearised classifier, per image (Etmann et al. 2019), in pixel units.

    Returns, each [batch]:
        margin:     z_i* - max_{j != i*} z_j;
        jacobian:   ||J||_F;
        robustness: rho = min_{j != i*} (z_i* - z_j) / ||grad (z_i* - z_j)||;
        bound:      margin / (sqrt(2) ||J||_F) <= rho [derived];
        alignment:  |<x, grad (z_i* - z_j*)>| / ||grad (z_i* - z_j*)||, j* the class that attains rho.
    """
    with torch.no_grad(), evaluation_mode(model):
        z = model(x)
    jacobian = full_jacobian(model, x)
    top = z.argmax(1, keepdim=True)
    gaps = z.gather(1, top) - z
    slopes = jacobian.gather(1, top[..., None].expand(-1, -1, jacobian.shape[2])) - jacobian
    lengths = slopes.norm(dim=2).clamp_min(torch.finfo(z.dtype).tiny)
    distances = (gaps / lengths).scatter(1, top, torch.inf)
    robustness, nearest = distances.min(1)
    margin = gaps.scatter(1, top, torch.inf).amin(1)
    norm = jacobian.flatten(1).norm(dim=1)
    inner = (x.flatten(1)[:, None] * slopes).sum(2).abs() / lengths
    return {
        "margin": margin,
        "jacobian": norm,
        "robustness": robustness,
        "bound": margin / (2**0.5 * norm),
        "alignment": inner.gather(1, nearest[:, None])[:, 0],
    }


def linearisation_error(
    model: nn.Module, x: Images, radii: list[float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """How wrong the linear picture is at a distance r, along one random unit direction u per image (L2, pixel units).

    With e = z(x + r u) - z(x) - r J u, returns ||e|| / ||z(x + r u) - z(x)||, the error of the tangent relative to the
    change, and ||e|| / margin(x), its error relative to what would change the decision; both [radii, batch].
    """
    jacobian = full_jacobian(model, x)
    u = sphere(len(x), x[0].numel(), like=x, generator=generator)
    first_order = torch.einsum("bkn,bn->bk", jacobian, u)
    with torch.no_grad(), evaluation_mode(model):
        z = model(x)
        changes = torch.stack([model(x + radius * u.view_as(x)) - z for radius in radii])
    errors = (changes - torch.tensor(radii, dtype=z.dtype, device=z.device)[:, None, None] * first_order).norm(dim=2)
    top_two = z.topk(2).values
    margin = (top_two[:, 0] - top_two[:, 1]).clamp_min(1e-12)
    return errors / changes.norm(dim=2).clamp_min(1e-12), errors / margin


class Linearised(Spec):
    """`linearised_robustness` of the first test images for one network, clean or attacked."""

    kind: ClassVar[str] = "linearised"
    code: ClassVar[tuple[str, ...]] = ("theory", "jacobian")
    target: Training
    images: int
    attacked: Attacked | None = None

    def needs(self) -> list[Spec]:
        return [self.target, self.target.data, *([self.attacked] if self.attacked else [])]

    def work(self) -> float:
        return self.images * 10 * self.target.step_flops / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.target, store)
        split = attacked_split(load(self.target.data, store).test, self.attacked, store).first(self.images)
        parts = []
        for index in torch.arange(len(split)).split(100):
            x, y = split.batch(index, device)
            with torch.no_grad():
                correct = model(x).argmax(1) == y
            parts.append({**linearised_robustness(model, x), "correct": correct})
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}, {}


QUANTITIES = ("margin", "jacobian", "robustness", "bound", "alignment")


def linearised(study: Study, target: Training, *, attacked: bool = False) -> Linearised:
    """Of clean images, or under the headline attack."""
    attack = headline_attack(study, target.architecture) if attacked else None
    return Linearised(target=target, images=study.profile.saliency_images, attacked=attack)


def linearised_specs(study: Study) -> list[Linearised]:
    return [linearised(study, network) for networks in study.targets().values() for network in networks]


def linearised_values(study: Study, target: Training, *, attacked: bool = False) -> dict[str, np.ndarray]:
    """Each quantity per test image; a misclassified image has robustness, bound and margin 0."""
    t = study.get(linearised(study, target, attacked=attacked)).tensors
    correct = t["correct"].numpy()
    wrong_is_zero = {"margin", "robustness", "bound"}
    return {name: np.where(correct | (name not in wrong_is_zero), t[name].double().numpy(), 0) for name in QUANTITIES}


def linearised_table(study: Study) -> pd.DataFrame:
    """Mean of each quantity per defence, with its interval."""
    study.make(linearised_specs(study))
    rows = []
    for (architecture, defence), networks in study.targets().items():
        per_seed = [linearised_values(study, network) for network in networks]
        for name in QUANTITIES:
            values = np.stack([one[name] for one in per_seed])
            average, low, high = statistics.mean(values)
            row = {"architecture": architecture, "defence": defence, "quantity": name}
            rows.append(
                {**row, "images": values.shape[1], "seeds": len(values), "mean": average, "low": low, "high": high}
            )
    return pd.DataFrame(rows)
