"""What an explainer gives: maps for a batch, with all that is needed to read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.estimating.estimate import joined as joined_estimates
from mitate.explain.flags import Flag, refound
from mitate.explain.targets import UNKNOWN
from mitate.models.tasks import Task, likelihood
from mitate.tensors import relative_to_maximum, resize_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of a batch of images.

    Attributes:
        maps: (b, k, h, w) on the layer's own grid, or the method's where it has one, as the method
            gave them; of volumes (b, k, d, h, w).
        classes: (b, k) the explained classes.
        logits: (b, classes) of the unmasked images.
        class_names: one name a class.
        method: the method's name.
        layer: the layer's name; of several, their names with ` + ` between.
        input_size: height and width of the network's input, of volumes with the depth first.
        flags: maps that are zero, constant or not finite, with the reason.
        names: one name an image, where known.
        labels: the true class of each image, -1 where it is not known.
        options: the method's options as they were used.
        seed: what random methods were seeded with.
        cost: forward-equivalents an image (forward and backward count 3).
        task: what the logits mean.
        fusion: how the maps of several layers became one; empty for a single layer.
        pictures: what the network saw of each photo; None for tensors of unknown origin.
        estimate: how far the maps may be from the exact ones; None where they are exact.
    """

    maps: Float[Tensor, "b k *cells"]
    classes: Int[Tensor, "b k"]
    logits: Float[Tensor, "b n"]
    class_names: tuple[str, ...]
    method: str
    layer: str
    input_size: tuple[int, ...]
    flags: tuple[Flag, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    cost: float = 0.0
    task: Task = "single-label"
    fusion: str = ""
    pictures: tuple[Image.Image, ...] | None = None
    estimate: Estimate | None = None

    @property
    def probabilities(self) -> Float[Tensor, "b k"]:
        """Probabilities of the explained classes; of a regression the values themselves."""
        return likelihood(self.task, self.logits).gather(1, self.classes)

    @property
    def predicted(self) -> Int[Tensor, " b"]:
        """The most probable class of each image."""
        return self.logits.argmax(-1)

    def __repr__(self) -> str:
        images, each, *cells = self.maps.shape
        grid = " x ".join(map(str, cells))
        return f"Explanation({images} x {each} maps of {grid}, {self.method} at {self.layer})"

    def __len__(self) -> int:
        return len(self.maps)

    def __iter__(self) -> Iterator["Explanation"]:
        return (self[index] for index in range(len(self)))

    def __getitem__(
        self, index: SupportsIndex | slice | Sequence[int] | Tensor | np.ndarray
    ) -> "Explanation":
        """The explanation of one image, of a slice, or of a list of them, still as a batch."""
        if isinstance(index, Tensor | np.ndarray):
            index = index.tolist()
        if isinstance(index, slice):
            kept = list(range(len(self))[index])
        elif isinstance(index, Sequence):
            if any(isinstance(one, bool) for one in index):
                raise TypeError("images are chosen by their numbers, not by true and false")
            kept = [self._number(one) for one in index]
        else:
            kept = [self._number(index)]
        return replace(
            self,
            maps=self.maps[kept],
            classes=self.classes[kept],
            logits=self.logits[kept],
            flags=tuple(
                replace(flag, image=place)
                for place, image in enumerate(kept)
                for flag in self.flags
                if flag.image == image
            ),
            names=tuple(self.names[i] for i in kept) if self.names else (),
            labels=tuple(self.labels[i] for i in kept) if self.labels else (),
            pictures=tuple(self.pictures[i] for i in kept) if self.pictures else None,
            estimate=self.estimate.of(kept) if self.estimate else None,
        )

    def _number(self, index: SupportsIndex) -> int:
        try:
            return range(len(self))[index]
        except IndexError as exc:
            raise IndexError(f"there is no image {index}: there are {len(self)}, from 0") from exc

    def name_of(self, image: int, target: int) -> str:
        """The class name of one map."""
        return self.class_names[int(self.classes[image, target])]

    def label_of(self, image: int) -> str | None:
        """The true class name of an image, or None."""
        label = self.labels[image] if self.labels else -1
        return self.class_names[label] if label >= 0 else None

    def flag_of(self, image: int, target: int) -> Flag | None:
        """The flag of one map, or None."""
        found = (flag for flag in self.flags if (flag.image, flag.target) == (image, target))
        return next(found, None)

    def resize(
        self, mode: str = "bilinear", size: Sequence[int] | None = None
    ) -> Float[Tensor, "b k *pixels"]:
        """The maps at ``size`` (default: the network's input), resized in one operation.

        Args:
            mode: ``bilinear``, ``bicubic`` (clipped back to each map's range; not of volumes) or
                ``nearest``.
            size: height and width in pixels, of volumes with the depth first.
        """
        if isinstance(size, int):
            raise UsageError(f"size is {size}: give height and width, such as ({size}, {size})")
        return resize_maps(self.maps, self.input_size if size is None else size, mode)

    def slice(self, place: int) -> "Explanation":
        """One slice of the volumes' input as an explanation of images, to be drawn.

        Args:
            place: along the input's depth; from the end where it is negative.

        Raises:
            UsageError: the maps are of images, or there is no such slice.
        """
        depth, *size = self.input_size if len(self.input_size) == 3 else (0, *self.input_size)
        if not -depth <= place < depth:
            why = f"it has {depth}" if depth else "these maps are of images, not of volumes"
            raise UsageError(f"there is no slice {place}: {why}")
        maps = resize_maps(self.maps, (depth, *self.maps.shape[3:]))[:, :, place]
        return replace(self, maps=maps, input_size=tuple(size), flags=refound(self.flags, maps))

    def normalized(self) -> Float[Tensor, "b k *cells"]:
        """The maps divided by their largest absolute value; what is not finite becomes 0."""
        return relative_to_maximum(self.maps.nan_to_num(0, 0, 0))

    @property
    def signed(self) -> bool:
        """Whether a map is negative anywhere."""
        return bool((self.maps < 0).any())

    def overlay(
        self,
        *,
        colormap: str | None = None,
        opacity: float | None = None,
        mode: str = "bicubic",
        signed: bool | None = None,
    ) -> list[list[Image.Image]]:
        """Draw every map over its picture: a list an image, of one picture a target.

        Args:
            colormap: any of matplotlib's; None takes one that is safe for colour-blind people.
            opacity: from 0, the picture alone, to 1; None takes 0.5.
            mode: how maps are resized.
            signed: whether colours run from -1 rather than from 0; None asks the maps.
        """
        from mitate.drawing.colour import OPACITY, overlay

        signed = self.signed if signed is None else signed
        chosen = default_colormap(colormap, signed)
        strength = OPACITY if opacity is None else opacity
        return [
            [
                overlay(
                    picture,
                    self.heat(index, target, picture.size, mode),
                    colormap=chosen,
                    opacity=strength,
                    signed=signed,
                )
                for target in range(self.classes.shape[1])
            ]
            for index, picture in enumerate(self.shown())
        ]

    def plot(
        self,
        *,
        colormap: str | None = None,
        opacity: float | None = None,
        mode: str = "bicubic",
        title: str = "",
    ) -> "Figure":
        """Draw one row an image: the picture at the left, then one overlay a target."""
        from mitate.explain.figure import draw

        return draw([self], colormap=colormap, opacity=opacity, mode=mode, title=title)

    def save(self, path: str | Path, *, half: bool = True) -> Path:
        """Write an ``.npz`` of native-grid maps and a JSON header; nothing in it is a pickle."""
        from mitate.explain.files import save

        return save(self, Path(path), half=half)

    @staticmethod
    def load(path: str | Path) -> "Explanation":
        """Read what ``save`` wrote (without the pictures)."""
        from mitate.explain.files import load

        return load(Path(path))

    def _repr_html_(self) -> str:
        from mitate.explain.figure import as_html

        return as_html(self)

    def shown(self) -> tuple[Image.Image, ...]:
        """The pictures, or white ones of the input's size where none are known."""
        if self.pictures:
            return self.pictures
        if len(self.input_size) == 3:
            raise UsageError("volumes cannot be drawn: draw one slice, explanation.slice(place)")
        height, width = self.input_size
        return tuple(Image.new("RGB", (width, height), "white") for _ in range(len(self)))

    def heat(
        self, image: int, target: int, size: tuple[int, int], mode: str = "bicubic"
    ) -> Float[np.ndarray, "height width"]:
        """One normalised map for a picture of ``size`` (width, height)."""
        chosen = self.maps[image : image + 1, target : target + 1].float().nan_to_num(0, 0, 0)
        resized = resize_maps(relative_to_maximum(chosen), (size[1], size[0]), mode)
        return resized[0, 0].detach().cpu().numpy()


def default_colormap(colormap: str | None, signed: bool) -> str:
    """The colormap that was asked for, or the one for maps with or without a negative side."""
    from mitate.drawing.colour import COLORMAP, DIVERGING

    return colormap or (DIVERGING if signed else COLORMAP)


def joined(parts: Sequence[Explanation]) -> Explanation:
    """One explanation of the batches that were explained one after the other.

    Names and pictures are kept where every part has them.

    Raises:
        UsageError: no part, or parts of another method, layer, or number of targets or classes.
    """
    if not parts:
        raise UsageError("there is no explanation to join")
    if len({(p.method, p.layer, p.maps.shape[1:], p.class_names, p.input_size) for p in parts}) > 1:
        raise UsageError(
            "explanations of different methods, layers, classes or sizes cannot be joined"
        )
    images = sum(len(part) for part in parts)
    return replace(
        parts[0],
        maps=torch.cat([part.maps for part in parts]),
        classes=torch.cat([part.classes for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        flags=tuple(_flags_of(parts)),
        names=_all_or_none([part.names for part in parts], parts) or (),
        labels=_joined_labels(parts),
        cost=sum(part.cost * len(part) for part in parts) / max(images, 1),
        pictures=_all_or_none([part.pictures or () for part in parts], parts),
        estimate=joined_estimates([part.estimate for part in parts]),
    )


def _flags_of(parts: Sequence[Explanation]) -> Iterator[Flag]:
    start = 0
    for part in parts:
        yield from (replace(flag, image=flag.image + start) for flag in part.flags)
        start += len(part)


def _joined_labels(parts: Sequence[Explanation]) -> tuple[int, ...]:
    if not any(part.labels for part in parts):
        return ()
    return tuple(label for part in parts for label in part.labels or [UNKNOWN] * len(part))


def _all_or_none(
    lists: Sequence[tuple[Any, ...]], parts: Sequence[Explanation]
) -> tuple[Any, ...] | None:
    if any(len(found) != len(part) for found, part in zip(lists, parts, strict=True)):
        return None
    return tuple(entry for found in lists for entry in found)
