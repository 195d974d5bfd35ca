"""The same attack by our library and by those of the `bench` extra, as functions without arguments that give images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.threats import Threat
from jsigr_lib.method import attacks

Case = Callable[[], Tensor]


def ours(threat: Threat, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Case:
    return lambda: attacks.attack(model, x, y, generator=generator, **threat.settings)


def foolbox(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Case:
    import foolbox

    settings = {"abs_stepsize": threat.step_size, "steps": threat.steps, "random_start": threat.random_start}
    if threat.momentum:
        kind = foolbox.attacks.LinfMomentumIterativeFastGradientMethod
        attack = kind(momentum=threat.momentum, **settings)
    elif threat.steps == 1:
        attack = foolbox.attacks.LinfFastGradientAttack(random_start=threat.random_start)
    else:
        attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[threat.norm](**settings)
    wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device=x.device)
    return lambda: attack(wrapped, x, y, epsilons=threat.eps)[1]  # raw, clipped, whether it succeeded


def art(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Case:
    """ART takes and gives arrays: their conversion is part of its time."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model.eval()(x[:1]).shape[1]
    classifier = PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )
    settings = {"eps": threat.eps, "eps_step": threat.step_size, "batch_size": len(x)}
    loop = {"max_iter": threat.steps, "verbose": False, **settings}
    starts, norm = int(threat.random_start), {"linf": "inf", "l2": 2}[threat.norm]
    if threat.momentum:
        attack = evasion.MomentumIterativeMethod(classifier, decay=threat.momentum, **loop)
    elif threat.steps == 1:
        attack = evasion.FastGradientMethod(classifier, num_random_init=starts, norm=norm, **settings)
    else:
        attack = evasion.ProjectedGradientDescentPyTorch(classifier, num_random_init=starts, norm=norm, **loop)
    images, labels = x.cpu().numpy(), y.cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(images, labels)).to(x.device)


IN_PROCESS = {"foolbox": ("Foolbox", foolbox), "adversarial-robustness-toolbox": ("ART", art)}
"""Package -> what tables call it, and its attacks; both have those that are `plain`."""
