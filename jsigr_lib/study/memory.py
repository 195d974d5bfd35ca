"""How much memory the largest task of a run takes, counted before it begins: of its tensors, not of the libraries."""

from collections.abc import Iterable
from dataclasses import dataclass

from jsigr_lib.networks.counting import PLAIN, channels, count_bytes
from jsigr_lib.networks.zoo import Training
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.attacked import ATTACK_BATCH, Attacked

SMALL = ("small-cnn", 8)  # on which the objectives are compared


@dataclass(frozen=True)
class Task:
    """A task, in words, and the bytes that its tensors take."""

    what: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.what}: about {max(self.bytes / 1e9, 0.1):.1f} GB of tensors, beside what torch itself takes"


def largest(specs: Iterable[Spec]) -> Task | None:
    """The training, or the attack through one network or several, that takes most; None if there is neither. Of all
    trainings it is that of the network whose plain steps take most, by the objective that takes most on a small one."""
    specs = [*specs]
    trainings = [one for one in specs if isinstance(one, Training)]
    tasks = [_attack(one) for one in specs if isinstance(one, Attacked)]
    if trainings:
        most = max(_plain(one, one.batch_size) for one in trainings)
        alike = [one for one in trainings if _plain(one, one.batch_size) == most]
        tasks.append(_training(max(alike, key=lambda one: _step(one, *SMALL))))
    return max(tasks, key=lambda task: task.bytes, default=None)


def _training(spec: Training) -> Task:
    name = f"a training of {spec.architecture} by {spec.objective}, {spec.batch_size} images at a time"
    return Task(name, _step(spec, spec.architecture, spec.width) + _data(spec))


def _attack(spec: Attacked) -> Task:
    names = ", ".join(dict.fromkeys(one.architecture for one in spec.sources))
    held = sum(_plain(one, ATTACK_BATCH) for one in spec.sources)
    return Task(f"{spec.attack} through {names}, {ATTACK_BATCH} images at a time", held + _data(spec.sources[0]))


def _plain(spec: Training, batch: int) -> int:
    return count_bytes(spec.architecture, spec.width, *PLAIN, spec.size, batch)


def _step(spec: Training, architecture: str, width: int | None) -> int:
    return count_bytes(architecture, width, spec.objective, spec.options, spec.size, spec.batch_size)


def _data(spec: Training) -> int:
    """The training images, a byte per pixel."""
    return spec.data.train_images * spec.size**2 * channels(spec.size)
