import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.data.records import Record
from mitate.models.preprocessing import Preprocessing
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
