"""Altered images whose probability metrics ask for.

Each step is a value that says how an image is altered: equal steps of one contender are the same
forward, and a step that does not depend on the map is one forward for all contenders.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.tensors import rows

if TYPE_CHECKING:
    from mitate.auditing.sample import Contender, Sample

Pictures = Float[Tensor, "n channels H W"]
Owners = Int[Tensor, " n"]
IMPUTED = "imputed"


@dataclass(frozen=True)
class Whole:
    """The unaltered image, whose probability is known."""

    is_common = True


@dataclass(frozen=True)
class Nothing:
    """The filling alone."""

    filling: str
    is_common = True

    def pictures(self, sample: "Sample", contender: "Contender | None", owners: Owners) -> Pictures:
        """The owners' fillings."""
        return sample.filling(self.filling)[owners]


@dataclass(frozen=True)
class Without:
    """The image without a fraction of its pixels, those of the most or the least relevance.

    Attributes:
        first: which go first.
        fraction: of the pixels, over 0 and under 1.
        filling: what is seen in their place; ``imputed`` from what is left.
        ranking: ``pixels`` or ``cells``.
    """

    first: Literal["most", "least"]
    fraction: float
    filling: str
    ranking: str
    is_common = False

    def pictures(self, sample: "Sample", contender: "Contender | None", owners: Owners) -> Pictures:
        """The owners' images without these pixels."""
        assert contender is not None
        missing = self.missing(rows(contender.ranks(self.ranking), owners))
        return sample.filled(owners, missing, self.filling)

    def missing(self, ranks: Int[Tensor, "n H W"]) -> Bool[Tensor, "n H W"]:
        """Which pixels are taken away."""
        pixels = ranks[0].numel()
        taken = round(self.fraction * pixels)
        return ranks < taken if self.first == "most" else ranks >= pixels - taken


@dataclass(frozen=True)
class Shown:
    """The image times the map, from 0 to 1, over the filling."""

    filling: str
    is_common = False

    def pictures(self, sample: "Sample", contender: "Contender | None", owners: Owners) -> Pictures:
        """The owners' images, seen through their maps."""
        assert contender is not None
        share = contender.shown[owners][:, None]
        return share * sample.images[owners] + (1 - share) * sample.filling(self.filling)[owners]


@dataclass(frozen=True)
class Hidden:
    """The image without a region that is drawn, the same for every contender.

    Attributes:
        regions: how the regions are drawn.
        number: which of them.
        filling: what is seen in its place.
    """

    regions: "Regions"
    number: int
    filling: str
    is_common = True

    def pictures(self, sample: "Sample", contender: "Contender | None", owners: Owners) -> Pictures:
        """The owners' images without the region."""
        key = self.regions
        if key not in sample.kept:
            sample.kept[key] = key.drawn(sample.generators).to(sample.images.device)
        missing = key.pixels(sample.kept[key][owners, self.number], sample.size)
        return sample.filled(owners, missing, self.filling)


@dataclass(frozen=True)
class Regions:
    """Random regions: so many of the cells of a grid, or a square at a random place of it.

    Attributes:
        samples: how many regions.
        grid: cells along each side.
        share: of the cells that a region covers.
        square: whether they lie side by side.
    """

    samples: int
    grid: int
    share: float
    square: bool = False

    def drawn(self, generators: list[torch.Generator]) -> Bool[Tensor, "b samples grid grid"]:
        """Which cells each region covers, drawn for each image."""
        draw = self._square if self.square else self._scattered
        return torch.stack([draw(generator) for generator in generators])

    def pixels(
        self, cells: Bool[Tensor, "n grid grid"], size: tuple[int, int]
    ) -> Bool[Tensor, "n H W"]:
        """Regions at the pixels of an image: a pixel is of the cell that its centre lies in."""
        rows, columns = (self.cell_of(side, cells.device) for side in size)
        return cells[:, rows][:, :, columns]

    def cell_of(self, side: int, device: torch.device) -> Int[Tensor, " side"]:
        """The cell that each pixel along a side lies in."""
        centres = torch.arange(side, device=device) * 2 + 1
        return torch.div(centres * self.grid, 2 * side, rounding_mode="floor")

    def _scattered(self, generator: torch.Generator) -> Bool[Tensor, "samples grid grid"]:
        number = self.grid**2
        covered = min(max(round(self.share * number), 1), number - 1)
        places = torch.rand(self.samples, number, generator=generator, dtype=torch.float64)
        order = places.argsort(1)
        cells = torch.zeros(self.samples, number, dtype=torch.bool)
        return cells.scatter_(1, order[:, :covered], True).reshape(-1, self.grid, self.grid)

    def _square(self, generator: torch.Generator) -> Bool[Tensor, "samples grid grid"]:
        side = min(max(round(self.share**0.5 * self.grid), 1), self.grid - 1)
        corners = torch.randint(self.grid - side + 1, (self.samples, 2), generator=generator)
        places = torch.arange(self.grid)
        down, across = (
            (places >= corner[:, None]) & (places < corner[:, None] + side)
            for corner in corners.unbind(1)
        )
        squares: Tensor = down[:, :, None] & across[:, None, :]
        return squares


Step = Whole | Nothing | Without | Shown | Hidden


def curve(
    first: Literal["most", "least"],
    fractions: tuple[float, ...],
    filling: str,
    ranking: str,
) -> tuple[Step, ...]:
    """The steps of a curve, from the first fraction to the last; 0 is the image, 1 the filling."""
    ends: dict[float, Step] = {0.0: Whole(), 1.0: Nothing(filling)}
    return tuple(ends.get(f) or Without(first, f, filling, ranking) for f in fractions)
