"""Standings and recommendation from values that are made up; the explainers make no map here."""

import math

import numpy as np
import pytest

import tiny
from mitate.auditing.entrants import Entrant
from mitate.auditing.leaderboard import ALIKE, IGNORES, control_in_words, recommend, standings
from mitate.auditing.values import Values
from mitate.explain.explainer import Explainer

IMAGES = 20


@pytest.fixture(scope="module")
def explainer():
    return Explainer(tiny.classifier(), "gradcam")


@pytest.fixture
def entrants(explainer):
    def one(method, kind="method", layer="a"):
        return Entrant(method, layer, explainer, cells=4, cost=3.0, kind=kind)

    return [
        one("gradcam"),
        one("hirescam"),
        one("layercam"),
        one("random", "control"),
        one("centre", "control"),
        one("edges", "control"),
        one("gradcam", "other class"),
        one("gradcam", "shifted"),
    ]


def spread(mean, images=IMAGES, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.01, images)
    return (mean + noise - noise.mean()).tolist()


def values(metric, means):
    found = Values()
    for seed, (name, column) in enumerate(means.items()):
        kept = spread(column, seed=seed) if isinstance(column, float) else column
        found.columns[name, metric] = kept
    found.images = IMAGES
    return found


CONTROLS = {
    "random a": 0.1,
    "centre a": 0.3,
    "edges a": 0.2,
    "other class: gradcam a": 0.25,
    "shifted: gradcam a": 0.22,
}
ENERGY = {"gradcam a": 0.28, "hirescam a": 0.5, "layercam a": 0.4, **CONTROLS}


def found(entrants, metric="energy", means=ENERGY):
    known = values(metric, means)
    return {line.name: line for line in standings(entrants, (metric,), known)}, known


def test_every_score_stands_beside_the_best_control(entrants):
    lines, _ = found(entrants)
    score = lines["hirescam a"].scores["energy"]
    assert score.value.mean == pytest.approx(0.5)
    assert (score.control, score.floor) == ("centre a", pytest.approx(0.3))
    assert score.difference is not None
    assert score.difference.mean == pytest.approx(0.2)
    assert score.beaten is True
    assert score.words == "better than every control (best: a blob in the centre)"


def test_what_is_not_better_than_the_blob_is_told_so(entrants):
    lines, _ = found(entrants)
    score = lines["gradcam a"].scores["energy"]
    assert score.beaten is False
    assert score.words == "not better than a blob in the centre"


def test_lower_is_better_where_the_metric_says_so(entrants):
    lines, _ = found(entrants, "deletion")
    assert lines["hirescam a"].scores["deletion"].beaten is False
    turned = {name: 1 - mean for name, mean in ENERGY.items()}
    lines, _ = found(entrants, "deletion", turned)
    score = lines["hirescam a"].scores["deletion"]
    assert score.beaten is True
    assert score.difference is not None
    assert score.difference.mean == pytest.approx(0.2)
    assert score.control == "centre a"


def test_controls_are_not_judged(entrants):
    lines, _ = found(entrants)
    score = lines["centre a"].scores["energy"]
    assert (score.beaten, score.words, score.difference) == (None, "", None)


def test_fewer_than_six_images_are_too_few(entrants):
    few = {name: spread(mean, images=5) for name, mean in ENERGY.items()}
    lines, known = found(entrants, means=few)
    score = lines["hirescam a"].scores["energy"]
    assert score.beaten is None
    assert score.words == "too few photos to judge: 5 of at least 6"
    chosen = recommend(tuple(lines.values()), known, "energy")
    assert chosen is not None
    assert not chosen.trusted


def test_complexity_is_not_held_against_blobs(entrants):
    lines, _ = found(entrants, "sparseness")
    score = lines["gradcam a"].scores["sparseness"]
    assert (score.beaten, score.words) == (None, "")
    assert score.control


def test_a_map_without_values_says_so(entrants):
    lines, _ = found(entrants, means={**ENERGY, "gradcam a": [math.nan] * IMAGES})
    score = lines["gradcam a"].scores["energy"]
    assert score.value.missing == IMAGES
    assert score.words == "nothing to judge: no map has a value"


def test_the_best_is_recommended_with_the_reason(entrants):
    lines, known = found(entrants)
    chosen = recommend(tuple(lines.values()), known, "energy")
    assert chosen is not None
    assert (chosen.method, chosen.layer, chosen.trusted) == ("hirescam", "a", True)
    assert chosen.reason == (
        "hirescam at a has energy 0.500, the highest of the 2 maps better than every control (the "
        "best of them, a blob in the centre: 0.300)"
    )
    assert chosen.as_good == ()


def test_what_cannot_be_told_from_the_best_is_named(entrants):
    noisy = np.random.default_rng(5).normal(0.5, 0.05, IMAGES).tolist()
    lines, known = found(entrants, means={**ENERGY, "layercam a": noisy})
    chosen = recommend(tuple(lines.values()), known, "energy")
    assert chosen is not None
    assert len(chosen.as_good) == 1
    assert chosen.as_good[0] in chosen.reason


def test_where_no_map_beats_the_controls_none_is_trusted(entrants):
    lines, known = found(entrants, means={**ENERGY, "centre a": 0.6})
    chosen = recommend(tuple(lines.values()), known, "energy")
    assert chosen is not None
    assert (chosen.name, chosen.trusted) == ("hirescam a", False)
    assert "not to be relied on: not better than a blob in the centre" in chosen.reason


def test_without_any_value_there_is_nothing_to_recommend(entrants):
    lines, known = found(entrants, means={name: [math.nan] * IMAGES for name in ENERGY})
    assert recommend(tuple(lines.values()), known, "energy") is None


def test_what_was_dropped_on_the_way_is_out_of_the_choice(entrants):
    lines, known = found(entrants, means={**ENERGY, "hirescam a": spread(0.9, images=8)})
    assert lines["hirescam a"].images == 8
    assert lines["hirescam a"].scores["energy"].beaten is True
    chosen = recommend(tuple(lines.values()), known, "energy")
    assert chosen is not None
    assert chosen.name == "layercam a"


@pytest.mark.parametrize(
    ("metric", "mean", "badges"),
    [
        ("efficient_randomisation", 0.0, (IGNORES,)),
        ("efficient_randomisation", 0.3, ()),
        ("cascading_randomisation", 0.95, (IGNORES,)),
        ("cascading_randomisation", 0.5, ()),
        ("random_logit", 0.98, (ALIKE,)),
        ("random_logit", 0.2, ()),
    ],
)
def test_badges(entrants, metric, mean, badges):
    lines, _ = found(entrants, metric, {"gradcam a": mean, "edges a": mean})
    assert lines["gradcam a"].badges == badges
    assert lines["edges a"].badges == ()


def test_controls_in_words():
    assert control_in_words("centre stages.3") == "a blob in the centre"
    assert control_in_words("edges a") == "an edge map"
    assert control_in_words("other class: gradcam a") == "a map for another class (gradcam a)"
    assert control_in_words("shifted: gradcam a") == "a map moved elsewhere (gradcam a)"
