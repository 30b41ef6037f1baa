"""What a Hugging Face image processor makes of a photo, and what mitate's preprocessing makes."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.processors import assumed_preprocessing, preprocessing_of

pytest.importorskip("transformers")

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"height": 256, "width": 256}
SQUASHED = {
    "ViT": ("ViTImageProcessor", {}),
    "ViT, higher than wide": ("ViTImageProcessor", {"size": {"height": 96, "width": 48}}),
    "Swin": ("ViTImageProcessor", {**IMAGENET, "resample": 3}),
    "ConvNeXT from 384 on": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "BEiT": ("BeitImageProcessor", {"do_center_crop": False}),
    "SegFormer": ("SegformerImageProcessor", {"size": {"height": 128, "width": 128}}),
    "SigLIP": ("SiglipImageProcessor", {}),
    "nearest": ("ViTImageProcessor", {"resample": 0, "size": {"height": 64, "width": 64}}),
    "Lanczos": ("ViTImageProcessor", {"resample": 1}),
    "bytes": ("ViTImageProcessor", {"do_rescale": False, "do_normalize": False}),
    "half bytes": ("ViTImageProcessor", {"rescale_factor": 1 / 127.5}),
    "not normalised": ("ViTImageProcessor", {"do_normalize": False}),
    "EfficientNet": ("EfficientNetImageProcessor", {"size": SQUARE}),
    "EfficientNet, moved": (
        "EfficientNetImageProcessor",
        {"size": SQUARE, "rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
    ),
}
CROPPED = {
    "DeiT": ("DeiTImageProcessor", {}),
    "BEiT, cropped": ("BeitImageProcessor", {"size": SQUARE, "do_center_crop": True}),
    "ConvNeXT": ("ConvNextImageProcessor", {**IMAGENET, "size": {"shortest_edge": 224}}),
    "ConvNeXT, crop_pct": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 160}, "crop_pct": 0.95},
    ),
    "ResNet": (
        "ConvNextImageProcessor",
        {**IMAGENET, "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3},
    ),
    "MobileNetV2": ("MobileNetV2ImageProcessor", {}),
    "MobileViT": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 288}, "crop_size": SQUARE, "do_flip_channel_order": True},
    ),
    "BiT": ("BitImageProcessor", {"size": {"shortest_edge": 256}}),
    "CLIP": ("CLIPImageProcessor", {}),
    "LeViT": ("LevitImageProcessor", {}),
    "PoolFormer": ("PoolFormerImageProcessor", {}),
    "PoolFormer, square": (
        "PoolFormerImageProcessor",
        {"size": {"height": 224, "width": 224}, "crop_pct": 0.95},
    ),
    "Perceiver": ("PerceiverImageProcessor", {}),
}


def processor(kind: str, **settings: Any) -> Any:
    return getattr(imports.transformers(), kind)(**settings)


def photo(width: int, height: int) -> Image.Image:
    """Smooth in colour, with a disc and a bar."""
    y, x = np.mgrid[:height, :width]
    colours = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 20)], -1)
    image = Image.fromarray(colours.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 3, height // 4, width // 2, height // 2), fill=(250, 30, 30))
    draw.rectangle((width // 2, height // 2, width * 3 // 4, height * 3 // 4), fill=(10, 10, 200))
    return image


def levels_apart(theirs: Any, size: tuple[int, int]) -> torch.Tensor:
    """How far apart the two are, in levels of 255."""
    ours = preprocessing_of(theirs)
    mine, other = ours(photo(*size)), theirs(images=photo(*size), return_tensors="pt")
    assert mine.shape == other["pixel_values"][0].shape
    return ((mine - other["pixel_values"][0]) * torch.tensor(ours.std)[:, None, None]).abs() * 255


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (90, 70), (640, 480)])
@pytest.mark.parametrize("case", SQUASHED)
def test_a_squashed_photo_is_the_same(case: str, size: tuple[int, int]) -> None:
    kind, settings = SQUASHED[case]
    apart = levels_apart(processor(kind, **settings), size)
    assert float(apart.mean()) < 0.1
    if case != "nearest":
        # A filter that overshoots is clipped at other steps where an edge is black or white.
        assert float((apart > 1.1).float().mean()) < 0.005


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (160, 120), (640, 480)])
@pytest.mark.parametrize("case", CROPPED)
def test_a_cropped_photo_is_the_same_to_rounding(case: str, size: tuple[int, int]) -> None:
    kind, settings = CROPPED[case]
    # A processor resizes to whole pixels and cuts at whole pixels; mitate cuts where it is exact.
    assert float(levels_apart(processor(kind, **settings), size).mean()) < 3


def test_what_is_read_from_the_settings() -> None:
    settings = {**IMAGENET, "size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}
    found = preprocessing_of(processor("ConvNextImageProcessor", **settings))
    assert found.size == (224, 224)
    assert (found.resize, found.interpolation) == ("crop", "bicubic")
    assert found.crop_fraction == 224 / 256
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)
    squashed = preprocessing_of(processor("ViTImageProcessor"))
    assert (squashed.resize, squashed.crop_fraction) == ("squash", 1.0)
    assert (squashed.interpolation, squashed.mean) == ("bilinear", (0.5, 0.5, 0.5))
    flipped = preprocessing_of(processor(*CROPPED["MobileViT"][:1], **CROPPED["MobileViT"][1]))
    assert flipped.channel_order == "BGR"
    assert (flipped.mean, flipped.std) == ((0, 0, 0), (1, 1, 1))


def test_a_network_of_one_channel_reads_grey() -> None:
    theirs = processor("ViTImageProcessor", image_mean=[0.4], image_std=[0.2])
    ours = preprocessing_of(theirs, channels=1)
    grey = photo(300, 200).convert("L")
    expected = theirs(images=grey, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours(photo(300, 200)), expected, atol=2.1 / 255 / 0.2, rtol=0)
    assert ours.mean == (0.4,)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("ViTImageProcessor", {"do_resize": False}, "does not resize photos"),
        ("ViTImageProcessor", {"size": {"shortest_edge": 224}}, "of another shape of each photo"),
        ("ViTImageProcessor", {"size": {"longest_edge": 224}}, "resizes photos to"),
        ("ViTImageProcessor", {"size": {"max_height": 9, "max_width": 9}}, "resizes photos to"),
        ("ViTImageProcessor", {"resample": 4}, "resamples by Pillow's filter 4"),
        ("MobileViTImageProcessor", {}, "pads photos with black"),
        ("TextNetImageProcessor", {}, "of another shape of each photo"),
        ("Siglip2ImageProcessor", {}, "resizes photos to"),
        (
            "BitImageProcessor",
            {"crop_size": {"height": 224, "width": 160}},
            "cuts 224x160 px from photos of any shape",
        ),
        (
            "DeiTImageProcessor",
            {"size": SQUARE, "crop_size": {"height": 224, "width": 160}},
            "cuts height and width by different shares",
        ),
        ("ViTImageProcessor", {"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}, "one value a"),
        ("ImageGPTImageProcessor", {"clusters": [[0.0, 0, 0], [1, 1, 1]]}, "fails on|std must"),
    ],
)
def test_processors_that_mitate_cannot_follow(kind: str, settings: dict, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        preprocessing_of(processor(kind, **settings))


def test_a_way_of_its_own_is_noticed_and_names_the_way_out() -> None:
    class Inverting(imports.transformers().ViTImageProcessor):
        def __call__(self, *args, **kwargs):
            found = super().__call__(*args, **kwargs)
            found["pixel_values"] = -found["pixel_values"]
            return found

    with pytest.raises(
        ClassifierError, match=r"changes photos in a way.*from_module\(network, pre"
    ):
        preprocessing_of(Inverting())


def test_what_is_assumed_follows_the_network(hf_network) -> None:
    assumed = assumed_preprocessing(hf_network("vit").config)
    assert (assumed.size, assumed.mean) == ((32, 32), (0.485, 0.456, 0.406))
    assert assumed_preprocessing(hf_network("resnet").config).size == (224, 224)
    grey = assumed_preprocessing(hf_network("vit", num_channels=1).config)
    assert grey.mean == pytest.approx((0.449,))
    assert grey.std == pytest.approx((0.226,))
