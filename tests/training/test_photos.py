import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.models.preprocessing import Preprocessing
from mitate.training.loop import Schedule, loaders
from mitate.training.masks import TrueMasks
from mitate.training.photos import Photos


@pytest.fixture
def records(tmp_path):
    folder = tiny.photos(tmp_path, {"a": 2, "b": 1})
    return [Record(path, path.parent.name) for path in sorted(folder.glob("*/*.png"))]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("grey", [False, True])
def test_training_sees_what_the_classifier_sees(records, resize, grey):
    stats = {"mean": (0.4,), "std": (0.2,)} if grey else {}
    preprocessing = Preprocessing((24, 40), resize, 0.9, "bicubic", **stats)
    photos = Photos(records, ("a", "b"), preprocessing)
    for index, record in enumerate(records):
        own = preprocessing(Image.open(record.path).convert("RGB"))
        pixels, _ = photos[index]
        assert torch.equal(preprocessing.normalize(pixels.permute(1, 2, 0).numpy()), own)


def test_labels_are_indices(records):
    assert Photos(records, ("b", "a"), Preprocessing((8, 8))).labels == [1, 1, 0]


def test_photos_are_decoded_once(records, monkeypatch):
    photos = Photos(records, ("a", "b"), Preprocessing((8, 8)))
    first = photos.pixels(0)
    monkeypatch.setattr("mitate.training.photos.read_image", None)
    assert np.array_equal(photos.pixels(0), first)


def test_beyond_the_memory_they_are_decoded_anew(records):
    photos = Photos(records, ("a", "b"), Preprocessing((8, 8)), memory=8 * 8 * 3)
    seen = [photos.pixels(index) for index in (0, 1, 2, 1)]
    assert list(photos.kept) == [0]
    assert np.array_equal(seen[1], seen[3])


def test_drawn_masks_hold_for_their_photos_and_leave_the_others(records):
    photos = Photos(records, ("a", "b"), Preprocessing((5, 7)))
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    drawn = photos.with_drawn({1: mask})
    again = drawn.with_drawn({2: ~mask})
    assert np.array_equal(again.levels(1), 255 * mask)
    assert np.array_equal(again.levels(2), 255 * ~mask)
    assert again.levels(1).dtype == again.levels(0).dtype
    assert (again.levels(0) == -1).all()
    assert (drawn.levels(2) == -1).all()
    assert (photos.levels(1) == -1).all()


def test_those_that_have_a_mask_by_themselves(records):
    known = TrueMasks(MaskIndex(records[0].path.parent), None, frozenset([records[2].path]))
    photos = Photos(records, ("a", "b"), Preprocessing((8, 8)), known)
    marked = photos.marked()
    assert (marked.records, marked.labels) == ((records[2],), [1])
    assert marked.masks is known
    assert np.array_equal(marked.pixels(0), photos.pixels(2))


@pytest.mark.parametrize("length", [3, 8])
def test_an_epoch_may_show_few_photos_several_times(records, length):
    photos = Photos(records, ("a", "b"), Preprocessing((8, 8)))
    schedule = Schedule(1, 2, None, None, False, "none", 0, length=length)
    with torch.random.fork_rng():
        batches = [images for images, _ in loaders(photos, photos, schedule).train]
    assert len(batches) == length // 2
    shown = {tuple(image.flatten(1).mean(1).tolist()) for batch in batches for image in batch}
    assert len(shown) == min(len(photos), 2 * (length // 2))


def test_a_balanced_epoch_shows_each_class_and_each_of_its_photos_equally_often(tmp_path):
    records = []
    for number in range(9):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path)
        records.append(Record(path, "rare" if number == 4 else "frequent"))
    photos = Photos(
        records, ("frequent", "rare"), Preprocessing((8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    )
    schedule = Schedule(1, 2, None, None, False, "none", 0, length=8, balance=True)
    with torch.random.fork_rng():
        train = loaders(photos, photos, schedule).train
        epochs = [list(train) for _ in range(4)]
    for epoch in epochs:
        labels = [int(label) for _, batch in epoch for label in batch]
        assert labels.count(0) == labels.count(1) == 4
    images = [image for epoch in epochs for batch, _ in epoch for image in batch]
    reds = [round(255 * float(image[0, 0, 0])) for image in images]
    frequent = [reds.count(20 * number) for number in range(9) if number != 4]
    assert reds.count(80) == 16
    assert frequent == [2] * 8
