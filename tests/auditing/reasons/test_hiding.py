import numpy as np
import pytest
import torch

from mitate.auditing.reasons.hiding import PLACES, hide
from mitate.auditing.reasons.photos import Stacked


def hidden(planted, numbers, decided, region, **settings):
    images = Stacked(planted.images, planted.labels, planted.masks)
    likely = planted.classifier.logits(planted.images).double().softmax(1)[:, decided]
    chosen = {number: float(likely[number]) for number in numbers}
    settings = {"seed": 0, "batch_size": 7, **settings}
    return hide(planted.classifier, images, chosen, decided, region, **settings)


def corner():
    region = np.zeros((32, 32), dtype=bool)
    region[27:, 27:] = True
    return region


def test_hiding_what_decides_flips_and_hiding_as_much_elsewhere_does_not(planted):
    seen = hidden(planted, range(12, 32), 1, corner())
    assert seen.flips.tolist() == [1] * 20
    assert seen.flips_elsewhere.tolist() == [0] * 20
    assert (seen.rate.mean, seen.rate_elsewhere.mean, seen.excess.mean) == (1, 0, 1)
    assert (seen.falls > 0.3).all()
    assert (abs(seen.falls_elsewhere) < 0.05).all()
    assert seen.forwards == 20 * (1 + PLACES)


def test_hiding_what_does_not_decide_changes_nothing(planted):
    seen = hidden(planted, range(12), 0, corner())
    assert not seen.flips.any()
    assert (abs(seen.falls) < 0.05).all()


def test_random_places_that_hide_the_spot_flip_as_often_as_they_hit_it(planted):
    """Half of the image is hidden: a spot in the other half is hidden by the other half."""
    region = np.zeros((32, 32), dtype=bool)
    region[:16] = True
    seen = hidden(planted, range(32, 44), 2, region)
    middles = planted.masks[32:].flatten(1).argmax(1) // 32
    assert seen.flips.tolist() == (middles < 16).double().tolist()


def test_a_region_without_room_elsewhere_is_compared_with_nothing(planted):
    region = np.ones((32, 32), dtype=bool)
    region[0] = False
    seen = hidden(planted, range(12, 18), 1, region)
    assert seen.rate.mean == 1
    assert seen.rate_elsewhere.images == seen.excess.images == 0
    assert seen.forwards == 6


def test_the_masks_share_of_the_region_is_told_beside_that_of_the_image(planted):
    region = np.zeros((32, 32), dtype=bool)
    region[:16] = True
    planted.masks[12:14] = 0
    planted.masks[12, :16] = 1
    planted.masks[14] = torch.nan
    seen = hidden(planted, [12, 13, 14], 1, region)
    assert seen.marked == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)


def test_batches_of_any_size_give_the_same(planted):
    first, second = (
        hidden(planted, range(12, 32), 1, corner(), batch_size=size) for size in (3, 20)
    )
    assert first.falls == pytest.approx(second.falls, abs=1e-6)
    assert first.falls_elsewhere == pytest.approx(second.falls_elsewhere, abs=1e-6)


def test_the_network_is_left_as_it_was(planted):
    network = planted.classifier.network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    hidden(planted, range(12, 16), 1, corner())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
