import json

import numpy as np
import pytest

import tiny
from mitate import story
from mitate.auditing.intervals import mean_interval
from mitate.cli.app import run
from mitate.data.decoding import read_image
from mitate.data.paddy import CLASSES
from mitate.models.classifier import Classifier


@pytest.fixture
def short(monkeypatch):
    """A story of six photos a class and one epoch."""
    sizes = {"TRAIN": 4, "VALID": 2, "PIXELS": 64, "EPOCHS": 1, "ARGUMENTS": tiny.ARGUMENTS}
    for name, value in sizes.items():
        monkeypatch.setattr(story, name, value)
    with tiny.one_thread():
        yield


def test_a_short_one(short, tmp_path):
    told = []
    done = story.tell_story(tmp_path, tell=told.append)
    for one in (done.before, done.after):
        assert one.right.shape == one.stamped.shape == (20,)
        assert one.stamped.sum() == 2
        assert one.lured.shape == (18,)
        assert 0 <= one.turned.mean <= 1
        assert [look.method for look in one.looks] == ["gradcam", "scorecam"]
        assert set(one.classifier.class_names) == set(CLASSES)
    assert done.after.classifier.decoder is not None or not story.CURE.weight
    loaded = Classifier.load(tmp_path / "after")
    assert loaded.provenance["training"]["masks"]["photos"] == 10  # one of four, of each class
    assert "masks" not in Classifier.load(tmp_path / "before").provenance["training"]
    assert [words.split()[0] for words in told if not words.startswith(" ")] == [
        "Drawing",
        "Training",
        "Training",
        "Recognised",
    ]
    page = done.page.read_text(encoding="utf-8")
    assert page.count("<h2") == 3
    assert "lower right corner" in page
    assert page.count(">Before<") == page.count(">After<") == 1 + min(1, story.SIGHTS)


def test_the_command_gives_plain_data(short, tmp_path, capsys):
    assert run(["demo", "--story", "-o", str(tmp_path), "--no-scorecam", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["seed"] == 0
    for one in ("before", "after"):
        assert [look["method"] for look in said[one]["looks"]] == ["gradcam"]
        assert 0 <= said[one]["accuracy"]["mean"] <= 1
        assert said[one]["accuracy"]["images"] == 20
        assert said[one]["turned_by_the_date"]["images"] == 18
    change = said["after"]["accuracy"]["mean"] - said["before"]["accuracy"]["mean"]
    assert said["gain"]["mean"] == pytest.approx(change)


def test_the_photos_without_a_date_are_the_same_but_for_the_date(short, tmp_path):
    photos = story.drawn(tmp_path, 0)
    region = story.STAMP.region(64)
    for dated, plain in zip(photos.judged, photos.plain, strict=True):
        assert (dated.label, dated.path.name) == (plain.label, plain.path.name)
        pair = (np.asarray(read_image(one.path), float) for one in (dated, plain))
        apart = np.abs(np.subtract(*pair)).max(2)
        if dated in photos.dated:
            assert apart[region].max() > 60
            assert apart[:32].max() == 0
        else:
            assert apart.max() == 0
    assert [record.label for record in photos.dated] == ["blast"]  # 80 % of two, rounded down


def test_masks_of_a_part_of_each_class(short, tmp_path, monkeypatch):
    monkeypatch.setattr(story, "MASKED", 0.5)
    photos = story.drawn(tmp_path, 0)
    masks = story.some_masks(photos.stamped)
    train = photos.stamped.split("train").records
    assert masks.paths < {record.path for record in train}
    assert all(
        sum(record.label == name and record.path in masks.paths for record in train) == 2
        for name in CLASSES
    )


def test_shares_in_words():
    assert story.shown(mean_interval(np.ones(8))) == "100.0 % (100.0 to 100.0)"
    assert story.shown(mean_interval(np.full(8, 0.125)), "+") == "+12.5 % (+12.5 to +12.5)"


@pytest.mark.long
def test_the_whole(tmp_path, capsys):
    assert run(["demo", "--story", "-o", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    before, after = said["before"], said["after"]
    assert before["accuracy_of_the_stamped_class"]["mean"] < before["accuracy"]["mean"] / 2
    assert said["gain"]["low"] > 0
    turned = [one["turned_by_the_date"] for one in (before, after)]
    assert turned[1]["high"] < turned[0]["low"]  # weaker, and not gone: see docs/demo.md
