import copy
import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose
from PIL import Image

import jsigr_lib
from jsigr_lib.data.glyphs import SIDE
from jsigr_lib.figures import attacks as attack_figures
from jsigr_lib.figures import claims as claim_figures
from jsigr_lib.figures import gallery, plotting
from jsigr_lib.figures import known_truth as truth_figures
from jsigr_lib.figures import saliency as saliency_figures
from jsigr_lib.figures import theory as theory_figures
from jsigr_lib.figures import training as training_figures
from jsigr_lib.figures.plotting import (
    LOOKS,
    MARKERS,
    PALETTE,
    figure,
    heat_map,
    looks,
    map_grid,
    panels,
    save,
    show,
    write,
)
from jsigr_lib.findings import words
from jsigr_lib.measure import estimators as measure_estimators
from jsigr_lib.measure.attributions import CONTROLS, MAPS
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.paths import ROOT
from jsigr_lib.study import estimators, known_truth, linearised_tables, map_tables, robustness, verdicts
from jsigr_lib.study.attacked import Outcomes
from jsigr_lib.study.claims import load_claims
from jsigr_lib.study.sources import headline_attack

ALT = "Three dots; the last is the highest, at 9."


@pytest.fixture(autouse=True)
def shown(monkeypatch) -> list:
    """What is displayed in the notebook."""
    calls = []
    monkeypatch.setattr(plotting, "display", lambda data, **options: calls.append((data, options)))
    return calls


@pytest.fixture
def desk(study, tmp_path):
    """desk(name): the tiny study, under the name of some profile, with an output folder of its own."""

    def named(name: str = "smoke"):
        other = copy.copy(study)
        other.profile = study.profile.model_copy(update={"name": name})
        other.out = tmp_path / name
        return other

    return named


def dots(width: float = 3, height: float = 2) -> Figure:
    fig = figure(width, height)
    (axes,) = panels(fig)[0]
    axes.plot([1, 2, 3], [1, 4, 9], marker="o")
    axes.set(title="dots", xlabel="x", ylabel="y")
    return fig


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def drawn(fig: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=40)
    return picture(buffer.getvalue())


def test_a_users_own_style_of_matplotlib_changes_nothing(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nlines.linestyle: :\nfont.size: 30\n")
    names = ("text.usetex", "lines.linestyle", "font.size")
    said = f"import matplotlib as mpl, jsigr_lib.figures.plotting; print([mpl.rcParams[name] for name in {names}])"
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "check": True}
    found = subprocess.run([sys.executable, "-c", said], text=True, **options).stdout
    assert found.strip() == str([mpl.rcParams[name] for name in names])


# saving


def test_save_writes_picture_drawing_and_sidecar(desk, shown):
    study = desk()
    save(study, "dots", dots(), ALT)
    assert sorted(path.name for path in study.out.iterdir()) == ["dots.json", "dots.png", "dots.svg"]
    sidecar = json.loads((study.out / "dots.json").read_text())["figure"]
    assert sidecar["alt"] == ALT
    assert sidecar["sha256"] == {
        kind: hashlib.sha256((study.out / f"dots.{kind}").read_bytes()).hexdigest() for kind in ("png", "svg")
    }
    assert (sidecar["data"]["content"], sidecar["code"]["version"]) == (study.data.content, jsigr_lib.__version__)
    assert sidecar["profile"]["eps"] == study.profile.eps
    assert "data_root" not in sidecar["profile"]
    with Image.open(study.out / "dots.png") as image:
        assert image.size == (450, 300)
        assert image.text["Description"] == ALT
    svg = ElementTree.parse(study.out / "dots.svg").getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert ALT in ElementTree.tostring(svg, encoding="unicode")


def test_save_shows_the_picture_with_its_alternative_text(desk, shown):
    study = desk()
    save(study, "dots", dots(), ALT)
    ((data, options),) = shown
    assert data == {"image/png": (study.out / "dots.png").read_bytes()}
    assert options == {"raw": True, "metadata": {"image/png": {"alt": ALT, "width": 300}}}


def test_save_names_the_choices_behind_a_figure(desk, shown):
    study = desk()
    save(study, "agreement", dots(), ALT)
    (_, picture), (data, options) = shown
    assert "image/png" in picture["metadata"] and options == {"raw": True}
    said = "Choices behind this figure: D2 hard selection; D3 self targets; "
    assert data["text/markdown"].startswith(said) and data["text/plain"] == data["text/markdown"]
    choices = json.loads((study.out / "agreement.json").read_text())["figure"]["choices"]
    assert choices["D2"] == "hard selection"
    assert data["text/markdown"].count(";") == len(choices) - 1


def test_a_figure_that_no_choice_shapes_has_no_such_line(desk, shown):
    study = desk()
    save(study, "dots", dots(), ALT)
    assert len(shown) == 1
    assert json.loads((study.out / "dots.json").read_text())["figure"]["choices"] == {}


def test_write_is_save_that_shows_nothing(desk, shown):
    study = desk()
    png = write(study, "dots", dots(), ALT)
    assert shown == []
    assert png == (study.out / "dots.png").read_bytes()
    written = {path.name: path.read_bytes() for path in study.out.iterdir()}
    assert sorted(written) == ["dots.json", "dots.png", "dots.svg"]
    save(study, "dots", dots(), ALT)
    assert {path.name: path.read_bytes() for path in study.out.iterdir()} == written


@pytest.mark.parametrize("keep", [save, write])
@pytest.mark.parametrize("alt", ["", "   ", "\n\t"])
def test_alternative_text_is_not_optional(desk, shown, keep, alt):
    study = desk()
    with pytest.raises(ValueError, match="figure 'dots' has an empty alt text; accepted: "):
        keep(study, "dots", dots(), alt)
    assert not study.out.exists()
    assert shown == []


def test_saved_twice_is_the_same_to_the_byte(desk, table):
    names = {}
    for _ in range(2):
        study = desk()
        save(study, "curves", *training_figures.training_curves(study, table("history")))
        for path in study.out.iterdir():
            names.setdefault(path.name, []).append(path.read_bytes())
            path.unlink()
    assert sorted(names) == ["curves.json", "curves.png", "curves.svg"]
    assert all(first == second for first, second in names.values())


def test_save_replaces_an_older_figure(desk):
    study = desk()
    save(study, "dots", dots(), "An older figure.")
    save(study, "dots", dots(4, 3), ALT)
    with Image.open(study.out / "dots.png") as image:
        assert (image.size, image.text["Description"]) == ((600, 450), ALT)
    assert json.loads((study.out / "dots.json").read_text())["figure"]["alt"] == ALT


def test_only_smoke_is_stamped(desk):
    """An empty figure, above its footer: blank, unless it is a smoke run's."""
    shades = {}
    for name in ("smoke", "quick", "mine"):
        study = desk(name)
        save(study, "empty", figure(4, 3), ALT)
        image = picture((study.out / "empty.png").read_bytes())
        shades[name] = int(image[:-40].min())
        assert image[-40:].min() < 200  # the footer
    assert shades["quick"] == shades["mine"] == 255
    assert 150 < shades["smoke"] < 240  # visible, and what lies below it too


def test_footer_names_the_profile(desk):
    images = []
    for name in ("quick", "quack"):
        study = desk(name)
        save(study, "empty", figure(4, 3), ALT)
        images.append(picture((study.out / "empty.png").read_bytes()))
    assert np.array_equal(images[0][:-40], images[1][:-40])
    assert not np.array_equal(images[0][-40:], images[1][-40:])


def test_figures_stay_out_of_pyplot():
    dots()
    assert pyplot.get_fignums() == []


def test_panels_are_always_a_grid():
    fig = figure(5, 5)
    assert panels(fig).shape == (1, 1)
    assert panels(fig, 2, 3).shape == (2, 3)
    assert (fig.get_figwidth(), fig.get_figheight()) == (5, 5)


def test_each_defence_has_its_look(study):
    assert list(looks(study)) == list(study.profile.defences)
    assert [look["label"] for look in looks(study).values()] == list(study.labels.values())
    assert len({(look["color"], look["marker"]) for look in looks(study).values()}) == len(study.profile.defences)
    assert len(set(PALETTE)) == len(PALETTE) == len(set(MARKERS)) == len(MARKERS)


def test_a_defence_looks_the_same_in_every_profile(study, monkeypatch):
    of = type(study).labels
    few = {"fast": "fast", "mine": "my own", "jsigr": "J-SIGR", "another": "another"}
    monkeypatch.setattr(type(study), "labels", property(lambda _: few))
    found = {name: (look["color"], look["marker"]) for name, look in looks(study).items()}
    assert (found["jsigr"], found["fast"]) == (LOOKS["jsigr"], LOOKS["fast"])
    assert len({*found.values()}) == len(few)
    monkeypatch.setattr(type(study), "labels", of)
    assert looks(study)["jsigr"]["color"] == LOOKS["jsigr"][0]


@pytest.mark.parametrize("width", [3, 11])
def test_no_footer_is_cut(desk, width):
    study = desk()
    study.profile = study.profile.model_copy(update={"data_name": "photographs of " + "garments and shoes, " * 6})
    write(study, "empty", fig := figure(width, 3), ALT)
    fig.canvas.draw()
    box = fig.texts[0].get_window_extent()
    assert box.x1 <= fig.bbox.x1 and box.y0 >= 0
    assert fig.axes == [] and fig.texts[0].get_text().replace("\n", " ") == study.footer


# images, maps, tables


def axes_of(fig: Figure):
    return panels(fig)[0, 0]


def test_heat_map_writes_every_number():
    rows = pd.DataFrame({"x": [0.0, np.nan], "y": [0.456, 1.0]}, index=["first", "second"])
    axes = axes_of(figure(3, 3))
    heat_map(axes, rows, title="t")
    assert {text.get_text(): (text.get_position(), text.get_color()) for text in axes.texts} == {
        "0.00": ((0, 0), "white"),
        "0.46": ((1, 0), "white"),
        "1.00": ((1, 1), "black"),
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.get_title("left") == "t"
    assert axes.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (3, (4, 5, 3))])
def test_images_grey_and_colour(channels, shape):
    array = np.random.default_rng(0).random((channels, 4, 5))
    axes = axes_of(figure(2, 2))
    show(axes, array)
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == shape
    assert_allclose(shown, array[0] if channels == 1 else array.transpose(1, 2, 0))
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_maps_are_scaled_by_their_own_peak():
    axes = axes_of(figure(2, 2))
    show(axes, np.linspace(0, 7, 1001).reshape(7, 143))
    assert axes.images[0].get_clim() == (0, pytest.approx(6.965))
    axes = axes_of(figure(2, 2))
    show(axes, np.zeros((3, 3)))
    assert axes.images[0].get_clim() == (0, 1)


def test_map_grid_tells_right_from_wrong():
    image, saliency = np.zeros((1, 4, 4)), np.ones((4, 4))
    fig = map_grid(
        [[(image, "cat", None), (saliency, "cat", True), (saliency, "dog", False)]] * 2,
        columns=["image", "A", "B"],
        names=["one", "two"],
    )
    assert len(fig.axes) == 6
    assert [axes.get_xlabel() for axes in fig.axes] == ["cat", "cat", "dog"] * 2
    assert [axes.get_title() for axes in fig.axes] == ["image", "A", "B", "", "", ""]
    assert [fig.axes[i].get_ylabel() for i in (0, 3)] == ["one", "two"]
    neutral, right, wrong = (axes.xaxis.label.get_color() for axes in fig.axes[:3])
    assert len({neutral, right, wrong}) == 3
    assert [axes.xaxis.label.get_color() for axes in fig.axes[3:]] == [neutral, right, wrong]


# the figures of the study


def estimator_figure(study, table):
    rng = np.random.default_rng(0)
    names = ("standard", "jsigr")
    samples = {name: rng.normal(1, 0.3, (500, 6)) for name in names}
    return theory_figures.projection_estimator(study, samples, {name: np.full(6, 0.3) for name in names})


def spread_figure(study, table):
    rows = table("scatter")
    return theory_figures.estimator_spread(study, rows, estimators.coin_moments(study))


def tangent_figure(study, table):
    radii = [0.1, 1.0, 3.0]
    error = np.outer([0.01, 0.1, 0.4], np.linspace(0.5, 1.5, 9))
    errors = {name: [error, 2 * error] for name in ("standard", "jsigr")}
    return theory_figures.linearisation_error(study, radii, errors, 2.8)


def linearised_figure(study, table):
    values = {name: linearised_tables.linearised_values(study, study.training(name)) for name in study.profile.defences}
    return theory_figures.linearised_robustness(study, values, table("linearised"))


def cost_figure(study, table):
    table("history")
    return attack_figures.cost_scatter(study, table("cost"), robustness.training_seconds(study))


FIGURES = {
    "trade-offs": lambda study, table: claim_figures.trade_offs(study, table("trade-offs")),
    "training curves": lambda study, table: training_figures.training_curves(study, table("history")),
    "accuracy": lambda study, table: attack_figures.accuracy_curves(study, table("accuracy")),
    "judges": lambda study, table: attack_figures.judges(study, table("judges")),
    "ranking": lambda study, table: attack_figures.attack_ranking(study, table("accuracy")),
    "matrix": lambda study, table: attack_figures.transfer_matrix(study, table("accuracy")),
    "frontier": lambda study, table: training_figures.frontier(study, table("search"), ["mlp", "vgg"]),
    "strength": lambda study, table: attack_figures.strength(study, table("strength")),
    "sources": lambda study, table: claim_figures.sources(study, table("contrasts"), table("sources")),
    "grid": lambda study, table: training_figures.lambda_grid(study, table("search"), ["mlp", "vgg"]),
    "cost": cost_figure,
    "deletion and insertion": lambda study, table: saliency_figures.probability_curves(study, table("curves")),
    "forest": lambda study, table: claim_figures.forest(study, table("contrasts")),
    "verdicts": lambda study, table: claim_figures.verdicts(
        verdicts.scorecard(study, load_claims(), table("contrasts"))
    ),
    "agreement": lambda study, table: saliency_figures.agreement_bars(study, table("measures")),
    "faithfulness": lambda study, table: saliency_figures.map_measures(
        study, table("measures"), saliency_figures.FAITHFULNESS
    ),
    "robustness of maps": lambda study, table: saliency_figures.map_measures(
        study, table("measures"), saliency_figures.ROBUSTNESS
    ),
    "cascade": lambda study, table: saliency_figures.cascade(study, table("cascade")),
    "known truth": lambda study, table: truth_figures.measured(study, table("known truth")),
    "projections": estimator_figure,
    "spread": spread_figure,
    "linearised": linearised_figure,
    "tangent": tangent_figure,
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_and_its_words(study, table, name):
    """A figure that can be drawn, with a finding above it, whose panels say what they are, and a sentence."""
    fig, alt = FIGURES[name](study, table)
    assert isinstance(fig, Figure)
    assert len(alt.split()) > 10 and alt.strip().endswith(".")
    assert "nan" not in alt and "\n" not in alt
    assert len(fig.get_suptitle().split()) > 3 and "nan" not in fig.get_suptitle()
    assert fig.axes
    for axes in fig.axes:
        assert axes.get_title("left") or not axes.get_subplotspec().is_first_row() or len(fig.axes) == 1
        assert axes.lines or axes.images or axes.collections or axes.patches
    for axes in fig.axes:
        if axes.get_subplotspec().is_last_row():
            names = [label.get_text() for label in axes.get_xticklabels()]
            assert axes.get_xlabel() or set(names) == {study.labels[name] for name in study.featured}
        if axes.get_subplotspec().is_first_col():
            assert axes.get_ylabel() or all(label.get_text() for label in axes.get_yticklabels())
    assert drawn(fig).std() > 5


def relabelled(study, sign: str):
    """The study, its labels and the name of its data made of a sign."""
    other = copy.copy(study)
    names = {
        name: one.model_copy(update={"label": f"{sign}{i}"})
        for i, (name, one) in enumerate(study.profile.defences.items())
    }
    other.profile = study.profile.model_copy(update={"defences": names, "data_name": f"{sign}data"})
    return other


def literal(fig: Figure) -> list[str]:
    """What the texts of a figure show, but for mathematics and the lines that a legend leaves out."""
    for axes in fig.axes:
        axes.get_xticklabels(), axes.get_yticklabels()  # which fills them in
    texts = [text.get_text() for text in fig.findobj(Text)]
    return [text.replace(r"\$", "$") for text in texts if not is_math_text(text)]


@pytest.mark.parametrize(
    "name", [name for name in FIGURES if name not in ("grid", "strength")]
)  # which name no defence
def test_labels_are_text(study, table, name):
    """A sign that is no mathematics, and would be taken for it or for no text at all, is shown where another is."""
    data, places = study.profile.data_title, []
    for sign in ("sign", "_$\\frac{$_<b>"):
        named = relabelled(study, sign)
        fig, _ = FIGURES[name](named, lambda name, to=f"{sign}data": table(name).replace({"data": {data: to}}))
        signs = [*named.labels.values(), f"{sign}data"]
        places.append([sum(one in text for text in literal(fig)) for one in signs])
    assert places[0] == places[1] and sum(places[0]) > 0


def test_footer_is_text(desk, study):
    named = relabelled(desk(), "$\\frac{$")
    write(named, "empty", fig := figure(4, 3), ALT)
    assert any(named.footer in text for text in literal(fig))


def test_a_users_matplotlibrc_changes_nothing(tmp_path):
    path = tmp_path / "matplotlibrc"
    path.write_text("text.usetex: true\nfont.family: monospace\naxes.facecolor: red\nlines.linestyle: --\n")
    before = drawn(dots())
    with mpl.rc_context(fname=path):
        assert mpl.rcParams["text.usetex"]
        importlib.reload(plotting)
        assert np.array_equal(drawn(dots()), before)


def test_training_curves_plot_the_history(study, table):
    history = pd.concat([table("history"), table("history").assign(epoch=2, validation_accuracy=0.875)])
    fig, alt = training_figures.training_curves(study, history)
    left, right = fig.axes
    assert study.featured != list(study.labels)
    for i, name in enumerate(study.featured):
        rows = history[history.defence == name]
        assert_allclose(left.lines[i].get_ydata(), rows.validation_accuracy)
        assert_allclose(right.lines[i].get_ydata(), rows.jacobian_norm)
        assert left.lines[i].get_xdata().tolist() == [1, 2]
        assert left.lines[i].get_color() == looks(study)[name]["color"]
        assert (
            f"{study.labels[name]} ends at accuracy 0.88" in alt or f"{study.labels[name]} ends at accuracy 0.87" in alt
        )
    assert right.get_yscale() == "log"


def test_accuracy_curves_plot_the_table(study, table):
    accuracy = table("accuracy")
    fig, alt = attack_figures.accuracy_curves(study, accuracy)
    everyone = "mlp+vgg+small-cnn"
    panels = ["MI-FGSM from the mlp", "MI-FGSM from 5 networks together", "PGD, white-box"]
    assert [axes.get_title("left") for axes in fig.axes] == panels
    accuracy = accuracy[accuracy.norm == "linf"]
    shown = [("mi-fgsm", "mlp", "standard"), ("mi-fgsm", everyone, "standard+pgd"), ("pgd", "itself", "")]
    for axes, (attack, source, of) in zip(fig.axes, shown, strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_linestyle() == "-"]
        for line, name in zip(lines, study.featured, strict=True):
            rows = accuracy[accuracy.defence == name]
            rows = rows[(rows.threat == "clean") | ((rows.source == source) & (rows.attack == attack))]
            rows = rows[(rows.threat == "clean") | (rows.source_defence == of) | (source == "itself")]
            assert line.get_xdata().tolist() == [0.0, 0.1]
            assert_allclose(line.get_ydata(), rows.sort_values("eps").accuracy)
    headline = accuracy.query("source == 'mlp' and source_defence == 'standard' and attack == 'mi-fgsm' and eps == 0.1")
    for row in headline[headline.defence.isin(study.featured)].itertuples():
        assert f"{study.labels[row.defence]} {row.accuracy:.2f}" in alt


def test_the_transfer_matrix_has_a_row_per_source_the_worst_for_jsigr_on_top(study, table):
    accuracy = table("accuracy")
    fig, alt = attack_figures.transfer_matrix(study, accuracy)
    (axes,) = fig.axes
    rows = accuracy.query("threat == 'transfer' and attack == 'mi-fgsm' and eps == 0.1 and norm == 'linf'")
    at = {(row.source, row.source_defence, row.defence): row.accuracy for row in rows.itertuples()}
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(rows.groupby(["source", "source_defence"]))
    shown = {line.get_label(): line.get_xdata() for line in axes.lines}
    assert list(shown) == [study.labels[name] for name in plotting.main(study)]
    assert shown["standard"][labels.index("mlp, standard")] == at["mlp", "standard", "standard"]
    assert shown["J-SIGR"][labels.index("mlp, PGD-2 training")] == at["mlp", "pgd", "jsigr"]
    assert np.isnan(shown["J-SIGR"][labels.index("small-cnn, J-SIGR")])  # it is never its own source
    known = shown["J-SIGR"][np.isfinite(shown["J-SIGR"])]
    assert list(known) == sorted(known)
    assert labels[0] in fig.get_suptitle().replace("\n", " ")
    assert f"from {rows.accuracy.min():.2f} to {rows.accuracy.max():.2f}" in alt


def test_attacks_are_ranked_by_what_they_leave_of_defended_targets(study, table):
    fig, alt = attack_figures.attack_ranking(study, table("accuracy"))
    (axes,) = fig.axes
    headline = "threat == 'transfer' and source == 'mlp' and source_defence == 'standard' and norm == 'linf'"
    rows = table("accuracy").query(headline)
    means = rows[rows.defence != "standard"].groupby("attack").accuracy.mean().sort_values()
    assert [label.get_text() for label in axes.get_yticklabels()] == [attack.upper() for attack in means.index]
    at = rows.set_index(["attack", "defence"]).accuracy
    for line, name in zip(axes.lines, plotting.main(study), strict=True):
        assert_allclose(line.get_xdata(), [at[attack, name] for attack in means.index])
    assert f"{means.index[0].upper()} {means.iloc[0]:.3f}" in alt


@pytest.mark.parametrize("name", ["accuracy_curves", "transfer_matrix", "attack_ranking"])
def test_a_budget_is_found_in_a_table_that_rounds_it(study, table, name):
    eps, own, accuracy, draw = 8 / 255, study.profile.eps, table("accuracy"), getattr(attack_figures, name)
    other = copy.copy(study)
    other.profile = study.profile.model_copy(update={"eps": eps})
    saved = accuracy.assign(eps=accuracy.eps.replace(own, eps).round(4))
    assert eps not in saved.eps.unique()
    assert draw(other, saved)[1].replace("eps 8/255", f"eps {own:g}") == draw(study, accuracy)[1]


def test_judges_have_a_row_of_dots_per_defence(study, table):
    judges = table("judges")
    fig, alt = attack_figures.judges(study, judges)
    (axes,) = fig.axes
    shown = {container.get_label(): container.lines[0].get_xydata() for container in axes.containers}
    assert set(shown) == set(judges.judge) - {"PGD"}
    for judge, points in shown.items():
        rows = judges[judges.judge == judge].set_index("defence").accuracy
        assert_allclose(points, [[rows[name], i] for i, name in enumerate(study.labels)])
    assert alt.startswith("Accuracy of each defence")


def test_lambda_grid_shows_both_tables_and_names_the_best(study, table):
    found = table("search")
    grid = found[(found.defence == "jsigr") & (found.split == "validation")]
    fig, alt = training_figures.lambda_grid(study, found, ["mlp"])
    for axes, threat in zip(fig.axes, ("clean", "transfer"), strict=True):
        rows = grid[(grid.threat == threat) & grid.source.isin(["", "mlp"])].groupby("weights").accuracy.mean()
        expected = [[rows[f"lambda_j {j:g}, lambda_s {s:g}"] for s in (0.0, 3.0)] for j in (0.0, 0.01)]
        assert_allclose(axes.images[0].get_array(), expected)
    best = grid[grid.source == "mlp"].accuracy.max()
    assert alt.endswith(f": {best:.2f}.")


def test_frontier_draws_every_candidate_and_rings_the_chosen(study, table):
    found = table("search")
    fig, alt = training_figures.frontier(study, found, ["mlp", "vgg"])
    for axes, split in zip(fig.axes, ("validation", "test"), strict=True):
        rows = found[(found.defence == "jsigr") & (found.split == split)]
        clean = rows[rows.threat == "clean"].set_index(["weights", "chosen"]).accuracy
        left = rows[rows.source.isin(["mlp", "vgg"])].groupby(["weights", "chosen"]).accuracy.mean()
        points = pd.DataFrame({"clean": clean, "left": left}).reset_index()
        line, ring = axes.lines[2:4]  # the standard network's come first
        assert sorted(map(tuple, line.get_xydata())) == sorted(map(tuple, points[["clean", "left"]].to_numpy()))
        assert_allclose(ring.get_xydata(), points[points.chosen][["clean", "left"]])
    assert f"{study.labels['jsigr']} (lambda_j " in alt


def test_sources_that_do_not_bite_are_hollow(study, table):
    told = table("sources")
    fig, alt = claim_figures.sources(study, table("contrasts"), told)
    (axes,) = fig.axes
    rows = told[(told.source_defence == "standard") | told.source.str.contains("+", regex=False)]
    assert len(axes.containers) == len(rows)
    for container, row in zip(axes.containers, rows.itertuples(), strict=True):
        point = container.lines[0]
        assert point.get_xdata()[0] == pytest.approx(row.share_left)
        assert point.get_fillstyle() == ("full" if row.bites else "none")
    assert f"mlp leaves {rows.share_left.iloc[0]:.0%}, gain " in alt


def test_a_grid_needs_weights_that_were_tried(tiny, study, table):
    defences = {name: {**one.model_dump(), "tried": {}} for name, one in study.profile.defences.items()}
    with pytest.raises(InputError, match=r"^tried of defence 'jsigr' = \{\}; accepted: "):
        training_figures.lambda_grid(tiny(study.store.root, defences=defences), table("search"), ["mlp"])


def test_trade_offs_stand_where_the_table_says(study, table):
    paid = table("trade-offs")
    fig, alt = claim_figures.trade_offs(study, paid)
    for axes, column in zip(fig.axes, ("clean", "cost", "agreement"), strict=True):
        points = [tuple(container.lines[0].get_xydata()[0]) for container in axes.containers]
        assert points == list(zip(paid[column], paid.transferred, strict=True))
    (row,) = paid[paid.defence == "jsigr"].itertuples()
    assert f"{study.labels['jsigr']} {row.transferred:.2f}, clean {row.clean:.2f}, {row.cost:.2f} times" in alt


def test_cost_is_relative_to_standard(study, table):
    seconds = {name: 2.0 + i for i, name in enumerate(study.profile.defences)}
    fig, alt = attack_figures.cost_scatter(study, table("cost"), seconds)
    left, right = fig.axes
    cost = table("cost").set_index("defence")
    for i, name in enumerate(study.profile.defences):
        points = [axes.containers[i].lines[0].get_xydata()[0] for axes in (left, right)]
        assert points[0].tolist() == [cost.cost[name], cost.accuracy[name]]
        assert points[1].tolist() == [(2 + i) / 2, cost.accuracy[name]]
    assert f"{study.labels['jsigr']} {cost.cost['jsigr']:.2f} times, {cost.accuracy['jsigr']:.2f}" in alt


def test_probability_curves_plot_both_maps(study, table):
    curves = table("curves")
    fig, _ = saliency_figures.probability_curves(study, curves)
    assert [axes.get_title("left") for axes in fig.axes] == [
        "Deletion, clean images: lower is better",
        "Deletion, attacked images: lower is better",
        "Insertion, clean images: higher is better",
        "Insertion, attacked images: higher is better",
    ]
    lines = fig.axes[3].lines
    assert len(lines) == 2 * len(plotting.main(study))
    last = curves.query("curve == 'insertion' and input == 'attacked'")
    name = plotting.main(study)[-1]
    for line, kind in zip(lines[-2:], map_tables.PAIR, strict=True):
        expected = last[(last.defence == name) & (last["map"] == kind)]
        assert_allclose(line.get_ydata(), expected.probability)
    assert lines[-2].get_linestyle() == "-" and lines[-1].get_linestyle() == "--"


def test_forest_has_a_row_per_test_and_a_panel_per_data_set(study, table):
    contrasts = table("contrasts")
    contrasts = contrasts[contrasts.role == "decides"]
    other = contrasts[contrasts.claim == "linearised"].assign(data="other data", difference=0.125)
    shown = other.assign(role="shown", outcome="fails")  # decides nothing, and is not drawn
    both = pd.concat([contrasts, other])
    fig, alt = claim_figures.forest(study, pd.concat([both, shown]))
    left, right = fig.axes
    assert [axes.get_title("left") for axes in fig.axes] == ["Fashion-MNIST", "other data"]
    tests = contrasts.drop_duplicates(["claim", "measure", "a", "b"])
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert len(labels) == len(tests)
    assert "linearised: J-SIGR − standard,\nlinearised robustness" in labels
    drawn = [line.get_xdata() for line in left.lines]
    first = contrasts.iloc[0]
    assert [list(data) for data in drawn[:3]] == [[first.low, first.high], [first.difference], [first.margin] * 2]
    assert len(drawn) == 3 * len(contrasts) + 1 and len(right.lines) == 3 * len(other) + 1
    assert alt.startswith(f"The {len(both)} differences")
    for outcome, count in both.outcome.value_counts().items():
        assert f"{count} {outcome}" in alt


def test_verdicts_are_those_of_the_scorecard(study, table):
    card = verdicts.scorecard(study, load_claims(), table("contrasts"))
    card = pd.concat([card, card.assign(data="other data", verdict="supported")])
    fig, alt = claim_figures.verdicts(card)
    (axes,) = fig.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Fashion-MNIST", "other data"]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    for i, claim in enumerate(card.claim.unique()):
        own = card[card.claim == claim]
        few = own.evidence.str.contains("too few images")
        said = own.verdict.where(~few, own.verdict + "\ntoo few images").tolist()
        assert [written[0, i], written[1, i]] == said
    for row in card.itertuples():
        assert f"{row.statement} {row.data}: {row.verdict}" in alt


def test_agreement_bars_are_the_means(study, table):
    measures = table("measures")
    fig, alt = saliency_figures.agreement_bars(study, measures)
    wanted = [
        ("agreement", "gradient", "clean"),
        ("agreement", "gradient", "attacked"),
        ("stability", "gradient", "both"),
    ]
    for axes, (measure, name, given) in zip(fig.axes, wanted, strict=True):
        rows = measures[(measures.measure == measure) & (measures["map"] == name) & (measures.input == given)]
        bars = [patch.get_width() for patch in axes.patches]
        assert bars == rows.set_index("defence")["mean"][list(study.profile.defences)].tolist()
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == list(study.labels.values())
    clean = measures.query("measure == 'agreement' and map == 'gradient' and input == 'clean' and defence == 'jsigr'")[
        "mean"
    ].item()
    assert f"J-SIGR {clean:.2f}" in alt


def test_projections_are_a_histogram_and_the_spread_per_image(study, table):
    fig, alt = estimator_figure(study, table)
    left, right = fig.axes
    samples = np.random.default_rng(0).normal(1, 0.3, (500, 6))  # of the first network
    assert_allclose(right.collections[0].get_offsets(), np.stack([np.full(6, 0.3), samples.std(0)], 1))
    assert len(left.patches) == len(right.collections) == 2
    assert alt.endswith("on the diagonal, around 0.30.")


def test_spread_has_measured_dots_on_predicted_curves(study, table):
    rows, moments = table("scatter"), estimators.coin_moments(study)
    fig, alt = spread_figure(study, table)
    (axes,) = fig.axes
    assert axes.get_yscale() == "log"
    *lines, profile_coin = axes.lines
    assert profile_coin.get_xdata() == [study.profile.penalty.coin] * 2
    for (name, sums), curve, dots in zip(moments.items(), lines[::2], lines[1::2], strict=True):
        assert curve.get_color() == dots.get_color() == looks(study)[name]["color"]
        coins = curve.get_xdata()
        assert_allclose(curve.get_ydata(), [measure_estimators.predicted_spread(sums, coin) for coin in coins])
        own = rows[(rows.defence == name) & rows.predicted.notna()]
        assert dots.get_linestyle() == "None"
        assert dots.get_xdata().tolist() == own.coin.tolist() == list(estimators.COINS)
        assert dots.get_ydata().tolist() == own.spread.tolist()
        assert coins.min() <= min(estimators.COINS) and coins.max() >= max(estimators.COINS)
        assert f"{study.labels[name]} {measure_estimators.best_coin(sums):.2f}" in alt


def test_linearised_bars_are_the_means(study, table):
    fig, alt = linearised_figure(study, table)
    means = table("linearised").query("quantity == 'robustness'").set_index("defence")["mean"]
    assert [patch.get_width() for patch in fig.axes[1].patches] == means[list(study.profile.defences)].tolist()
    for name, value in means.items():
        assert f"{study.labels[name]} {value:.2f}" in alt
    values = linearised_tables.linearised_values(study, study.training("standard"))
    shown = fig.axes[0].collections[0].get_offsets()
    right = values["robustness"] > 0
    assert_allclose(shown, np.stack([values["bound"][right], values["robustness"][right]], 1))


def test_tangent_curves_are_medians(study, table):
    fig, _ = tangent_figure(study, table)
    for axes, factor in zip(fig.axes, (1, 2), strict=True):
        assert_allclose(axes.lines[0].get_ydata(), factor * np.array([0.01, 0.1, 0.4]))
        assert axes.lines[-1].get_xdata() == [2.8, 2.8]


# the galleries


@pytest.fixture(scope="module")
def galleries(study) -> dict:
    return {"glance": gallery.glance(study), "in full": gallery.in_full(study), "every map": gallery.every_map(study)}


@pytest.mark.parametrize("name", ["glance", "in full", "every map"])
def test_gallery_and_its_words(study, galleries, name):
    fig, alt = galleries[name]
    assert len(alt.split()) > 10 and alt.endswith(".")
    assert all(len(axes.images) == 1 for axes in fig.axes)
    titles = [axes.get_title() for axes in fig.axes if axes.get_subplotspec().is_first_row()]
    assert all(titles)
    assert [title.replace("\n", " ") for title in titles][-len(study.featured) :] == [
        study.labels[name] for name in study.featured
    ]
    assert drawn(fig).std() > 20


def cells(fig: Figure) -> np.ndarray:
    rows, columns = fig.axes[0].get_gridspec().get_geometry()
    return np.array(fig.axes, dtype=object).reshape(rows, columns)


def test_glance_shows_images_attacked_images_and_gradient_maps(study, galleries):
    fig, alt = galleries["glance"]
    grid = cells(fig)
    defences = study.featured
    assert grid.shape == (study.profile.gallery_images, 2 + len(defences))
    attacked = headline_attack(study, study.architecture)
    for i, row in enumerate(grid):
        label = study.dataset.classes[study.dataset.test.labels[i]]
        assert row[0].get_xlabel() == label and label in alt
        image, changed = (np.asarray(axes.images[0].get_array()) for axes in row[:2])
        assert_allclose(image, study.dataset.test.images[i, 0] / 255, atol=1e-6)
        assert_allclose(changed, study.get(attacked).tensors["images"][i, 0])
        for axes, name in zip(row[2:], defences, strict=True):
            network = study.training(name)
            maps = study.get(map_tables.explained_in(study, name, network)).tensors
            assert_allclose(axes.images[0].get_array(), maps["map|gradient|attacked"][i, 0])
            outcome = study.get(Outcomes(target=network, attacked=attacked)).tensors["correct"][i]
            assert (axes.get_xlabel() == label) == bool(outcome)


def test_full_gallery_has_four_rows_per_image(study, galleries):
    fig, _ = galleries["in full"]
    grid = cells(fig)
    defences = study.featured
    assert grid.shape == (4 * gallery.IMAGES_IN_FULL, 1 + len(defences))
    names = ["gradient,\nclean", "perturbation,\nclean", "gradient,\nattacked", "perturbation,\nattacked"]
    assert [row[0].get_ylabel() for row in grid] == names * gallery.IMAGES_IN_FULL
    for i, row in enumerate(grid):
        given, name = ("clean", "attacked")[i % 4 // 2], map_tables.PAIR[i % 2]
        for axes, defence in zip(row[1:], defences, strict=True):
            maps = study.get(map_tables.explained_in(study, defence, study.training(defence))).tensors
            assert_allclose(axes.images[0].get_array(), maps[f"map|{name}|{given}"][i // 4, 0])


def test_every_map_is_a_row(study, galleries):
    fig, alt = galleries["every map"]
    grid = cells(fig)
    assert grid.shape == (len(study.profile.saliency_maps), 1 + len(study.featured))
    for row, name in zip(grid, study.profile.saliency_maps, strict=True):
        assert row[0].get_ylabel().replace("\n", " ") == MAPS[name].label and MAPS[name].label in alt
        for axes, defence in zip(row[1:], study.featured, strict=True):
            maps = study.get(map_tables.explained_in(study, defence, study.training(defence))).tensors
            assert_allclose(axes.images[0].get_array(), maps[f"map|{name}|clean"][1, 0])


def test_map_measures_are_the_means(study, table):
    measures = table("measures")
    fig, alt = saliency_figures.map_measures(study, measures, saliency_figures.ROBUSTNESS)
    maps, wins = [*study.profile.saliency_maps, *CONTROLS], []
    for axes, (measure, given) in zip(fig.axes, saliency_figures.ROBUSTNESS, strict=True):
        rows = measures[(measures.measure == measure) & (measures.input == given)]
        means = rows.pivot(index="map", columns="defence", values="mean")
        for line, name in zip(axes.lines, plotting.main(study), strict=False):
            assert_allclose(line.get_xdata(), means.loc[maps, name])
        sign = map_tables.MEASURES[measure].better
        if not measure.startswith("agreement"):  # the perturbation map with itself
            apart = means.loc["perturbation"] - means.loc["gradient"]
            wins += list(sign * apart[plotting.main(study)] > 0)
    assert "max-sensitivity, clean: " in alt and "perturbation of" not in alt.split("stability")[0]
    assert len(wins) == 9
    assert fig.get_suptitle().endswith(f"in {words.of_all(sum(wins), 9, 'comparison')}")


def test_cascade_starts_at_the_trained_network(study, table):
    fig, _ = saliency_figures.cascade(study, table("cascade"))
    assert [axes.get_title("left") for axes in fig.axes] == [
        study.labels[name] for name in ("standard", "jsigr", "pgd")
    ]
    assert {line.get_label() for line in fig.axes[1].lines} > {"gradient", "perturbation", "Grad-CAM"}
    for line, name in zip(fig.axes[1].lines, study.profile.saliency_maps, strict=False):
        expected = table("cascade").query(f"defence == 'jsigr' and map == '{name}'").correlation
        assert_allclose(line.get_ydata(), [1, *expected])


def test_truth_bars_are_the_means_beside_the_controls(study, table):
    rows = table("known truth").query("input == 'clean'")
    fig, alt = truth_figures.measured(study, rows)
    names = known_truth.defences(study)
    panels = [(map_, measure) for map_ in ("gradient", "perturbation") for measure in known_truth.MEASURES]
    for axes, (map_, measure) in zip(fig.axes, panels, strict=True):
        cue = "glyphs and a cue" if "cue" in measure else "glyphs"
        own = rows[(rows.measure == measure) & (rows.pictures == cue)].set_index(["defence", "map"])["mean"]
        assert [patch.get_width() for patch in axes.patches] == [own[name, map_] for name in names]
        lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines if "control" in line.get_label()}
        assert lines == {MAPS[name].label: own["none", name] for name in CONTROLS}
    assert [label.get_text().split(" (")[0] for label in fig.axes[0].get_yticklabels()] == ["standard", "J-SIGR"]
    assert "gradient, standard " in alt and "perturbation, standard " in alt


def test_truth_is_outlined_in_every_cell_and_the_cue_where_there_is_one(study, table):
    table("known truth")
    fig, _ = truth_figures.gallery(study, images=1)
    grid = np.reshape(fig.axes, (4, 1 + len(known_truth.defences(study))))
    data = [known_truth.network(study, "standard", 0, cue=cue).data for cue in (False, False, True, True)]
    for row, spec in zip(grid, data, strict=True):
        kept = study.get(spec).tensors
        for axes in row:
            truth, decoy, *cue = axes.patches
            assert len(cue) == spec.cue
            for patch, place in ((truth, kept["test_truth"]), (decoy, kept["test_decoy"])):
                left, top = (int(edge + 0.5) for edge in patch.get_xy())
                assert place[0, 0, top : top + SIDE, left : left + SIDE].all()
    assert drawn(fig).std() > 5


def test_a_profile_without_known_truth_says_so(tiny, study):
    without = tiny(study.store.root, truth_images=0)
    rows = known_truth.table(without)
    assert not len(rows) and list(rows) == known_truth.COLUMNS and known_truth.specs(without) == []
    for _, alt in (truth_figures.gallery(without), truth_figures.measured(without, rows)):
        assert alt.startswith("Left out of this run")


def test_style_is_ours():
    assert {name: mpl.rcParams[name] for name in ("svg.hashsalt", "svg.fonttype")} == {
        "svg.hashsalt": "jsigr",
        "svg.fonttype": "path",
    }
