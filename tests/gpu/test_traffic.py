"""How often the host waits for the device, or copies something to it: counted on the software device."""

import pytest
import torch

from jsigr_lib import attacks
from jsigr_lib.method.jsigr import JSIGR
from tests.gpu import software_device
from tests.gpu.conftest import SOFTWARE
from tests.gpu.test_method import network, pictures

pytestmark = pytest.mark.skipif(not SOFTWARE, reason="counts on the software device alone")


def traffic(call) -> dict[str, int]:
    with software_device.counted() as found:
        call()
    return {kind: sum(n for (one, _), n in found.items() if one == kind) for kind in ("wait", "copy")}


@pytest.fixture
def given(device) -> tuple:
    x, y = pictures(16, 0).batch(slice(None), device)
    return network("small-cnn").to(device), x, y


def test_traffic_is_counted(given):
    _, x, y = given
    assert traffic(lambda: x.sum().item()) == {"wait": 1, "copy": 0}
    assert traffic(lambda: x[torch.tensor([0])]) == {"wait": 0, "copy": 1}
    assert traffic(lambda: x[y == 0].cpu()) == {"wait": 2, "copy": 0}
    assert traffic(lambda: torch.zeros(2).to(x.device) + x.sum() + x[0, 0, 0, 0]) == {"wait": 0, "copy": 1}


@pytest.mark.parametrize("name", ["bim", "pgd", "mi_fgsm", "vt_fgsm"])
def test_an_attack_waits_for_its_checks_alone(name, given):
    """However many steps it has, none of them waits."""
    found = [traffic(lambda n=n: getattr(attacks, name)(*given, eps=0.1, steps=n)) for n in (2, 5)]
    assert found[0] == found[1]
    assert found[0]["wait"] <= CHECKS and not found[0]["copy"]


CHECKS = 9  # of images, labels and logits, and of what comes out
STEPS = {
    "plain": (JSIGR(0.0, 0.0), 0),
    "penalised": (JSIGR(0.01, 0.1, fraction=1), 2),  # the projections, and which images they are for
    "some images penalised": (JSIGR(0.01, 0.1, fraction=0.5), 3),  # and which images these are
}


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step(name, given):
    """It waits once, for its look at the labels, and copies what it draws. The first step of all is left out, which
    makes what is kept for the next ones."""
    objective, copies = STEPS[name]
    seeded = torch.Generator().manual_seed(0)
    for _ in range(2):
        found = traffic(lambda: objective(*given, generator=seeded).backward())
    assert found["wait"] <= 1 and found["copy"] <= copies
