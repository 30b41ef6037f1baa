import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.errors import ImageError, UsageError
from mitate.jobs.explaining import Style
from mitate.jobs.gallery import build_report, report_path
from mitate.jobs.photos import gather, reported
from mitate.models.classifier import Classifier
from mitate.training import fit
from mitate.view.report import Report, render_report, write_report

pytestmark = pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A classifier that was trained, loaded anew, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    data = tiny.photos(folder / "photos", dict.fromkeys(tiny.NAMES, 10))
    settings = {"weights": "none", "size": 32, "batch_size": 8, "lr": 0.01, "augment": "none"}
    fit(
        data,
        folder / "classifier",
        model=tiny.MODEL,
        arguments=tiny.ARGUMENTS,
        epochs=6,
        show_progress=False,
        **settings,
    )
    return Classifier.load(folder / "classifier"), data


@pytest.fixture(scope="module")
def built(fitted):
    classifier, data = fitted
    records, notices = reported(data, classifier)
    return build_report(classifier, records, notices=notices, shown=False)


class Fixed:
    """Records with chosen predictions: a classifier whose photos decide their own class."""

    def __init__(self, folder, verdicts):
        self.classifier = tiny.classifier(("a", "b"))
        tiny.photos(folder, {"p": 40})
        photos = sorted((folder / "p").glob("*.png"))
        rows = self.classifier.logits(
            self.classifier.inputs([Image.open(path).convert("RGB") for path in photos])
        ).softmax(-1)
        best = [("a", "b")[int(row.argmax())] for row in rows]
        other = {"a": "b", "b": "a"}
        self.records = [
            Record(path, {"right": name, "wrong": other[name], "unknown": None}[verdict])
            for path, name, verdict in zip(photos, best, verdicts, strict=False)
        ]
        self.certainty = {
            path.name: float(row.max()) for path, row in zip(photos, rows, strict=True)
        }


def test_the_scores_are_those_of_training(fitted, built):
    classifier, _ = fitted
    report, failures = built
    metrics = classifier.provenance["metrics"]
    assert (report.accuracy, report.macro_f1) == (metrics["accuracy"], metrics["macro_f1"])
    assert [list(row) for row in report.confusion] == [list(row) for row in metrics["confusion"]]
    assert [scores.name for scores in report.classes] == list(classifier.class_names)
    assert failures == []


def test_the_subtitle_names_the_real_layer(built):
    report, _ = built
    layer = report.cases[0].maps[0].layer
    assert layer.startswith("stages")
    assert report.subtitle == f"Maps by gradcam at layer {layer}"


def test_what_was_trained_on_what(built):
    facts = dict(built[0].facts)
    assert facts["network"] == "convnext_atto, 0.0 million weights"
    assert facts["trained on"] == "photos: 24 photos"
    assert facts["started from"] == "scratch"
    assert facts["epochs"] == "6"
    assert facts["learning rate"] == "0.01"
    assert facts["reported on"] == "6 photos"
    assert len(built[0].curve) == 6
    assert "training set aside" in built[0].notices[0]


def test_files_that_share_a_name_show_their_class(built):
    assert {case.name.split("/")[0] for case in built[0].cases} == set(tiny.NAMES)


def test_early_stopping_and_numbers_that_are_none_are_told():
    history = [{"epoch": 1, "train_loss": None, "valid_loss": 1.0, "accuracy": 0.5}]
    training = {"data": "x", "epochs": 9, "history": history, "lr": None}
    classifier = tiny.classifier(("a", "b")).with_provenance(training=training)
    from mitate.jobs.gallery import _curve, _facts

    facts = dict(_facts(classifier, 3))
    assert facts["epochs"] == "1 of 9"
    assert facts["learning rate"] == "nan"
    ((_, train_loss, *_),) = _curve(classifier)
    assert math.isnan(train_loss)


def test_the_choice_of_right_and_wrong(tmp_path):
    made = Fixed(tmp_path, ["right"] * 20 + ["wrong"] * 12)
    report, _ = build_report(made.classifier, made.records, right=2, wrong=3, shown=False)
    for name in ("a", "b"):
        mine = [case for case in report.cases if case.true == name]
        pool = {r.path.name: made.certainty[r.path.name] for r in made.records if r.label == name}
        for verdict, most in (("right", 2), ("wrong", 3)):
            chosen = [case for case in mine if case.verdict == verdict]
            assert len(chosen) <= most
            assert all(c.probability == pytest.approx(pool[c.name], abs=1e-5) for c in chosen)
        wrong = [case.probability for case in mine if case.verdict == "wrong"]
        assert wrong == sorted(wrong, reverse=True)


def test_a_wrong_photo_has_the_map_of_the_true_class_too(tmp_path):
    made = Fixed(tmp_path, ["right", "wrong"])
    report, _ = build_report(made.classifier, made.records, shown=False)
    for case in report.cases:
        explained = [made_map.class_name for made_map in case.maps]
        assert explained == [case.predicted] + ([case.true] if case.verdict == "wrong" else [])


def test_labels_that_are_no_class_count_as_unknown(tmp_path):
    made = Fixed(tmp_path, ["unknown"] * 3)
    strange = [Record(record.path, "rust") for record in made.records]
    report, _ = build_report(made.classifier, strange, shown=False)
    assert (report.accuracy, report.classes, len(report.cases)) == (None, (), 3)
    assert {case.verdict for case in report.cases} == {"unknown"}


def test_bad_photos_are_told(fitted, tmp_path):
    classifier, data = fitted
    (tmp_path / "text.jpg").write_text("no picture")
    records = gather([data / "blast", tmp_path / "text.jpg"], classifier.class_names).records
    report, failures = build_report(classifier, records, shown=False)
    assert len(failures) == 1
    assert failures[0] in report.notices
    with pytest.raises(ImageError, match="none of the 1 photos can be read"):
        build_report(classifier, records[-1:], shown=False)


def test_where_the_maps_lie(fitted, tmp_path):
    classifier, data = fitted
    mask = np.zeros((30, 40), np.uint8)
    mask[:, :20] = 255
    for path in sorted((data / "blast").glob("*.png"))[:7]:
        Image.fromarray(mask).save(tmp_path / path.name)
    Image.new("L", (3, 3)).save(tmp_path / "0006.png")
    records = gather([data / "blast"], classifier.class_names).records
    masks = MaskIndex.open(tmp_path)
    report, failures = build_report(
        classifier, records, methods=("gradcam", "Edges"), masks=masks, region="left", shown=False
    )
    rows = report.energy
    assert [(row.method, row.control) for row in rows] == [
        ("gradcam", False),
        ("edges", True),
        ("random", True),
        ("centre", True),
    ]
    assert rows[0].verdict
    assert len(failures) == 1
    assert "0006.png is 3x3 px" in failures[0]
    assert "on left" in render_report(report)


def test_photos_without_energy_are_counted(fitted, tmp_path, monkeypatch):
    from mitate.auditing import comparison

    def energy_share(maps, masks, measured=comparison.energy_share):
        return measured(maps, masks).index_fill(0, torch.tensor([0, 2]), math.nan)

    monkeypatch.setattr(comparison, "energy_share", energy_share)
    classifier, data = fitted
    for path in (data / "blast").glob("*.png"):
        Image.new("L", (40, 30), 255).save(tmp_path / path.name)
    records = gather([data / "blast"], classifier.class_names).records
    report, _ = build_report(classifier, records, masks=MaskIndex.open(tmp_path), shown=False)
    assert [row.left_out for row in report.energy] == [2, 2, 2, 2]


def test_masks_of_other_photos_are_no_energy(fitted, tmp_path):
    classifier, data = fitted
    Image.new("L", (40, 30), 255).save(tmp_path / "other.png")
    records = gather([data / "blast"], classifier.class_names).records
    report, _ = build_report(classifier, records, masks=MaskIndex.open(tmp_path), shown=False)
    assert report.energy == ()
    assert report.notices[0].startswith("no photo has a mask with anything in it")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"right": -1}, "0 or more"),
        ({"methods": ("x",)}, "no method"),
        ({"layer": "x"}, "x"),
        ({"options": {"sigma": 1}}, "no option 'sigma'"),
        ({"style": Style("viridus")}, "viridis"),
        ({"style": Style(opacity=1.5)}, "opacity"),
    ],
)
def test_what_cannot_be_reported(fitted, settings, words):
    classifier, data = fitted
    with pytest.raises(UsageError, match=words):
        build_report(
            classifier, gather([data], classifier.class_names).records, shown=False, **settings
        )


def test_options_and_style_reach_the_maps(fitted):
    classifier, data = fitted
    records = gather([data / "blast"], classifier.class_names).records

    def first_map(**settings):
        settings = {"methods": ("centre",), "layer": "stages.1", **settings}
        report, _ = build_report(classifier, records, shown=False, **settings)
        return np.asarray(report.cases[0].maps[0].heat), report.opacity

    plain, opacity = first_map()
    assert opacity == 0.5
    assert not np.array_equal(plain, first_map(options={"sigma": 0.05})[0])
    jet, opacity = first_map(style=Style("jet", 0.4))
    assert opacity == 0.4
    assert not np.array_equal(plain, jet)
    blocky, _ = first_map(style=Style(resize="nearest"))
    assert len(np.unique(blocky.reshape(-1, 3), axis=0)) < len(
        np.unique(plain.reshape(-1, 3), axis=0)
    )


def test_no_gallery_is_a_report_too(fitted):
    classifier, data = fitted
    records = gather([data], classifier.class_names).records
    report, _ = build_report(classifier, records, right=0, wrong=0, shown=False)
    assert report.subtitle == ""
    assert not [case for case in report.cases if case.verdict == "right"]
    render_report(report)


def test_a_network_that_gives_nan_is_reported_with_flags(fitted):
    broken = tiny.classifier()
    with torch.no_grad():
        broken.network.head.fc.weight.fill_(math.nan)
    records = gather([fitted[1]], broken.class_names).records
    report, _ = build_report(broken, records, shown=False)
    assert report.cases[0].maps[0].flag.startswith("not finite")
    assert "NaN" not in json.dumps(render_report(report))


def test_where_the_page_goes(tmp_path):
    (tmp_path / "odd.html").mkdir()
    for name, page in (
        ("a/b.html", "a/b.html"),
        ("a/c", "a/c/report.html"),
        ("D.HTM", "D.HTM"),
        ("odd.html", "odd.html/report.html"),
    ):
        assert report_path(tmp_path / name) == tmp_path / page
        assert write_report(Report("t"), report_path(tmp_path / name)).is_file()


@pytest.mark.browser
def test_the_report_of_a_real_classifier_opens(visit, built, tmp_path):
    page = visit(write_report(built[0], tmp_path / "r.html").as_uri())
    assert page.locator("h1").inner_text() == "convnext_atto on 6 photos"
    assert page.locator(".case").count() == len(built[0].cases)
    assert page.locator("#classes tbody tr").count() == 3
    assert "いもち病" in page.locator("#classes").inner_text()
