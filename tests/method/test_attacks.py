from dataclasses import FrozenInstanceError
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method import attacks
from jsigr_lib.method.attack_loop import Goal, Settings, ascend, cross_entropy, margin
from jsigr_lib.method.attacks import attack, bim, fgsm, mi_fgsm, pgd, vt_fgsm
from jsigr_lib.method.balls import distance, quantise
from jsigr_lib.method.checks import are_probabilities, check_logits
from jsigr_lib.method.errors import InputError

EPS = {"linf": 0.1, "l2": 0.5}
STEP = {"linf": 0.03, "l2": 0.15}
STEPS = 8
EVERYTHING = {
    "steps": 5,
    "step_size": 0.07,
    "momentum": 0.5,
    "random_start": True,
    "nesterov": True,
    "diversity": 0.5,
    "translation": 0.7,
    "scales": 2,
    "variance": 2,
    "keep": "worst",
}
NAMED = ["fgsm", "bim", "pgd", "mi-fgsm", "ni-fgsm", "di-fgsm", "ti-fgsm", "si-fgsm", "vt-fgsm"]
RUNS = {
    **{name: partial(attacks.run, name) for name in NAMED},
    "restarts": partial(pgd, steps=4, restarts=3),
    "everything": partial(attack, **EVERYTHING),
}
every_attack = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
both_norms = pytest.mark.parametrize("norm", EPS)


def ball(norm):
    return {"eps": EPS[norm], "norm": norm}


def iterative(norm="linf"):
    return {"eps": EPS[norm], "norm": norm, "step_size": STEP[norm], "steps": STEPS}


class Function(nn.Module):
    """A model given as a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.fixture
def wavy(quadratic):
    """The direction of ascent changes at every step."""
    return Function(lambda x: torch.sin(5 * quadratic(x)))


@pytest.fixture
def constant():
    return Function(lambda x: 0 * x.flatten(1)[:, :3])


@pytest.fixture
def grey(x):
    return torch.full_like(x, 0.5)


@every_attack
@both_norms
def test_stays_within_budget_and_range_and_uses_the_budget(net, x, y, seeded, run, norm):
    x[0], x[1] = 0, 1
    x_adv = run(net, x, y, **ball(norm), generator=seeded(1))
    changed = distance(x_adv, x, norm)
    assert x_adv.dtype == x.dtype
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert changed.max() <= EPS[norm] + 1e-12
    assert changed[2:].min() > 0.6 * EPS[norm] and changed[:2].min() > 0


@every_attack
@both_norms
def test_8_bit_images_stay_within_the_budget(net, y, seeded, run, norm):
    """In float32, of 8-bit originals."""
    x = torch.randint(256, (4, 2, 4, 5), generator=seeded(1)) / 255
    x_adv = run(net.float(), x, y, **ball(norm), generator=seeded(2))
    rounded = quantise(x_adv, x, **ball(norm))
    assert x_adv.dtype == rounded.dtype == torch.float32
    assert distance(x_adv, x, norm).max() <= EPS[norm] + 1e-6
    assert_close(255 * rounded, (255 * rounded).round(), rtol=0, atol=1e-4)
    assert rounded.min() >= 0 and rounded.max() <= 1
    assert distance(rounded, x, norm).min() > 0 and distance(rounded, x, norm).max() <= EPS[norm] + 1e-6
    assert distance(rounded, x_adv).max() <= 1 / 255 + 1e-6


@every_attack
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@both_norms
def test_model_sees_the_memory_format_of_the_images(y, run, layout, norm):
    """Whatever the format of the gradient: a model with `x.view` needs contiguous images."""
    x = torch.rand(4, 3, 4, 5).contiguous(memory_format=layout)
    convolution = nn.Conv2d(3, 3, 3, padding=1).to(memory_format=torch.channels_last)
    seen = []

    def function(x):
        seen.append(x.is_contiguous(memory_format=layout))
        return convolution(x).square().sum((2, 3))

    assert run(Function(function), x, y, **ball(norm)).is_contiguous(memory_format=layout)
    assert seen and all(seen)


@every_attack
@both_norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_eps_zero_gives_the_images_back(net, x, y, run, norm, dtype):
    x[0, 0] = torch.tensor([0.0, 1.0, 1 / 3, 1e-9, 1 - 1e-7])
    x_adv = run(net.to(dtype), x.to(dtype), y, eps=0.0, norm=norm)
    assert torch.equal(x_adv, x.to(dtype)) and x_adv is not x


@every_attack
@both_norms
def test_an_empty_batch_stays_empty(net, x, y, run, norm):
    assert run(net, x[:0], y[:0], **ball(norm)).shape == (0, *x.shape[1:])


@every_attack
@both_norms
def test_a_zero_gradient_moves_nothing(constant, x, y, seeded, run, norm):
    one, other = (run(constant, x, y, **ball(norm), generator=seeded(seed)) for seed in (1, 2))
    assert one.isfinite().all()
    starts_at_random = run in [RUNS[name] for name in ("pgd", "restarts", "everything")]
    assert torch.equal(one, other) == torch.equal(one, x) == (not starts_at_random)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
@both_norms
def test_a_zero_gradient_leaves_the_random_start(constant, x, y, seeded, momentum, norm):
    settings = {**iterative(norm), "momentum": momentum, "random_start": True}
    one, five = (attack(constant, x, y, **{**settings, "steps": n}, generator=seeded(1)) for n in (1, 5))
    assert torch.equal(one, five) and not torch.equal(five, x)


@both_norms
@pytest.mark.parametrize("settings", [{}, {"nesterov": True}, {"translation": 1.0}, {"scales": 2}, {"variance": 3}])
def test_a_zero_gradient_of_one_image_disturbs_no_other(net, x, y, seeded, norm, settings):
    dark = Function(lambda x: net(x) * (x.mean((1, 2, 3)) > 0.1).to(x)[:, None])
    settings = {**iterative(norm), "momentum": 0.9, **settings}
    x[1] = 0
    x_adv = attack(dark, x, y, **settings, generator=seeded(1))
    assert torch.equal(x_adv[1], x[1])
    assert torch.equal(x_adv[[0, 2, 3]], attack(net, x, y, **settings, generator=seeded(1))[[0, 2, 3]])


def test_momentum_survives_a_zero_gradient(grey):
    """The loss rises until every pixel has moved by 0.02, is flat, and from 0.05 on rises again."""
    y = torch.zeros(len(grey), dtype=torch.long)
    seen = []

    def flat(x_adv):
        change = x_adv - 0.5
        seen.append(change.flatten()[0].item())
        rise = change.clamp(max=0.02) + (change - 0.05).clamp(min=0)
        return torch.stack([0 * x_adv, rise], 1).sum((2, 3, 4))

    settings = {"eps": 0.1, "steps": 4}
    assert_close(attack(Function(flat), grey, y, **settings, step_size=0.03, momentum=1.0), grey + 0.1)
    assert_close(seen, [0.0, 0.03, 0.06, 0.09])
    assert_close(attack(Function(flat), grey, y, **settings, step_size=0.03), grey + 0.03)


def test_momentum_starts_after_a_zero_gradient(grey, seeded):
    """Flat up to 0.5, rising beyond: only variance tuning, which looks around, moves, from its second step on."""
    y = torch.zeros(len(grey), dtype=torch.long)
    edge = Function(lambda x: torch.stack([0 * x, (x - 0.5).relu()], 1).sum((2, 3, 4)))
    settings = {"eps": 0.1, "steps": 3, "step_size": 0.03, "momentum": 1.0}
    assert torch.equal(attack(edge, grey, y, **settings), grey)
    assert_close(attack(edge, grey, y, **settings, variance=20, generator=seeded()), grey + 0.06)


@pytest.mark.parametrize("name", ["fgsm", "bim", "mi-fgsm", "ni-fgsm", "ti-fgsm", "si-fgsm"])
@both_norms
def test_no_sample_depends_on_its_batch(wavy, x, y, name, norm):
    run = RUNS[name]
    alone = [run(wavy, x[i : i + 1], y[i : i + 1], **ball(norm)) for i in range(len(x))]
    assert_close(run(wavy, x, y, **ball(norm)), torch.cat(alone))


# Reference implementations: what the papers say, one image at a time.


def climbed(x, x_adv, g, norm, step, eps):
    """One image, one step along g, back into the ball, back into the pixel range."""
    if norm == "linf":
        moved = x_adv + step * g.sign()
        moved = torch.min(torch.max(moved, x - eps), x + eps)
    else:
        change = x_adv + step * g / g.square().sum().sqrt() - x
        length = change.square().sum().sqrt()
        moved = x + (change if length <= eps else change * eps / length)
    return moved.clamp(0, 1)


def slope(model, x, y):
    x = x.detach().requires_grad_()
    F.cross_entropy(model(x), y, reduction="sum").backward()
    return x.grad


def scaled_slope(model, x, y, copies=3):
    """1/m sum_i grad_x loss(x / 2^i) (Lin et al. 2020)."""
    x = x.detach().requires_grad_()
    losses = [F.cross_entropy(model(x * 0.5**i), y, reduction="sum") for i in range(copies)]
    (sum(losses) / copies).backward()
    return x.grad


def smoothed_slope(model, x, y, sigma=0.7):
    """The gradient of each channel, convolved with a Gaussian (Dong et al. 2019); 0.7 pixels reach 2 pixels far."""
    g = slope(model, x, y)
    offsets = torch.arange(-2, 3).double()
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2))
    padded = F.pad(g, (2, 2, 2, 2), mode="reflect").transpose(0, 1)
    return F.conv2d(padded, (kernel / kernel.sum())[None, None]).transpose(0, 1)


REFERENCES = {
    "plain": ({}, slope, 0.0, False),
    "mi": ({"momentum": 0.5}, slope, 0.5, False),
    "mi-1": ({"momentum": 1.0}, slope, 1.0, False),
    "ni": ({"momentum": 0.9, "nesterov": True}, slope, 0.9, True),
    "si": ({"scales": 3}, scaled_slope, 0.0, False),
    "ni-si": ({"momentum": 0.9, "nesterov": True, "scales": 3}, scaled_slope, 0.9, True),
    "ti": ({"translation": 0.7}, smoothed_slope, 0.0, False),
    "mi-ti": ({"momentum": 0.9, "translation": 0.7}, smoothed_slope, 0.9, False),
}


@pytest.mark.parametrize(("settings", "gradient", "mu", "ahead"), REFERENCES.values(), ids=REFERENCES)
@both_norms
def test_against_a_reference_loop(wavy, x, y, settings, gradient, mu, ahead, norm):
    """g <- mu g + grad / mean|grad| (Dong et al. 2018), grad at x + step mu g with Nesterov (Lin et al. 2020)."""
    for i in range(len(x)):
        original, label = x[i : i + 1], y[i : i + 1]
        x_adv, g = original, 0 * original
        for _ in range(STEPS):
            grad = gradient(wavy, x_adv + STEP[norm] * mu * g if ahead else x_adv, label)
            g = mu * g + grad / grad.abs().mean()
            x_adv = climbed(original, x_adv, g, norm, STEP[norm], EPS[norm])
        assert_close(attack(wavy, x, y, **iterative(norm), **settings)[i : i + 1], x_adv)


def test_pgd_l2_against_a_reference_loop(wavy, x, y, seeded):
    """From a random direction and a uniform radius, unnormalised gradients."""
    generator = seeded(1)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    share = torch.rand(len(x), generator=generator, dtype=x.dtype)
    start = [x[i] + 0.5 * share[i] * direction[i] / direction[i].square().sum().sqrt() for i in range(len(x))]
    x_adv = torch.stack(start).clamp(0, 1)
    for _ in range(6):
        g = slope(wavy, x_adv, y)
        x_adv = torch.stack([climbed(x[i], x_adv[i], g[i], "l2", 2.5 * 0.5 / 6, 0.5) for i in range(len(x))])
    assert_close(pgd(wavy, x, y, eps=0.5, steps=6, norm="l2", generator=seeded(1)), x_adv)


@pytest.mark.parametrize("mu", [0.0, 1.0])
@both_norms
def test_variance_tuning_against_a_reference_loop(wavy, x, y, seeded, norm, mu):
    """g <- mu g + (grad + v) / mean|grad + v|; v <- mean grad(x + r) - grad, r in the ball of radius 1.5 eps (Wang & He
    2021); here cut to [0, 1]."""
    generator, radius = seeded(1), 1.5 * EPS[norm]

    def around(x_adv):
        if norm == "linf":
            r = radius * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)
        else:
            r = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            r = r / r.square().sum((1, 2, 3), keepdim=True).sqrt()
            r = radius * r * torch.rand(len(x), 1, 1, 1, generator=generator, dtype=x.dtype)
        return (x_adv + r).clamp(0, 1)

    x_adv, g, v = x, 0 * x, 0
    for _ in range(STEPS):
        grad = slope(wavy, x_adv, y)
        g = mu * g + (grad + v) / (grad + v).abs().mean((1, 2, 3), keepdim=True)
        v = (slope(wavy, around(x_adv), y) + slope(wavy, around(x_adv), y) + slope(wavy, around(x_adv), y)) / 3 - grad
        x_adv = torch.stack([climbed(x[i], x_adv[i], g[i], norm, STEP[norm], EPS[norm]) for i in range(len(x))])
    assert_close(attack(wavy, x, y, **iterative(norm), momentum=mu, variance=3, generator=seeded(1)), x_adv)


@pytest.mark.parametrize("chance", [0.5, 1.0])
@both_norms
def test_diverse_inputs_against_a_reference_loop(y, seeded, norm, chance):
    """With that chance, x -> a random size, on a random place of a zero canvas of 11 x 23, -> 10 x 21."""
    x = torch.rand(4, 2, 10, 21).double()
    filters = torch.randn(3, 2, 10, 21).double()
    model = Function(lambda x: torch.sin((x[:, None] * filters).sum((2, 3, 4))))
    generator, sizes = seeded(1), set()

    def draw(high):
        return torch.randint(high + 1, (1,), generator=generator).item()

    def diverse(x_adv):
        if torch.rand(1, generator=generator).item() >= chance:
            sizes.add(None)
            return x_adv
        taller, wider = draw(1), draw(2)
        top, left = draw(1 - taller), draw(2 - wider)
        sizes.add((taller, wider, top, left))
        canvas = torch.zeros(len(x_adv), 2, 11, 23).double()
        resized = F.interpolate(x_adv, (10 + taller, 21 + wider), mode="bilinear")
        canvas[:, :, top : top + 10 + taller, left : left + 21 + wider] = resized
        return F.interpolate(canvas, (10, 21), mode="bilinear")

    x_adv = x
    for _ in range(20):
        g = slope(lambda z: model(diverse(z)), x_adv, y)
        x_adv = torch.stack([climbed(x[i], x_adv[i], g[i], norm, STEP[norm], EPS[norm]) for i in range(len(x))])
    assert (None in sizes) == (chance < 1) and len(sizes) > 5
    settings = {**iterative(norm), "steps": 20, "diversity": chance}
    assert_close(attack(model, x, y, **settings, generator=seeded(1)), x_adv)


KNOBS = [
    {"eps": 0.15},
    {"steps": 2},
    {"step_size": 0.05},
    {"momentum": 0.5},
    {"random_start": True},
    {"norm": "other"},
    {"nesterov": True},
    {"diversity": 0.7},
    {"translation": 0.7},
    {"scales": 3},
    {"variance": 2},
    {"keep": "worst"},
    {"loss": margin},
]


@pytest.mark.parametrize("change", KNOBS, ids=lambda change: next(iter(change)))
@both_norms
def test_every_knob_changes_the_result(wavy, x, y, seeded, change, norm):
    if "norm" in change:
        change = {"norm": "l2" if norm == "linf" else "linf"}
    settings = {**iterative(norm), "momentum": 1.0}
    base = attack(wavy, x, y, **settings, generator=seeded(1))
    assert torch.equal(base, attack(wavy, x, y, **settings, generator=seeded(1)))
    assert not torch.equal(base, attack(wavy, x, y, **{**settings, **change}, generator=seeded(1)))


@pytest.mark.parametrize(
    "change",
    [{"diversity": (0.3, 0.7)}, {"translation": (0.5, 1.0)}, {"scales": (2, 3)}, {"variance": (1, 2)}],
    ids=lambda change: next(iter(change)),
)
@both_norms
def test_every_amount_counts(wavy, x, y, seeded, change, norm):
    ((name, values),) = change.items()
    one, other = (attack(wavy, x, y, **iterative(norm), **{name: value}, generator=seeded(1)) for value in values)
    assert not torch.equal(one, other)


@both_norms
def test_every_named_attack_is_another(wavy, x, y, seeded, norm):
    results = [RUNS[name](wavy, x, y, **ball(norm), generator=seeded(1)) for name in RUNS]
    for i, one in enumerate(results):
        assert not any(torch.equal(one, other) for other in results[:i])


@pytest.mark.parametrize("keep", ["last", "worst"])
def test_random_attacks_draw_with_the_generator(wavy, x, y, seeded, keep):
    settings = {**EVERYTHING, "keep": keep}
    first, again, other = (attack(wavy, x, y, eps=0.1, **settings, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(3)
    unseeded = attack(wavy, x, y, eps=0.1, **settings)
    torch.manual_seed(3)
    assert torch.equal(unseeded, attack(wavy, x, y, eps=0.1, **settings))


@every_attack
def test_draws_are_made_where_the_generator_is(net, x, y, seeded, run):
    """And not on the default device, here one on which nothing has a value."""
    expected, generator = run(net, x, y, eps=0.1, generator=seeded(1)), seeded(1)
    with torch.device("meta"):
        assert torch.equal(run(net, x, y, eps=0.1, generator=generator), expected)


def test_fgsm_of_a_linear_model_by_hand(linear, x, y):
    """g = W^T (p - onehot(y))."""
    p = linear(x).softmax(1)
    g = ((p - F.one_hot(y, 3)) @ linear.weight).view_as(x).detach()
    assert_close(fgsm(linear, x, y, eps=0.1), (x + 0.1 * g.sign()).clamp(0, 1))
    length = g.square().sum((1, 2, 3), keepdim=True).sqrt()
    assert_close(fgsm(linear, x, y, eps=0.5, norm="l2"), (x + 0.5 * g / length).clamp(0, 1))


def test_cross_entropy_is_one_value_per_image(y):
    z = torch.randn(4, 3)
    assert_close(cross_entropy(z, y), -z.log_softmax(1)[range(4), y])


def test_margin_by_hand():
    z = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [3.0, 3.0, -1.0]], requires_grad=True)
    values = margin(z, torch.tensor([1, 2, 0]))
    assert_close(values, torch.tensor([-2.0, 2.0, 0.0]))
    values.sum().backward()
    assert_close(z.grad, torch.tensor([[0.0, -1.0, 1.0], [0.0, 1.0, -1.0], [-1.0, 1.0, 0.0]]))


def test_margin_loss_of_a_linear_model_by_hand(linear, grey, y):
    """g = W_k - W_y, k the best wrong class, whatever the softmax is: also where it is saturated."""
    z = linear(grey).scatter(1, y[:, None], -torch.inf)
    g = (linear.weight[z.argmax(1)] - linear.weight[y]).view_as(grey).detach()
    assert_close(fgsm(linear, grey, y, eps=0.1, loss=margin), grey + 0.1 * g.sign())
    saturated = Function(lambda x: linear(x) + 1e4 * F.one_hot(y, 3))
    assert torch.equal(fgsm(saturated, grey, y, eps=0.1), grey)
    assert_close(fgsm(saturated, grey, y, eps=0.1, loss=margin), grey + 0.1 * g.sign())


def test_any_loss_per_image_can_be_raised(linear, grey, y):
    """-z_0 falls along W_0."""
    x_adv = fgsm(linear, grey, y, eps=0.1, loss=lambda z, y: -z[:, 0])
    assert_close(x_adv, (grey - 0.1 * linear.weight[0].view_as(grey[0]).sign()).detach())


def worst_of(model, y, iterates):
    """Image by image, the iterate with the largest margin, and which it is."""
    margins = torch.stack([margin(model(x_adv), y) for x_adv in iterates]).detach()
    which = margins.argmax(0)
    return torch.stack([iterates[n][i] for i, n in enumerate(which)]), which, margins


@both_norms
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_worst_is_the_largest_margin_of_all_iterates(wavy, x, y, seeded, norm, random_start, loss):
    """The start and the end too."""
    settings = {**iterative(norm), "random_start": random_start, "loss": loss}

    def run(**changed):
        return attack(wavy, x, y, **{**settings, **changed}, generator=seeded(1))

    iterates = [run(steps=1, step_size=0.0), *(run(steps=n) for n in range(1, STEPS + 1))]
    expected, which, _ = worst_of(wavy, y, iterates)
    assert (which < STEPS).any()
    assert torch.equal(run(keep="worst"), expected)


def test_worst_may_be_the_image_itself_or_the_last(x, grey):
    """A model whose gradient leads down: z_1 is highest at grey, though its slope says otherwise. Of equals, the first,
    which is the least changed."""
    y = torch.zeros(len(x), dtype=torch.long)

    def function(x_adv, sign):
        away = (x_adv - 0.5).abs().sum((1, 2, 3))
        up = x_adv.sum((1, 2, 3))
        return torch.stack([0 * up, up - up.detach() + sign * away.detach()], 1)

    settings = {"eps": 0.1, "steps": 3, "step_size": 0.03, "keep": "worst"}
    assert torch.equal(attack(Function(partial(function, sign=-1)), grey, y, **settings), grey)
    assert torch.equal(attack(Function(partial(function, sign=0)), grey, y, **settings), grey)
    assert_close(attack(Function(partial(function, sign=1)), grey, y, **settings), grey + 0.09)


@both_norms
def test_restarts_are_the_worst_of_their_starts(wavy, x, y, seeded, norm):
    """Cross-entropy and margin by turns."""
    generator = seeded(1)
    settings = {**ball(norm), "steps": 5, "step_size": EPS[norm] / 2, "random_start": True, "keep": "worst"}
    runs = [
        attack(wavy, x, y, **settings, loss=loss, generator=generator)
        for loss in (cross_entropy, margin, cross_entropy)
    ]
    expected, which, _ = worst_of(wavy, y, runs)
    assert len(which.unique()) > 1
    assert torch.equal(pgd(wavy, x, y, **ball(norm), steps=5, restarts=3, generator=seeded(1)), expected)


@both_norms
def test_more_restarts_never_lower_the_margin(wavy, x, y, seeded, norm):
    runs = [pgd(wavy, x, y, **ball(norm), steps=4, restarts=n, generator=seeded(1)) for n in (1, 2, 3, 5, 8)]
    _, _, margins = worst_of(wavy, y, runs)
    assert (margins.diff(dim=0) >= 0).all()
    assert (margins[-1] > margins[1]).any()


@both_norms
def test_pgd_beats_fgsm_beats_nothing(quadratic, x, y, norm):
    model = Function(lambda x: torch.sin(quadratic(x)))
    clean, weak, strong = (
        F.cross_entropy(model(images), y)
        for images in (x, fgsm(model, x, y, **ball(norm)), pgd(model, x, y, **ball(norm), steps=20))
    )
    assert clean < weak < strong


STEPWISE = {"steps": 10, "step_size": 1 / 10}
MOMENTUM = {**STEPWISE, "momentum": 1.0}
NAMES = [
    ("fgsm", {}, {"steps": 1, "step_size": 1.0}),
    ("bim", {}, STEPWISE),
    ("bim", {"steps": 4}, {"steps": 4, "step_size": 1 / 4}),
    ("pgd", {}, {"steps": 20, "step_size": 0.125, "random_start": True}),
    ("pgd", {"steps": 4}, {"steps": 4, "step_size": 0.625, "random_start": True}),
    ("mi-fgsm", {}, MOMENTUM),
    ("mi-fgsm", {"steps": 3}, {**MOMENTUM, "steps": 3, "step_size": 1 / 3}),
    ("mi-fgsm", {"momentum": 0.3}, {**MOMENTUM, "momentum": 0.3}),
    ("ni-fgsm", {}, {**MOMENTUM, "nesterov": True}),
    ("di-fgsm", {}, {**MOMENTUM, "diversity": 0.5}),
    ("ti-fgsm", {}, {**MOMENTUM, "translation": 1.0}),
    ("si-fgsm", {}, {**MOMENTUM, "nesterov": True, "scales": 5}),
    ("vt-fgsm", {}, {**MOMENTUM, "variance": 20}),
]


@pytest.mark.parametrize(("name", "given", "settings"), NAMES)
@both_norms
def test_named_attacks_are_settings_of_the_loop(wavy, x, y, seeded, name, given, settings, norm):
    """step_size in budgets."""
    expected = attack(
        wavy, x, y, **ball(norm), **{**settings, "step_size": EPS[norm] * settings["step_size"]}, generator=seeded(1)
    )
    assert_close(attacks.run(name, wavy, x, y, **ball(norm), **given, generator=seeded(1)), expected)


def test_pgd_takes_a_step_size(wavy, x, y, seeded):
    settings = {"eps": 0.1, "steps": 3, "step_size": 0.02, "generator": seeded(1)}
    x_adv = pgd(wavy, x, y, **settings)
    assert_close(x_adv, attack(wavy, x, y, **{**settings, "generator": seeded(1)}, random_start=True))


def test_run_by_name():
    assert list(attacks.ATTACKS) == [*NAMED, "square", "autoattack"]
    accepted = "fgsm, bim, pgd, mi-fgsm, ni-fgsm, di-fgsm, ti-fgsm, si-fgsm, vt-fgsm, square, autoattack"
    with pytest.raises(InputError, match=f"^unknown attack 'cw'; accepted: {accepted}$"):
        attacks.run("cw", None, None, None, eps=0.1)


@every_attack
@both_norms
def test_leaves_everything_as_it_was(batch_norm_net, x, y, seeded, run, norm):
    """The model (modes, buffers, parameters, their gradients), the images and the global random state; no graph."""
    for parameter in batch_norm_net.parameters():
        parameter.grad = torch.randn_like(parameter)
    batch_norm_net[0].weight.requires_grad_(False)
    x.requires_grad_()

    def state():
        tensors = [*batch_norm_net.buffers(), *batch_norm_net.parameters()]
        tensors += [p.grad for p in batch_norm_net.parameters()]
        flags = [module.training for module in batch_norm_net.modules()]
        flags += [p.requires_grad for p in batch_norm_net.parameters()]
        return [t.detach().clone() for t in [*tensors, x, y, torch.get_rng_state()]], flags

    tensors, flags = state()
    x_adv = run(batch_norm_net, x, y, **ball(norm), generator=seeded(1))
    after, flags_after = state()
    assert flags_after == flags and all(map(torch.equal, after, tensors))
    assert not x_adv.requires_grad and x.grad is None


@every_attack
def test_runs_in_evaluation_mode_and_under_no_grad(batch_norm_net, x, y, seeded, run):
    with torch.no_grad():
        x_adv = run(batch_norm_net, x, y, eps=0.1, generator=seeded(1))
    assert torch.equal(x_adv, run(batch_norm_net.eval(), x, y, eps=0.1, generator=seeded(1)))
    assert not torch.equal(x_adv, x)


NAN = float("nan")
SETTINGS = [
    ({"eps": -0.1}, "eps = -0.1 is out of range; accepted: 0 to 1$"),
    ({"eps": 1.1}, "eps = 1.1 is out"),
    ({"eps": NAN}, "eps = nan is out"),
    ({"eps": -0.1, "norm": "l2"}, "eps = -0.1 is out"),
    ({"eps": 6.33, "norm": "l2"}, "eps = 6.33 is out of range; accepted: 0 to 6.32456$"),
    ({"eps": NAN, "norm": "l2"}, "eps = nan is out"),
    ({"norm": "l1"}, "unknown norm 'l1'; accepted: linf, l2$"),
    ({"steps": 0}, "steps = 0; accepted: a whole number from 1$"),
    ({"steps": -1}, "steps = -1; accepted: a whole number from 1$"),
    ({"steps": True}, "steps = True;"),
    ({"steps": 2.0}, "steps = 2.0;"),
    ({"step_size": -1.0}, "step_size = -1.0 is out"),
    ({"step_size": 3.0}, "step_size = 3.0 is out of range; accepted: 0 to 2.5$"),
    ({"step_size": NAN}, "step_size = nan is out"),
    ({"step_size": float("inf"), "norm": "l2"}, "step_size = inf is out"),
    ({"momentum": NAN}, "momentum = nan"),
    ({"momentum": -1.0}, "momentum = -1.0"),
    ({"nesterov": True}, "nesterov = True with momentum = 0; accepted: a positive momentum$"),
    ({"diversity": 1.1}, "diversity = 1.1 is out of range; accepted: 0 to 1$"),
    ({"diversity": -0.1}, "diversity = -0.1 is"),
    ({"diversity": NAN}, "diversity = nan is"),
    ({"translation": -1.0}, "translation = -1.0 is"),
    ({"translation": 0.05}, "translation = 0.05 is out of range; accepted: 0.1 to 100$"),
    ({"translation": NAN}, "translation = nan is"),
    ({"scales": 0}, "scales = 0; accepted: a whole number from 1$"),
    ({"scales": True}, "scales = True;"),
    ({"scales": NAN}, "scales = nan;"),
    ({"variance": -1}, "variance = -1; accepted: a whole number from 0$"),
    ({"variance": False}, "variance = False;"),
    ({"variance": NAN}, "variance = nan;"),
    ({"keep": "best"}, "unknown keep 'best'; accepted: last, worst$"),
]


@pytest.mark.parametrize(("change", "message"), SETTINGS)
def test_errors_show_the_value(net, x, y, change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        attack(net, x, y, **{**iterative(), **change})


def test_settings_are_those_of_linf_unless_told():
    Settings(eps=1.0, steps=1, step_size=2.5)
    Settings(eps=4.0, steps=1, step_size=3.0, momentum=1.0, norm="l2")
    for eps, step_size in [(1.1, 0.1), (1.0, 2.6)]:
        with pytest.raises(InputError):
            Settings(eps=eps, steps=1, step_size=step_size)


def test_settings_are_values(wavy, x, y, seeded):
    """They can be compared, kept in sets and not be changed; the loop takes them as they are."""
    settings = Settings(eps=0.1, **EVERYTHING)
    assert settings == Settings(eps=0.1, **EVERYTHING) != Settings(eps=0.2, **EVERYTHING)
    assert len({settings, Settings(eps=0.1, **EVERYTHING)}) == 1
    with pytest.raises(FrozenInstanceError):
        settings.eps = 0.2
    x_adv = ascend(wavy, x, y, settings, generator=seeded(1))
    assert torch.equal(x_adv, attack(wavy, x, y, eps=0.1, **EVERYTHING, generator=seeded(1)))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("linf", -0.1, "eps = -0.1 is"),
        ("linf", 1.1, "eps = 1.1 is"),
        ("linf", NAN, "eps = nan is"),
        ("l2", 6.33, "eps = 6.33 is"),
        ("l2", NAN, "eps = nan is"),
        ("l1", 0.1, "unknown norm 'l1'; accepted: linf, l2$"),
    ],
)
def test_named_attacks_show_the_budget(net, x, y, name, norm, eps, message):
    with pytest.raises(InputError, match=f"^{message}"):
        attacks.run(name, net, x, y, eps=eps, norm=norm)


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"fgsm"}))
@pytest.mark.parametrize("steps", [0, -1, True, 1.5])
def test_named_attacks_show_the_steps(net, x, y, name, steps):
    with pytest.raises(InputError, match=f"^steps = {steps}; accepted: a whole number from 1$"):
        attacks.run(name, net, x, y, eps=0.1, steps=steps)


@pytest.mark.parametrize("restarts", [0, -1, True, 1.5, NAN])
def test_bad_restarts(net, x, y, restarts):
    with pytest.raises(InputError, match=f"^restarts = {restarts}; accepted: a whole number from 1$"):
        pgd(net, x, y, eps=0.1, restarts=restarts)


@pytest.mark.parametrize("run", [pgd, vt_fgsm, bim])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("l2", 40**0.5)])
def test_the_largest_budget_is_accepted(net, x, y, run, norm, eps):
    assert (run(net, x, y, eps=eps, norm=norm, steps=1) - x).abs().max() > 0.5


@every_attack
@pytest.mark.parametrize("pixel", [-0.01, 1.01, 255.0, NAN])
def test_images_outside_their_range(net, x, y, run, pixel):
    x[0, 0, 0, 0] = pixel
    with pytest.raises(InputError, match=rf"^images span .*{pixel:g}.*; accepted: 0 to 1$"):
        run(net, x, y, eps=0.1)


@every_attack
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, "label -1; accepted: class indices from 0"),
        (3, "label 3; accepted: 0 to 2, as the model has 3 outputs"),
        (100, "label 100; accepted: 0 to 2,"),
    ],
)
def test_bad_labels(net, x, y, run, label, message):
    y[1] = label
    with pytest.raises(InputError, match=f"^{message}"):
        run(net, x, y, eps=0.1)


def partly(bad):
    """Logits of which one image's are bad."""
    return lambda z: z.index_fill(0, torch.tensor([1]), bad)


def one_logit(z):
    """Logits of which a single one is bad."""
    return z.masked_fill(torch.arange(z.numel()).view(z.shape) == 4, NAN)


@every_attack
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda z: z.softmax(1), r"the model gives probabilities, such as 0\.\d+; accepted: logits"),
        (partly(NAN), "the model gives nan; accepted: finite logits"),
        (partly(float("inf")), "the model gives inf; accepted: finite logits"),
        (partly(-float("inf")), "the model gives -inf; accepted: finite logits"),
        (one_logit, "the model gives nan; accepted: finite logits"),
    ],
)
@both_norms
def test_bad_models(net, x, y, run, output, message, norm):
    with pytest.raises(InputError, match=f"^{message}$"):
        run(Function(lambda x: output(net(x))), x, y, **ball(norm))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0.25, 0.75]], True),
        ([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], True),
        ([[0.25, 0.75], [0.25, 0.76]], False),
        ([[1.25, -0.25]], False),
        ([[1.0], [1.0]], False),  # of one output, nothing can be said
    ],
)
def test_probabilities_by_hand(rows, expected):
    assert are_probabilities(torch.tensor(rows)) is expected
    if expected:
        with pytest.raises(
            InputError, match=f"^the model gives probabilities, such as {rows[0][0]:g}; accepted: logits$"
        ):
            check_logits(torch.tensor(rows))


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (-1.0, 0.0), (-1.0, 2 / 3), (4.0, -1.0)])
def test_logits_that_look_like_probabilities_only_nearly(net, x, y, scale, shift):
    """Rows that sum to 1/2, to -1, or to 1 with negative entries."""
    fgsm(Function(lambda x: scale * (3 * net(x)).softmax(1) + shift), x, y, eps=0.1)


def test_a_loss_that_is_nan_is_never_the_worst():
    x, z = torch.zeros(2, 3), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    goal = Goal(x, torch.tensor([0, 1]), lambda z, y: torch.where(y == 0, NAN, z[:, 1]))
    assert goal.rank(z).tolist() == [-torch.inf, 5]


@every_attack
@both_norms
def test_a_gradient_that_is_nan(net, x, y, run, norm):
    """Of one image; its logits are finite: sqrt has no slope at 0."""
    others = torch.tensor([1.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 1)
    root = Function(lambda x: net(x) + (others * x).sum((1, 2, 3))[:, None].sqrt())
    with pytest.raises(InputError, match=r"^the model's gradient is NaN; accepted: a model with finite gradients$"):
        run(root, x, y, **ball(norm))


def test_a_gradient_that_is_nan_once(net, x, y):
    """At the first step alone: the later ones do not make up for it."""
    roots = iter([lambda zero: zero.sqrt(), lambda zero: zero, lambda zero: zero])
    root = Function(lambda x: net(x) + next(roots)((x - x.detach()).abs().sum((1, 2, 3)))[:, None])
    with pytest.raises(InputError, match=r"^the model's gradient is NaN"):
        attack(root, x, y, eps=0.1, steps=3, step_size=0.03)


@pytest.mark.parametrize("run", [mi_fgsm, bim, partial(attack, step_size=0.05)])
@both_norms
def test_gradients_too_small_to_square(y, run, norm):
    """A saturated softmax: 1e-30 moves as far as 1 does."""
    x = torch.full((4, 2, 4, 5), 0.5)
    w = torch.randn(3, 40)
    tiny, usual = (Function(lambda x, s=s: s * x.flatten(1) @ w.T) for s in (1e-30, 1e-3))
    x_adv, expected = (run(model, x, y, **ball(norm), steps=1, loss=margin) for model in (tiny, usual))
    assert_close(x_adv, expected)


# the worst by the loss that is given, and targets


def towards(z, y):
    return -F.cross_entropy(z, y, reduction="none")


@pytest.mark.parametrize("loss", [towards, lambda z, y: -z[:, 0], lambda z, y: margin(z, (y + 1) % 3)])
def test_worst_is_ranked_by_the_loss_that_is_given(wavy, x, y, seeded, loss):
    settings = {**iterative(), "random_start": True, "loss": loss}

    def run(**changed):
        return attack(wavy, x, y, **{**settings, **changed}, generator=seeded(1))

    iterates = [run(steps=1, step_size=0.0), *(run(steps=n) for n in range(1, STEPS + 1))]
    which = torch.stack([loss(wavy(one), y) for one in iterates]).argmax(0)
    assert (which < STEPS).any()
    assert torch.equal(run(keep="worst"), torch.stack([iterates[n][i] for i, n in enumerate(which)]))


@both_norms
@pytest.mark.parametrize("how", ["loss", "target"])
def test_more_restarts_never_miss_what_fewer_hit(wavy, x, y, seeded, norm, how):
    """A targeted attack, by its own loss or with a target."""
    target = (wavy(x).argmax(1) + 1) % 3
    given = {"loss": towards} if how == "loss" else {"target": target}
    runs = [
        pgd(
            wavy,
            x,
            target if how == "loss" else y,
            eps=2 * EPS[norm],
            norm=norm,
            restarts=n,
            **given,
            generator=seeded(1),
        )
        for n in (1, 2, 4, 8)
    ]
    hits = torch.stack([wavy(x_adv).argmax(1) == target for x_adv in runs]).sum(1)
    assert hits.tolist() == sorted(hits.tolist()) and hits[-1] > 0
    value = towards if how == "loss" else lambda z, t: -margin(z, t)
    values = torch.stack([value(wavy(x_adv), target) for x_adv in runs[1:]])
    assert (values.diff(dim=0) >= 0).all()


def test_targeted_fgsm_of_a_linear_model_by_hand(linear, grey, y):
    """Down the gradient of the target's loss, W^T (p - onehot(t)), or W_k - W_t with the margin."""
    target = (y + 1) % 3
    z = linear(grey)
    g = ((z.softmax(1) - F.one_hot(target, 3)) @ linear.weight).view_as(grey).detach()
    assert_close(fgsm(linear, grey, y, eps=0.1, target=target), grey - 0.1 * g.sign())
    best = z.scatter(1, target[:, None], -torch.inf).argmax(1)
    g = (linear.weight[best] - linear.weight[target]).view_as(grey).detach()
    assert_close(fgsm(linear, grey, y, eps=0.1, target=target, loss=margin), grey - 0.1 * g.sign())
    assert_close(
        fgsm(linear, grey, y, eps=0.1, target=target, loss=lambda z, t: -z.gather(1, t[:, None])[:, 0]),
        grey + 0.1 * linear.weight[target].view_as(grey).sign().detach(),
    )


@every_attack
@both_norms
def test_every_attack_takes_a_target(linear, x, y, seeded, run, norm):
    target = (linear(x).argmax(1) + 1) % 3
    x_adv = run(linear, x, y, **ball(norm), target=target, generator=seeded(1))
    assert (cross_entropy(linear(x_adv), target) < cross_entropy(linear(x), target)).all()
    assert torch.equal(
        x_adv, run(linear, x, (y + 1) % 3, **ball(norm), target=target[:, None].int(), generator=seeded(1))
    )


@pytest.mark.parametrize("name", ["square", "autoattack"])
def test_judges_take_no_target_and_no_loss(net, x, y, name):
    with pytest.raises(InputError, match=f"^{name} with a target; accepted: none, or one of our own attacks$"):
        attacks.run(name, net, x, y, eps=0.1, target=y)
    with pytest.raises(InputError, match=f"^{name} with a loss; "):
        attacks.run(name, net, x, y, eps=0.1, loss=margin)


# precision


@every_attack
@both_norms
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("share", [0.01, 8 / 255 / 0.1, 1.0, 2.5])
def test_half_precision_stays_within_the_budget(net, x, y, seeded, run, norm, dtype, share):
    """As measured in float64, to the last bit; and no step is lost to rounding."""
    model, x, eps = net.to(dtype), x.to(dtype), share * EPS[norm]
    x[0], x[1] = 0, 1
    x_adv = run(model, x, y, eps=eps, norm=norm, generator=seeded(1))
    assert x_adv.dtype == dtype and x_adv.min() >= 0 and x_adv.max() <= 1
    changed = distance(x_adv.double(), x.double(), norm)
    assert changed.max() <= eps
    if share > 0.3:
        assert changed[2:].min() > 0.5 * eps


@both_norms
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_hits_what_single_precision_hits(seeded, norm, dtype):
    """With many steps that are each smaller than the distance of two numbers near 1."""
    x, weight = 0.9 + 0.05 * torch.rand(4, 2, 4, 5).to(dtype), torch.randn(3, 40).to(dtype)
    model = Function(lambda x: x.flatten(1) @ weight.to(x).T)
    y = model(x).argmax(1)
    x_adv, expected = (bim(model, images, y, eps=EPS[norm], norm=norm, steps=100) for images in (x, x.float()))
    assert (x_adv.float() - expected).abs().max() <= 1.1 * torch.finfo(dtype).eps


@both_norms
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_takes_a_whole_step_that_it_can_hold(grey, y, norm, dtype):
    rising = Function(lambda x: torch.stack([0 * x, x], 1).sum((2, 3, 4)))
    eps = 0.25 * (1 if norm == "linf" else 40**0.5)
    x_adv = fgsm(rising, grey.to(dtype), 0 * y, eps=eps, norm=norm)
    assert (x_adv.double() - 0.75).abs().max() <= (0 if norm == "linf" else torch.finfo(dtype).eps)


# what people give: shapes, labels, outputs, models


@pytest.mark.parametrize("shape", [(4, 12), (4, 3, 7), (4, 1, 2, 4, 4), (4, 1, 1, 2, 3, 3)], ids=len)
@pytest.mark.parametrize("name", [*NAMED, "restarts"])
@both_norms
def test_tables_and_videos_are_attacked_like_pictures(seeded, shape, name, norm):
    """The same numbers as in a picture of one row; smoothed and resized are pictures alone."""
    x, weight = torch.rand(shape).double(), torch.randn(3, torch.Size(shape[1:]).numel()).double()
    model = Function(lambda x: torch.sin(x.flatten(1) @ weight.T))
    y = model(x).argmax(1)
    run = partial(RUNS[name], y=y, **ball(norm))
    if name in ("di-fgsm", "ti-fgsm"):
        with pytest.raises(InputError, match=r"^diversity or translation with \[4, .*channels, height, width\]$"):
            run(model, x)
        return
    x_adv = run(model, x, generator=seeded(1))
    assert distance(x_adv, x, norm).max() <= EPS[norm] + 1e-12
    assert_close(x_adv.flatten(1), run(model, x.view(4, 1, 1, -1), generator=seeded(1)).flatten(1))


BAD_LABELS = [
    (lambda y: F.one_hot(y, 3).double(), r"are float64 \[4, 3\]; accepted: class indices, one for each of 4"),
    (lambda y: F.one_hot(y, 3), r"are int64 \[4, 3\];"),
    (lambda y: y.double(), r"are float64 \[4\];"),
    (lambda y: y > 0, r"are bool \[4\];"),
    (lambda y: y[:3], r"are int64 \[3\];"),
    (lambda y: y[0], r"are int64 \[\];"),
    (lambda y: y.tolist(), "are a list;"),
    (lambda y: None, "are a NoneType;"),
]


@every_attack
@pytest.mark.parametrize(("how", "message"), BAD_LABELS)
def test_labels_that_are_none(net, x, y, run, how, message):
    with pytest.raises(InputError, match=f"^the labels {message}"):
        run(net, x, how(y), eps=0.1)
    if how(y) is not None:
        with pytest.raises(InputError, match=f"^the targets {message}"):
            run(net, x, y, eps=0.1, target=how(y))


@every_attack
@pytest.mark.parametrize(("target", "message"), [(-1, "label -1; accepted"), (3, "label 3; accepted: 0 to 2,")])
def test_targets_out_of_range(net, x, y, run, target, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run(net, x, y, eps=0.1, target=torch.full_like(y, target))


@every_attack
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (F.cross_entropy, r"the loss gives a tensor \[\] for 4 images; accepted: one value per image$"),
        (lambda z, y: z, r"the loss gives a tensor \[4, 3\] for"),
        (lambda z, y: 1.0, "the loss gives a float for"),
    ],
)
def test_losses_that_are_not_per_image(net, x, y, run, loss, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run(net, x, y, eps=0.1, loss=loss)


@every_attack
@both_norms
def test_a_budget_for_each_image_is_refused(net, x, y, run, norm):
    eps = torch.full((4,), EPS[norm])
    for given, said in [(eps, r"a tensor \[4\]"), (eps.view(4, 1, 1, 1), r"a tensor \[4, 1, 1, 1\]"), ("0.1", "'0.1'")]:
        with pytest.raises(InputError, match=rf"^(eps|step_size) = {said}; accepted: one number for all images$"):
            run(net, x, y, eps=given, norm=norm)
    with pytest.raises(InputError, match=r"^(eps|step_size) = .*; accepted: one number for all images$"):
        attack(net, x, y, eps=0.1, steps=1, step_size=eps)


@every_attack
@both_norms
def test_a_budget_may_be_a_number_of_torch(net, x, y, seeded, run, norm):
    eps = torch.tensor(EPS[norm], dtype=torch.double)
    assert_close(
        run(net, x, y, eps=eps, norm=norm, generator=seeded(1)), run(net, x, y, **ball(norm), generator=seeded(1))
    )


@every_attack
def test_runs_in_inference_mode(net, x, y, seeded, run):
    expected = run(net, x, y, eps=0.1, generator=seeded(1))
    with torch.inference_mode():
        made_there = run(net, x.clone(), y.clone(), eps=0.1, target=None, generator=seeded(1))
        assert torch.equal(run(net, x, y, eps=0.1, generator=seeded(1)), expected)
        target = run(net, x.clone(), y.clone(), eps=0.1, target=y.clone(), generator=seeded(1))
    assert torch.equal(made_there, expected) and target.shape == x.shape


@every_attack
def test_an_empty_batch_reaches_no_model(x, y, run):
    """Which may not take it, as with `view(len(x), -1)`."""
    refuses = Function(lambda x: x.view(len(x), -1))
    assert run(refuses, x[:0], y[:0], eps=0.1).shape == (0, 2, 4, 5)
