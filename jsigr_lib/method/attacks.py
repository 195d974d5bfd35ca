"""The attacks by name. All but the judges are settings of one loop, see `attack_loop`; `run` calls any of them.

An attack is called as attack(model, x, y, eps=..., generator=...) and returns images within eps of x and within [0, 1].
eps is a share of the pixel range, or with norm = "l2" the length of the whole change; it is one number for all images.
What else an attack takes are fields of `Settings`, `loss`, the value per image that it raises, and `target`, class
indices whose loss it lowers instead; the judges take neither. All raise InputError for bad values.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from jsigr_lib.method import judges
from jsigr_lib.method.attack_loop import Goal, Loss, Settings, Worst, ascend, cross_entropy, margin
from jsigr_lib.method.checks import check_count, images_of, number_of
from jsigr_lib.method.errors import InputError, one_of
from jsigr_lib.method.registry import Registry
from jsigr_lib.method.shapes import Images


def attack(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    loss: Loss = cross_entropy,
    target: Tensor | None = None,
    generator: torch.Generator | None = None,
    **settings,
) -> Images:
    """The loop itself: raise the loss of (x, y) with any `Settings`, of which eps, steps and step_size have no default.
    See `attack_loop.ascend`."""
    return ascend(model, x, y, Settings(**settings), loss=loss, target=target, generator=generator)


def fgsm(model: nn.Module, x: Images, y: Tensor, *, eps: float, **settings) -> Images:
    """One step of the whole budget (Goodfellow et al. 2015)."""
    return attack(model, x, y, eps=eps, steps=1, step_size=eps, **settings)


def bim(model: nn.Module, x: Images, y: Tensor, *, eps: float, steps: int = 10, **settings) -> Images:
    """Iterative FGSM: steps of eps / steps from the image itself (Kurakin et al. 2017)."""
    check_count("steps", steps)
    return attack(model, x, y, eps=eps, steps=steps, step_size=number_of("eps", eps) / steps, **settings)


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
    cross-entropy (Carlini & Wagner 2017's loss: it has a gradient where the softmax is saturated). A `loss` of your own
    is raised by all of them, and says which iterate is the worst.
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    step_size = 2.5 * number_of("eps", eps) / steps if step_size is None else step_size
    settings = {"eps": eps, "steps": steps, "step_size": step_size, "random_start": True, **settings}
    if restarts == 1:
        return attack(model, x, y, **settings)
    goal = Goal(images_of(x), y, settings.get("loss", cross_entropy), settings.get("target"))
    worst = Worst(model, goal)
    for restart in range(restarts):
        loss = margin if restart % 2 else cross_entropy
        x_worst = worst.see(attack(model, x, y, **{"keep": "worst", "loss": loss, **settings}))
    return x_worst


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
        "square": judges.square,
        "autoattack": judges.autoattack,
    }
)

JUDGES = ("square", "autoattack")


def run(name: str, model: nn.Module, x: Images, y: Tensor, *, eps: float, generator=None, **settings) -> Images:
    """The attack called `name`, drawing with `generator`. Raises InputError for an unknown name."""
    one_of("attack", name, ATTACKS)
    for given in ("loss", "target"):
        if name in JUDGES and settings.pop(given, None) is not None:
            raise InputError(f"{name} with a {given}; accepted: none, or one of our own attacks")
    return ATTACKS[name](model, x, y, eps=eps, generator=generator, **settings)
