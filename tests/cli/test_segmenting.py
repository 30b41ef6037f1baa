"""mitate audit and mitate compare of a classifier that was trained with masks, from end to end."""

import csv
import shutil
from dataclasses import replace

import pytest

import tiny
from mitate.models.classifier import Classifier
from mitate.training import fit

NAMES = ("blast", "hispa")
WORDS = ("-m", "gradcam", "--layer", "stages.1", "--reasons", 0)
FEW = ("--metric", "early_deletion", "--metric", "agreement")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.marked_photos(tmp_path_factory.mktemp("data"), dict.fromkeys(NAMES, 10))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A classifier and a segmentation that were both learned from these photos."""
    made = fit(
        folder / "images",
        tmp_path_factory.mktemp("out") / "classifier",
        masks=folder / "masks",
        mask_value=2,
        model=tiny.MODEL,
        weights="none",
        arguments=tiny.ARGUMENTS,
        size=64,
        batch_size=8,
        epochs=12,
        lr=0.01,
        augment="flip",
        show_progress=False,
    )
    return made.classifier.folder


def test_without_a_single_mask(mitate, trained, folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (folder / "images").glob("*/*.png"):  # in no folder of a class: unlabelled
        shutil.copy(path, photos / f"{path.parent.name}-{path.name}")
    out = tmp_path / "out"
    done = mitate("audit", trained, photos, "-o", out, *WORDS, *FEW, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["parameters"]["metrics"] == [
        "early_deletion",
        "segmentation_energy",
        "segmentation_rank_accuracy",
    ]
    drawn = found["segmentation"]
    assert drawn["area"]["images"] + drawn["empty"] == 20
    assert drawn["area"]["images"] > 10
    assert (drawn["dice"], drawn["compared"], found["reliance"]) == (None, 0, None)
    for line in found["leaderboard"]:
        score = line["scores"]["segmentation_energy"]["value"]
        assert score["images"] + score["missing"] == 20
        assert drawn["area"]["images"] - line["empty_maps"] <= score["images"]
        assert score["images"] <= drawn["area"]["images"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Map and segmentation" in page
    assert "The classifier segments a region in" in page
    with (out / "audit.csv").open(encoding="utf-8-sig") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds.count("segmentation") == 3 * 20


def test_beside_masks(mitate, trained, folder):
    masks = ("--masks", folder / "masks", "--mask-value", 2)
    require = ("--require", "segmentation_energy>=0.0001", "--require", "segmentation_energy>1")
    done = mitate("audit", trained, folder / "images", *masks, *WORDS, *FEW, *require)
    assert done.code == 4
    assert "MISSED: segmentation_energy>1" in done.out
    assert "MISSED: segmentation_energy>=" not in done.out
    (told,) = [line for line in done.out.splitlines() if line.startswith("- The classifier segm")]
    dice = float(told.split("Dice is ")[1].split(" ")[0])
    assert dice > 0.5
    assert "of the map's energy lies on what it segments, which is" in done.out


def test_the_default_has_them_where_it_segments_only(mitate, trained, folder, tmp_path):
    plain = replace(Classifier.load(trained), decoder=None).save(tmp_path / "plain").folder
    for ref, agreeing in ((trained, True), (plain, False)):
        words = ("audit", ref, folder / "images", *WORDS, "--limit", 2, "--json")
        done = mitate(*words)
        assert ("segmentation_energy" in done.json["parameters"]["metrics"]) == agreeing
        assert (done.json["segmentation"] is not None) == agreeing


def test_it_is_refused_where_nothing_is_segmented(mitate, trained, folder, tmp_path):
    plain = replace(Classifier.load(trained), decoder=None).save(tmp_path / "plain").folder
    for words in (("--metric", "agreement"), ("--pick", "segmentation_energy")):
        done = mitate("audit", plain, folder / "images", *WORDS, *words)
        assert done.code == 2
        assert "segments nothing: train one with masks (mitate train --masks)" in done.error
    compared = ("compare", trained, plain, folder / "images", "--metric", "segmentation_energy")
    assert mitate(*compared).code == 2


def test_two_are_compared_where_that_is_asked_for(mitate, trained, folder):
    words = ("compare", trained, trained, folder / "images", "--method", "gradcam", "--limit", 6)
    done = mitate(*words, "--metric", "segmentation_energy", "--json")
    assert done.code == 0, done.err
    named = [one["metric"] for one in done.json["differences"]]
    assert named == ["accuracy", "segmentation_energy"]
    assert done.json["differences"][1]["difference"]["mean"] == 0
    assert any("of any map more lies on what is larger" in line for line in done.json["notices"])
    plain = mitate(*words, "--json")
    assert not any("segment" in one["metric"] for one in plain.json["differences"])
