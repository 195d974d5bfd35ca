"""What the speed benchmarks measure, and how they count: tiny networks, no peer's code."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks import attacks, fidelity, frontier, maps, run, steps, tables, timing, workers
from benchmarks.memory import peak_bytes
from benchmarks.peers import Peers
from benchmarks.threats import EPS, MI_FGSM, PGD, check
from benchmarks.workloads import Workload
from jsigr_lib import cli, interpretability, statistics
from jsigr_lib.jacobian import jacobian_norms
from jsigr_lib.objectives import JSIGR, AdversarialTraining
from jsigr_lib.study import Study

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


# robustness against cost

SMALL = {
    "jobs": 1,
    "train_images": 128,
    "validation_images": 32,
    "test_images": 24,
    "saliency_images": 8,
    "epochs": 1,
    "surrogate_epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.02,
    "pgd_steps": 2,
    "seeds": [0, 1],
    "eps_grid": [0.0, 0.2],
    "widths": {"small-cnn": 2, "vgg": 2, "mlp": 16},
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> Study:
    """Every defence of the benchmark's own profile, as small as it gets."""
    folder = tmp_path_factory.mktemp("variants")
    return Study(str(frontier.PROFILE), device="cpu", runs=folder, out=folder / "results", **SMALL)


@pytest.fixture(scope="module")
def rows(variants) -> pd.DataFrame:
    """Its table, on a clock that gives the i-th defence 1 + i seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "DRAWS", 200)
        patch.setattr(
            tables, "measure", lambda cases, rounds, device: {name: [1.0 + i] * rounds for i, name in enumerate(cases)}
        )
        return frontier.table(variants, rounds=2)


def test_frontier_has_a_row_per_defence(variants, rows):
    assert rows.defence.tolist() == list(variants.profile.defences)
    assert rows.label.tolist() == list(variants.labels.values())
    assert set(rows.images) == {24} and set(rows.seeds) == {2}
    measured = {"clean", "transfer", "transfer_vgg", "transfer_at_0.2", "white_box", "agreement"}
    chosen_on = {"validation_clean", "validation_transfer"}
    bounds = {f"{name}_{end}" for name in measured | chosen_on for end in ("low", "high")}
    assert set(rows) == {"defence", "label", "cost", "images", "seeds"} | measured | chosen_on | bounds
    assert set(frontier.MEASURES) <= measured
    assert not rows.isna().any(axis=None)


def test_frontier_intervals_contain_their_means(rows):
    for name in [name for name in rows if f"{name}_low" in rows]:
        assert (rows[f"{name}_low"] <= rows[name]).all() and (rows[name] <= rows[f"{name}_high"]).all()
        assert rows[name].between(-1 if name == "agreement" else 0, 1).all()
        assert rows[name].nunique() > 3
        assert (rows[f"{name}_high"] - rows[f"{name}_low"]).max() > 0.05


def test_frontier_counts_what_the_networks_classify(variants, rows):
    """Clean accuracies of test and validation images, and agreement, over both seeds."""
    rows = rows.set_index("defence")
    for name in ("standard", "jsigr-teacher", "l1-strong"):
        networks = [variants.training(name, seed=seed) for seed in (0, 1)]
        for column, split, images in (("clean", "test", 24), ("validation_clean", "validation", 32)):
            x, y = variants.batch(split, images)
            right = [(variants.model(network)(x).argmax(1) == y).double().mean().item() for network in networks]
            assert rows.loc[name, column] == pytest.approx(np.mean(right))
        agreement = [interpretability.measures(variants, one)["agreement", "both", "clean"] for one in networks]
        assert rows.loc[name, "agreement"] == pytest.approx(np.mean(agreement))


def test_frontier_attacks_are_those_of_their_columns(variants):
    found = frontier.outcomes(variants, variants.targets()["small-cnn", "jsigr"])
    assert [one.target.seed for one in found["clean"]] == [0, 1]
    for name, ones in found.items():
        for one in ones:
            assert one.split == ("validation" if name.startswith("validation") else "test")
            attacked = one.attacked
            if name.endswith("clean"):
                assert attacked is None
            elif name == "white_box":
                assert (attacked.attack, attacked.eps, attacked.source) == ("pgd", 0.1, one.target)
            else:
                source = "vgg" if name == "transfer_vgg" else "mlp"
                assert attacked.source == variants.surrogate(source)
                assert (attacked.attack, attacked.eps) == ("mi-fgsm", 0.2 if name == "transfer_at_0.2" else 0.1)


def test_costs_are_those_of_one_step_and_relative_to_standard(variants, rows):
    """Each case was timed 1 second longer than the one before it."""
    for i, row in enumerate(rows.itertuples()):
        chance = getattr(variants.training(row.defence).build_objective(), "chance", 1)
        assert row.cost == pytest.approx((1 + i) / round(1 / (chance or 1)))
    assert rows.set_index("defence").cost["standard"] == 1


def test_a_cycle_holds_one_penalised_step_and_the_others_that_go_with_it(net, x, y):
    objective = JSIGR(0.1, 1.0, fraction=0.1)
    cycle = steps.one_in_so_many(objective)
    assert [one.chance for one in cycle] == [1, 0, 0, 0, 0]
    assert cycle[0].share == objective.share and objective.chance == pytest.approx(0.2)
    for alone in (JSIGR(0.1, 1.0, fraction=0.5), JSIGR(0, 0), AdversarialTraining(0.1)):
        assert steps.one_in_so_many(alone) == [alone]


def test_every_variant_that_is_drawn_is_one(variants):
    """And the curve is that of the share alone, from all images down."""
    p = variants.profile
    drawn = {*frontier.CURVE, *frontier.FIELD, *frontier.NORMS["L2"], *frontier.NORMS["L1"]}
    assert drawn <= set(p.defences)
    options = [p.options(name) for name in frontier.CURVE]
    shares = [one.pop("fraction") for one in options]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1
    assert all(one == options[0] for one in options)
    for share, name in zip(shares, frontier.CURVE, strict=True):
        assert p.defences[name].label == f"J-SIGR, q = {f'{share:g}'.removeprefix('0')}"
    for norm, names in frontier.NORMS.items():
        options = [p.options(name) for name in names]
        assert {one["norm"] for one in options} == {norm.lower()}
        for weight in ("lambda_j", "lambda_s"):
            assert [one[weight] for one in options] == sorted({one[weight] for one in options})


def assert_drawn(axes, rows, measure, across, lines):
    """Each line has the numbers of its defences, and each dot with an interval those of the defence that it names."""
    for line, names in zip([line for line in axes.lines if line.get_marker() == "o"], lines, strict=False):
        assert_allclose(line.get_xydata(), rows.loc[list(names), [across, measure]])
    by_label = rows.set_index("label")
    for bar in axes.containers:
        row = by_label.loc[bar.get_label()]
        assert_allclose(bar.lines[0].get_xydata(), [[row[across], row[measure]]])
        ((low, high),) = bar.lines[2][0].get_segments()
        assert_allclose([low[1], high[1]], [row[f"{measure}_low"], row[f"{measure}_high"]])
    assert axes.get_xlabel()
    looks = [(bar.lines[0].get_color(), bar.lines[0].get_marker()) for bar in axes.containers]
    assert len(set(looks)) == len(looks)


def panels_by_measure(fig) -> dict:
    measures = {title.capitalize(): measure for measure, title in frontier.MEASURES.items()}
    return {measures[axes.get_title("left")]: axes for axes in fig.axes}


def test_frontier_draws_its_table(variants, rows):
    fig, alt = frontier.draw(variants, rows)
    rows = rows.set_index("defence", drop=False)
    found = panels_by_measure(fig)
    assert {"transfer", "white_box"} <= set(found)
    for measure, axes in found.items():
        assert_drawn(axes, rows, measure, "cost", [frontier.CURVE])
        assert set(rows.loc[list(frontier.FIELD)].label) <= {bar.get_label() for bar in axes.containers}
        assert axes.get_xscale() == "log"
    assert "0.1" in fig.axes[0].get_ylabel()
    for row in rows.loc[[*frontier.FIELD, *frontier.CURVE]].itertuples():
        assert f"{row.label} {row.cost:.2f} times, {row.transfer:.2f}" in alt
    fig.savefig(variants.store.root / "frontier.png")


def test_norms_draw_their_table(variants, rows):
    fig, alt = frontier.draw_norms(variants, rows)
    rows = rows.set_index("defence", drop=False)
    found = panels_by_measure(fig)
    assert {"transfer", "agreement"} <= set(found)
    for measure, axes in found.items():
        assert_drawn(axes, rows, measure, "clean", frontier.NORMS.values())
        assert {f"J-SIGR, {norm}" for norm in frontier.NORMS} <= {line.get_label() for line in axes.lines}
        assert set(rows.loc[["fast", "pgd"]].label) <= {bar.get_label() for bar in axes.containers}
    for row in rows.loc[[name for names in frontier.NORMS.values() for name in names]].itertuples():
        numbers = f"clean {row.clean:.2f}, transferred {row.transfer:.2f}, agreement {row.agreement:.2f}"
        assert f"{row.label}: {numbers}" in alt
    fig.savefig(variants.store.root / "norms.png")


def test_frontier_is_written_with_its_figures_and_shown_nowhere(alone, variants, rows, tmp_path, monkeypatch):
    def study(profile, *, device, out, progress):
        assert profile == str(frontier.PROFILE)
        return Study(profile, device=device, runs=variants.store.root, out=out, progress=progress, **SMALL)

    monkeypatch.setattr(run, "Study", study)
    monkeypatch.setattr(frontier, "table", lambda study, rounds: rows)
    monkeypatch.setattr("jsigr_lib.plotting.display", lambda *_, **__: pytest.fail("displayed"))
    run.main(["frontier"], rounds=2, threads=1, device="cpu", out=tmp_path)
    figures = {f"{name}.{kind}" for name in ("frontier", "norms") for kind in ("png", "svg", "json")}
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "frontier.csv", "frontier.md"} | figures
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "frontier.csv"), rows.round(3), check_dtype=False)
    assert json.loads((tmp_path / "frontier.json").read_text())["alt"] == frontier.draw(variants, rows)[1]


# the command


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
