"""Notebook 5's sentences turn with its tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import claims

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training"}


def card(**verdicts: str) -> pd.DataFrame:
    table = pd.DataFrame({"claim": list(verdicts), "verdict": list(verdicts.values())})
    return table.assign(data="MNIST", statement=table.claim.map(lambda claim: f"J-SIGR and {claim}."))


def contrasts(claim: str, **differences: float) -> pd.DataFrame:
    """Context -> difference; the pooled one decides."""
    roles = {"pooled": ("from all that bite", "decides"), "weak": ("from weak", "does not bite")}
    rows = [(*roles.get(name, (f"from {name}", "shown")), value) for name, value in differences.items()]
    table = pd.DataFrame(rows, columns=["context", "role", "difference"]).assign(claim=claim, data="MNIST", a="jsigr")
    return table.assign(b="standard", low=table.difference - 0.1, high=table.difference + 0.1)


def test_verdicts():
    text = claims.verdicts(card(transfer="supported", parts="refuted", truth="not tested"))
    assert (
        "On MNIST, of three claims, one supported (transfer), one refuted (parts) and one not tested (truth; no" in text
    )
    text = claims.verdicts(card(transfer="refuted", parts="refuted", truth="inconclusive"))
    assert "two refuted (transfer and parts) and one inconclusive (truth; an interval spans" in text
    assert "supported" not in text


@pytest.mark.parametrize(
    ("verdict", "difference", "said"),
    [
        ("supported", 0.4, "is *supported* on MNIST (J-SIGR minus the standard network: 0.40 [0.30, 0.50])"),
        ("refuted", -0.2, "is *refuted* on MNIST (J-SIGR minus the standard network: −0.20 [−0.30, −0.10])"),
    ],
)
def test_deciding(verdict, difference, said):
    for claim in ("transfer", "adaptive", "parts", "truth"):
        found = contrasts(claim, pooled=difference, mlp=0.9)
        assert f"“J-SIGR and {claim}” {said}" in claims.deciding(card(**{claim: verdict}), found, LABELS)
    found = contrasts("parts", pooled=difference)
    both = pd.concat([found, found.assign(b="pgd", difference=-0.5)])
    assert "minus PGD-7 training: −0.50" in claims.deciding(card(parts=verdict), both, LABELS)
    assert "*not tested* on MNIST." in claims.deciding(card(transfer="not tested"), pd.DataFrame(), LABELS)


def test_gains():
    text = claims.gains(contrasts("transfer", pooled=0.3, mlp=0.4, vgg=0.05, weak=-0.3))
    assert "whose attack bites, J-SIGR clearly gains on one of the two sources (difference 0.05 to 0.40)" in text
    assert "does not bite it clearly gains on not the one source, loses on one" in text
    assert "No undefended source tried here bites" in claims.gains(contrasts("transfer", weak=0.3))
    assert "on none of the two sources, loses on two" in claims.gains(contrasts("transfer", mlp=-0.4, vgg=-0.2))


def paid(jsigr: float, pgd: float) -> pd.DataFrame:
    table = pd.DataFrame(
        {"defence": ["standard", "jsigr", "pgd"], "cost": [1, 1.1, 1.0], "transferred": [0.3, jsigr, pgd]}
    )
    table = table.assign(white_box=0.2, clean=[0.9, 0.85, 0.86], agreement=0.4)
    for of in ("transferred", "white_box", "agreement"):
        table[f"{of}_low"], table[f"{of}_high"] = table[of] - 0.02, table[of] + 0.02
    return table


def test_trade_offs():
    text = claims.trade_offs(paid(0.7, 0.8), LABELS)
    assert "leave 70 % [68, 72] right instead of 30 %" in text and "for 5 points of clean accuracy" in text
    assert (
        "Clearly more of the transferred ones is left by PGD-7 training (1.00 times)" in text
        and "PGD-7 training costs no more" in text
    )
    assert "no other defence leaves clearly more" in claims.trade_offs(paid(0.7, 0.71), LABELS)
