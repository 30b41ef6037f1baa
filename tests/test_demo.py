import numpy as np
import pytest
from PIL import Image

import tiny
from mitate import demo
from mitate.cli.app import run
from mitate.data.dataset import read_dataset
from mitate.data.masks import MaskIndex, read_mask
from mitate.data.paddy import CLASSES
from mitate.models.classifier import Classifier


@pytest.fixture
def short(monkeypatch):
    """A demo of four photos a class and one epoch."""
    sizes = {"TRAIN": 3, "VALID": 1, "PIXELS": 64, "EPOCHS": 1, "MEASURED_PHOTOS": 10}
    for name, value in sizes.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "ARGUMENTS", tiny.ARGUMENTS)
    with tiny.one_thread():
        yield


def test_a_short_one(short, tmp_path, capsys):
    said = []
    result = demo.run_demo(tmp_path, tell=said.append)
    assert result.photos == 10
    assert 0 <= result.accuracy <= 1
    with Image.open(result.figure) as figure:
        assert figure.format == "PNG"
    methods = [place.method for place in result.comparison.places()]
    assert methods == ["gradcam", "scorecam", "glance", "loupe", "random", "centre", "edges"]
    assert len(result.comparison) == 9  # the healthy one has no lesion
    assert "simulated" in result.report.read_text(encoding="utf-8")
    assert set(Classifier.load(tmp_path / "classifier").class_names) == set(CLASSES)
    assert [words.split()[0] for words in said] == [
        "drawing",
        "training",
        "explaining",
        "measuring",
    ]
    assert capsys.readouterr().out == ""


def test_it_goes_on_with_what_is_drawn(short, tmp_path):
    index = demo.drawn(tmp_path, 0)
    before = index.stat().st_mtime_ns
    assert demo.drawn(tmp_path, 0) == index
    assert index.stat().st_mtime_ns == before


def test_the_command(short, tmp_path, capsys):
    assert run(["demo", "-o", str(tmp_path), "--no-scorecam"]) == 0
    out = capsys.readouterr().out
    assert "gradcam" in out
    assert "scorecam" not in out
    assert "on 10 photos of ten classes" in out
    (tmp_path / "paddy" / "paddy.json").write_text("{}")
    assert run(["demo", "-o", str(tmp_path)]) == 1
    assert "drawn with other parameters" in capsys.readouterr().err


def test_the_symptoms_value_marks_the_lesions(short, tmp_path):
    judged = read_dataset(demo.drawn(tmp_path, 0)).split("valid")
    masks = MaskIndex.of(judged)
    for record in judged.records:
        symptom = read_mask(masks.find(record.path), value=demo.SYMPTOM)
        assert symptom.any() == (record.label != "normal")
        assert np.array_equal(symptom, read_mask(record.mask, value=demo.SYMPTOM))


@pytest.mark.long
def test_the_whole(tmp_path, capsys):
    assert run(["demo", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    accuracy = float(out.partition("validation accuracy ")[2].split()[0])
    assert accuracy >= 0.90
    controls = ("random (control)", "centre (control)", "edges (control)")
    for name in ("gradcam", "scorecam", "glance", "loupe", *controls):
        assert name in out
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("words", [(), ("--story",)])
def test_an_interruption_tells_how_to_go_on(words, short, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt("after 1 epoch: --weights begins with it")

    monkeypatch.setattr("mitate.demo.trained", interrupt)
    monkeypatch.setattr("mitate.story.tell_story", interrupt)
    assert run(["demo", "-o", str(tmp_path), *words]) == 130
    said = capsys.readouterr().err
    assert "run it again, and what is drawn already is used again" in said.replace("\n", " ")
    assert "--weights" not in said
