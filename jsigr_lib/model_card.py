"""The model card of a pretrained network: one template, filled with the facts that its file carries."""

import textwrap
from typing import Any

CARD = """\
# {label}

`{name}.safetensors`: a network of architecture {architecture} with {parameters:,} parameters, which sorts the
{size} x {size} images of {dataset} into {kinds} classes. {role}

```python
from jsigr_lib import pretrained

network = pretrained.load("{name}")  # network.model takes images in [0, 1] to logits
```

**Intended use.** {use}. For research on interpretability and robustness, and for teaching it; not for production.

**Data.** {source}. {train_images:,} of its training images, chosen by the seeded shuffle of `jsigr_lib/data.py`; the
{images:,} test images below are others.

**Training.** It minimises {objective}. {epochs} epoch{s}, batches of {batch_size}, learning rate {learning_rate}, seed
{seed}; profile {profile}, jsigr {jsigr}, torch {torch}. Options of `{registered}`: {options}. The command that made it:

    {command}

**Accuracy** of these weights as they are stored, with Wilson's 95 % interval over the test images:

| images | accuracy | 95 % interval | n |
|---|---|---|---|
{rows}

**Limits.** One network from one seed: the intervals cover the choice of images, not the luck of training. {limits}
Nothing is measured on images of another kind. All methods are reimplemented here: these are no authors' own weights.

**File.** Weights in half precision, buffers in full. SHA-256 `{sha256}`. Licence: MIT.
"""
SOURCES = {"fashion-mnist": "Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; Zalando Research; MIT licence)"}
DEFENCE = {
    "role": "One of the training methods that this repository compares.",
    "use": "Drawing and comparing gradient and perturbation maps, of clean and of attacked images",
    "limits": "PGD with one start leaves more than PGD with restarts or AutoAttack would, "
    "and says nothing of other budgets and norms.",
}
SURROGATE = {
    "role": "Undefended.",
    "use": "The source of transferred attacks, made on it and shown to the other networks; it is no target",
    "limits": "How it withstands attacks is not measured.",
}


def card(facts: dict[str, Any], sha256: str) -> str:
    """The card of a file in Markdown."""
    dataset = facts["data"]["dataset"]
    fields = {
        **facts,
        **(DEFENCE if "white-box" in facts["accuracy"] else SURROGATE),
        "size": facts["shape"]["size"],
        "dataset": dataset,
        "kinds": facts["shape"]["classes"],
        "source": SOURCES.get(dataset, f"{dataset}, under its publisher's licence"),
        "train_images": facts["data"]["train_images"],
        "images": facts["accuracy"]["clean"]["images"],
        "objective": in_words(facts["objective"], facts["options"]),
        "s": "s" * (facts["epochs"] > 1),
        "registered": facts["objective"],
        "options": ", ".join(f"{name} {value}" for name, value in facts["options"].items()),
        "rows": "\n".join(_row(threat, measured) for threat, measured in facts["accuracy"].items()),
        "sha256": sha256,
    }
    blocks = CARD.format(**fields).rstrip().split("\n\n")
    return "\n\n".join(_filled(block) if block[0] in "*`" and block[1] != "`" else block for block in blocks) + "\n"


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def _row(threat: str, measured: dict[str, Any]) -> str:
    """Of the table of accuracies."""
    about = {
        "clean": "clean",
        "transferred": "transferred: {attack} made on the surrogate ({source}, single precision), eps {eps:g}",
        "white-box": "white-box: {attack} on these weights, {steps} steps from one random start, eps {eps:g}",
    }[threat].format(**measured)
    return f"| {about} | {accuracy(measured)} | {interval(measured)} | {measured['images']:,} |"


def accuracy(measured: dict[str, Any]) -> str:
    return f"{measured['accuracy']:.3f}"


def interval(measured: dict[str, Any]) -> str:
    return f"[{measured['low']:.3f}, {measured['high']:.3f}]"


def in_words(objective: str, options: dict[str, Any]) -> str:
    """What is minimised."""
    if objective not in ("jsigr", "input-gradient", "adversarial"):
        return f"`{objective}` of `jsigr_lib/defences.py`"
    penalties = []
    size = "squared L2 norm" if options.get("norm", "l2") == "l2" else "squared L1 norm, over the number of pixels,"
    if options.get("lambda_j"):
        penalties.append(f"{options['lambda_j']:g} times the {size} of the Jacobian of the logits")
    if options.get("lambda_s"):
        where = f" outside the selection ({options['kind']}, share {options['share']:g}) of the perturbation map"
        where = "" if objective == "input-gradient" else where
        penalties.append(f"{options['lambda_s']:g} times the {size} of the input gradient of the loss{where}")
    words = " + ".join(["the cross-entropy", *penalties])
    if penalties:
        words += f"; the {options['estimator']} estimator, on a share {options['fraction']:g} of the images"
    if objective == "adversarial":
        steps = f"{options['steps']} step{'s' * (options['steps'] > 1)}"
        words += f", on images attacked by PGD while it learns ({steps}, eps {options['eps']:g})"
    return words
