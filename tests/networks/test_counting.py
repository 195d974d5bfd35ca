import pytest
import torch

from jsigr_lib.method import defences
from jsigr_lib.networks import counting, models
from jsigr_lib.networks.counting import PLAIN, count_bytes, count_flops, peak_bytes
from jsigr_lib.study.config import PROFILE_NAMES, load_profile

# operations


WIDTH = 24
FIRST, REST = 784 * WIDTH, WIDTH * WIDTH + WIDTH * 10  # multiply-adds of the first layer and of the other two
# A multiply-add is two operations. Forward: all layers once. Backward: once more for the gradient by every weight, and
# once for the gradient by every layer's input; the first layer's is the image's, which plain training does not need.
STEP = 2 * (FIRST + REST) + 2 * (FIRST + REST) + 2 * REST


def flops(objective: str, architecture: str = "mlp", width: int | None = WIDTH, **options) -> int:
    return count_flops(architecture, width, objective, tuple(options.items()), 28)


def test_standard_step_by_hand():
    assert flops("jsigr", lambda_j=0.0, lambda_s=0.0) == STEP


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_adversarial_step_by_hand(steps):
    """Each attack step: forward, and backward to the image, without the gradients by the weights."""
    attack = steps * 4 * (FIRST + REST)
    assert flops("adversarial", eps=0.1, steps=steps) == STEP + attack
    forward = 2 * (FIRST + REST)  # in evaluation mode, for the attack to part from
    assert flops("trades", eps=0.1, steps=steps) == 2 * STEP + forward + attack  # clean and attacked images
    for fraction in (1.0, 0.5, 0.1):
        penalty = {"lambda_j": 0.1, "lambda_s": 1.0, "fraction": fraction}
        assert flops("adversarial", eps=0.1, steps=steps, **penalty) == flops("jsigr", **penalty) + attack


def test_scaleable_input_gradient_by_hand():
    """Two forward passes; back to the image for the direction; back through both, of which the first, whose images
    the direction was asked of, reaches its images again."""
    step = 2 * STEP + 2 * (FIRST + REST) + 2 * FIRST
    assert flops("scaleable-input-gradient", lambda_s=1.0) == step
    assert flops("scaleable-input-gradient", lambda_s=1.0, norm="l1") == step


def test_otjr_by_hand():
    """Clean and attacked, the attack, and a double backward pass, which costs the same as the Jacobian norm's."""
    jacobian = flops("jsigr", lambda_j=1.0, lambda_s=0.0, fraction=1.0, estimator="double-backprop") - STEP
    assert flops("otjr", eps=0.1, steps=3) == pytest.approx(2 * STEP + jacobian + 3 * 4 * (FIRST + REST), rel=0.02)


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_every_defence_costs_more_than_none(profile):
    p = load_profile(profile)
    costs = {name: flops(defence.objective, "small-cnn", 4, **p.options(name)) for name, defence in p.defences.items()}
    assert [name for name, cost in costs.items() if cost <= costs["standard"]] == ["standard"]
    assert costs["fast"] < costs["pgd"] or profile == "smoke"


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_every_objective_in_order_of_cost(profile):
    p = load_profile(profile)
    assert {defence.objective for defence in p.defences.values()} == set(defences.OBJECTIVES)
    costs = {name: flops(defence.objective, "small-cnn", 4, **p.options(name)) for name, defence in p.defences.items()}
    assert costs["fast"] < costs["fast-jsigr"] < costs["pgd"] < costs["trades"] < costs["otjr"] or profile == "smoke"


def test_counting_leaves_the_global_state():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    count_flops.__wrapped__("mlp", 5, "jsigr", (("lambda_j", 0.1), ("lambda_s", 0.1)), 28)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("architecture", ["small-cnn", "vgg"])
def test_order_of_costs(architecture):
    penalty = {"lambda_j": 0.01, "lambda_s": 1.0}
    costs = [
        flops("jsigr", architecture, None, lambda_j=0.0, lambda_s=0.0),
        flops("jsigr", architecture, None, **penalty, fraction=0.25),
        flops("jsigr", architecture, None, **penalty, fraction=0.5),
        flops("jsigr", architecture, None, **penalty, fraction=1.0),
        flops("jsigr", architecture, None, **penalty, fraction=1.0, estimator="double-backprop"),
        flops("adversarial", architecture, None, eps=0.1, steps=7),
    ]
    assert costs == sorted(set(costs))
    assert costs[1] < 1.5 * costs[0]
    assert 5 * costs[0] < costs[-1] < 8 * costs[0]


@pytest.mark.parametrize(
    "architecture", ["small-cnn", "mlp", "vgg-bn", "nin", "resnet9", "resnet8-strided-silu", "wrn28-10"]
)
@pytest.mark.parametrize(
    ("objective", "rel"), [(PLAIN, 1e-7), (("jsigr", (("lambda_j", 1.0), ("lambda_s", 1.0))), 0.05)]
)
def test_narrow_networks_tell_the_operations_of_a_wide_one(architecture, objective, rel):
    counted = counting._operations(architecture, 48, *objective, 32)
    assert count_flops(architecture, 48, *objective, 32) == pytest.approx(counted, rel=rel)


def test_colour_images_cost_more():
    grey, colour = (count_flops("small-cnn", 8, *PLAIN, size) for size in (28, 32))
    assert colour > grey * (32 / 28) ** 2


def test_a_strided_stem_pays_for_twice_the_width():
    plain, strided = (count_flops(*one, *PLAIN, 32) for one in (("resnet8", 16), ("resnet8-strided", 32)))
    assert strided == pytest.approx(plain, rel=0.02)


def test_every_architecture_can_be_counted():
    narrow = {"wrn28-10": 8, "resnet18": 8}
    counts = {name: count_flops(name, narrow.get(name), *PLAIN, 32) for name in models.ARCHITECTURES}
    assert min(counts, key=counts.get) == "mlp"
    plain = [name for name in counts if not name.endswith(("-silu", "-bn"))]  # element-wise work does not count
    assert len({counts[name] for name in plain}) == len(plain)


# memory

JACOBIAN = ("jsigr", (("estimator", "double-backprop"), ("fraction", 1.0), ("lambda_j", 1.0), ("lambda_s", 0.0)))
TRAINED = ("adversarial", (("eps", 0.03), ("steps", 3)))
LONGER = (("eps", 0.03), ("steps", 20))


@pytest.mark.parametrize("kind", [PLAIN, JACOBIAN, TRAINED], ids=["plain", "jacobian", "adversarial"])
@pytest.mark.parametrize("architecture", ["vgg-bn", "resnet8-strided", "resnet9"])
def test_a_narrow_network_tells_the_memory_of_a_wide_one(architecture, kind):
    """Against the step itself, of a network half as wide again and of more images."""
    width, batch = 48, 40
    ((_, step),) = counting._steps(architecture, width, *kind, 32, images=batch)
    parameters = sum(p.numel() for p in counting._network(architecture, width, 32).parameters())
    held = 3 * 4 * parameters + peak_bytes(step)  # AdamW's two and the network; gradients are the step's
    assert count_bytes(architecture, width, *kind, 32, batch) == pytest.approx(held, rel=0.1)


def test_a_linear_layer_by_hand():
    """Weights, gradients and two of AdamW; then the images, and little else."""
    weights = 784 * 24 + 24 + 24 * 24 + 24 + 24 * 10 + 10
    least = 16 * weights + 100 * 4 * 784
    assert least < count_bytes("mlp", 24, *PLAIN, 28, 100) < 2 * least


def test_memory_in_order():
    """A graph of gradients takes more than a plain step, an attack no more than a step of it."""
    plain, double, long = (count_bytes("vgg-bn", 8, *kind, 32, 64) for kind in (PLAIN, JACOBIAN, TRAINED))
    assert 1.3 * plain < double
    assert plain <= long < 1.2 * plain
    assert count_bytes("vgg-bn", 8, *TRAINED, 32, 64) == count_bytes("vgg-bn", 8, "adversarial", LONGER, 32, 64)
    assert count_bytes("vgg-bn", 8, *PLAIN, 32, 128) > 1.8 * plain
    assert count_bytes("vgg-bn", 8, *PLAIN, 64, 64) > 3.5 * plain


def test_most_images_are_penalised_at_once_where_a_coin_decides():
    """Its dearest kind of step counts, however seldom it is."""
    seldom = ("jsigr", (("coin", 0.1), ("estimator", "double-backprop"), ("lambda_j", 1.0), ("lambda_s", 0.0)))
    assert count_bytes("vgg-bn", 8, *seldom, 32, 64) > 1.05 * count_bytes("vgg-bn", 8, *PLAIN, 32, 64)
