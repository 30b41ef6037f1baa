import shutil

import numpy as np
import pytest
from PIL import Image

import tiny
from mitate.errors import DataError
from mitate.models.preprocessing import Preprocessing
from mitate.training.masks import TrueMasks, true_masks
from mitate.training.photos import UNKNOWN, Photos
from mitate.training.preparing import prepared


@pytest.fixture
def folder(tmp_path):
    return tiny.marked_photos(tmp_path, {"rust": 6, "healthy": 6})


def dataset_of(folder):
    return prepared(folder / "images", valid_fraction=0.34)


def told(masks: TrueMasks) -> str:
    return " ".join(masks.notices)


def test_what_there_is_is_told(folder):
    for name in ("rust/0001", "rust/0002", "healthy/0003"):
        (folder / "masks" / f"{name}.png").unlink()
    Image.new("L", (64, 64)).save(folder / "masks" / "healthy" / "0000.png")
    Image.new("L", (32, 64)).save(folder / "masks" / "healthy" / "0001.png")
    (folder / "masks" / "healthy" / "0002.png").write_text("no picture")
    Image.new("L", (64, 64)).save(folder / "masks" / "rust" / "other.png")
    masks = true_masks(dataset_of(folder), folder / "masks", value=2)
    assert len(masks.paths) == 12 - 3 - 2
    words = told(masks)
    assert "training images and" in words
    assert "1 mask with nothing in them, taken as true: healthy/0000.png" in words
    assert "2 masks cannot be used, their images train the classification alone" in words
    assert "healthy/0001.png" in words
    assert "32x64 px and its photo 64x64" in words
    assert "1 mask of no image of this data set: rust/other.png" in words


def test_good_masks_need_few_words(folder):
    masks = true_masks(dataset_of(folder), folder / "masks", value=2)
    assert masks.notices == (
        "8 of 8 training images and 4 of 4 validation images have a mask; the others train the "
        "classification alone.",
    )
    assert true_masks(dataset_of(folder), masks) is masks


def test_masks_that_mark_nearly_all_are_asked_about(folder):
    for path in (folder / "masks").rglob("*.png"):
        mask = Image.new("L", (64, 64), 2)
        mask.paste(0, (0, 0, 8, 8))
        mask.save(path)
    masks = true_masks(dataset_of(folder), folder / "masks", value=2)
    assert "The masks mark 98 % of their pictures" in told(masks)


def test_no_mask_that_fits(folder, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "masks" / "rust" / "0000.png", tmp_path / "other" / "leaf.png")
    with pytest.raises(DataError, match="none of the 8 images to train on has a mask"):
        true_masks(dataset_of(folder), tmp_path / "other")
    with pytest.raises(DataError, match="all 8 masks to train on are empty: .*than 7"):
        true_masks(dataset_of(folder), folder / "masks", value=7)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_mask_goes_where_its_photo_goes(tmp_path, resize):
    """White squares on black photos, and masks that are the same pictures."""
    for kind in ("images", "masks"):
        for name in ("a", "b"):
            for index in range(3):
                pixels = np.zeros((90, 60), np.uint8)
                pixels[10 * index : 10 * index + 30, 20:44] = 255
                pixels[0, 0] = 0 if name == "a" else 1 + index  # no two files are the same
                path = tmp_path / kind / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    dataset = dataset_of(tmp_path)
    masks = true_masks(dataset, tmp_path / "masks", value=None)
    preprocessing = Preprocessing(
        (48, 32), resize, interpolation="bilinear", mean=(0.0,), std=(1.0,)
    )
    photos = Photos(dataset.split("train").records, ("a", "b"), preprocessing, masks)
    for index in range(len(photos)):
        levels = photos.levels(index).numpy()
        assert levels.shape == (48, 32)
        drawn = photos.pixels(index)[..., 0] >= 128
        both, either = (drawn & (levels >= 128)).sum(), (drawn | (levels >= 128)).sum()
        assert both / either > 0.8


def test_without_a_mask_nothing_is_known(folder):
    (folder / "masks" / "rust" / "0000.png").unlink()
    dataset = dataset_of(folder)
    masks = true_masks(dataset, folder / "masks", value=2)
    photos = Photos(dataset.records, dataset.class_names, Preprocessing((16, 16)), masks)
    for index, record in enumerate(dataset.records):
        levels = photos.levels(index)
        if record.path.parts[-2:] == ("rust", "0000.png"):
            assert (levels == UNKNOWN).all()
        else:
            assert levels.min() == 0
            assert levels.max() == 255


def test_masks_are_read_once(folder, monkeypatch):
    dataset = dataset_of(folder)
    masks = true_masks(dataset, folder / "masks", value=2)
    photos = Photos(dataset.records, dataset.class_names, Preprocessing((16, 16)), masks)
    first = photos.levels(3)
    monkeypatch.setattr("mitate.training.masks.image_size", None)
    assert (photos.levels(3) == first).all()
