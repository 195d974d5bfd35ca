import math

import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.measure import policies
from jsigr_lib.method.saliency import perturbation_saliency, upsample

SETTINGS = {"grid": 2, "mask_sigma": 1.0, "blur_sigma": 1.0}


def test_greydanus_is_the_vector_score(net, x):
    z, blurred = policies.blurred_logits(net, x, **SETTINGS)
    scores = policies.greydanus(z, blurred)
    assert scores.shape == (len(x), 4) and blurred.shape == (4, len(x), 3)
    expected = perturbation_saliency(net, x, z.argmax(1), **SETTINGS, score="vector")
    assert_close(upsample(scores, 2, x.shape[-2:]), expected)


def test_blurred_logits_leave_the_mode_and_no_graph(batch_norm_net, x):
    before = [module.training for module in batch_norm_net.modules()]
    z, blurred = policies.blurred_logits(batch_norm_net, x, **SETTINGS)
    assert [module.training for module in batch_norm_net.modules()] == before
    assert not z.requires_grad and not blurred.requires_grad


def by_hand(before: list[float], after: list[float]) -> float:
    """SARFA's score of probabilities, as its formula is written."""
    a = before.index(max(before))
    drop = before[a] - after[a]
    if drop <= 0:
        return 0.0
    rest, rest_after = ([p for i, p in enumerate(one) if i != a] for one in (before, after))
    r, s = ([p / sum(one) for p in one] for one in (rest, rest_after))
    keeps = 1 / (1 + sum(p * math.log(p / q) for p, q in zip(r, s, strict=True)))
    return 2 * drop * keeps / (drop + keeps)


@pytest.mark.parametrize(
    "after",
    [
        [0.2, 0.5, 0.2, 0.1],  # the action loses
        [0.6, 0.1, 0.2, 0.1],  # nothing changes
        [0.8, 0.1, 0.05, 0.05],  # it gains
        [0.3, 0.1 / 0.4 * 0.7, 0.2 / 0.4 * 0.7, 0.1 / 0.4 * 0.7],  # the others keep their proportions
    ],
)
def test_sarfa_by_hand(after):
    before = [0.6, 0.1, 0.2, 0.1]
    shift = torch.tensor([3.0, -2.0])  # logits are known up to a constant
    z = torch.tensor([before, before], dtype=torch.double).log() + shift[:, None]
    blurred = torch.tensor([after, before], dtype=torch.double).log()[:, None].expand(-1, 2, -1)
    expected = torch.tensor([[by_hand(before, after), 0.0]] * 2, dtype=torch.double)
    assert_close(policies.sarfa(z, blurred), expected, atol=1e-12, rtol=1e-9)


def test_sarfa_ignores_what_only_moves_the_others():
    """Where Greydanus et al.'s score sees a change."""
    z = torch.tensor([[2.0, 0.0, 1.0]])
    rest = torch.tensor([0.0, 1.0]).exp().sum()
    moved = torch.tensor([[[2.0, (rest / 2).log(), (rest / 2).log()]]])  # the action's probability is the same
    assert policies.sarfa(z, moved).abs().max() < 1e-6 and policies.greydanus(z, moved).min() > 0.01


def test_mass_is_the_sum_over_each_tile():
    gradient = torch.randn(2, 3, 6, 6)
    found = policies.mass(gradient, 3)
    assert_close(found[1, 5], gradient[1, :, 2:4, 4:6].abs().sum())
    assert_close(found.sum(1), gradient.abs().sum((1, 2, 3)))


def test_share():
    scores, places = torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([[False, True, True]] * 2)
    assert policies.share_of(scores, places).tolist() == [0.75, 0.0]
