import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib import attacks
from jsigr_lib.attacks import attack, fgsm, mi_fgsm, pgd
from jsigr_lib.errors import InputError

EPS = 0.1
ITERATIVE = {"eps": EPS, "steps": 8, "step_size": 0.03}
SETTINGS = {
    "plain": lambda model, x, y, eps=EPS: attack(model, x, y, eps=eps, steps=5, step_size=0.03),
    "all": lambda model, x, y, eps=EPS: attack(
        model, x, y, eps=eps, steps=5, step_size=0.07, momentum=0.5, random_start=True
    ),
    "fgsm": lambda model, x, y, eps=EPS: fgsm(model, x, y, eps=eps),
    "pgd": lambda model, x, y, eps=EPS: pgd(model, x, y, eps=eps, steps=3),
    "mi-fgsm": lambda model, x, y, eps=EPS: mi_fgsm(model, x, y, eps=eps),
}
every_attack = pytest.mark.parametrize("run", SETTINGS.values(), ids=SETTINGS)


class Function(nn.Module):
    """A model given as a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.fixture
def wavy(quadratic):
    """The direction of ascent changes at every step."""
    return Function(lambda x: torch.sin(5 * quadratic(x)))


@every_attack
def test_stays_within_budget_and_range_and_uses_the_budget(net, x, y, run):
    x[0], x[1] = 0, 1
    x_adv = run(net, x, y)
    change = (x_adv - x).abs()
    assert x_adv.dtype == x.dtype
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert change.max() <= EPS + 1e-12
    assert change.amax((1, 2, 3)).min() > 0.9 * EPS


@every_attack
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_model_sees_the_memory_format_of_the_images(y, run, layout):
    """Whatever the format of the gradient: a model with `x.view` needs contiguous images."""
    x = torch.rand(4, 3, 4, 5).contiguous(memory_format=layout)
    convolution = nn.Conv2d(3, 3, 3, padding=1).to(memory_format=torch.channels_last)
    seen = []

    def function(x):
        seen.append(x.is_contiguous(memory_format=layout))
        return convolution(x).square().sum((2, 3))

    assert run(Function(function), x, y).is_contiguous(memory_format=layout)
    assert seen and all(seen)


@every_attack
def test_eps_zero_gives_the_images_back(net, x, y, run):
    assert torch.equal(run(net, x, y, 0.0), x)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
@pytest.mark.parametrize("random_start", [False, True])
def test_a_zero_gradient_moves_nothing(x, y, seeded, momentum, random_start):
    constant = Function(lambda x: 0 * x.flatten(1)[:, :3])
    settings = {"eps": EPS, "step_size": 0.03, "momentum": momentum, "random_start": random_start}
    one, five = (attack(constant, x, y, steps=steps, **settings, generator=seeded()) for steps in (1, 5))
    assert torch.equal(one, five)  # false if there is a NaN
    assert torch.equal(five, x) != random_start


def test_momentum_survives_a_zero_gradient(x):
    """The loss rises until every pixel has moved by 0.02, then it is flat."""
    x = 0.5 + 0 * x
    y = torch.zeros(len(x), dtype=torch.long)
    flat = Function(lambda x_adv: torch.stack([0 * x_adv, (x_adv - 0.5).clamp(max=0.02)], 1).sum((2, 3, 4)))
    assert_close(attack(flat, x, y, eps=0.1, steps=5, step_size=0.03, momentum=1.0), x + 0.1)
    assert_close(attack(flat, x, y, eps=0.1, steps=5, step_size=0.03), x + 0.03)


@pytest.mark.parametrize("run", [SETTINGS["plain"], SETTINGS["fgsm"], SETTINGS["mi-fgsm"]])
def test_no_sample_depends_on_its_batch(wavy, x, y, run):
    alone = [run(wavy, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    assert_close(run(wavy, x, y), torch.cat(alone))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_against_a_reference_loop(wavy, x, y, momentum):
    """g <- mu g + grad / mean|grad|; x <- clip(x + step sign g), Dong et al. 2018, one image at a time."""
    for i in range(len(x)):
        image, g = x[i : i + 1], 0
        for _ in range(ITERATIVE["steps"]):
            image = image.detach().requires_grad_()
            F.cross_entropy(wavy(image), y[i : i + 1]).backward()
            g = momentum * g + image.grad / image.grad.abs().mean()
            image = image + ITERATIVE["step_size"] * g.sign()
            image = torch.min(torch.max(image, x[i] - EPS), x[i] + EPS).clamp(0, 1)
        assert_close(attack(wavy, x, y, **ITERATIVE, momentum=momentum)[i : i + 1], image.detach())


@pytest.mark.parametrize(
    "change",
    [{"eps": 0.2}, {"steps": 2}, {"step_size": 0.06}, {"momentum": 1.0}, {"random_start": True}],
    ids=lambda change: next(iter(change)),
)
def test_every_knob_changes_the_result(wavy, x, y, change):
    base = attack(wavy, x, y, **ITERATIVE)
    assert torch.equal(base, attack(wavy, x, y, **ITERATIVE))
    assert not torch.equal(base, attack(wavy, x, y, **{**ITERATIVE, **change}))


def test_random_start_is_uniform_in_the_ball_and_drawn_with_the_generator(net, y, seeded):
    x = torch.full((4, 2, 4, 5), 0.5).double()
    settings = {"eps": 0.1, "steps": 1, "step_size": 0.0, "random_start": True}
    state = torch.get_rng_state()
    first, again, other = (attack(net, x, y, **settings, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    start = first - x
    assert start.abs().max() > 0.095
    assert abs(start.mean()) < 0.01
    assert_close(start.std(), torch.tensor(0.1 / 3**0.5).double(), rtol=0.1, atol=0)


def test_fgsm_of_a_linear_model_by_hand(linear, x, y):
    """g = W^T (p - onehot(y))."""
    p = linear(x).softmax(1)
    g = (p - F.one_hot(y, 3)) @ linear.weight
    assert_close(fgsm(linear, x, y, eps=EPS), (x + EPS * g.view_as(x).sign()).clamp(0, 1).detach())


def test_pgd_beats_fgsm_beats_nothing(quadratic, x, y):
    model = Function(lambda x: torch.sin(quadratic(x)))
    clean, weak, strong = (
        F.cross_entropy(model(images), y)
        for images in (x, fgsm(model, x, y, eps=EPS), pgd(model, x, y, eps=EPS, steps=20))
    )
    assert clean < weak < strong


def test_named_attacks_are_settings_of_the_loop(net, x, y, seeded):
    def loop(**settings):
        return attack(net, x, y, eps=EPS, **settings)

    assert torch.equal(fgsm(net, x, y, eps=EPS), loop(steps=1, step_size=EPS))
    assert torch.equal(mi_fgsm(net, x, y, eps=EPS), loop(steps=10, step_size=EPS / 10, momentum=1.0))
    table = [({}, 20, 0.0125), ({"steps": 4}, 4, 0.0625), ({"step_size": 0.1}, 20, 0.1)]
    for given, steps, step_size in table:
        x_adv = pgd(net, x, y, eps=EPS, **given, generator=seeded())
        expected = loop(steps=steps, step_size=step_size, random_start=True, generator=seeded())
        assert_close(x_adv, expected)


def test_run_by_name(net, x, y, seeded):
    generator = seeded()
    by_name = attacks.run("fgsm", net, x, y, eps=EPS, generator=generator)
    assert torch.equal(by_name, fgsm(net, x, y, eps=EPS))
    by_name = attacks.run("mi-fgsm", net, x, y, eps=EPS, generator=generator, steps=3)
    assert torch.equal(by_name, mi_fgsm(net, x, y, eps=EPS, steps=3))
    by_name = attacks.run("pgd", net, x, y, eps=EPS, generator=generator, steps=3)
    assert torch.equal(by_name, pgd(net, x, y, eps=EPS, steps=3, generator=seeded()))
    with pytest.raises(InputError, match="unknown attack 'cw'; accepted: fgsm, pgd, mi-fgsm"):
        attacks.run("cw", net, x, y, eps=EPS)


def test_leaves_model_images_and_gradients_as_they_were(batch_norm_net, x, y):
    modes = [module.training for module in batch_norm_net.modules()]
    buffers = [buffer.clone() for buffer in batch_norm_net.buffers()]
    gradients = [torch.randn_like(parameter) for parameter in batch_norm_net.parameters()]
    for parameter, gradient in zip(batch_norm_net.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    before = x.clone()
    attack(batch_norm_net, x, y, **ITERATIVE)
    assert torch.equal(x, before)
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert all(map(torch.equal, batch_norm_net.buffers(), buffers))
    assert all(torch.equal(p.grad, g) for p, g in zip(batch_norm_net.parameters(), gradients, strict=True))


@every_attack
def test_result_has_no_graph_even_if_the_images_have_one(net, x, y, run):
    x.requires_grad_()
    assert not run(net, x, y).requires_grad
    assert x.grad is None


def test_runs_in_evaluation_mode_and_under_no_grad(batch_norm_net, x, y):
    with torch.no_grad():
        x_adv = attack(batch_norm_net, x, y, **ITERATIVE)
    assert torch.equal(x_adv, attack(batch_norm_net.eval(), x, y, **ITERATIVE))
    assert not torch.equal(x_adv, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": -0.1}, "eps = -0.1 is out of range; accepted: 0 to 1"),
        ({"eps": 1.1}, "eps = 1.1 is out"),
        ({"eps": float("nan")}, "eps = nan is out"),
        ({"steps": 0}, "steps = 0; accepted: a whole number from 1"),
        ({"steps": True}, "steps = True;"),
        ({"step_size": -1.0}, "step_size = -1.0 is out"),
        ({"step_size": float("nan")}, "step_size = nan is out"),
        ({"momentum": float("nan")}, "momentum = nan"),
        ({"momentum": -1.0}, "momentum = -1.0"),
    ],
)
def test_errors_show_the_value(net, x, y, change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        attack(net, x, y, **{**ITERATIVE, **change})


@pytest.mark.parametrize("name", ["pgd", "mi-fgsm"])
@pytest.mark.parametrize("steps", [0, -1])
def test_named_attacks_show_the_value_too(net, x, y, name, steps):
    with pytest.raises(InputError, match=f"^steps = {steps}; accepted"):
        attacks.run(name, net, x, y, eps=EPS, steps=steps)


def test_every_accepted_eps_works_with_one_step_of_pgd(net, x, y):
    assert (pgd(net, x, y, eps=1.0, steps=1) - x).abs().max() > 0.5


@pytest.mark.parametrize("pixel", [-0.01, 1.01, 255.0, float("nan")])
def test_images_outside_their_range(net, x, y, pixel):
    x[0, 0, 0, 0] = pixel
    with pytest.raises(InputError, match=rf"^images span .*{pixel:g}.*; accepted: 0 to 1$"):
        fgsm(net, x, y, eps=EPS)


def test_negative_label(net, x, y):
    y[1] = -1
    with pytest.raises(InputError, match=r"^label -1; accepted: class indices from 0$"):
        fgsm(net, x, y, eps=EPS)
