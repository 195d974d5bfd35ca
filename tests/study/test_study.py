import hashlib
import json
import math
import shutil

import pandas as pd
import pytest
import torch

from jsigr_lib.data.data import SPLIT_SEED
from jsigr_lib.method.errors import InputError
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records import record
from jsigr_lib.records.tolerances import EXACT, SHARE, Tolerance, declare
from jsigr_lib.store.paths import RUNS
from jsigr_lib.study.study import SURROGATE_SEED, Study, Subject


def test_training_spec_says_what_the_profile_says(study):
    p = study.profile
    spec = study.training("jsigr")
    assert isinstance(spec, Training)
    assert (spec.data, spec.architecture, spec.width, spec.seed) == (study.data, "small-cnn", 8, 0)
    assert (spec.epochs, spec.batch_size, spec.learning_rate, spec.augment) == (1, 16, p.learning_rate, False)
    assert spec.objective == "jsigr"
    assert dict(spec.options) == p.options("jsigr")
    assert list(spec.options) == sorted(spec.options)
    assert spec.teacher is None
    other = study.training("pgd", architecture="mlp", seed=8)
    assert (other.architecture, other.width, other.seed, other.objective) == ("mlp", 32, 8, "adversarial")


def test_options_replace_the_defences_own(study):
    changed = study.training("jsigr", lambda_j=0.5)
    assert dict(changed.options) == {**study.profile.options("jsigr"), "lambda_j": 0.5}
    assert changed.digest != study.training("jsigr").digest
    assert study.training("jsigr", lambda_j=0.0, lambda_s=0.0) == study.training("standard")


def test_unknown_defence(study):
    with pytest.raises(InputError, match=r"^unknown defence 'magic'; accepted: standard, "):
        study.training("magic")
    with pytest.raises(InputError, match=r"^unknown defence 'magic'; accepted: standard, "):
        study.surrogate("mlp", "magic")


def test_surrogates_are_undefended_networks_of_their_own(study):
    spec = study.surrogate("vgg")
    standard = study.training("standard", architecture="vgg")
    assert (spec.seed, spec.architecture, spec.width) == (SURROGATE_SEED, "vgg", 4)
    assert (spec.objective, spec.options) == (standard.objective, standard.options)
    everyone = [network for networks in study.targets().values() for network in networks]
    assert spec.digest not in {network.digest for network in [*everyone, standard]}


@pytest.mark.parametrize("defence", ["standard", "jsigr", "pgd", "interpretation", "fast-jsigr"])
def test_defended_surrogates_are_no_targets(study, defence):
    """They differ from the network of the same defence and architecture in their seed, and so do their teachers."""
    spec, target = study.surrogate("small-cnn", defence), study.training(defence)
    changed = {"seed": SURROGATE_SEED, "teacher": study.surrogate("small-cnn") if target.teacher else None}
    assert spec == target.model_copy(update=changed)
    everyone = [network for networks in study.targets().values() for network in networks]
    assert spec.digest not in {network.digest for network in everyone}
    assert len({study.surrogate("small-cnn", name).digest for name in study.labels}) == len(study.labels)


def test_surrogates_have_their_own_epochs(tiny, study):
    longer = tiny(study.store.root, surrogate_epochs=4)
    assert longer.surrogate("mlp").epochs == longer.surrogate("mlp", "pgd").epochs == 4
    assert longer.surrogate("mlp", "interpretation").teacher == longer.surrogate("mlp")
    assert longer.training("standard") == study.training("standard")


def test_targets_are_every_architecture_defence_and_seed(tiny, study):
    several = tiny(study.store.root, architectures=["small-cnn", "resnet8"], seeds=[3, 1])
    targets = several.targets()
    assert list(targets) == [(a, d) for a in ("small-cnn", "resnet8") for d in several.profile.defences]
    for (architecture, defence), networks in targets.items():
        assert networks == [several.training(defence, architecture=architecture, seed=seed) for seed in (3, 1)]
    assert several.architecture == "small-cnn"
    assert several.training("standard").seed == 3
    assert len({network.digest for networks in targets.values() for network in networks}) == 4 * len(
        several.profile.defences
    )


def test_a_defence_may_have_fewer_seeds_and_not_be_everywhere(tiny, study):
    defences = {name: defence.model_dump() for name, defence in study.profile.defences.items()}
    defences["pgd"]["seeds"] = 1
    several = tiny(
        study.store.root,
        architectures=["small-cnn", "resnet8"],
        seeds=[3, 1],
        defences=defences,
        everywhere=["standard", "jsigr", "pgd"],
    )
    targets = several.targets()
    assert [defence for architecture, defence in targets if architecture == "resnet8"] == ["standard", "jsigr", "pgd"]
    assert [defence for architecture, defence in targets if architecture == "small-cnn"] == list(defences)
    assert [one.seed for one in targets["resnet8", "pgd"]] == [3]
    assert [one.seed for one in targets["small-cnn", "jsigr"]] == [3, 1]


def test_replications_are_named_after_their_data(tiny, tmp_path):
    study = tiny(runs=tmp_path / "runs", replications=["full-mnist", "full-cifar10"])
    assert study.replications == {"full-mnist": "MNIST", "full-cifar10": "CIFAR-10 (JPEG copy)"}
    assert study.profile.data_title == "Fashion-MNIST"


def test_a_table_of_another_run_is_read_and_noted(tiny, tmp_path, monkeypatch, publish):
    monkeypatch.setattr("jsigr_lib.study.study.FIGURES", tmp_path)
    study = tiny(runs=tmp_path / "runs", out=tmp_path / "out")
    assert study.published("other", "numbers") is None and study.read == {}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "numbers.csv").write_text("what,value\n,0.5\n")
    with pytest.raises(
        InputError, match=r"numbers.csv is not the table that manifest.json beside it names; accepted: "
    ):
        study.published("other", "numbers")
    publish(tmp_path / "other")
    table = study.published("other", "numbers")
    assert table.to_dict("records") == [{"what": "", "value": 0.5}]
    study.save_table(declare(table, "what", value=EXACT), "kept")
    tables = record.parts(study.out / "kept.json")["table"].tables
    assert tables == {"other/numbers.csv": hashlib.sha256(b"what,value\n,0.5\n").hexdigest()}
    (tmp_path / "other" / "numbers.csv").write_text("what,value\n,0.6\n")
    with pytest.raises(InputError, match="--profile other"):
        study.published("other", "numbers")


def test_teacher_is_the_standard_network_of_the_same_seed(tiny, study):
    defences = {name: defence.model_dump() for name, defence in study.profile.defences.items()}
    defences["jsigr"]["teacher"] = True
    taught = tiny(study.store.root, defences=defences)
    for name in ("jsigr", "interpretation"):
        assert taught.training(name, seed=5).teacher == taught.training("standard", seed=5)
        mlp = taught.training(name, architecture="mlp", seed=5)
        assert mlp.teacher == taught.training("standard", architecture="mlp", seed=5)
    assert taught.training("jsigr").guide.holds == "selection"
    assert taught.training("interpretation").guide.holds == "gradient"
    assert taught.training("sigr").teacher is None
    assert [name for name in study.labels if study.training(name).teacher] == ["interpretation"]


def test_labels_are_the_profiles(study):
    assert list(study.labels) == list(study.profile.defences)
    assert study.labels["jsigr"] == "J-SIGR"


def test_batches_are_the_first_images(study):
    x, y = study.batch("validation", 3)
    assert torch.equal(x, study.dataset.validation.images[:3].float() / 255)
    assert torch.equal(y, study.dataset.validation.labels[:3])
    assert len(study.batch("test", 99)[1]) == 32


def test_attacks_have_to_fit_the_data(tiny, study, tmp_path, image_folder):
    with pytest.raises(InputError, match=r"^eps_l2 = 28.1 is out of range; accepted: 0 to 28$"):
        _ = tiny(study.store.root, eps_l2=28.1).dataset
    for label in ("cat", "dog"):
        for part in ("train", "test"):
            shutil.copytree(image_folder / part / label, tmp_path / part / label)
    sizes = {"train_images": 10, "validation_images": 5, "test_images": 10, "saliency_images": 2}
    pictures = {"dataset": "folder", "data_root": str(tmp_path), **sizes}
    two = tiny(study.store.root, **pictures, autoattack=["jsigr"])
    with pytest.raises(InputError, match="number of classes, with AutoAttack, = 2 is out of range; accepted: 4 to"):
        _ = two.dataset
    assert tiny(study.store.root, **pictures).dataset.classes


def test_model_is_the_trained_one(study):
    x, _ = study.batch("test", 4)
    spec = study.training("standard")
    model = study.model(spec)
    assert torch.equal(model.state_dict()["1.weight"], study.get(spec).tensors["1.weight"])
    assert torch.equal(model(x), study.model(spec)(x))


def test_generator_is_seeded(study):
    first, again, other = (torch.rand(3, generator=study.generator(*seed)) for seed in ((), (0,), (1,)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_make_reports_progress(tiny, tmp_path):
    made = []
    fresh = tiny(tmp_path, progress=lambda spec, done, total: made.append((spec.kind, done / total)))
    fresh.make([fresh.training("standard")])
    assert [kind for kind, _ in made] == ["data", "model"]
    assert made[-1][1] == pytest.approx(1)
    fresh.make([fresh.training("standard")])
    assert len(made) == 2


def test_table_is_written_as_csv_and_markdown(tiny, study, tmp_path):
    writer = tiny(study.store.root, out=tmp_path / "deep" / "folder")
    table = pd.DataFrame({"defence": ["a|b", "ü"], "accuracy": [0.123456, 1 / 3], "n": [5, 6]})
    given = writer.save_table(declare(table, "defence", accuracy=SHARE, n=EXACT), "numbers")
    assert given.accuracy.tolist() == [0.1235, 0.3333]
    assert table.accuracy.tolist() == [0.123456, 1 / 3]
    pd.testing.assert_frame_equal(pd.read_csv(writer.out / "numbers.csv"), given)
    assert (writer.out / "numbers.csv").read_bytes() == "defence,accuracy,n\na|b,0.1235,5\nü,0.3333,6\n".encode()
    lines = (writer.out / "numbers.md").read_text().splitlines()
    assert len(lines) == 4
    assert "0.1235" in lines[2] and "0.3333" in lines[3]
    assert sorted(path.name for path in writer.out.iterdir()) == ["numbers.csv", "numbers.json", "numbers.md"]


def test_table_says_in_its_record_how_it_is_compared(tiny, study, tmp_path):
    writer = tiny(study.store.root, out=tmp_path / "new")
    table = pd.DataFrame({"defence": ["jsigr"], "mean": [1.0], "low": [0.5], "high": [1.5], "cost": [2.0]})
    writer.save_table(declare(table, "defence", cost=EXACT), "numbers")
    columns = record.parts(writer.out / "numbers.json")["table"].columns
    assert columns.keys == ["defence"]
    assert columns.tolerances == {"cost": Tolerance(absolute=0, relative=0)}


def test_table_with_numbers_of_unknown_tolerance_is_refused(tiny, study, tmp_path):
    """Whatever type they have; text, keys, what stands beside its interval and what every table has need none."""
    writer = tiny(study.store.root, out=tmp_path / "new")
    table = pd.DataFrame({"defence": ["jsigr"], "eps": [0.1], "images": [5], "mean": [1], "low": [0], "high": [2]})
    for cost in (2.0, 2, "2.5", "1e-9"):
        with pytest.raises(InputError, match=r"^column 'cost' has numbers without .*; accepted: ") as error:
            writer.save_table(declare(table.assign(cost=["none", cost][1:]), "defence", "eps"), "numbers")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="'eps'"):
        writer.save_table(table.copy(), "numbers")
    assert not (tmp_path / "new").exists()
    writer.save_table(declare(table.assign(holds=True, said="more", empty=math.nan), "defence", "eps"), "numbers")


def test_seeds_are_those_of_all_networks_and_of_the_split(tiny, study, tmp_path):
    several = tiny(study.store.root, seeds=[3, 1], out=tmp_path)
    several.save_files("numbers", {"csv": b""}, kind="table")
    seeds = json.loads((several.out / "numbers.json").read_text())["table"]["seeds"]
    assert seeds == {"networks": [3, 1], "surrogates": SURROGATE_SEED, "split": SPLIT_SEED}
    assert several.surrogate("mlp").seed == SURROGATE_SEED


def test_measured_values_are_json(tiny, study, tmp_path):
    writer = tiny(study.store.root, out=tmp_path / "new")
    writer.save_measured("seconds", {"standard": 1.5})
    assert json.loads((tmp_path / "new" / "seconds.json").read_text()) == {"standard": 1.5}


def test_footer_says_where_a_figure_comes_from(tiny, study):
    assert study.footer == "smoke profile: Fashion-MNIST, 512 training images, 1 epoch, 1 seed"
    more = tiny(study.store.root, train_images=20_000, epochs=5, seeds=[0, 1])
    assert more.footer == "smoke profile: Fashion-MNIST, 20,000 training images, 5 epochs, 2 seeds"


def test_on_another_subject(tiny, study, tmp_path):
    """Figures and records of a notebook that is not about the profile's data say so; those of the study stay."""
    writer = tiny(study.store.root, out=tmp_path)
    other = writer.on(Subject("rooms", "0123456789abcdef", "9 states", seeds=(4, 5)))
    assert other.footer == "smoke profile: rooms, 9 states, 2 seeds" and "Fashion-MNIST" in writer.footer
    assert writer.on(Subject("rooms", "0123456789abcdef", "9 states")).seeds == writer.seeds == [0]
    records = {}
    for name, one in {"mine": writer, "theirs": other}.items():
        one.save_files(name, {"csv": b""}, kind="table")
        records[name] = json.loads((tmp_path / f"{name}.json").read_text())["table"]
    assert records["theirs"]["data"] == {"name": "rooms", "content": "0123456789abcdef"}
    assert records["mine"]["data"]["name"] == "Fashion-MNIST"
    assert [records[one]["seeds"]["networks"] for one in ("mine", "theirs")] == [[0], [4, 5]]
    assert study.data.digest in records["mine"]["artefacts"]["data"] and "data" not in records["theirs"]["artefacts"]


def test_folders_by_default():
    plain = Study("smoke")
    assert plain.store.root == RUNS
    assert plain.out == RUNS / "figures" / "smoke"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "tiny"}, "unknown profile 'tiny'; accepted: "),
        ({"device": "tpu"}, "unknown device 'tpu'; accepted: auto, cpu, cuda"),
        ({"jobs": -2}, "jobs = -2; accepted: "),
        ({"epocs": 3}, "unknown field 'epocs'; accepted: "),
        ({"eps": 8}, "eps = 8: "),
        ({"dataset": "folder"}, "data_root = '' has no train/; accepted: "),
        ({"data_root": "/nowhere/at/all"}, "/nowhere/at/all/train-images-idx3-ubyte.gz is missing"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, options, message):
    with pytest.raises(InputError) as error:
        Study(**{"profile": "smoke", "runs": tmp_path / "runs", "out": tmp_path / "out", **options})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
