import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.models.decoder import Decoder
from mitate.training import Supervision, fit
from mitate.training.loop import Epoch, Schedule, Stopped
from mitate.training.photos import Photos
from mitate.training.selftraining import DrawnMasks, drawn_masks, passes, run_drawing
from mitate.training.task import classification

NAMES = ("blast", "hispa", "normal")
SIZE = 64
PREPROCESSING = tiny.classifier(NAMES).preprocessing


class Bright(Photos):
    """Photos that are given, with the levels of their masks."""

    def __init__(self, shown, levels, labels):
        super().__init__((), NAMES, PREPROCESSING)
        self.shown, self.given, self.labels = shown, levels, labels

    def __len__(self):
        return len(self.shown)

    def pixels(self, index):
        return self.shown[index]

    def levels(self, index):
        return super().levels(index) if index in self.drawn else self.given[index]


@pytest.fixture
def photos():
    """Of three classes: one with a mask each, one or two without; something is bright on some."""
    shown = np.zeros((7, SIZE, SIZE, 3), np.uint8)
    shown[0, :20] = shown[1, :30] = shown[4, :, :7] = shown[6, :, :5] = 255
    levels = torch.full((7, SIZE, SIZE), -1, dtype=torch.int16)
    levels[[0, 3, 5]] = 0
    levels[0, :20] = levels[3, :9] = 255
    return Bright(shown, levels, [0, 0, 0, 1, 1, 2, 2])


@pytest.fixture
def segmenting(monkeypatch):
    """Makes a classifier with such regions, that draws what is bright in one of them."""

    def made(*regions, drawn=0):
        def segment(self, inputs):
            shares = torch.zeros(len(inputs), len(regions), SIZE, SIZE)
            shares[:, drawn] = (inputs.mean(1) > 0).float()
            return shares

        monkeypatch.setattr(Classifier, "segment", segment)
        return replace(tiny.classifier(NAMES), decoder=Decoder((0,), (4,), regions))

    return made


def test_photos_without_a_mask_get_what_is_drawn(photos, segmenting):
    drawn = drawn_masks(segmenting("region"), photos, photos)
    assert (drawn.number, drawn.without) == (3, 1)  # nothing is bright on the blast of number 2
    for number, marked in ((1, np.s_[:30]), (4, np.s_[:, :7])):
        expected = torch.zeros(SIZE, SIZE, dtype=torch.int16)
        expected[marked] = 255
        assert torch.equal(drawn.photos.levels(number), expected)
    assert (drawn.photos.levels(2) == -1).all()


def test_masks_that_are_given_stay_and_so_do_the_photos_before(photos, segmenting):
    drawn = drawn_masks(segmenting("region"), photos, photos)
    for number in (0, 3, 5):
        assert torch.equal(drawn.photos.levels(number), photos.given[number])
    assert (photos.levels(1) == -1).all()


def test_where_nothing_is_marked_on_any_of_a_class_nothing_is_drawn(photos, segmenting):
    drawn = drawn_masks(segmenting("region"), photos, photos)
    assert (drawn.photos.levels(6) == 0).all()
    photos.given[5] = -1  # of this class it is not known any more what there is to mark
    again = drawn_masks(segmenting("region"), photos, photos)
    assert (again.photos.levels(6)[:, :5] == 255).all()
    assert again.without == 2


def test_of_a_region_a_class_the_own_one_counts(photos, segmenting):
    drawn = drawn_masks(segmenting(*NAMES, drawn=1), photos, photos)
    assert (drawn.photos.levels(4)[:, :7] == 255).all()
    assert (drawn.photos.levels(1) == -1).all()
    assert drawn.without == 2


def test_it_is_judged_where_the_truth_is_known(photos, segmenting):
    drawn = drawn_masks(segmenting("region"), photos, photos)
    assert drawn.judged == 3
    found, missed = 20 * SIZE, 9 * SIZE  # of photos 0 and 3
    assert drawn.dice == pytest.approx(2 * found / (2 * found + missed))
    assert json.loads(json.dumps(drawn.as_dict())) == {
        "number": 3,
        "without": 1,
        "dice": drawn.dice,
        "judged": 3,
    }


@pytest.mark.parametrize(
    ("number", "without", "dice", "told"),
    [
        (0, 0, 0.8, "All images to train on have a mask: none was drawn."),
        (3, 0, 0.8, "Masks of 3 training images were drawn (Dice 0.80 on 9 validation images)."),
        (1, 2, 0.5, "Masks of 1 training image were drawn, on 2 nothing was found (Dice 0.50"),
        (3, 0, 0.49, "They are poor (Dice 0.49 on 9 validation images) and may do harm: give more"),
        (3, 0, None, "No validation image has a mask, so how good they are is not known."),
    ],
)
def test_what_is_told(photos, number, without, dice, told):
    assert told in DrawnMasks(photos, number, without, dice, 9).words


@pytest.mark.parametrize(("plant", "shares"), [(0.7, [0.9, 0.9, 1]), (0, [0, 0, 0])])
def test_three_rounds(photos, segmenting, monkeypatch, plant, shares):
    """Photos with a mask, all with drawn ones, the former again: at one rate and one length."""
    rounds = []

    def run(task, train, valid, schedule, *, shown):
        rounds.append((train, schedule))
        return [Epoch(1 + n, 0.0, 0.0, 0.0) for n in range(schedule.epochs)], 0.02

    monkeypatch.setattr("mitate.training.selftraining.run", run)
    monkeypatch.setattr(photos, "marked", lambda: "those with a mask", raising=False)
    classifier = segmenting("region")
    schedule = Schedule(9, 4, None, None, False, "none", 0, plant)
    history, lr, drawn = run_drawing(
        classifier, classification(classifier.network), photos, photos, schedule, shown=False
    )
    assert [train for train, _ in rounds] == [photos.marked(), drawn.photos, photos.marked()]
    plans = [plan for _, plan in rounds]
    assert [plan.epochs for plan in plans] == list(passes(9)) == [4, 9, 3]
    assert [plan.plant for plan in plans] == shares
    assert [plan.length for plan in plans] == [7, None, 7]
    assert [plan.lr for plan in plans] == [None, 0.02, 0.02]
    assert (lr, [one.epoch for one in history]) == (0.02, list(range(1, 17)))


@pytest.mark.parametrize(("at", "epochs"), [(2, 4), (3, 13)])
@pytest.mark.parametrize("done", [0, 2])
def test_an_interruption_keeps_the_epochs_of_all_rounds(
    photos, segmenting, monkeypatch, at, epochs, done
):
    rounds = []

    def run(task, train, valid, schedule, *, shown):
        rounds.append(schedule)
        if len(rounds) == at:
            raise (
                Stopped([Epoch(1 + n, 0.0, 0.0, 0.0) for n in range(done)], 0.5)
                if done
                else (KeyboardInterrupt)
            )
        return [Epoch(1 + n, 0.0, 0.0, 0.0) for n in range(schedule.epochs)], 0.02

    monkeypatch.setattr("mitate.training.selftraining.run", run)
    monkeypatch.setattr(photos, "marked", lambda: "those with a mask", raising=False)
    classifier = segmenting("region")
    schedule = Schedule(9, 4, None, None, False, "none", 0, 0)
    with pytest.raises(Stopped) as caught:
        run_drawing(
            classifier, classification(classifier.network), photos, photos, schedule, shown=False
        )
    assert caught.value.lr == 0.02
    assert [one.epoch for one in caught.value.history] == list(range(1, 1 + epochs + done))


def test_every_round_has_an_epoch():
    assert passes(1) == (1, 1, 1)


def test_a_network_trained_with_drawn_masks(tmp_path, capsys):
    folder = tiny.marked_photos(tmp_path / "data", dict.fromkeys(NAMES[:2], 16))
    for path in sorted((folder / "masks").glob("*/*.png")):
        if int(path.stem) % 2:
            path.unlink()
    done = fit(
        folder / "images",
        tmp_path / "out",
        model=tiny.MODEL,
        weights="none",
        arguments=tiny.ARGUMENTS,
        size=SIZE,
        batch_size=8,
        lr=0.01,
        epochs=8,
        augment="none",
        masks=folder / "masks",
        mask_value=2,
        supervision=Supervision(plant=True, draw=True),
    )
    facts = Classifier.load(tmp_path / "out").provenance["training"]
    assert [row["epoch"] for row in facts["history"]] == list(range(1, 15))
    assert facts["epochs"] == 14  # 4 + 8 + 2
    drawn = facts["masks"]["drawn"]
    judged = done.scores.segmentation.images
    assert drawn["judged"] == judged
    assert drawn["number"] + drawn["without"] == facts["images"]["train"] - (16 - judged)
    assert drawn["dice"] > 0.5
    assert done.scores.accuracy >= 0.8
    told = f"Masks of {drawn['number']} training images were drawn"
    assert sum(told in notice for notice in done.notices) == 1
    assert told in capsys.readouterr().err


def test_there_must_be_a_segmentation_that_draws():
    with pytest.raises(UsageError, match="give it a weight above 0"):
        Supervision(weight=0, plant=True, draw=True).checked()
