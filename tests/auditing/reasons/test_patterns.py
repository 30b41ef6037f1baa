import pytest
import torch

from mitate.auditing.reasons.patterns import pattern
from mitate.auditing.reasons.photos import Stacked


def noisy(number, side=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, side, side, generator=generator)


def corner(side=48):
    region = torch.zeros(side, side, dtype=torch.bool)
    region[32:, 32:] = True
    return region.numpy()


def found(images, members, others, **settings):
    stacked = Stacked(images, (-1,) * len(images))
    settings = {"seed": 0, "batch_size": 7, **settings}
    return pattern(stacked, members, others, corner(), **settings)


def printed(images, seed=9):
    """One printed pattern, with other noise under each."""
    mark = noisy(1, 8, seed)[0].round()
    images[:, :, 36:44, 36:44] = 0.2 * images[:, :, 36:44, 36:44] + 0.8 * mark


def test_what_is_printed_at_one_place_is_a_pattern():
    images = noisy(40)
    printed(images[:10])
    seen = found(images, range(10), range(10, 40))
    assert seen.is_fixed
    assert seen.agreement > 0.8
    assert seen.by_chance < 0.3


def test_copies_agree_wholly():
    images = noisy(30)
    images[:10] = images[:1]
    assert found(images, range(10), range(10, 30)).agreement == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_none(seed):
    seen = found(noisy(40, seed=seed), range(10), range(10, 40))
    assert not seen.is_fixed
    assert abs(seen.agreement) < 0.3


def test_what_is_printed_at_another_place_in_each_image_is_none():
    images = noisy(40)
    mark = noisy(1, 6, 9)[0].round()
    places = torch.randint(32, 42, (10, 2), generator=torch.Generator().manual_seed(1)).tolist()
    for image, (row, column) in zip(images[:10], places, strict=True):
        image[:, row : row + 6, column : column + 6] = mark
    assert not found(images, range(10), range(10, 40)).is_fixed


def test_what_all_images_bear_is_no_pattern_of_the_members():
    images = noisy(40)
    printed(images)
    seen = found(images, range(10), range(10, 40))
    assert seen.agreement > 0.8
    assert not seen.is_fixed


def test_a_pattern_outside_the_region_does_not_count():
    images = noisy(40)
    images[:10, :, :24, :24] = images[:1, :, :24, :24]
    assert not found(images, range(10), range(10, 40)).is_fixed


@pytest.mark.parametrize("others", [[], [11]])
def test_without_other_images_nothing_can_be_said(others):
    images = noisy(12)
    printed(images[:10])
    seen = found(images, range(10), others)
    assert seen.agreement > 0.8
    assert seen.by_chance != seen.by_chance
    assert not seen.is_fixed


def test_images_without_edges_agree_in_nothing():
    assert found(torch.ones(20, 3, 48, 48), range(8), range(8, 20)).agreement == 0


def test_batches_of_any_size_give_the_same():
    images = noisy(30)
    printed(images[:8])
    first, second = (found(images, range(8), range(8, 30), batch_size=size) for size in (3, 30))
    assert first.agreement == pytest.approx(second.agreement)
    assert first.by_chance == pytest.approx(second.by_chance)
