"""A search for a counter-example to each statement of the theory notebook, among small cases that are made up: any
numbers, and often zeros, ties, tiny numbers and the ends of the range. The cases depend on nothing but their numbers.

Each `..._case` draws one case and returns its deviation from the statement, whose formula it is given. Most work out
the other side by other means than the statement's own."""

from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import nn

from jsigr_lib.measure import linearised
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.theory import network_checks
from jsigr_lib.theory.specimen import Specimen
from jsigr_lib.theory.symbolic import sphere_design

CASES = 800
TINY = 1e-9  # numbers are multiples of 1e-6, so that nothing smaller is anything but rounding
WIDE = 1e4  # the largest number where only sums and products are compared


class Draw:
    """Draws the numbers of one case, the same ones whenever the case is tried, and keeps them."""

    def __init__(self, case: int):
        self._random = np.random.default_rng(case)
        self.drawn: list = []

    def integer(self, low: int, high: int) -> int:
        self.drawn.append(int(self._random.integers(low, high, endpoint=True)))
        return self.drawn[-1]

    def numbers(self, *shape: int, low: float = -3.0, high: float = 3.0) -> np.ndarray:
        """Multiples of 1e-6: any ones, tiny ones, whole ones, ends of the range, or rows that are equal."""
        some = self._random.uniform(low, high, shape)
        kinds = (
            some,
            some * 10.0 ** -self._random.integers(1, 7),
            np.round(some),
            self._random.choice([low, high], shape),
            np.broadcast_to(some[:1], shape) if shape else some,
        )
        values = kinds[self._random.choice(len(kinds), p=(0.5, 0.2, 0.1, 0.1, 0.1))]
        zero = self._random.random(shape) < self._random.choice((0, 0.3, 0.8), p=(0.7, 0.2, 0.1))
        values = np.round(np.clip(np.where(zero, 0.0, values), low, high), 6) + 0.0
        self.drawn.append(values.tolist())
        return values


def search(case: Callable[[Draw], float], tolerance: float, cases: int = CASES) -> tuple[float, int, str]:
    """Returns the largest deviation, the number of cases, and of those that fail the one that is shortest to write."""
    deviations, failing = [], []
    for number in range(cases):
        draw = Draw(number)
        deviations.append(float(case(draw)))
        if not deviations[-1] <= tolerance:
            failing.append(f"{deviations[-1]:.3g}: {draw.drawn}")
    return float(np.max(deviations)), cases, min(failing, key=len, default="")


def _apart(left: float, right: float, scale: float) -> float:
    return abs(left - right) / max(scale, TINY)


def _jacobian(draw: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Any Jacobian of up to six classes; ||J^T v||^2 at the points of the sphere's design, and their weights."""
    jacobian = draw.numbers(draw.integer(1, 6), 3, low=-WIDE, high=WIDE)
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
    first, x, y = draw.numbers(3, 2), draw.numbers(2), draw.integer(0, 3)
    second = draw.numbers(4, 3, low=-2.0, high=2.0)  # beyond, p - 1 is too small for a double to tell it from rounding

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
    classes = draw.integer(2, 4)
    jacobian, moved = draw.numbers(classes, 3), draw.numbers(classes, 3)
    cotangent, turned = draw.numbers(classes), draw.numbers(classes)
    free, coin = 1 - draw.numbers(3, low=0, high=1), float(draw.numbers(low=0.02, high=0.98))
    lambda_j, lambda_s = draw.numbers(2, low=0.01, high=10)
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
    penalties = draw.numbers(draw.integer(1, 7), low=0, high=WIDE)
    objective = JSIGR(1.0, 1.0, fraction=float(draw.numbers(low=0.01, high=1)))
    size = len(objective._draw_images(len(penalties), torch.Generator())[0])
    parts = [np.mean(part) for part in combinations(penalties, size)]
    mean = objective.penalised_steps * np.mean([counted(part, objective.penalised_steps) for part in parts])
    return _apart(mean, penalties.mean(), penalties.mean())


def _network(draw: Draw, hidden: bool) -> Specimen:
    """An affine classifier, or a small ReLU network, with any weights, and any image."""
    layers = (nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)) if hidden else (nn.Linear(3, 3),)
    model = nn.Sequential(nn.Flatten(), *layers).double()
    for parameter in model.parameters():
        parameter.data = torch.tensor(draw.numbers(*parameter.shape))
    x = torch.tensor(draw.numbers(layers[0].in_features, low=0, high=1)).view(1, 1, 1, -1)
    return Specimen(model, x, torch.zeros(1, dtype=torch.long))


def network_case(check: Callable, least: float, hidden: bool, draw: Draw, formula: Callable) -> float:
    """A check of trained networks, on a made-up one; but not where two classes have the same slope, or are closer than
    `least`: the statement divides by both."""
    one = _network(draw, hidden)
    gaps, _, lengths = one.slopes
    if gaps.min() < least or lengths.min() < 1e-3:
        return 0.0
    return max(values.max().item() for _, values, _ in check({"": one}, formula))


bound_case = partial(network_case, network_checks.bound_deviations, TINY, False)
distance_case = partial(network_case, network_checks.distance_deviations, TINY, False)
alignment_case = partial(network_case, network_checks.alignment_deviations, 1e-3, True)


def remainder_case(draw: Draw, remainder: Callable) -> float:
    """S9: any sum of three sines, whose second derivative sum_i |a_i| ||w_i||^2 bounds everywhere; and any small ReLU
    network between two points with the same ReLUs on (such a region is convex, so the segment lies in it)."""
    w, a, b, x, d = (draw.numbers(*shape) for shape in ((3, 2), (3,), (3,), (2,), (2,)))
    length = np.linalg.norm(d)
    tangent = a @ np.sin(w @ x + b) + (a * np.cos(w @ x + b)) @ (w @ d)
    most = remainder(np.abs(a) @ np.square(w).sum(1), length)
    excess = abs(a @ np.sin(w @ (x + d) + b) - tangent) / most - 1 if most > 1e-3 else -1.0
    one = _network(draw, hidden=True)
    step = torch.tensor(d).view(1, 1, 1, 2)
    hidden = [one.model[:2](point) > 0 for point in (one.x, one.x + step)]
    error = linearised.tangent_error(one.model, one.x, step, [1.0])[0].item() if torch.equal(*hidden) else 0.0
    return max(excess, error) if error > TINY else excess
