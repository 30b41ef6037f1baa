import numpy as np
import pytest
from PIL import Image

from mitate.drawing.colour import (
    ABSENT,
    COLORMAP,
    DIVERGING,
    colormap_named,
    heat,
    outlined,
    overlay,
    stretch,
    tint,
)
from mitate.errors import UsageError

GREEN = np.full((20, 30, 3), (20, 160, 40), np.uint8)


def lightness(colours):
    return colours.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_heat_has_the_ends_of_the_colormap():
    colours = heat(np.array([[0.0, 0.5, 1.0]]), "viridis")
    assert colours.dtype == np.uint8
    assert colours.shape == (1, 3, 3)
    assert colours[0, 0].tolist() == [68, 1, 84]
    assert colours[0, 2].tolist() == [253, 231, 36]


def test_the_default_grows_in_lightness():
    ramp = heat(np.linspace(0, 1, 64)[None])
    assert (np.diff(lightness(ramp)[0]) > 0).all()


def test_the_default_is_dark_where_the_map_is_zero():
    assert heat(np.zeros((1, 1)))[0, 0].max() < 8


def test_values_beyond_the_range_take_its_ends():
    beyond = heat(np.array([[-0.2, 1.7, np.inf * 0]]))
    assert (beyond[0, :2] == heat(np.array([[0.0, 1.0]]))[0]).all()


def test_nan_is_grey():
    assert heat(np.array([[np.nan]]))[0, 0].tolist() == [ABSENT] * 3


def test_a_signed_map_has_zero_in_the_middle():
    colours = heat(np.array([[-1.0, 0.0, 1.0]]), DIVERGING, signed=True)[0].astype(int)
    assert colours[0, 2] > colours[0, 0]
    assert colours[2, 0] > colours[2, 2]
    assert np.ptp(colours[1]) < 8


@pytest.mark.parametrize("name", ["jet", "JET", "cividis", "inferno_r", "RdBu", "rdbu"])
def test_any_name_of_matplotlib_in_any_case(name):
    assert colormap_named(name).name.lower() == name.lower()


@pytest.mark.parametrize(
    ("wrong", "near"), [("viridus", "viridis"), ("infern", "inferno"), ("xyzzyx", "viridis")]
)
def test_a_wrong_name_lists_the_nearest(wrong, near):
    with pytest.raises(UsageError, match=f"no colormap '{wrong}'.*{near}"):
        heat(np.zeros((2, 2)), wrong)


def test_overlay_has_the_size_of_the_picture():
    for picture in (GREEN, Image.fromarray(GREEN), Image.fromarray(GREEN).convert("L")):
        shown = overlay(picture, np.eye(7))
        assert shown.size == (30, 20)
        assert shown.mode == "RGB"


def test_overlay_mixes_by_opacity():
    values = np.ones((2, 2))
    top = heat(values)[0, 0].astype(float)
    for opacity in (0.0, 0.4, 1.0):
        mixed = np.asarray(overlay(GREEN, values, opacity=opacity))[5, 5]
        expected = opacity * top + (1 - opacity) * GREEN[5, 5]
        assert np.abs(mixed - expected).max() <= 1.5


def test_the_familiar_look():
    shown = np.asarray(overlay(GREEN, np.zeros((3, 3)), colormap="jet", opacity=0.4))
    assert shown[0, 0, 2] > GREEN[0, 0, 2]


def test_the_picture_shows_through_where_the_map_is_nan():
    values = np.ones((4, 4))
    values[:, 2:] = np.nan
    shown = np.asarray(overlay(GREEN, values))
    assert (shown[:, 16:] == GREEN[:, 16:]).all()
    assert (shown[:, :14] != GREEN[:, :14]).any(axis=2).all()


def test_nan_does_not_leak_into_its_neighbours():
    values = np.array([[0.5, 0.5, np.nan]])
    fitted = stretch(values, (30, 4))
    assert np.isnan(fitted[:, 20:]).all()
    assert np.allclose(fitted[:, :20], 0.5)


def test_all_nan_gives_the_picture():
    assert (np.asarray(overlay(GREEN, np.full((2, 2), np.nan))) == GREEN).all()


def test_the_picture_is_not_altered():
    picture = Image.fromarray(GREEN)
    overlay(picture, np.ones((2, 2)))
    assert (np.asarray(picture) == GREEN).all()


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_impossible_opacity_is_refused(opacity):
    with pytest.raises(UsageError, match="opacity"):
        overlay(GREEN, np.ones((2, 2)), opacity=opacity)


def test_half_floats_and_single_pixels_are_drawn():
    pixel = np.zeros((1, 1, 3), np.uint8)
    assert overlay(pixel, np.ones((7, 7), np.float16), colormap=COLORMAP).size == (1, 1)


def test_an_outline_lies_around_the_region_and_leaves_it_and_the_rest():
    shares = np.zeros((8, 8), np.float32)
    shares[3:5, 2:6] = 1
    picture = np.full((8, 8, 3), 90, np.uint8)
    changed = (np.asarray(outlined(picture, shares)) != picture).any(axis=2)
    expected = np.zeros((8, 8), bool)
    expected[2:6, 1:7] = True
    expected[3:5, 2:6] = False
    assert (changed == expected).all()
    assert (np.asarray(outlined(picture, 0 * shares)) == picture).all()
    weak = np.asarray(outlined(picture, shares * np.float32(0.2)))
    assert (weak != picture).any(axis=2).tolist() == expected.tolist()


def test_two_lines_around_the_same_region_are_both_seen():
    shares = np.zeros((12, 12), np.float32)
    shares[5:7, 5:7] = 1
    near = outlined(Image.new("RGB", (12, 12)), shares)
    both = np.asarray(outlined(near, shares, colour="#b4ff00", away=1))
    rings = [(both == colour).all(2).sum() for colour in ((0, 200, 255), (180, 255, 0))]
    assert rings == [4 * 4 - 2 * 2, 6 * 6 - 4 * 4]


def test_a_tint_follows_the_shares():
    shares = np.zeros((2, 4), np.float32)
    shares[:, 2:] = 1
    drawn = np.asarray(tint(GREEN, shares))
    width = drawn.shape[1]
    assert (drawn[:, : width // 8] == GREEN[:, : width // 8]).all()
    assert (drawn[:, -width // 8 :] != GREEN[:, -width // 8 :]).any(axis=2).all()
    half = np.asarray(tint(GREEN, shares / 2)).astype(int)
    strong, weak = (np.abs(d - GREEN.astype(int))[:, -1].sum() for d in (drawn.astype(int), half))
    assert strong > weak > 0
