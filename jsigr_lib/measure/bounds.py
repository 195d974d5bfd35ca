"""Lower bounds on the distance to the boundary, from how steep and how curved a network is (Finlay & Oberman 2019,
arXiv 1905.11468). The constants in them are maxima over the images at hand, not over all of space: estimates, and no
certificates. Distances are in pixel units."""

import torch
from torch import Tensor, nn

from jsigr_lib.measure.linearised import full_jacobian, predict
from jsigr_lib.method.checks import images_of, labels_of
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import evaluation_mode
from jsigr_lib.method.shapes import Images

CURVED = 0.01  # of the second derivative may be the network's own


def confidence_gap(model: nn.Module, x: Images, y: Tensor) -> dict[str, Tensor]:
    """How sure a network is, as p_y - max_{j != y} p_j of its probabilities p, and how fast that can change.

    Args:
        model: logits out; piecewise affine, as networks of ReLUs and max pools are. In evaluation mode here.
        x: images [batch, ...]. y: labels [batch].

    Returns, each [batch], of f = max_{j != y} p_j - p_y:
        gap:       max(0, -f), 0 where the network is wrong;
        slope:     ||grad f||_2;
        slope_l1:  ||grad f||_1, which counts for L-infinity distances;
        curvature: the largest eigenvalue of the Hessian of f, 0 if all are negative. With J = dz/dx and A = d2f/dz2
                   it is J^T A J, of the same eigenvalues as G^1/2 A G^1/2, G = J J^T [derived].

    Raises InputError if the logits are curved themselves, so that J^T A J is not the Hessian.
    """
    x = images_of(x)
    own = labels_of(y, x)[:, None]
    p, jacobian = predict(model, x).softmax(1), full_jacobian(model, x)
    rival = p.scatter(1, own, -1.0).argmax(1, keepdim=True)
    first, second = (of(p, rival) - of(p, own) for of in (_first, _second))
    along = second @ (jacobian @ x.flatten(1)[..., None])
    _check_affine(model, x, own, rival, (jacobian.mT @ along)[..., 0])
    slope = torch.einsum("bk,bkn->bn", first, jacobian)
    values, vectors = torch.linalg.eigh(jacobian @ jacobian.mT)
    root = vectors * values.clamp_min(0).sqrt()[:, None] @ vectors.mT
    return {
        "gap": (p.gather(1, own) - p.gather(1, rival))[:, 0].clamp_min(0),
        "slope": slope.norm(dim=1),
        "slope_l1": slope.abs().sum(1),
        "curvature": torch.linalg.eigvalsh(root @ second @ root)[:, -1].clamp_min(0),
    }


def distance_bounds(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lower bounds on the distance to the boundary [batch], of what `confidence_gap` returned for many images.

    gradient:      gap / L, L the largest slope;
    gradient_linf: the same for L-infinity distances;
    curvature:     (sqrt(slope^2 + 2 C gap) - slope) / C, C the largest curvature: where f, which rises from -gap by
                   slope r + C r^2 / 2 at most, reaches 0.
    """
    gap, slope = found["gap"], found["slope"]
    steepest, widest, most = (found[name].max() for name in ("slope", "slope_l1", "curvature"))
    root = (slope.square() + 2 * most * gap).sqrt()
    return {
        "gradient": gap / steepest,
        "gradient_linf": gap / widest,
        # the same root, without a difference of near numbers, and for C = 0
        "curvature": (2 * gap / (root + slope)).where(gap > 0, 0),
    }


def _first(p: Tensor, which: Tensor) -> Tensor:
    """Gradient of the probability p_k by the logits, p_k (e_k - p): [batch, classes]."""
    unit = torch.zeros_like(p).scatter(1, which, 1.0)
    return p.gather(1, which) * (unit - p)


def _second(p: Tensor, which: Tensor) -> Tensor:
    """Hessian of p_k by the logits, p_k ((e_k - p) (e_k - p)^T - diag p + p p^T): [batch, classes, classes]."""
    away = torch.zeros_like(p).scatter(1, which, 1.0) - p
    outer = away[:, :, None] * away[:, None] + p[:, :, None] * p[:, None]
    return p.gather(1, which)[..., None] * (outer - torch.diag_embed(p))


def _check_affine(model: nn.Module, x: Images, own: Tensor, rival: Tensor, product: Tensor) -> None:
    """Raise InputError unless the Hessian of f times the image is this `product` [batch, pixels]."""
    with evaluation_mode(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        p = model(x).softmax(1)
        f = (p.gather(1, rival) - p.gather(1, own)).sum()
        (g,) = torch.autograd.grad(f, x, create_graph=True)
        (true,) = torch.autograd.grad((g * x.detach()).sum(), x)
    if (true.flatten(1) - product).norm() > CURVED * true.norm():
        raise InputError(
            "the network's logits are curved; accepted: piecewise affine ones (ReLU, max pool), in float64"
        )
