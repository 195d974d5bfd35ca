"""The README and the texts beside it say what the published tables say, link to what is there, and their code runs.

Their numbers and the words around them are written by tools/readme.py: the tests here ask its sentences about tables
that say one thing and about tables that say the opposite.
"""

import ast
import hashlib
import json
import re
import sys
import tomllib
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image

from jsigr_lib.method import defences
from jsigr_lib.method.registry import Registry
from jsigr_lib.records.running import running_code
from jsigr_lib.site import summary
from jsigr_lib.store import sources
from jsigr_lib.store.paths import FIGURES, ROOT

sys.path.insert(0, str(ROOT / "tools"))
import costs
import readme
import results

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [
    "README.md",
    "RESULTS.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "docs/cluster.md",
    "docs/rerun.md",
    "docs/trust.md",
    "docs/use.md",
]
WITH_CODE = ["README.md", "CONTRIBUTING.md", "docs/rerun.md", "docs/use.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_generated_text_is_current():
    """If this fails, `make readme` writes the texts anew."""
    for name, text in readme.current().items():
        assert read(name) == text, name


def test_the_picture_of_the_verdicts_is_current():
    """It holds its text in words."""
    fig, alt = results.picture()
    assert alt.startswith("The verdict on each claim, by data set. ") and fig.axes
    assert Image.open(ROOT / results.PICTURE).text["Description"] == alt


def prose(text: str) -> list[str]:
    """The words that a reader reads: no code blocks, comments, pictures, link targets, tables' bars; a word has a
    letter or a digit."""
    text = re.sub(r"```.*?```|<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in re.split(r"[\s|]+", text) if re.search(r"\w", word)]


def test_words_are_counted_as_they_are_read():
    text = "Two [words](a b).\n<!-- no -->\n![no no](x.png)\n```\nno\n```\n| one | - |\n"
    assert prose(text) == ["Two", "[words].", "one"]


def test_readme_is_read_in_three_minutes():
    assert len(prose(README)) <= 700


# sentences about tables that say one thing, and the opposite


def run(
    jsigr: float,
    *,
    standard: float = 0.3,
    fast: float = 0.8,
    sigr: float = 0.6,
    auto: float = 0.1,
    role: bool = False,
    verdict: str = "",
    parts: str = "",
    data: str = "DATA (copy)",
) -> results.Run:
    """One whose defences leave that of transferred attacks, give or take two points."""
    left = {"standard": standard, "jsigr": jsigr, "fast": fast, "sigr": sigr, "jacobian": sigr, "input-gradient": sigr}
    rows = [
        {"defence": one, "seeds": 3, "images": 2000, "transferred": of, "clean": 0.9 if one == "standard" else 0.86}
        for one, of in left.items()
    ]
    paid = pd.DataFrame(rows).assign(
        transferred_low=lambda of: of.transferred - 0.02, transferred_high=lambda of: of.transferred + 0.02
    )
    judged = pd.DataFrame({"defence": ["standard", "jsigr", "fast"], "accuracy": [0.0, auto, 0.4]})
    judged = judged.assign(
        judge="AutoAttack", low=judged.accuracy - 0.02, high=judged.accuracy + 0.02, images=500, seeds=1
    )
    claimed = {"transfer": verdict or "supported"} | ({"parts": parts} if parts else {})
    card = pd.DataFrame({"claim": list(claimed), "verdict": list(claimed.values()), "data": data})
    contrasts = pd.DataFrame({"data": [data]} | ({"role": ["decides"]} if role else {}))
    tables = {"trade_offs": paid, "judges": judged, "scorecard": card, "contrasts": contrasts}
    profile = {"eps": 8 / 255, "transfer_attacks": ["mi-fgsm"], "defences": {one: {"label": one} for one in left}}
    return results.Run("full", profile, tables.__getitem__)


def test_a_run_sees_where_its_attacks_take_half():
    assert run(0.7, standard=0.45).sees and not run(0.7, standard=0.46).sees
    assert run(0.7, standard=0.8, role=True, verdict="inconclusive").sees  # the second protocol knows by itself
    assert not run(0.7, role=True, verdict="not tested").sees


def test_the_first_protocol_says_what_it_could_not_see():
    assert "**On DATA, “not supported”" in results.protocol([run(0.7, standard=0.8), run(0.7, data="B")])
    assert "(80 of 90 %)" in results.protocol([run(0.7, standard=0.8)])
    seen = results.protocol([run(0.7)])
    assert "first protocol" in seen and "not tested" not in seen
    assert results.protocol([run(0.7, role=True), run(0.7, role=True, verdict="not tested")]) == ""


def test_a_result_is_of_transferred_attacks_where_they_are_tested():
    seen = readme.result(run(0.7))
    assert "eps 8/255: MI-FGSM attacks made on another network leave right: " in seen and "not tested" not in seen
    assert "J-SIGR 70 % [68, 72], no defence 30 % [28, 32] and fast 80 % [78, 82] (2,000 images, 3 seeds)" in seen
    assert "on other networks leave right" in readme.result(run(0.7, role=True))
    blind = readme.result(run(0.7, role=True, verdict="not tested"))
    assert "transferred attacks not tested. AutoAttack" in blind and "70 %" not in blind and "J-SIGR 10 %" in blind


def test_a_gain_is_said_where_there_is_one():
    won = readme.gain([run(0.7)], 1.27)
    assert (
        "**Yes" in won
        and "For 1.27 standard steps it leaves more right under transferred attacks: 40 points" in won
        and "4 points of clean" in won
    )
    lost = readme.gain([run(0.2)], 1.27)
    assert "**Not for" in lost and "nothing that is clear on DATA" in lost and "leaves" not in lost
    blind = readme.gain([run(0.7, standard=0.8)], 1.27)
    assert "**Nobody knows" in blind and "On DATA this is not tested; it costs 4 points." in blind


@pytest.mark.parametrize(
    ("jsigr", "auto", "lead", "said"),
    [
        (
            0.6,
            0.1,
            "Not if you can pay",
            "fast takes 2.00, 1.6 times J-SIGR's. It clearly leaves more right: transferred on",
        ),
        (0.9, 0.6, "Yes, instead of", "J-SIGR clearly leaves more: transferred on DATA; white-box on DATA."),
        (0.9, 0.1, "it depends", "right: white-box on DATA. J-SIGR clearly leaves more: transferred on DATA."),
        (0.8, 0.4, "may do as well", "Neither clearly leaves more"),
    ],
)
def test_training_on_attacks_is_advised_where_it_is_ahead(jsigr, auto, lead, said):
    text = readme.training_on_attacks([run(jsigr, auto=auto)], 1.25, 2.0)
    assert lead in text and said in text


def test_sources_are_compared_one_by_one():
    """They differ more among each other than the defences do, which are attacked through the same ones."""
    of = {"architecture": "small-cnn", "threat": "transfer", "source_defence": "standard", "attack": "mi-fgsm"}
    left = {("a", "jsigr"): 0.2, ("a", "fast"): 0.3, ("b", "jsigr"): 0.6, ("b", "fast"): 0.7, ("c", "jsigr"): 0.9}
    rows = [{"source": source, "defence": one, "accuracy": value} for (source, one), value in left.items()]
    table = pd.DataFrame(rows).assign(**of, norm="linf", eps=0.0314)
    table = table.assign(low=table.accuracy - 0.04, high=table.accuracy + 0.04)
    sources = pd.DataFrame({"architecture": "small-cnn", "source": ["a", "b", "c"], "votes": [True, True, False]})
    plain = run(0.79, role=True)
    tables = {"robustness": table, "sources": sources}
    second = replace(plain, table=lambda name: tables[name] if name in tables else plain.table(name))
    assert not readme.above(readme.transferred(second), "fast", "jsigr") and readme.leaves_more(second, "fast", "jsigr")
    assert not readme.leaves_more(second, "jsigr", "fast")
    tables["robustness"] = table.assign(low=table.low.where(table.source != "b", 0))
    assert not readme.leaves_more(second, "fast", "jsigr")
    assert not readme.leaves_more(run(0.79), "fast", "jsigr")


def test_the_least_difference_from_a_part_is_said():
    plain = run(0.7, role=True, parts="supported", data="DATA")
    rows = [("sigr", 0.2, 0.1), ("jacobian", 0.012, 0.0005)]
    table = pd.DataFrame(rows, columns=["b", "difference", "low"])
    table = table.assign(data="DATA", claim="parts", role="decides", a="jsigr", seeds=1, high=table.difference * 2)
    judged = replace(plain, table=lambda name: table if name == "contrasts" else plain.table(name))
    assert "*supported* on DATA (beside jacobian 0.012 [0.001, 0.024], 1 seed)." in readme.parts([judged])


def test_the_parts_are_said_as_they_are_judged():
    assert "Both penalties are needed" in readme.parts([run(0.7)])
    assert "not clearly ahead of input-gradient, jacobian and sigr on DATA" in readme.parts([run(0.6)])
    assert "not tested" in readme.parts([run(0.6, standard=0.8)])
    assert "Both penalties are needed" in readme.parts([run(0.6, parts="supported")])
    mixed = readme.parts([run(0.7, parts="supported"), run(0.7, parts="refuted", data="B")])
    assert "Try one penalty first" in mixed and "*supported* on DATA and *refuted* on B" in mixed


def test_results_are_of_either_protocol():
    """Full's tables with the columns of the second protocol, beside what they are."""
    first = results.published("full")
    second = first.table("contrasts").assign(role="shown", sources=1)
    of = {"contrasts": second, "scorecard": first.card.assign(verdict="not tested")}
    later = results.Run("full", first.profile, lambda name: of[name] if name in of else first.table(name))
    bites = "From the sources whose attack bites"
    assert bites in results.section(later) and bites not in results.section(first)
    assert not later.sees and not later.first_protocol
    assert results.UNSEEN not in results.section(later)  # its flags compare the seeds that both rows have
    assert results.RIVAL not in results.section(later) and results.RIVAL not in results.section(first)
    assert (results.UNSEEN in results.section(first)) == first.first_protocol
    assert "transferred attacks not tested" in readme.result(later)
    assert readme.found_by(later)["05_claims"] == f"of {readme.count(len(first.card), 'claim')}, all not tested"


def test_no_guarantee_says_what_the_strongest_judge_leaves():
    assert "leaves J-SIGR 10 % on DATA and 60 % on B" in readme.guarantee([run(0.7), run(0.7, auto=0.6, data="B")])


def test_a_block_is_written_anew_and_a_lost_one_named():
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    assert readme.with_blocks(text, {"x": lambda: "new \\1"}) == text.replace("old", "new \\1")
    with pytest.raises(ValueError, match=r"the blocks are x; accepted: x and y, each once"):
        readme.with_blocks(text, {"x": str, "y": str})
    with pytest.raises(ValueError, match=r"block 'x' has no end"):
        readme.with_blocks(text.replace("end x", "end z"), {"x": str})


# what texts say of files


def test_kills_lost_nothing():
    kills = costs.benchmark("kills")
    assert kills.kill.tolist() == list(range(1, len(kills) + 1)) and kills.intact.all() and not kills.orphans.any()
    assert f"[{len(kills)} more kills]" in read("docs/trust.md")


def test_as_many_architectures_are_tested_as_is_said():
    body = ast.parse(read("tests/method/test_architectures.py")).body
    tables = [one.value for one in body if isinstance(one, ast.Assign) and one.targets[0].id in ("QUICK", "SLOW")]
    assert f"tested are {sum(len(one.keys) for one in tables)} architectures" in read("docs/use.md")


def test_the_published_notebook_5_judges_its_own_data_as_every_page_says():
    """What other runs say of theirs is merged in, and changes nothing of it."""
    own, both = (
        pd.read_csv(FIGURES / "full" / "scorecard.csv", dtype=str, keep_default_na=False),
        summary.scorecard(FIGURES / "full"),
    )
    own, both = (card[card["data"] == own["data"].iloc[0]].reset_index(drop=True) for card in (own, both))
    assert len(own) and own.equals(both)


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_and_picture_exists(name):
    for target in re.findall(r"\]\(([^)#]+)\)", read(name)):
        if "://" not in target:
            assert ((ROOT / name).parent / target).exists(), target


def block(what: str, language: str = "python") -> str:
    """The one block that says `what`, of all texts."""
    text = "\n".join(map(read, WITH_CODE))
    (found,) = [one for one in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if what in one]
    return found


def executed(what: str, **names) -> dict:
    """Executes a Python block; the names that it leaves."""
    exec(compile(block(what), what, "exec"), names)
    return names


def test_five_lines_of_python_train():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    executed("# model: images to logits", model=model, x=torch.rand(8, 1, 28, 28), y=torch.arange(8))
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_pretrained_networks_are_used_as_the_readme_says():
    names = executed("pretrained")
    assert names["maps"].shape == (8, 1, 28, 28) and (names["maps"].amax((1, 2, 3)) > 0).all()


def test_python_block_runs():
    names = executed("optimizer.step()")
    assert names["mask"].shape == (32, 1, 28, 28)
    assert set(names["objective"].terms) == {"cross_entropy", "jacobian", "selective"}


def test_defence_of_the_readme_can_be_added(monkeypatch, tmp_path, tiny, study):
    """As a module beside it, that two worker processes import as well."""
    monkeypatch.setattr(defences, "OBJECTIVES", Registry(defences.OBJECTIVES))
    monkeypatch.setattr(sources, "OWN", {})
    monkeypatch.setattr(sources, "READ", dict(sources.READ))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_defences.py").write_text(block("LabelSmoothing"))
    chosen = {name: study.profile.defences[name].model_dump() for name in ("standard", "jsigr")}
    said = tomllib.loads(block("smoothing", "toml"))
    settings = {**said, "defences": chosen | said["defences"], "surrogate_defences": [], "featured": []}
    extended = tiny(study.store.root, seeds=[0, 1], jobs=2, **settings)
    networks = extended.targets()["small-cnn", "smoothing"]
    extended.make(networks)
    for network in networks:
        assert extended.get(network).facts["history"][0]["cross_entropy"] > 0
        assert "my_defences" in network.code.files
    assert extended.labels["smoothing"] == "label smoothing"
    assert list(running_code().own) == ["my_defences"]


@pytest.mark.parametrize("profile", sorted(path.name for path in FIGURES.iterdir() if path.is_dir()))
def test_published_files_are_the_ones_of_their_manifest(profile):
    manifest = json.loads((FIGURES / profile / "manifest.json").read_text())["sha256"]
    for name, sha in manifest.items():
        assert hashlib.sha256((FIGURES / profile / name).read_bytes()).hexdigest() == sha, name
