import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import tiny
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.training import fit
from mitate.training.loop import Schedule, loaders
from mitate.training.losses import bce
from mitate.training.masks import true_masks
from mitate.training.photos import Photos
from mitate.training.preparing import prepared
from mitate.training.scores import Scores
from mitate.training.segmentation import Objective, Outputs, Supervision, region_truth

QUICK = {
    "model": tiny.MODEL,
    "weights": "none",
    "arguments": tiny.ARGUMENTS,
    "size": 64,
    "batch_size": 8,
    "lr": 0.01,
    "augment": "flip",
    "show_progress": False,
    "mask_value": 2,
}
NAMES = ("blast", "hispa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.marked_photos(tmp_path_factory.mktemp("data"), dict.fromkeys(NAMES, 16))


@pytest.fixture(scope="module")
def half(tmp_path_factory, folder):
    """The same photos, of which every second one has a mask."""
    masks = tmp_path_factory.mktemp("half") / "masks"
    for path in sorted((folder / "masks").glob("*/*.png"))[::2]:
        (masks / path.parent.name).mkdir(parents=True, exist_ok=True)
        (masks / path.parent.name / path.name).write_bytes(path.read_bytes())
    return masks


@pytest.fixture(scope="module")
def fitted(folder, half, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "classifier"
    return fit(folder / "images", out, epochs=14, masks=half, **QUICK)


def test_it_learns_both_from_masks_on_half_of_the_images(fitted):
    scores = fitted.scores
    assert scores.accuracy >= 0.8
    assert scores.segmentation is not None
    assert scores.segmentation.dice > 0.7
    assert scores.segmentation.iou == pytest.approx(
        scores.segmentation.dice / (2 - scores.segmentation.dice)
    )
    assert 0 < scores.segmentation.images < sum(map(sum, scores.confusion))
    assert {score.name for score in scores.segmentation.classes} == set(NAMES)
    assert fitted.history[-1].dice > fitted.history[0].dice
    assert any("have a mask" in notice for notice in fitted.notices)
    json.dumps(fitted.as_dict(), allow_nan=False)


def test_what_is_saved_is_an_ordinary_classifier_with_a_decoder(fitted, folder):
    saved = fitted.classifier.folder
    assert {"decoder.safetensors", "weights.safetensors"} <= {p.name for p in saved.iterdir()}
    loaded = Classifier.load(saved)
    assert type(loaded.network) is type(tiny.classifier().network)
    assert loaded.decoder.regions == ("region",)
    photo = Image.open(folder / "images" / "blast" / "0000.png")
    inputs = loaded.inputs([photo])
    assert torch.equal(loaded.logits(inputs), fitted.classifier.logits(inputs))
    assert torch.equal(loaded.segment(inputs), fitted.classifier.segment(inputs))
    mask = torch.from_numpy(np.array(Image.open(folder / "masks" / "blast" / "0000.png")) == 2)
    drawn = loaded.segment(inputs)[0, 0] >= 0.5
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.5
    explanation = Explainer(loaded)(inputs)
    assert explanation.maps.isfinite().all()
    stored = loaded.provenance
    assert Scores.from_dict(stored["metrics"]) == fitted.scores
    assert stored["training"]["masks"]["losses"] == ["dice", "bce"]
    assert stored["training"]["masks"]["value"] == 2
    lines = (saved / "history.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "epoch,train_loss,valid_loss,accuracy,dice"


def test_a_region_a_class(folder, tmp_path):
    done = fit(
        folder / "images",
        tmp_path,
        epochs=2,
        masks=folder / "masks",
        supervision=Supervision(regions="class", losses=("focal", "tversky"), uncertainty=True),
        **QUICK,
    )
    assert done.classifier.decoder.regions == NAMES
    inputs = torch.zeros(1, 3, 64, 64)
    assert done.classifier.segment(inputs).shape == (1, 2, 64, 64)


def test_the_same_seed_gives_the_same_decoder(folder, half, tmp_path):
    first, second = (
        fit(folder / "images", tmp_path / name, epochs=1, masks=half, **QUICK).classifier
        for name in "ab"
    )
    for mine, other in ((first.network, second.network), (first.decoder, second.decoder)):
        weights = other.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in mine.state_dict().items())


def test_masks_do_not_change_the_start(folder, half, tmp_path):
    """At a rate of nearly nothing both trainings end where they began: at the same network."""
    settings = {**QUICK, "lr": 1e-12, "epochs": 1}
    plain = {name: value for name, value in settings.items() if name != "mask_value"}
    with_masks = fit(folder / "images", tmp_path / "a", masks=half, **settings).classifier
    without = fit(folder / "images", tmp_path / "b", **plain).classifier
    mine, other = (c.network.stem[0].weight for c in (with_masks, without))
    assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("augment", ["flip", "turn", "full"])
def test_augmentation_moves_image_and_mask_together(tmp_path, augment):
    """White discs on black: after every transform the mask still covers the white."""
    y, x = np.mgrid[:64, :64]
    for number in range(8):
        disc = (y - 12 - 4 * number) ** 2 + (x - 40 + 3 * number) ** 2 < 11**2
        for kind, value in (("images", 255), ("masks", 2)):
            path = tmp_path / kind / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((disc * value).astype(np.uint8)).save(path)
    dataset = prepared(tmp_path / "images", valid_fraction=0.25)
    masks = true_masks(dataset, tmp_path / "masks", value=2)
    preprocessing = replace(tiny.classifier().preprocessing, mean=(0.0,) * 3, std=(1.0,) * 3)
    train, valid = (
        Photos(dataset.split(side).records, ("a", "b"), preprocessing, masks)
        for side in ("train", "valid")
    )
    drawn = loaders(train, valid, Schedule(1, 6, None, None, False, augment, 0))
    moved = 0
    with torch.random.fork_rng():
        for _ in range(12):
            for images, levels, _ in drawn.train:
                white, marked = images.numpy()[:, 0] > 0.5, levels.numpy() >= 128
                both, either = (white & marked).sum((1, 2)), (white | marked).sum((1, 2))
                assert (both / either).min() > 0.85
                held = {train.levels(i).ge(128).numpy().tobytes() for i in range(len(train))}
                moved += sum(mask.tobytes() not in held for mask in marked)
    assert moved > 20


class TestObjective:
    LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.1]])
    DRAWN = torch.tensor([[[[1.0, -2.0]]], [[[0.3, 0.2]]]])
    LABELS = torch.tensor([0, 1])
    LEVELS = torch.tensor([[[255, 0]], [[-1, -1]]])

    def test_is_the_sum_of_its_parts(self):
        loss = Objective(Supervision(losses=("bce",), weight=0.5))
        found = loss(Outputs(self.LOGITS, self.DRAWN), self.LEVELS, self.LABELS)
        of_mask = F.binary_cross_entropy_with_logits(self.DRAWN[0], torch.tensor([[[1.0, 0.0]]]))
        expected = F.cross_entropy(self.LOGITS, self.LABELS) + 0.5 * of_mask
        assert torch.isclose(found, expected)

    def test_images_without_a_mask_teach_the_classification_alone(self):
        drawn = self.DRAWN.clone().requires_grad_()
        logits = self.LOGITS.clone().requires_grad_()
        Objective(Supervision())(Outputs(logits, drawn), self.LEVELS, self.LABELS).backward()
        assert (drawn.grad[0] != 0).all()
        assert (drawn.grad[1] == 0).all()
        assert (logits.grad != 0).all()

    def test_an_empty_mask_is_a_truth(self):
        drawn = self.DRAWN.clone().requires_grad_()
        levels = torch.zeros_like(self.LEVELS)
        Objective(Supervision())(Outputs(self.LOGITS, drawn), levels, self.LABELS).backward()
        assert (drawn.grad > 0).all()  # a step against it draws less

    def test_uncertainty_by_hand(self):
        loss = Objective(Supervision(losses=("bce",), uncertainty=True))
        with torch.no_grad():
            loss.log_variances.copy_(torch.tensor([0.2, -0.4]))
        truth, known = region_truth(self.LEVELS, self.LABELS, 1)
        parts = F.cross_entropy(self.LOGITS, self.LABELS), bce(self.DRAWN, truth, known)
        expected = math.exp(-0.2) * parts[0] + 0.1 + math.exp(0.4) * parts[1] - 0.2
        found = loss(Outputs(self.LOGITS, self.DRAWN), self.LEVELS, self.LABELS)
        assert torch.isclose(found, expected)

    def test_a_batch_without_masks_leaves_the_variance_of_the_segmentation(self):
        loss = Objective(Supervision(uncertainty=True))
        levels = torch.full_like(self.LEVELS, -1)
        loss(Outputs(self.LOGITS, self.DRAWN), levels, self.LABELS).backward()
        assert loss.log_variances.grad[0] != 0
        assert loss.log_variances.grad[1] == 0


def test_the_variances_are_trained(folder, half, tmp_path, monkeypatch):
    made = []
    original = Objective.__init__

    def keep(self, *args):
        original(self, *args)
        made.append(self)

    monkeypatch.setattr(Objective, "__init__", keep)
    fit(
        folder / "images",
        tmp_path,
        epochs=1,
        masks=half,
        supervision=Supervision(uncertainty=True),
        **QUICK,
    )
    assert (made[0].log_variances != 0).all()


def test_a_region_a_class_is_true_of_the_image_s_class_only():
    levels = torch.tensor([[[255, 51]], [[-1, -1]]])
    truth, known = region_truth(levels, torch.tensor([1, 0]), 2)
    assert truth[0, 1].tolist() == [[1, pytest.approx(0.2)]]
    assert truth[0, 0].tolist() == [[0, 0]]
    assert known[:, 0, 0].tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"losses": ("dise",)}, "dise"),
        ({"losses": ()}, "none"),
        ({"weight": -1.0}, "positive"),
        ({"weight": 0.0}, "0 with guided maps"),
        ({"guide": True, "guide_weight": 0.0}, "guide weight"),
        ({"weight": float("nan")}, "positive"),
        ({"regions": "each"}, "one, or class"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_supervision_that_cannot_be_used(settings, words):
    with pytest.raises(UsageError, match=words):
        Supervision(**settings).checked()
