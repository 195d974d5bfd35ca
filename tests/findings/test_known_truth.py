"""What is said of maps on pictures with a known truth turns with the table."""

import pandas as pd
import pytest

from jsigr_lib.findings import known_truth

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training"}


def table(gain: float, *, pictures="glyphs", measure="share on the truth", accuracy=(0.99, 0.98), energy=0.3):
    own = {"standard": 0.4, "jsigr": 0.4 + gain}
    rows = [
        (name, "gradient", mean, mean - 0.4, clean) for (name, mean), clean in zip(own.items(), accuracy, strict=True)
    ]
    rows.append(("none", "energy", energy, 0.0, ""))
    found = pd.DataFrame(rows, columns=["defence", "map", "mean", "gain", "clean_accuracy"])
    found = found.assign(pictures=pictures, measure=measure, input="clean")
    limits = {
        f"{of}{end}": found[of.strip("_") or "mean"] + step
        for of in ("gain_",)
        for end, step in (("low", -0.05), ("high", 0.05))
    }
    return found.assign(low=found["mean"] - 0.05, high=found["mean"] + 0.05, **limits)


@pytest.mark.parametrize(
    ("gain", "said"), [(0.2, "clearly more"), (0.01, "not clearly more"), (-0.2, "clearly *less*")]
)
def test_on_the_truth(gain, said):
    text = known_truth.on_the_truth(table(gain), LABELS)
    assert f"On clean images J-SIGR puts {said} of its gradient map on the deciding glyph" in text
    assert f"{40 + 100 * gain:.0f} % against 40 %" in text and "They have learnt the glyphs" in text
    assert "Read them with the clean accuracy, 60 % to 99 %" in known_truth.on_the_truth(
        table(gain, accuracy=(0.99, 0.6)), LABELS
    )


@pytest.mark.parametrize(("energy", "said"), [(0.3, "more than"), (0.6, "about as much as"), (0.8, "*less* than")])
def test_controls(energy, said):
    assert f"the gradient map {said} the best map that knows no network, energy" in known_truth.controls(
        table(0.2, energy=energy)
    )


@pytest.mark.parametrize(
    ("jsigr", "said"), [(0.9, "the cue less than"), (0.7, "the cue about as much as"), (0.5, "the cue more than")]
)
def test_cue(jsigr, said):
    found = table(0.0, pictures="glyphs and a cue", measure="share on the cue", accuracy=(0.7, jsigr))
    text = known_truth.cue(found, LABELS)
    assert f"J-SIGR relies on {said} the standard network" in text and f"J-SIGR's on {jsigr:.0%}"[:-1] in text


def test_nothing_to_say():
    assert "no pictures with a known truth" in known_truth.on_the_truth(pd.DataFrame(), LABELS)
