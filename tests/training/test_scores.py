import json

import numpy as np
import pytest

from mitate.training.scores import Scores, score

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


def test_a_class_without_images_counts_only_in_the_matrix():
    scores = score([0, 0], [0, 1], ("a", "b", "c"))
    assert scores.macro_f1 == pytest.approx(scores.classes[0].f1)
    assert np.array(scores.confusion).shape == (3, 3)
    assert scores.classes[2].support == 0


def test_scores_survive_json():
    scores = score(TRUE, PREDICTED, ("a", "いもち病", "c"))
    assert Scores.from_dict(json.loads(json.dumps(scores.as_dict()))) == scores
