"""The same method and study on a CUDA device: they run, and agree with the CPU as far as floating point does."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from jsigr_lib import JSIGR, attributions, jacobian_norm
from jsigr_lib.pipeline import pipeline
from jsigr_lib.study.cells import robustness_cells
from jsigr_lib.study.robustness import accuracy_table
from jsigr_lib.study.study import Study

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_smoke_study_agrees_with_the_cpu(tmp_path):
    tables = {}
    for device in ("cpu", "cuda"):
        study = Study("smoke", device=device, runs=tmp_path / device, jobs=1, train_images=256, test_images=100)
        cells = [cell for cell in robustness_cells(study) if cell.row["defence"] in ("standard", "jsigr")]
        tables[device] = accuracy_table(study, cells)
    assert (tables["cpu"].accuracy - tables["cuda"].accuracy).abs().max() <= 0.05


@pytest.mark.slow
def test_smoke_pipeline(tmp_path):
    """All five notebooks."""
    made = pipeline.run(profile="smoke", out=tmp_path, device="cuda", jobs=1)
    assert torch.cuda.get_device_name() in made.machine


def trained(device, around, wrapped=lambda model: model, **options):
    """Loss, gradient and a map of one step on `device`, under autocast if it is asked for."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 5),
    ]
    network, x, y = nn.Sequential(*layers), torch.rand(16, 3, 12, 12), torch.arange(16) % 5
    network, x, y = network.to(device), x.to(device), y.to(device)
    model = wrapped(network)
    with around:
        loss = JSIGR(0.1, 1.0, fraction=1, **options)(model, x, y, generator=torch.Generator().manual_seed(0))
        loss = loss + jacobian_norm(model, x, projections="exact")
        maps = attributions.saliency_map("perturbation-linearised", model, x, y)
    assert loss.dtype == maps.dtype == torch.float32
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    return [part.detach().double().cpu() for part in (loss, gradient, maps)]


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("estimator", ["single-pass", "exact"])
def test_penalty_and_map_under_autocast_and_compiled(dtype, compiled, estimator):
    """Compiled by the default backend, whose kernels have no second derivative."""
    expected = trained("cpu", nullcontext(), estimator=estimator)
    around = torch.autocast("cuda", dtype=dtype) if dtype else nullcontext()
    found = trained("cuda", around, torch.compile if compiled else lambda model: model, estimator=estimator)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= (0.1 if dtype else 0.02) * other.norm()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_scaler_finds_the_gradient_finite(compiled):
    """In half precision, where the square of a gradient overflows or vanishes."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 5)).cuda()
    x, y = torch.rand(16, 3, 12, 12, device="cuda"), torch.arange(16, device="cuda") % 5
    scaler, optimizer = torch.amp.GradScaler("cuda"), torch.optim.SGD(model.parameters(), 0.1)
    before = model[3].weight.detach().clone()
    with torch.autocast("cuda", dtype=torch.float16):
        loss = JSIGR(0.1, 1.0, fraction=1)(torch.compile(model) if compiled else model, x, y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model[3].weight, before) and model[3].weight.isfinite().all()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.MultiheadAttention])
def test_kernels_without_a_second_derivative(kind):
    """cuDNN's and the fused ones."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            attention = kind is nn.MultiheadAttention
            self.layer = kind(8, 2, batch_first=True) if attention else kind(8, 8, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.layer(*[x] * (3 if kind is nn.MultiheadAttention else 1))[0].mean(1))

    model, x, y = Model().cuda(), torch.rand(6, 4, 8, device="cuda"), torch.arange(6, device="cuda") % 3
    JSIGR(0.1, 1.0, fraction=1, selection=None)(model, x, y).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
