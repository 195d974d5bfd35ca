"""Break an assumption and watch the statement fail: the two sides of four statements, for a trained network and one
image, as a static figure and as a live panel. Distances are L2, in pixel units."""

import io
from dataclasses import dataclass
from functools import cache

import ipywidgets
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from jsigr_lib import formulas, limits, theory
from jsigr_lib.jacobian import sphere
from jsigr_lib.plotting import Described, figure, panels
from jsigr_lib.specimens import Specimen, offsets, second_derivative, softened
from jsigr_lib.study import Study

TITLES = {
    "S2": "S2: spread of n projections",
    "S7": "S7: the boundary is at ρ̃",
    "S8": "S8: |ρ̃ − α| ≤ |β| / ‖∇‖",
    "S9": "S9: the tangent errs by ≤ M‖d‖²/2",
}
ASSUMPTION = {
    "S2": "0: v uniform on the sphere; 1: stretched fourfold along one class",
    "S7": "0: the ReLU network; 1: kinks smoothed the most. The tangent is that network's own",
    "S8": "0: the ReLU network; 1: kinks smoothed the most. β stays that of the image's linear region",
    "S9": "0: the ReLU network, M = 0; 1: kinks smoothed the most, M taken at the image only",
}
IMAGES = 10
DISTANCES = np.geomspace(1e-4, 6, 60)
STRAIGHT = np.linspace(0.05, 6, 120)  # the same for S7, whose sides are straight
PROJECTIONS = (1, 2, 4, 8, 16, 32)
DRAWS = 32_768
STATIC = (  # statement, network, bend, place
    ("S2", "jsigr", 0.0, 8),
    ("S7", "pgd", 0.0, 1.05),
    ("S9", "jsigr", 0.0, 0.03),
    ("S2", "jsigr", 0.3, 8),
    ("S8", "jsigr", 0.0, 1.0),
    ("S9", "jsigr", 0.2, 0.3),
)
SPREAD_TOLERANCE = 0.1  # of a spread that some hundred means tell
FLOOR = 1e-16
GREEN, RED = "#007a4d", "#c03000"


@dataclass(frozen=True)
class Sides:
    """The two sides of a statement, along an axis, and where on it each point's verdict is: at most 0 is holds."""

    statement: str
    axis: np.ndarray
    left: np.ndarray
    right: np.ndarray
    excess: np.ndarray
    names: tuple[str, str, str]  # of the axis and of the sides
    scales: tuple[str, str] = ("log", "log")

    def at(self, value: float) -> int:
        """The point of the axis next to a value."""
        return int(np.abs(np.log(self.axis / value)).argmin())

    def verdict(self, value: float) -> tuple[bool, str]:
        excess = self.excess[self.at(value)]
        if excess <= 0:
            return True, "holds"
        return False, "fails, by more than 1000 %" if excess > 10 else f"fails, by {100 * excess:.1f} %"


class Scenes:
    """The sides for every setting, of some networks and the first test images; each is computed once."""

    def __init__(self, study: Study, names: list[str] | None = None):
        self.labels = {name: study.labels[name] for name in names or study.labels}
        x, y = study.batch("test", IMAGES)
        self._x, self._y = x.double(), y
        self._load = lambda name: study.model(study.training(name)).double()
        self.sides = cache(self._sides)
        self._network = cache(self._load)

    def _sides(self, statement: str, network: str, image: int, bend: float) -> Sides:
        one = Specimen(self._network(network), self._x[image : image + 1], self._y[image : image + 1])
        return {"S2": _spread, "S7": _boundary, "S8": _alignment, "S9": _tangent}[statement](one, bend)


def _bent(model: nn.Module, bend: float) -> nn.Module:
    """The ReLU network at 0; then softplus(a t) / a, a from 300 down to 3."""
    return softened(model, 300 / 100**bend) if bend > 0 else model


def _spread(one: Specimen, bend: float) -> Sides:
    jacobian, classes = one.jacobian.cpu(), one.logits.shape[1]
    v = sphere(DRAWS, classes, like=jacobian, generator=torch.Generator().manual_seed(0))
    v[:, one.logits.argmax(1).item()] *= 1 + 3 * bend
    v = v / v.norm(dim=1, keepdim=True)
    norm = jacobian.square().sum().item()
    estimates = formulas.projection(classes, ((v @ jacobian[0]) ** 2).sum(1)).numpy() / norm
    means = [estimates.reshape(-1, n).mean(1) for n in PROJECTIONS]
    left = np.array([np.sqrt(np.mean((mean - 1) ** 2)) for mean in means])
    right = (theory.projection_variance(jacobian).item() / np.array(PROJECTIONS)) ** 0.5 / norm
    excess = np.where(np.abs(left / right - 1) <= SPREAD_TOLERANCE, 0, np.abs(left / right - 1))
    names = ("projections n", "relative spread, measured", "by the formula")
    return Sides("S2", np.array(PROJECTIONS), left, right, excess, names, ("log", "linear"))


def _boundary(one: Specimen, bend: float) -> Sides:
    one = Specimen(_bent(one.model, bend), one.x, one.y)
    gaps, _, lengths = one.slopes
    rho = formulas.distance(gaps, lengths).min().item()
    gap = limits.towards_boundary(one, STRAIGHT / rho)["gap"][:, 0]
    tangent = 1 - STRAIGHT / rho
    excess = np.where(np.sign(gap) == np.sign(tangent), 0, np.abs(gap - tangent))
    names = ("distance", "gap / gap at the image, network", "tangent")
    return Sides("S7", STRAIGHT, gap, tangent, excess, names, ("linear", "linear"))


def _along(one: Specimen) -> Tensor:
    """Points at every distance in one random direction."""
    u = sphere(1, one.x[0].numel(), like=one.x, generator=torch.Generator().manual_seed(0)).view_as(one.x)
    return one.x + torch.as_tensor(DISTANCES).to(one.x).view(-1, 1, 1, 1) * u


def _alignment(one: Specimen, bend: float) -> Sides:
    there = Specimen(_bent(one.model, bend), _along(one), one.y.expand(len(DISTANCES)))
    robust = theory.linearised_robustness(there.model, there.x)
    left = (robust["robustness"] - robust["alignment"]).abs().cpu().numpy()
    gaps, _, lengths = there.slopes
    nearest = (gaps / lengths).argmin(1, keepdim=True)
    top = one.logits.argmax()
    held = offsets(one).expand(len(DISTANCES), -1)
    right = formulas.alignment_gap(held, lengths).gather(1, nearest)[:, 0].cpu().numpy()
    right = np.where((there.logits.argmax(1) == top).cpu().numpy(), right, np.nan)  # another class, other offsets
    excess = np.where(left <= right * (1 + 1e-9), 0, np.nan_to_num(left / right - 1, nan=np.inf))
    return Sides("S8", DISTANCES, left, right, excess, ("distance", "|ρ̃ − α|", "|β| / ‖∇‖"), ("log", "linear"))


def _tangent(one: Specimen, bend: float) -> Sides:
    model = _bent(one.model, bend)
    points, z = _along(one), limits.predict(model, one.x)
    step = (points[-1:] - one.x) / DISTANCES[-1]
    first = theory.full_jacobian(model, one.x)[0] @ step.flatten()
    distances = torch.as_tensor(DISTANCES).to(z)[:, None]
    error = (limits.predict(model, points) - z - distances * first).norm(dim=1) / z.norm()
    curvature = second_derivative(model, one.x, step, torch.zeros(1)).norm() if bend > 0 else torch.zeros(())
    left, right = error.cpu().numpy(), (formulas.remainder(curvature, distances[:, 0]) / z.norm()).cpu().numpy()
    excess = np.where(left <= right + 100 * FLOOR, 0, left / np.maximum(right, FLOOR) - 1)
    return Sides(
        "S9", DISTANCES, np.maximum(left, FLOOR), np.maximum(right, FLOOR), excess, ("distance", "error", "bound")
    )


def draw(axes: Axes, sides: Sides, value: float) -> None:
    """Both sides, the chosen place, and the verdict there; where the statement fails, the ground is red."""
    label, left, right = sides.names
    axes.plot(sides.axis, sides.left, color="black", label=left)
    axes.plot(sides.axis, sides.right, color="#0072b2", linestyle="--", label=right)
    ground = {"color": RED, "alpha": 0.1, "linewidth": 0, "transform": axes.get_xaxis_transform()}
    axes.fill_between(sides.axis, 0, 1, where=sides.excess > 0, **ground)
    axes.axvline(sides.axis[sides.at(value)], color="#767676", linewidth=1.2)
    axes.set(xscale=sides.scales[0], yscale=sides.scales[1], xlabel=label)
    if sides.statement == "S2":
        axes.set_xticks(PROJECTIONS, [str(n) for n in PROJECTIONS])
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    if sides.statement in ("S2", "S8"):
        axes.set_ylim(bottom=0)
    axes.set_title(f"{TITLES[sides.statement]}\n")
    holds, says = sides.verdict(value)
    axes.text(0, 1.03, says, color=GREEN if holds else RED, fontweight="bold", transform=axes.transAxes)
    axes.legend(loc="best", fontsize=8)


def static(scenes: Scenes) -> Described:
    """Six settings of the panel, of its first image."""
    fig = figure(11, 6)
    said = []
    for axes, (statement, network, bend, value) in zip(panels(fig, 2, 3).flat, STATIC, strict=True):
        network = network if network in scenes.labels else "jsigr"
        sides = scenes.sides(statement, network, 0, bend)
        draw(axes, sides, value)
        setting = f"{scenes.labels[network]}, bend {bend:g}"
        axes.set_xlabel(f"{sides.names[0]} ({setting})")
        said.append(f"{statement}, {setting}, at {value:g}: {sides.verdict(value)[1]}")
    return fig, (
        "The two sides of four statements for one image, red ground where the statement fails, and a grey line at the "
        f"place of the verdict. {'; '.join(said)}."
    )


def picture(scenes: Scenes, statement: str, network: str, image: int, bend: float, value: float) -> bytes:
    """One setting, as PNG."""
    fig = figure(6.4, 3.4)
    fig.set_layout_engine("none")  # a layout that is found anew each time takes longer than the drawing
    draw(fig.add_axes((0.1, 0.16, 0.87, 0.68)), scenes.sides(statement, network, image, bend), value)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def panel(scenes: Scenes) -> ipywidgets.VBox:
    """The live panel. One picture, whose bytes are replaced; a callback ends before the next message is taken, so that
    a slider's latest place wins."""
    style, wide = {"description_width": "8em"}, ipywidgets.Layout(width="32em")
    slider = {"style": style, "layout": wide, "continuous_update": True}
    statement = ipywidgets.Dropdown(options=[(t, s) for s, t in TITLES.items()], description="statement", style=style)
    network = ipywidgets.Dropdown(
        options=[(t, n) for n, t in scenes.labels.items()], description="network", style=style
    )
    image = ipywidgets.IntSlider(0, 0, IMAGES - 1, description="image", **slider)
    eps = ipywidgets.SelectionSlider(
        options=[(f"{d:.2g}", d) for d in DISTANCES], index=45, description="distance", **slider
    )
    bend = ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.1, description="bend", **slider)
    n = ipywidgets.SelectionSlider(options=PROJECTIONS, value=8, description="projections n", **slider)
    shown, note = ipywidgets.Image(format="png", width=576), ipywidgets.HTML()

    def redraw(_: object = None) -> None:
        spread = statement.value == "S2"
        n.disabled, eps.disabled = not spread, spread
        note.value = f"Bend, {ASSUMPTION[statement.value]}."
        value = n.value if spread else eps.value
        shown.value = picture(scenes, statement.value, network.value, image.value, round(bend.value, 1), value)

    controls = (statement, network, image, eps, bend, n)
    for control in controls:
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*controls, note, shown])
