import json

import numpy as np
import pytest

from mitate.training.scores import Scores, guessing, score

TRUE, PREDICTED = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]


def test_by_hand():
    scores = score(TRUE, PREDICTED, ("a", "b", "c"))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.confusion == ((2, 1, 0), (0, 1, 1), (0, 0, 1))
    first = scores.classes[0]
    assert (first.name, first.precision, first.support) == ("a", 1, 3)
    assert first.recall == pytest.approx(2 / 3)
    assert first.f1 == pytest.approx(0.8)
    assert scores.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("predicted", "poor"),
    [([0, 0, 0, 0, 0], True), ([1, 0, 0, 0, 0], True), ([0, 0, 0, 1, 0], False)],
)
def test_what_is_no_better_than_a_guess_is_told(predicted, poor):
    told = list(guessing(score([0, 0, 0, 1, 1], predicted, ("a", "b"))))
    assert bool(told) == poor
    assert all("0.600" in line for line in told)


def test_one_class_is_no_guess():
    assert not list(guessing(score([0, 0], [0, 0], ("a", "b"))))


def test_a_class_without_images_counts_only_in_the_matrix():
    scores = score([0, 0], [0, 1], ("a", "b", "c"))
    assert scores.macro_f1 == pytest.approx(scores.classes[0].f1)
    assert np.array(scores.confusion).shape == (3, 3)
    assert scores.classes[2].support == 0


def test_scores_survive_json():
    scores = score(TRUE, PREDICTED, ("a", "いもち病", "c"))
    assert Scores.from_dict(json.loads(json.dumps(scores.as_dict()))) == scores
