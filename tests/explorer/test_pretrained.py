"""Pretrained networks: what is exported comes back, and what is committed is whole and as accurate as it says."""

import hashlib
import os
import re
import sys

import pytest
import torch

from jsigr_lib import cli
from jsigr_lib.data import photographs
from jsigr_lib.explorer import pretrained
from jsigr_lib.measure.statistics import proportion
from jsigr_lib.method import attacks
from jsigr_lib.method.errors import InputError
from jsigr_lib.networks.training import predict
from jsigr_lib.store.paths import DATA, PRETRAINED
from jsigr_lib.store.tensor_files import read
from jsigr_lib.study.config import load_profile
from jsigr_lib.study.sources import headline_attack
from jsigr_lib.study.study import Study
from tests.strangers import each_stranger, promptly

DEFENCES = ["standard", "input-gradient", "jacobian", "sigr", "jsigr", "jsigr-l1", "pgd", "fast"]
SOURCES = ["source-mlp", "source-vgg", "source-small-cnn"]
NAMES = DEFENCES + SOURCES
PHOTOGRAPHS = [name for name in DEFENCES if name != "jsigr-l1"]
PHOTOGRAPHS += ["source-vgg-bn", "source-resnet9", "source-resnet18", "source-resnet8-strided"]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHIPPED = {"fashion-mnist": NAMES, "cifar10": PHOTOGRAPHS}
FILES = {f"{name}.{kind}" for name in NAMES for kind in ("safetensors", "md")} | {"SHA256SUMS"}


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    """What the tiny study exports."""
    folder = tmp_path_factory.mktemp("pretrained")
    pretrained.export(study, folder=folder)
    return folder / "fashion-mnist"


@pytest.fixture
def own(folder, tmp_path):
    """A copy to damage."""
    copy = tmp_path / "fashion-mnist"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def spec_of(study, name):
    own = name.removeprefix("source-")
    return study.training(name) if own == name else study.surrogate(own)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of(card: str) -> list[list[str]]:
    """Cells of the card's table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.+\|$", card, re.M)[2:]]


# what is exported comes back


def test_names_and_files(folder):
    assert pretrained.names(folder=folder.parent) == NAMES
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["fashion-mnist"]  # nothing left beside it


@pytest.mark.parametrize("name", NAMES)
def test_network_is_the_trained_one_in_half_precision(study, folder, name):
    trained = study.get(spec_of(study, name)).tensors
    stored, loaded = (
        read(folder / f"{name}.safetensors").tensors,
        pretrained.load(name, folder.parent).model.state_dict(),
    )
    assert trained.keys() == stored.keys() == loaded.keys()
    buffers = {"0.mean", "0.std"}
    assert {key for key, value in stored.items() if value.dtype == torch.float32} == buffers
    assert any(not torch.equal(trained[key].half().float(), trained[key]) for key in buffers)  # they have more digits
    for key, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, trained[key] if key in buffers else trained[key].half().float())
        torch.testing.assert_close(value, trained[key], rtol=2**-11, atol=2**-24)


def test_network_is_ready_to_use(folder):
    one = pretrained.load("jsigr", folder.parent)
    assert not any(module.training for module in one.model.modules())
    assert not any(parameter.requires_grad for parameter in one.model.parameters())
    assert one.model[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert (one.label, one.facts["name"], len(one.classes), one.classes[0]) == ("J-SIGR", "jsigr", 10, "T-shirt")


@pytest.mark.parametrize("name", NAMES)
def test_predictions_agree(study, folder, name):
    x, _ = study.batch("test", 32)
    with torch.no_grad():
        expected, found = study.model(spec_of(study, name))(x), pretrained.load(name, folder.parent).model(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    top = expected.topk(2).values
    clear = top[:, 0] - top[:, 1] > 0.02
    assert clear.float().mean() > 0.5
    assert torch.equal(found.argmax(1)[clear], expected.argmax(1)[clear])


@pytest.mark.parametrize("name", NAMES)
def test_facts_say_what_was_trained(study, folder, name):
    spec, facts = spec_of(study, name), pretrained.load(name, folder.parent).facts
    for key in ("architecture", "width", "objective", "epochs", "batch_size", "learning_rate", "seed"):
        assert facts[key] == getattr(spec, key)
    assert facts["options"] == dict(spec.options)
    assert facts["data"] == spec.data.model_dump(mode="json")
    assert facts["shape"] == study.dataset.shape
    assert facts["parameters"] == sum(p.numel() for p in study.model(spec).parameters())
    assert (facts["profile"], facts["command"]) == ("smoke", "jsigr pretrained --profile smoke")
    assert facts["torch"] == torch.__version__


@pytest.mark.parametrize("name", NAMES)
def test_accuracies_are_those_of_the_stored_network(study, folder, name):
    one, test = pretrained.load(name, folder.parent), study.dataset.test
    x, y = study.batch("test", len(test))
    given = {"clean": x}
    if name in DEFENCES:
        given["transferred"] = study.get(headline_attack(study, "small-cnn")).tensors["images"]
        given["white-box"] = attacks.pgd(one.model, x, y, eps=0.1, steps=2, generator=study.generator())
    assert list(one.facts["accuracy"]) == list(given)
    for threat, images in given.items():
        with torch.no_grad():
            right = one.model(images).argmax(1) == y
        k, n, z = int(right.sum()), len(y), 1.959964
        middle = (k + z * z / 2) / (n + z * z)  # Wilson 1927
        half = z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
        measured = one.facts["accuracy"][threat]
        found = [measured[key] for key in ("accuracy", "low", "high")]
        assert found == pytest.approx([k / n, middle - half, middle + half], abs=1e-4)
        assert measured["images"] == n
    assert one.facts["accuracy"].get("transferred", {}).get("source") == ("mlp" if name in DEFENCES else None)


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_the_facts_say(folder, name):
    facts, text = pretrained.load(name, folder.parent).facts, (folder / f"{name}.md").read_text()
    measured = facts["accuracy"].values()
    numbers = [f"{one['accuracy']:.3f} [{one['low']:.3f}, {one['high']:.3f}] {one['images']}" for one in measured]
    assert [" ".join(cells[1:]) for cells in rows_of(text)] == numbers
    assert sha256(folder / f"{name}.safetensors") in text
    words = " ".join(text.split())
    assert text.startswith(f"# {facts['label']}\n")
    for said in (f"{facts['parameters']:,} parameters", "512 of its training images", "MIT", "not for production"):
        assert said in words
    assert f"1 epoch, batches of 16, learning rate 0.004, seed {0 if name in DEFENCES else 1000};" in words
    assert all(f"{key} {value}" in words for key, value in facts["options"].items())
    assert f"\n    {facts['command']}\n" in text
    assert ("gradient and perturbation maps" if name in DEFENCES else "source of transferred attacks") in words
    assert all(len(line) <= 120 for line in text.splitlines())


def test_second_export_is_the_same_to_the_byte_and_replaces_the_first(study, own):
    before = contents(own)
    (own / "stale.safetensors").write_text("of an earlier set")
    (own / "jsigr.md").unlink()
    pretrained.export(study, folder=own.parent)
    assert contents(own) == before
    assert [path.name for path in own.parent.iterdir()] == ["fashion-mnist"]


def test_a_set_is_of_its_own_data(study, own):
    before = contents(own)
    with pytest.raises(InputError, match="set of networks 'cifar10' from data called 'Fashion-MNIST'; accepted"):
        pretrained.export(study, "cifar10", own.parent)
    assert contents(own) == before and [path.name for path in own.parent.iterdir()] == ["fashion-mnist"]


def test_export_that_fails_leaves_what_was_there(study, own, monkeypatch):
    before, calls = contents(own), []
    measured = pretrained._measured

    def third_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return measured(*arguments)

    monkeypatch.setattr(pretrained, "_measured", third_fails)
    with pytest.raises(RuntimeError, match="power cut"):
        pretrained.export(study, folder=own.parent)
    assert contents(own) == before


@pytest.mark.parametrize("steps", [0, 1])
def test_export_that_is_killed_between_its_renames_leaves_a_set(study, own, monkeypatch, steps):
    """The old one, or as soon as anyone reads it the new one."""
    before, left = contents(own), [os.rename] * steps
    (own / "stale.md").touch()
    with monkeypatch.context() as killed, pytest.raises(IndexError):
        killed.setattr(os, "rename", lambda *args: left.pop()(*args))
        pretrained.export(study, folder=own.parent)
    assert own.exists() == (steps == 0)
    assert pretrained.load("jsigr", own.parent).label
    assert contents(own) == (before if steps else {**before, "stale.md": b""})
    pretrained.export(study, folder=own.parent)
    assert [path.name for path in own.parent.iterdir()] == ["fashion-mnist"]


# what is not whole is refused


@each_stranger
@pytest.mark.parametrize("name", ["jsigr.safetensors", "SHA256SUMS"])
def test_a_stranger_is_refused_at_once(own, stranger, name):
    (own / name).unlink()
    stranger(own / name)
    with promptly(), pytest.raises(InputError, match=rf"fashion-mnist/{name} (is missing|cannot be read)"):
        pretrained.load("jsigr", own.parent)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def altered(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swapped(path):
    path.write_bytes((path.parent / "pgd.safetensors").read_bytes())


@pytest.mark.parametrize("damage", [truncated, altered, swapped, lambda path: path.write_bytes(b"")])
def test_damaged_file_is_refused_by_name(own, damage):
    damage(own / "jsigr.safetensors")
    with pytest.raises(InputError, match=r"fashion-mnist/jsigr\.safetensors is truncated or altered"):
        pretrained.load("jsigr", own.parent)
    pretrained.load("pgd", own.parent)


@pytest.mark.parametrize("missing", ["jsigr.safetensors", "SHA256SUMS"])
def test_missing_file_is_refused_by_name(own, missing):
    (own / missing).unlink()
    with pytest.raises(InputError, match=f"fashion-mnist/{missing} is missing"):
        pretrained.load("jsigr", own.parent)


def test_nothing_is_unpickled(own):
    """Not even if its sum says that the file is right."""
    path = own / "jsigr.safetensors"
    before = sha256(path)
    torch.save({"0.mean": torch.zeros(1)}, path)
    sums = own / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, sha256(path)))
    with pytest.raises(InputError, match="no complete artefact"):
        pretrained.load("jsigr", own.parent)


@pytest.mark.parametrize("name", ["jsgir", "", "../fashion-mnist/jsigr", "svhn/jsigr", "vgg", None])
def test_unknown_name_is_refused_with_the_known_ones(folder, name):
    with pytest.raises(InputError) as error:
        pretrained.load(name, folder.parent)
    assert str(error.value) == f"unknown pretrained network {name!r}; accepted: {', '.join(NAMES)}"


# words


@pytest.mark.parametrize(
    ("defence", "said", "unsaid"),
    [
        ("standard", ["the cross-entropy"], ["times", "attacked", "estimator"]),
        ("input-gradient", ["1 times the squared L2 norm of the input gradient"], ["selection", "Jacobian"]),
        ("jacobian", ["0.01 times", "Jacobian", "single-pass"], ["input gradient", "selection"]),
        ("sigr", ["3 times", "outside the selection (hard, share 0.4)"], ["Jacobian"]),
        ("jsigr", ["0.01 times", "3 times", "Jacobian", "selection", "a share 0.1 of the images"], ["L1", "attacked"]),
        ("jsigr-l1", ["squared L1 norm", "10 times"], ["L2"]),
        ("pgd", ["attacked", "7 steps, eps 0.1"], ["times", "estimator"]),
        ("fast", ["attacked", "1 step, eps 0.1"], ["times", "estimator"]),
        ("fast-jsigr", ["attacked", "0.001 times", "0.3 times"], []),
        ("trades", ["`trades`"], []),
    ],
)
def test_objective_in_words(defence, said, unsaid):
    profile, facts = load_profile("quick"), pretrained.load("jsigr").facts
    trained = {"objective": profile.defences[defence].objective, "options": profile.options(defence)}
    card = " ".join(pretrained.card({**facts, **trained}, "0" * 64).split())
    words = re.search(r"It minimises (.+?)\. \d+ epoch", card)[1]
    assert [part for part in said if part not in words] == []
    assert [part for part in unsaid if part in words] == []


# what lies in the repository


@pytest.fixture(scope="module")
def quick():
    return Study("quick")


@pytest.fixture(scope="module")
def bundled():
    """The first 200 test images as float in [0, 1], and their labels."""
    x, y = pretrained.images(200)
    return x.float() / 255, y


@pytest.mark.parametrize(("of", "names"), SHIPPED.items())
def test_committed_set_is_whole_and_small(of, names):
    folder, kinds = PRETRAINED / of, ("safetensors", "md")
    assert {path.name for path in folder.iterdir()} == {"SHA256SUMS", *(f"{n}.{k}" for n in names for k in kinds)}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    lines = [f"{sha256(folder / f'{name}.safetensors')}  {name}.safetensors\n" for name in names]
    assert (folder / "SHA256SUMS").read_text() == "".join(lines)


@pytest.mark.parametrize(("of", "name"), [(of, name) for of, names in SHIPPED.items() for name in names])
def test_committed_card_is_that_of_the_file(of, name):
    path = PRETRAINED / of / f"{name}.safetensors"
    assert path.with_suffix(".md").read_text() == pretrained.card(read(path).facts, sha256(path), of)


@pytest.mark.parametrize(("of", "names"), SHIPPED.items())
def test_data_readme_lists_what_is_there(of, names):
    text = (DATA / "README.md").read_text()
    assert pretrained.table(of) in text
    assert re.findall(rf"\]\(pretrained/{of}/(.+?)\.md\)", text) == names
    assert pretrained.names(of) == (names if of == "fashion-mnist" else [f"{of}/{name}" for name in names])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_committed_network_for_photographs_is_one_of_the_full_cifar10_profile(name):
    """Whose data cannot come with the repository."""
    one, p = pretrained.load(f"cifar10/{name}"), load_profile("full-cifar10")
    facts, own = one.facts, name.removeprefix("source-")
    assert facts["options"] == p.options(name if own == name else "standard")
    assert (facts["architecture"], facts["seed"]) == (("resnet8-strided", 0) if own == name else (own, 1000))
    assert facts["epochs"] == (p.epochs if own == name else p.surrogate_epochs)
    assert facts["command"] == "jsigr pretrained --profile full-cifar10 --of cifar10"
    assert one.classes == CLASSES
    x, _ = photographs.squares(32)
    assert one.model(x.float() / 255).isfinite().all()
    assert facts["accuracy"]["clean"]["accuracy"] > 0.6


@pytest.mark.parametrize("name", NAMES)
def test_committed_network_is_one_of_the_quick_profile(quick, name):
    facts, spec = pretrained.load(name).facts, spec_of(quick, name)
    described = {**spec.model_dump(mode="json", exclude={"teacher"}), "options": dict(spec.options)}
    assert {key: facts[key] for key in described} == described
    assert facts["command"] == "jsigr pretrained --profile quick"
    assert facts["label"] == quick.labels.get(name, f"source ({spec.architecture})")


@pytest.mark.parametrize("name", NAMES)
def test_committed_network_is_as_accurate_as_its_card_says(quick, name):
    one = pretrained.load(name)
    accuracy = (predict(one.model, quick.dataset.test) == quick.dataset.test.labels).double().mean().item()
    assert accuracy == pytest.approx(
        one.facts["accuracy"]["clean"]["accuracy"], abs=0.002
    )  # another machine's rounding
    assert accuracy > 0.8
    assert one.classes == quick.dataset.classes


def overlap(right, measured) -> bool:
    _, low, high = proportion(right.numpy())
    return low <= measured["high"] and measured["low"] <= high


@pytest.mark.parametrize("name", DEFENCES)
def test_committed_networks_withstand_what_their_cards_say(bundled, name):
    """Remade from the committed files alone, on fewer images: hence intervals."""
    x, y = bundled
    one, source = pretrained.load(name), pretrained.load("source-mlp").model
    x_adv = attacks.mi_fgsm(source, x, y, eps=0.1)
    assert overlap(one.model(x_adv).argmax(1) == y, one.facts["accuracy"]["transferred"])
    few = slice(0, 100)
    x_adv = attacks.pgd(one.model, x[few], y[few], eps=0.1, steps=20, generator=torch.Generator().manual_seed(1))
    assert overlap(one.model(x_adv).argmax(1) == y[few], one.facts["accuracy"]["white-box"])


def test_images_are_the_first_of_the_fixed_test_split(study):
    x, y = pretrained.images(32)
    assert (x.dtype, x.shape, y.dtype) == (torch.uint8, (32, 1, 28, 28), torch.int64)
    assert torch.equal(x, study.dataset.test.images)
    assert torch.equal(y, study.dataset.test.labels)


@pytest.mark.parametrize("n", [0, 1001])
def test_images_that_are_not_there_are_refused(n):
    with pytest.raises(InputError, match="accepted: 1 to 1000"):
        pretrained.images(n)


# the command


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["jsigr", "pretrained", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code or 0, capsys.readouterr().err


def test_command_exports_the_profile_and_shows_the_table(monkeypatch, capsys):
    exported = []
    monkeypatch.setattr(pretrained, "export", lambda study, of: exported.append((study.profile.name, of)))
    for arguments in ([], ["--profile", "smoke", "--of", "cifar10"]):
        code, said = call(monkeypatch, capsys, *arguments)
        assert code == 0
        assert pretrained.table(exported[-1][1]) in said
    assert exported == [("quick", "fashion-mnist"), ("smoke", "cifar10")]


@pytest.mark.parametrize(("option", "value"), [("--profile", "quik"), ("--of", "svhn")])
def test_command_refuses_what_there_is_not(monkeypatch, capsys, option, value):
    code, said = call(monkeypatch, capsys, option, value)
    assert (code, len(said.strip().splitlines())) == (2, 1)
    assert f"'{value}'" in said
