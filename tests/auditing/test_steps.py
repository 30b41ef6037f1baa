import pytest
import torch

from mitate.auditing.steps import Hidden, Nothing, Regions, Shown, Whole, Without, curve
from mitate.tensors import generators

IMAGES = list(torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


def test_the_ends_of_a_curve_are_the_image_and_the_filling():
    found = curve("most", (0.0, 0.5, 1.0), "blur", "pixels")
    assert found == (Whole(), Without("most", 0.5, "blur", "pixels"), Nothing("blur"))
    other = curve("least", (1.0, 0.5, 0.0), "blur", "cells")
    assert set(found) & set(other) == {Whole(), Nothing("blur")}


def test_what_all_contenders_share():
    regions = Regions(2, 4, 0.5)
    assert all(step.is_common for step in (Whole(), Nothing("blur"), Hidden(regions, 0, "blur")))
    assert not any(
        step.is_common for step in (Shown("blur"), Without("most", 0.1, "blur", "pixels"))
    )


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_what_is_missing_by_rank(fraction):
    ranks = torch.randperm(30, generator=torch.Generator().manual_seed(0)).reshape(1, 5, 6)
    most = Without("most", fraction, "blur", "pixels").missing(ranks)
    least = Without("least", 1 - fraction, "blur", "pixels").missing(ranks)
    assert most.sum() == round(fraction * 30)
    assert ranks[most].max() < ranks[~most].min()
    assert torch.equal(most, ~least)


@pytest.mark.parametrize(("share", "covered"), [(0.2, 3), (0.0, 1), (1.0, 15)])
def test_scattered_regions_cover_their_share(share, covered):
    drawn = Regions(5, 4, share).drawn(generators(0, IMAGES))
    assert (drawn.sum((-2, -1)) == covered).all()
    assert not torch.equal(drawn[0], drawn[1])


def test_squares_are_squares():
    drawn = Regions(20, 8, 0.25, square=True).drawn(generators(0, IMAGES))
    assert (drawn.sum((-2, -1)) == 16).all()
    assert (drawn.any(-1).sum(-1) == 4).all()
    assert (drawn.any(-2).sum(-1) == 4).all()


def test_regions_at_pixels_by_hand():
    cells = torch.tensor([[[True, False], [False, False]]])
    found = Regions(1, 2, 0.25).pixels(cells, (3, 4))
    assert found.int().tolist() == [[[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]
    large = Regions(1, 2, 0.25).pixels(cells, (4, 6))
    assert large.sum() == 6
