"""Where the evidence is: perturbation maps, gradient maps, and the selection masks made from them.

A perturbation map asks what happens when a place is blurred away: Phi_k(x) = x (1 - M_k) + A(x) M_k, with M_k a
smooth bump on a regular grid and A a Gaussian blur (Greydanus et al. 2018, visualize_atari).
"""

from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.checks import described, holds_floats, images_of, labels_of, logits_of
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.jacobian import evaluation_mode, logit_gradient, loss_gradient
from jsigr_lib.method.shapes import Float, Images, Maps

Device = torch.device | str
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 64 << 20}  # perturbed images a forward pass holds: what a cache likes


@dataclass(frozen=True)
class Selection:
    """How a mask is made from a map: the grid of bumps, their width and the blur's in pixels, the share kept."""

    share: float = 0.4
    kind: str = "hard"
    grid: int = 7
    mask_sigma: float = 2.0
    blur_sigma: float = 3.0

    def __post_init__(self):
        between("share", self.share, 0, 1)
        one_of("selection", self.kind, ("hard", "soft"))
        check_grid(self.grid, self.mask_sigma, self.blur_sigma)

    @property
    def perturbation(self) -> dict:
        """The arguments of `perturbation_saliency` among the fields."""
        return {"grid": self.grid, "mask_sigma": self.mask_sigma, "blur_sigma": self.blur_sigma}


def check_grid(grid: int, mask_sigma: float, blur_sigma: float) -> None:
    if isinstance(grid, bool) or not isinstance(grid, Integral):
        raise InputError(f"grid = {grid!r}; accepted: a whole number from 1 to 64")
    between("grid", grid, 1, 64)
    between("mask_sigma", mask_sigma, 0.1, 100)
    between("blur_sigma", blur_sigma, 0.1, 100)


@lru_cache(maxsize=32)
def profiles(
    grid: int, size: int, sigma: float, device: Device = "cpu", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "grid size"]:
    """Gaussian bumps of height 1 and the given sigma (pixels) along one side, centred on `grid` equal cells. They are
    worked out on the CPU, and kept where they are needed."""
    centres = (torch.arange(grid, device="cpu") + 0.5) * size / grid - 0.5
    return torch.exp(-((torch.arange(size, device="cpu") - centres[:, None]) ** 2) / (2 * sigma**2)).to(device, dtype)


def bumps(grid: int, height: int, width: int, sigma: float) -> Float[Tensor, "masks height width"]:
    """M_k on a grid x grid raster: outer products of a profile down and a profile across."""
    down, across = profiles(grid, height, sigma), profiles(grid, width, sigma)
    return (down[:, None, :, None] * across[None, :, None]).flatten(0, 1)


@lru_cache(maxsize=32)
def blur_matrix(
    size: int, sigma: float, device: Device = "cpu", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "size size"]:
    """One side of the Gaussian blur: weights cut off at 3 sigma or at the image's size, reflected at its border; kept
    as `profiles` are."""
    radius = min(round(3 * sigma), size - 1)
    weights = torch.softmax(-((torch.arange(2 * radius + 1, device="cpu") - radius) ** 2) / (2 * sigma**2), 0)
    reflected = F.pad(torch.eye(size, device="cpu")[None], (radius, radius), mode="reflect")[0]
    return (reflected.unfold(1, 2 * radius + 1, 1) @ weights).T.contiguous().to(device, dtype)


def blur(x: Images, sigma: float) -> Images:
    """A(x): Gaussian blur of `sigma` pixels, a matrix on either side as it is separable."""
    down, across = (blur_matrix(size, sigma, x.device, x.dtype) for size in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return down @ x @ across.T


def upsample(scores: Float[Tensor, "batch masks"], grid: int, size: tuple[int, int]) -> Maps:
    """One score per mask -> a map as large as the image, bilinearly."""
    maps = scores.reshape(len(scores), 1, grid, grid)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def perturbation_saliency(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    grid: int = 7,
    mask_sigma: float = 2.0,
    blur_sigma: float = 3.0,
    score: str = "class",
    method: str = "exact",
) -> Maps:
    """How much the output changes when each place of the image is blurred away.

    Args:
        model: maps images to logits; run in evaluation mode, its own mode is restored.
        x, y: images in [0, 1] and the class each map is about.
        grid: grid x grid masks.
        mask_sigma, blur_sigma: width of the masks and of the blur, pixels.
        score: "class", S_k = (z_y(x) - z_y(Phi_k(x)))^2 / 2, or "vector", S_k = ||z(x) - z(Phi_k(x))||^2 / 2.
        method: "exact" forwards every perturbed image; "linearised" replaces the change of z_y by its first order,
            <grad z_y, M_k (A(x) - x)>, so that one backward pass gives every mask.

    Returns non-negative maps [batch, 1, height, width] in logits^2, one per image and not per channel.
    Raises ValueError for an unknown score or method, and for the linearised vector score, which has no such form.
    """
    one_of("score", score, ("class", "vector"))
    one_of("method", method, ("exact", "linearised"))
    check_grid(grid, mask_sigma, blur_sigma)
    x, y = images_of(x, rank=4), labels_of(y, x)
    if method == "linearised":
        if score != "class":
            raise InputError(f"score = {score!r} with method = 'linearised'; accepted: 'class'")
        gradient = logit_gradient(model, x, y)
        return linearised_saliency(x, gradient, grid=grid, mask_sigma=mask_sigma, blur_sigma=blur_sigma)

    masks = bumps(grid, *x.shape[-2:], mask_sigma).to(x)
    blurred = blur(x, blur_sigma)
    at_once = max(1, CHUNK_BYTES.get(x.device.type, 1 << 20) // max(1, x.nbytes))
    with evaluation_mode(model), torch.no_grad():
        z = logits_of(model, x, y)
        changes = [
            logits_of(model, _perturb(x, blurred, some)).unflatten(0, (len(some), -1)) - z
            for some in masks.split(at_once)
        ]
    change = torch.cat(changes)  # [masks, batch, classes]
    if score == "class":
        change = change.gather(2, y.expand(len(masks), -1)[..., None])
    return upsample(change.square().sum(2).T / 2, grid, x.shape[-2:])


def _perturb(x: Images, blurred: Images, masks: Tensor) -> Tensor:
    """Phi_k(x) of every image for some masks, flattened to one batch, in x's own memory format."""
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    perturbed = torch.lerp(x[None], blurred[None], masks[:, None, None])
    return perturbed.flatten(0, 1).contiguous(memory_format=layout)


def linearised_saliency(x: Images, gradient: Images, *, grid: int, mask_sigma: float, blur_sigma: float) -> Maps:
    """S_k = <gradient, M_k (A(x) - x)>^2 / 2 for every mask at once, upsampled to the image. As a bump is a product of
    two profiles, all the inner products are one small matrix on either side."""
    change = ((blur(x, blur_sigma) - x) * gradient).sum(1)
    down, across = (profiles(grid, size, mask_sigma, x.device, x.dtype) for size in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return upsample((down @ change @ across.T).flatten(1).square() / 2, grid, x.shape[-2:])


def gradient_map(model: nn.Module, x: Images, y: Tensor) -> Maps:
    """|g|, summed over channels: the cheap map that the selective penalty teaches to imitate the costly one."""
    images_of(x, rank=4)
    return loss_gradient(model, x, y).abs().sum(1, keepdim=True)


def selection_mask(saliency: Maps, *, share: float = 0.4, kind: str = "hard") -> Maps:
    """m in [0, 1]: where gradient energy is allowed.

    "hard": 1 on the `share` of pixels with the highest saliency (exactly round(share * H * W) of them, whatever
    the ties), 0 elsewhere. "soft": S / max S, and 0 everywhere for a map that is 0.
    Raises ValueError for a share outside [0, 1] or an unknown kind.
    """
    between("share", share, 0, 1)
    one_of("selection", kind, ("hard", "soft"))
    if not holds_floats(saliency) or saliency.ndim < 2:
        raise InputError(
            f"the maps are {described(saliency)}; accepted: floating-point numbers [batch, 1, height, width]"
        )
    if not (saliency.isfinite() & ((saliency >= 0) | (kind == "hard"))).all():
        accepted = "finite numbers" if kind == "hard" else "finite numbers from 0"
        raise InputError(f"the maps span {saliency.min():g} to {saliency.max():g}; accepted: {accepted}")
    return mask_of(saliency, share, kind)


def mask_of(saliency: Maps, share: float, kind: str) -> Maps:
    """`selection_mask` of a map that is known to be one; in training, where a gradient may overflow, of any map."""
    flat = saliency.flatten(1)
    if kind == "soft":
        peak = flat.amax(1, keepdim=True)
        return (flat / peak.clamp_min(torch.finfo(flat.dtype).tiny)).view_as(saliency)
    kept = round(share * flat.shape[1])
    if kept == 0:
        return torch.zeros_like(saliency)
    if flat.device.type != "cpu":
        return torch.zeros_like(flat).scatter_(1, flat.topk(kept, dim=1).indices, 1).view_as(saliency)
    mask = flat >= flat.kthvalue(flat.shape[1] - kept + 1, dim=1, keepdim=True).values  # there faster than topk
    tied = mask.sum(1) > kept
    if tied.any():  # for which a device would have to be waited for
        top = flat[tied].topk(kept, dim=1).indices
        mask[tied] = torch.zeros_like(mask[tied]).scatter_(1, top, True)
    return mask.to(flat.dtype).view_as(saliency)
