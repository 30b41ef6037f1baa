from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from mitate.models.processors import preprocessing_of

RESIZES = ("squash", "crop", "pad")


def photo(width: int = 300, height: int = 200) -> Image.Image:
    """Smooth in colour, with a disc and a bar."""
    y, x = np.mgrid[:height, :width]
    colours = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 20)], -1)
    image = Image.fromarray(colours.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 3, height // 4, width // 2, height // 2), fill=(250, 30, 30))
    draw.rectangle((width // 2, height // 2, width * 3 // 4, height * 3 // 4), fill=(10, 10, 200))
    return image


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, levels: float) -> None:
    """Equal to within so many of 255 levels in the mean."""
    std = torch.tensor(IMAGENET_STD)[:, None, None]
    assert ours.shape == theirs.shape
    assert float(((ours - theirs) * std).abs().mean()) * 255 < levels


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (90, 70), (1024, 500)])
@pytest.mark.parametrize(
    "config",
    [
        {"crop_mode": "center", "crop_pct": 0.875},
        {"crop_mode": "center", "crop_pct": 1.0},
        {"crop_mode": "center", "crop_pct": 0.95, "img_size": (96, 128)},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "squash", "crop_pct": 0.9},
        {"crop_mode": "border", "crop_pct": 1.0},
    ],
    ids=lambda config: "-".join(str(value) for value in config.values()),
)
def test_geometry_is_timms(config: dict[str, Any], size: tuple[int, int]) -> None:
    arguments = {"img_size": 128, "interpolation": "bicubic", **config}
    transform = imports.timm("data.transforms_factory").transforms_imagenet_eval(
        mean=IMAGENET_MEAN, std=IMAGENET_STD, **arguments
    )
    given_size = arguments["img_size"]
    ours = Preprocessing(
        size=given_size if isinstance(given_size, tuple) else (given_size, given_size),
        resize={"center": "crop", "border": "pad"}.get(config["crop_mode"], "squash"),
        crop_fraction=config["crop_pct"],
        interpolation="bicubic",
    )
    image = photo(*size)
    exact = not isinstance(given_size, tuple)  # timm scales to other pixels for oblong inputs
    assert_near(ours(image), transform(image), 0.3 if exact else 4.0)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (1024, 500)])
def test_geometry_is_torchvisions(size: tuple[int, int]) -> None:
    presets = imports.torchvision("transforms._presets")
    theirs = presets.ImageClassification(crop_size=112, resize_size=128)
    ours = Preprocessing(size=(112, 112), resize="crop", crop_fraction=112 / 128)
    assert_near(ours(photo(*size)), theirs(photo(*size)), 0.3)


@pytest.mark.parametrize("size", [(301, 200), (200, 303), (257, 500), (1024, 501)])
@pytest.mark.parametrize("edge", [112, 113])
def test_the_middle_is_torchvisions_or_transformers_to_the_pixel(
    size: tuple[int, int], edge: int
) -> None:
    """Of noise, which half a pixel changes wholly."""
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    presets = imports.torchvision("transforms._presets")
    theirs = presets.ImageClassification(crop_size=edge, resize_size=128)
    ours = Preprocessing(size=(edge, edge), resize="crop", crop_fraction=edge / 128)
    assert_near(ours(image), theirs(image), 0.3)
    processor = pytest.importorskip("transformers").CLIPImageProcessor(
        size={"shortest_edge": 128}, crop_size=edge
    )
    given = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert_near(preprocessing_of(processor)(image), given, 0.3)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("fraction", [1.0, 0.8])
@pytest.mark.parametrize("size", [(300, 200), (120, 260)])
def test_the_view_lies_on_the_input(resize: str, fraction: float, size: tuple[int, int]) -> None:
    settings = Preprocessing(size=(96, 128), resize=resize, crop_fraction=fraction)
    image = photo(*size)
    view = settings.view(image)
    again = view.resize((128, 96), Image.Resampling.BILINEAR)
    difference = np.abs(np.asarray(again, float) - settings.pixels(image))
    assert difference.mean() < 3
    if resize != "squash":
        assert view.width / view.height == pytest.approx(128 / 96, rel=0.03)
    else:
        assert view.width / view.height == pytest.approx(size[0] / size[1], rel=0.03)


@pytest.mark.parametrize("resize", RESIZES)
def test_the_mask_lies_on_the_input(resize: str) -> None:
    image = Image.new("RGB", (300, 200))
    ImageDraw.Draw(image).rectangle((100, 60, 180, 150), fill="white")
    mask = np.asarray(image)[..., 0] > 0
    settings = Preprocessing(size=(96, 128), resize=resize, mean=(0, 0, 0), std=(1, 1, 1))
    shares = settings.mask(mask)
    assert shares.shape == (96, 128)
    assert 0 <= shares.min() <= shares.max() <= 1
    assert np.abs(shares - settings.pixels(image)[..., 0] / 255).mean() < 0.01


def test_a_mask_keeps_its_area() -> None:
    mask = np.zeros((200, 300), bool)
    mask[:50, :100] = True
    assert Preprocessing(size=(32, 32)).mask(mask).mean() == pytest.approx(mask.mean(), abs=1e-3)


def test_padding_is_the_mean_colour_in_the_input_and_nothing_in_the_mask() -> None:
    settings = Preprocessing(size=(100, 100), resize="pad")
    inputs = settings(Image.new("RGB", (200, 100), "white"))
    assert inputs[:, :20].abs().max() < 0.02
    assert settings.mask(np.ones((100, 200), bool))[:20].max() == 0
    assert settings.view(Image.new("RGB", (200, 100), "white")).getpixel((5, 5)) == (124, 116, 104)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_grey_network_is_padded_with_its_mean_too(mode: str) -> None:
    settings = Preprocessing(size=(8, 16), resize="pad", mean=(0.5,), std=(0.5,))
    inputs = settings(Image.new(mode, (8, 8), "white"))
    assert inputs.shape == (1, 8, 16)
    assert inputs[:, :, :3].abs().max() < 0.01
    assert inputs[:, :, 5:10].min() > 0.99


def test_the_view_is_no_larger_than_asked_and_never_enlarged() -> None:
    assert max(Preprocessing().view(photo(1000, 500), longest=320).size) == 320
    assert Preprocessing().view(photo(30, 20)).size == (30, 20)


@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    resize=st.sampled_from(RESIZES),
    fraction=st.floats(0.05, 1),
)
def test_any_photo_fits_any_size(size, target, resize, fraction) -> None:
    settings = Preprocessing(size=target, resize=resize, crop_fraction=fraction)
    image = Image.new("RGB", size, (10, 200, 30))
    assert settings(image).shape == (3, *target)
    assert settings.mask(np.ones(size[::-1], bool)).shape == target
    assert max(settings.view(image, longest=50).size) <= 50


def test_denormalize_inverts_normalize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)
    settings = Preprocessing(size=(8, 9))
    batch = torch.stack([settings.normalize(picture) for picture in pixels])
    assert np.array_equal(settings.denormalize(batch), pixels)
    assert np.array_equal(settings.denormalize(batch[0]), pixels[0])
    assert settings.denormalize(batch.to(torch.bfloat16)).shape == pixels.shape


def test_one_channel_reads_grey() -> None:
    settings = Preprocessing(size=(8, 9), mean=(0.5,), std=(0.25,))
    image = Image.new("RGB", (20, 20), (100, 100, 100))
    inputs = settings(image)
    assert inputs.shape == (1, 8, 9)
    assert inputs.unique().tolist() == pytest.approx([(100 / 255 - 0.5) / 0.25])
    assert settings.denormalize(inputs).shape == (8, 9, 3)
    assert (settings.denormalize(inputs) == 100).all()
    assert settings.view(image).mode == "RGB"


def test_a_network_that_reads_blue_first() -> None:
    image = Image.new("RGB", (20, 20), (200, 100, 50))
    mean, std = (0.5, 0.25, 0.125), (0.5, 1.0, 2.0)
    straight = Preprocessing(size=(8, 9), mean=mean, std=std)
    flipped = Preprocessing(size=(8, 9), mean=mean, std=std, channel_order="BGR")
    assert torch.equal(flipped(image), straight(image).flip(0))
    assert np.array_equal(flipped.pixels(image), straight.pixels(image))
    shown = flipped.denormalize(torch.stack([flipped(image)] * 2))
    assert shown.shape == (2, 8, 9, 3)
    assert (shown == (200, 100, 50)).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_every_interpolation(interpolation: str) -> None:
    assert Preprocessing(size=(8, 8), interpolation=interpolation)(photo()).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 5)}, "size"),
        ({"resize": "fit"}, "squash, crop or pad"),
        ({"interpolation": "cubic"}, "must be one of bilinear"),
        ({"crop_fraction": 0}, "above 0 and at most 1"),
        ({"crop_fraction": 1.5}, "above 0 and at most 1"),
        ({"mean": (0, 0)}, "one value a channel"),
        ({"mean": (0,) * 3, "std": (1,)}, "one value a channel"),
        ({"std": (1, 0, 1)}, "std must be positive"),
        ({"channel_order": "GBR"}, "channel_order 'GBR' must be RGB, or BGR for 3 channels"),
        ({"channel_order": "BGR", "mean": (0,), "std": (1,)}, "or BGR for 3 channels"),
    ],
)
def test_settings_that_make_no_sense(unchecked, settings: dict, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        Preprocessing(**settings)


@pytest.mark.parametrize(
    ("padding", "mode"), [("edge", "edge"), ("reflection", "reflect"), ("black", "constant")]
)
def test_what_is_put_around_a_photo(padding: str, mode: str) -> None:
    """Of the photo, of its mask, and of what is shown, the same."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 4, 3), dtype=np.uint8))
    made = Preprocessing(size=(8, 12), resize="pad", padding=padding)
    around = [(0, 0), (4, 4), (0, 0)]
    expected = np.pad(np.asarray(photo), around, mode=mode)
    assert np.array_equal(made.pixels(photo), expected)
    assert np.array_equal(np.asarray(made.view(photo)), expected)
    mask = np.random.default_rng(1).random((8, 4)).astype(np.float32)
    assert np.array_equal(made.mask(mask), np.pad(mask, around[:2], mode=mode))
    restored = made.restored(made.mask(mask), photo.size)
    assert np.allclose(restored, mask, atol=1e-6)


def test_an_unknown_padding(unchecked) -> None:
    with pytest.raises(ClassifierError, match="padding 'blue' must be one of mean, black"):
        Preprocessing(padding="blue")
