"""Whether the same pattern stands at the same pixels of several images: a stamp, a frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.auditing.reasons.evidence import batches
from mitate.auditing.reasons.photos import Images

WINDOW = 12  # windows have a twelfth of the image's shorter side
DRAWS = 19
TIMES = 1.5  # how much more than the best random set the members must agree


@dataclass(frozen=True)
class Pattern:
    """How far the edges of images agree in the window of a region where they agree most.

    Attributes:
        agreement: the mean correlation between the edges of two members; 0 where each image has
            its own, 1 where all are the same.
        by_chance: the most of random sets of other images, in the same region; NaN without others.
    """

    agreement: float
    by_chance: float

    @property
    def is_fixed(self) -> bool:
        """Whether the members agree half as much again as the best of the random sets, or more."""
        return bool(self.agreement > TIMES * self.by_chance)


def pattern(
    images: Images,
    members: Sequence[int],
    others: Sequence[int],
    region: Bool[np.ndarray, "H W"],
    *,
    seed: int,
    batch_size: int,
) -> Pattern:
    """Compare the edges of images in a region, pixel by pixel and with their sign.

    Symptoms lie a little elsewhere in each image, so that their edges cancel in the mean over the
    images; what is printed or mounted at one place does not. As many images as there are members
    are drawn from the others, 19 times: what all images share is no pattern of the members.

    Args:
        images: where they are read.
        members: at least two of them.
        others: images that are not in the group.
        region: where to look.
        seed: of the random sets.
        batch_size: images read at once.
    """
    rng = np.random.default_rng(seed)
    size = min(len(members), len(others))
    drawn = [rng.choice(np.asarray(others), size, replace=False) for _ in range(DRAWS)]
    sets = [np.asarray(members), *(drawn if size > 1 else [])]
    numbers = sorted({int(number) for chosen in sets for number in chosen})
    sums = squares = torch.zeros((), dtype=torch.float64)
    counts = torch.zeros(len(sets), dtype=torch.float64)
    for part in batches(numbers, batch_size):
        batch = images.read(part)
        if batch is not None:
            belongs = torch.from_numpy(
                np.stack([np.isin(batch.numbers, chosen) for chosen in sets])
            ).double()
            edges = _edges(batch.inputs.cpu().double())
            sums = sums + torch.tensordot(belongs, edges, 1)
            squares = squares + torch.tensordot(belongs, edges.square().sum(1), 1)
            counts += belongs.sum(1)
    agreements = _agreement(sums, squares, counts, region)
    chance = float(agreements[1:].max()) if len(sets) > 1 else float("nan")
    return Pattern(float(agreements[0]), chance)


def _agreement(
    sums: Float[Tensor, "sets edges h w"],
    squares: Float[Tensor, "sets h w"],
    counts: Float[Tensor, " sets"],
    region: Bool[np.ndarray, "H W"],
) -> Float[Tensor, " sets"]:
    """The mean of the edges' products over pairs of images, relative to that with themselves."""
    inside = torch.from_numpy(region[1:, 1:]).double()
    side = max(2, min(region.shape) // WINDOW)
    pairs = ((sums.square().sum(1) - squares) / (counts * (counts - 1))[:, None, None]) * inside
    alone = (squares / counts[:, None, None]) * inside
    products, energy = (
        F.avg_pool2d(part[:, None], min(side, *part.shape[-2:]), stride=max(1, side // 2))
        for part in (pairs, alone)
    )
    # A window without edges to speak of agrees in nothing: its share would be noise over noise.
    enough = energy > 0.25 * energy.amax((2, 3), keepdim=True)
    shares = torch.where(enough, products / torch.where(enough, energy, 1), 0)
    return shares.flatten(1).amax(1)


def _edges(inputs: Float[Tensor, "b channels H W"]) -> Float[Tensor, "b edges h w"]:
    """Differences from the pixel above and from the one at the left, in each channel."""
    here = inputs[:, :, 1:, 1:]
    return torch.cat([here - inputs[:, :, :-1, 1:], here - inputs[:, :, 1:, :-1]], dim=1)
