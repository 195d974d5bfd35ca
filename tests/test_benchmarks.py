"""What the speed benchmarks measure, and how they count: tiny networks, no peer's code."""

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks import (
    attacks,
    explorer,
    fidelity,
    frontier,
    kills,
    libraries,
    maps,
    mutants,
    run,
    scaling,
    steps,
    strength,
    tables,
    timing,
    workers,
)
from benchmarks.peers import Peers
from benchmarks.threats import EPS, FAMILY, PGD, PGD_L2, STRENGTH, TIMED, check, repeats, violation
from benchmarks.workloads import COSTS, Usual, Workload
from jsigr_lib import cli
from jsigr_lib.method import attacks as ours
from jsigr_lib.method.adversarial_training import AdversarialTraining
from jsigr_lib.method.jacobian import jacobian_norms
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.networks.counting import peak_bytes
from jsigr_lib.study.study import Study

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


def test_a_default_step_is_the_mean_of_its_kinds(monkeypatch):
    seconds = {"standard": [1, 2], "other": [1, 2.2], "penalised": [2, 4], "double backprop": [3, 8]}
    monkeypatch.setattr(steps, "measure", lambda cases, rounds, device: {name: seconds[name] for name in cases})
    (row,) = steps.costs(rounds=2, device=torch.device("cpu"), workloads=[Usual("CNN", torch.nn.SiLU, batch=2)]).iloc
    assert row["network"] == "CNN" and row["activation"] == "SiLU" and row["standard_ms"] == 1500 and row["rounds"] == 2
    assert_allclose(row["default"], 0.2 * 2 + 0.8 * 1.05)
    assert_allclose(row["double_backprop"], 0.2 * 3.5 + 0.8 * 1.05)
    assert_allclose([row["penalised_step"], row["double_backprop_step"], row["other_step"]], [2, 3.5, 1.05])


@pytest.mark.parametrize("workload", COSTS, ids=lambda one: f"{one.architecture}, {one.activation.__name__}")
def test_usual_networks_have_the_activation_that_their_row_names(workload):
    found = {type(module) for module in workload.model().modules()}
    assert {torch.nn.ReLU, torch.nn.SiLU, torch.nn.GELU} & found <= {workload.activation}
    assert workload.activation in found or torch.nn.LSTM in found


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
    torch.testing.assert_close(steps.Tulip(h=1e-6)(net, x, y), ours(net, x, y), rtol=1e-4, atol=0)


@pytest.mark.parametrize("threat", TIMED, ids=lambda threat: threat.name)
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


# strength


def test_threats_are_the_defaults_of_our_attacks():
    model, (x, y) = TINY.model(), TINY.images()
    for name, threat in [*FAMILY.items(), ("pgd", PGD_L2)]:
        default = ours.run(name, model, x, y, eps=threat.eps, norm=threat.norm, generator=torch.manual_seed(1))
        case = libraries.ours(threat, model, x, y, generator=torch.manual_seed(1))
        torch.testing.assert_close(case(), default, rtol=0, atol=0)
    followers = {name for name in ours.ATTACKS if name not in ("square", "autoattack")}
    assert set(FAMILY) == followers


def test_violations_are_named():
    x = torch.full((2, 1, 4, 4), 0.5)
    far = torch.full_like(x, 0.9 * EPS)
    assert violation(x + far, x, PGD) == violation(x + far, x, PGD_L2) == ""
    assert "changed images by 0.2" in violation(x + 0.2, x, PGD)
    assert "changed images by 1.6" in violation(x + 0.4, x, PGD_L2)
    assert "values from 1.05 to 1.05" in violation(x + 0.55, x + 0.5, PGD)
    assert "nan" in violation(x * torch.nan, x, PGD)


@pytest.fixture
def few(monkeypatch, study) -> Study:
    monkeypatch.setattr(strength, "STRENGTH", [PGD, FAMILY["mi-fgsm"], PGD_L2])
    return study


def faked(monkeypatch, **libraries_) -> Peers:
    """Peers that are such functions."""
    monkeypatch.setattr(strength, "IN_PROCESS", {name: (name, library) for name, library in libraries_.items()})
    return Peers(None, None, versions=dict.fromkeys(libraries_, "1"), missing={})


def test_strength_without_peers_is_accuracy_left_by_ours(few):
    table = strength.table(few, ALONE)
    assert table.library.unique().tolist() == [strength.OURS]
    routes = table[["network", "made_on"]].drop_duplicates().apply(tuple, axis=1).tolist()
    other = few.profile.surrogates[0]
    assert routes == [
        ("standard", "itself"), (other, "standard"), ("J-SIGR", "itself"), ("standard", other), ("J-SIGR", other)
    ]  # fmt: skip
    assert len(table) == 3 * len(routes)
    assert table.draws.tolist() == [3, 1, 3] * len(routes)
    assert (table.accuracy_low <= table.accuracy).all() and (table.accuracy <= table.accuracy_high).all()


def test_strength_is_accuracy_on_the_images_of_the_attack(few):
    table = strength.table(few, ALONE).set_index(["network", "made_on", "attack"])
    other, (x, y) = few.profile.surrogates[0], few.batch("test", strength.IMAGES)
    images = ours.mi_fgsm(few.model(few.surrogate(other)), x, y, eps=EPS)
    right = (few.model(few.training("jsigr"))(images).argmax(1) == y).double().mean().item()
    assert table.loc[("J-SIGR", other, "MI-FGSM"), "accuracy"] == pytest.approx(right)


def test_strength_tells_equal_from_idle_from_cheating(few, monkeypatch):
    def idle(threat, model, x, y):
        return lambda: x

    def cheat(threat, model, x, y):
        return lambda: torch.rand_like(x)

    def same(threat, model, x, y):
        return libraries.ours(threat, model, x, y, generator=generators.setdefault(threat.name, few.generator()))

    generators = {}
    table = strength.table(few, faked(monkeypatch, same=same, idle=idle, cheat=cheat))
    white = table[(table.network == "standard") & (table.made_on == "itself")].set_index(["library", "attack"])
    assert set(white.loc["same", "ours"]) == {"equal"} and (white.loc["same", "difference"] == 0).all()
    assert set(white.loc["idle", "ours"]) == {"stronger"}
    assert white.loc[strength.OURS, "ours"].isna().all()
    assert white.loc["idle", "note"].str.startswith("changed images by 0; ").all()
    assert white.loc["cheat", "note"].str.contains("the budget is").all()
    assert set(white.loc["same", "note"]) == {""}


def test_only_plain_threats_are_asked_of_libraries_without_the_others(few, monkeypatch):
    monkeypatch.setattr(strength, "STRENGTH", STRENGTH)
    monkeypatch.setattr(strength, "ours", idle := lambda threat, model, x, y, generator=None: lambda: x)
    found = strength.attacked(few, few.training("standard"), faked(monkeypatch, idle=idle), *few.batch("test", 2))
    plain = ["FGSM", "BIM", "PGD-20", "MI-FGSM", "PGD-20, L2"]
    assert [name for library, name in found if library == "idle"] == plain
    assert [name for library, name in found if library == strength.OURS] == [threat.name for threat in STRENGTH]


@pytest.mark.parametrize(
    ("interval", "said"), [((0.1, 0, 0.2), "equal"), ((0.1, 0.01, 0.2), "stronger"), ((-0.1, -0.2, -0.01), "weaker")]
)
def test_a_library_that_leaves_more_accuracy_is_weaker_than_ours(interval, said):
    assert strength.verdict(*interval) == said


def test_libraries_draw_from_a_seed_and_leave_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    drawn = []
    for _ in range(2):
        with strength.seeded():
            drawn.append((torch.rand(1).item(), np.random.rand()))
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


@pytest.mark.filterwarnings("default")  # of the libraries themselves
@pytest.mark.parametrize("package", libraries.IN_PROCESS)
def test_installed_libraries_keep_to_the_threat(package):
    pytest.importorskip({"adversarial-robustness-toolbox": "art"}.get(package, package))
    model, (x, y) = TINY.model(), TINY.images()
    for threat in [threat for threat in STRENGTH if threat.plain]:
        assert violation(libraries.IN_PROCESS[package][1](threat, model, x, y)(), x, threat) == ""


TORCHATTACKS = ["FGSM", "PGD", "MIFGSM", "NIFGSM", "DIFGSM", "TIFGSM", "SINIFGSM", "VMIFGSM", "PGDL2"]


@pytest.fixture
def torchattacks(monkeypatch):
    """A torchattacks whose attacks say what they were given and add half of eps; with the worker that is told so."""
    module, asked = ModuleType("torchattacks"), []

    def named(name):
        def attack(model, **settings):
            asked.append((name, settings))
            return lambda x, y: (x + settings["eps"] / 2 * (1 - 2 * (x > 0.5).float()) + 0 * model(x).sum()).detach()

        return attack

    vars(module).update({name: named(name) for name in TORCHATTACKS})
    module.attack = SimpleNamespace(Attack=object)
    monkeypatch.setitem(sys.modules, "torchattacks", module)
    for name in ("benchmarks.torchattacks_worker", "benchmarks.torchattacks_images"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    worker = importlib.import_module("benchmarks.torchattacks_images")
    yield worker, asked
    for name in ("benchmarks.torchattacks_worker", "benchmarks.torchattacks_images"):
        sys.modules.pop(name)


def test_torchattacks_is_given_our_settings(torchattacks):
    worker, asked = torchattacks
    for threat in STRENGTH:
        worker.build(threat, TINY.model())
    asked = dict(asked)
    assert list(asked) == TORCHATTACKS
    assert all(settings["eps"] == (1.5 if name == "PGDL2" else EPS) for name, settings in asked.items())
    assert all(settings["decay"] == 1 for name, settings in asked.items() if name.endswith("IFGSM"))
    assert asked["DIFGSM"]["diversity_prob"] == 0.5 and asked["TIFGSM"]["diversity_prob"] == 0
    assert asked["TIFGSM"]["len_kernel"] == 7  # from -3 to 3 sigma, a pixel each: sigma is a pixel
    assert asked["SINIFGSM"]["m"] == 5 and asked["VMIFGSM"]["N"] == 20


def test_torchattacks_attacks_the_network_that_it_is_sent(torchattacks, few, monkeypatch):
    worker, _ = torchattacks
    monkeypatch.setattr(strength, "STRENGTH", (PGD, FAMILY["ti-fgsm"]))
    monkeypatch.setattr(strength, "run_elsewhere", lambda python, module, arguments: worker.main(**arguments))
    x, y = few.batch("test", 5)
    found = strength.elsewhere(few, few.training("standard"), "python", x, y)
    assert list(found) == [("torchattacks", "PGD-20"), ("torchattacks", "TI-FGSM")]
    for threat, images in zip((PGD, FAMILY["ti-fgsm"]), found.values(), strict=True):
        assert images.shape == (5 * repeats(threat), *x.shape[1:])
        assert violation(images, x.repeat(repeats(threat), 1, 1, 1), threat) == ""


def test_notes_are_about_attacks_and_libraries_that_are_there():
    known = {"torchattacks", *(name for name, _ in libraries.IN_PROCESS.values())}
    assert {library for library, _ in strength.NOTES} <= known
    assert {name for _, name in strength.NOTES} <= {threat.name for threat in STRENGTH}


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
        maps = [frontier.maps(variants, network) for network in networks]
        agreement = [variants.get(one).tensors["agreement|gradient|clean"].numpy() for one in maps]
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
                assert (attacked.attack, attacked.eps, attacked.sources) == ("pgd", 0.1, (one.target,))
            else:
                source = "vgg" if name == "transfer_vgg" else "mlp"
                assert attacked.sources == (variants.surrogate(source),)
                assert (attacked.attack, attacked.eps) == ("mi-fgsm", 0.2 if name == "transfer_at_0.2" else 0.1)


def test_costs_are_those_of_one_step_and_relative_to_standard(variants, rows):
    """Each case was timed 1 second longer than the one before it."""
    for i, row in enumerate(rows.itertuples()):
        (how_often, _), *_ = variants.training(row.defence).build_objective().kinds_of_step()
        assert row.cost == pytest.approx((1 + i) / round(1 / how_often))
    assert rows.set_index("defence").cost["standard"] == 1


def test_a_cycle_holds_one_penalised_step_and_the_others_that_go_with_it(net, x, y):
    objective = JSIGR(0.1, 1.0, fraction=0.1)
    cycle = steps.one_in_so_many(objective)
    assert [one.penalised_steps for one in cycle] == [1, 0, 0, 0, 0]
    assert cycle[0].penalised_images == objective.penalised_images == 0.5
    assert objective.penalised_steps == pytest.approx(0.2)
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
    monkeypatch.setattr("jsigr_lib.figures.plotting.display", lambda *_, **__: pytest.fail("displayed"))
    run.main(["frontier"], rounds=2, threads=1, device="cpu", out=tmp_path)
    figures = {f"{name}.{kind}" for name in ("frontier", "norms") for kind in ("png", "svg", "json")}
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "frontier.csv", "frontier.md"} | figures
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "frontier.csv"), rows.round(3), check_dtype=False)
    assert json.loads((tmp_path / "frontier.json").read_text())["figure"]["alt"] == frontier.draw(variants, rows)[1]


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
    monkeypatch.setattr(explorer, "find", lambda: "chromium")  # or another line says first that there is none
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


MUTANTS = pd.DataFrame(
    [
        ("attacks", "attacks.margin", "killed", "-return a\n+return b"),
        ("attacks", "attacks.margin", "timeout", "-return a\n+return c"),
        ("attacks", "attacks._Worst.see", "survived", "-a > b\n+a >= b"),
        ("attacks", "attacks._Worst.see", "no tests", "-generator=generator,"),
        ("jacobian", "jacobian.vjp", "killed", "-return a\n+return None"),
    ],
    columns=["module", "function", "status", "change"],
)


def test_what_is_not_killed_lowers_the_score():
    counted = mutants.counts(MUTANTS).set_index("module")
    assert dict(counted.loc["attacks"]) == {"mutants": 4, "killed": 1, "timeout": 1, "survived": 2, "score": 0.5}
    assert counted.score["jacobian"] == 1


def test_every_survivor_has_a_reason_and_every_reason_a_survivor():
    reasons = {"attacks._Worst.see": {"+a >= b": "a tie", "-generator=": "no draw"}}
    assert mutants.compare(MUTANTS, reasons) == []
    assert mutants.compare(MUTANTS, {"attacks._Worst.see": {"+a >= b": "a tie"}}) == [
        "no tests, attacks._Worst.see:\n-generator=generator,"
    ]
    known = {**reasons, "attacks.margin": {"+return b": "killed all the same"}}
    assert mutants.compare(MUTANTS, known) == ["no survivor, attacks.margin: +return b"]


def test_slots_share_the_work_until_the_longest_chain_is_left(monkeypatch):
    """Of two plans: one whose work divides without end, and one that four slots do not make shorter than two."""

    def plan(profile, slots, **_):
        minutes = {n: 600 / (n if profile == "full" else min(n, 2)) for n in slots}
        return SimpleNamespace(artefacts=[0] * 5, slot_minutes=minutes, chain_minutes=min(minutes.values()))

    monkeypatch.setattr(scaling, "plan", plan)
    rows = scaling.table("cpu").set_index(["study", "slots"])
    assert rows.loc[("full", 64)].tolist() == pytest.approx([5, 64, 64, 1])
    assert rows.loc[("paper", 4)].tolist() == [5, 2, 2, 0.5]
    fig, alt = scaling.draw(rows.reset_index())
    assert fig.axes[1].get_title(loc="left") == "Up to 2 slots hardly any waits"
    assert alt.endswith("full 64 times as fast on 64 slots as on one; paper 2 times as fast on 64 slots as on one.")


@pytest.mark.parametrize(("tables_after", "left"), [({}, []), ({"a.csv": b"1"}, ["half.tmp"]), ({"a.csv": b"1"}, [])])
def test_kills_count_only_if_the_tables_are_the_same_and_nothing_is_left(monkeypatch, tables_after, left):
    """The campaign itself is in test_faults.py, for real."""

    class Place(SimpleNamespace):
        def __init__(self, folder):
            (folder / "out").mkdir(parents=True)
            made = {"a.csv": b"1"} if folder.name == "reference" else tables_after
            super().__init__(out=folder / "out", tables=lambda: made, temporaries=lambda: left)

    monkeypatch.setattr(kills, "Sandbox", Place)
    monkeypatch.setattr(kills, "undisturbed", lambda *_: 1.0)
    monkeypatch.setattr(kills, "campaign", lambda *args, **options: iter([{"kill": 1, "intact": True}]))
    if tables_after and not left:
        assert kills.table(kills=1)["intact"].tolist() == [True]
    else:
        with pytest.raises(RuntimeError, match=r"^after 1 kills the tables differ, or"):
            kills.table(kills=1)
