"""Saliency maps by name: the gradient map and the perturbation maps of this library beside the field's, which come from
Captum through one adapter that works on every network of the zoo.

All answer the same question, how much the output for class y depends on a place, so all are magnitudes: non-negative,
summed over channels, [batch, 1, height, width].
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.errors import one_of
from jsigr_lib.jacobian import Images, evaluation_mode
from jsigr_lib.saliency import Maps, check_grid, gradient_map, perturbation_saliency

MAPS = {
    "gradient": "gradient",
    "gradient-x-input": "gradient x input",
    "smoothgrad": "SmoothGrad",
    "integrated-gradients": "integrated gradients",
    "grad-cam": "Grad-CAM",
    "occlusion": "occlusion",
    "perturbation": "perturbation",
    "perturbation-linearised": "perturbation, linearised",
    "perturbation-vector": "perturbation, all logits",
    "random": "random (control)",
}
"""Name -> how figures call it."""

PASSES = {
    "gradient": 3,
    "gradient-x-input": 3,
    "smoothgrad": 48,
    "integrated-gradients": 72,
    "grad-cam": 3,
    "occlusion": 49,
    "perturbation": 49,
    "perturbation-linearised": 3,
    "perturbation-vector": 49,
    "random": 0,
}
"""About how many forward passes a map costs; a gradient counts three."""

NOISE, NOISY_COPIES = 0.15, 16  # of SmoothGrad: standard deviation as a share of the pixel range; images averaged
PATH_STEPS = 24  # of integrated gradients
NO_SPACE = (nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


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

    `grid`, `mask_sigma` and `blur_sigma` (pixels) are those of the perturbation maps; occlusion takes the same grid.
    `generator` draws SmoothGrad's noise and the random control; the same for every call if None.
    The model runs in evaluation mode, its own mode is restored. Raises ValueError for an unknown name or grid.
    """
    one_of("map", name, MAPS)
    check_grid(grid, mask_sigma, blur_sigma)
    x = x.detach()
    if name == "gradient":
        return gradient_map(model, x, y)
    if name.startswith("perturbation"):
        settings = {"grid": grid, "mask_sigma": mask_sigma, "blur_sigma": blur_sigma}
        kind = name.removeprefix("perturbation").removeprefix("-")
        variant = {"linearised": {"method": "linearised"}, "vector": {"score": "vector"}}.get(kind, {})
        return perturbation_saliency(model, x, y, **settings, **variant)
    generator = generator or torch.Generator().manual_seed(0)
    if name == "random":
        return torch.rand(x[:, :1].shape, generator=generator, dtype=x.dtype).to(x.device)
    with evaluation_mode(model), torch.enable_grad(), seeded(x, generator):
        attribution = FROM_CAPTUM[name](model, x.requires_grad_(), y, grid)
    return attribution.detach().abs().sum(1, keepdim=True)


def _gradient_x_input(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    from captum.attr import InputXGradient

    return InputXGradient(model).attribute(x, target=y)


def _smoothgrad(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    """Mean gradient of noisy copies (Smilkov et al. 2017)."""
    from captum.attr import NoiseTunnel, Saliency

    noisy = NoiseTunnel(Saliency(model))
    return noisy.attribute(x, nt_samples=NOISY_COPIES, stdevs=NOISE, target=y, abs=False)


def _integrated_gradients(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    """From a black image (Sundararajan et al. 2017)."""
    from captum.attr import IntegratedGradients

    return IntegratedGradients(model).attribute(x, target=y, n_steps=PATH_STEPS).to(x.dtype)


def _grad_cam(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    """Of the last layer with places (Selvaraju et al. 2017), upsampled bilinearly."""
    from captum.attr import LayerGradCam

    maps = LayerGradCam(model, last_places(model, x)).attribute(x, target=y, relu_attributions=True)
    return F.interpolate(maps, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _occlusion(model: nn.Module, x: Images, y: Tensor, grid: int) -> Images:
    """A black square of one cell of the grid at a time (Zeiler & Fergus 2014)."""
    from captum.attr import Occlusion

    channels, *size = x.shape[1:]
    cell = (channels, *(-(-side // grid) for side in size))
    with torch.no_grad():
        return Occlusion(model).attribute(x, target=y, sliding_window_shapes=cell, strides=cell)


FROM_CAPTUM: dict[str, Callable[[nn.Module, Images, Tensor, int], Images]] = {
    "gradient-x-input": _gradient_x_input,
    "smoothgrad": _smoothgrad,
    "integrated-gradients": _integrated_gradients,
    "grad-cam": _grad_cam,
    "occlusion": _occlusion,
}


def last_places(model: nn.Module, x: Images) -> nn.Module:
    """The last layer before any pooling to vectors whose output still has a height and a width: of a convolutional
    network its last convolution's activation, of an MLP the normalisation of the image itself."""
    found: list[nn.Module] = []

    def look(module: nn.Module, _, output) -> None:
        if torch.is_tensor(output) and output.ndim == 4 and output[0, 0].numel() > 1 and output is not x:
            found.append(module)

    leaves = [module for module in model.modules() if not list(module.children()) and not isinstance(module, NO_SPACE)]
    hooks = [module.register_forward_hook(look) for module in leaves]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1]


@contextmanager
def seeded(x: Tensor, generator: torch.Generator):
    """Captum draws from torch's global generator: seed it from ours, and give it back as it was."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        yield
