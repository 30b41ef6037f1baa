"""Hugging Face image processors as mitate's preprocessing.

What a processor does is read from its settings, by the rules of its class, and then tried: photos
of both orientations must come out of the processor and of mitate's preprocessing alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mitate.errors import ClassifierError
from mitate.models.configs import input_channels_of, input_size
from mitate.models.preprocessing import Interpolation, Preprocessing, Resize
from mitate.models.probes import PROBES, TOLERANCE, apart, probe

Size = tuple[int, int]
RESAMPLING: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
WARPING = 384  # ConvNeXt's processor crops below this size and squashes from it on
INSTEAD = (
    "load the network with transformers and give mitate.Classifier.from_module(network, "
    "preprocessing=mitate.Preprocessing(...))"
)


class Geometry(NamedTuple):
    """Resized to a height and width, or to a length of the shorter edge, and then cropped."""

    resized: Size | int
    cropped: Size | None = None


def preprocessing_of(processor: Any, channels: int = 3) -> Preprocessing:
    """Give the preprocessing that makes of a photo what the processor makes of it.

    Args:
        processor: an image processor of transformers.
        channels: how many channels the network reads; 1 gives the processor grey photos.

    Raises:
        ClassifierError: the processor does something that ``Preprocessing`` cannot express.
    """
    kind = type(processor).__name__.removesuffix("Fast").removesuffix("Pil")
    settings = processor.to_dict()
    size, resize, fraction = _fitted(kind, _geometry(kind, settings))
    mean, std = _levels(kind, settings, channels)
    preprocessing = Preprocessing(
        size=size,
        resize=resize,
        crop_fraction=fraction,
        interpolation=_interpolation(kind, settings),
        mean=mean,
        std=std,
        channel_order="BGR" if settings.get("do_flip_channel_order") else "RGB",
        odd_crop="lower",
    )
    _check_alike(kind, processor, preprocessing, channels)
    return preprocessing


def assumed_preprocessing(config: Any) -> Preprocessing:
    """ImageNet's mean and std at the size and with the channels that a configuration tells."""
    default = Preprocessing(size=input_size(config) or Preprocessing().size)
    if input_channels_of(config) != 1:
        return default
    mean, std = (sum(values) / len(values) for values in (default.mean, default.std))
    return replace(default, mean=(mean,), std=(std,))


def _geometry(kind: str, settings: Mapping[str, Any]) -> Geometry:
    if not settings.get("do_resize"):
        raise _refused(kind, "does not resize photos")
    resized = _resized(kind, settings.get("size"))
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    cropped = _both_edges(crop) if crop else None
    percent = settings.get("crop_pct")
    match kind, resized:
        case "SegformerImageProcessor", _:
            return Geometry(resized)
        case "ConvNextImageProcessor", int(edge):
            if edge >= WARPING:
                return Geometry((edge, edge), cropped)
            return Geometry(int(edge / (percent or 224 / 256)), cropped or (edge, edge))
        case "LevitImageProcessor", int(edge):
            return Geometry(int(256 / 224 * edge), cropped)
        case "PoolFormerImageProcessor", int(edge) if percent:
            return Geometry(int(edge / percent), cropped)
        case "PoolFormerImageProcessor", (int(height), int(width)) if percent:
            scaled = int(height / percent), int(width / percent)
            return Geometry(scaled[0] if height == width else scaled, cropped)
        case "PerceiverImageProcessor", (int(), int()) if cropped:
            return Geometry(min(cropped), resized)
    return Geometry(resized, cropped)


def _resized(kind: str, size: Any) -> Size | int:
    given = {edge: value for edge, value in dict(size or {}).items() if value}
    match given:
        case {"height": int(height), "width": int(width), **others} if not others:
            return height, width
        case {"shortest_edge": int(edge), **others} if not others:
            return edge
    raise _refused(kind, f"resizes photos to {given}")


def _both_edges(size: Any) -> Size:
    if isinstance(size, int):
        return size, size
    return int(size["height"]), int(size["width"])


def _fitted(kind: str, geometry: Geometry) -> tuple[Size, Resize, float]:
    """Size, way of resizing, and the share that is kept."""
    resized, cropped = geometry
    if cropped is None:
        if isinstance(resized, int):
            raise _refused(kind, "makes an input of another shape of each photo")
        return resized, "squash", 1.0
    shares = _shares(cropped, resized)
    if isinstance(resized, int) and cropped[0] != cropped[1]:
        raise _refused(kind, f"cuts {cropped[0]}x{cropped[1]} px from photos of any shape")
    if abs(shares[0] - shares[1]) > 0.01:
        raise _refused(kind, "cuts height and width by different shares")
    if max(shares) > 1:
        raise _refused(kind, "pads photos with black")
    return cropped, "crop" if isinstance(resized, int) else "squash", min(shares)


def _shares(cropped: Size, resized: Size | int) -> tuple[float, float]:
    height, width = (resized, resized) if isinstance(resized, int) else resized
    return cropped[0] / height, cropped[1] / width


def _interpolation(kind: str, settings: Mapping[str, Any]) -> Interpolation:
    resample = settings.get("resample", 2)
    number = int(getattr(resample, "value", resample)) if resample is not None else 2
    if number not in RESAMPLING:
        raise _refused(kind, f"resamples by Pillow's filter {number}")
    return RESAMPLING[number]


def _levels(
    kind: str, settings: Mapping[str, Any], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of values in [0, 1] that do what rescaling and normalising do to bytes."""
    normalized = settings.get("do_normalize") and kind != "MobileViTImageProcessor"
    mean = _by_channel(settings.get("image_mean") if normalized else 0.0, channels)
    std = _by_channel(settings.get("image_std") if normalized else 1.0, channels)
    rescaled = bool(settings.get("do_rescale"))
    full = 255 * (float(settings.get("rescale_factor") or 1 / 255) if rescaled else 1.0)
    offset = 0.0
    if kind == "EfficientNetImageProcessor":
        offset = float(bool(rescaled and settings.get("rescale_offset")))
        if settings.get("include_top"):
            again = _by_channel(settings.get("image_std"), channels)
            std = tuple(s * t for s, t in zip(std, again, strict=True))
    return (
        tuple(round((m + offset) / full, 9) for m in mean),
        tuple(round(s / full, 9) for s in std),
    )


def _by_channel(values: Any, channels: int) -> tuple[float, ...]:
    if isinstance(values, Sequence | np.ndarray):
        return tuple(float(value) for value in values)
    return (float(values or 0.0),) * channels


def _check_alike(kind: str, processor: Any, ours: Preprocessing, channels: int) -> None:
    """Within two levels of 255, which is what rounding colours between two steps does."""
    for size in PROBES:
        photo = probe(size)
        try:
            given = photo.convert("L") if channels == 1 else photo
            theirs = processor(images=given, return_tensors="pt")["pixel_values"][0]
        except Exception as exc:  # processors raise anything on settings that they cannot follow
            raise _refused(kind, f"fails on a photo ({exc})") from exc
        mine = ours(photo)
        if theirs.shape != mine.shape:
            raise _refused(kind, f"gives inputs of shape {tuple(theirs.shape)}")
        if apart(theirs, mine, ours.std) > TOLERANCE:
            raise _refused(kind, "changes photos in a way of its own")


def _refused(kind: str, what: str) -> ClassifierError:
    return ClassifierError(
        f"the {kind} of this network {what}, which mitate's preprocessing cannot do: {INSTEAD}"
    )
