"""Trained networks that come with the repository, so that maps can be drawn and attacks tried with nothing to train.

data/pretrained/<set>/<name>.safetensors    weights in half precision; the header says as JSON how they were made
data/pretrained/<set>/<name>.md             the same as text: the model card
data/pretrained/<set>/SHA256SUMS            the hashes of the weights, for sha256sum -c

A set is called as its data are. A network is called after its defence; a source of transferred attacks, which is
undefended, source-<architecture>.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jsigr_lib import __version__
from jsigr_lib.data.data import DataSpec, Split
from jsigr_lib.data.data import load as load_data
from jsigr_lib.measure.statistics import proportion
from jsigr_lib.method import attacks
from jsigr_lib.method.errors import NAME, InputError, between, one_line, one_of
from jsigr_lib.networks import models
from jsigr_lib.networks.training import predict
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records import markdown
from jsigr_lib.records.publishing import finish, replacing
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.files import contents, sha256
from jsigr_lib.store.hardware import one_thread
from jsigr_lib.store.paths import FRONT, PRETRAINED, RUNS
from jsigr_lib.store.tensor_files import read, write
from jsigr_lib.study.attacked import ATTACK_BATCH, Attacked, attacked_split
from jsigr_lib.study.config import budget
from jsigr_lib.study.sources import headline_attack, sources_of
from jsigr_lib.study.study import Study

DEFENCES = ("standard", "input-gradient", "jacobian", "sigr", "jsigr", "jsigr-l1", "pgd", "fast")
SETS = {"fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
"""Set -> how a profile's data are called. The networks of the first need no name of their set."""
FIRST = next(iter(SETS))
SOURCE = "source-"
SUMS = "SHA256SUMS"
THREATS = ("clean", "transferred", "white-box")
CELL = "{accuracy:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class Pretrained:
    """A network in evaluation mode, its parameters frozen, and what its file says of it."""

    model: nn.Module
    label: str
    facts: dict[str, Any]
    classes: tuple[str, ...]


def names(of: str = FIRST, folder: Path = PRETRAINED) -> list[str]:
    """The networks of a set, as `load` takes them: the defences, then the sources that transferred attacks are made
    on."""
    one_of("set of networks", of, SETS)
    return [own if of == FIRST else f"{of}/{own}" for own in _sums(folder / of)]


def load(name: str, folder: Path = PRETRAINED) -> Pretrained:
    """A network by name, such as "jsigr", "cifar10/jsigr" or "cifar10/source-vgg-bn". Raises InputError if there is
    none of that name, or its file is missing, cut or altered."""
    of, _, own = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    of = of if of in SETS and of != FIRST else FIRST
    one_of("pretrained network", name, names(of, folder))
    path, sums = folder / of / f"{own}.safetensors", _sums(folder / of)
    if sha256(content := _content(path)) != sums[own]:
        raise InputError(f"{path} is truncated or altered (its SHA-256 differs); restore it (git checkout -- data)")
    stored = read(path, content)
    facts = stored.facts
    try:
        return Pretrained(_network(stored.tensors, facts), facts["label"], facts, tuple(facts["classes"]))
    except Exception as error:  # facts and tensors of another network can lead to any
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{path} holds no network of ours ({reason}); restore it (git checkout -- data)") from None


def images(n: int) -> tuple[Tensor, Tensor]:
    """The first n of the test images that the cards of the first set are about, uint8, and their labels."""
    chosen = {key: value for key, value in load(names()[-1]).facts["data"].items() if key != "content"}
    split = load_data(DataSpec.locate(**chosen), Store(RUNS)).test  # which checks the files
    between("number of images", n, 1, len(split))
    return split.images[:n], split.labels[:n]


def table(of: str = FIRST, folder: Path = PRETRAINED) -> str:
    """A Markdown table of a set's networks with their accuracies and intervals."""
    lines = [f"| network | trained as | {' | '.join(THREATS)} |", f"|---|---|{'---|' * len(THREATS)}"]
    for facts in (load(name, folder).facts for name in names(of, folder)):
        cells = [CELL.format(**facts["accuracy"][threat]) if threat in facts["accuracy"] else "" for threat in THREATS]
        cells = [markdown.plain(facts["label"]), *cells]
        link = f"{PRETRAINED.name}/{of}/{facts['name']}.md"
        lines.append(f"| [{facts['name']}]({link}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def export(study: Study, of: str = FIRST, folder: Path = PRETRAINED) -> None:
    """Train the networks that are missing, measure them as they are stored, and replace a set by a complete new one."""
    one_of("set of networks", of, SETS)
    if not study.profile.data_title.startswith(SETS[of]):
        accepted = f"a profile of {SETS[of]}, or another set"
        raise InputError(f"set of networks {of!r} from data called {study.profile.data_title!r}; accepted: {accepted}")
    headline = headline_attack(study, study.architecture)
    sources = {f"{SOURCE}{one}": study.surrogate(one) for one in sources_of(study, study.architecture)}
    specs = {**{name: study.training(name) for name in DEFENCES if name in study.labels}, **sources}
    study.make([*specs.values(), headline])
    sums = ""
    with replacing(folder / of) as (staged,):
        for name, spec in specs.items():
            weights = dict(spec.untrained(study.dataset.shape).named_parameters())
            tensors = {key: value.half() if key in weights else value for key, value in study.get(spec).tensors.items()}
            facts = _facts(study, of, name, spec)
            facts["accuracy"] = _measured(study, _network(tensors, facts), None if name in sources else headline)
            path = staged / f"{name}.safetensors"
            write(path, tensors, facts)
            digest = sha256(path.read_bytes())
            path.with_suffix(".md").write_text(card(facts, digest, of), encoding="utf-8")
            sums += f"{digest}  {path.name}\n"
        (staged / SUMS).write_text(sums)


def _facts(study: Study, of: str, name: str, spec: Training) -> dict[str, Any]:
    """What the file says of a network, without its accuracy."""
    return {
        "name": name,
        "label": study.labels.get(name, f"source ({spec.architecture})"),
        **spec.model_dump(mode="json", exclude={"teacher"}),
        "options": dict(spec.options),
        "parameters": sum(weight.numel() for weight in spec.untrained(study.dataset.shape).parameters()),
        "shape": study.dataset.shape,
        "classes": study.dataset.classes,
        "profile": study.profile.name,
        "command": f"jsigr pretrained --profile {study.profile.name}" + f" --of {of}" * (of != FIRST),
        "jsigr": __version__,
        "torch": study.get(spec).facts["torch"],
    }


def card(facts: dict[str, Any], digest: str, of: str = FIRST) -> str:
    """The model card of a file of a set, in Markdown."""
    from jinja2 import Environment, StrictUndefined  # only an export needs it

    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((FRONT / "model_card.md.j2").read_text(encoding="utf-8"))
    wrapper = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
    called = facts["name"] if of == FIRST else f"{of}/{facts['name']}"
    blocks = template.render(facts, called=called, of=of, sha256=digest, budget=budget).strip().split("\n\n")
    filled = [wrapper.fill(" ".join(one.split())) if re.match(r"\*\*|`\w", one) else one for one in blocks]
    return "\n\n".join(filled) + "\n"


def _measured(study: Study, model: nn.Module, headline: Attacked | None) -> dict[str, dict[str, Any]]:
    """Accuracy on the clean test images; of a target also under the transferred attack, and under a white-box attack on
    these very weights."""
    p, test, generator = study.profile, study.dataset.test, study.generator()
    given = {"clean": ({}, test)}
    with one_thread():
        if headline:
            about = {"attack": headline.attack, "source": headline.sources[0].architecture, "eps": p.eps}
            given["transferred"] = about, attacked_split(test, headline, study.store)
            settings = {"eps": p.eps, "steps": p.pgd_steps}
            batches = (test.batch(index) for index in torch.arange(len(test)).split(ATTACK_BATCH))
            x_adv = torch.cat([attacks.pgd(model, x, y, generator=generator, **settings) for x, y in batches])
            given["white-box"] = {"attack": "pgd", **settings}, Split(x_adv, test.labels)
        measured = {}
        for threat, (about, split) in given.items():
            numbers = proportion((predict(model, split) == split.labels).numpy())
            rounded = {key: round(v, 4) for key, v in zip(("accuracy", "low", "high"), numbers, strict=True)}
            measured[threat] = {**about, **rounded, "images": len(split)}
    return measured


def _network(tensors: dict[str, Tensor], facts: dict[str, Any]) -> nn.Module:
    """The network in single precision, from stored tensors. It takes no memory until they are known to fit."""
    described = {"width": facts["width"], "seed": facts["seed"], **facts["shape"]}
    with torch.device("meta"):
        expected = models.build(facts["architecture"], **described).state_dict()
    if {key: value.shape for key, value in expected.items()} != {key: value.shape for key, value in tensors.items()}:
        raise ValueError("tensors of other sizes than its facts say")
    model = models.build(facts["architecture"], **described)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _sums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of its file."""
    if not folder.exists():
        finish(folder)  # what a killed export had made
    line = rf"^([0-9a-f]{{64}})  ({NAME.pattern})\.safetensors$"
    lines = re.findall(line, _content(folder / SUMS).decode(errors="replace"), re.M)
    return {name: digest for digest, name in lines}


def _content(path: Path) -> bytes:
    if not path.parent.is_dir():
        raise InputError(
            f"{path.parent} does not exist; the networks are in the repository and not in the installed package: give "
            "pretrained.load the folder data/pretrained of a checkout"
        )
    try:
        return contents(path)
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(error)})"
        raise InputError(f"{path} {reason}; restore it from the repository (git checkout -- data)") from None
