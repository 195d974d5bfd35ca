from inspect import signature
from itertools import permutations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method.adversarial_training import OTJR, TRADES, AdversarialTraining, moves
from jsigr_lib.method.attack_loop import Settings
from jsigr_lib.method.attacks import attack, pgd
from jsigr_lib.method.defences import (
    OBJECTIVES,
    PENALISED,
    InterpretationRegularisation,
    ScaleableInputGradient,
    build,
    target_gradient,
)
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.objective import Objective
from jsigr_lib.method.saliency import Selection
from jsigr_lib.study.attacked import Outcomes, transferred, white_box

EPS, STEPS, STEP = 0.1, 3, 0.04
ATTACK = {"eps": EPS, "steps": STEPS, "step_size": STEP}


@pytest.fixture
def guide(x):
    return torch.randn_like(x)


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)])


def check(objective, loss, model, expected, terms):
    """The loss, its gradient by the parameters, and its parts."""
    assert_close(loss, expected)
    assert gradient(loss, model).abs().max() > 0
    assert_close(gradient(loss, model), gradient(expected, model))
    assert objective.terms.keys() == terms.keys()
    for name, term in objective.terms.items():
        assert not term.requires_grad
        assert_close(term, terms[name].detach())


# formulas, written out with the Jacobian of the analytic models


def entropies(z, y):
    """-log p_y per image."""
    return z.logsumexp(1) - z[range(len(y)), y]


def input_gradients(model, x, y):
    """g_i = J_i^T (p_i - onehot(y_i)), [batch, pixels]."""
    return torch.einsum("bkn,bk->bn", model.jacobian(x), model(x).softmax(1) - torch.eye(3).double()[y])


def climbed(model, x, generator, wanted):
    """Signed steps from a random point of the ball; `wanted` is the distribution of the answers to get away from."""
    x_adv = x + EPS * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)
    for step in range(STEPS + 1):
        x_adv = torch.minimum(torch.maximum(x_adv, x - EPS), x + EPS).clamp(0, 1)
        if step < STEPS:
            away = torch.einsum("bkn,bk->bn", model.jacobian(x_adv), model(x_adv).softmax(1) - wanted)
            x_adv = x_adv + STEP * away.sign().view_as(x)
    return x_adv.detach()


@pytest.mark.parametrize("h", [0.3, 0.01])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_scaleable_input_gradient_by_hand(analytic, x, y, norm, h):
    objective = ScaleableInputGradient(1.7, norm=norm, h=h)
    loss = objective(analytic, x, y)
    squares = []
    for image, label, g in zip(x, y, input_gradients(analytic, x, y).detach(), strict=True):
        d = g / (g * g).sum() ** 0.5 if norm == "l2" else torch.sign(g) / len(g) ** 0.5
        there, here = (entropies(analytic(at[None]), label[None]) for at in (image + h * d.view_as(image), image))
        squares.append(((there - here) / h) ** 2)
    terms = {"cross_entropy": entropies(analytic(x), y).mean(), "selective": torch.cat(squares).mean()}
    check(objective, loss, analytic, terms["cross_entropy"] + 1.7 * terms["selective"], terms)


@pytest.mark.parametrize(
    ("norm", "size"),
    [("l2", lambda g: g.square().sum(1)), ("l1", lambda g: g.abs().sum(1) ** 2 / g.shape[1])],
    ids=["l2", "l1"],
)
def test_scaleable_input_gradient_tends_to_the_input_gradients_norm(analytic, x, y, norm, size):
    """Value and gradient: as h falls, the error falls with it."""
    exact = size(input_gradients(analytic, x, y)).mean()
    slope, errors, bends = gradient(exact, analytic), [], []
    for h in (1e-2, 1e-3, 1e-4):
        objective = ScaleableInputGradient(1.0, norm=norm, h=h)
        penalty = objective(analytic, x, y) - entropies(analytic(x), y).mean()
        assert_close(objective.terms["selective"], penalty.detach())
        errors.append(abs(penalty - exact).item())
        bends.append((gradient(penalty, analytic) - slope).norm().item())
    for shrinking, size_of in ((errors, exact.item()), (bends, slope.norm().item())):
        assert shrinking[0] / shrinking[1] == pytest.approx(10, rel=0.2)
        assert shrinking[1] / shrinking[2] == pytest.approx(10, rel=0.1)
        assert shrinking[2] < 1e-2 * size_of


def test_interpretation_regularisation_by_hand(analytic, x, y, guide):
    objective = InterpretationRegularisation(1.3, 0.6)
    loss = objective(analytic, x, y, guide)
    cosines, squares = [], []
    for i, label in enumerate(y):
        d, target = analytic.jacobian(x)[i, label], guide[i].flatten()
        cosines.append((d @ target) / ((d @ d).sqrt() * (target @ target).sqrt()))
        squares.append(d @ d)
    terms = {
        "cross_entropy": entropies(analytic(x), y).mean(),
        "dissimilarity": (1 - torch.stack(cosines)).mean(),
        "magnitude": torch.stack(squares).mean().sqrt(),
    }
    expected = terms["cross_entropy"] + 1.3 * terms["dissimilarity"] + 0.6 * terms["magnitude"]
    check(objective, loss, analytic, expected, terms)


@pytest.mark.parametrize(("factor", "dissimilarity"), [(1, 0), (5, 0), (-1, 2), (0, 1)])
def test_dissimilarity_is_that_of_directions(net, x, y, factor, dissimilarity):
    objective = InterpretationRegularisation(1.0, 0.0)
    loss = objective(net, x, y, factor * logit_gradient(net, x, y))
    assert objective.terms["dissimilarity"].item() == pytest.approx(dissimilarity, abs=1e-9)
    assert_close(loss, F.cross_entropy(net(x), y) + dissimilarity)


def test_trades_by_hand(analytic, x, y, seeded):
    """p(x_i) has a gradient in the loss, and none in the attack; x_adv has none."""
    objective = TRADES(**ATTACK, beta=2.5)
    loss = objective(analytic, x, y, generator=seeded())
    p = analytic(x).softmax(1)
    q = analytic(climbed(analytic, x, seeded(), wanted=p.detach())).softmax(1)
    apart = sum((p[i, k] * (p[i, k].log() - q[i, k].log())) for i in range(4) for k in range(3)) / 4
    terms = {"cross_entropy": entropies(analytic(x), y).mean(), "divergence": apart}
    check(objective, loss, analytic, terms["cross_entropy"] + 2.5 * apart, terms)


@pytest.mark.parametrize("slices", [1, 6])
def test_otjr_by_hand(analytic, x, y, seeded, slices):
    """Slice by slice: the k-th smallest attacked logit goes to the k-th smallest clean one. v has no gradient."""
    objective = OTJR(**ATTACK, transport=3.0, jacobian=0.2, slices=slices)
    loss = objective(analytic, x, y, generator=seeded())

    generator = seeded()
    x_adv = climbed(analytic, x, generator, wanted=torch.eye(3).double()[y])
    theta = torch.randn(slices, 3, generator=generator, dtype=torch.double)
    z, z_adv, costs, v = analytic(x), analytic(x_adv), [], torch.zeros(4, 3).double()
    for direction in theta:
        direction = direction / direction.square().sum() ** 0.5
        clean, attacked = z @ direction, z_adv @ direction
        goals, starts = (sorted(range(4), key=cloud.tolist().__getitem__) for cloud in (clean, attacked))
        for i, goal in zip(starts, goals, strict=True):
            move = clean[goal] - attacked[i]
            costs.append(move**2)
            v[i] += move.item() * direction
    v = torch.stack([one / (one @ one) ** 0.5 for one in v])
    norms = [(v[i] @ jacobian).square().sum() for i, jacobian in enumerate(analytic.jacobian(x))]
    terms = {
        "cross_entropy": entropies(z_adv, y).mean(),
        "transport": sum(costs) / (4 * slices),
        "jacobian": 3 * sum(norms) / 4,  # of the K = 3 classes
    }
    expected = terms["cross_entropy"] + 3.0 * terms["transport"] + 0.2 * terms["jacobian"]
    check(objective, loss, analytic, expected, terms)


@pytest.mark.parametrize("align", ["kl", "pairs"])
@pytest.mark.parametrize("along", ["random", "pairs"])
def test_otjr_with_plainer_ideas_by_hand(analytic, x, y, seeded, align, along):
    objective = OTJR(**ATTACK, transport=3.0, jacobian=0.2, slices=2, align=align, along=along)
    loss = objective(analytic, x, y, generator=seeded())

    generator = seeded()
    x_adv = climbed(analytic, x, generator, wanted=torch.eye(3).double()[y])
    torch.randn(2, 3, generator=generator, dtype=torch.double)  # the slices
    z, z_adv = analytic(x), analytic(x_adv)
    p, p_adv = z.softmax(1), z_adv.softmax(1)
    apart = (p * (p / p_adv).log()).sum() if align == "kl" else (z_adv - z).square().sum()
    drawn = torch.randn(4, 3, generator=generator, dtype=torch.double)
    v = F.normalize(drawn if along == "random" else (z - z_adv).detach())
    norms = [(v[i] @ jacobian).square().sum() for i, jacobian in enumerate(analytic.jacobian(x))]
    parts = (entropies(z_adv, y).mean(), apart / 4, 3 * sum(norms) / 4)
    expected = parts[0] + 3.0 * parts[1] + 0.2 * parts[2]
    check(
        objective, loss, analytic, expected, dict(zip(("cross_entropy", "transport", "jacobian"), parts, strict=True))
    )


@pytest.mark.parametrize(
    ("options", "steps", "step_size"),
    [({}, 7, 0.025), ({"steps": 1}, 1, 0.125), ({"steps": 3, "step_size": 0.01}, 3, 0.01)],
)
def test_adversarial_training_is_the_cross_entropy_of_attacked_images(net, x, y, seeded, options, steps, step_size):
    objective = AdversarialTraining(EPS, **options)
    loss = objective(net, x, y, generator=seeded())
    x_adv = pgd(net, x, y, eps=EPS, steps=steps, step_size=step_size, generator=seeded())
    expected = F.cross_entropy(net(x_adv), y)
    check(objective, loss, net, expected, {"cross_entropy": expected})
    assert loss > F.cross_entropy(net(x), y)


@pytest.mark.parametrize("defence", [AdversarialTraining, TRADES, OTJR])
def test_every_training_on_attacks_has_a_warm_up(net, x, y, seeded, defence):
    objective, clean = defence(**ATTACK, warm_up=0.5), defence(eps=0.0, steps=STEPS, step_size=STEP)
    objective.progress = 0.0
    assert_close(*(one(net, x, y, generator=seeded()) for one in (objective, clean)))


@pytest.mark.parametrize(("progress", "share"), [(0, 0), (0.1, 0.25), (0.3, 0.75), (0.4, 1), (0.9, 1), (None, 1)])
def test_a_warm_up_lets_the_budget_grow(net, x, y, seeded, progress, share):
    objective = AdversarialTraining(**ATTACK, warm_up=0.4)
    if progress is not None:  # unless told, it takes the training for warm
        objective.progress = progress
    loss, own = objective(net, x, y, generator=seeded()), {"eps": share * EPS, "steps": STEPS}
    x_adv = attack(net, x, y, **own, step_size=share * STEP, random_start=True, generator=seeded())
    expected = F.cross_entropy(net(x_adv), y)
    check(objective, loss, net, expected, {"cross_entropy": expected})


def test_attacked_images_by_hand(analytic, x, y, seeded):
    loss = AdversarialTraining(**ATTACK)(analytic, x, y, generator=seeded())
    expected = entropies(analytic(climbed(analytic, x, seeded(), wanted=torch.eye(3).double()[y])), y).mean()
    assert_close(loss, expected)
    assert_close(gradient(loss, analytic), gradient(expected, analytic))


@pytest.mark.parametrize(
    "options", [{"fraction": 1.0}, {"fraction": 0.5, "norm": "l1"}, {"estimator": "exact"}], ids=str
)
def test_stacked_with_j_sigr_is_its_loss_at_the_attacked_images(net, x, y, seeded, options):
    objective = build("adversarial", **ATTACK, lambda_j=0.7, lambda_s=1.3, **options)
    loss, generator = objective(net, x, y, generator=seeded(2)), seeded(2)
    x_adv = attack(net, x, y, **ATTACK, random_start=True, generator=generator)
    own = JSIGR(0.7, 1.3, **options)
    expected = own(net, x_adv, y, generator=generator)
    check(objective, loss, net, expected, own.terms)
    assert objective.terms.keys() == {"cross_entropy", "jacobian", "selective"}


def test_stacked_with_j_sigr_takes_its_kinds_of_step(net, x, y, seeded):
    """Each trains on attacked images of the same attack."""
    options = {**ATTACK, "lambda_j": 0.7, "lambda_s": 1.3}
    always, sometimes = (build("adversarial", **options, fraction=fraction) for fraction in (0.5, 0.1))
    kinds = sometimes.kinds_of_step()
    assert [how_often for how_often, _ in kinds] == pytest.approx([0.2, 0.8])
    for (_, kind), same in zip(kinds, [always, build("adversarial", **ATTACK)], strict=True):
        assert torch.equal(*(one(net, x, y, generator=seeded(2)) for one in (kind, same)))
        assert [how_often for how_often, _ in same.kinds_of_step()] == [1]


def test_stacked_with_j_sigr_takes_its_mask(net, x, y, seeded):
    objective = AdversarialTraining(EPS, objective=JSIGR(0.0, 2.0, fraction=1.0))
    free, selected = (objective(net, x, y, mask, generator=seeded()) for mask in (0 * x[:, :1] + 1, 0 * x[:, :1]))
    assert_close(free, AdversarialTraining(EPS)(net, x, y, generator=seeded()))
    assert selected > free


WITHOUT = [
    (ScaleableInputGradient(0.0), JSIGR(0.0, 0.0)),
    (InterpretationRegularisation(0.0, 0.0), JSIGR(0.0, 0.0)),
    (TRADES(EPS, beta=0.0), JSIGR(0.0, 0.0)),
    (TRADES(0.0), JSIGR(0.0, 0.0)),
    (OTJR(EPS, transport=0.0, jacobian=0.0), AdversarialTraining(EPS)),
    (OTJR(0.0), JSIGR(0.0, 0.0)),
    (AdversarialTraining(0.0), JSIGR(0.0, 0.0)),
    (AdversarialTraining(EPS, objective=JSIGR(0.0, 0.0)), AdversarialTraining(EPS)),
]


@pytest.mark.parametrize(("objective", "plain"), WITHOUT, ids=lambda objective: type(objective).__name__)
def test_without_its_weights_or_its_budget_it_is_plain_training(net, x, y, guide, seeded, objective, plain):
    loss, expected = (one(net, x, y, guide, generator=seeded()) for one in (objective, plain))
    assert_close(loss, expected)
    assert_close(gradient(loss, net), gradient(expected, net))


# what every one of them promises

EVERY = {
    "scaleable l2": ScaleableInputGradient(1.0),
    "scaleable l1": ScaleableInputGradient(1.0, norm="l1"),
    "interpretation": InterpretationRegularisation(1.0, 0.5),
    "adversarial": AdversarialTraining(EPS, steps=2),
    "trades": TRADES(EPS, steps=2),
    "otjr": OTJR(EPS, steps=2),
    "stacked": AdversarialTraining(EPS, steps=1, objective=JSIGR(0.1, 1.0, fraction=0.5)),
}
every = pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)


def given(objective, x):
    """A guide for those that need one."""
    return torch.ones_like(x).cumsum(3) if objective.guide else None


KNOBS = [
    (ScaleableInputGradient, {"lambda_s": 1.0}, {"lambda_s": 2.0, "norm": "l1", "h": 0.1}),
    (InterpretationRegularisation, {"lambda_cs": 1.0, "lambda_gm": 1.0}, {"lambda_cs": 2.0, "lambda_gm": 2.0}),
    (
        AdversarialTraining,
        {"eps": EPS, "steps": 2},
        {"eps": 0.2, "steps": 3, "step_size": 0.07, "warm_up": 0.6, "objective": JSIGR(1.0, 0.0, fraction=1.0)},
    ),
    (TRADES, {"eps": EPS, "steps": 2}, {"eps": 0.2, "beta": 1.0, "steps": 3, "step_size": 0.07, "warm_up": 0.6}),
    (
        OTJR,
        {"eps": EPS, "steps": 2},
        {"eps": 0.2, "transport": 1.0, "jacobian": 1.0, "slices": 33, "steps": 3, "step_size": 0.07}
        | {"warm_up": 0.6, "align": "kl", "along": "random"},
    ),
]


@pytest.mark.parametrize(("kind", "base", "changes"), KNOBS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_knob_changes_the_loss(net, x, y, seeded, kind, base, changes):
    assert changes.keys() == signature(kind).parameters.keys()

    def loss(**options):
        objective = kind(**{**base, **options})
        objective.progress = 0.3
        return objective(net, x, y, given(objective, x), generator=seeded()).item()

    assert loss() == loss()
    for name, value in changes.items():
        assert abs(loss(**{name: value}) - loss()) > 1e-6, name


def test_guide_changes_the_loss(net, x, y, guide):
    objective = InterpretationRegularisation(1.0, 0.0)
    assert abs(objective(net, x, y, guide) - objective(net, x, y, guide.flip(3))) > 1e-6


@every
def test_generator_decides_every_draw_and_leaves_the_global_state(net, x, y, seeded, objective):
    state = torch.get_rng_state()
    first, again, other = (objective(net, x, y, given(objective, x), generator=seeded(seed)) for seed in (0, 0, 1))
    drawn, untouched = seeded(), seeded().get_state()
    objective(net, x, y, given(objective, x), generator=drawn)
    assert first == again
    random = not isinstance(objective, ScaleableInputGradient | InterpretationRegularisation)
    assert (first != other) == random == (not torch.equal(drawn.get_state(), untouched))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["interpretation", "adversarial", "trades", "stacked"])
def test_gradient_against_finite_differences(net, x, y, seeded, name):
    """Of those without a direction that is a constant for the gradient, and not for a difference."""

    def loss(*_):  # gradcheck moves the parameters in place
        return EVERY[name](net, x, y, given(EVERY[name], x), generator=seeded())

    assert gradcheck(loss, tuple(net.parameters()))


@every
def test_images_and_guide_keep_no_gradient(net, x, y, objective):
    x.requires_grad_()
    objective(net, x, y, given(objective, x.detach())).backward()
    assert x.grad is None
    assert all(parameter.grad.abs().max() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float, torch.double], ids=str)
@pytest.mark.parametrize("weight", [0, 2, 17, 1e4])
@every
def test_a_zero_gradient_is_no_nan(linear, x, y, seeded, objective, weight, dtype):
    """No logits; logits so far apart that the gradient's square is 0 in single, in double precision; that p is 0."""
    with torch.no_grad():
        linear.to(dtype).weight.zero_()
        linear.weight[0], linear.weight[1:] = weight, -weight / 2
    loss = objective(linear, x.to(dtype), 0 * y, given(objective, x.to(dtype)), generator=seeded())
    assert gradient(loss, linear).isfinite().all()
    if weight and isinstance(objective, ScaleableInputGradient | TRADES):
        assert loss < 1e-12
        assert gradient(loss, linear).abs().max() < 1e-12
    if weight == 0 and isinstance(objective, InterpretationRegularisation):
        assert objective.terms["magnitude"] < 1e-18
        assert objective.terms["dissimilarity"] == 1
    if weight == 0 and isinstance(objective, OTJR):
        assert objective.terms["transport"] == objective.terms["jacobian"] == 0


@every
def test_batch_norm_is_in_the_models_own_mode(batch_norm_net, x, y, seeded, objective):
    batch_norm_net(x)
    entropy = F.cross_entropy(batch_norm_net(x), y)
    modes = [module.training for module in batch_norm_net.modules()]
    batch_norm_net[1].reset_running_stats()
    objective(batch_norm_net, x, y, given(objective, x), generator=seeded()).backward()
    assert [module.training for module in batch_norm_net.modules()] == modes
    forwards = {ScaleableInputGradient: 2, InterpretationRegularisation: 1, TRADES: 2, OTJR: 2, AdversarialTraining: 1}
    assert batch_norm_net[1].num_batches_tracked == forwards[type(objective)]
    assert all(parameter.grad.isfinite().all() for parameter in batch_norm_net.parameters())
    if not isinstance(objective, OTJR | AdversarialTraining):  # of the clean images
        assert_close(objective.terms["cross_entropy"], entropy.detach())


@pytest.mark.parametrize("objective", [AdversarialTraining(**ATTACK), OTJR(**ATTACK)], ids=["adversarial", "otjr"])
def test_attacks_in_evaluation_mode_and_trains_in_the_models_own(batch_norm_net, x, y, seeded, objective):
    objective(batch_norm_net, x, y, generator=seeded())
    batch_norm_net[1].reset_running_stats()
    x_adv = attack(batch_norm_net, x, y, **ATTACK, random_start=True, generator=seeded())
    assert_close(objective.terms["cross_entropy"], F.cross_entropy(batch_norm_net(x_adv), y).detach())


def test_one_image_is_a_batch(net, x, y, seeded):
    for objective in EVERY.values():
        guide = given(objective, x)
        loss = objective(net, x[:1], y[:1], None if guide is None else guide[:1], generator=seeded())
        assert gradient(loss, net).isfinite().all()


# their parts


def test_target_gradient_by_hand():
    """Each image by its own mean and deviation over all channels: 0 and 0.8, 3 and 4.7, 0 and 5.8."""
    d = torch.tensor([[-1, 0, 1, 0], [0, 1, 1, 10], [5, 5, -5, -5]]).double().view(3, 2, 1, 2)
    expected = torch.tensor([[-1, 0, 1, 0], [0, 0, 0, 10], [0, 0, 0, 0]]).double().view(3, 2, 1, 2)
    assert_close(target_gradient(d), expected)


def test_target_gradient_keeps_what_is_beyond_one_deviation():
    """Mean 0 and deviation 1: the entries at 1 are within. Shifted, the same places stay, with their own values."""
    edge = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert target_gradient(edge).tolist() == torch.zeros(1, 1, 1, 3).tolist()
    noise = torch.randn(5, 2, 7, 9).double()
    mean, deviation = noise.mean((1, 2, 3)), noise.var((1, 2, 3)).sqrt()
    for image, kept, m, s in zip(noise, target_gradient(noise), mean, deviation, strict=True):
        beyond = (image < m - s) | (image > m + s)
        assert 0 < beyond.sum() < 0.5 * image.numel()
        assert torch.equal(kept, torch.where(beyond, image, 0.0))
    assert torch.equal(target_gradient(noise + 9) != 0, target_gradient(noise) != 0)


def test_moves_by_hand():
    source = torch.tensor([[3.0, 0.0], [1.0, 5.0], [2.0, -5.0]])
    target = torch.tensor([[10.0, 1.0], [30.0, 3.0], [20.0, 2.0]])
    assert moves(source, target).tolist() == [[27.0, 2.0], [9.0, -2.0], [18.0, 6.0]]
    assert moves(torch.zeros(3, 1), torch.tensor([[2.0], [0.0], [1.0]])).sort(0).values.flatten().tolist() == [0, 1, 2]


def test_moves_are_the_cheapest():
    source, target = torch.randn(2, 5, 4).double()
    delta = moves(source, target)
    for k in range(4):
        costs = [(target[list(order), k] - source[:, k]).square().sum().item() for order in permutations(range(5))]
        assert delta[:, k].square().sum().item() == pytest.approx(min(costs))
    assert_close((source + delta).sort(0).values, target.sort(0).values)


# the registry


def test_build_passes_every_option_on():
    selection = Selection(share=0.2, kind="soft", grid=5, mask_sigma=1.0, blur_sigma=2.0)
    options = {"estimator": "double-backprop", "fraction": 0.5, "norm": "l1", "coin": 0.3}
    flat = build("jsigr", lambda_j=0.1, lambda_s=2.0, **options, **vars(selection))
    assert vars(flat) == vars(JSIGR(0.1, 2.0, **options, selection=selection))
    assert vars(build("input-gradient", lambda_s=2.0)) == vars(JSIGR(0.0, 2.0, selection=None))
    for name, kind, own in [
        ("scaleable-input-gradient", ScaleableInputGradient, {"lambda_s": 2.0, "norm": "l1", "h": 0.1}),
        ("interpretation", InterpretationRegularisation, {"lambda_cs": 2.0, "lambda_gm": 0.3}),
        ("trades", TRADES, {**ATTACK, "warm_up": 0.6, "beta": 2.0}),
        (
            "otjr",
            OTJR,
            {**ATTACK, "warm_up": 0.6}
            | {"transport": 2.0, "jacobian": 3.0, "slices": 4, "align": "kl", "along": "pairs"},
        ),
    ]:
        assert own.keys() == signature(kind).parameters.keys()
        built = build(name, **own)
        assert isinstance(built, kind)
        attack = {"attack": Settings(**ATTACK, random_start=True)} if "eps" in own else {}
        assert vars(built) == {**{name: own[name] for name in own.keys() - ATTACK.keys()}, **attack}


def test_adversarial_takes_flat_options_of_its_penalty():
    plain, stacked = (
        vars(build("adversarial", **ATTACK, **own))
        for own in ({}, {"lambda_j": 0.1, "lambda_s": 2.0, "coin": 0.3, "share": 0.2})
    )
    assert vars(plain.pop("objective")) == vars(JSIGR(0.0, 0.0))
    assert vars(stacked.pop("objective")) == vars(JSIGR(0.1, 2.0, coin=0.3, selection=Selection(share=0.2)))
    assert plain == stacked == {"attack": Settings(**ATTACK, random_start=True), "warm_up": 0.0}


def test_penalised_objectives_are_those_that_take_a_penalty():
    for name in OBJECTIVES:
        need = {"eps": EPS} if name in ("adversarial", "trades", "otjr") else {}
        penalty = {"lambda_s": 1.0, "estimator": "double-backprop", "share": 0.2, "fraction": 0.3}
        penalty |= {} if name == "input-gradient" else {"lambda_j": 1.0}
        if name in PENALISED:
            build(name, **need, **penalty)
        else:
            with pytest.raises(InputError):
                build(name, **need, **penalty)


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgd", {}, "unknown objective 'sgd'; accepted: jsigr, input-gradient, .*, adversarial, trades, otjr$"),
        ("jsigr", {}, "objective 'jsigr': .*lambda_j"),
        ("input-gradient", {}, "objective 'input-gradient': .*lambda_s"),
        ("input-gradient", {"lambda_s": 1.0, "lambda_j": 1.0}, "objective 'input-gradient': .*lambda_j"),
        ("scaleable-input-gradient", {}, "objective 'scaleable-input-gradient': .*lambda_s"),
        ("scaleable-input-gradient", {"lambda_s": -1.0}, "lambda_s = -1.0 is out of range; accepted: 0 to"),
        ("scaleable-input-gradient", {"lambda_s": NAN}, "lambda_s = nan is out"),
        ("scaleable-input-gradient", {"lambda_s": 1.0, "norm": "linf"}, "unknown norm 'linf'; accepted: l2, l1$"),
        ("scaleable-input-gradient", {"lambda_s": 1.0, "h": 0.0}, "h = 0.0 is out of range; accepted: 1e-06 to 1$"),
        ("scaleable-input-gradient", {"lambda_s": 1.0, "h": 1.1}, "h = 1.1 is out"),
        ("interpretation", {"lambda_cs": 1.0}, "objective 'interpretation': .*lambda_gm"),
        ("interpretation", {"lambda_cs": -2.0, "lambda_gm": 1.0}, "lambda_cs = -2.0 is out of range; accepted: 0 to"),
        ("interpretation", {"lambda_cs": 1.0, "lambda_gm": NAN}, "lambda_gm = nan is out"),
        ("adversarial", {}, "objective 'adversarial': .*eps"),
        ("adversarial", {"eps": 1.5}, "eps = 1.5 is out"),
        ("adversarial", {"eps": 0.1, "steps": 0}, "steps = 0; accepted: a whole number from 1"),
        ("adversarial", {"eps": 0.1, "step_size": NAN}, "step_size = nan is out"),
        ("adversarial", {"eps": 0.1, "warm_up": 1.1}, "warm_up = 1.1 is out"),
        ("adversarial", {"eps": 0.1, "lambda_j": 1.0}, "objective 'adversarial': .*lambda_s"),
        ("adversarial", {"eps": 0.1, "share": 0.3}, "objective 'adversarial': .*lambda_j"),
        ("adversarial", {"eps": 0.1, "lambda_j": 1.0, "lambda_s": -3.0}, "lambda_s = -3.0 is out"),
        ("trades", {}, "objective 'trades': .*eps"),
        ("trades", {"eps": -0.1}, "eps = -0.1 is out"),
        ("trades", {"eps": 0.1, "warm_up": -0.1}, "warm_up = -0.1 is out"),
        ("trades", {"eps": 0.1, "beta": -6.0}, "beta = -6.0 is out of range; accepted: 0 to"),
        ("trades", {"eps": 0.1, "steps": 1.5}, "steps = 1.5; accepted: a whole number from 1"),
        ("trades", {"eps": 0.1, "lambda_j": 1.0}, "objective 'trades': .*lambda_j"),
        ("otjr", {}, "objective 'otjr': .*eps"),
        ("otjr", {"eps": 2.0}, "eps = 2.0 is out"),
        ("otjr", {"eps": 0.1, "transport": -1.0}, "transport = -1.0 is out of range; accepted: 0 to"),
        ("otjr", {"eps": 0.1, "jacobian": NAN}, "jacobian = nan is out"),
        ("otjr", {"eps": 0.1, "slices": 0}, "slices = 0; accepted: a whole number from 1"),
        ("otjr", {"eps": 0.1, "steps": True}, "steps = True; accepted: a whole number from 1"),
    ],
)
def test_build_errors_show_the_value(name, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        build(name, **options)


class LabelSmoothing(Objective):
    """Szegedy et al. 2016: a defence that is not ours."""

    def __init__(self, smoothing: float):
        self.smoothing = smoothing

    def __call__(self, model, x, y, guide=None, *, generator=None):
        loss = F.cross_entropy(model(x), y, label_smoothing=self.smoothing)
        self.terms = {"smoothed": loss.detach()}
        return loss


def test_what_a_defence_is_by_default():
    """Guided by nobody, without parts to log, one kind of step."""
    plain = LabelSmoothing(0.1)
    assert isinstance(plain, Objective) and (plain.guide, plain.terms) == (None, {})
    assert plain.kinds_of_step() == [(1.0, plain)]


def test_what_is_no_objective_is_refused(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "mine", lambda: lambda model, x, y, guide=None, *, generator=None: 0)
    with pytest.raises(InputError, match=r"^objective 'mine' is a function; accepted: a class derived from Objective$"):
        build("mine")


def test_a_defence_is_one_class_and_one_line(tiny, study, monkeypatch):
    """From the registry to trained networks, attacked and as a source of attacks."""
    monkeypatch.setitem(OBJECTIVES, "smoothing", LabelSmoothing)
    added = {
        name: {"label": name, "objective": "smoothing", "options": {"smoothing": amount}}
        for name, amount in (("smooth", 0.5), ("sharp", 0.0))
    }
    defences = {name: defence.model_dump() for name, defence in study.profile.defences.items()}
    ours = tiny(study.store.root, defences={**defences, **added}, surrogate_defences=["smooth"], featured=["smooth"])
    spec = ours.training("smooth")
    assert ours.targets()["small-cnn", "smooth"] == [spec]
    assert list(ours.labels)[-2:] == ["smooth", "sharp"]
    assert ours.training("pgd") == study.training("pgd")
    assert spec.step_flops == ours.training("standard").step_flops

    target = white_box(ours, spec, 0.2)
    clean, source = Outcomes(target=spec), ours.surrogate("mlp", "smooth")
    there = transferred(ours, ours.training("standard"), source, 0.1)
    ours.make([target, clean, there])
    assert [*ours.get(spec).facts["history"][0]][1:2] == ["smoothed"]
    right = {name: ours.get(one).tensors["correct"].sum() for name, one in (("attacked", target), ("clean", clean))}
    assert right["attacked"] < right["clean"] <= 32
    assert len(ours.get(there).tensors["correct"]) == 32

    weights = {name: ours.get(ours.training(name)).tensors["1.weight"] for name in ("standard", "smooth", "sharp")}
    assert torch.equal(weights["sharp"], weights["standard"])  # no smoothing is standard training, to the bit
    assert not torch.equal(weights["smooth"], weights["standard"])
