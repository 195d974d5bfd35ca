"""The figures of the lower bounds on the distance to the boundary; see `plotting` for how all of them are made."""

import io

import numpy as np
import pandas as pd

from jsigr_lib.figures import plotting
from jsigr_lib.figures.plotting import Described, looks
from jsigr_lib.findings import bounds as findings
from jsigr_lib.study.bounds import BOUNDS
from jsigr_lib.study.study import Study

SHAPES = {"gradient": "o", "curvature": "D"}
THREATS = {"clean": "clean", "PGD": "white-box"}
DISTANCES = {
    "gradient": "gradient bound",
    "curvature": "curvature bound",
    "tangent": "tangent's boundary",
    "measured": "nearest error found",
}


def training(study: Study, table: pd.DataFrame) -> Described:
    """Clean accuracy against accuracy under PGD, one dot per defence."""
    fig, (axes,) = plotting.row(6.4, 4.2)
    both = pd.concat(
        [
            rows.set_index("defence")[["accuracy", "low", "high"]].set_axis(
                [name, f"{name}_low", f"{name}_high"], axis=1
            )
            for name, rows in ((name, table[table.threat == threat]) for name, threat in THREATS.items())
        ],
        axis=1,
    ).reset_index()
    plotting.dots(axes, study, both, "clean", "PGD")
    axes.set(xlabel="accuracy on clean images", ylabel=f"accuracy under PGD, {study.budget}")
    plotting.legend(fig, axes)
    plotting.headline(fig, findings.training_title(table, study.labels))
    ends = plotting.listed(study, both, "{clean:.2f} and {PGD:.2f}")
    return fig, f"Accuracy on clean images and under PGD, with 95 percent intervals, per defence: {ends}."


def against_distance(study: Study, values: dict[str, dict[str, np.ndarray]], table: pd.DataFrame) -> Described:
    """The curvature bound against the measured distance, image by image, and the median share of it that each bound
    promises, per defence. `values`: of `ratios`, per defence."""
    fig, (left, right) = plotting.row(9.6, 4.6, 2)
    for name in plotting.main(study):
        look = {**looks(study)[name], "linestyle": "none", "markersize": 4, "alpha": 0.75, "markeredgewidth": 0}
        distance = values[name]["distance"].ravel()
        left.plot(distance, values[name]["curvature"].ravel() * distance, **look)
    left.axline((1, 1), (2, 2), color="black", linewidth=0.8)
    left.set(title="Per image", xscale="log", yscale="log")
    left.set(xlabel="nearest error found (L2, pixel units)", ylabel="curvature bound")
    left.legend(fontsize=8, handletextpad=0.2)
    shown = plotting.of_architecture(study, table)
    for bound, marker in SHAPES.items():
        rows = shown[shown.bound == bound].set_index("defence").loc[list(study.labels)]
        colours = [looks(study)[name]["color"] for name in rows.index]
        right.plot([], [], marker, color="#4d4d4d", linestyle="none", label=f"{bound} bound")
        right.scatter(rows.median_share, range(len(rows)), marker=marker, color=colours, s=34)
    right.set(title="Share of the distance that it promises", xlabel="bound / nearest error found, median", xlim=(0, 1))
    plotting.name_bars(right, study)
    right.legend(fontsize=8)
    plotting.headline(fig, findings.tight_title(table, study.labels))
    said = "; ".join(
        f"{bound} bound: {plotting.listed(study, shown[shown.bound == bound], '{median_share:.2f}', ', ')}"
        for bound in BOUNDS
    )
    return fig, (
        "Left: the curvature bound against the distance to the nearest error found, one dot per image, of the main "
        f"defences, and the diagonal. Right: the median share of that distance that each bound promises. {said}."
    )


def constants(study: Study, table: pd.DataFrame) -> Described:
    """The constants of both bounds against the number of images that they are the maxima of."""
    fig, both = plotting.row(9.6, 4.0, 2)
    names = {"slope": "L, the largest slope", "curvature": "C, the largest curvature"}
    for axes, (column, label) in zip(both, names.items(), strict=True):
        for name in study.featured:
            rows = table[table.defence == name]
            axes.plot(rows.images, rows[column], **looks(study)[name])
        axes.set(title=label, xlabel="images", xscale="log", ylim=(0, None))
        axes.set_xticks(sorted(table.images.unique()), [f"{n:,}" for n in sorted(table.images.unique())])
        axes.minorticks_off()
    plotting.legend(fig, both[0])
    plotting.headline(fig, findings.constants_title(table))
    last = table[table.images == table.images.max()]
    ends = plotting.listed(study, last, "{slope:.2f} and {curvature:.2f}")
    return fig, f"The largest slope and curvature over more and more images, per defence; over all of them {ends}."


def pages(study: Study, values: dict[str, dict[str, np.ndarray]]) -> list[tuple[bytes, str]]:
    """For a flip book: each image beside the bounds, the tangent's and the measured distance of some networks.
    `values`: of `one_by_one`. Images that one of them gets wrong come last, as those have no distance."""
    images, _ = study.batch("test", len(next(iter(values.values()))["measured"]))
    most = max(value[np.isfinite(value)].max() for one in values.values() for value in one.values())
    wrong = [any(not one["measured"][i] for one in values.values()) for i in range(len(images))]
    order = sorted(range(len(images)), key=wrong.__getitem__)
    return [_page(study, images[i].cpu().numpy(), i, values, most) for i in order]


def _page(study: Study, image: np.ndarray, i: int, values: dict[str, dict[str, np.ndarray]], most: float):
    fig, (left, right) = plotting.row(7.2, 2.9, 2, width_ratios=(1, 2.4))
    plotting.show(left, image)
    said, thick = [], 0.8 / len(values)
    for k, (name, found) in enumerate(values.items()):
        heights = [found[what][i] for what in DISTANCES]
        places = np.arange(len(DISTANCES)) + (k - (len(values) - 1) / 2) * thick
        right.barh(places, heights, 0.9 * thick, color=looks(study)[name]["color"], label=looks(study)[name]["label"])
        numbers = ", ".join(f"{label} {found[what][i]:.2f}" for what, label in DISTANCES.items())
        said.append(f"{study.labels[name]}: {numbers}" if found["measured"][i] else f"{study.labels[name]}: wrong")
    right.set_yticks(range(len(DISTANCES)), DISTANCES.values())
    right.invert_yaxis()
    right.set(xlim=(0, most), xlabel="L2, pixel units")
    right.legend(fontsize=8, loc="lower right")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue(), f"Test image {i}. {'. '.join(said)}."
