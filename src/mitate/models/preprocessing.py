"""From a photo to the network's input, and back to the picture of what the network saw."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mitate.errors import ClassifierError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Resize = Literal["squash", "crop", "pad"]
Padding = Literal["mean", "black", "edge", "reflection"]
OddCrop = Literal["even", "lower"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]
ChannelOrder = Literal["RGB", "BGR"]
PADDINGS = get_args(Padding)
ROUNDING = 1e-6  # of a division that ought to give a whole number
DRAWN_OUT: dict[str, Literal["edge", "reflect"]] = {"edge": "edge", "reflection": "reflect"}
RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the network's input.

    Attributes:
        size: height and width of the input in pixels.
        resize: ``squash`` the photo to the size; ``crop`` the largest centred part of the size's
            aspect; ``pad`` the whole photo.
        crop_fraction: the share of each side that ``squash`` and ``crop`` keep (timm's
            ``crop_pct``).
        interpolation: ``bilinear``, ``bicubic`` or ``lanczos``, antialiased, or ``nearest``.
        mean: subtracted from each channel, of values in [0, 1]; one value means a grey input.
        std: divides each channel.
        channel_order: ``BGR`` where the network reads blue first; ``mean`` and ``std`` stay in the
            order red, green, blue.
        padding: what ``pad`` puts around the photo: the ``mean`` colour, ``black``, its ``edge``
            drawn out, or its ``reflection``.
        odd_crop: where the middle begins that an odd number of pixels is cut from: at the ``even``
            one of the two pixels, as in torchvision and timm, or at the ``lower``, as in
            transformers.
    """

    size: tuple[int, int] = (224, 224)
    resize: Resize = "squash"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: ChannelOrder = "RGB"
    padding: Padding = "mean"
    odd_crop: OddCrop = "even"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ClassifierError(f"preprocessing: {problem}")

    def _problem(self) -> str | None:
        if len(self.size) != 2 or min(self.size) < 1:
            return f"size {self.size} must be (height, width) of 1 or more"
        if self.resize not in ("squash", "crop", "pad"):
            return f"resize {self.resize!r} must be squash, crop or pad"
        if self.odd_crop not in get_args(OddCrop):
            return f"odd_crop {self.odd_crop!r} must be even or lower"
        if self.padding not in PADDINGS:
            return f"padding {self.padding!r} must be one of {', '.join(PADDINGS)}"
        if self.interpolation not in RESAMPLING:
            return f"interpolation {self.interpolation!r} must be one of {', '.join(RESAMPLING)}"
        if not 0 < self.crop_fraction <= 1:
            return f"crop_fraction {self.crop_fraction} must be above 0 and at most 1"
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            return "mean and std must have one value a channel, for 1 or 3 channels"
        if self.channel_order not in (("RGB", "BGR") if len(self.mean) == 3 else ("RGB",)):
            return f"channel_order {self.channel_order!r} must be RGB, or BGR for 3 channels"
        return None if min(self.std) > 0 else "std must be positive"

    def __call__(self, photo: Image.Image) -> Float[Tensor, "channels H W"]:
        """Turn an RGB photo into the normalised input."""
        return self.normalize(self.pixels(photo))

    def pixels(self, photo: Image.Image) -> np.ndarray:
        """The resized photo as uint8 (H, W, channels), before normalisation."""
        height, width = self.size
        resized = self._fit(photo, (width, height), RESAMPLING[self.interpolation])
        grey = len(self.mean) == 1
        array = np.asarray(resized.convert("L" if grey else "RGB"))
        return array[..., None] if grey else array

    def normalize(self, pixels: np.ndarray) -> Float[Tensor, "channels H W"]:
        """Turn uint8 pixels (H, W, channels) into the input."""
        channels = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        mean, std = self._stats(channels)
        return self._reordered((channels - mean) / std)

    def denormalize(self, inputs: Float[Tensor, "*b channels H W"]) -> np.ndarray:
        """Turn inputs back into uint8 pictures (..., H, W, 3)."""
        mean, std = self._stats(inputs)
        levels = torch.addcmul(255 * mean, self._reordered(inputs.detach().float()), 255 * std)
        shown = levels.nan_to_num_(0).clamp_(0, 255).round_().byte()
        pixels = shown.movedim(-3, -1).contiguous().cpu().numpy()
        return np.repeat(pixels, 3, axis=-1) if len(self.mean) == 1 else pixels

    def view(self, photo: Image.Image, longest: int = 640) -> Image.Image:
        """The part of the photo that the network sees, undistorted, at most ``longest`` px."""
        if self.resize == "pad":
            scale = max(photo.width / self.size[1], photo.height / self.size[0])
            across, down = scale * self.size[1], scale * self.size[0]
        else:
            left, top, right, bottom = self._box(photo.size)
            across, down = right - left, bottom - top
        shrink = min(1.0, longest / max(across, down))
        size = (max(1, round(across * shrink)), max(1, round(down * shrink)))
        return self._fit(photo, size, Image.Resampling.BILINEAR).convert("RGB")

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask (h, w) of the photo, 0 to 1, to the input's pixels, as shares in [0, 1]."""
        image = Image.fromarray(mask.astype(np.float32))
        height, width = self.size
        fitted = self._fit(image, (width, height), Image.Resampling.BOX)
        return np.asarray(fitted, dtype=np.float32)

    def restored(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bring values (H, W) of the input's pixels back to a photo of this width and height.

        Bilinear; 0 where the photo has parts that the network does not see.
        """
        plane, whole = Image.fromarray(values.astype(np.float32)), np.zeros(size[::-1], np.float32)
        if self.resize == "pad":
            (left, top), (across, down) = self._inside(size, self.size[::-1])
            inner = plane.crop((left, top, left + across, top + down))
            return np.asarray(inner.resize(size, Image.Resampling.BILINEAR), np.float32)
        left, top, right, bottom = (round(side) for side in self._box(size))
        part = plane.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        whole[top:bottom, left:right] = np.asarray(part)
        return whole

    def _fit(
        self, photo: Image.Image, size: tuple[int, int], resample: Image.Resampling
    ) -> Image.Image:
        if self.resize == "pad":
            return self._padded(photo, size, resample)
        return photo.resize(size, resample, box=self._box(photo.size))

    def _box(self, photo: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the part of a photo that is seen.

        To the pixel as torchvision, timm and transformers have it: a whole number of pixels is cut
        from a photo that was scaled to a whole number of them.
        """
        (width, height), (down, across) = photo, self.size
        scaled = self._scaled(photo)
        cut = round if self.odd_crop == "even" else int
        left, top = cut((scaled[0] - across) / 2), cut((scaled[1] - down) / 2)
        wide, high = width / scaled[0], height / scaled[1]
        right, bottom = (left + across) * wide, (top + down) * high
        return left * wide, top * high, min(right, width), min(bottom, height)

    def _scaled(self, photo: tuple[int, int]) -> tuple[int, int]:
        """Width and height that the whole photo is scaled to, before its middle is kept."""
        (width, height), (down, across) = photo, self.size
        larger = [int(side / self.crop_fraction + ROUNDING) for side in (across, down)]
        if self.resize != "crop":
            return larger[0], larger[1]
        if width * larger[1] < height * larger[0]:
            return larger[0], max(down, int(larger[0] * height / width))
        return max(across, int(larger[1] * width / height)), larger[1]

    def _padded(
        self, photo: Image.Image, size: tuple[int, int], resample: Image.Resampling
    ) -> Image.Image:
        place, inner = self._inside(photo.size, size)
        if self.padding in DRAWN_OUT:
            return self._drawn_out(photo.resize(inner, resample), place, size)
        canvas = Image.new(photo.mode, size, self._padding(photo.mode))
        canvas.paste(photo.resize(inner, resample), place)
        return canvas

    def _drawn_out(
        self, inner: Image.Image, place: tuple[int, int], size: tuple[int, int]
    ) -> Image.Image:
        pixels = np.asarray(inner)
        sides = [
            (before, whole - before - own)
            for before, whole, own in zip(place[::-1], size[::-1], pixels.shape, strict=False)
        ]
        around = [*sides, *[(0, 0)] * (pixels.ndim - 2)]
        return Image.fromarray(np.pad(pixels, around, mode=DRAWN_OUT[self.padding]))

    def _inside(
        self, photo: tuple[int, int], size: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Left and top, and width and height, of a padded photo in a canvas of this size."""
        scale = min(size[0] / photo[0], size[1] / photo[1])
        inner = (max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale)))
        return ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2), inner

    def _padding(self, mode: str) -> Any:
        if self.padding == "black":
            return 0
        levels = tuple(round(255 * level) for level in self.mean)
        if mode == "L" and len(levels) == 1:
            return levels[0]
        alike = levels * 3 if len(levels) == 1 else levels
        return alike if mode == "RGB" and len(alike) == 3 else 0

    def _reordered(self, channels: Tensor) -> Tensor:
        return channels.flip(-3) if self.channel_order == "BGR" else channels

    def _stats(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(values, device=like.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return mean, std
