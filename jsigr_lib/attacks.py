"""One iterative loop, x <- project(x + step * direction); the named attacks are settings of it.

Images are in [0, 1] and an L-infinity eps is a fraction of that range. The loop runs in evaluation mode, restores the
model's own mode, and asks autograd for the input's gradient only, so that parameters keep the gradients they had.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib import autoattack
from jsigr_lib.balls import BALLS, ball, check_eps
from jsigr_lib.errors import InputError, between, one_of
from jsigr_lib.jacobian import Images, evaluation_mode
from jsigr_lib.registry import Registry
from jsigr_lib.saliency import blur

ENLARGEMENT = 1.1  # of the canvas on which input diversity places the image (Xie et al. 2019)
NEIGHBOURHOOD = 1.5  # times eps: the radius within which variance tuning looks around (Wang & He 2021)
PROBABILITY_TOLERANCE = 1e-4

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, labels) -> one value per image; attacks raise it."""


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Tensor:
    """The best wrong logit minus the right one: positive where the prediction is wrong."""
    right = z.gather(1, y[:, None])
    return (z.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True) - right)[:, 0]


def attack(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    random_start: bool = False,
    norm: str = "linf",
    nesterov: bool = False,
    diversity: float = 0.0,
    translation: float = 0.0,
    scales: int = 1,
    variance: int = 0,
    keep: str = "last",
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
) -> Images:
    """Raise the loss of (x, y) within the ball of radius eps and within [0, 1].

    Args:
        model: maps images to logits.
        x, y: images in [0, 1] and their true labels.
        eps, step_size: fractions of the pixel range, or lengths with norm = "l2"; eps = 0 gives x back.
        steps: gradient steps, from 1.
        momentum: mu of MI-FGSM; 0 is plain ascent.
        random_start: begin at a random point of the ball, uniform for "linf"; see `balls`.
        norm: "linf" or "l2".
        nesterov: take the gradient where the momentum will lead (NI).
        diversity: chance that a step sees the images randomly resized and padded (DI).
        translation: sigma in pixels of a Gaussian that smooths the gradient, 0 for none (TI).
        scales: mean gradient of x, x/2, x/4, ..., that many (SI).
        variance: gradients per step, drawn around x, that correct the next step's (VT).
        keep: "last" returns the last iterate, "worst" the one with the largest margin against the right class.
        loss: what to raise, per image; cross-entropy unless told otherwise.
        generator: everything random is drawn with it.

    Returns x_adv, float, without graph. Raises ValueError for bad values or labels, NaN and probabilities as outputs.
    """
    check_settings(eps, steps, step_size, momentum, norm)
    _check_estimate(diversity, translation, scales, variance)
    one_of("keep", keep, ("last", "worst"))
    if nesterov and not momentum:
        raise InputError("nesterov = True with momentum = 0; accepted: a positive momentum")
    x = x.detach()
    check_batch(x, y)
    allowed = ball(x, eps, norm)
    x_adv = allowed.random(generator) if random_start else x.clone()
    gradient_at = partial(
        _gradient, model, y=y, loss=_checked(loss), diversity=diversity, translation=translation, scales=scales,
        generator=generator,
    )  # fmt: skip
    direction, correction = torch.zeros_like(x), 0
    worst = _Worst(model, y) if keep == "worst" else None
    broken = torch.zeros((), dtype=torch.bool, device=x.device)
    for _ in range(steps):
        gradient = gradient_at(x_adv + step_size * momentum * direction if nesterov else x_adv)
        if worst:
            worst.see(x_adv)
        tuned = gradient + correction if variance else gradient
        if variance:
            around = BALLS[norm](x_adv, NEIGHBOURHOOD * eps)
            correction = sum(gradient_at(around.random(generator)) for _ in range(variance)) / variance - gradient
        # g <- mu g + grad / mean|grad|, each sample by its own mean (Dong et al. 2018)
        direction = direction.mul_(momentum).add_(_unit_mean(tuned)) if momentum else tuned
        broken |= direction.isnan().any()  # the sign of NaN is 0: no attack at all
        x_adv = allowed.climb(x_adv, direction, step_size)
    if broken or not x_adv.isfinite().all():
        raise InputError("the model's gradient is NaN; accepted: a model with finite gradients")
    return worst.see(x_adv) if worst else x_adv


def _gradient(
    model: nn.Module,
    x: Images,
    *,
    y: Tensor,
    loss: Loss,
    diversity: float,
    translation: float,
    scales: int,
    generator: torch.Generator | None,
) -> Images:
    """The loss's gradient by x, seen through the transformations that make it transfer."""
    with evaluation_mode(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        seen = _diversified(x, diversity, generator) if diversity else x
        total = sum(loss(model(seen / 2**i if i else seen), y).sum() for i in range(scales)) / scales
        (gradient,) = torch.autograd.grad(total, x)
    return blur(gradient, translation) if translation else gradient


def _diversified(x: Images, chance: float, generator: torch.Generator | None) -> Images:
    """With that chance, the images on a random place of a canvas a tenth larger, in a random size, scaled back."""

    def draw(high: int) -> int:
        return int(torch.randint(high + 1, (1,), generator=generator, device=generator.device if generator else "cpu"))

    if torch.rand(1, generator=generator, device=generator.device if generator else "cpu") >= chance:
        return x
    height, width = x.shape[-2:]
    rooms = [max(1, round((ENLARGEMENT - 1) * side)) for side in (height, width)]
    grown = [draw(room) for room in rooms]
    resized = F.interpolate(x, size=(height + grown[0], width + grown[1]), mode="bilinear", align_corners=False)
    above, left = (draw(room - by) for room, by in zip(rooms, grown, strict=True))
    below, right = rooms[0] - grown[0] - above, rooms[1] - grown[1] - left
    return F.interpolate(F.pad(resized, (left, right, above, below)), size=(height, width), mode="bilinear")


class _Worst:
    """Remembers, image by image, the iterate with the largest margin against the right class."""

    def __init__(self, model: nn.Module, y: Tensor):
        self.model, self.y, self.images, self.margins = model, y, None, None

    def see(self, x_adv: Images) -> Images:
        with evaluation_mode(self.model), torch.no_grad():
            margins = margin(self.model(x_adv), self.y)
        if self.images is None:
            self.images, self.margins = x_adv.clone(), margins
        better = margins > self.margins
        self.images[better], self.margins = x_adv[better], torch.maximum(margins, self.margins)
        return self.images


def _unit_mean(gradient: Images) -> Images:
    """Divide each sample by its mean magnitude; a zero gradient stays zero instead of becoming NaN."""
    mean = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    return gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny)


def check_settings(eps: float, steps: int, step_size: float, momentum: float = 0.0, norm: str = "linf") -> None:
    """Raise InputError unless an attack can run with these settings."""
    check_eps(eps, norm)
    check_count("steps", steps)
    between("step_size", step_size, 0, 2.5 if norm == "linf" else 1e6)
    between("momentum", momentum, 0, 100)


def check_count(what: str, value: int, low: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{what} = {value!r}; accepted: a whole number from {low}")


def _check_estimate(diversity: float, translation: float, scales: int, variance: int) -> None:
    between("diversity", diversity, 0, 1)
    if translation:
        between("translation", translation, 0.1, 100)
    check_count("scales", scales)
    check_count("variance", variance, low=0)


def check_batch(x: Tensor, y: Tensor) -> None:
    """Raise InputError unless x are images and y can be labels."""
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise InputError(f"images span {x.min():g} to {x.max():g}; accepted: 0 to 1")
    if y.numel() and y.min() < 0:
        raise InputError(f"label {y.min()}; accepted: class indices from 0")


def _checked(loss: Loss) -> Loss:
    """The loss, which looks at the first logits that it is given."""
    fresh = True

    def checking(z: Tensor, y: Tensor) -> Tensor:
        nonlocal fresh
        if fresh:
            check_logits(z, y)
            fresh = False
        return loss(z, y)

    return checking


def check_logits(z: Tensor, y: Tensor) -> None:
    """Raise InputError for what is no logits of the labels' classes."""
    if y.numel() and y.max() >= z.shape[1]:
        raise InputError(f"label {y.max()}; accepted: 0 to {z.shape[1] - 1}, as the model has {z.shape[1]} outputs")
    if not z.isfinite().all():
        raise InputError(f"the model gives {z[~z.isfinite()][0]:g}; accepted: finite logits")
    if are_probabilities(z):
        raise InputError(f"the model gives probabilities, such as {z[0, 0]:.3g}; accepted: logits")


def are_probabilities(z: Tensor) -> bool:
    """Whether each row is a distribution: no entry negative, their sum 1."""
    sums = z.detach().double().sum(1)
    return bool(len(z) and z.shape[1] > 1 and z.min() >= 0 and ((sums - 1).abs() < PROBABILITY_TOLERANCE).all())


def fgsm(model: nn.Module, x: Images, y: Tensor, *, eps: float, **settings) -> Images:
    """One step of the whole budget (Goodfellow et al. 2015)."""
    return attack(model, x, y, eps=eps, steps=1, step_size=eps, **settings)


def pgd(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    **settings,
) -> Images:
    """Random start, then `steps` steps of 2.5 eps / steps unless told otherwise (Madry et al. 2018). With several
    restarts, each image's worst iterate of all steps of all restarts, of which half raise the margin instead of the
    cross-entropy (Carlini & Wagner 2017's loss: it has a gradient where the softmax is saturated).
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    step_size = 2.5 * eps / steps if step_size is None else step_size
    settings = {"eps": eps, "steps": steps, "step_size": step_size, "random_start": True, **settings}
    if restarts == 1:
        return attack(model, x, y, **settings)
    worst = _Worst(model, y)
    for restart in range(restarts):
        loss = margin if restart % 2 else cross_entropy
        x_worst = worst.see(attack(model, x, y, **{"keep": "worst", "loss": loss, **settings}))
    return x_worst


def bim(model: nn.Module, x: Images, y: Tensor, *, eps: float, steps: int = 10, **settings) -> Images:
    """Iterative FGSM: steps of eps / steps from the image itself (Kurakin et al. 2017)."""
    check_count("steps", steps)
    return attack(model, x, y, eps=eps, steps=steps, step_size=eps / steps, **settings)


mi_fgsm = partial(bim, momentum=1.0)
"""Momentum: mu = 1, T = 10 (Dong et al. 2018)."""
ni_fgsm = partial(mi_fgsm, nesterov=True)
"""Nesterov's momentum: the gradient where the momentum will lead (Lin et al. 2020)."""
di_fgsm = partial(mi_fgsm, diversity=0.5)
"""Diverse inputs, half of the time (Xie et al. 2019)."""
ti_fgsm = partial(mi_fgsm, translation=1.0)
"""Translation invariance: a smoothed gradient (Dong et al. 2019); one pixel, where 299-pixel images have 2.3."""
si_fgsm = partial(ni_fgsm, scales=5)
"""Scale invariance, with Nesterov's momentum (Lin et al. 2020)."""
vt_fgsm = partial(mi_fgsm, variance=20)
"""Variance tuning (Wang & He 2021)."""

ATTACKS: dict[str, Callable[..., Images]] = Registry(
    {
        "fgsm": fgsm,
        "bim": bim,
        "pgd": pgd,
        "mi-fgsm": mi_fgsm,
        "ni-fgsm": ni_fgsm,
        "di-fgsm": di_fgsm,
        "ti-fgsm": ti_fgsm,
        "si-fgsm": si_fgsm,
        "vt-fgsm": vt_fgsm,
        "square": autoattack.square,
        "autoattack": autoattack.autoattack,
    }
)


def run(name: str, model: nn.Module, x: Images, y: Tensor, *, eps: float, generator=None, **settings) -> Images:
    """The attack called `name`, drawing with `generator`. Raises InputError for an unknown name."""
    one_of("attack", name, ATTACKS)
    return ATTACKS[name](model, x, y, eps=eps, generator=generator, **settings)
