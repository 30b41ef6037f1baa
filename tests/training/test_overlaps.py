import pytest
import torch

from mitate.training.overlaps import Overlaps
from mitate.training.scores import score_segmentation

DRAWN = torch.tensor([[[[0.9, 0.8, 0.2, 0.6]]], [[[0.1, 0.1, 0.7, 0.1]]]])
TRUTH = torch.tensor([[[[1.0, 1.0, 1.0, 0.4]]], [[[0.0, 0.0, 0.0, 0.0]]]])
KNOWN = torch.ones(2, 1, 1, 4, dtype=torch.bool)


def test_by_hand():
    overlaps = Overlaps.of(DRAWN, TRUTH, KNOWN)
    assert overlaps.counts[:, 0].tolist() == [[2, 1, 1], [0, 1, 0]]
    assert overlaps.dice() == pytest.approx(4 / (4 + 3))
    assert overlaps.iou() == pytest.approx(2 / 5)


def test_only_known_pixels_count():
    known = KNOWN.clone()
    known[0, 0, 0, 2:] = False
    assert Overlaps.of(DRAWN, TRUTH, known).counts[0, 0].tolist() == [2, 0, 0]


def test_nothing_to_draw_and_nothing_drawn_has_no_score():
    empty = Overlaps.of(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4), KNOWN[:1])
    assert empty.dice() is None
    assert empty.iou() is None
    assert Overlaps.none().dice() is None


def test_parts_add_up():
    whole = Overlaps.of(DRAWN, TRUTH, KNOWN)
    parts = Overlaps.none()
    for i in range(2):
        parts += Overlaps.of(DRAWN[i : i + 1], TRUTH[i : i + 1], KNOWN[i : i + 1]).summed()
    assert parts.dice() == whole.dice()


def test_scores_of_one_region_are_of_the_images_of_a_class():
    scores = score_segmentation(Overlaps.of(DRAWN, TRUTH, KNOWN), [2, 0], ("a", "b", "c"))
    assert (scores.dice, scores.iou, scores.images) == (pytest.approx(4 / 7), 0.4, 2)
    assert [(s.name, s.dice, s.images) for s in scores.classes] == [
        ("a", 0, 1),
        ("b", None, 0),
        ("c", pytest.approx(4 / 6), 1),
    ]


def test_scores_of_a_region_a_class_are_over_all_images():
    drawn = torch.zeros(2, 2, 1, 4)
    drawn[0, 0, 0, :2] = 1  # right of the first image's class, a
    drawn[1, 0, 0, :1] = 1  # a again, where it is b
    truth = torch.zeros(2, 2, 1, 4)
    truth[0, 0, 0, :3] = 1
    truth[1, 1, 0, 0] = 1
    scores = score_segmentation(Overlaps.of(drawn, truth, KNOWN), [0, 1], ("a", "b"))
    a, b = scores.classes
    assert a.dice == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert b.dice == 0
    assert (a.images, b.images) == (1, 1)
