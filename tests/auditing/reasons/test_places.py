import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitate.auditing.reasons.places import border_share, place_of
from mitate.errors import UsageError

SIDE = 24
MIRRORED = {"left": "right", "right": "left"}
TURNED = {"upper": "left", "lower": "right", "left": "upper", "right": "lower"}


def boxed(top, bottom, left, right, side=SIDE):
    region = np.zeros((side, side), dtype=bool)
    region[top:bottom, left:right] = True
    return region


@pytest.mark.parametrize(
    ("box", "name", "kind"),
    [
        ((0, 6, 0, 6), "the upper left corner", "corner"),
        ((0, 6, 18, 24), "the upper right corner", "corner"),
        ((18, 24, 0, 6), "the lower left corner", "corner"),
        ((18, 24, 18, 24), "the lower right corner", "corner"),
        ((23, 24, 16, 24), "the lower right corner", "corner"),
        ((8, 16, 0, 5), "the left border", "border"),
        ((0, 24, 20, 24), "the right border", "border"),
        ((0, 5, 4, 20), "the upper border", "border"),
        ((20, 24, 8, 16), "the lower border", "border"),
        ((8, 16, 8, 16), "the centre", "inside"),
        ((2, 6, 2, 6), "the upper left part", "inside"),
        ((18, 22, 10, 14), "the lower part", "inside"),
        ((10, 14, 2, 6), "the left part", "inside"),
        ((0, 24, 0, 24), "the whole image", "whole image"),
        ((0, 24, 4, 22), "the whole image", "whole image"),
    ],
)
def test_places_have_names(box, name, kind):
    place = place_of(boxed(*box))
    assert (place.name, place.kind) == (name, kind)
    assert place.at_edge == (kind in ("corner", "border"))


def test_a_frame_is_the_border_all_around():
    frame = ~boxed(3, 21, 3, 21)
    assert (place_of(frame).name, place_of(frame).kind) == ("the border all around", "all around")
    assert place_of(frame).at_edge
    sides = boxed(0, 24, 0, 3) | boxed(0, 24, 21, 24)
    assert place_of(sides).kind == "all around"


def test_a_band_through_the_middle_is_not_around_it():
    assert place_of(boxed(9, 15, 0, 24)).kind == "inside"


def test_an_empty_region_has_no_place():
    with pytest.raises(UsageError, match="no place"):
        place_of(np.zeros((4, 4), dtype=bool))


def test_images_of_any_shape_count_in_shares_of_their_sides():
    region = np.zeros((20, 80), dtype=bool)
    region[15:, 60:] = True
    assert place_of(region).name == "the lower right corner"


boxes = st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(
    lambda b: boxed(min(b[0], b[1]), max(b[0], b[1]) + 1, min(b[2], b[3]), max(b[2], b[3]) + 1)
)


def renamed(name, words):
    return {words.get(word, word) for word in name.split()}


@given(boxes)
def test_a_mirrored_region_has_the_mirrored_name(region):
    place, mirrored = place_of(region), place_of(region[:, ::-1])
    assert renamed(place.name, MIRRORED) == set(mirrored.name.split())
    assert place.kind == mirrored.kind


@given(boxes)
def test_a_transposed_region_has_the_transposed_name(region):
    place, turned = place_of(region), place_of(region.T)
    assert renamed(place.name, TURNED) == set(turned.name.split())
    assert place.kind == turned.kind


def test_heat_on_the_border():
    maps = np.zeros((5, 16, 16))
    maps[0, :2] = 1  # an eighth of 16 is 2
    maps[1, 2:14, 2:14] = 1
    maps[2] = 1
    maps[4, 0, 0] = np.nan
    expected = [1, 0, 1 - 0.75**2, np.nan, np.nan]
    assert border_share(maps) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("cells", [2, 3, 5, 7, 16])
def test_an_even_map_has_the_same_share_on_any_grid(cells):
    even = np.full((1, cells, cells), 1 / cells**2)
    assert border_share(even)[0] == pytest.approx(1 - 0.75**2)
