import numpy as np
import pandas as pd
import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.study import verdicts
from jsigr_lib.study.claims import Claim, load_claims
from jsigr_lib.study.robustness import Outcomes, correct_of
from jsigr_lib.study.verdicts import FEWEST_IMAGES, POOLED, TOO_FEW, contrasts, scorecard, values_per_image, verdict

LEDGER = load_claims()
TESTS = [(claim, test) for claim in LEDGER for test in claim.tests]


def claim_of(*tests: tuple, **fields) -> Claim:
    """A claim with tests (measure, a, b, margin)."""
    made = [dict(zip(("measure", "a", "b", "margin"), test, strict=True)) for test in tests]
    return Claim(**{"id": "c", "statement": "It is so.", "figure": "f", **fields}, tests=made)


def rows_of(*rows: tuple) -> pd.DataFrame:
    """Contrasts (measure, a, b, outcome), and the margin and role if it is not 0 and does not decide."""
    defaults = (0.0, "decides")
    filled = [(*row, *defaults[len(row) - 4 :]) for row in rows]
    return pd.DataFrame(filled, columns=["measure", "a", "b", "outcome", "margin", "role"])


@pytest.fixture(autouse=True)
def few_images_will_do(monkeypatch):
    """For differences that can be worked out by hand; see test_too_few_images_decide_nothing."""
    monkeypatch.setattr(verdicts, "FEWEST_IMAGES", 1)


CONTEXTS = {("t", POOLED): ["mlp", "vgg"], ("t", "from mlp"): ["mlp"], ("t", "from vgg"): []}


@pytest.fixture
def measured(monkeypatch):
    """measured({defence: {(measure, context): values}}): what the networks are said to have done."""

    def say(values: dict) -> None:
        monkeypatch.setattr(verdicts, "values_per_image", lambda study, architecture, defence: values[defence])
        monkeypatch.setattr(verdicts, "contexts", lambda study, architecture: CONTEXTS)
        monkeypatch.setattr(verdicts.sources, "biting", lambda study, architecture, some: some)

    return say


# verdicts


ONE, TWO, RIVAL = ("m", "a", "b", 0.0), ("n", "a", "b", 0.0), ("m", "a", "c", 0.0)


@pytest.mark.parametrize(
    ("tests", "rows", "expected"),
    [
        ([ONE], [("m", "a", "b", "holds")], "supported"),
        ([ONE], [("m", "a", "b", "undecided")], "inconclusive"),
        ([ONE], [("m", "a", "b", "fails")], "refuted"),
        ([ONE], [], "not tested"),
        ([ONE], [("m", "b", "a", "holds")], "not tested"),
        ([ONE], [("n", "a", "b", "holds")], "not tested"),
        ([ONE], [("m", "a", "c", "holds")], "not tested"),
        ([ONE], [("m", "a", "b", "holds", 0.1)], "not tested"),
        # only those that decide
        ([ONE], [("m", "a", "b", "holds"), ("m", "a", "b", "fails", 0.0, "shown")], "supported"),
        ([ONE], [("m", "a", "b", "holds", 0.0, "does not bite")], "not tested"),
        # several architectures, tests or rivals: each has to hold
        ([ONE], [("m", "a", "b", "holds"), ("m", "a", "b", "undecided")], "inconclusive"),
        ([ONE, TWO], [("m", "a", "b", "holds"), ("n", "a", "b", "holds")], "supported"),
        ([ONE, TWO], [("m", "a", "b", "holds"), ("n", "a", "b", "undecided")], "inconclusive"),
        ([ONE, TWO], [("m", "a", "b", "fails"), ("n", "a", "b", "holds")], "refuted"),
        ([ONE, TWO], [("m", "a", "b", "fails"), ("n", "a", "b", "undecided")], "refuted"),
        ([ONE, TWO], [("m", "a", "b", "holds")], "not tested"),
        ([ONE, RIVAL], [("m", "a", "b", "holds"), ("m", "a", "c", "fails")], "refuted"),
    ],
)
def test_verdict(tests, rows, expected):
    assert verdict(claim_of(*tests), rows_of(*rows)) == expected


# contrasts


def pair(a: np.ndarray, b: np.ndarray, measure: str = "m", context: str = "") -> dict:
    return {"jsigr": {(measure, context): np.atleast_2d(a)}, "standard": {(measure, context): np.atleast_2d(b)}}


NOISE = np.random.default_rng(0).normal(size=40)


def test_difference_is_a_minus_b_and_paired(study, measured):
    """The same noise on both sides cancels: an interval of no width."""
    measured(pair(NOISE + 0.3, NOISE))
    row = contrasts(study, [claim_of(("m", "jsigr", "standard", 0.1))]).iloc[0]
    assert (row.difference, row.low, row.high) == pytest.approx((0.3, 0.3, 0.3))
    assert (row.outcome, row.images, row.seeds, row.margin) == ("holds", 40, 1, 0.1)
    assert row.test == "J-SIGR − standard, m"
    assert (row.claim, row.architecture, row.measure, row.a, row.b) == ("c", "small-cnn", "m", "jsigr", "standard")
    turned = contrasts(study, [claim_of(("m", "standard", "jsigr", 0.1))]).iloc[0]
    assert (turned.difference, turned.outcome) == (pytest.approx(-0.3), "fails")


@pytest.mark.parametrize(
    ("shift", "margin", "outcome"),
    [
        (0.5, 0.25, "holds"),
        (0.5, 0.5, "fails"),  # it has to be above the margin
        (0.5, 0.75, "fails"),
        (-0.5, -0.75, "holds"),
        (0.0, 0.0, "fails"),
    ],
)
def test_outcome_of_a_sure_difference(study, measured, shift, margin, outcome):
    measured(pair(np.ones(8) * shift, np.zeros(8)))
    assert contrasts(study, [claim_of(("m", "jsigr", "standard", margin))]).outcome.tolist() == [outcome]


def test_outcome_of_an_unsure_difference(study, measured):
    values = NOISE - NOISE.mean() + 0.2  # 0.2 with a standard error of 0.16
    measured(pair(values, np.zeros(40)))
    outcomes = [
        contrasts(study, [claim_of(("m", "jsigr", "standard", margin))]).outcome.item() for margin in (-0.5, 0.2, 0.9)
    ]
    assert outcomes == ["holds", "undecided", "fails"]


@pytest.mark.parametrize(("images", "said"), [(49, "inconclusive"), (50, "supported")])
def test_too_few_images_decide_nothing(study, measured, monkeypatch, images, said):
    """However sure they seem, for the claim and against it."""
    assert FEWEST_IMAGES == 50
    monkeypatch.setattr(verdicts, "FEWEST_IMAGES", FEWEST_IMAGES)
    measured(pair(np.ones(images), np.zeros(images)))
    claim, against = (claim_of(("m", *both, 0.5)) for both in (("jsigr", "standard"), ("standard", "jsigr")))
    rows = contrasts(study, [claim])
    assert (rows.difference.item(), rows.images.item()) == (1.0, images)
    assert verdict(claim, rows) == said
    assert verdict(against, contrasts(study, [against])) == {"supported": "refuted"}.get(said, said)
    (evidence,) = verdicts.evidence(study, claim, rows)
    assert evidence.endswith(", holds" if said == "supported" else ", too few images")


def test_truth_values_are_subtracted_as_numbers(study, measured):
    measured(pair(np.array([True, True, False, True]), np.array([False, True, True, False])))
    assert contrasts(study, [claim_of(("m", "jsigr", "standard", 0.0))]).difference.item() == 0.25


def test_each_context_is_a_row_and_the_pooled_one_decides(study, measured):
    """A source whose attack does not bite decides nothing and is said to be so."""
    contexts = {POOLED: 1.0, "from mlp": 1.0, "from vgg": 0.0}
    zeros = {("t", context): np.zeros((1, 4)) for context in contexts}
    ours = {("t", context): np.full((1, 4), level) for context, level in contexts.items()}
    measured({"jsigr": ours | {("u", ""): np.ones((1, 4))}, "standard": zeros | {("u", ""): np.zeros((1, 4))}})
    claim = claim_of(("t", "jsigr", "standard", 0.5))
    rows = contrasts(study, [claim])
    assert rows.context.tolist() == list(contexts)
    assert rows.outcome.tolist() == ["holds", "holds", "fails"]
    assert rows.role.tolist() == ["decides", "shown", "does not bite"]
    assert rows.sources.tolist() == [2, 1, 0]
    assert rows.test[1] == "J-SIGR − standard, t from mlp"
    assert verdict(claim, rows) == "supported"
    assert verdict(claim, rows[rows.context == "from vgg"]) == "not tested"


def test_what_the_profile_lacks_is_left_out(study, measured):
    measured(pair(NOISE + 1, NOISE))
    tests = [("m", "jsigr", "standard", 0.0)]
    assert len(contrasts(study, [claim_of(*tests, on="others")])) == 0
    assert len(contrasts(study, [claim_of(("m", "jsigr", "unheard-of", 0.0))])) == 0
    assert len(contrasts(study, [claim_of(("unheard-of", "jsigr", "standard", 0.0))])) == 0
    two = study.profile.model_copy(update={"architectures": ["small-cnn", "vgg"]})
    everyone = {(one, name): [] for one in two.architectures for name in study.labels}
    own = {"profile": two, "labels": study.labels, "replications": {}}
    other = type("Two", (), {**own, "targets": staticmethod(lambda: everyone)})
    assert contrasts(other, [claim_of(*tests)]).architecture.tolist() == ["small-cnn"]
    assert contrasts(other, [claim_of(*tests, on="others")]).architecture.tolist() == ["vgg"]


def test_values_per_image_are_those_of_the_outcomes(study, table):
    table("contrasts")
    values = values_per_image(study, "small-cnn", "jsigr")
    assert {value.shape[-1] for value in values.values()} == {32, 8, 3}
    correct = correct_of(study, [Outcomes(target=study.training("jsigr"))])
    assert (values["clean accuracy", ""] == correct).all()
    accuracy = table("accuracy").query(
        "defence == 'jsigr' and attack in ['mi-fgsm', 'pgd'] and norm == 'linf' and eps == 0.1"
    )
    accuracy = accuracy[accuracy.source.isin(["itself", "mlp", "vgg"]) & accuracy.source_defence.isin(["", "standard"])]
    assert len(accuracy) == 3
    for row in accuracy.itertuples():
        key = ("white-box accuracy", "") if row.threat == "white-box" else ("transfer accuracy", f"from {row.source}")
        assert values[key].mean() == row.accuracy


def test_what_votes_is_pooled_and_taken_at_its_worst(study, table, monkeypatch):
    """Over sources that all count, whatever they leave."""
    table("contrasts")
    families = verdicts.sources.families(study, "small-cnn")
    monkeypatch.setattr(verdicts.sources, "voting", lambda study, architecture: families)
    monkeypatch.setattr(verdicts.sources, "biting", lambda study, architecture, some: some)
    values = values_per_image(study, "small-cnn", "jsigr")
    each = np.stack([values["transfer accuracy", f"from {one.name}"][0] for one in families])
    assert (values["transfer accuracy", POOLED] == each).all() and each.shape == (3, 1, 32)
    assert (values["transfer accuracy", verdicts.WORST] == each.min(0)).all()
    assert ("transfer accuracy, adaptive", POOLED) not in values  # no surrogate is a J-SIGR network


@pytest.mark.parametrize("bites", [True, False])
def test_parts_are_compared_only_where_an_attack_bites(tiny, study, monkeypatch, bites):
    """The search falls back to sources that do not bite; a verdict must not."""
    defences = {name: one.model_dump() for name, one in study.profile.defences.items()}
    defences["jacobian"] |= {"tried": {"lambda_j": [0.01, 1.0]}, "options": {"lambda_j": 0.01, "lambda_s": 0.0}}
    other = tiny(study.store.root, defences=defences)
    other.make(verdicts.specs(other))
    counting = verdicts.sources.families(other, "small-cnn") if bites else []
    monkeypatch.setattr(verdicts.sources, "voting", lambda study, architecture: counting)
    claim = claim_of((verdicts.MATCHED, "jsigr", "jacobian", 0.0))
    rows = contrasts(other, [claim])
    assert [(row.role, row.sources) for row in rows.itertuples()] == [("decides", 3)] * bites
    assert verdict(claim, rows) in (("supported", "refuted", "inconclusive") if bites else ("not tested",))


def test_an_attacker_who_trains_with_the_defence(tiny, study):
    other = tiny(study.store.root, surrogate_defences=["jsigr", "pgd"])
    other.make(verdicts.specs(other))
    found = verdicts.contexts(other, "small-cnn")
    adaptive = {context: some for (measure, context), some in found.items() if measure == "transfer accuracy, adaptive"}
    assert {"from mlp, jsigr", "from vgg, jsigr"} <= set(adaptive)
    assert all(source.defence == "jsigr" for some in adaptive.values() for source in some)
    values = values_per_image(other, "small-cnn", "standard")
    assert values["transfer accuracy, adaptive", "from mlp, jsigr"].shape == (1, 1, 32)


def test_contrasts_of_the_real_claims(study, table):
    rows, accuracy = table("contrasts"), table("accuracy")
    assert set(rows.claim) <= {claim.id for claim in LEDGER if claim.on == "first"}
    assert set(rows.outcome) <= {"holds", "fails", "undecided", TOO_FEW}
    assert set(rows.role) <= {"decides", "shown", "does not bite"}
    assert (rows.low <= rows.difference).all() and (rows.difference <= rows.high).all()
    headline = "source == 'mlp' and source_defence == 'standard' and attack == 'mi-fgsm' and norm == 'linf'"
    transfer = accuracy.query(headline).set_index("defence").accuracy
    row = rows[(rows.claim == "transfer") & (rows.context == "from mlp")].iloc[0]
    assert row.difference == pytest.approx(transfer["jsigr"] - transfer["standard"])
    own = rows[(rows.measure == "transfer accuracy") & rows.context.str.startswith("from ")]
    assert own["flags"].str.contains("few images").all()
    assert set(rows[rows.measure == "linearised robustness"]["flags"]) == {"none"}


# the scorecard


def test_scorecard(study, table):
    card = scorecard(study, LEDGER, table("contrasts"))
    assert list(card) == ["claim", "statement", "data", "verdict", "evidence", "paper", "n", "caveat", "figure"]
    assert set(card.data) == {"Fashion-MNIST"}
    assert set(card.paper) == {"not entered"}
    assert card.claim.tolist() == [claim.id for claim in LEDGER]
    card = card.set_index("claim")
    assert card.verdict["architectures"] == "not tested"
    assert card.evidence["architectures"] == "this run lacks what the test needs"
    assert card.n["architectures"] == "none"
    assert card.n["at-transfer"] == "32 images, 1 seed"
    assert card.n["linearised"] == "8 images, 1 seed"
    assert set(card.verdict) <= {"supported", "refuted", "inconclusive", "not tested"}


def test_scorecard_shows_the_differences(study, measured):
    measured(pair(NOISE + 0.5, NOISE))
    claim = claim_of(("m", "jsigr", "standard", 0.1), figure="g", caveat="Mind it.")
    row = scorecard(study, [claim], contrasts(study, [claim])).iloc[0]
    assert row.to_dict() == {
        "claim": "c",
        "statement": "It is so.",
        "data": "Fashion-MNIST",
        "verdict": "supported",
        "evidence": "J-SIGR − standard, m: +0.500 [+0.500, +0.500], holds",
        "paper": "not entered",
        "n": "40 images, 1 seed",
        "caveat": "Mind it.",
        "figure": "g",
    }


def test_scorecard_says_how_many_sources_are_behind_a_number_or_that_none_bites(study, measured):
    zeros, ours = ({("t", one): np.full((2, 4), level) for one in (POOLED, "from vgg")} for level in (0.0, 0.4))
    measured({"jsigr": ours, "standard": zeros})
    claim = claim_of(("t", "jsigr", "standard", 0.2))
    rows = contrasts(study, [claim])
    row = scorecard(study, [claim], rows).iloc[0]
    assert row.evidence == "J-SIGR − standard, t: +0.400 [+0.400, +0.400], holds (2 sources that bite)"
    assert (row.n, row.verdict) == ("4 images, 2 seeds", "supported")
    row = scorecard(study, [claim], rows[rows.context == "from vgg"]).iloc[0]
    assert (row.evidence, row.verdict) == ("J-SIGR − standard, t: no attack bites, of 1 source", "not tested")


def test_flags_of_a_test_do_not_look_like_another_test(study, measured):
    """Tests are parted by semicolons."""
    measured(pair(NOISE + 0.5, NOISE))
    claim = claim_of(("m", "jsigr", "standard", 0.1))
    rows = contrasts(study, [claim]).assign(flags="few images; more effort helps")
    (card,) = scorecard(study, [claim], rows).itertuples()
    assert card.evidence.endswith("(flags: few images, more effort helps)") and "; " not in card.evidence


def test_each_data_set_has_a_verdict_of_its_own(tiny, study, measured, tmp_path, monkeypatch, publish):
    """Of a replication, whatever the study itself finds; of one that nobody ran, none; of other margins, none."""
    monkeypatch.setattr("jsigr_lib.study.study.FIGURES", tmp_path)
    other, claim = tiny(study.store.root), claim_of(("m", "jsigr", "standard", 0.1))
    measured(pair(NOISE, NOISE))
    (tmp_path / "full-mnist").mkdir()
    contrasts(other, [claim]).assign(data="MNIST").to_csv(tmp_path / "full-mnist" / "contrasts.csv", index=False)
    publish(tmp_path / "full-mnist")
    measured(pair(NOISE + 0.5, NOISE))
    both = tiny(study.store.root, replications=["full-mnist", "full-cifar10"])
    rows = contrasts(both, [claim])
    assert rows[["data", "outcome"]].to_numpy().tolist() == [["Fashion-MNIST", "holds"], ["MNIST", "fails"]]
    card = scorecard(both, [claim], rows).set_index("data")
    assert card.verdict.tolist() == ["supported", "refuted", "not tested"]
    assert card.evidence["CIFAR-10 (JPEG copy)"] == verdicts.UNTESTED[False]
    assert scorecard(both, [claim_of(("m", "jsigr", "standard", 0.2))], rows).verdict.tolist() == ["not tested"] * 3


@pytest.mark.parametrize(
    ("content", "says"),
    [("data,claim\nMNIST,it,more\n", "is no table"), ("data,claim\nMNIST,it\n", "full-mnist have the columns data, c")],
)
def test_replication_that_is_no_table_of_contrasts(
    tiny, study, measured, tmp_path, monkeypatch, publish, content, says
):
    monkeypatch.setattr("jsigr_lib.study.study.FIGURES", tmp_path)
    measured(pair(NOISE + 0.5, NOISE))
    (tmp_path / "full-mnist").mkdir()
    (tmp_path / "full-mnist" / "contrasts.csv").write_text(content)
    publish(tmp_path / "full-mnist")
    both = tiny(study.store.root, replications=["full-mnist"])
    with pytest.raises(InputError, match=says):
        contrasts(both, [claim_of(("m", "jsigr", "standard", 0.1))])


def test_scorecard_without_any_contrast(study):
    card = scorecard(study, LEDGER, contrasts(study, []))
    assert set(card.verdict) == {"not tested"}


def test_trade_offs_are_the_numbers_of_the_other_tables(study, table):
    paid = table("trade-offs").set_index("defence")
    cost, measures = table("cost").set_index("defence"), table("measures")
    assert list(paid.index) == list(study.profile.defences)
    assert paid.cost.tolist() == cost.cost.tolist()
    assert paid.clean.tolist() == cost.clean.tolist()
    if verdicts.sources.voting(study, "small-cnn")[:1] == verdicts.sources.families(study, "small-cnn")[:1]:
        assert (paid.transferred_low <= paid.transferred).all()
    else:
        assert paid.transferred.tolist() == cost.accuracy.tolist()
    own = measures[(measures.architecture == study.architecture) & (measures.measure == "agreement")]
    own = own[(own["map"] == "gradient") & (own.input == "attacked")].set_index("defence").loc[paid.index]
    assert paid.agreement.tolist() == own["mean"].tolist()
    assert paid.agreement_low.tolist() == own.low.tolist()
    assert paid.map_images.tolist() == own.images.tolist()
