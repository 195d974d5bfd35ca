"""Each entry point on the models and inputs that users have: the same number as without their wrapping, or one line."""

from contextlib import nullcontext
from copy import deepcopy
from fractions import Fraction
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from jsigr_lib import (
    JSIGR,
    Selection,
    attacks,
    attributions,
    defences,
    jacobian_norm,
    perturbation_saliency,
    selection_mask,
)
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import gradient_map


def draws():
    return torch.Generator().manual_seed(0)


def attack(name, **settings):
    return lambda m, x, y: attacks.run(name, m, x, y, eps=0.1, generator=draws(), **settings)


def loss(objective, *guide):
    return lambda m, x, y: objective(m, x, y, *guide, generator=draws())


def defence(name, **options):
    return loss(defences.build(name, **options))


ATTACKS = {
    **{f"attack {name}": attack(name) for name in ("fgsm", "di-fgsm", "ti-fgsm", "si-fgsm")},
    "attack restarts": attack("pgd", steps=2, restarts=2),
    "attack l2": attack("pgd", steps=2, norm="l2"),
    "attack square": attack("square", queries=3),
}
PENALTIES = {
    "jacobian": lambda m, x, y: jacobian_norm(m, x, projections="exact"),
    **{
        f"jsigr {estimator}": loss(JSIGR(0.1, 1.0, fraction=1, estimator=estimator))
        for estimator in ("single-pass", "double-backprop", "exact")
    },
    "jsigr half": loss(JSIGR(0.1, 1.0, fraction=0.5)),
    "jsigr standard step": loss(JSIGR(0.1, 1.0, fraction=1e-6)),
    "jsigr mask": loss(JSIGR(0.0, 1.0, fraction=1), torch.arange(144.0).view(4, 1, 6, 6) % 2),
    "scaleable": defence("scaleable-input-gradient", lambda_s=1.0),
    "interpretation": loss(defences.build("interpretation", lambda_cs=1.0, lambda_gm=1.0), torch.ones(4, 3, 6, 6)),
    "adversarial": defence("adversarial", eps=0.1, steps=1),
    "trades": defence("trades", eps=0.1, steps=1),
    "otjr": defence("otjr", eps=0.1, steps=1),
}
MAPS = {
    "gradient map": gradient_map,
    "perturbation": lambda m, x, y: perturbation_saliency(m, x, y, grid=2),
    **{
        f"map {name}": lambda m, x, y, name=name: attributions.saliency_map(name, m, x, y, grid=2)
        for name in attributions.MAPS
    },
}
ENTRIES = ATTACKS | PENALTIES | MAPS
LABELLED = {name: entry for name, entry in ENTRIES.items() if name != "jacobian"}
UNASKED = {f"map {name}" for name in attributions.CONTROLS}  # of no model
ASKED = {name: entry for name, entry in ENTRIES.items() if name not in UNASKED}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)]
    return nn.Sequential(*layers).double()


@pytest.fixture(scope="module")
def x():
    return torch.rand(4, 3, 6, 6, dtype=torch.double, generator=draws())


@pytest.fixture
def y():
    return torch.tensor([0, 1, 2, 3])


@pytest.fixture(scope="module")
def expected(net, x):
    return {name: entry(net, x, torch.tensor([0, 1, 2, 3])).detach() for name, entry in ENTRIES.items()}


def different(entries, expected, model, x, y, rtol=1e-7):
    """The entry points that give another number on it, and by how much, or that raise."""
    found = {}
    for name, entry in entries.items():
        try:
            value, right = entry(model, x, y).detach().double(), expected[name].double()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            continue
        if not (value - right).norm() <= rtol * right.norm():
            found[name] = ((value - right).norm() / right.norm()).item()
    return found


def not_refused(entries, message, model, x, y):
    """The entry points that do something else than raise InputError with a line that begins so."""
    found = {}
    for name, entry in entries.items():
        try:
            found[name] = entry(model, x, y)
        except InputError as error:
            if not str(error).startswith(message) or "accept" not in str(error):
                found[name] = str(error)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


# what is the same


class Of(nn.Module):
    """A function of the image and of a module as a model."""

    def __init__(self, function, module):
        super().__init__()
        self.function, self.module = function, module

    def forward(self, x):
        return self.function(self.module, x)


def functional(net):
    parameters = dict(net.named_parameters())
    return lambda x: torch.func.functional_call(net, parameters, (x,))


def hooked(net):
    net = deepcopy(net)
    net[0].register_full_backward_hook(lambda *_: None)
    net[2].register_forward_pre_hook(lambda _, inputs: (inputs[0] + 0.0,))
    return net


MODELS = {
    "function": lambda net: lambda x: net(x),
    "method": lambda net: net.forward,
    "functional call": functional,
    "changes its input": lambda net: Of(lambda m, x: m(x.sub_(0.5).add_(0.5)), net),
    "compiled": lambda net: torch.compile(net, backend="aot_eager"),
    "scripted": lambda net: torch.jit.script(net),
    "traced": lambda net: torch.fx.symbolic_trace(net),
    "data parallel": nn.DataParallel,
    "vmap": lambda net: Of(lambda m, x: torch.func.vmap(lambda image: m(image[None])[0])(x), net),
    "checkpoint": lambda net: Of(lambda m, x: checkpoint(m, x, use_reentrant=False), net),
    "reentrant": lambda net: Of(lambda m, x: checkpoint(m, x, use_reentrant=True), net),
    "frozen": lambda net: deepcopy(net).requires_grad_(False),
    "frozen in part": lambda net: nn.Sequential(deepcopy(net[:3]).requires_grad_(False), net[3:]),
    "hooks": hooked,
    "gradient inside": lambda net: Of(
        lambda m, x: m(x) + 0 * torch.func.grad(lambda x: m(x).sum())(x.detach()).sum(), net
    ),
}
NO_PLACES = ("function", "method", "functional call", "scripted")  # that Grad-CAM could find
NO_HOOKS = ("vmap", "gradient inside")  # that Captum could use


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # of torch: what is deprecated or has no gradient
def test_any_kind_of_model(net, x, y, expected, name):
    entries = {
        entry: call for entry, call in ENTRIES.items() if entry != "map grad-cam" or name not in NO_PLACES + NO_HOOKS
    }
    assert different(entries, expected, MODELS[name](net), x, y) == {}
    if name in NO_PLACES:
        assert not_refused({"grad-cam": ENTRIES["map grad-cam"]}, "no layer of ", MODELS[name](net), x, y) == {}


IMAGES = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "not contiguous": lambda x: x.mT.contiguous().mT,
    "part of a tensor": lambda x: torch.cat([x, x], 3)[..., 6:],
    "with gradient": lambda x: x.clone().requires_grad_(),
    "parameter": lambda x: nn.Parameter(x.clone()),
}


@pytest.mark.parametrize("name", IMAGES)
def test_any_kind_of_images(net, x, y, expected, name):
    images = IMAGES[name](x)
    assert different(ENTRIES, expected, net, images, y) == {}
    assert torch.equal(images, x) and images.grad is None


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_without_gradients_around_it(net, x, y, expected, outer):
    """Images made in there and elsewhere, on every step."""
    with outer():
        made_there = x.clone(), y.clone()
        assert different(ENTRIES, expected, net, x, y) == different(ENTRIES, expected, net, *made_there) == {}
        assert not any(entry(net, x, y).requires_grad for entry in PENALTIES.values())
    assert different(ENTRIES, expected, net, *made_there) == {}
    assert all(entry(net, *made_there).requires_grad for entry in PENALTIES.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_and_in_half_precision(net, x, y, expected, dtype):
    """Nothing of ours is computed in half precision, but the model; the losses are in single precision."""
    single, entries = deepcopy(net).float(), PENALTIES | MAPS
    entries.pop("map random")  # is another one for other bytes
    with torch.autocast("cpu", dtype=dtype):
        assert different(entries, expected, single, x.float(), y, rtol=0.05) == {}
        assert {entry(single, x.float(), y).dtype for name, entry in PENALTIES.items()} == {torch.float32}
        for entry in ATTACKS.values():
            x_adv = entry(single, x.float(), y)
            assert x_adv.dtype == torch.float32 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert different(entries, expected, deepcopy(net).to(dtype), x.to(dtype), y, rtol=0.05) == {}


def test_a_scaler_of_losses(net, x, y):
    """What a training step with half precision does: its gradient is that of single precision."""
    gradients = []
    for scale, around in [(1.0, nullcontext()), (2.0**12, torch.autocast("cpu", dtype=torch.float16))]:
        model = deepcopy(net).float()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with around:
            value = ENTRIES["jsigr single-pass"](model, x.float(), y)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.01 * gradients[0].norm()


def test_nothing_else_is_touched(net, x, y):
    """Modes, gradients and what has one, the images, the labels, the global generator."""
    model = deepcopy(net)
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[5].bias.grad = torch.ones(5).double()
    modes, needed = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    for name, entry in ENTRIES.items():
        state, images, labels = torch.get_rng_state(), x.clone(), y.clone()
        entry(model, images, labels)
        assert [m.training for m in model.modules()] == modes, name
        assert [p.requires_grad for p in model.parameters()] == needed, name
        assert [p.grad is None for p in model.parameters()] == [True] * 5 + [False], name
        assert torch.equal(model[5].bias.grad, torch.ones(5).double()), name
        assert torch.equal(images, x) and torch.equal(labels, y) and torch.equal(torch.get_rng_state(), state), name


def test_modes_come_back_after_an_error(net, x, y):
    broken = Of(lambda m, x: (m(x),), deepcopy(net).train())
    assert not_refused(ASKED, "the model gives a tuple", broken, x, y) == {}
    assert all(module.training for module in broken.modules())


def test_a_function_keeps_the_gradients_of_its_parameters(net, x, y):
    """Nobody knows them, and FAB calls `backward`."""
    model = deepcopy(net)
    for entry in (attack("autoattack"), *ENTRIES.values()):
        if entry is not ENTRIES["map grad-cam"]:
            entry(lambda x: model(x), x, y)
    assert [parameter.grad for parameter in model.parameters()] == [None] * 6


def test_threads_leave_torchs_checkpoints_as_they_were(net, x, y):
    before = vars(torch.utils.checkpoint).copy()
    threads = [
        Thread(target=lambda: [ENTRIES[n](net, x, y) for n in 20 * ("jsigr exact", "map gradient")]) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vars(torch.utils.checkpoint) == before


# labels, images and outputs

LABELS = [*(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))]


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_labels_of_any_whole_numbers(net, x, y, expected, dtype):
    for labels in (y.to(dtype), y.to(dtype)[:, None]):
        assert different(LABELLED, expected, net, x, labels) == {}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda y: F.one_hot(y, 5).double(), "the labels are float64 [4, 5]"),
        (lambda y: F.one_hot(y, 5), "the labels are int64 [4, 5]"),
        (lambda y: y.double(), "the labels are float64 [4]"),
        (lambda y: y > 1, "the labels are bool [4]"),
        (lambda y: y[:3], "the labels are int64 [3]"),
        (lambda y: y[None], "the labels are int64 [1, 4]"),
        (lambda y: y[0], "the labels are int64 []"),
        (lambda y: y.tolist(), "the labels are a list"),
        (lambda y: y.numpy(), "the labels are a ndarray"),
        (lambda y: None, "the labels are a NoneType"),
        (lambda y: y - 1, "label -1; accepted: class indices from 0"),
        (lambda y: (y - 100).to(torch.int8), "label -100; accepted: class indices from 0"),
    ],
)
def test_labels_that_are_none(net, x, y, bad, message):
    assert not_refused(LABELLED, message, net, x, bad(y)) == {}


def test_labels_that_the_model_has_not(net, x, y):
    asked = {name: entry for name, entry in LABELLED.items() if name in ASKED}
    assert not_refused(asked, "label 5; accepted: 0 to 4, as the model has 5 outputs", net, x, y.clamp_min(5)) == {}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (lambda z: (z, z), "a tuple"),
        (lambda z: {"logits": z}, "a dict"),
        (lambda z: None, "a NoneType"),
        (lambda z: z.detach().numpy(), "a ndarray"),
        (lambda z: z.sum(), "float64 []"),
        (lambda z: z[:, 0], "float64 ["),
        (lambda z: z[..., None], "float64 ["),
        (lambda z: z[:, :0], "float64 ["),
        (lambda z: torch.cat([z, z]), "float64 ["),
        (lambda z: z.long(), "int64 ["),
        (lambda z: z + 0j, "complex128 ["),
        (lambda z: z.to_sparse(), "sparse float64 ["),
    ],
)
def test_outputs_that_are_no_logits(net, x, y, output, said):
    assert not_refused(ASKED, f"the model gives {said}", Of(lambda m, x: output(m(x)), net), x, y) == {}


GRADIENT = ("gradient map", "map gradient", "map smoothgrad", "map integrated", "map grad")


@pytest.mark.parametrize("output", [lambda z: z.detach(), lambda z: nn.Parameter(0 * z)])
def test_models_without_gradient(net, x, y, output):
    """The exact perturbation maps, occlusion, Square and steps without penalty need none."""
    need = ATTACKS | PENALTIES | {name: entry for name, entry in MAPS.items() if name.split("-")[0] in GRADIENT}
    for name in ("attack square", "jsigr standard step"):
        need.pop(name)
    model = Of(lambda m, x: output(m(x)), net)
    assert not_refused(need, "the model's logits have no gradient by the images", model, x, y) == {}


@pytest.mark.parametrize("model", ["net", None, nn.Linear, [nn.Identity()]], ids=str)
def test_models_that_are_none(x, y, model):
    assert not_refused(ASKED, f"the model is a {type(model).__name__}", model, x, y) == {}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda x: (255 * x).byte(), "uint8 [4, 3, 6, 6]"),
        (lambda x: x > 0.5, "bool ["),
        (lambda x: x + 0j, "complex128 ["),
        (lambda x: x.to_sparse(), "sparse float64 ["),
        (lambda x: x[:, 0, 0, 0], "float64 [4]"),
        (lambda x: x[0, 0, 0, 0], "float64 []"),
        (lambda x: x.numpy(), "a ndarray"),
        (lambda x: [x], "a list"),
        (lambda x: None, "a NoneType"),
    ],
)
def test_images_that_are_none(net, x, y, bad, said):
    assert not_refused(ENTRIES, f"the images are {said}", net, bad(x), y) == {}


def test_images_of_another_type_than_the_model(net, x, y):
    said = "images are torch.float32 on cpu, the model is torch.float64 on cpu; accepted: the same"
    assert not_refused(ASKED, said, net, x.float(), y) == {}


@pytest.mark.parametrize("pixel", [float("nan"), float("inf"), -0.1, 1.1])
def test_attacks_refuse_what_is_no_picture(net, x, y, pixel):
    x = x.clone()
    x[1, 2, 3, 4] = pixel
    attacked = ATTACKS | {name: PENALTIES[name] for name in ("adversarial", "trades", "otjr")}
    assert not_refused(attacked, "images span ", net, x, y) == {}


def test_attacks_need_two_classes(net, x, y):
    mine = {name: entry for name, entry in ATTACKS.items() if name != "attack square"}
    assert not_refused(mine, "the model has 1 output; accepted: two", Of(lambda m, x: m(x)[:, :1], net), x, 0 * y) == {}


def test_maps_need_pictures_and_penalties_do_not(x, y):
    flat = nn.Linear(108, 5).double()
    assert not_refused(MAPS, "the images are float64 [4, 108]", flat, x.flatten(1), y) == {}
    own = loss(JSIGR(0.1, 1.0, fraction=1e-6))
    assert not_refused({"own": own}, "the images are float64 [4, 108]", flat, x.flatten(1), y) == {}


def test_an_empty_batch(net, x, y):
    for entry in (ATTACKS | MAPS).values():
        assert len(entry(net, x[:0], y[:0])) == 0


@pytest.mark.parametrize("mask", [torch.bool, torch.uint8, torch.float64, torch.float16])
def test_a_mask_of_any_type_on_every_step(net, x, y, mask):
    given = torch.arange(144).view(4, 1, 6, 6) % 2
    for fraction in (1, 1e-6):
        objective = JSIGR(0.0, 1.0, fraction=fraction)
        assert_close(objective(net, x, y, given.to(mask)), objective(net, x, y, given.double()))
        for bad in (given[:, 0], given[:1], given + 0j, given.numpy()):
            with pytest.raises(InputError, match=r"^the mask is .*; accepted: \[4, 1, 6, 6\]$"):
                objective(net, x, y, bad)


@pytest.mark.parametrize("eps", [torch.tensor(0.25), torch.tensor(0.25, requires_grad=True), np.float32(0.25),
                                 Fraction(1, 4), torch.tensor(0.25).bfloat16()], ids=str)  # fmt: skip
def test_a_budget_is_one_number_of_any_kind(net, x, y, eps):
    for name in ("fgsm", "mi-fgsm", "pgd"):
        one, other = (attacks.run(name, net, x, y, eps=value, generator=draws()) for value in (eps, 0.25))
        assert torch.equal(one, other)
    with pytest.raises(InputError, match=r"^eps = True; accepted: one number for all images$"):
        attacks.fgsm(net, x, y, eps=True)


@pytest.mark.parametrize(
    ("maps", "kind", "said"),
    [
        (torch.full((2, 1, 3, 3), float("nan")), "hard", "the maps span nan to nan; accepted: finite numbers$"),
        (torch.full((2, 1, 3, 3), float("inf")), "soft", "the maps span inf to inf; accepted: finite numbers from 0$"),
        (-torch.ones(2, 1, 3, 3), "soft", "the maps span -1 to -1; accepted: finite numbers from 0$"),
        (torch.ones(2, 1, 3, 3).long(), "hard", r"the maps are int64 \[2, 1, 3, 3\]; accepted"),
        (torch.ones(9), "soft", r"the maps are float32 \[9\]; accepted"),
    ],
)
def test_maps_that_are_none(maps, kind, said):
    with pytest.raises(InputError, match=f"^{said}"):
        selection_mask(maps, kind=kind)
    assert selection_mask(-torch.rand(2, 1, 5, 2), share=0.3).sum() == 6


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_batch_norm_that_is_not_seen_at_work_is_refused_in_training_mode(x, y, monkeypatch):
    """As it mixes the images."""
    model = nn.Sequential(nn.Conv2d(3, 2, 6), nn.BatchNorm2d(2), nn.Flatten()).double()
    parallel, processes = nn.DataParallel(model), nn.SyncBatchNorm.convert_sync_batchnorm(deepcopy(model))
    penalties = {name: PENALTIES[name] for name in ("jacobian", "jsigr single-pass", "jsigr exact", "jsigr half")}
    for hidden, said in [
        (torch.jit.script(model), "scripted"),
        (parallel, "under DataParallel"),
        (processes, "with other"),
    ]:
        with monkeypatch.context() as patched:
            parallel.device_ids = [0, 1]
            patched.setattr(torch.distributed, "is_initialized", lambda: True)
            assert not_refused(penalties, f"batch norm in training mode is {said}", hidden, x, y.clamp_max(1)) == {}
        parallel.device_ids = []
        assert jacobian_norm(hidden.eval(), x, projections="exact").isfinite()


@pytest.mark.parametrize(
    "make",
    [
        lambda: JSIGR("0.1", 1.0),
        lambda: JSIGR(0.1, torch.ones(2)),
        lambda: JSIGR(0.1, 1.0, fraction=None),
        lambda: Selection(share="a"),
        lambda: Selection(grid=3.0),
        lambda: selection_mask(torch.rand(2, 1, 3, 3), share=[0.4]),
        lambda: defences.build("trades", eps="0.1"),
        lambda: defences.build("adversarial", eps=0.1, steps="3"),
    ],
)
def test_options_that_are_no_numbers(make):
    with pytest.raises(InputError, match="; accepted: "):
        make()


def test_whole_numbers_of_numpy(net, x, y):
    three = np.int64(3)
    assert torch.equal(*(attacks.bim(net, x, y, eps=0.1, steps=steps) for steps in (3, three)))
    assert torch.equal(*(perturbation_saliency(net, x, y, grid=grid) for grid in (3, three)))
    assert_close(*(jacobian_norm(net, x, projections=n, generator=draws()) for n in (3, three)))
