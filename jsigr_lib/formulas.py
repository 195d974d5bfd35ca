"""What the statements of the theory notebook claim, as plain arithmetic: each formula once, for symbols, numbers and
tensors alike, so that the symbolic check, the check on trained networks and the search judge the very same claim."""


def projection(classes, square):
    """S1: one projection's estimate of ||J||_F^2, from square = ||J^T v||^2 with v uniform on the sphere of R^K."""
    return classes * square


def projection_variance(classes, gram, norm):
    """S2: its variance, from gram = ||J J^T||_F^2 and norm = ||J||_F^2."""
    return 2 * classes * (gram - norm**2 / classes) / (classes + 2)


def residual(p, onehot):
    """S3: the c of g = J^T c."""
    return p - onehot


def heads(lambda_j, classes, coin):
    """S4: what ||J^T v||^2 is multiplied by when the coin, of this chance, shows heads."""
    return lambda_j * classes / coin


def tails(lambda_s, coin):
    """S4: what ||(1 - m) g||^2 is multiplied by when it shows tails."""
    return lambda_s / (1 - coin)


def fraction(mean, chance):
    """S5: what a step with the penalty counts, from the mean over the images drawn and the chance of such a step."""
    return mean / chance


def slope_squared(norm):
    """S6: ||grad(z_i - z_j)||^2 is at most this, from norm = ||J||_F^2."""
    return 2 * norm


def distance(gap, slope):
    """S7: from a point to the plane where an affine gap z_i - z_j with a gradient of length slope is zero."""
    return gap / slope


def alignment_gap(offset, slope):
    """S8: |rho~ - alpha| is at most this, from offset = beta and slope = ||grad(z_i* - z_j*)||."""
    return abs(offset) / slope


def remainder(curvature, length):
    """S9: ||z(x + d) - z(x) - J d|| is at most this, from a bound of the second derivative and length = ||d||."""
    return curvature * length**2 / 2
