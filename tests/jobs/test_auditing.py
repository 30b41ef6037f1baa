"""mitate.audit on photos on disk: what is read, what is written, and what the page says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

import mitate
import seeing
import tiny
from mitate.auditing.audit import with_reasons
from mitate.auditing.intervals import Interval
from mitate.auditing.reasons import Spot
from mitate.auditing.reasons.places import place_of
from mitate.data.masks import MaskIndex
from mitate.data.paddy import CLASSES, write_paddy
from mitate.drawing.colour import PREDICTED, TINT
from mitate.errors import DataError, ImageError, MissingExtraError, UsageError
from mitate.jobs.audited import audit_report
from mitate.jobs.given import photo_subjects
from mitate.jobs.photos import reported
from mitate.view.report import render_report

SETTINGS = {"methods": ("gradcam",), "layers": ("colours",)}
FEW = {**SETTINGS, "metrics": ("early_deletion", "energy")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return seeing.photos(tmp_path_factory.mktemp("squares"), 12, tinted=False)


@pytest.fixture(scope="module")
def audited(folders, tmp_path_factory):
    photos, masks = folders
    out = tmp_path_factory.mktemp("out")
    done = mitate.audit(
        seeing.honest(),
        photos,
        masks=masks,
        out=out,
        require=("energy>=0.5", "energy>=0.99"),
        **SETTINGS,
    )
    return done, out


def test_all_that_is_written(audited):
    _, out = audited
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.csv",
        "audit.json",
        "groups.csv",
        "parts",
        "report.html",
    ]


def test_no_path_of_the_machine_is_written(audited, folders):
    done, out = audited
    assert done.reasons is not None
    members = {name for group in done.reasons.groups for name in group.names}
    assert {f"red/{number:03}.png" for number in range(0, 12, 2)} <= members
    for name in ("audit.json", "groups.csv", "audit.csv"):
        assert str(folders[0].parent) not in (out / name).read_text(encoding="utf-8")


def test_photos_are_found_with_labels_and_masks(audited):
    done, _ = audited
    names = sorted(done.subjects.names, key=lambda name: Path(name).stem)
    assert [Path(name).name for name in names] == [f"{n:03}.png" for n in range(12)]
    assert {Path(name).parent.name for name in names} == {"red", "blue"}
    assert set(done.subjects.labels) == {0, 1}
    assert done.subjects.masked
    assert done.value("energy") > 0.8


def test_files_and_tensors_are_audited_alike(audited, folders):
    done, _ = audited
    inputs, masks, labels = seeing.tensors(12, tinted=False)
    order = [int(Path(name).stem) for name in sorted(done.subjects.names)]
    same = mitate.audit(
        seeing.honest(),
        inputs[order],
        masks=masks[order],
        labels=[labels[i] for i in order],
        **FEW,
    )
    for line in same.standings:
        for metric, score in line.scores.items():
            expected = done.standing(line.name).scores[metric].value.mean
            assert score.value.mean == pytest.approx(expected, abs=0.05, nan_ok=True)


def test_the_page(audited):
    done, out = audited
    page = (out / "report.html").read_text(encoding="utf-8")
    assert done.verdict.headline in page
    assert done.verdict.advice in page
    assert "★ recommended" in page
    assert page.count('<tr class="control') == 2 * 5
    assert "a blob in the centre" in page
    assert "✗ missed" in page
    assert "✓ met" in page
    assert len(re.findall(r"<polyline", page)) >= 4
    assert "http" not in re.sub(r"data:[^\"]+", "", page.replace("http-equiv", ""))


def test_the_worst_images_are_shown_worst_first(audited):
    done, _ = audited
    report = audit_report(done)
    assert len(report.cases) == 8
    shown = [float(case.name.rsplit(" ", 1)[1]) for case in report.cases]
    values = done.values.of(done.recommendation.name, "energy")
    assert shown == pytest.approx(sorted(values)[:8], abs=1e-3)


def test_a_place_that_no_map_shows_is_outlined_on_the_page_and_in_the_verdict(audited):
    done, _ = audited
    region = np.zeros((32, 32), bool)
    region[24:, 24:] = True
    interval = Interval(0.6, 0.4, 0.8, 12)
    spot = Spot(
        "red",
        place_of(region),
        region,
        12,
        interval,
        elsewhere=Interval(0.0, 0.0, 0.0, 12),
        excess=interval,
        peaks=0.0,
        members=(0, 2),
        names=("red/000.png", "red/002.png"),
        heat=np.eye(4, dtype=np.float32),
        picture=Image.new("RGB", (32, 32)),
        suspicion="found",
    )
    told = with_reasons(done, replace(done.reasons, groups=(), spots=(spot,)))
    assert told.facts.wrong_reasons == (f"H{spot.words[1:]}.",)
    assert told.verdict.sentences[0] == told.facts.wrong_reasons[0]
    report = audit_report(told)
    (card,) = report.audit.places
    assert (card.found, card.images, card.name) == (True, 2, "000.png")
    outline = np.asarray(card.picture).any(2)
    assert outline[23, 24:].all()
    assert outline[24:, 23].all()
    assert not outline[:23].any()
    page = render_report(report)
    assert "Decided by a fixed place" in page
    assert "hiding the lower right corner flips 60 % of &#39;red&#39;" in page
    assert "Decided by a fixed place" not in render_report(audit_report(done))


@pytest.fixture(scope="module", params=[True, False], ids=["masks", "no masks"])
def segmenting(request, folders, tmp_path_factory):
    """An audit of a classifier that segments the square's place where it is, and its page."""
    photos, masks = folders
    out = tmp_path_factory.mktemp("segmenting")
    done = mitate.audit(
        seeing.segmenting(seeing.honest(), "square"),
        photos,
        masks=masks if request.param else None,
        out=out,
        reasons=0,
        **{**FEW, "metrics": ("early_deletion", "agreement", *(("energy",) * request.param))},
    )
    return done, audit_report(done), (out / "report.html").read_text(encoding="utf-8")


def test_map_and_segmentation_on_the_page(segmenting):
    done, report, page = segmenting
    part = report.audit.segmentation
    assert part.area == pytest.approx(1 / 16)
    assert part.metric.name == "segmentation_energy"
    masked = done.subjects.masked
    assert [head.name for head in part.beside] == [
        *(["energy"] if masked else []),
        "segmentation_rank_accuracy",
    ]
    assert part.true_area == pytest.approx(1 / 16 if masked else float("nan"), nan_ok=True)
    assert len(part.rows) == len(done.entrants)
    for row in part.rows:
        line = next(
            one
            for one in done.standings
            if (one.method, one.layer) == (row.method, row.layer)
            and one.scores["segmentation_energy"].value.mean == row.picked.mean
        )
        ranked = line.scores["segmentation_rank_accuracy"].value.mean
        assert row.cells[-1].mean == ranked
    assert [(one.name, one.images, one.drawn) for one in part.classes] == [
        ("red", 6, 6),
        ("blue", 6, 6),
    ]
    assert all(one.difference.low > 0 for one in part.classes)
    values = done.values.of(done.recommendation.name, "segmentation_energy")
    shown = [float(case.name.rsplit(" ", 1)[1]) for case in part.cases]
    assert shown == pytest.approx(sorted(values)[:8], abs=1e-3)
    assert "Map and segmentation" in page
    assert ("The true region covers" in page) == masked
    assert "What the classifier segments is outlined in green" in page
    assert done.verdict.sentences[-1] in page


def test_of_few_images_of_a_class_no_interval_is_told(segmenting):
    done, _, _ = segmenting
    other = replace(done, classes=np.where(np.arange(12) < 5, 0, 1))
    few, enough = audit_report(other).audit.segmentation.classes
    assert (few.images, enough.images) == (5, 7)
    assert np.isfinite(few.difference.mean)
    assert np.isnan([few.difference.low, few.difference.high, few.energy.low]).all()
    assert np.isfinite(enough.difference.low)


def test_what_is_segmented_and_what_is_true_are_both_outlined(segmenting):
    done, report, _ = segmenting
    case = report.audit.segmentation.cases[0]
    place = done.subjects.names.index(case.name.split(" ")[0])
    inputs, masks, _ = seeing.tensors(12, tinted=False)
    square = masks[int(Path(done.subjects.names[place]).stem)].numpy() > 0
    pixels = np.asarray(case.picture)
    lines = {colour: (pixels == ImageColor.getrgb(colour)).all(2) for colour in (TINT, PREDICTED)}
    assert lines[TINT].any() == done.subjects.masked
    assert lines[PREDICTED].any()
    for line in lines.values():
        assert not (line & square).any()
    assert lines[PREDICTED].sum() > lines[TINT].sum()  # one pixel farther out


def test_without_a_segmentation_nothing_is_said_of_one(audited):
    done, out = audited
    assert audit_report(done).audit.segmentation is None
    assert "segment" not in (out / "report.html").read_text(encoding="utf-8").lower()


def test_a_page_without_masks_labels_or_recommendation():
    inputs, _, _ = seeing.tensors(6)
    done = mitate.audit(seeing.honest(), inputs, methods=("gradcam",), metrics=("sparseness",))
    page = render_report(audit_report(done, title="Six squares"))
    assert "Six squares" in page
    assert "No true classes are known" in page


def test_a_bad_photo_is_told_and_left_out(tmp_path):
    photos, masks = seeing.photos(tmp_path, 8)
    (photos / "red" / "broken.png").write_bytes(b"no picture")
    Image.new("L", (3, 3), 255).save(masks / "red" / "000.png")
    done = mitate.audit(seeing.honest(), photos, masks=masks, **FEW)
    assert len(done.subjects) == 8  # one of them without its mask
    assert len(done.failures) == 2
    assert any("broken.png" in line for line in done.failures)
    assert any("a mask has the size of its photo" in line for line in done.failures)


def test_no_photo_that_can_be_read(tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="none of the 1 photos"):
        mitate.audit(seeing.honest(), tmp_path, **SETTINGS)


def test_masks_of_other_photos_are_told(tmp_path):
    photos, masks = seeing.photos(tmp_path, 6)
    for path in list(masks.rglob("*.png")):
        path.rename(path.with_name(f"x_{path.name}"))
    done = mitate.audit(seeing.honest(), photos, masks=masks, metrics=None, **SETTINGS)
    (told,) = (line for line in done.notices if "no photo has a mask" in line)
    assert "6 masks of no photo here, such as " in told
    assert "x_00" in told


def test_masks_without_anything_in_them(tmp_path):
    photos, masks = seeing.photos(tmp_path, 6)
    for path in masks.rglob("*.png"):
        Image.new("L", (32, 32)).save(path)
    done = mitate.audit(seeing.honest(), photos, masks=masks, metrics=None, **SETTINGS)
    assert "energy" not in done.metrics
    assert any("no photo has a mask" in line for line in done.notices)


def test_a_photo_without_a_mask_counts_for_everything_else(tmp_path):
    photos, masks = seeing.photos(tmp_path, 8)
    (masks / "red" / "000.png").unlink()
    done = mitate.audit(seeing.honest(), photos, masks=masks, **FEW)
    standing = done.standing("gradcam colours")
    scores = standing.scores
    assert standing.images_with("energy") == "7 of 8"
    assert standing.images_with("early_deletion") == standing.images_with("unknown") == "8"
    assert (scores["energy"].value.images, scores["energy"].value.missing) == (7, 1)
    assert scores["early_deletion"].value.images == 8


def test_simulated_paddy_from_end_to_end(tmp_path):
    index = write_paddy(tmp_path / "paddy", train_per_class=1, valid_per_class=1, size=64)
    done = mitate.audit(
        tiny.classifier(names=CLASSES),
        index.parent,
        masks=index,
        mask_value=2,
        object_value=1,
        methods=("gradcam", "hirescam"),
        layers=("auto", "stages.1"),
        out=tmp_path / "out",
    )
    assert len(done.subjects) == 10  # the validation part
    assert set(done.subjects.labels) == set(range(10))
    energy = done.standing("gradcam stages.3").scores["energy"].value
    assert energy.images + energy.missing == 10
    assert energy.missing >= 1  # a normal leaf has no symptom
    assert done.usage is not None
    assert done.usage.fall.images == 9
    assert done.reasons is not None
    assert done.verdict.outcome == "unproven"  # nine photos do not tell
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audit.csv",
        "audit.json",
        "groups.csv",
        "parts",
        "report.html",
    ]


def test_without_the_extra_the_rest_is_audited(folders, monkeypatch):
    from mitate.jobs import searching

    def missing(*_, **__):
        raise MissingExtraError("pip install 'mitate[audit]'")

    monkeypatch.setattr(searching, "find_reasons", missing)
    done = mitate.audit(seeing.honest(), folders[0], limit=6, metrics=("sparseness",), **SETTINGS)
    assert done.reasons is None
    assert "wrong reasons were not looked for: pip install 'mitate[audit]'" in done.notices


def test_a_limit_takes_some_evenly(folders):
    done = mitate.audit(seeing.honest(), folders[0], limit=6, metrics=("sparseness",), **SETTINGS)
    assert len(done.subjects) == 6
    assert set(done.subjects.labels) == {0, 1}


@pytest.mark.parametrize(
    "given",
    [
        {"labels": [0, 1]},
        {"masks": torch.zeros(2, 32, 32)},
    ],
)
def test_what_photos_on_disk_have_on_disk(folders, given):
    with pytest.raises(UsageError, match="on disk"):
        mitate.audit(seeing.honest(), folders[0], **given)


def test_less_than_no_photo_is_refused_before_the_work(folders):
    with pytest.raises(UsageError, match="reasons is -1"):
        mitate.audit(seeing.honest(), folders[0], reasons=-1)


@pytest.mark.parametrize("given", [{"split": "valid"}, {"masks": "masks"}])
def test_what_given_images_do_not_have(given):
    inputs, _, _ = seeing.tensors(2)
    with pytest.raises(UsageError, match="images that are given"):
        mitate.audit(seeing.honest(), inputs, **given)


def test_masks_that_are_not_there(folders):
    with pytest.raises(DataError, match="no masks at"):
        mitate.audit(seeing.honest(), folders[0], masks="nowhere")


def test_volumes_are_refused(unchecked):
    with pytest.raises(UsageError, match="volumes"):
        mitate.audit(seeing.honest(), torch.zeros(2, 3, 4, 8, 8))


def test_the_global_state_of_random_numbers_is_left(folders):
    made = seeing.honest()
    torch.manual_seed(3)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    mitate.audit(made, folders[0], limit=6, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002


def test_the_network_is_left_as_it_was(folders):
    made = seeing.honest()
    made.network.train()
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    mitate.audit(made, folders[0], limit=6, **SETTINGS)
    assert made.network.training
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(weights.grad is None for weights in made.network.parameters())


def test_the_manifest_comes_last(folders, tmp_path, monkeypatch):
    from mitate.jobs import auditing

    def full(*_, **__):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(auditing, "write_report", full)
    with pytest.raises(OSError, match="No space"):
        mitate.audit(seeing.honest(), folders[0], limit=6, out=tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    monkeypatch.undo()
    told = []
    mitate.audit(seeing.honest(), folders[0], limit=6, out=tmp_path, tell=told.append, **SETTINGS)
    assert "earlier run" in told[0]
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["format"]


def test_regions_elsewhere_lie_on_the_object(tmp_path):
    photos, masks = seeing.photos(tmp_path, 6, tinted=False)
    for path in masks.rglob("*.png"):
        drawn = np.asarray(Image.open(path)) // 255 * 2
        drawn[:, 16:] = np.where(
            drawn[:, 16:] == 0, 1, drawn[:, 16:]
        )  # the right half is the object
        Image.fromarray(drawn.astype(np.uint8)).save(path)
    classifier = seeing.honest()
    records, _ = reported(photos, classifier)
    subjects, failures = photo_subjects(classifier, records, MaskIndex.open(masks), (2, 1))
    assert failures == []
    batch = subjects.open(range(6))
    assert batch.masks is not None
    assert batch.objects is not None
    assert bool((batch.objects >= batch.masks).all())
    assert bool((batch.objects[:, :, 16:] == 1).all())
    left = batch.objects[:, :, :16]
    assert torch.equal(left, batch.masks[:, :, :16])


def resized(folder, number):
    """Half the size of some masks."""
    for path in sorted(folder.rglob("*.png"))[:number]:
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(path)


def test_a_mask_of_another_size_costs_the_photo_nothing(tmp_path):
    photos, masks = seeing.photos(tmp_path, 8, tinted=False)
    resized(masks, 2)
    done = mitate.audit(seeing.honest(), photos, masks=masks, **FEW)
    assert len(done.subjects) == 8
    assert done.standing("gradcam colours").scores["energy"].value.missing == 2
    assert len(done.failures) == 2
    assert all("taken without this mask" in line for line in done.failures)


def test_masks_of_which_none_can_be_used_are_told_before_the_work(tmp_path):
    photos, masks = seeing.photos(tmp_path, 8, tinted=False)
    resized(masks, 8)
    with pytest.raises(ImageError, match=r"none of the 8 masks can be used: .* px and its photo"):
        mitate.audit(seeing.honest(), photos, masks=masks, **FEW)


def test_the_first_of_untrusted_maps_is_not_recommended():
    inputs, masks, labels = seeing.tensors(12)
    settings = {"methods": ("gradcam",), "layers": ("colours",), "metrics": ("energy",)}
    done = mitate.audit(seeing.honest(), inputs, masks=1 - masks, labels=labels, **settings)
    assert not done.recommendation.trusted
    page = render_report(audit_report(done))
    assert "first, not to be relied on" in page
    assert "★ recommended" not in page
