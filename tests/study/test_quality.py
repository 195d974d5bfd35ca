"""Image quality: networks, artefacts and tables of a very small study."""

import numpy as np
import pandas as pd
import pytest
import torch

from jsigr_lib.data.photographs import VARIANTS, load
from jsigr_lib.measure.agreement import spearman
from jsigr_lib.method.errors import InputError
from jsigr_lib.networks.quality import attack, middle, network_of, scores
from jsigr_lib.study import quality
from jsigr_lib.study.config import load_profile

SIZES = {"train_sources": 2, "validation_sources": 1, "test_sources": 2, "crops": 1, "epochs": 1, "further_epochs": 1}
SIZES |= {"levels": [4.0], "pgd_steps": 2, "tried": {"nt": [0.00003, 0.01], "jacobian": [0.1]}}


@pytest.fixture(scope="module")
def small(tiny, tmp_path_factory):
    pytest.importorskip("piq")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jsigr_lib.measure.agreement.DRAWS", 50)
        yield tiny(tmp_path_factory.mktemp("quality"), quality=SIZES, seeds=[0, 1])


def test_networks_go_on_from_the_plain_one_of_their_seed(small):
    found = quality.networks(small)
    assert list(found) == ["plain", "nt", "jacobian"]
    for name, networks in found.items():
        assert [one.seed for one in networks] == [0, 1]
        assert [one.start for one in networks] == [one.start for one in found["plain"]], name
    assert len({one.digest for networks in found.values() for one in networks}) == 6


def test_the_chosen_network_of_the_first_seed_is_the_candidate(small):
    small.make(quality.specs(small))
    choice = quality.choices(small)["nt"]
    picked = choice.candidates[int(small.get(choice).tensors["chosen"])]
    first, second = quality.networks(small)["nt"]
    assert small.get(first).facts["strength"] == small.get(second).facts["strength"] == picked.strength
    ours, theirs = (small.get(one).tensors["score.weight"] for one in (first, picked))
    assert ours.equal(theirs) and not small.get(second).tensors["score.weight"].equal(ours)


def test_judged_is_what_the_network_says(small):
    spec = quality.judged(small)["nt"][1]
    small.make([spec])
    found, crops = small.get(spec).tensors, load(spec.data, small.store, "test")
    model, x = network_of(spec.network, small.store), crops.pixels()
    torch.testing.assert_close(found["clean"], scores(model, x))
    x_adv = attack(model, x, 4.0, steps=1, middle=middle(spec.data, small.store))
    torch.testing.assert_close(found["fgsm-4"], scores(model, x_adv))
    assert found.keys() == {"clean", "slope", "fgsm-4", "pgd-4", "seen"}
    assert ((found["seen"] > 0) & (found["seen"] <= 1)).all() and (found["slope"] > 0).all()


def test_tables(small):
    table = quality.agreement_table(small).set_index(["training", "attack"])
    assert len(table) == 3 * 3 and (table.images == 2 * len(VARIANTS)).all() and (table.seeds == 2).all()
    assert (table.loc[(slice(None), ""), "moved"] == 0).all()
    truth, said = quality.labels(small), quality.values(small, "clean")["nt"]
    expected = np.mean([spearman(one.reshape(1, -1), truth.reshape(1, -1)) for one in said])
    assert table.loc[("NT", ""), "srcc"] == pytest.approx(expected)
    gains = quality.gains_table(small).set_index(["quantity", "a", "b"])
    difference = table.loc[("NT", "PGD"), "moved"] - table.loc[("no defence", "PGD"), "moved"]
    assert gains.loc[("moved by PGD", "NT", "no defence"), "difference"] == pytest.approx(difference)
    assert ((gains.low <= gains.high) & (gains.images == 42)).all()
    slopes = quality.slopes_table(small).set_index("training")
    assert slopes.predicted.to_numpy() == pytest.approx(4 / 255 * slopes.slope.to_numpy())
    assert len(quality.distortions_table(small)) == 3 * 4
    tried = quality.strengths_table(small)
    assert list(tried.training) == ["no defence", "NT", "NT", "Jacobian"] and (tried.chosen == "yes").sum() == 2
    assert tried.cost[0] == 1 and tried.cost[1] == tried.cost[2] > 2  # two passes more than without NT


def test_tables_can_be_saved_and_say_their_footer(small):
    small.save_table(quality.slopes_table(small), "quality_slopes")
    small.save_table(quality.strengths_table(small), "quality_strengths")
    saved = pd.read_csv(small.out / "quality_strengths.csv")
    assert set(saved.strength[saved.training == "NT"]) == set(small.profile.quality.tried["nt"])  # small ones, too
    assert "2 training, 1 validation and 2 test photographs, 21 pictures of each" in quality.footer(small)


def test_examples_are_of_a_test_source(small):
    images, labels, said = quality.examples(small)
    assert images.shape == (len(VARIANTS), 3, 64, 64) and labels.shape == said.shape == (len(VARIANTS),)
    assert labels[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"quality.levels": []}, "quality.levels"),
        ({"quality.levels": [2.0, 2.0]}, "different values"),
        ({"quality.crops": 0}, "quality.crops"),
        ({"quality.tried": {"plain": [1.0]}}, "objective in tried"),
        ({"quality.tried": {"nt": [-1.0]}}, "quality.tried"),
        ({"quality.pictures": 3}, "quality.pictures"),
    ],
)
def test_bad_sizes_end_in_one_line(setting, said):
    with pytest.raises(InputError, match=said) as error:
        load_profile("neighbours", **setting)
    assert "\n" not in str(error.value)
