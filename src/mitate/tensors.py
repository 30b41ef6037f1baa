"""Small operations on tensors that several rooms need."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.errors import UsageError

RESIZE_MODES = ("bilinear", "bicubic", "nearest")


def generators(seed: int, images: Sequence[Tensor]) -> list[torch.Generator]:
    """Give each image a CPU generator of its own, without touching the global state.

    It is seeded by ``seed`` and the image's numbers, so that an image draws the same in any batch
    and two images draw independently.
    """
    return seeded(seeds(seed, images))


def seeds(seed: int, images: Sequence[Tensor]) -> list[int]:
    """What each image's generator is seeded by."""
    return [_seed_of((seed, image)) for image in images]


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """New CPU generators of these seeds."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def generator_of(*parts: object) -> torch.Generator:
    """A CPU generator that is seeded by all of some numbers, words and tensors.

    Not by a number alone: what is drawn would be the same as what others drew from that seed, such
    as a network's own weights, or an image of noise.
    """
    return torch.Generator().manual_seed(_seed_of(parts))


def with_noise(
    images: Float[Tensor, "b channels *pixels"],
    spread: float,
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "b channels *pixels"]:
    """Add Gaussian noise whose deviation is ``spread`` of each image's range.

    Raises:
        UsageError: a negative spread.
    """
    if spread < 0:
        raise UsageError(f"spread is {spread:g}: use a share of the image's range, 0 or more")
    low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
    deviation = (spread * (high - low)).reshape(-1, *[1] * (images.ndim - 1))
    noise = [
        torch.randn(image.shape, generator=generator, dtype=torch.float64)
        for image, generator in zip(images, generators, strict=True)
    ]
    return images + deviation * torch.stack(noise).to(images)


def _seed_of(parts: Sequence[object]) -> int:
    told = [
        part.detach().cpu().double().contiguous().numpy().tobytes()
        if isinstance(part, Tensor)
        else str(part).encode()
        for part in parts
    ]
    return int.from_bytes(sha256(b":".join(told)).digest()[:8], "big") >> 1


def digest_of(*tensors: Tensor) -> str:
    """SHA-256 of the numbers of tensors, their types and their shapes."""
    found = sha256()
    for tensor in tensors:
        found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        found.update(numbers.numpy().tobytes())
    return found.hexdigest()


def at_least_single(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Raise half precision to float32, where sums over channels and tiny products are safe."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def recordable(tensor: Tensor) -> Tensor:
    """The tensor; of one that ``torch.inference_mode`` made a copy, which autograd takes.

    To be called where that mode is off.
    """
    return tensor.clone() if tensor.is_inference() else tensor


def exact(tensor: Tensor) -> Float[Tensor, "..."]:
    """Raise to double precision, on the CPU where the tensor's device has none (a Mac's)."""
    return (tensor if has_doubles(tensor.device) else tensor.cpu()).double()


@cache
def has_doubles(device: torch.device) -> bool:
    """Whether a device has double precision."""
    try:
        torch.zeros((), device=device).double()
    except torch.OutOfMemoryError:  # which tells nothing of it
        raise
    except (TypeError, RuntimeError):  # as mps and as other backends word it
        return False
    return True


def varies(maps: Float[Tensor, "*n h w"]) -> Bool[Tensor, "*n"]:
    """Whether each map takes more than one value over space."""
    return maps.amax((-2, -1)) > maps.amin((-2, -1))


def resize_maps(
    maps: Float[Tensor, "b k *cells"], size: Sequence[int], mode: str = "bilinear"
) -> Float[Tensor, "b k *pixels"]:
    """Resize all maps to ``size`` (height, width), of volumes with a depth first, at once.

    The result is clipped to the range of each map, which bicubic interpolation overshoots. For
    volumes ``bilinear`` is linear along each axis.

    Raises:
        UsageError: an unknown mode, or bicubic for a volume.
    """
    if len(size) != maps.ndim - 2 or min(size) < 1:
        sides = "depth, height and width" if maps.ndim == 5 else "height and width"
        raise UsageError(f"size is {tuple(size)}: give {sides} in pixels, 1 or more")
    axes = tuple(range(-len(size), 0))
    if mode not in RESIZE_MODES:
        raise UsageError(f"unknown resize mode {mode!r}: use one of {', '.join(RESIZE_MODES)}")
    if mode == "bicubic" and len(size) == 3:
        raise UsageError("maps of volumes cannot be resized bicubically: use bilinear or nearest")
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    exact = at_least_single(maps)
    if mode == "nearest":
        return F.interpolate(exact, tuple(size), mode=mode).to(maps.dtype)
    linear = "trilinear" if len(size) == 3 else mode
    resized = F.interpolate(exact, tuple(size), mode=linear, align_corners=False)
    low, high = exact.amin(axes, keepdim=True), exact.amax(axes, keepdim=True)
    return resized.clamp(low, high).to(maps.dtype)


def resizing(cells: int, pixels: int) -> Float[Tensor, "pixels cells"]:
    """The matrix that resizes a side linearly, as ``F.interpolate`` does.

    Two products resize a map, ``resizing(h, H) @ map @ resizing(w, W).mT``; the backward of the
    interpolation of one channel takes ten times theirs on a CPU (torch 2.13).
    """
    alone = torch.eye(cells, dtype=torch.float64)
    return F.interpolate(alone[None], pixels, mode="linear", align_corners=False)[0].mT


def rows(tensor: Tensor, numbers: Int[Tensor, " n"]) -> Tensor:
    """The rows of these numbers: a view, not a copy, where each is one more than the last."""
    if len(numbers) and bool((numbers.diff() == 1).all()):
        return tensor[int(numbers[0]) : int(numbers[-1]) + 1]
    return tensor[numbers]


def replaced(
    images: Float[Tensor, "n channels H W"],
    missing: Bool[Tensor, "n H W"],
    behind: Float[Tensor, "n channels H W"],
) -> Float[Tensor, "n channels H W"]:
    """Images with what lies behind them where pixels are missing; exact, and fast on a CPU.

    ``torch.where`` does the same in five times the time there (torch 2.13).
    """
    return torch.lerp(images, behind.to(images.dtype), missing[:, None].to(images.dtype))


def relative_to_maximum(maps: Float[Tensor, "b k *cells"]) -> Float[Tensor, "b k *cells"]:
    """Divide each map by its largest absolute value; a map of zeros stays zero."""
    peak = maps.abs().amax(tuple(range(2, maps.ndim)), keepdim=True)
    return torch.where(peak > 0, maps / torch.where(peak > 0, peak, 1), 0)


def to_unit_range(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Scale each map from its minimum and maximum to [0, 1]; a constant map becomes zero."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1), 0)
