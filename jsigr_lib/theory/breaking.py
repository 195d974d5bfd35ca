"""Where the statements of the theory notebook end: what a statement says, beside what a trained network does, as
numbers and as a live panel. All in float64; distances are L2, in pixel units."""

import io
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import ipywidgets
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes

from jsigr_lib.figures.plotting import Described, figure, headline, panels, plain
from jsigr_lib.findings import titles
from jsigr_lib.measure import linearised
from jsigr_lib.method.jacobian import loss_gradient, sphere, squared_norm
from jsigr_lib.method.jsigr import JSIGR, residual
from jsigr_lib.study.study import Study
from jsigr_lib.theory.specimen import SOFTNESS, WEIGHTS, Specimen, directions, offsets, penalty

RADII = np.geomspace(3e-5, 3, 26)


def specimens(study: Study, images: int = 24, names: list[str] | None = None) -> dict[str, Specimen]:
    """The first network of every defence, or of some, on the first test images. A network that training has made a
    constant is left out: it has no tangent to speak of."""
    x, y = study.batch("test", images)
    models = {name: study.model(study.training(name)).double().requires_grad_(True) for name in names or study.labels}
    found = {name: Specimen(model, x.double(), y) for name, model in models.items()}
    return {name: one for name, one in found.items() if one.jacobian.any()}


# both sides of a statement, for the figures


def input_gradients(one: Specimen, image: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """S3, every pixel of one image: autograd's gradient of the loss, and J^T (p - onehot)."""
    g = loss_gradient(one.model, one.x, one.y)[image].flatten()
    product = one.jacobian[image].T @ residual(one.logits, one.y)[image]
    return g.cpu().numpy(), product.cpu().numpy()


def coin_outcomes(one: Specimen, coins: np.ndarray) -> dict[str, np.ndarray]:
    """S4, against the coin's chance of heads: what heads and tails count on average, and the mean over the coin."""
    norm = one.jacobian.square().sum((1, 2)).mean().item()
    selective = squared_norm(loss_gradient(one.model, one.x, one.y)).mean().item()
    heads, tails = WEIGHTS["lambda_j"] * norm / coins, WEIGHTS["lambda_s"] * selective / (1 - coins)
    return {"heads": heads, "tails": tails, "mean": coins * heads + (1 - coins) * tails}


def half_batches(one: Specimen, images: int = 8, share: float = 0.1) -> tuple[np.ndarray, float]:
    """S5: what every half of a batch counts, relative to the whole batch's penalty, and the chance of such a step."""
    chance = JSIGR(**WEIGHTS, fraction=share).penalised_steps
    single = torch.stack([penalty(one[[i]]) for i in range(images)])
    halves = torch.stack([single[list(half)].mean() for half in combinations(range(images), images // 2)])
    return (halves / chance / single.mean()).cpu().numpy(), chance


def towards_boundary(one: Specimen, shares: np.ndarray) -> dict[str, np.ndarray]:
    """S7: from every image straight towards the boundary of its tangent, in shares of rho~, each [shares, batch]: the
    network's gap of the two classes, relative to that at the image, and whether its decision is still the same."""
    rows = torch.arange(len(one.x), device=one.x.device)
    gaps, gradients, lengths = (part[rows, one.nearest] for part in one.slopes)
    step = (-gradients / lengths[:, None] * (gaps / lengths)[:, None]).view_as(one.x)
    z = [linearised.predict(one.model, one.x + share * step) for share in shares]
    gap = torch.stack([one.gaps(there)[rows, one.nearest] / gaps for there in z])
    same = torch.stack([there.argmax(1) == one.top for there in z])
    return {"gap": gap.cpu().numpy(), "same": same.double().cpu().numpy()}


def alignment_sides(one: Specimen, away: float | np.ndarray, bend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """S8, at points this far from the images, in random directions: |rho~ - alpha|, and |beta| / ||grad|| of the class
    that attains rho~, with the betas of the *images'* regions: NaN where the decision is another, as the betas are."""
    points = one.x + torch.as_tensor(np.reshape(away, (-1, 1, 1, 1))).to(one.x) * directions(one.x)
    there = _bent(replace(one, x=points), bend)
    robust = linearised.linearised_robustness(there.model, points)
    most = (offsets(one).abs() / there.slopes[2]).gather(1, there.nearest[:, None])[:, 0]
    left, right = (robust["robustness"] - robust["alignment"]).abs(), most.where(there.top == one.top, torch.nan)
    return left.cpu().numpy(), right.cpu().numpy()


def alignment_gaps(one: Specimen, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """`alignment_sides` where the decision is the image's."""
    left, most = alignment_sides(one, away)
    return left[~np.isnan(most)], most[~np.isnan(most)]


def error_curves(one: Specimen, radii: np.ndarray = RADII) -> dict[str, np.ndarray]:
    """S9, along one random direction per image, relative to the logits' length, each [radii, batch]: the tangent's
    error for the network and for the softened one, whose bound is M ||d||^2 / 2, M its curvature up to there."""
    u, soft, scale = directions(one.x), linearised.softened(one.model, SOFTNESS), one.logits.norm(dim=1)
    places = torch.as_tensor(radii / radii[-1])
    curvature = linearised.second_derivative(soft, one.x, float(radii[-1]) * u, places).norm(dim=2) / radii[-1] ** 2
    found = {
        "network": linearised.tangent_error(one.model, one.x, u, radii)[0],
        "softened": linearised.tangent_error(soft, one.x, u, radii)[0],
        "bound": curvature.cummax(0).values * torch.as_tensor(radii).to(curvature)[:, None] ** 2 / 2,
    }
    return {name: (values / scale).cpu().numpy() for name, values in found.items()}


# the panel: break an assumption and watch the statement fail

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
    *(("S2", "jsigr", 0.0, 8), ("S7", "pgd", 0.0, 1.05), ("S9", "jsigr", 0.0, 0.03)),
    *(("S2", "jsigr", 0.3, 8), ("S8", "jsigr", 0.0, 1.0), ("S9", "jsigr", 0.2, 0.3)),
)
SPREAD_TOLERANCE = 0.1  # of a spread that some hundred means tell
FLOOR = 1e-16
GREEN, RED = "#007a4d", "#c03000"


@dataclass(frozen=True)
class Sides:
    """The two sides of a statement along an axis; it holds where the excess is at most 0."""

    statement: str
    axis: np.ndarray
    left: np.ndarray
    right: np.ndarray
    excess: np.ndarray
    names: tuple[str, str, str]  # of the axis and of the sides
    scales: tuple[str, str] = ("log", "log")

    def at(self, value: float) -> int:
        return int(np.abs(np.log(self.axis / value)).argmin())

    def verdict(self, value: float) -> tuple[bool, str]:
        excess = self.excess[self.at(value)]
        if excess <= 0:
            return True, "holds"
        return False, "fails, by more than 1000 %" if excess > 10 else f"fails, by {100 * excess:.1f} %"


class Scenes:
    """The sides of every setting, for some networks; each is computed once."""

    def __init__(self, study: Study, networks: dict[str, Specimen]):
        self.labels = {name: study.labels[name] for name in networks}
        self.images = min(IMAGES, *(len(one.x) for one in networks.values()))
        by_statement = {"S2": _spread, "S7": _boundary, "S8": _alignment, "S9": _tangent}
        self.sides = cache(lambda statement, name, i, bend: by_statement[statement](networks[name][i : i + 1], bend))


def _bent(one: Specimen, bend: float) -> Specimen:
    """The ReLU network at 0; then softplus(a t) / a, a from 300 down to 3."""
    return replace(one, model=linearised.softened(one.model, 300 / 100**bend)) if bend > 0 else one


def _spread(one: Specimen, bend: float) -> Sides:
    jacobian, classes = one.jacobian.cpu(), one.logits.shape[1]
    v = sphere(DRAWS, classes, like=jacobian, generator=torch.Generator().manual_seed(0))
    v[:, one.top.item()] *= 1 + 3 * bend
    v = v / v.norm(dim=1, keepdim=True)
    norm = jacobian.square().sum().item()
    estimates = classes * ((v @ jacobian[0]) ** 2).sum(1).numpy() / norm
    means = [estimates.reshape(-1, n).mean(1) for n in PROJECTIONS]
    left = np.array([np.sqrt(np.mean((mean - 1) ** 2)) for mean in means])
    right = (linearised.projection_variance(jacobian).item() / np.array(PROJECTIONS)) ** 0.5 / norm
    apart = np.abs(left / right - 1)
    excess = np.where(apart <= SPREAD_TOLERANCE, 0, apart)
    names = ("projections n", "relative spread, measured", "by the formula")
    return Sides("S2", np.array(PROJECTIONS), left, right, excess, names, ("log", "linear"))


def _boundary(one: Specimen, bend: float) -> Sides:
    one = _bent(one, bend)
    gaps, _, lengths = one.slopes
    shares = STRAIGHT / (gaps / lengths).min().item()
    gap, tangent = towards_boundary(one, shares)["gap"][:, 0], 1 - shares
    excess = np.where(np.sign(gap) == np.sign(tangent), 0, np.abs(gap - tangent))
    names = ("distance", "gap / gap at the image, network", "tangent")
    return Sides("S7", STRAIGHT, gap, tangent, excess, names, ("linear", "linear"))


def _alignment(one: Specimen, bend: float) -> Sides:
    left, right = alignment_sides(one, DISTANCES, bend)
    excess = np.where(left <= right * (1 + 1e-9), 0, np.nan_to_num(left / right - 1, nan=np.inf))
    return Sides("S8", DISTANCES, left, right, excess, ("distance", "|ρ̃ − α|", "|β| / ‖∇‖"), ("log", "linear"))


def _tangent(one: Specimen, bend: float) -> Sides:
    one, u = _bent(one, bend), directions(one.x)
    scale = one.logits.norm().item()
    left = linearised.tangent_error(one.model, one.x, u, DISTANCES)[0][:, 0].cpu().numpy() / scale
    curvature = linearised.second_derivative(one.model, one.x, u, torch.zeros(1)).norm().item() if bend > 0 else 0.0
    right = curvature * DISTANCES**2 / 2 / scale
    excess = np.where(left <= right + 100 * FLOOR, 0, left / np.maximum(right, FLOOR) - 1)
    left, right = np.maximum(left, FLOOR), np.maximum(right, FLOOR)
    return Sides("S9", DISTANCES, left, right, excess, ("distance", "error", "bound"))


def draw(axes: Axes, sides: Sides, value: float) -> None:
    """Both sides, and the verdict at the chosen place; where the statement fails, the ground is red."""
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
    fig = figure(10.4, 6.4)
    said, holds = [], []
    for axes, (statement, network, bend, value) in zip(panels(fig, 2, 3).flat, STATIC, strict=True):
        network = network if network in scenes.labels else "jsigr"
        sides = scenes.sides(statement, network, 0, bend)
        draw(axes, sides, value)
        setting = f"{scenes.labels[network]}, bend {bend:g}"
        axes.set_xlabel(f"{sides.names[0]} ({plain(setting)})")
        holds.append(sides.verdict(value)[0])
        said.append(f"{statement}, {setting}, at {value:g}: {sides.verdict(value)[1]}")
    headline(fig, titles.breaking(holds))
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
    """The live panel: one picture, whose bytes are replaced."""
    style, wide = {"description_width": "8em"}, ipywidgets.Layout(width="32em")
    slider = {"style": style, "layout": wide, "continuous_update": True}
    statement = ipywidgets.Dropdown(options=[(t, s) for s, t in TITLES.items()], description="statement", style=style)
    names, places = [(t, n) for n, t in scenes.labels.items()], [(f"{d:.2g}", d) for d in DISTANCES]
    network = ipywidgets.Dropdown(options=names, description="network", style=style)
    image = ipywidgets.IntSlider(0, 0, scenes.images - 1, description="image", **slider)
    eps = ipywidgets.SelectionSlider(options=places, index=45, description="distance", **slider)
    bend = ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.1, description="bend", **slider)
    n = ipywidgets.SelectionSlider(options=PROJECTIONS, value=8, description="projections n", **slider)
    shown, note = ipywidgets.Image(format="png", width=576), ipywidgets.HTML()

    def redraw(_: object = None) -> None:
        spread = statement.value == "S2"
        n.disabled, eps.disabled = not spread, spread
        note.value = f"Bend, {ASSUMPTION[statement.value]}."
        value = n.value if spread else eps.value
        shown.value = picture(scenes, statement.value, network.value, image.value, round(bend.value, 1), value)

    for control in (controls := (statement, network, image, eps, bend, n)):
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*controls, note, shown])
