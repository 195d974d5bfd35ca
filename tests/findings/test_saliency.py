"""Notebook 4's sentences turn with its tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import saliency

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training"}


def measures(measure: str, given: str, kind: str = "gradient", **means: float) -> pd.DataFrame:
    names = {name.replace("_", "-"): mean for name, mean in means.items()}
    table = pd.DataFrame({"defence": list(names), "mean": list(names.values())})
    table = table.assign(architecture="small-cnn", measure=measure, input=given, map=kind)
    return table.assign(low=table["mean"] - 0.02, high=table["mean"] + 0.02)


def test_faithfulness():
    better = measures("deletion gain", "attacked", standard=0.0, jsigr=0.2, pgd=0.1)
    sparse = measures("sparseness", "clean", standard=0.4, pgd=0.7)
    text = saliency.faithfulness(pd.concat([better, sparse]), LABELS)
    assert "clearly, for both defences under deletion of attacked images" in text
    assert "is not to be told from a random order (gain 0.00 [−0.02, 0.02])" in text
    assert "those of PGD-7 training (Gini 0.70), the most even those of the standard network" in text
    text = saliency.faithfulness(measures("deletion gain", "attacked", standard=0.1, jsigr=0.1), LABELS)
    assert "not the one defence" in text and "is better than a random order" in text
    assert "*worse* than a random" in saliency.faithfulness(
        measures("deletion gain", "attacked", standard=-0.1), LABELS
    )


@pytest.mark.parametrize(
    ("jsigr", "said"),
    [(0.5, "more than twice as well as"), (0.3, "better than"), (0.21, "about as well as"), (0.1, "*less* well than")],
)
def test_agreement(jsigr, said):
    text = saliency.agreement(measures("agreement", "clean", standard=0.2, jsigr=jsigr, pgd=0.4), LABELS)
    assert f"agrees with its perturbation map {said} the standard network's" in text
    assert ("Clearly less well: PGD-7 training" in text) == (jsigr == 0.5)
    assert ("Clearly better still: PGD-7 training" in text) == (jsigr < 0.4)


def maps(deletion: dict[str, float], insertion: dict[str, float]) -> pd.DataFrame:
    both = {"deletion gain": deletion, "insertion gain": insertion}
    return pd.concat(
        [measures(m, "clean", kind, jsigr=mean) for m, each in both.items() for kind, mean in each.items()]
    )


def test_best_map():
    table = maps({"gradient": 0.2, "occlusion": 0.3, "energy": 0.9}, {"gradient": 0.2, "occlusion": 0.1})
    text = saliency.best_map(table)
    assert "depends on the question: under deletion occlusion (gain 0.30" in text and "under insertion gradient" in text
    table = maps({"gradient": 0.2, "occlusion": 0.3}, {"gradient": 0.1, "occlusion": 0.2})
    assert "is the same by both curves" in saliency.best_map(table)


def answers(a: str, b: str, **better: str) -> pd.DataFrame:
    table = pd.DataFrame({"measure": list(better), "better": list(better.values())})
    return table.assign(a=a, b=b, input="attacked")


@pytest.mark.parametrize(
    ("better", "said"),
    [
        ({"stability": "a", "infidelity": "no difference"}, "Yes: it wins 1 of 2 rows and loses none"),
        ({"stability": "b", "infidelity": "b"}, "No: it wins none of 2 rows and loses 2"),
        ({"stability": "a", "infidelity": "b"}, "Partly: it wins 1 of 2 rows and loses 1"),
        ({"stability": "no difference"}, "Not to be told apart: it wins none of 1 row and loses none"),
    ],
)
def test_cheap_for_costly(better, said):
    text = saliency.cheap_for_costly(answers("jsigr, gradient", "standard, perturbation", **better))
    assert said in text
    assert ("It is better by stability (attacked)" in text) == (better["stability"] == "a")
    assert ("It is worse by" in text) == ("b" in better.values())


@pytest.mark.parametrize(("side", "said"), [("a", "No. By"), ("b", "Yes. By")])
def test_adversarial(side, said):
    table = pd.concat(
        [
            answers("pgd, gradient", "standard, gradient", agreement=side),
            answers("jsigr, gradient", "pgd, gradient", agreement=side, stability="b"),
        ]
    )
    text = saliency.adversarial(table, LABELS)
    lost = {"a": "wins 1 of 2 rows and loses 1 (stability (attacked))", "b": "wins none of 2 rows and loses 2"}
    assert said in text and f"Against PGD-7 training, clean and attacked, J-SIGR's map {lost[side]}" in text
    assert (
        f"those of PGD-7 training {'win 1 of 1 row and lose none' if side == 'a' else 'win none of 1 row and lose 1'}"
        in text
    )


def test_cascade():
    table = pd.DataFrame({"map": ["gradient", "occlusion", "gradient"], "correlation": [0.05, 0.9, 0.9]})
    text = saliency.cascade(table.assign(defence="jsigr", layers=[4, 4, 1]))
    assert "Of the maps gradient alone forgets" in text and "Of the maps occlusion alone hardly changes" in text
    assert "agreement with a map that does not forget" in text
    text = saliency.cascade(table.assign(correlation=[0.5, 0.1, 0.9], defence="jsigr", layers=[4, 4, 1]))
    assert (
        "occlusion alone forgets" in text and "network to network: gradient" in text and "does not forget" not in text
    )
