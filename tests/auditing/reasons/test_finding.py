import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from mitate.auditing.reasons import find_reasons
from mitate.errors import TargetError, UsageError
from mitate.explain.explainer import Explainer

PATCH = 4
RED = torch.tensor([1.0, 0.1, 0.1])[:, None, None]


def found_by_class(reasons):
    return {group.class_name: group for group in reasons.found}


def reasons_of(planted, **settings):
    settings = {"labels": planted.labels, "shown": False, **settings}
    return find_reasons(planted.classifier, planted.images, planted.explainer(), **settings)


def test_the_planted_corner_is_found_with_its_class_and_its_flips(planted):
    reasons = reasons_of(planted)
    assert list(found_by_class(reasons)) == ["stamped"]
    group = reasons.groups[0]
    assert group.place.name == "the lower right corner"
    assert group.members == tuple(range(12, 32))
    assert (group.share, group.flips.mean, group.elsewhere.mean, group.peaks) == (1, 1, 0, 1)
    assert group.region[28:, 28:].mean() > 0.9
    assert group.area < 0.03
    assert group.pattern.is_fixed
    assert "the same pattern stands in the lower right corner" in group.why
    assert reasons.words == (
        "100 % of 'stamped' is decided by the lower right corner; hiding it flips 100 % of them "
        "(as much elsewhere: 0 %)",
    )


@pytest.mark.parametrize("method", ["gradient", "inputxgradient", "occlusion"])
def test_a_map_of_pixels_finds_it_too(planted, method):
    explainer = Explainer(planted.classifier, method, show_progress=False)
    reasons = find_reasons(planted.classifier, planted.images, explainer, shown=False)
    assert "stamped" in found_by_class(reasons)


def test_a_stamp_on_a_part_of_a_class_is_a_group_of_its_own(planted):
    """The others of the class are red at a place of their own, which is no wrong reason."""
    images = planted.images.clone()
    images[12:24] = torch.where(planted.masks[12:24, None] > 0, RED, images[:12])
    reasons = find_reasons(planted.classifier, images, planted.explainer(), shown=False)
    (group,) = reasons.found
    assert group.members == tuple(range(24, 32))
    assert group.share == pytest.approx(0.4)
    assert group.words.startswith("40 % of 'stamped' is decided by the lower right corner")


def test_with_masks_too_as_nothing_that_they_mark_is_there(planted):
    group = found_by_class(reasons_of(planted, masks=planted.masks))["stamped"]
    assert group.marked.mean < 0
    assert group.outside.mean == pytest.approx(1)
    assert "the masks mark less" in group.why


def test_a_corner_that_the_masks_mark_is_what_the_image_is_of(planted):
    masks = torch.zeros_like(planted.masks)
    masks[:, -4:, -4:] = 1
    reasons = reasons_of(planted, masks=masks)
    assert not reasons.found
    (stamped,) = [group for group in reasons.groups if group.class_name == "stamped"]
    assert stamped.outside.mean < 0.3
    assert stamped.flips.mean == 1
    assert reasons.words == ("nothing is decided for a wrong reason",)


def test_without_the_stamps_it_is_quiet(planted):
    for chosen in (slice(0, 12), slice(32, 44)):
        reasons = find_reasons(
            planted.classifier, planted.images[chosen], planted.explainer(), shown=False
        )
        assert reasons.groups
        assert not reasons.found


def test_a_network_that_does_not_use_the_corner_is_quiet_about_it(planted):
    """Its maps lie there, but hiding the corner changes nothing: the head's bias decides."""
    with torch.no_grad():
        planted.classifier.network[4].bias[1] += 10
    reasons = reasons_of(planted)
    group = next(g for g in reasons.groups if set(range(12, 32)) <= set(g.members))
    assert group.flips.mean == 0
    assert not reasons.found


def test_every_image_with_a_map_is_in_one_group(planted):
    reasons = reasons_of(planted)
    members = sorted(number for group in reasons.groups for number in group.members)
    assert members == list(range(44))
    assert reasons.images == 44
    for name in planted.classifier.class_names:
        shares = [group.share for group in reasons.groups if group.class_name == name]
        assert sum(shares) == pytest.approx(1)


def test_equal_seeds_give_equal_reasons_in_batches_of_any_size(planted):
    first, second = (reasons_of(planted, seed=3, batch_size=size).as_dict() for size in (5, 44))
    assert first == second


def test_the_forwards_are_counted_as_they_are_run(planted):
    rows = []
    hook = planted.classifier.network.register_forward_hook(
        lambda module, args, output: rows.append(len(output))
    )
    reasons = reasons_of(planted)
    hook.remove()
    looks, hiding = 44 * (3 + 1), 44 * 9 + 44 * 6
    hiding += 8 * sum(spot.images for spot in reasons.spots if spot.elsewhere)
    assert reasons.forwards == looks + hiding
    # A forward for the logits counts with its gradients; a few forwards of one image find the layer
    assert 44 * 2 + hiding <= sum(rows) <= 44 * 2 + hiding + 8


def test_labels_tell_how_many_of_a_group_are_wrong(planted):
    wrong = (0,) * 12 + (1,) * 15 + (2,) * 5 + (2,) * 12
    group = found_by_class(reasons_of(planted, labels=wrong))["stamped"]
    assert group.errors == pytest.approx(0.25)
    assert group.error_lift == pytest.approx(0)
    unknown = found_by_class(reasons_of(planted, labels=[None] * 44))["stamped"]
    assert unknown.errors is unknown.error_lift is None


def test_one_image_a_class_is_too_few_to_judge_and_no_fault(planted):
    chosen = planted.images[[0, 12, 32]]
    reasons = find_reasons(planted.classifier, chosen, planted.explainer(), shown=False)
    assert [len(group.members) for group in reasons.groups] == [1, 1, 1]
    assert {group.suspicion for group in reasons.groups} == {"quiet"}
    assert all("1 image, and it takes 6" in group.why for group in reasons.groups)
    assert all(group.flips is None for group in reasons.groups)


def test_classes_that_nothing_is_decided_to_be_are_left_out(planted):
    reasons = find_reasons(
        planted.classifier, planted.images[12:32], planted.explainer(), shown=False
    )
    assert {group.class_name for group in reasons.groups} == {"stamped"}


def test_maps_that_are_all_alike_are_one_group_without_a_place(planted):
    constant = torch.zeros_like(planted.images[:10])
    reasons = find_reasons(planted.classifier, constant + 0.5, planted.explainer(), shown=False)
    (group,) = reasons.groups
    assert (group.class_name, len(group.members), group.place) == ("plain", 10, None)
    assert group.area == 0
    assert group.words == "100 % of 'plain' has maps of which no part stands out"
    assert "no part of the maps stands out" in group.why


class Overflowing(nn.Module):
    """Gives what is not finite where a value is larger than any that the images lead to."""

    def forward(self, activations):
        return torch.where(activations.amax((1, 2, 3), keepdim=True) > 5, torch.nan, activations)


def test_maps_that_are_not_finite_are_counted_and_in_no_group(planted):
    planted.images[12:14, :, :PATCH, :PATCH] = 10
    first, *rest = planted.classifier.network
    network = nn.Sequential(first, Overflowing(), *rest).eval()
    classifier = replace(planted.classifier, network=network)
    reasons = find_reasons(
        classifier, planted.images, Explainer(classifier, layer="1"), shown=False
    )
    assert sum(reasons.unmapped.values()) == 2
    members = {number for group in reasons.groups for number in group.members}
    assert members == set(range(44)) - {12, 13}


def test_it_is_plain_data_for_json_and_csv(planted):
    reasons = reasons_of(planted, masks=planted.masks)
    stored = json.loads(json.dumps(reasons.as_dict(), allow_nan=False))
    first = stored["groups"][0]
    assert (first["class"], first["suspicion"]) == ("stamped", "found")
    assert first["flips"] == {"mean": 1, "low": 1, "high": 1, "images": 20, "missing": 0}
    assert first["box"][2:] == [1, 1]
    rows = list(reasons.rows())
    assert len(rows) == 44
    assert rows[0].keys() == {"class", "group", "place", "suspicion", "medoid", "path"}
    assert sum(bool(row["medoid"]) for row in rows) == len(reasons.groups)


def test_the_medoid_is_a_member_and_comes_with_its_picture(planted):
    for group in reasons_of(planted).groups:
        assert group.medoid in group.members
        assert group.picture.size == (32, 32)
        assert group.medoid_heat.shape == group.heat.shape == (8, 8)


@pytest.mark.parametrize(
    ("settings", "error", "word"),
    [
        ({"labels": [0]}, TargetError, "1 label"),
        ({"masks": torch.zeros(44, 8, 8)}, UsageError, "one mask an image"),
    ],
)
def test_what_does_not_fit_is_refused(planted, settings, error, word):
    with pytest.raises(error, match=word):
        reasons_of(planted, **settings)


def test_no_images_and_no_classes_are_refused(planted):
    with pytest.raises(UsageError, match="no image to audit"):
        find_reasons(planted.classifier, planted.images[:0], planted.explainer(), shown=False)
    values = replace(planted.classifier, task="regression")
    with pytest.raises(UsageError, match="values"):
        find_reasons(values, planted.images, Explainer(values, layer="1"), shown=False)
