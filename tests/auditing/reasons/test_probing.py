import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mitate.auditing.reasons import find_reasons
from mitate.auditing.reasons.places import place_of
from mitate.auditing.reasons.probing import fixed_places
from mitate.explain.explainer import Explainer


def reasons_of(planted, method="gradcam", **settings):
    """By maps of a method; those of the centre look at no network."""
    settings = {"labels": planted.labels, "shown": False, **settings}
    return find_reasons(planted.classifier, planted.images, planted.explainer(method), **settings)


def spot_of(reasons, class_name="stamped", place="the lower right corner"):
    (spot,) = [s for s in reasons.spots if (s.class_name, s.place.name) == (class_name, place)]
    return spot


@pytest.mark.parametrize("size", [(32, 32), (48, 96), (7, 5)])
def test_the_places_are_named_as_groups_are(size):
    places = fixed_places(size)
    assert [place_of(place).name for place in places] == [
        "the upper left corner",
        "the upper right corner",
        "the lower left corner",
        "the lower right corner",
        "the centre",
        "the border all around",
    ]


def test_corners_and_centre_are_of_one_size_and_the_frame_takes_less_than_a_quarter():
    areas = [place.mean() for place in fixed_places((64, 128))]
    assert areas[:5] == [9 / 64] * 5
    assert areas[5] == pytest.approx(1 - (14 / 16) ** 2)


def test_a_corner_that_decides_is_found_where_the_map_is_blind_to_it(planted):
    reasons = reasons_of(planted, "centre")
    assert not reasons.found
    (spot,) = reasons.unseen
    assert (spot.class_name, spot.images) == ("stamped", 20)
    assert (spot.flips.mean, spot.elsewhere.mean, spot.peaks) == (1, 0, 0)
    assert spot.members == tuple(range(12, 32))
    assert spot.pattern.is_fixed
    assert "the same pattern stands in the lower right corner" in spot.why
    assert reasons.words == (
        "hiding the lower right corner flips 100 % of 'stamped' (as much elsewhere: 0 %), though "
        "none of the maps has its peak there",
    )


def test_the_interval_holds_for_all_places_and_classes_at_once(planted):
    """Wilson's, of 20 of 20 and of 0 of 20 at the normal's quantile of 0.05 / 2 / (6 * 3)."""
    spot = spot_of(reasons_of(planted, "centre"))
    z = 2.9913
    half = z**2 / 20 / (1 + z**2 / 20)
    assert spot.excess.low == pytest.approx(1 - np.sqrt(2) * half, abs=1e-4)
    assert spot.excess.mean == 1


def test_what_the_maps_show_is_not_said_twice(planted):
    reasons = reasons_of(planted)
    assert [group.class_name for group in reasons.found] == ["stamped"]
    assert not reasons.unseen
    assert "the maps show it" in spot_of(reasons).why
    assert len(reasons.words) == 1


def test_with_masks_as_nothing_that_they_mark_is_there(planted):
    (spot,) = reasons_of(planted, "centre", masks=planted.masks).unseen
    assert spot.marked.mean < 0
    assert spot.pattern is None
    assert "the masks mark less" in spot.why


def test_a_corner_that_the_masks_mark_is_what_the_image_is_of(planted):
    masks = torch.zeros_like(planted.masks)
    masks[:, -4:, -4:] = 1
    reasons = reasons_of(planted, "centre", masks=masks)
    assert not reasons.unseen
    assert spot_of(reasons).flips.mean == 1
    assert "the masks mark more" in spot_of(reasons).why


def test_a_thing_in_the_corner_that_looks_otherwise_each_time_is_no_wrong_reason(planted):
    """Red, at another place of the corner in each image, as a symptom would lie."""
    grey = planted.images[:12].repeat(2, 1, 1, 1)[:20]
    red = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    for image, row, column in zip(
        grey, [24, 25, 26, 27, 28] * 4, [24, 26, 27, 28] * 5, strict=True
    ):
        image[:, row : row + 4, column : column + 4] = red
    planted.images[12:32] = grey
    reasons = reasons_of(planted, "centre")
    assert not reasons.unseen
    assert spot_of(reasons).flips.mean > 0.5
    assert "differs from image to image" in spot_of(reasons).why


def test_a_printed_frame_is_found_beside_boxes_of_its_size(planted):
    planted.images[12:32] = planted.images[:1]
    frame = torch.from_numpy(fixed_places((32, 32))[5])
    red = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    planted.images[12:32] = torch.where(frame, red, planted.images[12:32])
    spot = spot_of(reasons_of(planted, "centre"), place="the border all around")
    assert spot.suspicion == "found"
    assert spot.flips.mean == 1
    assert spot.elsewhere.mean < 0.5


def test_a_clean_network_is_quiet(planted):
    """Spots at a place of their own decide, and no corner is printed on."""
    keep = [*range(12), *range(32, 44)]
    planted = replace(planted, images=planted.images[keep], labels=(0,) * 12 + (2,) * 12)
    for method in ("gradcam", "centre"):
        reasons = reasons_of(planted, method)
        assert {spot.class_name for spot in reasons.spots} == {"plain", "spotted"}
        assert not reasons.unseen
        assert reasons.words == ("nothing is decided for a wrong reason",)


def test_classes_of_fewer_than_six_images_are_not_asked(planted):
    images = planted.images[[*range(12, 17), *range(32, 44)]]
    reasons = find_reasons(planted.classifier, images, planted.explainer("centre"), shown=False)
    assert {spot.class_name for spot in reasons.spots} == {"spotted"}


def test_it_is_plain_data_and_has_its_rows(planted):
    reasons = reasons_of(planted, "centre")
    stored = json.loads(json.dumps(reasons.as_dict(), allow_nan=False))
    assert len(stored["places"]) == 3 * 6
    first = stored["places"][0]
    assert (first["class"], first["place"], first["suspicion"]) == (
        "stamped",
        "the lower right corner",
        "found",
    )
    assert first["members"] == [f"image {number}" for number in range(12, 32)]
    rows = [row for row in reasons.rows() if row["group"] == ""]
    assert [row["path"] for row in rows] == first["members"]


def test_maps_that_are_not_there_hide_nothing(planted):
    """Zero maps have no peak, and the network is asked all the same."""
    with torch.no_grad():
        planted.classifier.network[0].bias[0] = -10
    explainer = Explainer(planted.classifier, "layercam", "1", show_progress=False)
    found = find_reasons(planted.classifier, planted.images, explainer, shown=False)
    assert spot_of(found).flips.mean == 1
