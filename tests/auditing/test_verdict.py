"""Every word of the verdict, from facts that are made up here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mitate.auditing.intervals import Interval
from mitate.auditing.leaderboard import Recommendation, Score
from mitate.auditing.segmentation import Segmentation
from mitate.auditing.usage import Usage
from mitate.auditing.verdict import (
    ADVICE,
    AGREEMENTS,
    HEADLINES,
    NOT_DECIDING,
    Facts,
    judge,
    over_guessing,
    uses_region,
)
from mitate.training.overlaps import Overlaps

TRUSTED = Recommendation("hirescam", "stages.1", "energy", True, "hirescam at stages.1 is best")
DOUBTFUL = replace(TRUSTED, trusted=False, reason="hirescam comes first, not to be relied on")


def interval(mean, half=0.01, images=40):
    return Interval(mean, mean - half, mean + half, images)


def unjudged(images):
    return Score(interval(0.3, images=images), words=f"too few photos to judge: {images}")


def score(beaten, mean=0.3):
    words = "better than every control" if beaten else "not better than a blob in the centre"
    return Score(interval(mean), "centre stages.3", 0.2, interval(0.1), beaten, words)


GOOD = Facts(
    images=40,
    accuracy=interval(0.9),
    over_guessing=interval(0.6),
    recommendation=TRUSTED,
    energy=score(True),
    reliance=interval(0.4),
    fall=interval(0.5),
)


def drawn(used, *, both=0, extra=0, missed=0, areas=(0.1, 0.3, 0.0, float("nan"))):
    """A segmentation of four photos whose hiding makes the class fall by so much."""
    counts = torch.tensor([[[both, extra, missed]], *[[[0, 0, 0]]] * 3])
    usage = Usage(interval(0.5), interval(0.1), interval(used), interval(0.2), 0.0)
    nan = float("nan")
    true_areas = np.array([0.2, nan, nan, nan]) if both + extra + missed else np.full(4, nan)
    return Segmentation(np.array(areas), true_areas, Overlaps(counts), usage)


BLIND = {"energy": None, "reliance": None, "fall": None}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "right"),
        ({"energy": score(False)}, "map wrong"),
        ({"reliance": interval(0.02)}, "classifier wrong"),
        ({"reliance": interval(0.02), "energy": score(False)}, "classifier wrong"),
        ({"reliance": interval(0.1, 0.2)}, "unclear"),
        ({"reliance": None}, "place only"),
        ({"reliance": None, "energy": score(False)}, "unclear"),
        ({"energy": None, "reliance": None}, "faithful"),
        ({"energy": None, "reliance": None, "recommendation": DOUBTFUL}, "unfaithful"),
        ({"energy": unjudged(3), "reliance": None, "recommendation": DOUBTFUL}, "few"),
        (
            {"energy": None, "reliance": None, "accuracy": None, "over_guessing": None},
            "faithful, unlabelled",
        ),
        ({"over_guessing": interval(0.005)}, "guessing"),
        ({"over_guessing": interval(-0.1)}, "guessing"),
        ({"over_guessing": interval(0.3, 0.31)}, "unproven"),
        ({"recommendation": None}, "nothing"),
        ({"images": 5}, "few"),
        ({"ignores": True}, "ignores the network"),
        ({"wrong_reasons": ("31 % of blast is decided by a corner",)}, "wrong reasons"),
        ({"ignores": True, "energy": score(False)}, "map wrong"),
        ({**BLIND, "segmentation": drawn(0.4), "agreement": score(True)}, "by its segmentation"),
        ({**BLIND, "segmentation": drawn(0.4), "agreement": score(False)}, "faithful"),
        ({**BLIND, "segmentation": drawn(0.4), "agreement": unjudged(3)}, "faithful"),
        ({**BLIND, "segmentation": drawn(0.4), "agreement": None}, "faithful"),
        (
            {**BLIND, "segmentation": drawn(0.02), "agreement": score(True)},
            "beside its segmentation",
        ),
        (
            {
                **BLIND,
                "segmentation": drawn(0.4),
                "agreement": score(True),
                "recommendation": DOUBTFUL,
            },
            "unfaithful",
        ),
        (
            {
                **BLIND,
                "segmentation": drawn(0.4),
                "agreement": score(True),
                "wrong_reasons": ("31 % of blast is decided by a corner",),
            },
            "wrong reasons",
        ),
        # Masks know better than what is segmented.
        ({"segmentation": drawn(0.02), "agreement": score(False)}, "right"),
        (
            {"segmentation": drawn(0.4), "agreement": score(True), "energy": score(False)},
            "map wrong",
        ),
    ],
)
def test_the_outcome(changes, outcome):
    found = judge(replace(GOOD, **changes))
    assert found.outcome == outcome
    assert (found.grade, found.headline) == HEADLINES[outcome]
    assert found.advice == ADVICE[outcome]


def test_map_or_classifier_in_words():
    wrong_map = judge(replace(GOOD, energy=score(False))).headline
    wrong_classifier = judge(replace(GOOD, reliance=interval(0.02))).headline
    assert "uses the region" in wrong_map
    assert "the map is wrong" in wrong_map
    assert "decides by something else" in wrong_classifier
    assert "no true map can lie on it" in wrong_classifier


def test_what_it_rests_on_is_told():
    told = " ".join(judge(GOOD).sentences)
    assert "Of 40 photos with a true class 90.0 % are predicted right" in told
    assert "60.0 points above guessing (59.0 to 61.0)" in told
    assert "the class falls by 0.500, +0.400 beyond what hiding as much elsewhere does" in told
    assert "30.0 % of the map's energy lies on the region: better than every control." in told
    assert TRUSTED.reason in told


def test_what_is_not_known_is_not_told():
    bare = Facts(images=40, recommendation=TRUSTED)
    told = " ".join(judge(bare).sentences)
    assert "No true classes are known" in told
    assert "region" not in told


def test_what_is_segmented_is_told():
    facts = replace(GOOD, segmentation=drawn(0.4, both=30, extra=10, missed=20))
    told = judge(replace(facts, agreement=score(True))).sentences
    assert (
        "The classifier segments a region in 2 of 4 photos, 20.0 % of the picture, nothing in 1, "
        "nothing finite in 1; beside 1 mask its Dice is 0.667 and its IoU 0.500."
    ) in told
    assert (
        "Without what it segments the class falls by 0.500, +0.400 beyond what hiding as much "
        "elsewhere does (+0.390 to +0.410, 40 photos)."
    ) in told
    assert (
        "30.0 % of the map's energy lies on what it segments, which is 20.0 % of the picture: "
        "better than every control."
    ) in told
    assert not any("segment" in words for words in judge(GOOD).sentences)


@pytest.mark.parametrize("key", AGREEMENTS, ids=str)
def test_map_segmentation_and_region_in_words(key):
    agrees, finds, shows = key
    pixels = {} if finds is None else {"both": 30 if finds else 29, "extra": 30, "missed": 40}
    facts = replace(
        GOOD,
        segmentation=drawn(0.4, **pixels),
        agreement=score(agrees),
        energy=unjudged(3) if shows is None else score(shows),
    )
    assert judge(facts).sentences[-1] == AGREEMENTS[key]
    unused = replace(facts, segmentation=drawn(0.02, **pixels))
    assert judge(unused).sentences[-1] == f"{AGREEMENTS[key]} {NOT_DECIDING}"


def test_where_one_of_them_is_not_told_the_other_is():
    unjudged_map = replace(GOOD, segmentation=drawn(0.02), agreement=unjudged(3))
    assert judge(unjudged_map).sentences[-1] == NOT_DECIDING
    without_masks = replace(GOOD, **BLIND, segmentation=drawn(0.4), agreement=score(True))
    assert judge(without_masks).sentences[-1] == AGREEMENTS[True, None, None]


def test_wrong_reasons_are_told_word_by_word():
    found = judge(replace(GOOD, wrong_reasons=("31 % of blast is decided by a corner.",)))
    assert found.sentences[0] == "31 % of blast is decided by a corner."


def test_every_outcome_can_be_reached():
    reached = {
        mark.args[1][row][1]
        for mark in test_the_outcome.pytestmark
        for row in range(len(mark.args[1]))
    }
    assert reached == set(HEADLINES) == set(ADVICE)


@pytest.mark.parametrize(
    ("reliance", "uses"),
    [
        (None, None),
        (interval(0.5, images=5), None),
        (interval(0.5), True),
        (interval(0.06), True),
        (interval(0.04), False),  # beyond chance, and of no matter
        (interval(0.0, 0.09), False),
        (interval(0.0, 0.2), None),
    ],
)
def test_whether_the_classifier_uses_the_region(reliance, uses):
    assert uses_region(reliance) is uses


def test_always_naming_the_commonest_class_is_guessing():
    labels = [0] * 90 + [1] * 10
    accuracy, over = over_guessing(labels, [0] * 100)
    assert accuracy.mean == 0.9
    assert over is not None
    assert over.mean == pytest.approx(0)
    assert over.low <= 0


def test_a_few_recalls_by_hand():
    # Recalls 1/2 and 1: their mean is 3/4, a quarter above guessing between two.
    _, over = over_guessing([0, 0, 1], [0, 1, 1])
    assert over is not None
    assert over.mean == pytest.approx(0.25)


def test_photos_of_a_single_class_tell_nothing_of_guessing():
    accuracy, over = over_guessing([2, 2, 2], [2, 2, 0])
    assert accuracy.mean == pytest.approx(2 / 3)
    assert over is None


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([0] * 22 + [1], [0] * 22 + [1]),
        ([0] * 62 + [1] * 2, [0] * 62 + [1] * 2),
        ([0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 0, 0]),
        ([0, 0, 1, 1], [1, 1, 0, 0]),
    ],
)
def test_no_interval_is_of_what_cannot_be(labels, named):
    _, over = over_guessing(labels, named)
    assert over is not None
    guessed = 1 / len(set(labels))
    assert -guessed <= over.low <= over.mean <= over.high <= 1 - guessed
    assert over.high - over.low > 0.05


def test_a_class_of_few_photos_leaves_its_recall_open():
    wide, narrow = (over_guessing([0] * n + [1] * n, [0] * n + [1] * n)[1] for n in (2, 200))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert narrow.low > 0.48


def test_random_predictions_are_rarely_taken_for_skill():
    rng = np.random.default_rng(0)
    labels = [i % 5 for i in range(60)]
    taken = [
        found.low > 0
        for _ in range(100)
        if (found := over_guessing(labels, rng.integers(0, 5, 60).tolist())[1])
    ]
    assert np.mean(taken) <= 0.07


def test_a_fall_over_other_photos_tells_how_many():
    facts = replace(GOOD, fall=interval(0.727, images=12), reliance=interval(0.71, images=11))
    told = " ".join(judge(facts).sentences)
    assert "the class falls by 0.727 (12 photos), +0.710 beyond" in told
    assert "to +0.720, 11 photos)" in told
