"""The figures of policy distillation on MiniGrid's Fetch; see `plotting` for how all of them are made."""

import io
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jsigr_lib.data.fetch import ACTIONS, TILE
from jsigr_lib.figures import plotting
from jsigr_lib.figures.plotting import LOOKS as OTHERS
from jsigr_lib.figures.plotting import Described
from jsigr_lib.findings import distillation as findings
from jsigr_lib.study.distillation import LABELS, MEASURES, STUDENTS
from jsigr_lib.study.distilled import THREATS
from jsigr_lib.study.scenes import GUIDE, Scene
from jsigr_lib.study.study import Study

LOOKS = {
    "teacher": ("black", "*"),
    "kl": OTHERS["standard"],
    "input-gradient": OTHERS["input-gradient"],
    "digr": OTHERS["sigr"],
    "digr-sarfa": OTHERS["interpretation"],
    "j-digr": OTHERS["jsigr"],
}
"""Those of the defence that has the same penalty."""
MAPS = {"gradient": "gradient", "greydanus": "perturbation", "sarfa": "SARFA"}
STATES = 4  # of the figure about the task
OUTLINE = "#00c896"


def _look(name: str) -> dict[str, str]:
    colour, marker = LOOKS[name]
    return {"color": colour, "marker": marker, "label": LABELS[name]}


def _said(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the teacher and of the students that are compared."""
    return table[table.matched | (table.student == "teacher")]


def task(study: Study, scenes: list[Scene]) -> Described:
    """A row per state: the observation, the tiles that decide outlined, and the teacher's three maps, tile by tile."""
    shown, rows, said = scenes[:STATES], [], []
    for scene in shown:
        best = " or ".join(ACTIONS[i] for i in np.flatnonzero(scene.best))
        rows.append([(scene.image, best, None), *((scene.maps[name], "", None) for name in MAPS)])
        said.append(best)
    fig = plotting.map_grid(rows, columns=["observation", *MAPS.values()], names=[""] * len(rows))
    for i, scene in enumerate(shown):
        first, *others = fig.axes[i * (1 + len(MAPS)) :][: 1 + len(MAPS)]
        _outline(first, scene.deciding, TILE)
        for axes in others:
            _outline(axes, scene.deciding, 1)
    plotting.headline(fig, "Outlined: the mission, its object and the player, which decide. Below: what is best")
    return fig, (
        f"{len(shown)} states of Fetch, each with the tiles that decide outlined, and the teacher's gradient, "
        f"perturbation and SARFA map, one value per tile. Best is to {'; '.join(said)}."
    )


def _outline(axes: Axes, deciding: np.ndarray, size: int) -> None:
    """`size`: pixels of a tile."""
    for y, x in np.argwhere(deciding):
        corner = (x * size - 0.5, y * size - 0.5)
        axes.add_patch(Rectangle(corner, size, size, fill=False, color=OUTLINE, linewidth=1.4))


def robustness(study: Study, table: pd.DataFrame) -> Described:
    """Mean return against the budget, a panel per threat. (Seeds differ by their teachers: `gains` has intervals.)"""
    fig, panels = plotting.row(10.4, 3.8, len(THREATS), sharey=True)
    shown, said = _compared(table), []
    for axes, threat in zip(panels, THREATS, strict=True):
        for name in LABELS:
            rows = shown[(shown.student == name) & shown.threat.isin(["clean", threat])].sort_values("level")
            axes.plot(rows.level, rows["return"], **_look(name))
            last = rows.iloc[-1]
            said.append(f"{LABELS[name]} under {threat} at {last.level:.0f}/255 {_said(last, 'return')}")
        axes.set(title=threat, xlabel="budget, levels of 255", xticks=[0, *sorted(study.profile.distillation.levels)])
    panels[0].set(ylabel="return", ylim=(0, 1))
    plotting.legend(fig, panels[0])
    plotting.headline(fig, findings.robustness_title(table, LABELS, max(study.profile.distillation.levels)))
    return fig, f"Return against the budget of three threats, with 95 percent intervals: {'; '.join(said)}."


def gains(study: Study, table: pd.DataFrame) -> Described:
    """What every student that is compared has more than KL alone of the same seed: a panel per kind of return."""
    measures = ["return", *(f"return under {threat}" for threat in THREATS)]
    students = [name for name in STUDENTS if name != "kl"]
    fig, panels = plotting.row(10.4, 2.8, len(measures), sharey=True)
    said = []
    for axes, measure in zip(panels, measures, strict=True):
        rows = table[(table.b == "kl") & (table.measure == measure)].set_index("a")
        axes.axvline(0, color="black", linewidth=0.8)
        for i, name in enumerate(students):
            row, (colour, marker) = rows.loc[name], LOOKS[name]
            axes.plot([row.difference_low, row.difference_high], [i, i], color=colour)
            axes.plot(row.difference, i, marker, color=colour, markersize=8)
            said.append(f"{measure}, {LABELS[name]}: {_said(row, 'difference')}")
        level = rows.level.max()
        axes.set_title(f"{measure}, {level}/255" if level else measure, fontsize=9)
    panels[0].set_yticks(range(len(students)), [LABELS[name] for name in students])
    panels[0].set_ylim(len(students) - 0.5, -0.5)
    plotting.headline(fig, findings.gains_title(table, LABELS))
    return fig, f"Differences from KL alone, paired by seed, with 95 percent intervals. {'; '.join(said)}."


def maps(study: Study, table: pd.DataFrame) -> Described:
    """A panel per measure of the gradient map, a bar per compared student."""
    measures = {key: said for key, said in MEASURES.items() if "gradient" in key}
    titles = ["Rank correlation with its own\nperturbation map", "... with its own\nSARFA map"]
    titles += ["... with the teacher's\nperturbation map", "Share of its mass on the\ntiles that decide"]
    fig, panels = plotting.row(11.4, 3.6, len(measures), sharey=True)
    shown, said = _compared(table), []
    for axes, title, measure in zip(panels, titles, measures.values(), strict=True):
        rows = shown[shown.measure == measure].set_index("student").loc[list(LABELS)]
        for i, (name, row) in enumerate(rows.iterrows()):
            axes.barh(i, row["mean"], color=LOOKS[name][0], height=0.65)
            axes.plot([row.mean_low, row.mean_high], [i, i], color="#b0b0b0", linewidth=1.6)
            said.append(f"{measure}, {LABELS[name]}: {_said(row, 'mean')}")
        axes.set_title(title, fontsize=9)
    panels[0].set_yticks(range(len(LABELS)), LABELS.values())
    panels[0].invert_yaxis()
    plotting.headline(fig, findings.maps_title(table, LABELS))
    return fig, f"The gradient map of every student, with 95 percent intervals. {'; '.join(said)}."


def cost(study: Study, passes: pd.DataFrame, times: dict[str, dict[str, float]]) -> Described:
    """Milliseconds of a map against the number of masks, for one state and per state of a batch."""
    fig, (axes,) = plotting.row(6.4, 3.8)
    rows, said = passes[passes["map"] == "perturbation"], []
    for (batch, took), style in zip(times.items(), ("-", "--"), strict=True):
        grids = [str(round(masks**0.5)) for masks in rows.masks]
        what = "one state" if batch == "1" else f"per state of {batch}"
        label, values = f"perturbation, {what}", [took[grid] for grid in grids]
        axes.plot(rows.masks, values, "o", linestyle=style, color=OTHERS["pgd"][0], label=label)
        axes.axhline(took["gradient"], linestyle=style, color=OTHERS["jsigr"][0], label=f"gradient, {what}")
        ends = f"{values[0]:.2f} to {values[-1]:.2f} from {rows.masks.min()} to {rows.masks.max()} masks"
        said.append(f"{what}: gradient {took['gradient']:.2f}, perturbation {ends}")
    axes.set(xscale="log", yscale="log", xlabel="masks", ylabel="milliseconds per map")
    axes.set_xticks(rows.masks, rows.masks)
    axes.minorticks_off()
    plotting.legend(fig, axes)
    plotting.headline(fig, findings.cost_title(times))
    return fig, f"Milliseconds per map against the number of masks. {'; '.join(said)}."


def pages(scenes: list[Scene], guide: str) -> list[tuple[bytes, str]]:
    """For a flip book: an episode's steps as the guide acts, each with the maps laid over the observation."""
    steps = {episode: len(list(some)) for episode, some in groupby(scenes, key=lambda scene: scene.episode)}
    return [_page(scene, guide, steps[scene.episode]) for scene in scenes]


def _page(scene: Scene, guide: str, steps: int) -> tuple[bytes, str]:
    fig, panels = plotting.row(7.6, 2.2, 1 + len(scene.maps))
    plotting.show(panels[0], scene.image)
    _outline(panels[0], scene.deciding, TILE)
    panels[0].set_title("observation", fontsize=9)
    named = {name: LABELS[name] if name in STUDENTS else f"{name},\n{LABELS[guide]}" for name in scene.maps}
    for axes, (name, map_) in zip(panels[1:], scene.maps.items(), strict=True):
        laid_over(axes, scene.image, map_)
        axes.set_title(named[name] if name == GUIDE else f"gradient,\n{named[name]}", fontsize=9)
    on = {name: map_[np.kron(scene.deciding, np.ones((TILE, TILE), bool))].sum() for name, map_ in scene.maps.items()}
    shares = ", ".join(
        f"{named[name].replace(chr(10), ' ')} {on[name] / max(map_.sum(), 1e-12):.0%}"
        for name, map_ in scene.maps.items()
    )
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    best = " or ".join(ACTIONS[i] for i in np.flatnonzero(scene.best))
    return buffer.getvalue(), (
        f"Episode {scene.episode + 1}, step {scene.step} of {steps}: {LABELS[guide]} chooses to "
        f"{ACTIONS[scene.action]}; best is to {best}. On the tiles that decide: {shares}."
    )


def laid_over(axes: Axes, image: np.ndarray, map_: np.ndarray) -> None:
    """A map in colour over its observation in grey, the more opaque the larger it is."""
    peak = max(float(np.quantile(map_, 0.995)), 1e-12)
    strength = (map_ / peak).clip(0, 1)
    plotting.show(axes, np.repeat(image.mean(0, keepdims=True), 3, 0) * 0.7)
    axes.imshow(strength, cmap=plotting.MAP_COLOURS, vmin=0, vmax=1, alpha=0.9 * strength, interpolation="nearest")
