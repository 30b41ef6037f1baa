import pytest
import torch
from torch.nn import functional as F

from mitate import imputing
from mitate.imputing import impute, impute_region, neighbour_sums
from oracles import metrics


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_hole_by_hand():
    image = torch.tensor([[[[1.0, 2, 3], [4, 0, 6], [7, 8, 9]]]], dtype=torch.float64)
    missing = torch.zeros(1, 3, 3, dtype=torch.bool)
    missing[0, 1, 1] = True
    expected = (2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 9) / 12
    assert impute(image, missing, cycles=30)[0, 0, 1, 1].item() == pytest.approx(expected)


def test_the_corner_of_two_by_two_by_hand():
    image = torch.tensor([[[[0.0, 2], [4, 6]]]], dtype=torch.float64)
    missing = torch.tensor([[[True, False], [False, False]]])
    found = impute(image, missing, cycles=60)[0, 0, 0, 0].item()
    assert found == pytest.approx((2 / 6 + 4 / 6 + 6 / 12) / (5 / 12))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(7, 9), (16, 12), (1, 5), (11, 2)])
def test_against_the_dense_solution(size, share):
    images, missing = drawn(3, 3, *size), drawn(3, *size, seed=1) < share
    missing[:, 0, 0] = False
    found = impute(images, missing, cycles=80)
    for image, holes, result in zip(images, missing, found, strict=True):
        torch.testing.assert_close(result, metrics.imputed(image, holes), rtol=0, atol=1e-6)


def test_one_cycle_is_off_by_as_little_as_the_noise_for_smooth_holes():
    blobs = F.interpolate(drawn(4, 1, 5, 5), (40, 40), mode="bilinear")[:, 0]
    missing = blobs > 0.45
    images = F.interpolate(drawn(4, 3, 10, 10, seed=2), (40, 40), mode="bicubic").clamp(0, 1)
    error = impute(images, missing) - impute(images, missing, cycles=60)
    assert error[missing[:, None].expand_as(error)].square().mean().sqrt() < 0.015
    assert not error[~missing[:, None].expand_as(error)].any()


def test_three_channels_are_three_images_and_batch_is_loop():
    images, missing = drawn(2, 3, 9, 8), drawn(2, 9, 8, seed=3) < 0.6
    found = impute(images, missing)
    for place in range(2):
        for channel in range(3):
            alone = impute(images[place, channel][None, None], missing[place][None])
            torch.testing.assert_close(found[place, channel], alone[0, 0])


def test_nothing_missing_changes_nothing():
    images = drawn(1, 3, 6, 6)
    assert torch.equal(impute(images, torch.zeros(1, 6, 6, dtype=torch.bool)), images)


@pytest.mark.parametrize(
    "box", [(slice(0, 4), slice(5, 9)), (slice(2, 3), slice(3, 4)), (slice(0, 7), slice(2, 8))]
)
@pytest.mark.parametrize("direct", [0, imputing.DIRECT])
def test_a_region_is_what_its_neighbours_say_alone(monkeypatch, box, direct):
    monkeypatch.setattr(imputing, "DIRECT", direct)
    images = drawn(2, 3, 7, 9)
    region = torch.zeros(7, 9, dtype=torch.bool)
    region[box] = True
    found = impute_region(images, region, cycles=80)
    for image, result in zip(images, found, strict=True):
        torch.testing.assert_close(result, metrics.imputed(image, region), rtol=0, atol=1e-6)
    assert torch.equal(impute_region(images, torch.zeros_like(region)), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sums_over_neighbours(dtype):
    values = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=dtype).expand(2, 3, -1, -1)
    found = neighbour_sums(values)
    assert found[1, 2].tolist() == [[17, 28, 21], [36, 60, 44], [29, 52, 33]]


def test_a_long_hole_is_filled_as_exactly_as_a_square_one():
    images = drawn(4, 3, 12, 90)
    missing = torch.ones(4, 12, 90, dtype=torch.bool)
    missing[..., [0, -1]] = False
    error = impute(images, missing) - impute(images, missing, cycles=60)
    assert error.abs().amax() < 0.035
