import json

import pytest

from mitate.cli.app import run
from mitate.data.paddy import CLASSES
from mitate.models.classifier import Classifier
from mitate.story import tell_story
from mitate.story.telling import SIGHTS


def test_a_short_one(short, tmp_path):
    told = []
    done = tell_story(tmp_path, tell=told.append)
    for one in (done.before, done.after):
        assert one.right.shape == one.stamped.shape == (20,)
        assert one.stamped.sum() == 2
        assert one.lured.shape == (18,)
        assert 0 <= one.turned.mean <= 1
        assert [look.method for look in one.looks] == ["gradcam", "scorecam"]
        assert set(one.classifier.class_names) == set(CLASSES)
    taught = Classifier.load(tmp_path / "after").provenance["training"]["masks"]
    assert taught["photos"] == 20  # one of four to train and of two to judge, of each class
    assert taught["plant"]
    assert taught["drawn"]["number"] + taught["drawn"]["without"] == 30
    assert taught["drawn"]["judged"] == 10
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
    assert page.count(">Before<") == page.count(">After<") == 1 + min(1, SIGHTS)


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


@pytest.mark.long
def test_the_whole(tmp_path, capsys):
    assert run(["demo", "--story", "-o", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    before, after = said["before"], said["after"]
    assert before["accuracy_of_the_stamped_class"]["mean"] < before["accuracy"]["mean"] / 2
    assert before["named"]
    assert not after["named"]
    assert said["gain"]["low"] > 0
    turned = [one["turned_by_the_date"] for one in (before, after)]
    assert turned[1]["high"] < turned[0]["low"] / 2
