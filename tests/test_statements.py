"""Every statement of the theory notebook has its checks, they hold, and a planted error makes them fail."""

import numpy as np
import pytest
import sympy as sp
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib import formulas, limits, network_checks, searches, statements, symbolic, theory, theory_figures
from jsigr_lib.findings import Finding, sphere_design
from jsigr_lib.specimens import Specimen, offsets, penalty, second_derivative, softened, specimens, tangent_error
from jsigr_lib.statements import KINDS, STATEMENTS, checks_table, failing

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


@pytest.fixture
def wrong(monkeypatch):
    """wrong(name, function): a formula, replaced."""
    return lambda name, function: monkeypatch.setattr(formulas, name, function)


# the registry


def test_statements_are_numbered_and_whole():
    assert [one.id for one in STATEMENTS] == [f"S{i}" for i in range(1, 10)]
    assert len({one.title for one in STATEMENTS}) == 9
    assert all(one.source.startswith(("[abs", "[code", "[derived", "[ours")) and one.needs for one in STATEMENTS)


@each_statement
def test_symbolic_check_holds(statement):
    assert symbolic.proved(statement.symbolic).holds


@each_statement
def test_networks_check_holds(statement, networks):
    found = statement.networks(networks)
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
            assert (rows.n[kind] > 0 and rows.holds[kind]) or rows.measure[kind].startswith("none: ")
        assert ("random draws" in rows.index) == (one.id in ("S1", "S2", "S4", "S5"))
    assert failing(table) == []
    assert set(table.source) == {one.source for one in STATEMENTS}


def test_a_missing_check_says_why_and_is_no_pass(study):
    bare = statements.Statement("S0", "t", "[ours]", "n", "none: a", "none: b", "none: c")
    assert bare.checks(study, {}) == dict(zip(KINDS, ("none: a", "none: b", "none: c"), strict=False))


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


# planted errors: (formula, wrong form, statement, kinds that see it)

PLANTED = {
    "projection without K": ("projection", lambda k, square: square, 0, "all"),
    "variance, 2K/(K+1)": ("projection_variance", lambda k, g, n: 2 * k * (g - n**2 / k) / (k + 1), 1, "all"),
    "variance, no -||J||^4/K": ("projection_variance", lambda k, g, n: 2 * k * g / (k + 2), 1, "all"),
    "p without onehot": ("residual", lambda p, onehot: p, 2, "all"),
    "p, twice onehot": ("residual", lambda p, onehot: p - 2 * onehot, 2, "all"),
    "heads without 1/coin": ("heads", lambda weight, k, coin: weight * k, 3, "all"),
    "heads without K": ("heads", lambda weight, k, coin: weight / coin, 3, "all"),
    "tails over coin": ("tails", lambda weight, coin: weight / coin, 3, "all"),
    "fraction without 1/chance": ("fraction", lambda mean, chance: mean, 4, "all"),
    "1 for sqrt(2)": ("slope_squared", lambda norm: norm, 5, "symbolic search"),
    "distance, slope squared": ("distance", lambda gap, slope: gap / slope**2, 6, "symbolic"),
    "half of beta": ("alignment_gap", lambda offset, slope: abs(offset) / 2 / slope, 7, "all"),
    "remainder over 3": ("remainder", lambda curvature, length: curvature * length**2 / 3, 8, "all"),
}


@pytest.mark.parametrize(("name", "form", "index", "kinds"), PLANTED.values(), ids=PLANTED)
def test_planted_error_is_caught(wrong, networks, name, form, index, kinds):
    wrong(name, form)
    one = STATEMENTS[index]
    found = {"symbolic": symbolic.proved(one.symbolic)}
    if kinds != "symbolic":
        found["search"] = one.search(150)
    if kinds == "all":
        found["networks"] = one.networks(networks)
    assert {kind: finding.holds for kind, finding in found.items()} == dict.fromkeys(found, False)
    if "search" in found:
        assert found["search"].worst  # the simplest case that fails, as it was drawn


@pytest.mark.parametrize("index", [5, 6, 7])
def test_wrong_robustness_is_caught(monkeypatch, networks, index):
    """The library's own number, not the formula: S6 sees one that is too small, S7 both ways, S8 either."""
    right = theory.linearised_robustness

    def short(model, x):
        found = right(model, x)
        return {**found, "robustness": found["robustness"] * 0.4}

    monkeypatch.setattr(theory, "linearised_robustness", short)
    assert not STATEMENTS[index].networks(networks).holds
    assert not STATEMENTS[index].search(150).holds


def test_residual_out_of_the_graph_is_caught(monkeypatch, networks):
    """The value stays the same, and only the gradient tells."""
    right = formulas.residual
    monkeypatch.setattr(formulas, "residual", lambda p, onehot: right(p, onehot).detach())
    assert not network_checks.single_pass(networks).holds


def test_a_kink_inside_the_region_is_caught(monkeypatch, networks):
    right = network_checks.regions.reach
    monkeypatch.setattr(network_checks.regions, "reach", lambda *args: 3 * right(*args))
    assert not network_checks.remainder(networks).holds


def test_nonuniform_draws_are_caught(study, monkeypatch):
    right = theory.sphere
    monkeypatch.setattr(theory, "sphere", lambda *args, **options: F.normalize(right(*args, **options) + 0.1))
    monkeypatch.setattr(statements, "DRAWS", 4_000)
    assert not STATEMENTS[0].draws(study).holds


def test_table_tells_failures_and_what_was_never_checked(study, monkeypatch):
    def one(number, *findings):
        checks = dict(zip(KINDS, findings, strict=False))
        monkeypatch.setattr(statements.Statement, "checks", lambda self, *_: made[self.id])
        made[f"S{number}"] = checks
        return statements.Statement(f"S{number}", "t", "[ours]", "n", "", "", "")

    made = {}
    good, bad = Finding(0.1, 1, 5, "m"), Finding(2, 1, 5, "m", "the case")
    cast = (one(1, good, "none: hard"), one(2, good, bad), one(3, "none: a", "none: b"))
    monkeypatch.setattr(statements, "STATEMENTS", cast)
    table = checks_table(study, {"any": None})
    assert failing(table) == ["S2: t", "S3: t"]
    assert table.measure.tolist() == ["m", "none: hard", "m", "m (the case)", "none: a", "none: b"]


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
            assert fourth[i, j, k, m] == pytest.approx(float(symbolic.sphere_moment(powers)), abs=1e-14)


def test_sphere_moments_by_integration():
    """On the circle and on the sphere, by their angles."""
    a, b = sp.symbols("a b")
    circle = sp.integrate(sp.cos(a) ** 4, (a, 0, 2 * sp.pi)) / (2 * sp.pi)
    mixed = sp.integrate(sp.cos(b) ** 2 * sp.sin(b) ** 3, (b, 0, sp.pi)) / 2 * sp.Rational(1, 2)  # E[z^2 x^2]
    assert symbolic.sphere_moment((4, 0)) == circle == sp.Rational(3, 8)
    assert symbolic.sphere_moment((0, 2, 2)) == mixed == sp.Rational(1, 15)
    assert symbolic.sphere_moment((2, 0, 0)) == sp.Rational(1, 3) and symbolic.sphere_moment((1, 1)) == 0


def test_search_is_the_same_again_and_gives_the_simplest_failure():
    def case(draw):
        return float(draw(searches.st.integers(0, 1000)))

    found = [searches.search(case, 500, "size", 100) for _ in range(2)]
    assert found[0] == found[1]
    assert not found[0].holds and found[0].worst == "501: [501]"


def test_search_lets_other_errors_through():
    with pytest.raises(ZeroDivisionError):
        searches.search(lambda draw: 1 / 0, 1, "nothing")


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
    assert_close(tangent_error(quadratic, x, step), quadratic(step).detach().norm(dim=1))


def test_penalty_is_that_of_the_images(networks):
    one = networks["standard"]
    norm, g = one.jacobian.square().sum((1, 2)), theory.full_jacobian(one.model, one.x)
    residual = one.logits.softmax(1) - F.one_hot(one.y, 4)
    selective = torch.einsum("bkn,bk->bn", g, residual).square().sum(1)
    assert_close(penalty(one, [1, 4]), (0.01 * norm + 3 * selective)[[1, 4]].mean())


# where they end


def test_limits_are_exact_at_the_image(networks):
    one = networks["standard"]
    g, product = limits.input_gradients(one, 2)
    np.testing.assert_allclose(g, product, atol=1e-15)
    way = limits.towards_boundary(one, np.array([0.0, 1e-4]))
    assert way["same"].all()
    np.testing.assert_allclose(way["gap"], [[1] * 6, [1 - 1e-4] * 6], atol=1e-12)
    left, most = limits.alignment_gaps(one)
    assert (left <= most * (1 + 1e-9)).all() and len(left) == 6


def test_coin_outcomes_and_halves_have_the_right_means(networks):
    one, coins = networks["standard"], np.linspace(0.1, 0.9, 5)
    found = limits.coin_outcomes(one, coins)
    np.testing.assert_allclose(found["mean"], penalty(one, list(range(6))).item())
    counted, chance = limits.half_batches(one, images=6)
    assert len(counted) == 20 and chance == pytest.approx(0.2)
    assert counted.mean() * chance == pytest.approx(1)


def test_tangent_errors_of_the_softened_network_stay_below_their_bound(networks):
    found = limits.tangent_errors(networks["standard"], np.geomspace(1e-3, 1, 12))
    assert found["network"].shape == (12, 6)
    assert (found["softened"] <= 1.05 * found["bound"] + 1e-14).all()  # M is taken at twelve places
    assert (found["softened"] > 0).all()


def test_specimens_are_the_networks_in_float64(study):
    found = specimens(study, 3, ["jsigr", "standard"])
    assert list(found) == ["jsigr", "standard"]
    assert found["standard"].logits.dtype == torch.double and found["standard"].logits.shape == (3, 10)
    assert_close(found["standard"].few(2).x, found["standard"].x[:2])


# their figures


def test_identities_figure_says_what_a_missing_weight_costs(study, networks):
    one, coins = networks["jsigr"], np.linspace(0.1, 0.9, 9)
    gradients = {name: limits.input_gradients(network) for name, network in networks.items()}
    outcomes, halves = limits.coin_outcomes(one, coins), limits.half_batches(one, images=6)
    fig, alt = theory_figures.penalty_identities(study, gradients, coins, outcomes, halves)
    assert [axes.get_title(loc="left")[:2] for axes in fig.axes] == ["S3", "S4", "S5"]
    assert "1.00" in alt and "it would be 0.20" in alt


def test_limits_figure_counts_what_breaks(study, networks):
    shares, radii = np.linspace(0, 2, 5), np.geomspace(1e-3, 1, 6)
    ways = {name: limits.towards_boundary(network, shares) for name, network in networks.items()}
    errors = limits.tangent_errors(networks["standard"], radii)
    alignments = {away: limits.alignment_gaps(networks["standard"], away) for away in (0.0, 3.0)}
    fig, alt = theory_figures.tangent_limits(study, shares, ways, radii, errors, alignments)
    assert [axes.get_title(loc="left")[:2] for axes in fig.axes] == ["S7", "S7", "S9", "S8"]
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
