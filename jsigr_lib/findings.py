"""What a check finds, and the points on the sphere that make its expectations exact."""

from dataclasses import dataclass

import numpy as np

EQUAL = 1e-9  # relative: float64 has 1e-16, and a few thousand operations lose some of it
ROUNDING = 1e-12  # of a ratio that may reach 1
RELATIVE, RATIO = "relative difference of the sides", "left side / right side"
EXCESS = "relative excess of the left side"


@dataclass(frozen=True)
class Finding:
    """The largest deviation among n cases. `measure` says what a deviation is, so that it can be told from the next."""

    deviation: float
    tolerance: float
    n: int
    measure: str
    worst: str = ""

    @property
    def holds(self) -> bool:
        """False for NaN too, and where nothing was tried."""
        return self.n > 0 and self.deviation <= self.tolerance


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
