"""How well a segmentation covers the truth: Dice and IoU over the pixels of many images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HALF = 0.5
POOR = 0.5  # a Dice at which as much is drawn wrong as right


@dataclass(frozen=True)
class Overlaps:
    """Pixels that are drawn and true, drawn only, and true only, by image and region.

    Attributes:
        counts: (images, regions, 3).
    """

    counts: Int[Tensor, "n regions 3"]

    @classmethod
    def none(cls) -> "Overlaps":
        """Of no image; any can be added to it."""
        return cls(torch.zeros(1, 1, 3, dtype=torch.long))

    @classmethod
    def of(
        cls,
        drawn: Float[Tensor, "n regions h w"],
        truth: Float[Tensor, "n regions h w"],
        known: Bool[Tensor, "n 1 h w"],
    ) -> "Overlaps":
        """Where both count from one half up, at known pixels only."""
        there, true = (drawn >= HALF) & known, (truth >= HALF) & known
        kinds = (there & true, there & ~true, true & ~there)
        return cls(torch.stack([kind.sum((-2, -1)) for kind in kinds], dim=-1).cpu())

    def __add__(self, other: "Overlaps") -> "Overlaps":
        return Overlaps(self.counts + other.counts)

    def __getitem__(self, chosen: Bool[Tensor, " n"]) -> "Overlaps":
        return Overlaps(self.counts[chosen])

    def region(self, index: int) -> "Overlaps":
        """Of one region alone."""
        return Overlaps(self.counts[:, index : index + 1])

    def summed(self) -> "Overlaps":
        """All images and regions as one."""
        return Overlaps(self.counts.sum((0, 1), keepdim=True))

    def dice(self) -> float | None:
        """2 |A and B| / (|A| + |B|) over all pixels; None where nothing is drawn or true."""
        both, extra, missed = self.counts.sum((0, 1)).tolist()
        return 2 * both / (2 * both + extra + missed) if both + extra + missed else None

    def iou(self) -> float | None:
        """|A and B| / |A or B| over all pixels; None where nothing is drawn or true."""
        both, extra, missed = self.counts.sum((0, 1)).tolist()
        return both / (both + extra + missed) if both + extra + missed else None
