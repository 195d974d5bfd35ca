"""How far two values of one row and column may lie apart if two machines made them.

Most numbers stand beside their interval, which says how sure they are; what has none has a tolerance here.
"""

import math

from jsigr_lib.results import Row

BORDERLINE = frozenset({"not monotone", "beaten without gradients", "more effort helps", "few images"})
"""Flags that a point of accuracy more or less raises or clears: one that a single run has is no disagreement."""

MEAN, SHARE = (0.0, 1.0), (1.0, 0.0)
PER_IMAGE = {
    **dict.fromkeys(("eight_bit", "clean", "overestimates"), SHARE),
    **dict.fromkeys(("rho_mean", "rho_median", "distance_mean", "distance_median", "boxed_mean", "boxed_median"), MEAN),
    **dict.fromkeys(("robustness", "distance"), MEAN),
}
"""Shares and means over n images that stand without their interval. Half of it is at most 1 / sqrt(n) for a share, and
about as much of the mean itself where the images spread by half of it, as they do here."""

EXACT, COUNT, TRAINED = (0.0, 0.0), (2.0, 0.1), (0.02, 0.25)
TOLERANCES = {
    **PER_IMAGE,
    **dict.fromkeys(("seeds", "n", "of", "tolerance", "attack", "cost"), EXACT),
    **dict.fromkeys(("images", "common_images", "map_images"), COUNT),  # those that networks get right vary
    **dict.fromkeys(("cross_entropy", "jacobian_norm", "margin", "selective", "jacobian"), TRAINED),
    **dict.fromkeys(("dissimilarity", "magnitude", "divergence", "transport"), TRAINED),
    **dict.fromkeys(("validation_accuracy", "robust_accuracy", "probability"), (0.1, 0.0)),
    **dict.fromkeys(("relative to the change", "relative to the margin"), (0.05, 0.25)),
    **dict.fromkeys(("reach_random", "reach_towards", "share_of_rho"), (0.003, 0.5)),  # medians of a wide spread
    **dict.fromkeys(("spread", "predicted"), (0.02, 0.15)),
    "deviation": (4.0, 0.0),  # in standard errors, or far below 1 and judged by `holds`
}
"""Column -> how far its numbers may lie apart, in units of their own and as a part of the larger one."""
DEFAULT = (0.0, 0.1)
ROUNDING = 1.5e-4  # tables are rounded to four digits, and the last may fall either way


def judged(column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]]) -> tuple[float | None, bool]:
    """How far two values that are not the same may lie apart, None for what is no number, and whether they agree."""
    one, other = (row[column] for row in pair)
    apart = abs(number(one) - number(other))
    if math.isfinite(apart):
        allowed = max(ROUNDING, allowance(column, pair, bounds))
        return allowed, apart <= allowed
    raised = set(one.split("; ")) ^ set(other.split("; "))
    return None, column == "flags" and raised - {"none"} <= BORDERLINE


def allowance(column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]]) -> float:
    """How far the two numbers of a column may lie apart.

    With half-widths h of their intervals, estimates differ by up to sqrt(h1^2 + h2^2) in 95 of 100 pairs of runs on
    images of their own. Here the images are the same, and only what training makes of rounding is left: at smoke scale
    with AVX2 in the place of AVX-512, at most 0.82 of it over 2,948 estimates. A bound also moves with the width: by
    h1 + h2.
    """
    if column in bounds:
        low, high = bounds[column]
        halves = [(number(row[high]) - number(row[low])) / 2 for row in pair]
        if all(map(math.isfinite, halves)):
            return sum(halves) if column in (low, high) else math.hypot(*halves)
    absolute, relative = tolerance(column) or DEFAULT
    allowed = max(absolute, relative * max(abs(number(row[column])) for row in pair))
    if column in PER_IMAGE:
        allowed *= math.hypot(*(1 / math.sqrt(max(1, number(row.get("images", "1")))) for row in pair))
    return allowed


def tolerance(column: str) -> tuple[float, float] | None:
    """The absolute and the relative one of a column without interval; of "jsigr, spread" that of "spread"."""
    return TOLERANCES.get(column.rpartition(", ")[2])


def intervals(columns: list[str]) -> dict[str, tuple[str, str]]:
    """Estimates and their bounds -> the columns of these: `low` and `high`, or `..._low` and `..._high`, that directly
    follow the estimate."""
    found = {}
    for estimate, low, high in zip(columns, columns[1:], columns[2:], strict=False):
        if low.endswith("low") and high == f"{low.removesuffix('low')}high":
            found |= dict.fromkeys((estimate, low, high), (low, high))
    return found


def number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def same(a: str, b: str) -> bool:
    """Equal as text or as numbers; what a table leaves empty is NaN."""
    missing = {"", "nan"}
    return a == b or number(a) == number(b) or {a.lower(), b.lower()} <= missing
