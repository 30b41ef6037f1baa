from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mitate.errors import ImageError, UsageError
from mitate.explain.inputs import as_photo, prepare
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing

RED = (200, 30, 10)


def classifier(**preprocessing) -> Classifier:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = Preprocessing(size=(8, 12), **preprocessing)
    return Classifier.from_module(network, classes=4, preprocessing=settings)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "葉 1.png"
    Image.new("RGB", (40, 30), RED).save(path)
    return path


def test_a_path_a_picture_and_an_array_are_the_same(photo: Path, unchecked) -> None:
    with Image.open(photo) as image:
        kinds = [str(photo), photo, image.copy(), np.asarray(image)]
    batches = [prepare(classifier(), kind) for kind in (*kinds, kinds)]
    for batch in batches:
        assert torch.equal(batch.inputs, batches[0].inputs[:1].expand_as(batch.inputs))
    assert batches[0].names == ("葉 1.png",)
    assert batches[-1].names == ("葉 1.png", "葉 1.png", "image 2", "image 3")
    assert batches[-1].pictures[3].size == (40, 30)
    assert prepare(classifier(), np.stack([kinds[3]] * 2)).inputs.shape == (2, 3, 8, 12)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_pictures_of_any_mode_become_rgb(mode: str) -> None:
    assert as_photo(Image.new(mode, (4, 4))).mode == "RGB"


def test_what_is_clear_becomes_white_as_it_does_for_files() -> None:
    assert as_photo(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    array = np.zeros((2, 2, 4), np.uint8)
    assert as_photo(array).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_turned_upright_as_a_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), RED).save(tmp_path / "turned.jpg", exif=exif)
    assert as_photo(tmp_path / "turned.jpg").size == (30, 40)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert as_photo(image).size == (30, 40)


def test_grey_arrays() -> None:
    for shape in ((5, 4), (5, 4, 1)):
        assert as_photo(np.full(shape, 7, np.uint8)).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    "image",
    [
        3,
        None,
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 7), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((3,), np.uint8),
        torch.zeros(3, 4, 4),
    ],
)
def test_what_is_no_image(image) -> None:
    with pytest.raises(ImageError, match="is no image: give paths"):
        as_photo(image)


def test_a_truncated_picture_that_was_opened_lazily(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with (
        Image.open(tmp_path / "cut.jpg") as image,
        pytest.raises(ImageError, match=r"cut\.jpg cannot be decoded"),
    ):
        as_photo(image)
    with pytest.raises(ImageError, match="damaged"):
        as_photo(tmp_path / "cut.jpg")


def test_tensors_are_taken_as_they_are() -> None:
    images = torch.randn(2, 3, 8, 12)
    batch = prepare(classifier(), images)
    assert torch.equal(batch.inputs, images)
    assert batch.names == ()
    assert torch.equal(prepare(classifier(), list(images)).inputs, images)
    assert torch.equal(prepare(classifier(), images[0]).inputs, images[:1])
    assert [picture.size for picture in batch.pictures] == [(12, 8)] * 2


def test_tensors_of_other_channels_have_no_pictures() -> None:
    assert prepare(classifier(), torch.randn(2, 4, 8, 12)).pictures is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3),
        torch.zeros(2, 2),
        torch.zeros(1, 2, 3, 4, 8, 8),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(1, 3, 0, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_tensors_of_a_wrong_shape_or_kind(tensor: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="expected a preprocessed float batch"):
        prepare(classifier(), tensor)


def test_tensors_of_different_sizes() -> None:
    with pytest.raises(UsageError, match=r"different shapes \(\(3, 8, 8\), \(3, 8, 9\)\)"):
        prepare(classifier(), [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)])


def test_a_dict_is_told_what_to_take_from_it(unchecked) -> None:
    with pytest.raises(UsageError, match=r"a dict of 'pixel_values': give what it holds"):
        prepare(classifier(), {"pixel_values": torch.zeros(1, 3, 8, 8)})


def test_no_image() -> None:
    with pytest.raises(UsageError, match="no image to explain"):
        prepare(classifier(), [])


def test_values_that_are_not_finite_name_their_image(photo: Path) -> None:
    images = torch.zeros(3, 3, 8, 12)
    images[1, 0, 0, 0] = float("nan")
    images[2, 0, 0, 0] = float("inf")
    with pytest.raises(ImageError, match=r"image\(s\) 1, 2 hold values that are not finite"):
        prepare(classifier(), images)
    overflowing = classifier(std=(1e-40, 1.0, 1.0))
    with pytest.raises(ImageError, match=r"葉 1\.png hold values"):
        prepare(overflowing, [photo])


def test_values_that_overflow_the_networks_half_precision() -> None:
    half = classifier()
    half.network.half()
    with pytest.raises(ImageError, match="not finite"):
        prepare(half, torch.full((1, 3, 8, 12), 1e6))


def test_colours_that_lie_last_are_told() -> None:
    with pytest.raises(UsageError, match=r"permute\(0, 3, 1, 2\)"):
        prepare(classifier(), torch.zeros(1, 24, 32, 3))
    assert prepare(classifier(), torch.zeros(1, 3, 24, 3)).inputs.shape == (1, 3, 24, 3)
