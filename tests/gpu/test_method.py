"""Training, attacks, maps and the theory's checks on the device give what they give on the CPU."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from jsigr_lib import attacks, attributions
from jsigr_lib.data.data import Split
from jsigr_lib.method.adversarial_training import TRADES
from jsigr_lib.method.defences import ScaleableInputGradient
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.networks import models, training
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.tensor_files import read, write
from jsigr_lib.theory.specimen import Specimen
from jsigr_lib.theory.statements import STATEMENTS

SETTINGS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "seed": 5}
CPU = torch.device("cpu")


def pictures(count: int, seed: int, channels: int = 1) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count) % 4)


def network(architecture: str = "mlp", channels: int = 1) -> nn.Sequential:
    colours = {"channels": channels, "mean": [0.5] * channels, "std": [0.3] * channels}
    return models.build(architecture, size=8, classes=4, seed=0, width=8, **colours)


def fitted(device, objective=None, architecture: str = "mlp", channels: int = 1, **options) -> tuple[dict, list]:
    """The trained network's state, on the CPU, and its history."""
    model, splits = network(architecture, channels).to(device), [pictures(n, n, channels) for n in (24, 16)]
    history = training.fit(model, objective or JSIGR(0.01, 0.1), *splits, **{**SETTINGS, **options})
    assert all(value.device.type == device.type for value in model.state_dict().values())
    return {name: value.cpu() for name, value in model.state_dict().items()}, history


def a_guide(channels: int) -> Tensor:
    """What a teacher hands down for each image, one channel or as many as it has."""
    return torch.rand(24, channels, 8, 8, generator=torch.Generator().manual_seed(0)).half()


TRAINED = {
    "plain": (lambda: JSIGR(0.0, 0.0), {}),
    "single pass": (lambda: JSIGR(0.01, 0.1, fraction=0.5), {"architecture": "small-cnn"}),
    "double backprop": (lambda: JSIGR(0.01, 0.1, estimator="double-backprop"), {}),
    "soft": (lambda: JSIGR(0.01, 0.1, fraction=1, norm="l1"), {}),
    "batch norm": (lambda: JSIGR(0.01, 0.1, fraction=1), {"architecture": "vgg-bn"}),
    "colour, moved": (lambda: JSIGR(0.01, 0.1), {"channels": 3, "augment": True, "guide": a_guide(1)}),
    "teacher's masks": (lambda: JSIGR(0.0, 0.1, fraction=1), {"guide": a_guide(1)}),
    "teacher's gradients": (lambda: ScaleableInputGradient(1.0), {"guide": a_guide(1)}),
    "attacked images": (lambda: TRADES(eps=0.1, steps=2, step_size=0.05, beta=1.0), {}),
}


ROUNDED = ("single pass", "batch norm")  # a penalty's gradient by a convolution's weights is rounded another way


@pytest.mark.parametrize("name", TRAINED)
def test_training(name, device, agree):
    objective, options = TRAINED[name]
    found, expected = (fitted(where, objective(), **options) for where in (device, CPU))
    if name in ROUNDED and device.type != "cuda":
        agree(found, expected, 1e-5, exact=False)
    else:
        agree(found, expected)


def test_equal_bytes(device, tmp_path):
    Store(tmp_path, device)
    (found, history), (again, told) = (fitted(device, architecture="vgg-bn") for _ in range(2))
    assert history == told and all(torch.equal(found[name], again[name]) for name in found)


def test_a_killed_training_goes_on(device, agree, tmp_path, monkeypatch):
    """On the other device, too: a checkpoint knows none."""
    expected = fitted(CPU)
    for name, before, after in (("same", device, device), ("from", device, CPU), ("to", CPU, device)):
        file = tmp_path / f"{name}.safetensors"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "monitor", interrupted(training.monitor, 2))
            fitted(before, checkpoint=file)
        assert len(read(file).facts["history"]) == 1
        agree(fitted(after, checkpoint=file), expected)


def interrupted(function, call: int):
    """The function, whose n-th call ends the program."""
    calls = iter(range(1, call + 1))

    def wrapped(*args):
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


@pytest.fixture
def batch(device) -> list[tuple]:
    """Network, images and labels, on the device and on the CPU."""
    model = network("small-cnn").eval()
    x, y = pictures(8, 0).batch(slice(None))
    return [(deepcopy(model).to(where), x.to(where), y.to(where)) for where in (device, CPU)]


@pytest.mark.parametrize("name", attributions.MAPS)
def test_map(name, batch, agree):
    found, expected = (attributions.saliency_map(name, *given, grid=4) for given in batch)
    assert found.device == batch[0][1].device
    agree(found.cpu(), expected)


@pytest.mark.parametrize("name", sorted(attacks.ATTACKS.keys() - {"autoattack"}))  # which takes long
def test_attack(name, batch, device):
    settings = {"fgsm": {}, "square": {"queries": 5}}.get(name, {"steps": 2})
    given = torch.Generator().manual_seed
    found, expected = (attacks.run(name, *one, eps=0.1, generator=given(0), **settings) for one in batch)
    assert found.device == batch[0][1].device
    assert (found - batch[0][1]).abs().max() <= 0.1 + 1e-6
    if device.type != "cuda" or name not in attacks.JUDGES:  # which draw on the device
        assert (found.cpu() == expected).double().mean() >= (0.95 if device.type == "cuda" else 1)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.id)
def test_statement(statement, device):
    """Of ReLUs, "trained" on nothing, in float64."""
    networks = {}
    for seed, name in enumerate(("standard", "jsigr")):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 4))
        x = torch.rand(6, 1, 6, 6, dtype=torch.double)
        networks[name] = Specimen(model.double().to(device), x.to(device), (torch.arange(6) % 4).to(device))
    found = statement.measure(networks)
    assert found.holds, found


# planted faults


def images_left(split, index, device="cpu"):
    return split.images[index].float() / 255, split.labels[index].to(device)


def coins_left(x, guide, generator):
    mirror = (torch.rand(len(x), generator=generator) < 0.5)[:, None, None, None]
    return torch.where(mirror, x.flip(3), x), guide


def checkpoint_left(path, model, optimizer, generator, history):
    write(path, {f"model.{name}": value for name, value in model.state_dict().items()}, {"history": history})


def classes_left(model, split):
    return model(split.batch(slice(None), next(model.parameters()).device)[0]).argmax(1)


FAULTS = {
    "images": (Split, "batch", images_left),
    "coins": (training, "_shift_and_flip", coins_left),
    "a checkpoint": (training, "_save", checkpoint_left),
    "predicted classes": (training, "predict", classes_left),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_left_on_one_side_is_noticed(name, device, tmp_path, monkeypatch):
    options = {"augment": True, "checkpoint": tmp_path / "checkpoint.safetensors"}
    monkeypatch.setattr(*FAULTS[name])
    fitted(CPU, **options)
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises((RuntimeError, TypeError, InputError), match=r"device|numpy|on cpu"):
        fitted(device, **options)
