"""The two sides of a statement, their verdict, and the panel that shows them."""

import io

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from jsigr_lib.theory import breaking
from jsigr_lib.theory.breaking import IMAGES, PROJECTIONS, STRAIGHT, Scenes, Sides, panel, picture, specimens, static


@pytest.fixture(scope="module")
def scenes(study) -> Scenes:
    return Scenes(study, specimens(study, IMAGES, ["standard", "jsigr"]))


def test_spread_follows_the_formula_until_the_vectors_are_not_uniform(scenes):
    right, broken = (scenes.sides("S2", "standard", 0, bend) for bend in (0.0, 1.0))
    assert (right.excess <= 0).all()
    np.testing.assert_allclose(right.left, right.right, rtol=0.1)
    assert (broken.excess[-3:] > 0).all()
    np.testing.assert_allclose(right.right, broken.right)
    np.testing.assert_allclose(right.right[0] / right.right, np.array(PROJECTIONS) ** 0.5)


def test_tangent_is_the_network_near_the_image(scenes):
    near = scenes.sides("S7", "standard", 0, 0.0)
    assert near.left[0] == pytest.approx(near.right[0], abs=0.05)
    wrong = np.sign(near.left) != np.sign(near.right)
    assert ((near.excess > 0) == wrong).all()


@pytest.mark.parametrize("statement", ["S8", "S9"])
def test_linear_region_holds_and_ends(scenes, statement):
    sides = scenes.sides(statement, "standard", 0, 0.0)
    assert (sides.excess[:3] <= 0).all()
    assert sides.excess.max() > 0


def test_smoothing_gives_a_curvature(scenes):
    flat, curved = (scenes.sides("S9", "standard", 0, bend) for bend in (0.0, 0.5))
    assert (flat.right == breaking.FLOOR).all()
    assert (curved.right > breaking.FLOOR).any()
    assert (np.diff(curved.right) >= 0).all()


def test_sides_are_computed_once(scenes):
    assert scenes.sides("S7", "jsigr", 1, 0.0) is scenes.sides("S7", "jsigr", 1, 0.0)
    assert scenes.sides("S7", "jsigr", 1, 0.0) is not scenes.sides("S7", "jsigr", 2, 0.0)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(1, (True, "holds")), (9, (False, "fails, by 25.0 %")), (1000, (False, "fails, by more than 1000 %"))],
)
def test_verdict(value, verdict):
    axis, excess = np.array([1.0, 10.0, 100.0]), np.array([0.0, 0.25, 11.0])
    assert Sides("S8", axis, axis, axis, excess, ("a", "b", "c")).verdict(value) == verdict


def test_static_figure_shows_holding_and_failing(scenes):
    fig, alt = static(scenes)
    assert len(fig.axes) == 6
    assert "holds" in alt and "fails, by" in alt and "J-SIGR" in alt


def test_panel_replaces_one_picture_in_place(scenes):
    box = panel(scenes)
    *controls, note, shown = box.children
    statement, network, image, eps, bend, n = controls
    seen = [shown.value]
    assert Image.open(io.BytesIO(seen[0])).size == (576, 306)
    assert (n.disabled, eps.disabled) == (False, True)
    for control, value in (
        (bend, 0.5),
        (n, 32),
        (statement, "S7"),
        (eps, eps.options[50][1]),
        (image, 3),
        (network, "jsigr"),
    ):
        control.value = value
        assert shown.value not in seen
        seen.append(shown.value)
    assert (n.disabled, eps.disabled) == (True, False)
    assert "tangent" in note.value
    assert box.children[-1] is shown and isinstance(shown, ipywidgets.Image)
    assert shown.value == picture(scenes, "S7", "jsigr", 3, 0.5, eps.value)


def test_straight_way_is_in_equal_steps():
    assert np.ptp(np.diff(STRAIGHT)) < 1e-12
