import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method.defences import build
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import jacobian_norm, sphere
from jsigr_lib.method.jsigr import JSIGR, residual
from jsigr_lib.method.saliency import Selection, blur_matrix, linearised_saliency, profiles, selection_mask

GRID = {"grid": 3, "mask_sigma": 0.8, "blur_sigma": 1.0}
HARD, SOFT = Selection(**GRID, share=0.3), Selection(**GRID, kind="soft")
LAMBDA_J, LAMBDA_S = 0.7, 1.3


@pytest.fixture
def mask(x):
    return torch.rand_like(x[:, :1])


def size(g, norm):
    """||g_i||_2^2, or (||g_i||_1)^2 / N."""
    return g.square().sum(-1) if norm == "l2" else g.abs().sum(-1) ** 2 / g.shape[-1]


def selected(x, g, mask, selection):
    """m of every pixel and channel: a teacher's mask, self targets, or 0."""
    if mask is None and selection is None:
        return torch.zeros_like(g)
    if mask is None:
        saliency = linearised_saliency(x, g.detach().view_as(x), **selection.perturbation)
        mask = selection_mask(saliency, share=selection.share, kind=selection.kind)
    return mask.expand_as(x).flatten(1)


def by_hand(model, x, y, mask, selection, norm, v=None, residual_has_gradient=True):
    """Cross-entropy, R_J and R_S per sample from the formula of the Jacobian, in the graph of the parameters.

    R_J is exact, or the mean over projections v [draws, batch, classes].
    """
    z, jacobian = model(x), model.jacobian(x)
    cotangent = z.softmax(1) - F.one_hot(y, z.shape[1])
    g = torch.einsum("bkn,bk->bn", jacobian, cotangent if residual_has_gradient else cotangent.detach())
    r_s = size((1 - selected(x, g, mask, selection)) * g, norm)
    if v is None:
        r_j = jacobian.square().sum((1, 2))
    else:
        r_j = z.shape[1] * size(torch.einsum("bkn,mbk->mbn", jacobian, v), norm).mean(0)
    return F.cross_entropy(z, y, reduction="none"), r_j, r_s


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("estimator", ["exact", "double-backprop"])
@pytest.mark.parametrize(
    ("given", "selection"),
    [(True, HARD), (False, HARD), (False, SOFT), (False, None)],
    ids=["teacher", "hard", "soft", "none"],
)
def test_loss_and_gradient_by_hand(analytic, x, y, mask, seeded, estimator, norm, given, selection):
    """In particular, the derivative of p - onehot(y) is part of the gradient of R_S."""
    mask = mask if given else None
    exact = estimator == "exact"
    lambda_j = 0.0 if exact and norm == "l1" else LAMBDA_J
    objective = JSIGR(lambda_j, LAMBDA_S, estimator=estimator, fraction=1.0, norm=norm, selection=selection)
    loss = objective(analytic, x, y, mask, generator=seeded())
    v = None if exact else sphere(4, 3, like=x, generator=seeded())[None]
    entropy, r_j, r_s = by_hand(analytic, x, y, mask, selection, norm, v)
    expected = (entropy + lambda_j * r_j + LAMBDA_S * r_s).mean()
    assert_close(loss, expected)
    assert_close(gradient(loss, analytic), gradient(expected, analytic))
    assert_close(objective.terms["cross_entropy"], entropy.mean().detach())
    assert_close(objective.terms["selective"], r_s.mean().detach())
    if lambda_j:
        assert_close(objective.terms["jacobian"], r_j.mean().detach())


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
def test_residual_stays_in_the_graph(quadratic, x, y, mask, estimator):
    objective = JSIGR(0.0, LAMBDA_S, estimator=estimator, fraction=1.0)
    found = gradient(objective(quadratic, x, y, mask), quadratic)
    full, detached = (
        gradient((entropy + LAMBDA_S * r_s).mean(), quadratic)
        for entropy, _, r_s in (
            by_hand(quadratic, x, y, mask, None, "l2", residual_has_gradient=keep) for keep in (True, False)
        )
    )
    assert_close(found, full)
    assert (full - detached).norm() > 0.1 * full.norm()


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
def test_gradient_against_finite_differences(net, x, y, mask, seeded, estimator):
    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=0.5)

    def loss(*_):  # gradcheck moves the parameters in place
        return objective(net, x, y, mask, generator=seeded())

    assert gradcheck(loss, tuple(net.parameters()))


def test_residual_is_the_derivative_of_the_cross_entropy(y):
    z = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    (derivative,) = torch.autograd.grad(F.cross_entropy(z, y, reduction="sum"), z)
    assert_close(residual(z, y), derivative, check_dtype=True)


UNBIASED = {
    "single pass": {"coin": 0.5},
    "tuned coin": {},
    "soft": {"selection": SOFT},
    "L1": {"norm": "l1"},
    "double backprop": {"estimator": "double-backprop"},
    "double backprop, L1": {"estimator": "double-backprop", "norm": "l1"},
    "fraction": {"fraction": 0.75, "coin": 0.5},
    "fraction, double backprop": {"fraction": 0.6, "estimator": "double-backprop"},
    "fraction, exact": {"fraction": 0.5, "estimator": "exact"},
    "Jacobian alone": {"fraction": 0.5, "lambda_s": 0.0},
    "gradient alone": {"fraction": 0.5, "lambda_j": 0.0},
}
REPEATS = 1000  # of each image in a batch
PRECISION, LIMIT = 0.007, 3.5  # a standard error, as a share of the truth; standard errors that chance may explain
BIAS = 0.05  # is 7 standard errors: chance hides it in one of 4,000 tests


def deviations(options, model, x, y, mask, generator):
    """How far the means of the penalty's gradient, along the true one, of R_J and of R_S are from the truth, in their
    standard errors, after as many draws as make these PRECISION of the truth."""
    options = {"lambda_j": LAMBDA_J, "lambda_s": LAMBDA_S, "selection": HARD, "norm": "l2", "fraction": 1.0, **options}
    v = sphere(120_000, 3, like=x, generator=generator).view(-1, 4, 3) if options["norm"] == "l1" else None
    _, *terms = by_hand(model, x, y, mask, options["selection"], options["norm"], v)
    weights = {"jacobian": options["lambda_j"], "selective": options["lambda_s"]}
    truth = {name: term.mean() for name, term in zip(weights, terms, strict=True) if weights[name]}
    slope = gradient(sum(weights[name] * term for name, term in truth.items()), model)
    truth = torch.stack([slope.norm(), *truth.values()]).detach()

    # image 0 many times, then image 1, ...: a share that is not drawn at random would show
    x, y, mask = (t if t is None else t.repeat_interleave(REPEATS, dim=0) for t in (x, y, mask))
    objective, draws, error = JSIGR(**options), [], torch.full_like(truth, torch.inf)
    while (error > PRECISION * truth).any():
        penalty = objective(model, x, y, mask, generator=generator) - F.cross_entropy(model(x), y)
        along = gradient(penalty, model) @ slope / slope.norm()
        draws.append(torch.stack([along, *(objective.terms[name] for name in weights if weights[name])]))
        if len(draws) >= 20:
            error = torch.stack(draws).std(0) / len(draws) ** 0.5 + 1e-9 * truth
    return (torch.stack(draws).mean(0) - truth).abs() / error


@pytest.mark.parametrize("teacher", [False, True], ids=["self", "teacher"])
@pytest.mark.parametrize("options", UNBIASED.values(), ids=UNBIASED)
def test_estimators_are_unbiased_in_value_and_gradient(linear, x, y, mask, seeded, options, teacher):
    assert (deviations(options, linear, x, y, mask if teacher else None, seeded()) < LIMIT).all()


@pytest.mark.parametrize("bias", [-BIAS, BIAS])
@pytest.mark.parametrize("options", ["tuned coin", "double backprop, L1", "fraction"])
def test_a_small_bias_would_show(linear, x, y, seeded, options, bias, monkeypatch):
    """In each of the three."""
    size_of = JSIGR._size
    monkeypatch.setattr(JSIGR, "_size", lambda self, g: (1 + bias) * size_of(self, g))
    assert (deviations(UNBIASED[options], linear, x, y, None, seeded()) > LIMIT).all()


def test_labels_beyond_the_classes_are_refused_on_every_step(net, batch_norm_net, x, y):
    """Standard and penalised steps, the first and later ones."""
    for model in (net, batch_norm_net):
        for objective in (JSIGR(0.0, 0.0), JSIGR(0.1, 1.0, fraction=0.25)):
            for _ in range(8):
                objective(model, x, y)
                with pytest.raises(InputError, match="label 99; accepted"):
                    objective(model, x, torch.full_like(y, 99))


def test_images_of_any_shape_if_nothing_is_selected(fixed_seed):
    model, x, y = nn.Linear(5, 3), torch.rand(4, 5), torch.tensor([0, 1, 2, 0])
    for objective in (JSIGR(0.1, 0.0, fraction=1.0), JSIGR(0.1, 1.0, fraction=1.0, selection=None)):
        assert objective(model, x, y).isfinite()
    with pytest.raises(InputError, match="or selection=None"):
        JSIGR(0.1, 1.0)(model, x, y)


def test_a_mask_that_does_not_fit_is_described(net, x, y):
    with pytest.raises(InputError, match=r"^the mask is float32 \[2, 1\];"):
        JSIGR(0.1, 1.0)(net, x, y, torch.ones(2, 1))


@pytest.mark.parametrize("fraction", [0.5, 0.7, 1.0])
def test_steps_are_of_one_kind(fraction):
    for objective in (JSIGR(0.1, 2.0, fraction=fraction), JSIGR(0.0, 0.0, fraction=0.1)):
        assert objective.kinds_of_step() == [(1.0, objective)]


def test_steps_are_of_two_kinds():
    objective = JSIGR(0.1, 2.0, fraction=0.1, coin=0.3, norm="l1", selection=SOFT)
    (often, penalised), (rest, plain) = objective.kinds_of_step()
    assert (often, rest) == (0.2, 0.8)
    assert vars(penalised) == {**vars(objective), "fraction": 0.5, "penalised_steps": 1.0}
    assert penalised.penalised_images == 0.5
    assert vars(plain) == vars(JSIGR(0.0, 0.0))
    assert (objective.fraction, objective.penalised_steps) == (0.1, 0.2)  # as it was


@pytest.mark.parametrize("fraction", [0.1, 0.4])
def test_steps_and_images_are_drawn_as_often_as_they_count(seeded, fraction):
    """A penalised step counts 1 / penalised_steps times: as often as not would be another bias."""
    objective, generator, draws = JSIGR(LAMBDA_J, LAMBDA_S, fraction=fraction), seeded(), 25_000
    steps, share = sum(objective._penalises(generator) for _ in range(draws)), objective.penalised_steps
    assert share == fraction / 0.5
    assert abs(steps / draws - share) < LIMIT * (share * (1 - share) / draws) ** 0.5 < BIAS * share
    images = torch.stack([objective._draw_images(8, generator)[0] for _ in range(10_000)]).flatten().bincount() / 10_000
    assert (images - 0.5).abs().max() < 4 * 0.5 / 10_000**0.5 < BIAS * 0.5


def test_both_weights_zero_is_standard_training(batch_norm_net, x, y, seeded):
    """Nothing is drawn either: the same random numbers are left for whatever comes next."""
    objective, generator = JSIGR(0.0, 0.0), seeded()
    batch_norm_net[1].momentum = 0.0
    expected = F.cross_entropy(batch_norm_net(x), y)
    assert_close(objective(batch_norm_net, x, y, generator=generator), expected)
    assert objective.terms == {"cross_entropy": expected.detach()}
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize("weight", [0.2, 1.0])
def test_equal_weights_are_weights_too(analytic, x, y, mask, weight):
    loss = JSIGR(weight, weight, estimator="exact", fraction=1.0)(analytic, x, y, mask)
    entropy, r_j, r_s = by_hand(analytic, x, y, mask, None, "l2")
    assert_close(loss, (entropy + weight * (r_j + r_s)).mean())


def test_jacobian_alone_is_jacobian_regularisation(net, x, y, seeded):
    entropy = F.cross_entropy(net(x), y)
    for estimator, projections in [("exact", "exact"), ("double-backprop", 1)]:
        objective = JSIGR(LAMBDA_J, 0.0, estimator=estimator, fraction=1.0)
        r_j = jacobian_norm(net, x, projections=projections, generator=seeded())
        assert_close(objective(net, x, y, generator=seeded()), entropy + LAMBDA_J * r_j)
        assert objective.terms.keys() == {"cross_entropy", "jacobian"}


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
@pytest.mark.parametrize(("weights", "term"), [((LAMBDA_J, 0.0), "jacobian"), ((0.0, LAMBDA_S), "selective")])
def test_terms_are_those_with_a_weight(net, x, y, seeded, estimator, weights, term):
    """On every step, with the penalty or without."""
    objective, generator = JSIGR(*weights, estimator=estimator, fraction=0.25), seeded()
    for _ in range(10):
        objective(net, x, y, generator=generator)
        assert objective.terms.keys() == {"cross_entropy", term}


@pytest.mark.parametrize("lambda_s", [0.3, LAMBDA_S])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_without_the_jacobian_every_estimator_is_exact(net, x, y, mask, norm, lambda_s):
    losses = []
    for estimator in ("exact", "double-backprop", "single-pass"):
        objective = JSIGR(0.0, lambda_s, estimator=estimator, fraction=1.0, norm=norm)
        losses.append(objective(net, x, y, mask))
        assert objective.terms.keys() == {"cross_entropy", "selective"}
    assert_close(losses, [losses[0]] * 3)
    assert losses[0] > F.cross_entropy(net(x), y)


def test_the_mask_frees_what_it_selects(net, x, y, mask):
    objective = JSIGR(0.0, LAMBDA_S, fraction=1.0)
    nothing, something, everything = (objective(net, x, y, m) for m in (0 * mask, mask, 0 * mask + 1))
    assert_close(everything, F.cross_entropy(net(x), y))
    assert everything < something < nothing
    assert_close(nothing, JSIGR(0.0, LAMBDA_S, fraction=1.0, selection=None)(net, x, y))
    assert_close(nothing, build("input-gradient", lambda_s=LAMBDA_S, fraction=1.0, share=0.9)(net, x, y))


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_image_grey_or_in_colour(norm, channels):
    x, y = torch.rand(1, channels, 4, 5), torch.tensor([2])
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * 20, 3))
    empty, given, own = (
        JSIGR(0.0, LAMBDA_S, fraction=1.0, norm=norm, selection=selection)(model, x, y, mask)
        for selection, mask in ((None, None), (HARD, 0 * x[:, :1]), (HARD, None))
    )
    assert_close(empty, given)
    assert F.cross_entropy(model(x), y) < own < empty


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"lambda_j": 1.0}),
        ({}, {"lambda_s": 2.0}),
        ({}, {"estimator": "double-backprop"}),
        ({}, {"estimator": "exact"}),
        ({}, {"fraction": 0.25}),
        ({}, {"norm": "l1"}),
        ({}, {"coin": 0.95}),
        ({}, {"share": 0.8}),
        ({}, {"kind": "soft"}),
        ({"kind": "soft"}, {"grid": 4}),
        ({"kind": "soft"}, {"mask_sigma": 1.5}),
        ({"kind": "soft"}, {"blur_sigma": 0.5}),
    ],
    ids=str,
)
def test_every_knob_changes_the_loss(net, x, y, seeded, base, change):
    base = {"lambda_j": LAMBDA_J, "lambda_s": LAMBDA_S, "fraction": 1.0, **GRID, **base}
    first, again, other = (
        build("jsigr", **options)(net, x, y, generator=seeded()) for options in (base, base, {**base, **change})
    )
    assert first == again
    assert abs(first - other) > 1e-6


def test_generator_decides_every_draw_and_leaves_the_global_state(net, x, y, seeded):
    objective = JSIGR(LAMBDA_J, LAMBDA_S, fraction=0.5)
    state = torch.get_rng_state()
    first, again, other = (objective(net, x, y, generator=seeded(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fraction", [0.25, 1.0])
@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
def test_terms_are_the_unweighted_parts_of_the_loss(net, x, y, seeded, estimator, fraction):
    """Of steps with the penalty and, with the smaller fraction, without."""
    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=fraction, coin=0.5)
    assert objective.terms == {}
    generator, penalised = seeded(), set()
    for _ in range(10):
        loss = objective(net, x, y, generator=generator)
        terms = objective.terms
        assert terms.keys() == {"cross_entropy", "jacobian", "selective"}
        assert not any(term.requires_grad for term in terms.values())
        total = terms["cross_entropy"] + LAMBDA_J * terms["jacobian"] + LAMBDA_S * terms["selective"]
        assert_close(loss.detach(), total)
        assert_close(terms["cross_entropy"], F.cross_entropy(net(x), y).detach())
        penalised.add(bool(terms["selective"] > 0))
    assert penalised == ({True} if fraction == 1 else {True, False})


@pytest.mark.parametrize(("fraction", "images"), [(0.5, 2), (0.75, 3), (1.0, 4)])
def test_fraction_is_the_share_that_carries_the_penalty(net, x, y, fraction, images):
    def terms(fraction, x, y):
        objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator="exact", fraction=fraction)
        objective(net, x, y)
        return objective.terms["jacobian"], objective.terms["selective"]

    pairs = torch.combinations(torch.arange(4), images)
    possible = [terms(1.0, x[pair], y[pair]) for pair in pairs]
    found = terms(fraction, x, y)
    assert sum(torch.allclose(torch.stack(found), torch.stack(one)) for one in possible) == 1


def test_half_of_two_images_is_one(net, x, y):
    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator="exact", fraction=0.5)
    objective(net, x[:2], y[:2])
    norms = [jacobian_norm(net, x[i : i + 1], projections="exact").detach() for i in (0, 1)]
    assert sum(torch.allclose(objective.terms["jacobian"], norm) for norm in norms) == 1


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_each_image_passes_the_network_once(net, x, y, fraction, estimator):
    """The penalty is that of the network as it is trained, dropout and all, where no batch norm mixes the images."""
    seen = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, *inputs)))
    JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=fraction)(net, x, y).backward()
    assert all(training for training, _ in seen)
    images = torch.cat([images for _, images in seen])
    assert sorted(image.sum() for image in images) == sorted(image.sum() for image in x)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_default_device_is_never_used(net, x, y, fraction):
    """Of a user who sets torch's: everything is made where the inputs or the generator are."""
    profiles.cache_clear()
    blur_matrix.cache_clear()
    objective = JSIGR(LAMBDA_J, LAMBDA_S, fraction=fraction)
    with torch.device("meta"):
        for _ in range(8):  # some of which carry the penalty
            assert objective(net, x, y).isfinite()


@pytest.mark.parametrize("estimator", ["double-backprop", "single-pass"])
def test_draws_are_made_where_the_generator_is(batch_norm_net, x, y, seeded, estimator):
    """And not on the default device, here one on which nothing has a value."""
    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=0.5)
    batch_norm_net[1].momentum = 0.0
    expected, generator = objective(batch_norm_net, x, y, generator=seeded()), seeded()
    with torch.device("meta"):
        assert objective(batch_norm_net, x, y, generator=generator) == expected


@pytest.mark.parametrize("estimator", ["double-backprop", "single-pass"])
@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.4])
def test_a_small_fraction_is_a_half_of_the_batch_on_some_of_the_steps(net, x, y, mask, seeded, fraction, estimator):
    some = JSIGR(LAMBDA_J, LAMBDA_S, fraction=fraction, estimator=estimator)
    half = JSIGR(LAMBDA_J, LAMBDA_S, fraction=0.5, estimator=estimator)
    entropy = F.cross_entropy(net(x), y)
    generator, penalised = seeded(), 0
    for _ in range(400):
        loss = some(net, x, y, mask, generator=generator)
        if some.terms["jacobian"] == some.terms["selective"] == 0:
            assert_close(loss, entropy)
        else:
            penalised += 1
    assert abs(penalised / 400 - fraction / 0.5) < 4 * (fraction / 0.5 / 400) ** 0.5

    coming = seeded(1)  # the same draws, one toss later
    toss = torch.rand(1, generator=coming)
    after = half(net, x, y, mask, generator=coming) - entropy
    now = some(net, x, y, mask, generator=seeded(1)) - entropy
    assert_close(now, after / (fraction / 0.5) if toss < fraction / 0.5 else torch.zeros_like(now))


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_batch_norm_sees_each_batch_once(batch_norm_net, x, y, mask, estimator, fraction):
    modes = [module.training for module in batch_norm_net.modules()]
    batch_norm_net(x)
    running = batch_norm_net[1].running_mean.clone()
    batch_norm_net[1].reset_running_stats()
    entropy = F.cross_entropy(batch_norm_net(x), y)
    batch_norm_net[1].reset_running_stats()

    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=fraction)
    loss = objective(batch_norm_net, x, y, mask)
    loss.backward()
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert batch_norm_net[1].num_batches_tracked == 1
    assert_close(batch_norm_net[1].running_mean, running)
    assert_close(objective.terms["cross_entropy"], entropy.detach())
    assert loss.isfinite() and loss > entropy
    assert all(p.grad.isfinite().all() for p in batch_norm_net.parameters())
    if estimator == "exact" and fraction == 1:  # the penalty is that of the network in evaluation mode, in this batch
        inputs = batch_norm_net[0](x)
        batch_norm_net[1].running_mean = inputs.mean((0, 2, 3)).detach()
        batch_norm_net[1].running_var = inputs.var((0, 2, 3), correction=0).detach()
        norm = jacobian_norm(batch_norm_net.eval(), x, projections="exact")
        assert_close(objective.terms["jacobian"], norm.detach())


@pytest.mark.parametrize("estimator", ["exact", "double-backprop", "single-pass"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_no_penalty_can_be_lowered_by_the_scale_that_batch_norm_undoes(
    batch_norm_net, x, y, mask, seeded, estimator, fraction
):
    """Else it would shrink the weights without end, and training and evaluation would be two different networks."""
    convolution, norm = batch_norm_net[:2]
    norm.eps = 1e-14  # torch accepts no 0
    objective = JSIGR(LAMBDA_J, LAMBDA_S, estimator=estimator, fraction=fraction)
    objective(batch_norm_net, x, y, mask, generator=seeded()).backward()
    radial = (convolution.weight * convolution.weight.grad).sum()
    assert radial.abs() < 1e-9 * convolution.weight.norm() * convolution.weight.grad.norm()


@pytest.mark.parametrize("objective", [JSIGR(0.1, 1.0, fraction=0.5), JSIGR(0.0, 0.0)])
def test_images_keep_no_gradient(net, x, y, objective):
    x.requires_grad_()
    objective(net, x, y).backward()
    assert x.grad is None


def test_a_zero_gradient_is_no_nan(linear, x, y):
    """Logits so far apart that p = onehot(y) in floating point."""
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0] = 1e4
    for norm in ("l2", "l1"):
        loss = JSIGR(0.0, 1.0, norm=norm, selection=SOFT, fraction=1.0)(linear, x, 0 * y)
        assert loss == 0
        assert gradient(loss, linear).abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_j": -1.0}, "lambda_j = -1.0 is out of range; accepted: 0 to"),
        ({"lambda_s": float("nan")}, "lambda_s = nan is out"),
        ({"estimator": "fd"}, "unknown estimator 'fd'; accepted: exact, double-backprop, single-pass$"),
        ({"norm": "l0"}, "unknown norm 'l0'; accepted: l2, l1$"),
        ({"fraction": 0.0}, "fraction = 0.0 is out"),
        ({"fraction": 1.5}, "fraction = 1.5 is out"),
        ({"coin": 0.0}, "coin = 0.0 is out"),
        ({"coin": 1.0}, "coin = 1.0 is out"),
        ({"share": 2.0}, "share = 2.0 is out"),
        ({"kind": "firm"}, "unknown selection 'firm'; accepted: hard, soft$"),
        (
            {"estimator": "exact", "norm": "l1"},
            "estimator = 'exact' with norm = 'l1' and lambda_j > 0; accepted: 'double-backprop' or 'single-pass', "
            "as the L1 form of R_J is defined by its projections$",
        ),
        ({"tau": 2}, "objective 'jsigr': .*'tau'"),
    ],
    ids=str,
)
def test_jsigr_errors_show_the_value(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        build("jsigr", **{"lambda_j": 1.0, "lambda_s": 1.0, **options})


class CutOff(nn.Module):
    """A network whose first layers run under no_grad, as a frozen backbone does."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.head = net, nn.Linear(3, 3, dtype=torch.float64)

    def forward(self, x):
        with torch.no_grad():
            features = self.net(x)
        return self.head(features)


def test_a_network_that_no_penalty_can_see_is_refused_at_the_first_step(net, x, y, seeded):
    """Whether that step carries the penalty or not, and at each step after it."""
    objective, generator = JSIGR(LAMBDA_J, LAMBDA_S), seeded()
    assert {JSIGR(LAMBDA_J, LAMBDA_S)._penalises(generator) for _ in range(30)} == {False, True}
    for _ in range(10):
        with pytest.raises(InputError, match="no gradient by the images"):
            objective(CutOff(net), x, y, generator=generator)


def test_the_look_at_the_first_step_changes_no_loss(net, x, y, monkeypatch):
    objective = JSIGR(LAMBDA_J, LAMBDA_S)
    monkeypatch.setattr(objective, "_penalises", lambda generator: False)
    losses = [objective(net, x, y) for _ in range(2)]
    gradients = [torch.autograd.grad(loss, list(net.parameters())) for loss in losses]
    assert torch.equal(*losses) and all(map(torch.equal, *gradients))
