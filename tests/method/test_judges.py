"""Its searches are cut to a few steps wherever their strength does not matter."""

import logging
import sys

import pyautoattack
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib.method import attacks
from jsigr_lib.method.balls import distance
from jsigr_lib.method.errors import InputError

EPS = {"linf": 0.06, "l2": 0.3}
QUERIES = {"square": {"queries": 30}, "autoattack": {}}
both = pytest.mark.parametrize("name", QUERIES)
both_norms = pytest.mark.parametrize("norm", EPS)


@pytest.fixture
def judges(monkeypatch):
    """The judges that ran, with as few steps as they can be told."""
    ran, run = [], pyautoattack.AutoAttack.run_standard_evaluation

    def short(judge, *args, **kwargs):
        ran.append(judge)
        judge.settings = {
            "queries": judge.square.n_queries,
            "targets": (judge.apgd_targeted.n_target_classes, judge.fab.n_target_classes),
        }
        judge.apgd.n_iter = judge.apgd_targeted.n_iter = judge.fab.n_iter = 6
        judge.square.n_queries = min(judge.square.n_queries, 30)
        return run(judge, *args, **kwargs)

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", short)
    return ran


def network(classes: int = 5, gain: float = 3.0) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4 * 36, classes),
    )
    with torch.no_grad():
        model[-1].weight *= gain
    return model


@pytest.fixture
def model(fixed_seed):
    """In training mode, but for its dropout."""
    model = network()
    model[4].eval()
    return model


@pytest.fixture
def x(fixed_seed):
    return torch.rand(6, 2, 6, 6)


@torch.no_grad()
def predictions(model, x):
    modes = [module.training for module in model.modules()]
    predicted = model.eval()(x).argmax(1)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return predicted


@pytest.fixture
def y(model, x):
    """What the model says, and one label that it gets wrong."""
    y = predictions(model, x)
    y[2] = (y[2] + 1) % 5
    return y


def run(name, model, x, y, *, norm="linf", eps=None, generator=None, **settings):
    eps = EPS[norm] if eps is None else eps
    settings = {**QUERIES[name], **settings}
    return attacks.run(name, model, x, y, eps=eps, norm=norm, generator=generator, **settings)


@both
@both_norms
def test_within_budget_and_range_and_fools_some(judges, model, x, y, seeded, name, norm):
    x[0], x[1] = x[0].round(), x[1].round()
    y = predictions(model, x)
    x_adv = run(name, model, x, y, norm=norm, eps=3 * EPS[norm], generator=seeded())
    assert x_adv.dtype == x.dtype and x_adv.min() >= 0 and x_adv.max() <= 1
    changed, fooled = distance(x_adv, x, norm), predictions(model, x_adv) != y
    assert changed.max() <= 3 * EPS[norm] + 1e-6
    assert fooled.any() and torch.equal(changed > 0, fooled)


@both
def test_leaves_everything_as_it_was(judges, model, x, y, seeded, name):
    """The model (modes, buffers, parameters, their gradients), the images, the global random state, the log, and the
    trace function of a debugger."""
    model[0].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    def state():
        tensors = [*model.buffers(), *model.parameters(), *(p.grad for p in model.parameters())]
        flags = [module.training for module in model.modules()] + [p.requires_grad for p in model.parameters()]
        return [t.detach().clone() for t in [*tensors, x, y, torch.get_rng_state()]], flags

    logger = logging.getLogger("auto-attack")
    tensors, flags = state()
    trace, disabled = sys.gettrace(), logger.disabled
    try:
        sys.settrace(tracer := lambda *args: None)
        # so small a budget that every one of its attacks has to try
        x_adv = run(name, model, x.clone().requires_grad_(), y, eps=1e-4, generator=seeded())
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(trace)
    assert judges and not x_adv.requires_grad and logger.disabled == disabled
    after, flags_after = state()
    assert flags_after == flags
    assert all(map(torch.equal, after, tensors))


def test_restores_the_model_after_an_error_too(model, x, y, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", fails)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        run("square", model, x, y, generator=torch.Generator())
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state) and not logging.getLogger("auto-attack").disabled


@both
def test_the_generator_decides(judges, model, x, y, seeded, name):
    first, again, other = (run(name, model, x, y, eps=0.15, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(3)
    unseeded = run(name, model, x, y, eps=0.15)
    torch.manual_seed(3)
    assert torch.equal(unseeded, run(name, model, x, y, eps=0.15))


@both
@both_norms
def test_eps_zero_gives_the_images_back(judges, model, x, y, name, norm):
    """Without asking the package, which would search in vain."""
    x_adv = run(name, model, x, y, norm=norm, eps=0.0)
    assert torch.equal(x_adv, x) and x_adv is not x and not judges


@both
def test_an_empty_batch_stays_empty(model, x, y, name):
    assert run(name, model, x[:0], y[:0]).shape == (0, 2, 6, 6)


@both
def test_images_that_are_wrong_anyway_stay_as_they_are(judges, model, x, y, name):
    assert torch.equal(run(name, model, x, (predictions(model, x) + 1) % 5), x)


@both
@both_norms
def test_one_image(judges, model, x, y, name, norm):
    """One that it fools, and one that it does not."""
    assert predictions(model, run(name, model, x[:1], y[:1], norm=norm, eps=5 * EPS[norm])) != y[0]
    assert torch.equal(run(name, model, x[:1], y[:1], norm=norm, eps=1e-5), x[:1])


@both
@both_norms
def test_channels_last(judges, model, x, y, seeded, name, norm):
    """How our data sets give their images, and our networks their gradients."""
    x_adv = run(name, model, x, y, norm=norm, generator=seeded())
    last = x.contiguous(memory_format=torch.channels_last)
    moved = run(name, model.to(memory_format=torch.channels_last), last, y, norm=norm, generator=seeded())
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert_close(moved, x_adv)


@both_norms
def test_autoattack_is_at_least_as_strong_as_pgd(x, seeded, norm):
    """Uncut."""
    model = network(4).eval()
    x, y = x[:4], predictions(model, x[:4])
    settings = {"eps": EPS[norm], "norm": norm, "generator": seeded()}
    by_pgd = predictions(model, attacks.run("pgd", model, x, y, **settings)) == y
    by_autoattack = predictions(model, attacks.run("autoattack", model, x, y, **settings)) == y
    assert by_autoattack.sum() <= by_pgd.sum() < len(y)


def test_square_needs_no_gradient(model, x, y, seeded):
    """Of a model whose gradient is zero everywhere, and more queries fool more."""
    stairs = nn.Sequential(model.eval(), Stairs())
    y = predictions(stairs, x)
    assert torch.equal(predictions(stairs, attacks.run("pgd", stairs, x, y, eps=0.0)), y)
    right = [
        (predictions(stairs, run("square", stairs, x, y, eps=0.15, queries=n, generator=seeded())) == y).sum()
        for n in (1, 300)
    ]
    assert right[1] < right[0]


class Stairs(nn.Module):
    def forward(self, z):
        return (100 * z).round()


@pytest.mark.parametrize(("classes", "targets"), [(4, 3), (5, 4), (10, 9), (12, 9)])
def test_targets_are_the_other_classes_up_to_nine(judges, x, classes, targets):
    model = network(classes).eval()
    y = predictions(model, x)
    y[:4] = (y[:4] + 1) % classes
    for name in QUERIES:
        x_adv = run(name, model, x, y)
        assert torch.equal(x_adv[:4], x[:4])
    square, standard = (judge.settings for judge in judges)
    assert square["queries"] == 30
    assert standard == {"queries": 5000, "targets": (targets, targets)}
    assert judges[0].attacks_to_run == ["square"]
    assert judges[1].attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("classes", [2, 3])
@both_norms
def test_few_classes(judges, x, norm, classes):
    """The targeted DLR loss needs four; Square does without."""
    model = network(classes).eval()
    y = predictions(model, x)
    assert distance(run("square", model, x, y, norm=norm, eps=5 * EPS[norm]), x).max() > 0
    with pytest.raises(InputError, match=f"^the model has {classes} outputs; AutoAttack accepts models from 4$"):
        run("autoattack", model, x, y, norm=norm)


def broken(output):
    class Broken(nn.Module):
        def forward(self, x):
            return output(x.flatten(1)[:, :5])

    return Broken()


@both
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda z: z / 0.0, "the model gives inf; accepted: finite logits"),
        (lambda z: z * float("nan"), "the model gives nan; accepted: finite logits"),
        (lambda z: z.softmax(1), r"the model gives probabilities, such as 0\.\d+; accepted: logits"),
    ],
)
def test_bad_models(x, y, name, output, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        run(name, broken(output), x, y)


@both
@pytest.mark.parametrize(("label", "message"), [(-1, "label -1; accepted"), (5, "label 5; accepted: 0 to 4,")])
def test_bad_labels(model, x, y, name, label, message):
    y[3] = label
    with pytest.raises(InputError, match=f"^{message}"):
        run(name, model, x, y)


@both
@pytest.mark.parametrize("pixel", [-0.01, 1.01, float("nan")])
def test_bad_images(model, x, y, name, pixel):
    x[0, 0, 0, 0] = pixel
    with pytest.raises(InputError, match=rf"^images span .*{pixel:g}"):
        run(name, model, x, y)


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": -0.1}, "eps = -0.1 is out of range; accepted: 0 to 1"),
        ({"eps": 1.1}, "eps = 1.1 is"),
        ({"eps": float("nan")}, "eps = nan is"),
        ({"eps": 8.5, "norm": "l2"}, "eps = 8.5 is out of range; accepted: 0 to 8.48528"),
        ({"eps": 0.1, "norm": "l1"}, "unknown norm 'l1'; accepted: linf, l2"),
    ],
)
def test_bad_settings(model, x, y, name, settings, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run(name, model, x, y, **settings)


@pytest.mark.parametrize("queries", [0, -1, True, 2.5])
def test_bad_queries(model, x, y, queries):
    with pytest.raises(InputError, match=f"^queries = {queries}; accepted: a whole number from 1$"):
        run("square", model, x, y, queries=queries)


@both
@both_norms
def test_double_precision(judges, model, x, y, seeded, name, norm):
    """The model sees float64, the budget holds as measured in it, and images that are not fooled stay to the bit."""
    seen = set()
    model = model.double().eval()
    watched = Watched(model, seen)
    x = torch.rand_like(x, dtype=torch.double)
    x[0] = x[0].round()
    y = predictions(model, x)
    eps = 3 * EPS[norm]
    x_adv = run(name, watched, x, y, norm=norm, eps=eps, generator=seeded())
    assert x_adv.dtype == torch.float64 and seen == {torch.float64}
    changed, fooled = distance(x_adv, x, norm), predictions(model, x_adv) != y
    assert changed.max() <= eps + 1e-15 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert fooled.any() and torch.equal(changed > 0, fooled)
    assert torch.equal(run(name, watched, x, y, norm=norm, eps=1e-6, generator=seeded()), x)


class Watched(nn.Module):
    def __init__(self, model, seen):
        super().__init__()
        self.model, self.seen = model, seen

    def forward(self, x):
        self.seen.add(x.dtype)
        return self.model(x)


@both
@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda x: x.half(), r"AutoAttack and Square with float16 \[6, 2, 6, 6\]; accepted: float32 or float64 images"),
        (lambda x: x.bfloat16(), r"AutoAttack and Square with bfloat16 \["),
        (lambda x: x.flatten(1), r"AutoAttack and Square with float32 \[6, 72\];"),
        (lambda x: x[:, :, None], r"AutoAttack and Square with float32 \[6, 2, 1, 6, 6\];"),
        (lambda x: x.byte(), r"the images are uint8 \["),
        (lambda x: x.double(), r"images are torch.float64 on cpu, the model is torch.float32 on cpu;"),
    ],
)
def test_images_that_are_none(model, x, y, name, how, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run(name, model, how(x), y)


@both
def test_labels_of_any_whole_numbers(judges, model, x, y, seeded, name):
    one, other = (run(name, model, x, labels, generator=seeded()) for labels in (y, y.int()[:, None]))
    assert torch.equal(one, other)
    for bad in (y.float(), y[:3], torch.eye(5)[y]):
        with pytest.raises(InputError, match=r"^the labels are .*accepted: class indices, one for each of 6 images"):
            run(name, model, x, bad)


@both
@pytest.mark.parametrize("eps", [torch.full((6,), 0.1), torch.full((6, 1, 1, 1), 0.1)])
def test_a_budget_for_each_image_is_refused(model, x, y, name, eps):
    with pytest.raises(InputError, match=r"^eps = a tensor \[6.*\]; accepted: one number for all images$"):
        run(name, model, x, y, eps=eps)


@both
@pytest.mark.parametrize(("output", "kind"), [(lambda z: (z,), "tuple"), (lambda z: {"z": z}, "dict")])
def test_outputs_that_are_no_logits(x, y, name, output, kind):
    with pytest.raises(InputError, match=f"^the model gives a {kind}; accepted: one tensor of logits"):
        run(name, broken(output), x, y)


@both
def test_models_as_functions_in_place_and_in_inference_mode(judges, model, x, y, seeded, name):
    model.eval()
    expected, kept = run(name, model, x, y, eps=0.15, generator=seeded()), x.clone()
    moved = run(name, lambda x: model(x.mul_(1.0)), x, y, eps=0.15, generator=seeded())
    assert torch.equal(moved, expected) and torch.equal(x, kept)
    with torch.inference_mode():
        assert torch.equal(run(name, model, x.clone(), y.clone(), eps=0.15, generator=seeded()), expected)
