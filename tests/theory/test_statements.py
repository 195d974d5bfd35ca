"""Every statement of the theory notebook has its checks, they hold, and a planted error makes them fail."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.figures import theory as theory_figures
from jsigr_lib.measure import linearised
from jsigr_lib.measure.linearised import second_derivative, softened, tangent_error
from jsigr_lib.theory import breaking, counterexamples, network_checks, statements
from jsigr_lib.theory.breaking import specimens
from jsigr_lib.theory.specimen import Specimen, offsets, penalty
from jsigr_lib.theory.statements import KINDS, STATEMENTS, Finding, checks_table, failing
from jsigr_lib.theory.symbolic import sphere_design, sphere_moment

each_statement = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.id)


@pytest.fixture(scope="module")
def networks() -> dict[str, Specimen]:
    """Two small networks of ReLUs, "trained" on nothing."""
    made = {}
    for seed, name in enumerate(("standard", "jsigr")):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 4))
        x = torch.rand(6, 1, 6, 6, dtype=torch.double)
        made[name] = Specimen(model.double(), x, torch.arange(6) % 4)
    return made


# the registry


def test_statements_are_numbered_and_whole():
    assert [one.id for one in STATEMENTS] == [f"S{i}" for i in range(1, 10)]
    assert len({one.title for one in STATEMENTS}) == 9
    assert all(one.source.startswith(("[abs", "[code", "[derived", "[ours")) and one.needs for one in STATEMENTS)


@each_statement
def test_symbolic_check_holds(statement):
    assert statement.prove().holds


@each_statement
def test_networks_check_holds(statement, networks):
    found = statement.measure(networks)
    assert found.holds, found
    assert found.n >= 2


@each_statement
def test_search_finds_no_counter_example(statement):
    found = statement.search(80)
    assert found.holds, found
    assert found.n >= 80 and not found.worst


def test_no_statement_lacks_a_passing_check_of_each_kind(study, monkeypatch):
    monkeypatch.setattr(statements, "DRAWS", 4_000)
    table = checks_table(study, specimens(study, 6, ["standard", "jsigr"]))
    for one in STATEMENTS:
        rows = table[table.statement.str.startswith(f"{one.id}:")].set_index("check")
        for kind in KINDS[:3]:
            assert rows.n[kind] > 0 and rows.holds[kind]
        assert ("random draws" in rows.index) == (one.id in ("S1", "S2", "S4", "S5"))
    assert failing(table) == []
    assert set(table.source) == {one.source for one in STATEMENTS}


@pytest.mark.parametrize(
    ("finding", "holds"),
    [
        (Finding(0.5, 1, 3, ""), True),
        (Finding(1.5, 1, 3, ""), False),
        (Finding(float("nan"), 1, 3, ""), False),
        (Finding(0.0, 1, 0, ""), False),
    ],
)
def test_finding_holds(finding, holds):
    assert finding.holds is holds


# planted errors: (statement, wrong formula, kinds that see it)

HEADS, TAILS = (lambda weight, k, coin: weight * k / coin), (lambda weight, coin: weight / (1 - coin))


def planted(heads, tails):
    """The formula of S4, from what each side of the coin is multiplied by."""
    return lambda lambda_j, lambda_s, classes, coin: (heads(lambda_j, classes, coin), tails(lambda_s, coin))


PLANTED = {
    "projection without K": (0, lambda k, square: square, "all"),
    "variance, 2K/(K+1)": (1, lambda k, g, n: 2 * k * (g - n**2 / k) / (k + 1), "all"),
    "variance, no -||J||^4/K": (1, lambda k, g, n: 2 * k * g / (k + 2), "all"),
    "p without onehot": (2, lambda p, onehot: p, "all"),
    "p, twice onehot": (2, lambda p, onehot: p - 2 * onehot, "all"),
    "heads without 1/coin": (3, planted(lambda weight, k, coin: weight * k, TAILS), "all"),
    "heads without K": (3, planted(lambda weight, k, coin: weight / coin, TAILS), "all"),
    "tails over coin": (3, planted(HEADS, lambda weight, coin: weight / coin), "all"),
    "fraction without 1/chance": (4, lambda mean, chance: mean, "all"),
    "1 for sqrt(2)": (5, lambda norm: norm, "symbolic search"),
    "distance, slope squared": (6, lambda gap, slope: gap / slope**2, "symbolic"),
    "half of beta": (7, lambda offset, slope: abs(offset) / 2 / slope, "all"),
    "remainder over 3": (8, lambda curvature, length: curvature * length**2 / 3, "all"),
}


@pytest.mark.parametrize(("index", "formula", "kinds"), PLANTED.values(), ids=PLANTED)
def test_planted_error_is_caught(networks, index, formula, kinds):
    one = replace(STATEMENTS[index], formula=formula)
    found = {"symbolic": one.prove()}
    if kinds != "symbolic":
        found["search"] = one.search(150)
    if kinds == "all":
        found["networks"] = one.measure(networks)
    assert {kind: finding.holds for kind, finding in found.items()} == dict.fromkeys(found, False)
    if "search" in found:
        assert found["search"].worst  # the simplest case that fails, as it was drawn


@pytest.mark.parametrize("index", [5, 6, 7])
def test_wrong_robustness_is_caught(monkeypatch, networks, index):
    """The library's own number, not the formula: S6 sees one that is too small, S7 both ways, S8 either."""
    right = linearised.linearised_robustness

    def short(model, x):
        found = right(model, x)
        return {**found, "robustness": found["robustness"] * 0.4}

    monkeypatch.setattr(linearised, "linearised_robustness", short)
    assert not STATEMENTS[index].measure(networks).holds
    assert not STATEMENTS[index].search(150).holds


def test_residual_out_of_the_graph_is_caught(monkeypatch, networks):
    """The value stays the same, and only the gradient tells."""
    right = network_checks.residual
    monkeypatch.setattr(network_checks, "residual", lambda z, y: right(z, y).detach())
    assert not STATEMENTS[3].measure(networks).holds


def test_a_kink_inside_the_region_is_caught(monkeypatch, networks):
    right = network_checks.regions.reach
    monkeypatch.setattr(network_checks.regions, "reach", lambda *args: 3 * right(*args))
    assert not STATEMENTS[8].measure(networks).holds


def test_nonuniform_draws_are_caught(study, monkeypatch):
    right = linearised.sphere
    monkeypatch.setattr(linearised, "sphere", lambda *args, **options: F.normalize(right(*args, **options) + 0.1))
    monkeypatch.setattr(statements, "DRAWS", 4_000)
    assert not STATEMENTS[0].draws(study).holds


def test_table_tells_failures(study, monkeypatch):
    good, bad, untried = Finding(0.1, 1, 5, "m"), Finding(2, 1, 5, "m", "the case"), Finding(0, 1, 0, "m")
    found = {"S1": (good, good), "S2": (good, bad), "S3": (good, untried)}
    cast = tuple(replace(STATEMENTS[0], id=name, title="t") for name in found)
    monkeypatch.setattr(statements, "STATEMENTS", cast)
    monkeypatch.setattr(statements.Statement, "checks", lambda self, *_: dict(zip(KINDS, found[self.id], strict=False)))
    table = checks_table(study, {"any": None})
    assert failing(table) == ["S2: t", "S3: t"]
    assert table.measure.tolist() == ["m", "m", "m", "m (the case)", "m", "m"]
    assert list(table) == ["statement", "source", "check", "n", "deviation", "tolerance", "holds", "measure"]


# the parts


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 10])
def test_sphere_design_has_the_moments_of_the_sphere(dimension):
    points, weights = sphere_design(dimension)
    assert len(points) == len(weights) == dimension**2
    np.testing.assert_allclose(np.square(points).sum(1), 1)
    fourth = np.einsum("p,pi,pj,pk,pl->ijkl", weights, points, points, points, points)
    for i, j, k, m in np.ndindex(*fourth.shape):
        powers = tuple(np.bincount([i, j, k, m], minlength=dimension).tolist())
        if i <= j <= k <= m and max(i, j, k, m) < 4:
            assert fourth[i, j, k, m] == pytest.approx(float(sphere_moment(powers)), abs=1e-14)


def test_sphere_moments_by_integration():
    """On the circle and on the sphere, by their angles."""
    a, b = sp.symbols("a b")
    circle = sp.integrate(sp.cos(a) ** 4, (a, 0, 2 * sp.pi)) / (2 * sp.pi)
    mixed = sp.integrate(sp.cos(b) ** 2 * sp.sin(b) ** 3, (b, 0, sp.pi)) / 2 * sp.Rational(1, 2)  # E[z^2 x^2]
    assert sphere_moment((4, 0)) == circle == sp.Rational(3, 8)
    assert sphere_moment((0, 2, 2)) == mixed == sp.Rational(1, 15)
    assert sphere_moment((2, 0, 0)) == sp.Rational(1, 3) and sphere_moment((1, 1)) == 0


def test_search_is_the_same_again_and_gives_the_shortest_failure():
    def case(draw):
        return float(draw.integer(0, 1000))

    found = [counterexamples.search(case, 8, 2000) for _ in range(2)]
    assert found[0] == found[1]
    largest, tried, worst = found[0]
    assert largest == 1000 and tried == 2000 and worst.endswith("9: [9]")


def test_search_does_not_take_nan_for_a_pass():
    largest, _, worst = counterexamples.search(lambda draw: float("nan") if draw.integer(0, 9) == 3 else 0.0, 1, 50)
    assert np.isnan(largest) and worst == "nan: [3]"


def test_draws_hold_the_boundary_cases():
    drawn = np.array([counterexamples.Draw(i).numbers(3, 2) for i in range(200)])
    ties, sizes = (drawn == drawn[:, :1]).all((1, 2)), np.abs(drawn).max((1, 2))
    assert (ties & (sizes > 0)).any() and (sizes == 0).any() and (drawn == 0).any((1, 2)).mean() < 0.6
    assert (np.abs(drawn) == 3).all((1, 2)).any() and ((sizes > 0) & (sizes < 1e-4)).any()
    np.testing.assert_allclose(drawn * 1e6, np.round(drawn * 1e6), atol=1e-8)


def test_search_does_not_depend_on_unrelated_code(tmp_path, monkeypatch):
    """Constants of other modules, which a property-based tester takes for hints, change no case."""
    before = [one.search(40) for one in STATEMENTS]
    (tmp_path / "unrelated.py").write_text("EDGE, OTHER = 2.718281, -1.414214\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("unrelated")
    np.random.seed(1)
    torch.manual_seed(1)
    assert [one.search(40) for one in STATEMENTS] == before


def test_search_lets_other_errors_through():
    with pytest.raises(ZeroDivisionError):
        counterexamples.search(lambda draw: 1 / 0, 1)


def test_offsets_are_the_bias_of_the_region(networks):
    one = networks["standard"]
    gaps, gradients, _ = one.slopes
    inner = torch.einsum("bjn,bn->bj", gradients, one.x.flatten(1))
    assert_close(offsets(one), gaps - inner)
    assert not any(module._forward_hooks for module in one.model.modules())
    linear = Specimen(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double(), one.x, one.y)
    with pytest.raises(ValueError, match="ReLU"):
        offsets(linear)


def test_softened_network_nears_the_network(networks):
    one = networks["standard"]
    apart = [(softened(one.model, a)(one.x) - one.logits).abs().max().item() for a in (1, 10, 1000)]
    assert apart[0] > apart[1] > apart[2] > 0 and apart[2] < 1e-2
    assert any(isinstance(module, nn.ReLU) for module in one.model.modules())


def test_second_derivative_by_hand(quadratic, x):
    """z_k = x^T A_k x / 2 along a step d: d^T A_k d, everywhere."""
    step = torch.rand_like(x)
    found = second_derivative(quadratic, x, step, torch.tensor([0.0, 0.3]))
    assert_close(found, quadratic(step).mul(2).detach().expand(2, -1, -1))
    assert_close(tangent_error(quadratic, x, step, [1.0])[0][0], quadratic(step).detach().norm(dim=1))


def test_penalty_is_that_of_the_images(networks):
    one = networks["standard"]
    norm, g = one.jacobian.square().sum((1, 2)), linearised.full_jacobian(one.model, one.x)
    residual = one.logits.softmax(1) - F.one_hot(one.y, 4)
    selective = torch.einsum("bkn,bk->bn", g, residual).square().sum(1)
    assert_close(penalty(one[[1, 4]]), (0.01 * norm + 3 * selective)[[1, 4]].mean())


# where they end


def test_input_gradient_is_jacobian_times_residual(networks, monkeypatch):
    g, product = breaking.input_gradients(networks["standard"], 2)
    np.testing.assert_allclose(g, product, atol=1e-15)
    monkeypatch.setattr(breaking, "residual", lambda z, y: z.softmax(1))
    assert np.abs(np.subtract(*breaking.input_gradients(networks["standard"], 2))).max() > 1e-3


def test_limits_are_exact_at_the_image(networks):
    one = networks["standard"]
    way = breaking.towards_boundary(one, np.array([0.0, 1e-4]))
    assert way["same"].all()
    np.testing.assert_allclose(way["gap"], [[1] * 6, [1 - 1e-4] * 6], atol=1e-12)
    left, most = breaking.alignment_gaps(one)
    assert (left <= most * (1 + 1e-9)).all() and len(left) == 6


def test_coin_outcomes_and_halves_have_the_right_means(networks):
    one, coins = networks["standard"], np.linspace(0.1, 0.9, 5)
    found = breaking.coin_outcomes(one, coins)
    np.testing.assert_allclose(found["mean"], penalty(one).item())
    counted, chance = breaking.half_batches(one, images=6)
    assert len(counted) == 20 and chance == pytest.approx(0.2)
    assert counted.mean() * chance == pytest.approx(1)


def test_tangent_errors_of_the_softened_network_stay_below_their_bound(networks):
    found = breaking.error_curves(networks["standard"], np.geomspace(1e-3, 1, 12))
    assert found["network"].shape == (12, 6)
    assert (found["softened"] <= 1.05 * found["bound"] + 1e-14).all()  # M is taken at twelve places
    assert (found["softened"] > 0).all()


def test_specimens_are_the_networks_in_float64(study):
    found = specimens(study, 3, ["jsigr", "standard"])
    assert list(found) == ["jsigr", "standard"]
    assert found["standard"].logits.dtype == torch.double and found["standard"].logits.shape == (3, 10)
    assert_close(found["standard"][:2].x, found["standard"].x[:2])


# their figures


def test_identities_figure_says_what_a_missing_weight_costs(study, networks):
    one, coins = networks["jsigr"], np.linspace(0.1, 0.9, 9)
    gradients = {name: breaking.input_gradients(network) for name, network in networks.items()}
    outcomes, halves = breaking.coin_outcomes(one, coins), breaking.half_batches(one, images=6)
    fig, alt = theory_figures.penalty_identities(study, gradients, coins, outcomes, halves)
    assert [axes.get_title(loc="left")[-4:] for axes in fig.axes] == ["(S3)", "(S4)", "(S5)"]
    assert "1.00" in alt and "it would be 0.20" in alt


def test_limits_figure_counts_what_breaks(study, networks):
    shares, radii = np.linspace(0, 2, 5), np.geomspace(1e-3, 1, 6)
    ways = {name: breaking.towards_boundary(network, shares) for name, network in networks.items()}
    errors = breaking.error_curves(networks["standard"], radii)
    alignments = {away: breaking.alignment_gaps(networks["standard"], away) for away in (0.0, 3.0)}
    fig, alt = theory_figures.tangent_limits(study, shares, ways, radii, errors, alignments)
    assert [axes.get_title(loc="left")[-4:] for axes in fig.axes] == ["(S7)", "(S7)", "(S9)", "(S8)"]
    assert "broken by 0 percent at distance 0" in alt
    changed = 100 * (1 - ways["standard"]["same"][2].mean())
    assert f"standard {changed:.0f}, J-SIGR" in alt


def test_a_network_that_became_a_constant_is_no_specimen(tiny, tmp_path, monkeypatch):
    study = tiny(tmp_path)
    constant = study.model(study.training("pgd"))
    for weight in constant.parameters():
        torch.nn.init.zeros_(weight)
    model = study.model
    monkeypatch.setattr(study, "model", lambda spec: constant if spec == study.training("pgd") else model(spec))
    assert list(specimens(study, 2, ["standard", "pgd"])) == ["standard"]
