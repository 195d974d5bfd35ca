"""Notebook 3's sentences turn with its tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import transfer

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training", "fast": "fast adv. training"}


def sources(*rows: tuple[str, float, bool, bool]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["source", "share_left", "bites", "votes"])
    return table.assign(architecture="small-cnn", source_defence="standard")


def test_sources():
    text = transfer.sources(
        sources(("mlp", 0.3, True, True), ("vgg", 0.7, False, False), ("mlp+vgg", 0.4, True, False))
    )
    assert "Against the small-cnn, one of the two undefended sources votes: mlp (30 % left)." in text
    assert "does not bite from vgg (70 % left)" in text and "competent" not in text
    text = transfer.sources(sources(("mlp", 0.3, True, False), ("vgg", 0.7, False, False)))
    assert "none of the two undefended sources vote, so that no transferred attack can decide" in text
    assert "Less competent than the target by more than five points: mlp" in text


def strength(di: float) -> pd.DataFrame:
    rows = [("mi-fgsm", 5, 0.5), ("mi-fgsm", 10, 0.4), ("di-fgsm", 10, di)]
    return pd.DataFrame(rows, columns=["attack", "steps", "accuracy"]).assign(source="mlp")


def test_strength():
    text = transfer.strength(strength(0.3), "mi-fgsm")
    assert "is *not* the strongest tried: at its best it leaves 10 points more than di-fgsm" in text
    assert "is the strongest tried" in transfer.strength(strength(0.45), "mi-fgsm")
    assert "is not among those tried" in transfer.strength(strength(0.3), "vt-fgsm")


def robustness(found: dict[float, dict[str, float]], **others: object) -> pd.DataFrame:
    """Budget -> defence -> accuracy, from the undefended MLP; clean at budget 0."""
    rows = [{"eps": eps, "defence": one, "accuracy": a} for eps, each in found.items() for one, a in each.items()]
    table = pd.DataFrame(rows).assign(architecture="small-cnn", norm="linf", attack="mi-fgsm", source="mlp")
    table = table.assign(threat=table.eps.map(lambda eps: "transfer" if eps else "clean"), source_defence="standard")
    return table.assign(low=table.accuracy - 0.02, high=table.accuracy + 0.02, **others)


CLEAN = {"standard": 0.91, "jsigr": 0.86, "pgd": 0.87, "fast": 0.85}


def test_accuracy():
    near = {"standard": 0.35, "jsigr": 0.73, "pgd": 0.80, "fast": 0.82}
    far = {"standard": 0.05, "jsigr": 0.50, "pgd": 0.32, "fast": 0.35}
    text = transfer.accuracy(robustness({0: CLEAN, 0.1: near, 0.2: far}), "mi-fgsm", 0.1, LABELS)
    assert "leave 35 % [33, 37] of the images right for the standard network, 56 points less than clean" in text
    assert "All three defences leave clearly more, 73 % to 82 %, for 4 to 6 points of clean accuracy" in text
    assert "by fast adv. training, 82 % [80, 84]; by J-SIGR 73 %" in text
    assert "the order turns, with J-SIGR ahead of training on attacks: J-SIGR leaves 50 %" in text


def test_accuracy_says_the_opposite():
    near = {"standard": 0.35, "jsigr": 0.36, "pgd": 0.30, "fast": 0.34}
    far = {"standard": 0.05, "jsigr": 0.2, "pgd": 0.1, "fast": 0.1}
    text = transfer.accuracy(robustness({0: CLEAN, 0.1: near, 0.2: far}), "mi-fgsm", 0.1, LABELS)
    assert (
        "Not to be told from it: J-SIGR and fast adv. training." in text and "*less* is left by PGD-7 training" in text
    )
    assert "clearly more" not in text and "The most is left by J-SIGR, 36 %" in text
    assert "the order stays, with J-SIGR ahead" in text


def judges(square: float, auto: float) -> pd.DataFrame:
    rows = [("PGD", 0.5), ("PGD, restarts", 0.45), ("Square", square), ("AutoAttack", auto)]
    table = pd.DataFrame(rows, columns=["judge", "accuracy"]).assign(defence="jsigr", images=500)
    return table.assign(low=table.accuracy - 0.04, high=table.accuracy + 0.04)


def test_judges():
    text = transfer.judges(judges(0.6, 0.4), LABELS)
    assert "AutoAttack leaves up to 10 points less than one start of PGD (J-SIGR)" in text
    assert "no sign of masked gradients" in text and "(500 images, first seed)" in text and "4 points to either" in text
    text = transfer.judges(judges(0.3, 0.5), LABELS)
    assert "AutoAttack leaves no less" in text and "leaves *less* than PGD, restarts for J-SIGR" in text
    without = judges(0.6, 0.4)
    assert "PGD, restarts leaves up to 5 points" in transfer.judges(without[without.judge != "AutoAttack"], LABELS)


def attacks(standard: dict[str, float], jsigr: dict[str, float]) -> pd.DataFrame:
    both = [robustness({0.1: {"standard": a, "jsigr": jsigr[name]}}, attack=name) for name, a in standard.items()]
    return pd.concat(both, ignore_index=True)


@pytest.mark.parametrize(("ti", "also"), [(0.68, "not the strongest"), (0.75, "also the strongest")])
def test_ranking(ti, also):
    table = attacks({"mi-fgsm": 0.30, "ti-fgsm": 0.38}, {"mi-fgsm": 0.72, "ti-fgsm": ti})
    text = transfer.ranking(table, 0.1, LABELS)
    assert also in text and "(the small-cnn, attacked from the mlp)" in text
    assert f"lose most to {'ti-fgsm' if ti < 0.72 else 'mi-fgsm'}" in text and "within 8 points" in text
    assert "nothing to rank" in transfer.ranking(table[table.attack == "mi-fgsm"], 0.1, LABELS)


def matrix(own: float) -> pd.DataFrame:
    first = robustness({0.1: {"jsigr": 0.73}})
    return pd.concat(
        [first, robustness({0.1: {"jsigr": own}}, source="vgg", source_defence="jsigr")], ignore_index=True
    )


def test_matrix():
    text = transfer.matrix(matrix(0.6), "mi-fgsm", 0.1, LABELS)
    assert "hurts J-SIGR most is vgg, J-SIGR: 60 % [58, 62] left" in text and "not the worst" in text
    assert "a vgg with J-SIGR hurt it more than" in text
    assert "Their intervals overlap" in transfer.matrix(matrix(0.72), "mi-fgsm", 0.1, LABELS)
    text = transfer.matrix(matrix(0.8), "mi-fgsm", 0.1, LABELS)
    assert "No source tried hurts J-SIGR more than the headline one" in text and "hurt it no more than" in text


def flags(**raised: int) -> pd.DataFrame:
    names = ["zero gradients", "more effort helps", "few images", "budget exceeded"]
    table = pd.DataFrame({"flag": names, "of": 100, "threats": "white-box", "defences": "J-SIGR"})
    return table.assign(**{"raised by": [raised.get(name.replace(" ", "_"), 0) for name in names]})


def test_flags():
    text = transfer.flags(flags(more_effort_helps=3))
    assert "No network shows a sign of masked gradients: of 100 numbers" in text
    assert "*More effort helps* is raised by 3 of 100 numbers (white-box; J-SIGR): those are upper bounds" in text
    assert "No transferred number" in text
    text = transfer.flags(flags(zero_gradients=1, budget_exceeded=2).assign(threats="transfer"))
    assert "*Signs that a gradient misleads:* *Zero gradients* is raised by 1 of 100" in text
    assert "No network" not in text and "*Budget exceeded* is raised by 2" in text and "raise flags too" in text


def cost(jsigr: float, pgd: float) -> pd.DataFrame:
    table = pd.DataFrame(
        {"defence": ["standard", "jsigr", "pgd"], "cost": [1, 1.1, 1.05], "accuracy": [0.35, jsigr, pgd]}
    )
    return table.assign(low=table.accuracy - 0.02, high=table.accuracy + 0.02)


def test_cost():
    text = transfer.cost(cost(0.73, 0.8), LABELS)
    assert "costs 1.10 times a standard one" in text and "38 points more than the standard network." in text
    assert "by PGD-7 training (80 % at 1.05 times)" in text and "costs no more than J-SIGR" in text
    text = transfer.cost(cost(0.34, 0.3), LABELS)
    assert (
        "1 point *less* than the standard network, though not clearly" in text
        and "No defence leaves clearly more" in text
    )
