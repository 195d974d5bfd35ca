"""Saliency maps by name: the gradient map and the perturbation maps of this library beside the field's, of which the
intricate ones come from Captum through one adapter that works on every network of the zoo.

All answer the same question, how much the output for class y depends on a place, so all are magnitudes: non-negative,
one value per place, [batch, 1, height, width]. None depends on the other images of its batch, the drawn ones neither.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.autograd import differentiable_twice
from jsigr_lib.method.checks import images_of, labels_of, logits_of
from jsigr_lib.method.errors import InputError, needs_extra, one_of
from jsigr_lib.method.jacobian import evaluation_mode, logit_gradient
from jsigr_lib.method.registry import Registry
from jsigr_lib.method.saliency import (
    CHUNK_BYTES,
    Maps,
    blur,
    check_grid,
    gradient_map,
    perturbation_saliency,
    profiles,
    upsample,
)
from jsigr_lib.method.shapes import Images

NOISE, NOISY_COPIES = 0.15, 16  # of SmoothGrad: standard deviation as a share of the pixel range; images averaged
PATH_STEPS = 24  # of integrated gradients
POOLING = (nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
CHANNELS_FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.Upsample)


@torch.inference_mode(False)
def saliency_map(
    name: str,
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    grid: int = 7,
    mask_sigma: float = 2.0,
    blur_sigma: float = 3.0,
    generator: torch.Generator | None = None,
) -> Maps:
    """The map called `name` (a key of `MAPS`) of images x in [0, 1], about class y of each.

    "gradient" is of the loss, the others are of the logit z_y, "perturbation-vector" is of all logits, and those of
    `CONTROLS` are of no network.
    `grid`, `mask_sigma` and `blur_sigma` (pixels) are those of the perturbation maps; occlusion takes the same grid.
    `generator` draws SmoothGrad's noise, the same for every image, and seeds the random control, which is a function
    of that seed and of the image alone; both are the same at every call if None.
    The model runs in evaluation mode, its own mode is restored. Raises ValueError for an unknown name or grid.
    """
    one_of("map", name, MAPS)
    x, y = images_of(x, rank=4), labels_of(y, x)
    check_grid(grid, mask_sigma, blur_sigma)
    if not len(x):
        return x.sum(1, keepdim=True)
    settings = {"grid": grid, "mask_sigma": mask_sigma, "blur_sigma": blur_sigma}
    with needs_extra(f"the map {name!r}", "measure"):
        return MAPS[name].draw(model, x, y, generator=generator or torch.Generator().manual_seed(0), **settings)


class Map(NamedTuple):
    """How figures call a map; about how many forward passes it costs on a grid of 7 x 7, where a gradient counts three;
    and draw(model, x, y, *, grid, mask_sigma, blur_sigma, generator) -> [batch, 1, height, width]."""

    label: str
    passes: int
    draw: Callable[..., Maps]


def _gradient(model: nn.Module, x: Images, y: Tensor, **_) -> Maps:
    return gradient_map(model, x, y)


def _gradient_x_input(model: nn.Module, x: Images, y: Tensor, **_) -> Maps:
    return (x * logit_gradient(model, x, y)).abs().sum(1, keepdim=True)


def _perturbation(model: nn.Module, x: Images, y: Tensor, *, generator: torch.Generator, **settings) -> Maps:
    return perturbation_saliency(model, x, y, **settings)


def _smoothgrad(model: nn.Module, x: Images, y: Tensor, *, generator: torch.Generator, **_) -> Maps:
    """Not Captum's, whose noise for one image depends on how many come with it."""
    noise = NOISE * torch.randn(NOISY_COPIES, *x.shape[1:], generator=generator, device=generator.device).to(x)
    # |1/n sum_k grad z_y(x + noise_k)|, summed over channels (Smilkov et al. 2017)
    return (sum(logit_gradient(model, x + n, y) for n in noise) / NOISY_COPIES).abs().sum(1, keepdim=True)


def _random(model: nn.Module, x: Images, y: Tensor, *, generator: torch.Generator, **_) -> Maps:
    """Uniform in [0, 1): another map for every other image, whatever the network."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    own = [
        torch.Generator().manual_seed(seed + crc32(image.contiguous().view(torch.uint8).numpy().tobytes()))
        for image in x.cpu()
    ]
    return torch.stack([torch.rand(1, *x.shape[-2:], generator=draws) for draws in own]).to(x)


def _energy(_model: nn.Module, x: Images, _y: Tensor, *, grid: int, mask_sigma: float, blur_sigma: float, **_) -> Maps:
    """||M_k (A(x) - x)||^2: how much a perturbation map's k-th mask changes the image, whatever the network."""
    change = (blur(x, blur_sigma) - x).square().sum(1)
    down, across = (profiles(grid, size, mask_sigma, x.device, x.dtype).square() for size in x.shape[-2:])
    return upsample((down @ change @ across.T).flatten(1), grid, x.shape[-2:])


def _centre(_model: nn.Module, x: Images, _y: Tensor, **_) -> Maps:
    """A Gaussian in the middle, a quarter of the image wide: where photographers put what matters."""
    down, across = (profiles(1, size, size / 4, x.device, x.dtype) for size in x.shape[-2:])
    return (down.T @ across).expand(len(x), 1, -1, -1).clone()


def _by_captum(attribute: Callable[..., Tensor], model: nn.Module, x: Images, y: Tensor, *, grid: int, **_) -> Maps:
    with evaluation_mode(model), differentiable_twice():  # hooks reach no compiled layer
        try:
            attribution = attribute(model, x.requires_grad_(), y, grid)
        except RuntimeError:
            logit_gradient(model, x[:1], y[:1])  # says so if there is none
            raise
    return attribution.detach().to(x).abs().sum(1, keepdim=True)


def _integrated_gradients(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    """From a black image (Sundararajan et al. 2017)."""
    from captum.attr import IntegratedGradients

    at_once = max(len(x), CHUNK_BYTES.get(x.device.type, 1 << 20) // x[0].nbytes)
    return IntegratedGradients(partial(logits_of, model, y=y)).attribute(
        x, target=y, n_steps=PATH_STEPS, internal_batch_size=at_once
    )


def _grad_cam(model: nn.Module, x: Images, y: Tensor, grid: int) -> Maps:
    """Of the last layer with places (Selvaraju et al. 2017), upsampled bilinearly."""
    from captum.attr import LayerGradCam

    maps = LayerGradCam(partial(logits_of, model, y=y), last_places(model, x)).attribute(
        x, target=y, relu_attributions=True
    )
    return F.interpolate(maps, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _occlusion(model: nn.Module, x: Images, y: Tensor, grid: int) -> Maps:
    """One black cell of the grid at a time, through all channels (Zeiler & Fergus 2014): Captum's Occlusion where the
    grid divides the image, which this does not ask for; nor does it round to single precision."""
    from captum.attr import FeatureAblation

    down, across = (torch.arange(side, device=x.device) * grid // side for side in x.shape[-2:])
    cells = down[:, None] * (across[-1] + 1) + across
    feature_mask = cells.expand(1, x.shape[1], -1, -1)
    return FeatureAblation(partial(logits_of, model, y=y)).attribute(x, target=y, feature_mask=feature_mask)[:, :1]


MAPS: dict[str, Map] = Registry(
    {
        "gradient": Map("gradient", 3, _gradient),
        "gradient-x-input": Map("gradient x input", 3, _gradient_x_input),
        "smoothgrad": Map("SmoothGrad", 48, _smoothgrad),
        "integrated-gradients": Map("integrated gradients", 72, partial(_by_captum, _integrated_gradients)),
        "grad-cam": Map("Grad-CAM", 3, partial(_by_captum, _grad_cam)),
        "occlusion": Map("occlusion", 49, partial(_by_captum, _occlusion)),
        "perturbation": Map("perturbation", 49, _perturbation),
        "perturbation-linearised": Map("perturbation, linearised", 3, partial(_perturbation, method="linearised")),
        "perturbation-vector": Map("perturbation, all logits", 49, partial(_perturbation, score="vector")),
        "random": Map("random (control)", 0, _random),
        "energy": Map("energy (control)", 0, _energy),
        "centre": Map("centre (control)", 0, _centre),
    }
)
CONTROLS = ("random", "energy", "centre")
"""The maps that know no network: what any other has to beat."""


def last_places(model: nn.Module, x: Images) -> nn.Module:
    """The last layer before any pooling whose output still has a height and a width: of a convolutional network its
    last convolution's activation, of an MLP the normalisation of the image itself. InputError if there is none, or if
    it is not certain that its output is [batch, channels, height, width], such as of tokens or with the channels last.
    """
    found: list[nn.Module] = []
    shape, other = x[:1].shape, None  # of the last output that is channels first; a later layer of which none knows

    def look(module: nn.Module, _, output) -> None:
        nonlocal shape, other
        if not torch.is_tensor(output) or output.ndim < 3:
            return
        if isinstance(module, POOLING):
            shape = output.shape
            return
        if output.ndim == 4 and (isinstance(module, CHANNELS_FIRST) or output[0, 0].numel() == 1):
            shape, other = output.shape, None
        elif isinstance(module, (nn.Linear, nn.LayerNorm)) or output.shape != shape:
            other = module
        if other is None and output[0, 0].numel() > 1:
            found.append(module)

    modules = model.modules() if isinstance(model, nn.Module) else []
    leaves = [
        module for module in modules if not (list(module.children()) or isinstance(module, torch.jit.ScriptModule))
    ]
    hooks = [module.register_forward_hook(look) for module in leaves]
    try:
        with evaluation_mode(model), torch.no_grad():
            logits_of(model, x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if other is not None:
        raise InputError(
            f"{type(model).__name__} has a {type(other).__name__} after its last convolution, whose output need not be "
            "[batch, channels, height, width]; Grad-CAM accepts: a convolutional network"
        )
    if not found:
        raise InputError(f"no layer of {type(model).__name__} has places; Grad-CAM accepts: a network with one")
    return found[-1]


@contextmanager
def seeded(x: Tensor, generator: torch.Generator):
    """Some of torch draws from its global generator only: seed that from ours, and give it back as it was."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        yield
