"""Photos as training sees them: decoded once, resized, kept as bytes where memory allows."""

import math
from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mitate.data.decoding import read_image
from mitate.data.records import Record
from mitate.models.preprocessing import Preprocessing
from mitate.training.masks import LEVELS, TrueMasks

UNKNOWN = -1  # the level of pixels that nobody marked or left unmarked
MEMORY = 4 * 2**30


class Photos(TorchDataset[tuple[Tensor, int]]):
    """Pixels (channels, H, W) of bytes and class indices.

    Args:
        records: labelled images.
        class_names: gives each label its index.
        preprocessing: the classifier's own, so that training and use see the same geometry.
        masks: of the photos that have one.
        memory: bytes that decoded photos may take; what goes beyond is decoded anew each time.
    """

    def __init__(
        self,
        records: Sequence[Record],
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        masks: TrueMasks | None = None,
        memory: int = MEMORY,
    ) -> None:
        self.records, self.class_names = tuple(records), tuple(class_names)
        self.memory = memory
        self.preprocessing = preprocessing
        self.masks = masks
        index = {name: number for number, name in enumerate(class_names)}
        self.labels = [index[record.label or ""] for record in self.records]
        height, width = preprocessing.size
        planes = len(preprocessing.mean) + (masks is not None)
        self.most_kept = memory // (height * width * planes)
        self.kept: dict[int, np.ndarray] = {}
        self.kept_levels: dict[int, np.ndarray | None] = {}
        self.drawn: dict[int, np.ndarray] = {}  # a bit a pixel

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.pixels(index)
        return torch.from_numpy(pixels).permute(2, 0, 1), self.labels[index]

    def pixels(self, index: int) -> np.ndarray:
        """The resized photo, (H, W, channels) of bytes."""
        if index in self.kept:
            return self.kept[index]
        pixels = np.array(self.preprocessing.pixels(read_image(self.records[index].path)))
        if len(self.kept) < self.most_kept:
            self.kept[index] = pixels
        return pixels

    def levels(self, index: int) -> Tensor:
        """What the photo's mask says of each pixel (H, W): 0 to 255, or ``UNKNOWN``."""
        if index in self.drawn:
            bits = np.unpackbits(self.drawn[index], count=math.prod(self.preprocessing.size))
            return self._of_levels(LEVELS * bits.reshape(self.preprocessing.size))
        if index in self.kept_levels:
            return self._of_levels(self.kept_levels[index])
        path = self.records[index].path
        levels = self.masks.levels(path, self.preprocessing) if self.masks else None
        if len(self.kept_levels) < self.most_kept:
            self.kept_levels[index] = levels
        return self._of_levels(levels)

    def marked(self) -> "Photos":
        """Those that have a mask, by themselves."""
        with_mask = self.masks.paths if self.masks else frozenset()
        records = [record for record in self.records if record.path in with_mask]
        return Photos(records, self.class_names, self.preprocessing, self.masks, self.memory)

    def with_drawn(self, masks: Mapping[int, Bool[np.ndarray, "h w"]]) -> "Photos":
        """The same photos, some of which have other masks: of the input's size, by index."""
        photos = copy(self)
        photos.drawn = self.drawn | {n: np.packbits(mask) for n, mask in masks.items()}
        return photos

    def _of_levels(self, levels: np.ndarray | None) -> Tensor:
        if levels is None:
            return torch.full(self.preprocessing.size, UNKNOWN, dtype=torch.int16)
        return torch.from_numpy(levels).to(torch.int16)
