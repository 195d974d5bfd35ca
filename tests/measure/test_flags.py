"""Every flag is planted and seen, and a sound network raises none."""

import numpy as np
import pytest
import torch
from torch import nn

from jsigr_lib.measure import flags
from jsigr_lib.measure.flags import FLAGS, of_comparison, of_network, of_number, probe, shown

IMAGES = 60


class Planted(nn.Module):
    """A sound linear classifier of two-pixel images by their brighter pixel, and what a test makes of its logits."""

    def __init__(self, fault=lambda z: z):
        super().__init__()
        self.fault = fault

    def forward(self, x):
        return self.fault(10 * x.flatten(1))


@pytest.fixture
def images(seeded):
    x = torch.rand(IMAGES, 1, 1, 2, generator=seeded())
    return x, x.flatten(1).argmax(1)


def random_shift(z):
    return z + 3 * torch.randn_like(z)


def nan_for_bright(z):
    return torch.where(z.sum(1, keepdim=True) > 12, torch.nan, z)


class Stuck(torch.autograd.Function):
    """The identity, whose gradient points the wrong way: a masked gradient."""

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


FAULTS = {
    "none": (lambda z: z, set()),
    "saturated": (lambda z: 1e4 * z, {"zero gradients", "unbounded survives"}),
    "constant": (lambda z: 0 * z + torch.tensor([2.0, 0.0]), {"zero gradients", "unbounded survives"}),
    "rounded": (lambda z: z.round() + 0 * z, {"zero gradients", "unbounded survives"}),
    "masked": (Stuck.apply, {"unbounded survives"}),
    "random": (random_shift, {"random output", "eps 0 matters"}),
    "softmax": (lambda z: z.softmax(1), {"softmax output"}),
    "NaN": (nan_for_bright, {"non-finite"}),
    "infinite": (lambda z: torch.where(z > 9.5, torch.inf, z), {"non-finite"}),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_raises_its_flag_and_a_sound_network_none(images, seeded, fault, expected):
    x, y = images
    evidence = probe(Planted(fault), x, y, generator=seeded())
    raised = of_network(evidence, "network") | of_network(evidence, "source")
    assert expected <= raised
    if not expected:
        assert raised == set()
    assert not of_network(evidence, "network") & of_network(evidence, "source")


def test_evidence_is_the_share_of_the_images(seeded):
    """Three of four images are saturated."""
    x = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.5, 0.45]]).view(4, 1, 1, 2)
    model = Planted(lambda z: torch.where((z[:, :1] - z[:, 1:]).abs() > 2, 1e5 * z, z))
    evidence = probe(model, x, torch.tensor([0, 0, 1, 0]), generator=seeded())
    assert evidence["zero gradients"] == 0.75
    assert evidence["non-finite"] == evidence["random output"] == evidence["softmax output"] == 0


def test_a_few_zero_gradients_are_no_flag():
    assert of_network({"zero gradients": 0.01}, "source") == set()
    assert of_network({"zero gradients": 0.011}, "source") == {"zero gradients"}
    assert of_network({"zero gradients": 1.0}, "network") == set()
    assert of_network({"unbounded survives": float("nan")}, "source") == set()


def test_probe_leaves_model_and_random_state_alone(batch_norm_net, x, y, seeded):
    modes, state = [m.training for m in batch_norm_net.modules()], torch.get_rng_state()
    tracked = batch_norm_net[1].num_batches_tracked.clone()
    probe(batch_norm_net, x, y, generator=seeded())
    assert [m.training for m in batch_norm_net.modules()] == modes
    assert batch_norm_net[1].num_batches_tracked == tracked
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("low", "high", "excess", "expected"),
    [
        (0.4, 0.5, 0.0, set()),
        (0.4, 0.501, 0.0, {"few images"}),
        (0.4, 0.5, 1e-7, set()),
        (0.4, 0.5, 2e-6, {"budget exceeded"}),
        (0.1, 0.9, 0.3, {"few images", "budget exceeded"}),
    ],
)
def test_flags_of_one_number(low, high, excess, expected):
    assert of_number(low, high, excess) == expected


def row(threat, eps=0.1, attack="pgd", **more):
    common = {"defence": "jsigr", "source": "itself", "source_defence": "", "norm": "linf"}
    return {**common, "threat": threat, "attack": attack, "eps": eps, **more}


def compared(*pairs, n=100):
    """Flags of rows given with their accuracy, the first images being those that are right."""
    rows = [row for row, _ in pairs]
    correct = [{"network": np.arange(n) < round(accuracy * n)} for _, accuracy in pairs]
    return of_comparison(rows, correct)


CLEAN, WHITE = row("clean", 0.0, ""), row("white-box")
TRANSFER = row("transfer", attack="mi-fgsm", source="mlp", source_defence="standard")
COMPARISONS = {
    "sound": ([(CLEAN, 0.9), (WHITE, 0.3), (TRANSFER, 0.6)], [set(), set(), set()]),
    "one point is nothing": ([(WHITE, 0.31), (TRANSFER, 0.30)], [set(), set()]),
    "transfer": ([(WHITE, 0.32), (TRANSFER, 0.3)], [{"beaten without gradients"}, set()]),
    "black box": ([(WHITE, 0.5), (row("black-box", attack="square"), 0.4)], [{"beaten without gradients"}, set()]),
    "another eps": ([(WHITE, 0.5), (row("black-box", 0.2, "square"), 0.4)], [set(), set()]),
    "another norm": ([(WHITE, 0.5), (row("white-box", norm="l2"), 0.4)], [set(), set()]),
    "another defence": ([(WHITE, 0.5), (TRANSFER | {"defence": "pgd"}, 0.4)], [set(), set()]),
    "restarts": ([(WHITE, 0.5), (row("white-box", attack="pgd-restarts"), 0.45)], [{"more effort helps"}, set()]),
    "transfer beside transfer": ([(TRANSFER, 0.6), (TRANSFER | {"attack": "fgsm"}, 0.4)], [set(), set()]),
    "eps": ([(WHITE, 0.3), (row("white-box", 0.2), 0.35)], [set(), {"not monotone"}]),
    "eps of another source": ([(TRANSFER, 0.3), (TRANSFER | {"eps": 0.2, "source": "vgg"}, 0.35)], [set(), set()]),
    "better than clean": ([(CLEAN, 0.5), (TRANSFER, 0.6)], [set(), {"not monotone"}]),
}


@pytest.mark.parametrize(("pairs", "expected"), COMPARISONS.values(), ids=COMPARISONS)
def test_flags_of_rows_against_each_other(pairs, expected):
    assert compared(*pairs) == expected
    assert compared(*reversed(pairs)) == expected[::-1]


def test_rows_are_compared_on_the_images_that_both_have():
    white, few = np.arange(100) < 50, np.ones(10, bool)  # .5 in all, 1 on the first ten
    black = row("black-box", attack="square")
    assert of_comparison([WHITE, black], [{0: white}, {0: few}]) == [set(), set()]
    few[:2] = False
    assert of_comparison([WHITE, black], [{0: white}, {0: few}]) == [{"beaten without gradients"}, set()]


def test_rows_are_compared_on_the_networks_that_both_have():
    """AutoAttack judges one seed of three, and a network is never its own source."""
    judge = row("white-box", attack="autoattack")
    white = {seed: np.arange(100) < right for seed, right in enumerate((60, 20, 20))}
    for right, raised in ((30, {"more effort helps"}), (60, set())):
        assert of_comparison([WHITE, judge], [white, {0: np.arange(100) < right}]) == [raised, set()]
    assert of_comparison([WHITE, judge], [white, {2: np.arange(100) < 30}]) == [set(), {"more effort helps"}]
    assert of_comparison([WHITE, judge], [white, {3: np.zeros(100, bool)}]) == [set(), set()]


def test_rows_may_say_less():
    """A grid's rows have no attack, source or norm."""
    rows = [{"lambda_j": 0.1, "threat": threat, "eps": eps} for threat, eps in (("clean", 0.0), ("transfer", 0.1))]
    worse, better = {0: np.zeros(50, bool)}, {0: np.ones(50, bool)}
    assert of_comparison(rows, [better, worse]) == [set(), set()]
    assert of_comparison(rows, [worse, better]) == [set(), {"not monotone"}]


def test_flags_are_documented_and_shown_in_order():
    assert all(
        flag.concerns in ("network", "source", "number") and flag.raised_if and flag.means for flag in FLAGS.values()
    )
    assert shown(set()) == "none"
    assert shown({"few images", "budget exceeded"}) == "budget exceeded; few images"
    comparisons = set(flags.COMPARISONS)
    probed = set(probe(Planted(), torch.rand(4, 1, 1, 2), torch.zeros(4, dtype=torch.long)))
    assert comparisons | probed | {"few images", "budget exceeded"} == set(FLAGS)
