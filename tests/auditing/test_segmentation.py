"""Whole audits of classifiers that segment, where what is drawn and what decides is known."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import seeing
from mitate.auditing.audit import audit_images
from mitate.auditing.defaults import metric_names
from mitate.auditing.files import AuditFile, write_audit
from mitate.auditing.intervals import Interval
from mitate.auditing.segmentation import Segmentation, by_class, segmented_subjects
from mitate.auditing.subjects import subjects_of
from mitate.auditing.table import DEFAULT_METRICS
from mitate.auditing.usage import Usage
from mitate.errors import UsageError
from mitate.training.overlaps import Overlaps

NUMBER = 12
AREA = (seeing.SQUARE / seeing.SIZE) ** 2
FEW = ("early_deletion", "agreement")
AGREEMENT = ("segmentation_energy", "segmentation_rank_accuracy")


def audit(base, drawn, *, tinted=False, masks=True, labels=True, **settings):
    inputs, true, known = seeing.tensors(NUMBER, tinted=tinted)
    images = subjects_of(
        inputs, masks=true if masks else None, labels=known if labels else (-1,) * NUMBER
    )
    settings = {"metrics": (*FEW, "energy") if masks else FEW, **settings}
    made = seeing.segmenting(getattr(seeing, base)(), drawn)
    return audit_images(made, images, methods=("gradcam",), layers=("colours",), **settings)


@pytest.fixture(scope="module")
def agreeing():
    return audit("honest", "square", require=("segmentation_energy>=0.5",))


def last(made):
    return made.verdict.sentences[-1]


def test_map_segmentation_and_region_agree(agreeing):
    drawn = agreeing.segmentation
    assert agreeing.verdict.outcome == "right"
    assert last(agreeing) == "Map and segmentation agree, and both lie on the region."
    assert drawn.areas.tolist() == drawn.true_areas.tolist() == [AREA] * NUMBER
    assert (drawn.overlaps.dice(), drawn.overlaps.iou()) == (1, 1)
    assert (drawn.empty, drawn.broken, drawn.compared) == (0, 0, NUMBER)
    assert drawn.usage.difference == agreeing.usage.difference  # the same region is hidden
    told = " ".join(agreeing.verdict.sentences)
    assert "segments a region in 12 of 12 photos, 6.2 % of the picture; beside 12 masks" in told
    assert "of the map's energy lies on what it segments, which is 6.2 % of the picture" in told


def test_every_map_and_control_is_held_against_it(agreeing):
    for one in agreeing.entrants:
        for metric in AGREEMENT:
            values = agreeing.values.of(one.name, metric)
            assert len(values) == NUMBER
            assert np.isfinite(values).all()
    # What is segmented is the region, and so both shares are one.
    name = agreeing.recommendation.name
    np.testing.assert_allclose(
        agreeing.values.of(name, "segmentation_energy"), agreeing.values.of(name, "energy")
    )
    assert agreeing.beaten("segmentation_energy")[0] is True
    assert agreeing.passed


def test_the_segmentation_is_wrong():
    made = audit("honest", "corner")
    assert made.verdict.outcome == "right"
    assert made.segmentation.overlaps.iou() == 0
    assert last(made) == (
        "The map lies on the region, and the segmentation hardly finds it. What is segmented does "
        "not decide: the class hardly falls without it."
    )


def test_the_region_is_segmented_and_something_else_decides():
    made = audit("cheat", "square", tinted=True)
    assert made.verdict.outcome == "classifier wrong"
    assert made.segmentation.overlaps.iou() == 1
    assert "What is segmented does not decide" in last(made)


class TestWithoutMasks:
    def test_what_is_segmented_decides_and_the_map_shows_it(self):
        made = audit("honest", "square", masks=False)
        assert made.verdict.outcome == "by its segmentation"
        assert made.usage is None
        assert made.segmentation.overlaps.iou() is None
        assert made.segmentation.compared == 0
        assert "masks would tell" in last(made)
        assert "Dice" not in " ".join(made.verdict.sentences)

    def test_something_else_decides(self):
        made = audit("cheat", "square", tinted=True, masks=False)
        assert made.verdict.outcome == "beside its segmentation"
        assert made.segmentation.usage.difference.high < 0.05

    def test_a_wrong_place_that_is_segmented_and_decides_is_not_told_from_a_right_one(self):
        made = audit("cheat", "corner", tinted=True, masks=False)
        assert made.verdict.outcome == "by its segmentation"
        assert "whether that is the right place, masks would tell" in made.verdict.headline

    def test_nor_are_labels_needed(self):
        made = audit("honest", "square", masks=False, labels=False)
        assert made.verdict.outcome == "by its segmentation"
        assert made.classes.tolist() == made.predicted.tolist()


def test_a_segmentation_of_everything_favours_no_map():
    made = audit("honest", "all", masks=False)
    for one in made.entrants:
        assert made.values.of(one.name, "segmentation_energy") == pytest.approx(1)
    assert made.beaten("segmentation_energy")[0] is False
    assert made.segmentation.area.mean == 1
    assert made.segmentation.usage.difference.images == 0  # there is no place elsewhere
    assert made.verdict.outcome == "faithful"
    assert "100.0 % of the picture: not better than" in " ".join(made.verdict.sentences)
    assert last(made) == "Of the map no more lies on what is segmented than of a control."


@pytest.mark.parametrize(
    ("drawn", "empty", "broken", "told"),
    [("none", NUMBER, 0, "nothing in 12"), ("nan", 0, NUMBER, "nothing finite in 12")],
)
def test_what_is_empty_or_not_finite_is_missing_and_counted(drawn, empty, broken, told):
    made = audit("honest", drawn, require=("segmentation_energy>=0",))
    assert (made.segmentation.empty, made.segmentation.broken) == (empty, broken)
    assert made.segmentation.area.images == 0
    assert made.verdict.outcome == "right"
    assert told in " ".join(made.verdict.sentences)
    score = made.standing(made.recommendation.name).scores["segmentation_energy"].value
    assert (score.images, score.missing) == (0, NUMBER)
    assert not made.passed  # what has no value misses every threshold
    # Nothing where something is true is a Dice of 0; what is not finite is not held against masks.
    assert made.segmentation.overlaps.dice() == (0 if drawn == "none" else None)


def test_one_empty_segmentation_is_in_no_mean():
    inputs, masks, labels = seeing.tensors(NUMBER, tinted=False)
    grey = inputs.clone()
    grey[3] = 0.5
    made = audit_images(
        seeing.segmenting(seeing.honest(), "square"),
        subjects_of(grey, masks=masks, labels=labels),
        methods=("gradcam",),
        layers=("colours",),
        metrics=FEW,
        pick="early_deletion",
    )
    assert made.segmentation.empty == 1
    assert made.segmentation.area.mean == AREA
    assert made.segmentation.overlaps.dice() == pytest.approx(2 * 11 / (2 * 11 + 1))
    value = made.standing("gradcam colours").scores["segmentation_energy"].value
    assert (value.images, value.missing) == (NUMBER - 1, 1)


class TestMetrics:
    def test_they_are_default_where_the_classifier_segments(self):
        assert metric_names(None, None, masked=True, segments=True) == DEFAULT_METRICS + AGREEMENT
        assert metric_names(None, None, masked=True) == DEFAULT_METRICS
        assert metric_names(FEW, None, masked=False, segments=True) == (FEW[0], *AGREEMENT)

    @pytest.mark.parametrize(
        ("metrics", "pick"),
        [(AGREEMENT[:1], None), (("agreement",), None), (None, "segmentation_energy")],
    )
    def test_they_are_refused_where_it_does_not(self, metrics, pick):
        with pytest.raises(UsageError, match="this one segments nothing: train one with masks"):
            metric_names(metrics, pick, masked=True)

    def test_other_metrics_ask_for_no_segmentation(self):
        made = audit("honest", "nan", masks=False, metrics=FEW[:1])
        assert made.segmentation is None
        assert "decoder_sha256" not in made.parameters


def test_another_decoder_is_another_audit(tmp_path):
    inputs, _, known = seeing.tensors(NUMBER, tinted=False)
    made, told = seeing.segmenting(seeing.honest(), "square"), []
    settings = {
        "methods": ("gradcam",),
        "layers": ("colours",),
        "metrics": FEW,
        "folder": tmp_path,
        "tell": told.append,
    }
    for weights in (0, 0, 1):
        with torch.no_grad():
            made.decoder.last.weight.fill_(weights)
        audit_images(made, subjects_of(inputs, labels=known), **settings)
    assert ["earlier run" in words for words in told] == [False, True, False]


def test_what_is_segmented_takes_the_place_of_the_true_region():
    inputs, masks, labels = seeing.tensors(4, tinted=False)
    images = subjects_of(inputs, masks=masks, labels=labels).at([2, 0, 3, 1])
    made = seeing.segmenting(seeing.honest(), "square")
    hiding = segmented_subjects(made, images, torch.zeros(4).long())
    assert hiding.masked
    assert torch.equal(hiding.open([1, 2]).masks, masks[[0, 3]])
    broken = replace(made, decoder=seeing.segmenting(made, "nan").decoder)
    assert not segmented_subjects(broken, images, torch.zeros(4).long()).open([0]).masks.any()


class TestByClass:
    def test_each_class_has_its_own_means(self):
        made = audit("honest", "square", masks=False)
        red, blue = made.segmented_by_class()
        assert (red.name, red.images, blue.name, blue.images) == ("red", 6, "blue", 6)
        assert red.area.mean == blue.area.mean == AREA
        assert red.difference.low > 0.2
        values = made.values.of(made.recommendation.name, "segmentation_energy")
        assert red.energy.mean == pytest.approx(values[made.classes == 0].mean())
        beyond = made.segmentation.usage.beyond
        assert red.difference.mean == pytest.approx(beyond[made.classes == 0].mean())
        assert np.mean(beyond) == pytest.approx(made.segmentation.usage.difference.mean)

    def test_one_class_that_is_decided_elsewhere_shows(self):
        """Red is told by its square, and blue by the corner, which is tinted in its photos only."""
        inputs, _, labels = seeing.tensors(NUMBER, tinted=False)
        blue = torch.tensor(labels) == 1
        inputs[blue] = seeing.tensors(NUMBER, tinted=True)[0][blue]
        made = seeing.segmenting(seeing.honest(), "square")
        network = made.network
        network.seen = torch.cat([network.seen, seeing.cheat().network.seen], 1)
        done = audit_images(
            made, subjects_of(inputs, labels=labels), methods=("gradcam",), layers=("colours",),
            metrics=FEW,
        )  # fmt: skip
        assert done.facts.accuracy.mean == 1
        told = {one.name: one.difference for one in done.segmented_by_class()}
        assert told["red"].low > 0.2
        assert told["blue"].high < 0.05

    def test_what_is_not_known_of_a_class_is_missing(self):
        usage = replace(audit_usage(), beyond=np.array([0.5, math.nan, 0.1]))
        drawn = Segmentation(
            np.array([0.2, 0.0, math.nan]), np.full(3, math.nan), Overlaps.none(), usage
        )
        first, last = by_class(drawn, np.array([0, 0, 2]), ("a", "b", "c"), np.array([0.7]))
        assert (first.name, first.images, last.name, last.images) == ("a", 2, "c", 1)
        assert (first.area.images, first.area.missing, first.area.mean) == (1, 1, 0.2)
        assert (first.energy.images, first.energy.missing) == (1, 1)
        assert (first.difference.images, first.difference.mean) == (1, 0.5)
        assert (last.area.images, last.energy.images, last.difference.mean) == (0, 0, 0.1)

    def test_where_nothing_is_asked_there_is_none(self):
        made = audit("honest", "square", masks=False, metrics=FEW[:1])
        assert made.segmented_by_class() == ()


def audit_usage():
    whole = Interval(0.3, 0.1, 0.5, 3)
    return Usage(whole, whole, whole, whole, 0.0)


class TestFiles:
    def test_json(self, agreeing, tmp_path):
        path = write_audit(agreeing, tmp_path)
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        drawn = AuditFile.model_validate(content).segmentation
        assert (drawn.dice, drawn.iou, drawn.compared) == (1, 1, NUMBER)
        assert drawn.area.mean == drawn.true_area.mean == AREA
        assert drawn.reliance.difference.images == NUMBER
        assert [(one.name, one.images) for one in drawn.classes] == [("red", 6), ("blue", 6)]
        assert {one.area.mean for one in drawn.classes} == {AREA}
        assert {one["segmented"] for one in content["images"]} == {AREA}

    def test_an_older_file_without_it_is_read(self, agreeing, tmp_path):
        path = write_audit(agreeing, tmp_path)
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["segmentation"]
        for one in content["images"]:
            del one["segmented"]
        assert AuditFile.model_validate(content).segmentation is None

    def test_csv_has_rows_of_the_segmentation_itself(self, agreeing, tmp_path):
        write_audit(agreeing, tmp_path)
        with (tmp_path / "audit.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        own = [row for row in rows if row["kind"] == "segmentation"]
        assert len(rows) == len(agreeing.entrants) * 4 * NUMBER + len(own)
        assert len(own) == 3 * NUMBER
        values = {row["metric"]: float(row["value"]) for row in own}
        assert values == {
            "segmentation_area": AREA, "segmentation_dice": 1.0, "segmentation_iou": 1.0,
        }  # fmt: skip
        assert sum(row["metric"] == "segmentation_energy" for row in rows) == NUMBER * len(
            agreeing.entrants
        )

    def test_without_masks_there_is_no_dice(self, tmp_path):
        made = audit("honest", "square", masks=False)
        rows = [row for row in made.rows() if row["kind"] == "segmentation"]
        assert {row["value"] for row in rows if row["metric"] != "segmentation_area"} == {None}
        assert all(math.isfinite(r["value"]) for r in rows if r["metric"] == "segmentation_area")
        json.loads(write_audit(made, tmp_path).read_text(), parse_constant=pytest.fail)
