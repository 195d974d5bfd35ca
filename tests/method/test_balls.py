import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.method.balls import L2Ball, LinfBall, ball, distance, quantise
from jsigr_lib.method.errors import InputError

EPS = {"linf": 0.1, "l2": 0.5}
both_norms = pytest.mark.parametrize("norm", EPS)


def row(*pixels, dtype=torch.double):
    """One image of one row."""
    return torch.tensor(pixels, dtype=dtype).view(1, 1, 1, -1)


def grey(samples, channels=2, height=4, width=5):
    return torch.full((samples, channels, height, width), 0.5, dtype=torch.double)


def test_distance_by_hand():
    x = torch.zeros(2, 1, 1, 2)
    x_adv = torch.tensor([[0.3, -0.4], [0.0, 0.1]]).view_as(x)
    assert_close(distance(x_adv, x), torch.tensor([0.4, 0.1]))
    assert_close(distance(x_adv, x, "l2"), torch.tensor([0.5, 0.1]))


@pytest.mark.parametrize(
    ("at", "direction", "step", "expected"),
    [
        ((0.5, 0.5), (3.0, -1e-9), 0.05, (0.55, 0.45)),
        ((0.5, 0.5), (3.0, 0.0), 0.3, (0.6, 0.5)),
        ((0.58, 0.5), (1.0, -1.0), 0.05, (0.6, 0.45)),
        ((0.5, 0.5), (0.0, 0.0), 0.05, (0.5, 0.5)),
    ],
)
def test_linf_climb_by_hand(at, direction, step, expected):
    """Every pixel by the step, along the sign, up to 0.1 from x = 0.5."""
    x, x_adv = row(0.5, 0.5), row(*at)
    moved = LinfBall(x, 0.1).climb(x_adv, row(*direction), step)
    assert_close(moved, row(*expected))
    assert moved is x_adv and torch.equal(x, row(0.5, 0.5))


@pytest.mark.parametrize(
    ("at", "direction", "step", "expected"),
    [
        ((0.5, 0.5), (3.0, -4.0), 0.1, (0.56, 0.42)),
        ((0.5, 0.5), (3.0, -4.0), 0.4, (0.62, 0.34)),
        ((0.5, 0.3), (1.0, 0.0), 0.15, (0.5 + 0.2 * 0.6, 0.5 - 0.2 * 0.8)),
        ((0.5, 0.4), (0.0, 0.0), 0.1, (0.5, 0.4)),
        ((0.5, 0.5), (1e-30, 0.0), 0.1, (0.6, 0.5)),
    ],
)
def test_l2_climb_by_hand(at, direction, step, expected):
    """A step of that length, then back to the length 0.2 around x = 0.5."""
    x, x_adv = row(0.5, 0.5), row(*at)
    moved = L2Ball(x, 0.2).climb(x_adv, row(*direction), step)
    assert_close(moved, row(*expected))
    assert moved is x_adv and torch.equal(x, row(0.5, 0.5))


@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-30, 1e-22, 1.0, 1e18, 1e30])
def test_l2_climb_is_as_long_for_a_direction_of_any_length(size):
    """In float32, where the squares of some vanish and those of others are too large."""
    x = grey(1).float()
    assert_close(distance(L2Ball(x, 0.5).climb(x.clone(), size * x.sign(), 0.2), x, "l2"), torch.tensor([0.2]))


def test_l2_climb_treats_each_image_by_its_own_length():
    x = grey(3)
    x_adv = L2Ball(x, 0.5).climb(x.clone(), torch.tensor([1e-9, 1e9, 0.0]).view(3, 1, 1, 1) * x.sign(), 0.4)
    assert_close(distance(x_adv, x, "l2"), torch.tensor([0.4, 0.4, 0.0]).double())


@pytest.mark.parametrize(("kind", "moved"), [(LinfBall, (0.0, 1.0, 0.6)), (L2Ball, (0.0, 1.0, 0.5 + 0.1 / 3**0.5))])
def test_the_pixel_range_comes_last(kind, moved):
    x = row(0.0, 1.0, 0.5)
    assert_close(kind(x, 0.1).climb(x.clone(), row(-1.0, 1.0, 1.0), 0.2), row(*moved))


@both_norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_random_stays_within_budget_and_range(norm, dtype, seeded):
    x = torch.rand(200, 2, 4, 5, dtype=dtype).round(decimals=1)
    x_adv = ball(x, EPS[norm], norm).random(seeded(1))  # x itself comes from seed 0
    assert x_adv.dtype == dtype
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert 0.9 * EPS[norm] < distance(x_adv, x, norm).max() <= EPS[norm] + 1e-6


@both_norms
def test_random_is_drawn_with_the_generator_only(norm, seeded):
    x, state = grey(3), torch.get_rng_state()
    first, again, other = (ball(x, EPS[norm], norm).random(seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    ball(x, EPS[norm], norm).random(None)
    assert not torch.equal(torch.get_rng_state(), state)


def test_linf_random_is_uniform(seeded):
    u = (LinfBall(grey(1000), 0.1).random(seeded()) - 0.5).flatten() / 0.1
    for power, mean in [(1, 0), (2, 1 / 3), (4, 1 / 5)]:
        assert abs((u**power).mean() - mean) < 0.02


def test_l2_random_is_a_uniform_direction_and_radius(seeded):
    """r / eps is uniform on [0, 1]; the direction has the sphere's moments, E u_i^2 = 1/N and
    E u_i^4 = 3 / (N (N + 2)), and nothing in common with another pixel or with the radius."""
    samples, n = 20_000, 8
    change = (L2Ball(grey(samples, 2, 2, 2), 0.4).random(seeded()) - 0.5).flatten(1)
    radius = change.norm(dim=1)
    share = radius / 0.4
    assert share.max() <= 1 + 1e-12
    for power, mean in [(1, 1 / 2), (2, 1 / 3), (4, 1 / 5)]:
        assert abs((share**power).mean() - mean) < 0.01
    u = change / radius[:, None]
    assert u.mean(0).abs().max() < 0.01
    assert_close(u.T @ u / samples, torch.eye(n).double() / n, rtol=0, atol=0.005)
    assert_close((u**4).mean(), torch.tensor(3 / (n * (n + 2))).double(), rtol=0.02, atol=0)
    assert abs(torch.corrcoef(torch.stack([share, u[:, 0]]))[0, 1]) < 0.02


@both_norms
def test_a_ball_of_radius_zero_is_the_image_bit_for_bit(norm, seeded):
    x = torch.rand(3, 2, 4, 5)
    nothing = ball(x, 0.0, norm)
    start = nothing.random(seeded())
    assert torch.equal(start, x)
    assert torch.equal(nothing.climb(start, torch.randn_like(x), 0.3), x)


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("linf", -0.1, r"eps = -0.1 is out of range; accepted: 0 to 1$"),
        ("linf", 1.01, r"eps = 1.01 is out of range; accepted: 0 to 1$"),
        ("linf", float("nan"), "eps = nan is"),
        ("l2", -0.1, r"eps = -0.1 is out of range; accepted: 0 to 6.32456$"),
        ("l2", 6.33, "eps = 6.33 is"),
        ("l2", float("nan"), "eps = nan is"),
        ("l2", float("inf"), "eps = inf is"),
        ("l1", 0.1, "unknown norm 'l1'; accepted: linf, l2$"),
    ],
)
def test_errors_show_the_value(norm, eps, message):
    with pytest.raises(InputError, match=f"^{message}"):
        ball(grey(1), eps, norm)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", 40**0.5)])
def test_the_largest_budget_holds_every_image(norm, eps):
    x = torch.zeros(1, 2, 4, 5).double()
    assert_close(ball(x, eps, norm).climb(x.clone(), torch.ones_like(x), eps), torch.ones_like(x))


LEVEL = 1 / 255


@pytest.mark.parametrize(
    ("norm", "eps", "x_adv", "expected"),
    [
        ("linf", 2.6, (102.4, 97.6, 99.5001, 100.0), (102, 98, 100, 100)),
        ("linf", 2.6, (102.6, 97.4, 100.6, 99.4), (102, 98, 101, 99)),  # the nearest is a third level away
        ("linf", 8.0, (108.0, 92.0, 100.0, 103.0), (108, 92, 100, 103)),  # 8/255, a whole number of levels
        ("linf", 0.9, (100.9, 99.1, 100.0, 100.0), (100, 100, 100, 100)),  # nothing fits
        ("l2", 5.0, (103.2, 96.4, 100.0, 100.0), (103, 96, 100, 100)),  # the nearest, (3, -4), fits exactly
        ("l2", 4.9, (103.2, 96.4, 100.0, 100.0), (103, 97, 100, 100)),  # it does not: towards x
        ("l2", 1.4, (100.7, 99.3, 100.7, 99.3), (100, 100, 100, 100)),
        ("l2", 2.0, (100.9995, 99.0005, 100.9995, 99.0005), (101, 99, 101, 99)),
        ("l2", 1.9991, (100.9995, 99.0005, 100.9995, 99.0005), (100, 100, 100, 100)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_quantise_by_hand(norm, eps, x_adv, expected, dtype):
    """In levels, around x = 100."""
    x = row(100, 100, 100, 100, dtype=dtype) / 255
    rounded = quantise(row(*x_adv, dtype=dtype) / 255, x, eps=eps * LEVEL, norm=norm)
    assert_close(rounded, row(*expected, dtype=dtype) / 255)
    assert rounded.dtype == dtype


@both_norms
@pytest.mark.parametrize("levels", [0.0, 0.4, 1.0, 1.7, 8.0, 25.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_quantised_images_are_8_bit_and_within_the_budget(norm, levels, dtype, seeded):
    """Also at the corners of the pixel range and for changes that are whole levels."""
    eps = levels * LEVEL * (1 if norm == "linf" else 40**0.5)
    x = torch.randint(256, (100, 2, 4, 5), generator=seeded()).to(dtype) / 255
    x[:20], x[20:40] = 0, 1
    allowed = ball(x, eps, norm)
    for x_adv in (
        allowed.random(seeded(1)),
        allowed.climb(x.clone(), torch.randn(x.shape, generator=seeded(1), dtype=dtype), eps),
    ):
        rounded = quantise(x_adv, x, eps=eps, norm=norm)
        assert_close(255 * rounded, (255 * rounded).round(), rtol=0, atol=1e-4)
        assert rounded.min() >= 0 and rounded.max() <= 1
        assert distance(rounded, x, norm).max() <= eps + 1e-6
        assert distance(rounded, x_adv).max() <= LEVEL + 1e-6
        assert torch.equal(quantise(rounded, x, eps=eps, norm=norm), rounded)


@both_norms
def test_an_8_bit_image_is_its_own_quantisation(norm, seeded):
    x = torch.randint(256, (50, 1, 16, 16), generator=seeded()) / 255
    assert torch.equal(quantise(x, x, eps=EPS[norm], norm=norm), x)
