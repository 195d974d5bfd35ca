"""What the speed benchmarks measure, and how they count: tiny networks, no peer's code."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import attacks, fidelity, maps, run, steps, tables, timing, workers
from benchmarks.memory import peak_bytes
from benchmarks.peers import Peers
from benchmarks.threats import EPS, MI_FGSM, PGD, check
from benchmarks.workloads import Workload
from jsigr_lib import cli
from jsigr_lib.jacobian import jacobian_norms
from jsigr_lib.objectives import JSIGR

TINY = Workload("small-cnn", channels=1, size=28, batch=4, width=2)
ALONE = Peers(jacobian_reg=None, torchattacks=None, versions={}, missing=dict.fromkeys(sum(run.PARTS.values(), ()), ""))


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the cases move: clock(name, *seconds) is a case that takes so long at each call."""
    now, calls = 0.0, []

    def case(name, *seconds):
        durations = iter(seconds)
        last = seconds[-1]

        def call():
            nonlocal now
            now += next(durations, last)
            calls.append(name)

        return call

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    case.calls = calls
    return case


def test_ratios_are_taken_within_each_round(clock):
    cases = {"base": clock("base", 1, 1, 2, 4), "other": clock("other", 9, 3, 6, 8)}
    seconds = timing.measure(cases, rounds=3, warmup=1, at_least=0)
    assert seconds == {"base": [1, 2, 4], "other": [3, 6, 8]}
    table = tables.ratios(seconds, "base").set_index("case")
    assert table.loc["base", ["ratio", "low", "high"]].tolist() == [1, 1, 1]
    assert table.loc["other", "ratio"] == 3
    assert table.loc["other", ["low", "high"]].tolist() == np.quantile([3, 3, 2], [0.1, 0.9]).tolist()


def test_rounds_interleave_and_rotate(clock):
    timing.measure({name: clock(name, 1) for name in "abc"}, rounds=3, warmup=1, at_least=0)
    assert "".join(clock.calls) == "abc" + "abc" + "bca" + "cab"


def test_quick_cases_are_repeated_until_a_timing_lasts(clock):
    cases = {"quick": clock("quick", 0.02), "slow": clock("slow", 1)}
    seconds = timing.measure(cases, rounds=1, warmup=1, at_least=0.05)
    assert clock.calls == ["quick", "slow", "quick", "quick", "quick", "slow"]
    assert seconds["quick"] == pytest.approx([0.02])


def test_peak_memory_counts_what_is_alive_together_and_new():
    held = torch.zeros(1000)

    def case():
        first = torch.zeros(100)
        del first
        second, third = torch.zeros(50), torch.zeros(70)
        held.add_(1)
        return second.view(5, 10), third

    assert peak_bytes(case) == 4 * 120


def test_every_step_trains():
    model = TINY.model()
    x, y = TINY.images()
    for objective in steps.objectives().values():
        before = model[-1].weight.detach().clone()
        steps.training_step(model, objective, x, y)()
        assert not torch.equal(model[-1].weight, before)


def test_step_cases_have_the_default_and_the_naive_composition():
    class Half(torch.nn.Module):
        def __init__(self, n):
            super().__init__()

        def forward(self, x, z):
            return jacobian_norms(z, x, projections=1).mean() / 2

    names = list(steps.cases(TINY, Half))
    assert names[0] == steps.BASELINE
    assert [name for name in names if "(default)" in name] == [f"J-SIGR, q = {JSIGR(1, 1).fraction:g} (default)"]
    assert len(names) == len(steps.cases(TINY, None)) + 1


def test_naive_composition_is_j_sigr(analytic, x, y):
    mask = torch.rand_like(x[:, :1])
    naive = steps.NaiveJSIGR(lambda x, z: jacobian_norms(z, x, projections="exact").mean() / 2, mask)
    ours = JSIGR(steps.LAMBDA_J, steps.LAMBDA_S, estimator="exact", fraction=1, norm="l2")
    losses = naive(analytic, x, y), ours(analytic, x, y, mask)
    gradients = [torch.autograd.grad(loss, analytic.weight)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def test_tulip_tends_to_the_input_gradient_penalty(net, x, y):
    ours = JSIGR(0, steps.LAMBDA_S, estimator="exact", fraction=1, norm="l2", selection=None)
    torch.testing.assert_close(steps.tulip(net, x, y, h=1e-6), ours(net, x, y), rtol=1e-4, atol=0)


@pytest.mark.parametrize("threat", [PGD, MI_FGSM], ids=lambda threat: threat.name)
def test_attack_cases_are_the_floor_and_a_checked_attack(threat):
    cases = attacks.cases(threat, TINY, ALONE)
    assert list(cases) == [attacks.BASELINE, "jsigr_lib"]
    assert cases["jsigr_lib"]().shape == TINY.images()[0].shape
    cases[attacks.BASELINE]()


@pytest.mark.parametrize(
    "attacked",
    [lambda x: x, lambda x: x + 1.1 * EPS, lambda x: x - EPS / 2, lambda x: x[:1]],
    ids=["unchanged", "too far", "below 0", "another shape"],
)
def test_attack_outside_the_budget_is_refused(attacked):
    x = torch.linspace(0, 0.5, 32).view(2, 1, 4, 4)
    check("library", x + EPS, x)
    with pytest.raises(RuntimeError, match="library"):
        check("library", attacked(x), x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_adds_milliseconds_and_peak_memory():
    cases = attacks.cases(PGD, TINY, ALONE, "cuda")
    table = tables.compare(cases, baseline=attacks.BASELINE, rounds=2, device="cuda")
    assert (table[["milliseconds", "peak_mb"]] > 0).all(axis=None)


def test_maps_cover_the_images():
    cases = maps.cases(TINY, ALONE)
    assert cases.pop(maps.BASELINE)() is None
    assert {case().shape for case in cases.values()} == {(TINY.batch, 1, TINY.size, TINY.size)}


def test_fidelity_is_a_correlation_per_defence(study):
    table = fidelity.table(study)
    assert table.defence.tolist() == list(study.labels.values())
    assert table.rank_correlation.between(-1, 1).all()
    assert (table.low <= table.rank_correlation).all() and (table.rank_correlation <= table.high).all()


def test_workers_are_compared_by_models_per_hour():
    scale = {"train_images": 128, "validation_images": 16, "epochs": 1, "widths": {"small-cnn": 2, "vgg": 4}}
    table = workers.table(threads=1, rounds=1, **scale)
    assert table.case.tolist() == ["one process, 1 threads", "1 processes, one thread each"]
    assert table.ratio[0] == 1 and table.ratio[1] > 0


@pytest.fixture
def alone(monkeypatch):
    """No peers, one tiny network and no time."""
    monkeypatch.setattr(run, "find", lambda *paths: ALONE)
    monkeypatch.setattr(steps, "STEPS", [TINY])
    monkeypatch.setattr(maps, "EVALUATION", [TINY])
    monkeypatch.setattr(tables, "measure", lambda cases, rounds, device: {name: [1.0] * rounds for name in cases})


def test_parts_are_written_whole_with_what_they_depend_on(alone, tmp_path):
    said = []
    run.main(["maps"], rounds=2, threads=1, device="cpu", out=tmp_path, report=said.append)
    run.main(["steps"], rounds=2, threads=1, device="cpu", out=tmp_path, report=said.append)
    expected = {"environment.json", *(f"{part}.{kind}" for part in ("maps", "steps") for kind in ("csv", "md"))}
    assert {path.name for path in tmp_path.iterdir()} == expected
    about = json.loads((tmp_path / "environment.json").read_text())
    assert set(about) == {"maps", "steps"}
    assert about["steps"]["torch"] == torch.__version__ and about["steps"]["threads"] == 1
    assert [line for line in said if "left out: captum" in line]


def test_a_part_that_fails_leaves_the_others_and_nothing_of_its_own(alone, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no")

    monkeypatch.setattr(maps, "table", fail)
    with pytest.raises(RuntimeError):
        run.main(["steps", "maps"], rounds=1, threads=1, device="cpu", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "steps.csv", "steps.md"}
    assert set(json.loads((tmp_path / "environment.json").read_text())) == {"steps"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--only", "stepz"], ["'stepz'", "steps", "workers"]),
        (["--rounds", "0"], ["rounds", "0"]),
        (["--threads", "0"], ["threads", "0"]),
        (["--device", "tpu"], ["'tpu'", "cpu"]),
        (["--profile", "quik"], ["'quik'", "quick"]),
        (["--jacobian-regularizer", "/nowhere"], ["/nowhere", "jacobian/jacobian.py"]),
        (["--torchattacks", "/nowhere/python"], ["/nowhere/python", "torchattacks"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, named):
    assert_refused(monkeypatch, capsys, named, "--threads", "1", "--out", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()


def test_an_installed_wheel_says_that_it_has_no_benchmarks(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert_refused(monkeypatch, capsys, [str(tmp_path), "repository"])


def assert_refused(monkeypatch, capsys, named: list[str], *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["jsigr", "bench", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    said = capsys.readouterr().err
    assert exit_.value.code == 2
    assert len(said.strip().splitlines()) == 1
    assert [word for word in named if word not in said] == []
