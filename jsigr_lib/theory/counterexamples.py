"""A search for a counter-example to each statement of the theory notebook. Hypothesis makes up small cases, climbs
towards the worst, and shrinks a case that fails to the simplest one that does. Nothing is trained and no case is kept;
the same code tries the same cases again.

Each `..._case` draws one case and returns its deviation from the statement, whose formula it is given. It works out the
other side by other means than the statement's own.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from jsigr_lib.measure import linearised
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.theory.breaking import Specimen, offsets
from jsigr_lib.theory.symbolic import sphere_design

CASES, SIMPLER = 200, 40
FIXED = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
TINY = 1e-9  # numbers are multiples of 1e-6, so that nothing smaller is anything but rounding

Draw = Callable[[st.SearchStrategy], object]


class _EnoughError(BaseException):
    """Ends the search for a simpler case: hypothesis lets only what is no Exception through."""


def search(case: Callable[[Draw], float], tolerance: float, cases: int = CASES) -> tuple[float, int, str]:
    """Try cases until one deviates by more than the tolerance, then simpler ones that hypothesis makes of it, `SIMPLER`
    at most. Returns the largest deviation, the number of cases, and the simplest case that fails, as it was drawn."""
    tried, failed, largest, failing = 0, 0, -np.inf, ""

    @settings(max_examples=cases, **FIXED)
    @given(st.data())
    def attempt(data):
        nonlocal tried, failed, largest, failing
        drawn = []

        def draw(strategy: st.SearchStrategy) -> object:
            drawn.append(data.draw(strategy))
            return drawn[-1]

        deviation = float(case(draw))
        tried, largest = tried + 1, max(largest, deviation)
        target(min(max(deviation, -1e6), 1e6))
        if failing and tried - failed > SIMPLER:
            raise _EnoughError
        if not deviation <= tolerance:
            failed = failed or tried
            failing = f"{deviation:.3g}: {drawn}"
            raise AssertionError(failing)

    try:
        attempt()
    except (AssertionError, HypothesisException, _EnoughError):  # how hypothesis takes the sudden end varies
        if not failing:
            raise
    return largest, tried, " ".join(failing.split())


def numbers(*shape: int, low: float = -3.0, high: float = 3.0) -> st.SearchStrategy:
    """Arrays of multiples of 1e-6."""
    return arrays(float, shape, elements=st.floats(low, high).map(lambda value: round(value, 6) + 0.0))


def _apart(left: float, right: float, scale: float) -> float:
    return abs(left - right) / max(scale, TINY)


def _jacobian(draw: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Any Jacobian of up to six classes; ||J^T v||^2 at the points of the sphere's design, and their weights."""
    jacobian = draw(st.integers(1, 6).flatmap(lambda k: numbers(k, 3)))
    points, weights = sphere_design(len(jacobian))
    return jacobian, np.square(points @ jacobian).sum(1), weights


def mean_case(draw: Draw, estimate: Callable) -> float:
    """S1, any Jacobian."""
    jacobian, squares, weights = _jacobian(draw)
    norm = np.square(jacobian).sum()
    return _apart(weights @ estimate(len(jacobian), squares), norm, norm)


def variance_case(draw: Draw, variance: Callable) -> float:
    """S2, any Jacobian."""
    jacobian, squares, weights = _jacobian(draw)
    norm, gram = np.square(jacobian).sum(), np.square(jacobian @ jacobian.T).sum()
    measured = weights @ np.square(len(jacobian) * squares - norm)
    return _apart(measured, variance(len(jacobian), gram, norm), norm**2)


def gradient_case(draw: Draw, residual: Callable) -> float:
    """S3, any network of one hidden layer (tanh). The loss is differentiated by a complex step, which is exact to
    rounding and takes no derivative of anything."""
    first, second, x = draw(numbers(3, 2)), draw(numbers(4, 3)), draw(numbers(2))
    y = draw(st.integers(0, 3))

    def loss(x: np.ndarray) -> complex:
        z = second @ np.tanh(first @ x)
        return np.log(np.exp(z - z.real.max()).sum()) + z.real.max() - z[y]

    step = 1e-30
    g = np.array([loss(x + 1j * step * e).imag / step for e in np.eye(2)])
    steepness = 1 / np.cosh(first @ x) ** 2  # and not 1 - tanh^2, which cancels where tanh is flat
    jacobian, z = second * steepness @ first, second @ np.tanh(first @ x)
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    scale = np.abs(jacobian).sum() * (1 - p[y])  # the sum's rounding is a share of this
    return np.abs(g - jacobian.T @ residual(p, np.eye(4)[y])).max() / max(scale, TINY)


def single_pass_case(draw: Draw, coin_weights: Callable) -> float:
    """S4, any Jacobian, residual, mask, weights and coin; and its change as Jacobian and residual move."""
    classes = draw(st.integers(2, 4))
    jacobian, moved = draw(numbers(classes, 3)), draw(numbers(classes, 3))
    cotangent, turned = draw(numbers(classes)), draw(numbers(classes))
    free, coin = 1 - draw(numbers(3, low=0, high=1)), draw(st.floats(0.02, 0.98))
    lambda_j, lambda_s = draw(numbers(2, low=0.01, high=10))
    points, weights = sphere_design(classes)
    heads, tails = coin_weights(lambda_j, lambda_s, classes, coin)
    square, g = np.square(points @ jacobian).sum(1), free * (jacobian.T @ cotangent)
    mean = coin * heads * weights @ square + (1 - coin) * tails * g @ g
    value = lambda_j * np.square(jacobian).sum() + lambda_s * g @ g
    slope = 2 * ((points @ jacobian) * (points @ moved)).sum(1)
    turn = 2 * g @ (free * (moved.T @ cotangent + jacobian.T @ turned))
    change = coin * heads * weights @ slope + (1 - coin) * tails * turn
    expected = lambda_j * 2 * (jacobian * moved).sum() + lambda_s * turn
    scale = value + lambda_j * np.abs(jacobian * moved).sum() + lambda_s * abs(turn)
    return max(_apart(mean, value, value), _apart(change, expected, scale))


def fraction_case(draw: Draw, counted: Callable) -> float:
    """S5, any penalties of up to seven images and any share, with what `JSIGR` draws and how often."""
    penalties = draw(st.integers(1, 7).flatmap(lambda n: numbers(n, low=0)))
    objective = JSIGR(1.0, 1.0, fraction=draw(st.floats(0.01, 1)))
    size = len(objective._draw_images(len(penalties), torch.Generator()))
    parts = [np.mean(part) for part in combinations(penalties, size)]
    mean = objective.penalised_steps * np.mean([counted(part, objective.penalised_steps) for part in parts])
    return _apart(mean, penalties.mean(), penalties.mean())


def _network(draw: Draw, *layers: nn.Module) -> Specimen:
    """A network of these layers with any weights, and any image."""
    model = nn.Sequential(nn.Flatten(), *layers).double()
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.weight.data = torch.tensor(draw(numbers(*layer.weight.shape)))
            layer.bias.data = torch.tensor(draw(numbers(*layer.bias.shape)))
    x = torch.tensor(draw(numbers(layers[0].in_features, low=0, high=1))).view(1, 1, 1, -1)
    return Specimen(model, x, torch.zeros(1, dtype=torch.long))


def bound_case(draw: Draw, slope_squared: Callable) -> float:
    """S6, any affine classifier: the bound over rho~, and over a slope that no pair of classes may exceed."""
    one = _network(draw, nn.Linear(3, 3))
    norm, (gaps, _, lengths) = one.jacobian.square().sum(), one.slopes
    if norm < TINY:
        return 0.0
    slope = slope_squared(norm).sqrt()
    rho = linearised.linearised_robustness(one.model, one.x)["robustness"].item()
    ratio = (gaps.min() / slope).item() / rho if rho > TINY else 0.0
    return max(ratio, (lengths.max() / slope).item())


def distance_case(draw: Draw, distance: Callable) -> float:
    """S7, any affine classifier and direction: the way to the boundary is nowhere shorter than rho~, and as long along
    the steepest direction."""
    one, u = _network(draw, nn.Linear(3, 3)), torch.tensor(draw(numbers(3)))
    gaps, gradients, lengths = (part[0] for part in one.slopes)
    rho = linearised.linearised_robustness(one.model, one.x)["robustness"].item()
    if rho < TINY or lengths.min() < 1e-3:
        return 0.0
    steepest = -gradients[distance(gaps, lengths).argmin()]
    ways = [_way(gaps, gradients, direction) for direction in (u, steepest, steepest + 0.1 * u)]
    return max(abs(rho / ways[1] - 1), *(rho / way - 1 for way in ways))


def _way(gaps: Tensor, gradients: Tensor, direction: Tensor) -> float:
    """How far along a direction the first gap closes; infinite if none does."""
    fall = -(gradients @ direction) / direction.norm().clamp_min(TINY)
    return torch.where(fall > TINY, gaps / fall, torch.inf).min().item()


def alignment_case(draw: Draw, alignment_gap: Callable) -> float:
    """S8, any small ReLU network: beta is the network's value at the black image with its ReLUs held as at x."""
    one = _network(draw, nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3))
    (gaps,), (gradients,), (lengths,), (offset,) = (*one.slopes, offsets(one))
    if lengths.min() < 1e-3:
        return 0.0
    robust = linearised.linearised_robustness(one.model, one.x)
    rho, alpha = robust["robustness"].item(), robust["alignment"].item()
    j = (gaps / lengths).argmin()
    most = alignment_gap(offset[j], lengths[j]).item()
    inner = gradients @ one.x.flatten()
    identity = (gaps - inner - offset).abs().max().item() / max(1.0, gaps.max().item())
    return max(identity, (abs(rho - alpha) - most) / max(rho, alpha, 1.0))


def remainder_case(draw: Draw, remainder: Callable) -> float:
    """S9: any sum of three sines, whose second derivative sum_i |a_i| ||w_i||^2 bounds everywhere; and any small ReLU
    network between two points with the same ReLUs on (such a region is convex, so the segment lies in it)."""
    w, a, b, x, d = (draw(numbers(*shape)) for shape in ((3, 2), (3,), (3,), (2,), (2,)))
    length = np.linalg.norm(d)
    tangent = a @ np.sin(w @ x + b) + (a * np.cos(w @ x + b)) @ (w @ d)
    most = remainder(np.abs(a) @ np.square(w).sum(1), length)
    curved = abs(a @ np.sin(w @ (x + d) + b) - tangent) / most if most > 1e-3 else 0.0
    one = _network(draw, nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3))
    step = torch.tensor(d).view(1, 1, 1, 2)
    hidden = [one.model[:2](point) > 0 for point in (one.x, one.x + step)]
    error = linearised.tangent_error(one.model, one.x, step, [1.0])[0].item() if torch.equal(*hidden) else 0.0
    return max(curved, 1 + error) if error > TINY else curved
