"""The one iterative loop behind our attacks: estimate a gradient, accumulate it into a direction, step along it, and
project back into the ball.

The papers differ in three places, and each place is one piece of code here: `Estimate` says which gradient a step
follows, `accumulate` how gradients add up to a direction, and the threat model in `balls` how far a step may lead.
`Settings` has all that varies between them; the attacks with a name, in `attacks`, are settings.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.balls import BALLS, ball, budget_of, each_image, settled
from jsigr_lib.method.checks import (
    HALVES,
    check_count,
    check_logits,
    check_pixels,
    gradient_by,
    images_of,
    labels_of,
    logits_of,
    number_of,
)
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.jacobian import evaluation_mode
from jsigr_lib.method.saliency import blur
from jsigr_lib.method.shapes import Float, Images

ENLARGEMENT = 1.1  # of the canvas on which input diversity places the image (Xie et al. 2019)
NEIGHBOURHOOD = 1.5  # times eps: the radius within which variance tuning looks around (Wang & He 2021)

Loss = Callable[[Tensor, Tensor], Float[Tensor, " batch"]]
"""(logits [batch, classes], labels [batch]) -> one value per image; an attack raises it."""


def cross_entropy(z: Tensor, y: Tensor) -> Float[Tensor, " batch"]:
    """-log softmax(z)_y of every image."""
    return F.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Float[Tensor, " batch"]:
    """max_{j != y} z_j - z_y: the best wrong logit minus the right one, positive where the prediction is wrong
    (Carlini & Wagner 2017)."""
    right = z.gather(1, y[:, None])
    return (z.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True) - right)[:, 0]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that varies between the attacks of one family. Raises InputError for a value that no attack can have.

    eps and step_size are shares of the pixel range, or lengths in pixel units with norm = "l2". Each field says the
    step that it changes, and whose step that is; with the defaults the loop is x <- project(x + step_size sign(grad)).
    """

    eps: float  # ||x_adv - x|| <= eps, the budget (Goodfellow et al. 2015); 0 gives the images back
    steps: int  # T, from 1: how often the loop turns (Kurakin et al. 2017, BIM)
    step_size: float  # alpha in x <- project(x + alpha sign(d)) (Kurakin et al. 2017)
    norm: str = "linf"  # of the budget, and of the steepest step within it: "linf" or "l2" (Madry et al. 2018)
    random_start: bool = False  # x_0 at random in the ball instead of the image (Madry et al. 2018, PGD); see `balls`
    # estimate: which gradient
    nesterov: bool = False  # grad at x + alpha mu d, where the momentum will lead (Lin et al. 2020, NI)
    diversity: float = 0.0  # p: grad l(D(x)), D resizes and pads at random with chance p (Xie et al. 2019, DI)
    scales: int = 1  # m: 1/m sum_{i < m} grad l(x / 2^i) (Lin et al. 2020, SI)
    translation: float = 0.0  # sigma: W * grad, W a Gaussian of sigma pixels, 0 for none (Dong et al. 2019, TI)
    variance: int = 0  # n: grad + v, v = 1/n sum_j grad l(x + r_j) - grad of the step before (Wang & He 2021, VT)
    # accumulate: which direction
    momentum: float = 0.0  # mu: d <- mu d + grad / mean|grad| (Dong et al. 2018, MI); 0 follows the gradient itself
    # what comes back
    keep: str = "last"  # the last iterate, or "worst": of each image the one that `Goal.rank` puts highest

    def __post_init__(self):
        object.__setattr__(self, "eps", budget_of(self.eps, self.norm))
        for name in ("step_size", "momentum", "diversity", "translation"):
            object.__setattr__(self, name, number_of(name, getattr(self, name)))
        check_count("steps", self.steps)
        between("step_size", self.step_size, 0, 2.5 if self.norm == "linf" else 1e6)
        between("momentum", self.momentum, 0, 100)
        between("diversity", self.diversity, 0, 1)
        if self.translation:
            between("translation", self.translation, 0.1, 100)
        check_count("scales", self.scales)
        check_count("variance", self.variance, low=0)
        one_of("keep", self.keep, ("last", "worst"))
        if self.nesterov and not self.momentum:
            raise InputError("nesterov = True with momentum = 0; accepted: a positive momentum")


class Goal:
    """What an attack raises, image by image: the loss of the labels, or with a target the negative loss of the target.

    The worst iterate is the one with the highest such value; with the default loss, the one with the highest margin, as
    the cross-entropy of a misclassified image may be lower than that of another that is classified correctly.
    """

    def __init__(self, x: Images, y: Tensor, loss: Loss = cross_entropy, target: Tensor | None = None):
        self.labels = labels_of(y, x)
        if target is not None:
            self.labels = labels_of(target, x, "targets")
        self.loss, self.sign = loss, 1 if target is None else -1

    def __call__(self, z: Tensor) -> Float[Tensor, " batch"]:
        """What a step raises."""
        return self._value(self.loss, z)

    def rank(self, z: Tensor) -> Float[Tensor, " batch"]:
        """By what the worst is chosen; NaN is never the worst."""
        value = self._value(margin if self.loss is cross_entropy else self.loss, z)
        return value.masked_fill(value.isnan(), -torch.inf)

    def check(self, z: Tensor) -> None:
        """Raise InputError unless z are logits of which this can be asked."""
        check_logits(z)
        if z.shape[1] < 2 and self.loss in (cross_entropy, margin):
            raise InputError("the model has 1 output; accepted: two classes at least, or a loss of your own")

    def _value(self, loss: Loss, z: Tensor) -> Tensor:
        value = loss(z, self.labels)
        if not isinstance(value, Tensor) or value.shape != self.labels.shape:
            said = f"a tensor {[*value.shape]}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError(f"the loss gives {said} for {len(z)} images; accepted: one value per image")
        return self.sign * value if self.sign < 0 else value


@torch.inference_mode(False)
def ascend(
    model: nn.Module,
    x: Images,
    y: Tensor,
    settings: Settings,
    *,
    loss: Loss = cross_entropy,
    target: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Images:
    """Raise the loss of (x, y) within the ball of radius eps around x and within [0, 1].

    Args:
        model: maps images to logits [batch, classes]; run in evaluation mode, its own mode is restored. A function is
            called as it is.
        x, y: images in [0, 1], or tables and videos of any rank from 2, and their true labels [batch].
        settings: the attack.
        loss: what to raise, per image.
        target: class indices [batch]; if given, the loss of (x, target) is lowered instead.
        generator: everything random is drawn with it.

    Returns x_adv, without graph and in the precision of x: in half precision, too, no change exceeds eps. Parameters
    keep the gradients that they had. Raises InputError for images or labels out of range, for a model that gives NaN,
    probabilities or too few outputs, and for a gradient that is NaN.
    """
    given = images_of(x)
    check_pixels(given)
    goal = Goal(given, y, loss, target)
    if (settings.diversity or settings.translation) and given.ndim != 4:
        raise InputError(
            f"diversity or translation with {[*given.shape]}; accepted: images [batch, channels, height, width]"
        )
    x = given.double() if given.dtype in HALVES else given  # small steps would be rounded away
    allowed = ball(x, settings.eps, settings.norm)
    if not len(x):
        return given.clone()
    estimate = Estimate(model, given.dtype, settings, goal, generator)
    worst = Worst(model, goal) if settings.keep == "worst" else None
    broken = torch.zeros((), dtype=torch.bool, device=x.device)

    x_adv = allowed.random(generator) if settings.random_start else x.clone()
    direction = torch.zeros_like(x)
    for _ in range(settings.steps):
        gradient = estimate(x_adv, direction)
        if worst:
            worst.see(settled(x_adv, given))
        direction = accumulate(direction, gradient, settings.momentum)
        broken |= direction.isnan().any()  # the sign of NaN is 0: no attack at all
        x_adv = allowed.climb(x_adv, direction, settings.step_size)

    if broken or not x_adv.isfinite().all():
        raise InputError("the model's gradient is NaN; accepted: a model with finite gradients")
    x_adv = settled(x_adv, given)
    return worst.see(x_adv) if worst else x_adv


class Estimate:
    """Which gradient a step follows: that of the loss by the images, seen through what makes it transfer."""

    def __init__(
        self, model: nn.Module, dtype: torch.dtype, settings: Settings, goal: Goal, generator: torch.Generator | None
    ):
        self.model, self.dtype, self.settings, self.goal, self.generator = model, dtype, settings, goal, generator
        self.correction: Images | float = 0.0  # v of variance tuning, from the step before
        self.checked = False  # whether the model's outputs were found to be logits

    def __call__(self, x_adv: Images, direction: Images) -> Images:
        """The gradient of the step from x_adv, to which `direction` has led so far."""
        s = self.settings
        # NI: the gradient at x + alpha mu d (Lin et al. 2020)
        gradient = self.gradient(x_adv + s.step_size * s.momentum * direction if s.nesterov else x_adv)
        if not s.variance:
            return gradient
        # VT: grad + v, then v <- 1/n sum_j grad l(x + r_j) - grad, r_j in the ball of 1.5 eps (Wang & He 2021)
        tuned = gradient + self.correction
        around = BALLS[s.norm](x_adv, NEIGHBOURHOOD * s.eps)
        neighbours = sum(self.gradient(around.random(self.generator)) for _ in range(s.variance)) / s.variance
        self.correction = neighbours - gradient
        return tuned

    def gradient(self, x: Images) -> Images:
        """W * 1/m sum_i grad_x l(D(x) / 2^i): diverse inputs D, m scales, and a Gaussian W over the result."""
        s = self.settings
        with evaluation_mode(self.model), torch.enable_grad():
            x = x.detach().requires_grad_()
            seen = diversified(x, s.diversity, self.generator) if s.diversity else x
            total = sum(self.losses(seen / 2**i if i else seen).sum() for i in range(s.scales)) / s.scales
            gradient = gradient_by(x, total)
        return blur(gradient, s.translation) if s.translation else gradient

    def losses(self, x: Images) -> Float[Tensor, " batch"]:
        """The loss of every image; the first logits are looked at before anything is made of them."""
        z = logits_of(self.model, x.to(self.dtype), None if self.checked else self.goal.labels)
        if not self.checked:
            self.goal.check(z)
            self.checked = True
        return self.goal(z)


def diversified(x: Images, chance: float, generator: torch.Generator | None) -> Images:
    """D(x) of diverse inputs: with that chance, the images in a random size on a random place of a black canvas that is
    a tenth larger, the whole scaled back (Xie et al. 2019)."""
    device = generator.device if generator else "cpu"

    def draw(high: int) -> int:
        return int(torch.randint(high + 1, (1,), generator=generator, device=device))

    if torch.rand(1, generator=generator, device=device) >= chance:
        return x
    height, width = x.shape[-2:]
    rooms = [max(1, round((ENLARGEMENT - 1) * side)) for side in (height, width)]
    grown = [draw(room) for room in rooms]
    resized = F.interpolate(x, size=(height + grown[0], width + grown[1]), mode="bilinear", align_corners=False)
    above, left = (draw(room - by) for room, by in zip(rooms, grown, strict=True))
    below, right = rooms[0] - grown[0] - above, rooms[1] - grown[1] - left
    return F.interpolate(F.pad(resized, (left, right, above, below)), size=(height, width), mode="bilinear")


def accumulate(direction: Images, gradient: Images, momentum: float) -> Images:
    """The direction of the next step: d <- mu d + grad / mean|grad|, where each sample is divided by its own mean (Dong
    et al. 2018), or the gradient itself without momentum. `direction` may be changed in place."""
    if not momentum:
        return gradient
    mean = gradient.abs().mean(dim=each_image(gradient), keepdim=True)
    # a gradient of zero stays zero instead of becoming NaN
    return direction.mul_(momentum).add_(gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny))


class Worst:
    """Remembers, image by image, the iterate that the goal ranks highest."""

    def __init__(self, model: nn.Module, goal: Goal):
        self.model, self.goal = model, goal
        self.images: Images | None = None
        self.values: Tensor | None = None

    def see(self, x_adv: Images) -> Images:
        """The worst images so far, those of x_adv included. Of two equal ones it keeps the first."""
        if not len(x_adv):
            return x_adv
        with evaluation_mode(self.model), torch.no_grad():
            values = self.goal.rank(logits_of(self.model, x_adv))
        if self.images is None:
            self.images, self.values = x_adv.clone(), values
        better = values > self.values
        self.images[better], self.values = x_adv[better], torch.maximum(values, self.values)
        return self.images
