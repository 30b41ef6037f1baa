"""Photos as training sees them: decoded once, resized, kept as bytes where memory allows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mitate.data.decoding import read_image
from mitate.data.records import Record
from mitate.models.preprocessing import Preprocessing

MEMORY = 4 * 2**30


class Photos(TorchDataset[tuple[Tensor, int]]):
    """Pixels (channels, H, W) of bytes and class indices.

    Args:
        records: labelled images.
        class_names: gives each label its index.
        preprocessing: the classifier's own, so that training and use see the same geometry.
        memory: bytes that decoded photos may take; what goes beyond is decoded anew each time.
    """

    def __init__(
        self,
        records: Sequence[Record],
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        memory: int = MEMORY,
    ) -> None:
        self.records = tuple(records)
        self.preprocessing = preprocessing
        index = {name: number for number, name in enumerate(class_names)}
        self.labels = [index[record.label or ""] for record in self.records]
        height, width = preprocessing.size
        self.most_kept = memory // (height * width * len(preprocessing.mean))
        self.kept: dict[int, np.ndarray] = {}

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
