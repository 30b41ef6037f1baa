import json
import random
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.errors import ClassifierError, DataError, MitateWarning, UsageError, WeightsError
from mitate.models.classifier import Classifier
from mitate.models.devices import find_device
from mitate.training import fit
from mitate.training.fit import check_settings

# The machine may have no Japanese font.
pytestmark = pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")
QUICK = {
    "model": tiny.MODEL,
    "weights": "none",
    "arguments": tiny.ARGUMENTS,
    "size": 32,
    "batch_size": 8,
    "epochs": 1,
    "lr": 0.01,
    "augment": "none",
    "show_progress": False,
}


def quick(data, folder, **settings):
    return fit(data, folder, **{**QUICK, **settings})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data"), {"blast": 12, "いもち病": 12, "c $x$": 12})


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "classifier"
    return quick(data, folder, epochs=12, augment="full")


def test_it_learns_and_says_how_well(fitted):
    assert fitted.scores.accuracy >= 0.9
    assert len(fitted.history) == 12
    assert fitted.history[-1].train_loss < fitted.history[0].train_loss
    assert fitted.milliseconds > 0
    assert fitted.parameters == sum(p.numel() for p in fitted.classifier.network.parameters())
    json.dumps(fitted.as_dict(), allow_nan=False)


def test_the_folder_holds_all_of_it(fitted, data):
    folder = fitted.classifier.folder
    assert {path.name for path in folder.iterdir()} == {
        "classifier.json",
        "weights.safetensors",
        "history.csv",
        "validation.csv",
        "trained_on.csv",
        "confusion.png",
    }
    lines = (folder / "validation.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "path,label,predicted,probability"
    assert len(lines) == 1 + sum(map(sum, fitted.scores.confusion))
    assert (data / lines[1].split(",")[0]).is_file()
    seen = Classifier.load(folder).seen
    assert seen.is_known
    assert seen.photos == fitted.classifier.seen.photos
    assert {seen.side_of(data / line.split(",")[0]) for line in lines[1:]} == {"valid"}
    assert sorted({photo.split for photo in seen.photos}) == ["train", "valid"]
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    training = fitted.classifier.provenance["training"]
    assert training["device"] == str(find_device())
    assert training["lr"] == 0.01
    assert training["pretrained"] is False
    assert training["data"] == data.name


def test_what_was_scored_is_what_is_used(fitted, data):
    """No skew: the folder, loaded anew, says of the photos what validation.csv says."""
    loaded = Classifier.load(fitted.classifier.folder)
    assert loaded.class_names == ("blast", "c $x$", "いもち病")
    assert loaded.preprocessing.size == (32, 32)
    text = (fitted.classifier.folder / "validation.csv").read_text(encoding="utf-8-sig")
    for line in text.splitlines()[1:]:
        path, label, predicted, probability = line.split(",")
        inputs = loaded.inputs([Image.open(data / path)])
        row = loaded.logits(inputs).softmax(-1)[0]
        assert loaded.class_names[int(row.argmax())] == predicted
        assert float(row.max()) == pytest.approx(float(probability), abs=1e-5)
        assert label == path.split("/")[0]


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_states(data, tmp_path):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first, second, other = (
        quick(data, tmp_path / name, augment="full", seed=seed).classifier.network.state_dict()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])


def test_the_learning_rate_is_found(data, tmp_path, capsys):
    found = quick(data, tmp_path, lr=None).classifier.provenance["training"]["lr"]
    assert 1e-7 < found < 1
    assert capsys.readouterr() == ("", "")


def test_patience_stops_and_keeps_the_best(data, tmp_path, capsys):
    # A rate at which the loss leaps about, so that the last epoch is not the best.
    settings = {"epochs": 12, "patience": 2, "lr": 0.3, "seed": 3, "show_progress": True}
    done = quick(data, tmp_path, **settings)
    losses = [epoch.valid_loss for epoch in done.history]
    assert len(losses) < 12
    assert losses.index(min(losses)) == len(losses) - 3
    right = [epoch.accuracy for epoch in done.history][losses.index(min(losses))]
    assert done.scores.accuracy == pytest.approx(right)
    told = capsys.readouterr()
    assert told.out == ""  # fastai's own callbacks would print there
    stopped = len(losses)
    assert f"the weights of epoch {stopped - 2} are kept, those of the lowest" in told.err
    assert f"stopped after {stopped} of 12 epochs" in told.err


def test_interrupted_while_it_waits_for_better_the_best_is_saved(data, tmp_path, monkeypatch):
    loop = sys.modules["mitate.training.loop"]

    def interrupt(done, _epochs):
        if done.epoch == 6:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(loop, "_line", interrupt)
    settings = {"epochs": 12, "patience": 9, "lr": 0.3, "seed": 3, "show_progress": True}
    with pytest.raises(KeyboardInterrupt, match="after 6 epochs: what was learnt is in .*interrup"):
        quick(data, tmp_path / "out", **settings)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["interrupted"]
    saved = Classifier.load(tmp_path / "out" / "interrupted").provenance
    history = saved["training"]["history"][:5]  # the sixth was not compared any more
    best = min(history, key=lambda epoch: epoch["valid_loss"])
    assert saved["metrics"]["accuracy"] == pytest.approx(best["accuracy"])


def test_progress_is_told_on_standard_error(data, tmp_path, capsys):
    quick(data, tmp_path, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 1/1  train loss" in err


def test_training_that_diverges_saves_nothing(data, tmp_path):
    with pytest.raises(ClassifierError, match="diverged at the learning rate 1e\\+"):
        quick(data, tmp_path / "a", lr=1e30, epochs=2)
    with pytest.raises(ClassifierError, match="diverged"):
        quick(data, tmp_path / "a", lr=1e30, epochs=2, patience=1)
    with pytest.raises(ClassifierError, match="diverged"):
        quick(data, tmp_path / "a", lr=1e4, epochs=2, model="test_convnext", arguments=None)
    assert not (tmp_path / "a").exists()


def test_few_grey_photos_and_a_batch_larger_than_the_data(tmp_path):
    for place, name in enumerate(("a", "b")):
        for number in range(2):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            shade = Image.new("L", (20, 30), 90 * place + number)
            shade.save(tmp_path / "data" / name / f"{number}.png")
    done = quick(tmp_path / "data", tmp_path / "out", batch_size=64, lr=None, valid_fraction=0.5)
    assert sum(map(sum, done.scores.confusion)) == 2


def test_a_csv_with_splits(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    lines = ["path,label,split"]
    for label in ("blast", "いもち病"):
        lines += [f"{label}/{i:04}.png,{label},{'valid' if i < 3 else 'train'}" for i in range(9)]
    lines.append("missing.png,blast,train")
    (tmp_path / "data" / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    done = quick(tmp_path / "data" / "list.csv", tmp_path / "out")
    assert done.classifier.provenance["training"]["images"] == {"train": 12, "valid": 6}
    assert "missing.png" in " ".join(done.notices)


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "coatnet_nano_rw_224"])
def test_networks_of_a_fixed_size_train_and_load_at_another(data, tmp_path, model):
    arguments = {"vit": {}, "coa": {}}[model[:3]]
    done = quick(data, tmp_path, model=model, arguments=arguments, size=64, batch_size=16)
    loaded = Classifier.load(tmp_path)
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.logits(inputs), done.classifier.logits(inputs))


class TestWeights:
    def test_of_a_file_with_another_head(self, data, tmp_path):
        source = tiny.classifier(("x", "y"), size=32)
        source.save(tmp_path / "start")
        weights = tmp_path / "start" / "weights.safetensors"
        done = quick(data, tmp_path / "out", weights=weights, lr=1e-9)
        assert done.classifier.provenance["training"]["pretrained"] is True
        stem = done.classifier.network.state_dict()["stem.0.weight"]
        assert torch.allclose(stem, source.network.state_dict()["stem.0.weight"], atol=1e-6)
        assert done.classifier.network.head.fc.out_features == 3

    def test_a_training_that_goes_on_knows_the_photos_of_both(self, data, fitted, tmp_path):
        others = tiny.photos(tmp_path / "others", {"cat": 4, "dog": 4, "正常": 4})
        for path in others.rglob("*.png"):
            tiny.photo(2, seed=int(path.stem) + 50).rotate(90).save(path)
        weights = fitted.classifier.folder / "weights.safetensors"
        done = quick(others, tmp_path / "out", weights=weights, lr=1e-9)
        assert {done.classifier.seen.side_of(path) for path in others.rglob("*.png")} == {
            "train",
            "valid",
        }
        assert done.classifier.seen.photos[: len(fitted.classifier.seen.photos)] == (
            fitted.classifier.seen.photos
        )

    def test_of_another_architecture(self, data, tmp_path):
        tiny.classifier().save(tmp_path / "start")
        weights = tmp_path / "start" / "weights.safetensors"
        with pytest.raises(WeightsError, match="does not fit"):
            quick(data, tmp_path / "out", weights=weights, arguments={})
        assert not (tmp_path / "out").exists()

    def test_a_hub_out_of_reach_is_a_notice(self, data, tmp_path, monkeypatch):
        def unreachable(*_, **__):
            raise ClassifierError("cannot be fetched") from OSError("no route")

        monkeypatch.setattr("mitate.training.start.from_library", unreachable)
        with pytest.warns(MitateWarning, match="cannot be reached: training from scratch"):
            done = quick(data, tmp_path, weights="hub")
        assert done.classifier.provenance["training"]["pretrained"] is False

    def test_so_are_weights_that_nobody_publishes(self, data, tmp_path):
        with pytest.warns(MitateWarning, match="publishes no weights for test_vit4: training"):
            quick(data, tmp_path, model="test_vit4", weights="hub", arguments={})

    def test_hub_weights_that_do_not_fit_are_an_error(self, data, tmp_path, monkeypatch):
        def misfit(*_, **__):
            raise WeightsError("does not fit")

        monkeypatch.setattr("mitate.training.start.from_library", misfit)
        with pytest.raises(WeightsError):
            quick(data, tmp_path, weights="hub")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"epochs": 0}, UsageError, "0 epochs: use 1 or more"),
        ({"batch_size": 1}, UsageError, "a batch of 1: use 2 images or more"),
        ({"lr": -1.0}, UsageError, "positive rate"),
        ({"lr": float("nan")}, UsageError, "positive rate"),
        ({"augment": "much"}, UsageError, "none, flip, turn, full"),
        ({"patience": 0}, UsageError, "patience"),
        ({"model": "convnext_nana"}, ClassifierError, "convnext_nano"),
        ({"weights": "no.safetensors"}, WeightsError, "no weights file"),
        ({"seed": -1}, UsageError, "seed"),
        ({"size": 8}, UsageError, "takes no images of 8x8 px"),
        ({"resize": "stretch"}, ClassifierError, "squash, crop or pad"),
        ({"arguments": {"checkpoint_path": "x"}}, ClassifierError, "checkpoint_path"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_trained_is_told_first(data, tmp_path, settings, error, words):
    with pytest.raises(error, match=words):
        quick(data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_file_of_weights_is_of_one_model(tmp_path):
    (tmp_path / "a.pth").touch()
    with pytest.raises(UsageError, match="one model only"):
        check_settings(["a", "b"], tmp_path / "a.pth", 1, 2, None, "full", None)


def test_a_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        quick(tmp_path / "missing", tmp_path / "out")


@pytest.mark.parametrize("place", ["a file", "nowhere"])
def test_a_folder_that_cannot_be_is_told_before_the_work(data, tmp_path, place, monkeypatch):
    module = sys.modules[fit.__module__]
    monkeypatch.setattr(module, "prepared", lambda *_, **__: pytest.fail("work was begun"))
    (tmp_path / "a file").write_text("")
    folder = tmp_path / "a file" if place == "a file" else tmp_path / "a file" / "deeper"
    with pytest.raises(NotADirectoryError):
        quick(data, folder)
