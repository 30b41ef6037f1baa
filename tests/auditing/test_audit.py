"""Whole audits of classifiers whose truth is known, on photos of coloured squares."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import seeing
from mitate.auditing.audit import audit_images
from mitate.auditing.defaults import metric_names
from mitate.auditing.files import AuditFile, as_dict, write_audit
from mitate.auditing.subjects import subjects_of
from mitate.auditing.table import DEFAULT_METRICS, METRICS
from mitate.errors import UsageError

METHODS, LAYERS = ("gradcam", "layercam"), ("colours", "steady")
FEW = ("early_deletion", "energy")


def subjects(number=16, *, tinted=False, masks=True, labels=True):
    inputs, drawn, known = seeing.tensors(number, tinted=tinted)
    return subjects_of(
        inputs, masks=drawn if masks else None, labels=known if labels else (-1,) * number
    )


def audit(classifier, images, **settings):
    settings = {"methods": METHODS, "layers": LAYERS, "metrics": None, **settings}
    if settings["metrics"] is None:
        settings["metrics"] = FEW if images.masked else FEW[:1]
    return audit_images(classifier, images, **settings)


@pytest.fixture(scope="module")
def honest():
    return audit(seeing.honest(), subjects(), require=("energy>=0.5", "accuracy>=1"))


def test_every_contender_and_control_has_a_value_an_image(honest):
    assert len(honest.entrants) == 4 + 5
    for one in honest.entrants:
        for metric in FEW:
            assert len(honest.values.of(one.name, metric)) == 16
    assert honest.values.images == 16
    assert honest.facts.accuracy.mean == 1


def test_it_is_shown_in_a_line(honest):
    assert repr(honest).startswith("Audit(16 images; The classifier uses the region")
    assert repr(honest).endswith(f"Recommended: {honest.recommendation.name})")


def test_the_honest_map_lies_on_the_square(honest):
    chosen = honest.recommendation
    assert chosen is not None
    assert chosen.trusted
    assert chosen.metric == "energy"
    assert honest.value("energy") > 0.8
    assert honest.beaten("early_deletion")[0] is True
    assert [line.is_control for line in honest.ranked()] == [False] * 4 + [True] * 5


def test_values_are_those_of_the_metric_itself(honest):
    from mitate.auditing.localisation import energy_share

    images, one = honest.subjects, honest.entrants[0]
    batch = images.open(range(len(images)))
    maps = one.explainer(batch.inputs, targets=torch.from_numpy(honest.classes)).maps[:, 0]
    expected = energy_share(maps, batch.masks)
    np.testing.assert_allclose(honest.values.of(one.name, "energy"), expected, rtol=1e-4)


def test_the_same_audit_gives_the_same_values(honest):
    again = audit(seeing.honest(), subjects())
    assert again.values.columns == honest.values.columns
    other = audit(seeing.honest(), subjects(), seed=1)
    assert other.subjects.names != honest.subjects.names


def test_the_batch_size_does_not_matter(honest):
    again = audit(seeing.honest(), subjects(), batch_size=5)
    for key, column in honest.values.columns.items():
        np.testing.assert_allclose(again.values.columns[key], column, atol=1e-5)


def test_requirements(honest):
    assert [(one.requirement, one.met) for one in honest.gate] == [
        ("energy>=0.5", True),
        ("accuracy>=1", True),
    ]
    assert honest.passed
    missed = audit(
        seeing.honest(), subjects(), require=("energy>=0.99", "energy better than control")
    )
    assert [one.met for one in missed.gate] == [False, True]
    assert not missed.passed


class TestVerdict:
    @pytest.mark.parametrize("masks", [True, False])
    @pytest.mark.parametrize("name", ["random", "shuffled"])
    def test_a_broken_classifier_has_no_good_verdict(self, name, masks):
        made = audit(getattr(seeing, name)(), subjects(masks=masks))
        assert made.verdict.grade == "bad"
        assert made.verdict.outcome == "guessing"

    @pytest.mark.parametrize("seed", range(4))
    def test_nor_without_labels(self, seed):
        made = audit(seeing.random(seed), subjects(labels=False, masks=False))
        assert made.verdict.grade != "good"

    def test_the_honest_classifier_and_its_map(self, honest):
        assert honest.verdict.outcome == "right"
        assert honest.usage.difference.low > 0.2

    def test_a_cheat_is_told_from_a_wrong_map(self):
        made = audit(seeing.cheat(), subjects(tinted=True))
        assert made.facts.accuracy.mean == 1
        assert made.verdict.outcome == "classifier wrong"
        assert made.usage.fall.mean < 0.05

    def test_a_wrong_map_is_told_from_a_cheat(self):
        made = audit(seeing.honest(), subjects(), methods=("fem",), layers=("stripe",))
        assert made.verdict.outcome == "map wrong"

    def test_without_masks_the_map_is_true_and_no_more_is_said(self):
        made = audit(seeing.honest(), subjects(masks=False))
        assert made.verdict.outcome == "faithful"
        assert made.recommendation.metric == "early_deletion"
        assert "masks would tell" in made.verdict.headline

    def test_without_labels_the_predicted_class_is_audited(self):
        made = audit(seeing.honest(), subjects(masks=False, labels=False))
        assert made.classes.tolist() == made.predicted.tolist()
        assert made.verdict.outcome == "faithful, unlabelled"
        assert made.verdict.grade == "open"

    def test_a_few_photos_are_too_few(self):
        made = audit(seeing.honest(), subjects(5))
        assert made.verdict.outcome == "few"


class TestLabels:
    def test_the_true_class_is_audited_where_it_is_known(self):
        images = subjects(6, masks=False)
        images = replace(images, labels=(-1, *images.labels[1:]))
        made = audit(seeing.shuffled(), images)
        for place in range(6):
            label = made.subjects.labels[place]
            expected = made.predicted[place] if label == -1 else label
            assert made.classes[place] == expected

    def test_or_the_predicted_one_throughout(self):
        made = audit(seeing.shuffled(), subjects(6, masks=False), audited="predicted")
        assert made.classes.tolist() == made.predicted.tolist()
        assert made.classes.tolist() != list(made.subjects.labels)


class TestBudget:
    def test_the_better_half_goes_on(self):
        free = audit(seeing.honest(), subjects(24))
        # Grad-CAM and LayerCAM on the grid before the ReLU and after it, and edges as a contender.
        made = audit(seeing.honest(), subjects(24), budget=free.course.forwards / 2)
        assert len(made.course.rounds) == 2
        assert made.course.forwards <= free.course.forwards / 2 * 1.001
        images = {line.name: line.images for line in made.standings}
        methods = [one.name for one in made.entrants if not one.is_control]
        survivors = set(made.course.survivors)
        assert len(survivors) == 2
        total = made.values.images
        assert total < 24
        for name in methods:
            assert (images[name] == total) == (name in survivors)
        for one in made.entrants:
            if one.is_control:
                assert images[one.name] == total
        assert made.recommendation.name in survivors

    def test_a_budget_that_is_too_small(self):
        with pytest.raises(UsageError, match="budget of 100 forwards is too small"):
            audit(seeing.honest(), subjects(), budget=100)

    def test_time_is_a_budget_too(self):
        made = audit(seeing.honest(), subjects(6), budget="1h")
        assert made.values.images == 6


class TestInterrupted:
    def test_an_interrupted_audit_goes_on_where_it_stopped(self, tmp_path, monkeypatch):
        from mitate.auditing import contest

        whole = audit(seeing.honest(), subjects(), batch_size=4)
        measured, done = contest.measure, []

        def tired(classifier, inputs, *rest, **settings):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(len(inputs))
            return measured(classifier, inputs, *rest, **settings)

        monkeypatch.setattr(contest, "measure", tired)
        with pytest.raises(KeyboardInterrupt):
            audit(seeing.honest(), subjects(), batch_size=4, folder=tmp_path)
        assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["0000.npz", "0001.npz"]
        calls, told = [], []

        def counted(classifier, inputs, *rest, **settings):
            calls.append(len(inputs))
            return measured(classifier, inputs, *rest, **settings)

        monkeypatch.setattr(contest, "measure", counted)
        again = audit(seeing.honest(), subjects(), batch_size=4, folder=tmp_path, tell=told.append)
        assert len(calls) == 2
        assert "2 parts of an earlier run are used again" in told[0]
        assert again.values.columns == whole.values.columns
        assert again.course.forwards == pytest.approx(whole.course.forwards)
        read = audit(seeing.honest(), subjects(), batch_size=4, folder=tmp_path)
        assert len(calls) == 2
        assert read.course.seconds == again.course.seconds  # those of the runs that measured

    def test_other_weights_or_photos_begin_anew(self, tmp_path):
        told = []
        for images, made in (
            (subjects(8), seeing.honest()),
            (subjects(8), seeing.shuffled()),
            (subjects(8, tinted=True), seeing.shuffled()),
        ):
            audit(made, images, folder=tmp_path, tell=told.append)
        assert len(told) == 3
        assert not any("earlier run" in line for line in told)

    def test_another_task_begins_anew(self, tmp_path):
        told = []
        for task in ("single-label", "multi-label"):
            made = replace(seeing.honest(), task=task)
            audit(made, subjects(8), metrics=["deletion"], folder=tmp_path, tell=told.append)
        assert not any("earlier run" in line for line in told)


def test_the_estimate_is_close_to_what_it_takes():
    told = []
    made = audit(seeing.honest(), subjects(), tell=told.append, metrics=DEFAULT_METRICS)
    words = told[0].split("about ")[1].split(" forwards")[0].replace(",", "")
    assert float(words) == pytest.approx(made.course.forwards, rel=0.15)
    assert "4 maps and 5 controls of 16 images by 12 metrics" in told[0]


@pytest.mark.parametrize(
    ("seconds", "budget", "told_so"), [(1e-6, None, False), (100, None, True), (100, 1e6, False)]
)
def test_a_long_audit_tells_how_to_shorten_it(monkeypatch, seconds, budget, told_so):
    from mitate.auditing import contest

    told = []
    monkeypatch.setattr(contest, "seconds_a_forward", lambda _: seconds)
    audit(seeing.honest(), subjects(8), tell=told.append, budget=budget)
    assert any("too long? A budget" in line for line in told) == told_so


class TestMetrics:
    def test_the_default_leaves_out_what_needs_masks_where_there_are_none(self):
        named = metric_names(None, None, masked=False)
        assert set(named) == {name for name in DEFAULT_METRICS if not METRICS[name].needs_masks}
        assert metric_names(None, None, masked=True) == DEFAULT_METRICS

    def test_the_metric_that_picks_is_measured(self):
        assert metric_names(("deletion",), "insertion", masked=False) == ("deletion", "insertion")

    @pytest.mark.parametrize(("metrics", "pick"), [(("energy",), None), (None, "energy")])
    def test_what_needs_masks_and_was_named_is_refused(self, metrics, pick):
        with pytest.raises(UsageError, match="give masks"):
            metric_names(metrics, pick, masked=False)

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(UsageError, match="deletion"):
            metric_names(("deletoin",), None, masked=False)


def test_values_are_not_audited():
    regression = replace(seeing.honest(), task="regression")
    with pytest.raises(UsageError, match="gives values"):
        audit(regression, subjects(6))


def test_no_image():
    inputs, _, _ = seeing.tensors(2)
    with pytest.raises(UsageError, match="no image"):
        audit(seeing.honest(), subjects_of(inputs[:0]))


class TestFiles:
    def test_json_is_of_its_schema_and_without_nan(self, honest, tmp_path):
        path = write_audit(honest, tmp_path)
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        found = AuditFile.model_validate(content)
        assert found == AuditFile.model_validate(as_dict(honest))
        assert len(found.images) == 16
        assert found.images[0].sha256 == honest.subjects.digests[0]
        assert found.parameters["seed"] == 0
        assert len(found.parameters["weights_sha256"]) == 64
        assert found.libraries["torch"] == torch.__version__
        assert found.recommendation.method == honest.recommendation.method
        scores = next(one for one in found.leaderboard if one.kind == "method").scores
        assert scores["energy"].better_than_every_control is True
        assert set(found.curves["deletion"]) == {one.name for one in honest.entrants}

    def test_csv_has_one_row_an_image_method_and_metric(self, honest, tmp_path):
        import csv

        write_audit(honest, tmp_path)
        with (tmp_path / "audit.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 9 * 2 * 16
        first = rows[0]
        assert (first["method"], first["layer"], first["metric"]) == (
            "gradcam",
            "colours",
            "early_deletion",
        )
        value = honest.values.of("gradcam colours", "early_deletion")[0]
        assert float(first["value"]) == pytest.approx(value)
