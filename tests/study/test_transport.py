"""OTJR taken apart: artefacts and tables of the tiny study."""

import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.method.adversarial_training import moves
from jsigr_lib.study import transport


@pytest.fixture(scope="module")
def found(study):
    spec = transport._directions(study, study.training("pgd"))
    study.make([spec])
    return study.get(spec).tensors


def test_directions_see_no_more_than_the_best_and_random_ones_about_one(found):
    for name in ("transport", "pairs", "random"):
        assert (found[name] <= found["best"] * (1 + 1e-5)).all()
    assert 0.7 < found["random"].mean() < 1.3 and (found["best"] >= 1 - 1e-5).all()


def test_seen_by_hand():
    jacobian = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    assert_close(transport._seen(jacobian, torch.tensor([[1.0, 0.0]])), torch.tensor([2 * 9 / 25]))
    assert_close(transport._seen(jacobian, torch.tensor([[0.0, 1.0]])), torch.tensor([2 * 16 / 25]))


def test_apart_is_of_the_batch(found, study):
    network = study.training("pgd")
    model = study.model(network)
    x, _ = study.batch("test", len(found["apart"]))
    x_adv = study.get(transport._directions(study, network).attacked).tensors["images"]
    generator = torch.Generator().manual_seed(network.seed)
    theta = torch.randn(transport.SLICES, model(x).shape[1], generator=generator)
    theta = theta / theta.norm(dim=1, keepdim=True)
    with torch.no_grad():
        delta = moves(model(x_adv) @ theta.T, model(x) @ theta.T)
    assert_close(found["apart"], delta.square().mean(1), rtol=1e-3, atol=1e-5)


def test_every_plainer_idea_is_another_network(study):
    rows = transport.trainings(study)
    networks = [one for row in rows.values() for one in row]
    assert len({one.digest for one in networks}) == len(networks)
    own = rows[study.labels["otjr"]][0]
    for name, options in transport.PLAINER.items():
        assert dict(rows[name][0].options) == {**dict(own.options), **options}
