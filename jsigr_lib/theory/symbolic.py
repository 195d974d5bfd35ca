"""The statements of the theory notebook in symbols. Each `..._identities` is given a statement's formula, and yields
expressions that vanish if it holds. Means over the sphere come from its moments, chances are enumerated."""

from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np
import sympy as sp

CLASSES = (2, 3, 4)
Identities = Iterator[sp.Expr]


def sphere_moment(powers: tuple[int, ...]) -> sp.Expr:
    """E[v_1^a_1 ... v_K^a_K], v uniform on the unit sphere of R^K (Folland 2001): zero if any power is odd, else
    prod (a_i - 1)!! / (K (K + 2) ... (K + sum a - 2))."""
    if any(power % 2 for power in powers):
        return sp.Integer(0)
    top, classes = sp.prod([sp.factorial2(power - 1) for power in powers]), len(powers)
    return sp.Rational(top, sp.prod(range(classes, classes + sum(powers), 2)))


def sphere_mean(expression: sp.Expr, v: list[sp.Symbol]) -> sp.Expr:
    """E over the sphere of a polynomial in v, term by term."""
    terms = sp.Poly(sp.expand(expression), *v).terms()
    return sum(coefficient * sphere_moment(powers) for powers, coefficient in terms)


def sphere_design(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, dimension] and weights [n] whose weighted sum is the mean over the unit sphere of every even
    polynomial of degree up to five: exact, where random vectors would leave an error (Stroud 1971, U_n: 5-1).

    The axes weigh (4 - K) / (K (K + 2)), the diagonals (e_i +- e_j) / sqrt(2) weigh 2 / (K (K + 2)) each.
    """
    axes = np.eye(dimension)
    i, j = np.triu_indices(dimension, 1)
    diagonals = np.concatenate([axes[i] + axes[j], axes[i] - axes[j]]) / 2**0.5
    weights = [(4 - dimension) / 2] * dimension + [1.0] * len(diagonals)
    return np.concatenate([axes, diagonals]), np.array(weights) * 2 / (dimension * (dimension + 2))


def _vector(name: str, length: int) -> sp.Matrix:
    return sp.Matrix(length, 1, lambda i, _: sp.Symbol(f"{name}{i}", real=True))


def _squared(vector: sp.Matrix) -> sp.Expr:
    return sum(entry**2 for entry in vector)


def _products() -> Iterator[tuple[sp.Expr, list[sp.Symbol], sp.Matrix]]:
    """For each number of classes: ||J^T v||^2 by the entries of v and of the symmetric J J^T, v, and J J^T."""
    for classes in CLASSES:
        v = _vector("v", classes)
        gram = sp.Matrix(classes, classes, lambda i, j: sp.Symbol(f"g{min(i, j)}{max(i, j)}", real=True))
        yield (v.T * gram * v)[0], list(v), gram


def mean_identities(estimate: Callable) -> Identities:
    """S1: E[K ||J^T v||^2] - ||J||_F^2."""
    for square, v, gram in _products():
        yield sphere_mean(estimate(len(v), square), v) - gram.trace()


def variance_identities(variance: Callable) -> Identities:
    """S2: E[(K ||J^T v||^2)^2] - ||J||_F^4 - the formula."""
    for square, v, gram in _products():
        measured = sphere_mean((len(v) * square) ** 2, v) - gram.trace() ** 2
        yield measured - variance(sp.Integer(len(v)), _squared(gram), gram.trace())


def gradient_identities(residual: Callable) -> Identities:
    """S3, three classes and two pixels, any differentiable z(x): dl/dx_n - sum_k J_kn (p_k - [k = y])."""
    pixels = sp.symbols("x0 x1", real=True)
    z = [sp.Function(f"z{k}", real=True)(*pixels) for k in range(3)]
    total = sum(sp.exp(one) for one in z)
    for y, n in product(range(3), pixels):
        cotangent = [residual(sp.exp(z[k]) / total, int(k == y)) for k in range(3)]
        yield sp.diff(sp.log(total) - z[y], n) - sum(sp.diff(z[k], n) * cotangent[k] for k in range(3))


def single_pass_identities(coin_weights: Callable) -> Identities:
    """S4, two and three classes, two pixels, J and c = p - onehot any functions of a weight t: mean over coin and
    sphere of the squared norm, less lambda_J ||J||_F^2 + lambda_S ||(1 - m) J^T c||^2; and the same of derivatives."""
    lambda_j, lambda_s, coin, t = sp.symbols("lambda_J lambda_S pi t", positive=True)
    for classes in (2, 3):
        jacobian = sp.Matrix(classes, 2, lambda k, n: sp.Function(f"J{k}{n}")(t))
        cotangent = sp.Matrix(classes, 1, lambda k, _: sp.Function(f"c{k}")(t))
        v, free = _vector("v", classes), _vector("m", 2)
        heads, tails = coin_weights(lambda_j, lambda_s, classes, coin)
        on_heads = heads * _squared(jacobian.T * v)
        selective = sum(((1 - m) * g) ** 2 for m, g in zip(free, jacobian.T * cotangent, strict=True))
        target = lambda_j * _squared(jacobian) + lambda_s * selective
        for of in (lambda e: e, lambda e: sp.diff(e, t)):
            yield coin * sphere_mean(of(on_heads), list(v)) + (1 - coin) * of(tails * selective) - of(target)


def fraction_identities(counted: Callable) -> Identities:
    """S5, batches of two to five, a half of each (rounded down) on a share 2q of the steps: mean over all halves and
    all steps, less the mean of the batch."""
    q = sp.Symbol("q", positive=True)
    for batch in range(2, 6):
        penalties, size = list(_vector("r", batch)), batch // 2
        halves = [counted(sum(half) / sp.Integer(size), 2 * q) for half in combinations(penalties, size)]
        yield 2 * q * sum(halves) / len(halves) - sum(penalties) / sp.Integer(batch)


def bound_identities(slope_squared: Callable) -> Identities:
    """S6, as a sum of squares: 2 ||J||_F^2 - ||J_0 - J_1||^2 = ||J_0 + J_1||^2 + 2 sum_{k > 1} ||J_k||^2 >= 0."""
    for classes in CLASSES:
        rows = [_vector(f"J{k}", 3) for k in range(classes)]
        slack = slope_squared(sum(map(_squared, rows))) - _squared(rows[0] - rows[1])
        yield slack - _squared(rows[0] + rows[1]) - 2 * sum(map(_squared, rows[2:]))


def distance_identities(distance: Callable) -> Identities:
    """S7, three pixels, by Lagrange's multiplier: the stationary point d of ||d||^2 with gap + <a, d> = 0 lies on the
    plane, is as long as the formula says, and any other point of the plane is longer by its squared offset."""
    a, d, step = _vector("a", 3), _vector("d", 3), _vector("s", 3)
    gap, multiplier = sp.symbols("gap mu", real=True)
    plane = gap + a.dot(d)
    stationary = [sp.diff(_squared(d) - multiplier * plane, one) for one in d]
    (nearest,) = sp.solve([*stationary, plane], [*d, multiplier], dict=True)
    point = d.subs(nearest)
    along = step - a * (a.dot(step) / _squared(a))  # any step within the plane
    yield plane.subs(nearest)
    yield _squared(point) - distance(gap**2, _squared(a))
    yield _squared(point + along) - _squared(point) - _squared(along)


def alignment_identities(alignment_gap: Callable) -> Identities:
    """S8, with s = <x, grad>, slope = ||grad||, gap = s + beta: for each sign of s and of the gap, the slack
    bound^2 - (rho~ - alpha)^2, times slope^2, less 2 (|s| |gap| - s gap), which is at least 0."""
    s, offset = sp.symbols("s beta", real=True)
    slope = sp.Symbol("slope", positive=True)
    gap = s + offset
    slack = alignment_gap(offset, slope) ** 2 - (abs(gap) / slope - abs(s) / slope) ** 2
    yield slack * slope**2 - 2 * (abs(s * gap) - s * gap)


def remainder_identities(remainder: Callable) -> Identities:
    """S9, phi(t) = z(x + t d) any C^2 function: (1 - t) phi'' is a derivative, of (1 - t) phi' + phi, hence
    phi(1) - phi(0) - phi'(0) = integral of (1 - t) phi''; and with |phi''| = M ||d||^2 that integral is the bound. For
    an affine phi it is 0."""
    t, curvature, length, level, slope = sp.symbols("t M length a b", positive=True)
    phi = sp.Function("phi")(t)
    inner = (1 - t) * sp.diff(phi, t) + phi
    affine = level + slope * t
    yield sp.diff(inner, t) - (1 - t) * sp.diff(phi, t, 2)
    yield sp.integrate((1 - t) * curvature * length**2, (t, 0, 1)) - remainder(curvature, length)
    yield affine.subs(t, 1) - affine.subs(t, 0) - sp.diff(affine, t)
