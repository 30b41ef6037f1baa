"""How far a map that was made from a part of its evidence may be from the exact one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Estimate:
    """The error of estimated maps, and what they were estimated from.

    Attributes:
        error: of each map (b, k): 1 less its correlation over the grid with the exact map is
            estimated to be no more. 0 where nothing was left to estimate.
        scored: of each image (b,), the channels that were scored truly.
        channels: of each image (b,), those that the exact map takes.
    """

    error: Float[Tensor, "b k"]
    scored: Int[Tensor, " b"]
    channels: Int[Tensor, " b"]

    def of(self, images: Sequence[int]) -> "Estimate":
        """The estimate of some of the images."""
        kept = list(images)
        return Estimate(self.error[kept], self.scored[kept], self.channels[kept])

    def told(self) -> str:
        """What was saved, and at what price, in words."""
        scored, channels = int(self.scored.sum()), int(self.channels.sum())
        share = scored / channels if channels else 1.0
        return (
            f"{share:.0%} of the channels were scored ({scored} of {channels}); the correlation of "
            f"each map with the exact one is estimated to be at least {1 - self.error.max():.3f}, "
            f"and {1 - self.error.mean():.3f} in the mean"
        )


def joined(parts: Sequence[Estimate | None]) -> Estimate | None:
    """One estimate of batches of images; None where a batch has none."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Estimate(
        *(torch.cat([getattr(part, each.name) for part in known]) for each in fields(Estimate))
    )
