"""The figures of maps judged against a known truth: a gallery with the truth outlined, and the measures as bars."""

import textwrap
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from jsigr_lib.data.data import load
from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.networks.training import predict
from jsigr_lib.study import known_truth
from jsigr_lib.study.known_truth import MEASURES, NO_NETWORK, PICTURES
from jsigr_lib.study.map_tables import PAIR
from jsigr_lib.study.study import Study

OUTLINES = {"truth": ("#00c896", "-"), "decoy": ("#ffffff", (0, (2, 2))), "cue": ("#56b4e9", (0, (1, 1)))}
LINES = {"energy": (0, (4, 1.5)), "centre": (0, (1, 1.5)), "random": (0, (6, 1.5, 1, 1.5))}


def gallery(study: Study, images: int = 2) -> plotting.Described:
    """The first test images of either kind: the picture and both maps of each defence; the truth is outlined, the decoy
    dashed, the cue dotted."""
    study.make(known_truth.specs(study))
    defences, rows, names, places = known_truth.defences(study), [], [], []
    if not defences:
        return _left_out()
    for cue, pictures in PICTURES.items():
        networks = {name: known_truth.network(study, name, 0, cue=cue) for name in defences}
        data = load(networks[defences[0]].data, study.store)
        split, classes = data.test.first(images), data.classes
        pixels, labels = split.batch(slice(None))[0].numpy(), split.labels.tolist()
        found = {name: predict(study.model(one), split).tolist() for name, one in networks.items()}
        maps = {name: study.get(known_truth.located(study, one)).tensors for name, one in networks.items()}
        kept = study.get(networks[defences[0]].data).tensors
        for i, name in product(range(images), PAIR):
            cells = [(maps[one][f"map|{name}|clean"][i, 0].numpy(), found[one][i]) for one in defences]
            said = [(map_, classes[label], label == labels[i]) for map_, label in cells]
            rows.append([(pixels[i], classes[labels[i]], None), *said])
            names.append(f"{name},\n{pictures.replace(' and', chr(10) + 'and')}")
            places.append({what: kept[f"test_{what}"][i, 0].numpy() for what in OUTLINES})
    columns = ["image", *(plotting.plain(study.labels[name]).replace(" ", "\n", 1) for name in defences)]
    fig = plotting.map_grid(rows, columns=columns, names=names)
    for i, axes in enumerate(fig.axes):
        for what, place in places[i // len(columns)].items():
            _outline(axes, place, *OUTLINES[what])
    what = "Outlined: what decides the label; dashed: the decoy; dotted: the cue of training only"
    plotting.headline(fig, f"{what}. {_learnt_from(study)}")
    return fig, (
        f"{images} test images with glyphs and {images} with glyphs and a cue, each with the gradient and the "
        "perturbation map of every defence: the glyph that decides the label is outlined, the decoy dashed, the "
        "spurious cue dotted."
    )


def _outline(axes, place: np.ndarray, colour: str, style) -> None:
    if place.any():
        down, across = (np.flatnonzero(place.any(axis)) for axis in (1, 0))
        corner = (across[0] - 0.5, down[0] - 0.5)
        size = (len(across), len(down))
        axes.add_patch(Rectangle(corner, *size, fill=False, color=colour, linestyle=style, linewidth=1.3))


def measured(study: Study, table: pd.DataFrame) -> plotting.Described:
    """A column per measure, a row per map: a bar per defence, and a line per control. The cue is measured on the
    pictures that have one, with the clean accuracy there beside it, all else on those without."""
    names = known_truth.defences(study)
    if not names:
        return _left_out()
    fig, looks = plotting.figure(11.4, 0.5 * len(names) + 3.2), plotting.looks(study)
    grid, rows = (
        plotting.panels(fig, len(PAIR), len(MEASURES), sharex="col", sharey=True),
        table[table.input == "clean"],
    )
    for (i, name), (j, measure) in product(enumerate(PAIR), enumerate(MEASURES)):
        axes, own = grid[i, j], rows[(rows.measure == measure) & (rows.pictures == PICTURES["cue" in measure])]
        for y, defence in enumerate(names):
            row = own[(own.defence == defence) & (own["map"] == name)].iloc[0]
            axes.barh(y, row["mean"], color=looks[defence]["color"], height=0.65)
            axes.plot([row.low, row.high], [y, y], color="black", linewidth=1.2)
            if "cue" in measure:  # at chance, the cue is what the network goes by
                axes.text(row.high, y, f" {row.clean_accuracy:.2f}", va="center", fontsize=8)
        for control, style in LINES.items():
            value = own[(own.defence == NO_NETWORK) & (own["map"] == control)]["mean"].iloc[0]
            axes.axvline(value, color="black", linestyle=style, linewidth=1, label=MAPS[control].label)
        axes.set_title(measure if i == 0 else "")
        axes.set_xlabel(textwrap.fill(MEASURES[measure], 32) if i else "")
        axes.set_ylabel(f"{name} map" if j == 0 else "")
    grid[0, 0].set_yticks(
        range(len(names)), [f"{plotting.plain(study.labels[name])} ({_accuracy(rows, name):.2f})" for name in names]
    )
    grid[0, 0].invert_yaxis()
    lines = grid[0, 0].get_legend_handles_labels()
    fig.legend(*lines, loc="outside lower center", ncols=len(LINES), title=_learnt_from(study), title_fontsize=8)
    plotting.headline(fig, titles.on_the_truth(table, study.labels))
    shares = rows[(rows.measure == "share on the truth") & (rows.pictures == PICTURES[False])]
    shares = shares[shares.defence != NO_NETWORK]
    said = [f"{name}, {plotting.listed(study, own, '{mean:.2f}', ', ')}" for name, own in shares.groupby("map")]
    return fig, (
        "How much of the gradient map (top) and of the perturbation map (bottom) of clean images lies on the true "
        "evidence, by defence, with 95 percent intervals; lines are maps that know no network, and the number beside a "
        "name is its clean accuracy on the pictures without a cue, that beside a bar the one on those with a cue. "
        f"Share on the truth: {'; '.join(said)}."
    )


def _learnt_from(study: Study) -> str:
    """These networks are none of those that the figure's last line tells of."""
    p = study.profile
    return f"Networks that learnt from {p.truth_images:,} pictures with glyphs; seeds: {p.truth_seeds}"


def _accuracy(rows: pd.DataFrame, defence: str) -> float:
    return rows[(rows.defence == defence) & (rows.pictures == PICTURES[False])].clean_accuracy.iloc[0]


def _left_out() -> plotting.Described:
    """What stands where the profile leaves this study out."""
    fig, (axes,) = plotting.row(6, 1)
    axes.set_axis_off()
    axes.text(0, 0.5, "left out of this run (truth_images of the profile, or its data)", va="center")
    return fig, "Left out of this run: its profile has no truth_images, or other data than Fashion-MNIST."
