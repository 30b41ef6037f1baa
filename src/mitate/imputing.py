"""Filling holes of images smoothly from what is left around them (Rong et al. 2022, sec. 4.2).

Each missing pixel is the weighted mean of its eight neighbours, 1/6 of those beside it and 1/12 of
those across, missing or not; at the border, of those that there are. The paper solves these
equations directly, and so does this module where a small region is missing in all images alike.
Otherwise they are solved by multigrid, then by conjugate gradients behind it, all images and
channels at once, because the equations of a large hole say that it is smooth, and what is smooth is
found on a coarse grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mitate import onednn

# Of Jacobi. They need no damping: with these weights one leaves a third of what changes from cell
# to cell, whichever way it changes.
SWEEPS, GUESSED_SWEEPS, LAST_SWEEPS = 3, 2, 8
# What a cell's neighbours weigh, in twelfths.
NEIGHBOURS = ((1.0, 2.0, 1.0), (2.0, 0.0, 2.0), (1.0, 2.0, 1.0))
NOISE = 0.01  # deviation of what ROAD adds, as a share of the image's range
SMALLEST, NARROWEST = 4, 2  # cells along the sides of the coarsest grid, or along one of them
LEAST = 1e-6  # under the share of a block that is known
DIRECT = 512  # equations that are solved faster at once than in cycles
# Every channel of every image is a channel of one picture, and channels lie last: a CPU's
# convolutions, means and enlargements then work on many at a time.
Planes = Float[Tensor, "1 planes H W"]


@dataclass(frozen=True)
class Level:
    """One grid.

    Attributes:
        holes: 1 where a cell is missing.
        degree: sum of the weights of the neighbours that there are, in twelfths.
        step: its inverse where a cell is missing, or else 0.
    """

    holes: Planes
    degree: Float[Tensor, "1 1 H W"]
    step: Planes

    def rest(self, values: Planes, right: Planes | float = 0.0) -> Planes:
        """What the equations of the missing cells are off by, in twelfths."""
        found = neighbour_sums(values).add_(right)
        return found.addcmul_(self.degree, values, value=-1).mul_(self.holes)

    def swept(self, values: Planes, first: Planes, sweeps: int) -> Planes:
        """Values after sweeps of the missing cells.

        What no sweep changes is in ``first``: what is known, or what a sweep from nothing gives.
        """
        for _ in range(sweeps):
            sums = neighbour_sums(values)
            values = torch.addcmul(first, self.step, sums, out=sums)
        return values


def impute(
    images: Float[Tensor, "b channels H W"], missing: Bool[Tensor, "b H W"], *, cycles: int = 1
) -> Float[Tensor, "b channels H W"]:
    """Images whose missing pixels are the weighted means of their neighbours.

    Args:
        images: in single or double precision.
        missing: the pixels that are imputed; the others stay as they are.
        cycles: of multigrid. Each leaves a quarter of the error or less; after one it is, for
            smooth holes of photos, about one per cent of the range (root mean square), which is the
            noise that ROAD adds.
    """
    holes = _holes(missing, images)
    kept, levels = _side_by_side(images) * (1 - holes), _levels(holes)
    planes = pulled(kept, holes, levels)
    if len(levels) > 1:
        found = _coarser(levels, levels[0].rest(planes))
        planes.addcmul_(holes, _enlarged(found, planes))
    planes = levels[0].swept(planes, kept, SWEEPS if len(levels) > 1 else LAST_SWEEPS)
    if cycles == 1:
        return planes.contiguous().reshape(images.shape)
    rest, way, slope = levels[0].rest(planes), None, None
    for _ in range(cycles - 1):
        found = _cycle(levels, rest)
        if way is not None and slope is not None:  # Polak and Ribiere's, from the way before
            found.addcmul_(_over(_dot(found, slope), _dot(way, slope)), way, value=-1)
        way, slope = found, levels[0].rest(found)  # the rest rises by the slope along the way
        length = _over(_dot(way, rest), -_dot(way, slope))
        planes = planes.addcmul(length, way)
        rest.addcmul_(length, slope)
    return planes.contiguous().reshape(images.shape)


def impute_region(
    images: Float[Tensor, "b channels H W"], region: Bool[Tensor, "H W"], *, cycles: int = 1
) -> Float[Tensor, "b channels H W"]:
    """The same for pixels that are missing in all images: only what surrounds them is looked at.

    The equations of missing pixels know of nothing beyond their neighbours, so that a small region
    costs little however large the images are.

    Args:
        images: in single or double precision.
        region: the pixels that are imputed in all of them.
        cycles: of multigrid, as of ``impute``; a small region is solved exactly.
    """
    if not region.any():
        return images
    rows, columns = _with_neighbours(region.any(1)), _with_neighbours(region.any(0))
    found, near, missing = images.clone(), images[..., rows, columns], region[rows, columns]
    if int(missing.sum()) <= DIRECT:
        found[..., region] = _solved(near, missing)
    else:
        every = missing.expand(len(images), -1, -1)
        found[..., rows, columns] = impute(near, every, cycles=cycles)
    return found


def _solved(
    images: Float[Tensor, "b channels H W"], missing: Bool[Tensor, "H W"]
) -> Float[Tensor, "b channels n"]:
    """The missing pixels, row by row."""
    places = missing.nonzero()
    apart = (places[:, None] - places).abs()  # rows and columns from each to each
    weights = torch.where(apart.amax(-1) <= 1, 3 - apart.sum(-1), 0).to(images.dtype)
    degree = _degree(images)[0, 0, missing]
    equations = degree.diag() - weights.fill_diagonal_(0)
    right = neighbour_sums(torch.where(missing, 0, images))[..., missing]
    factor = torch.linalg.cholesky(equations)
    return torch.cholesky_solve(right.flatten(0, 1).T, factor).T.reshape(right.shape)


def _with_neighbours(line: Bool[Tensor, " n"]) -> slice:
    """From the neighbour before the first to the neighbour behind the last."""
    places = line.nonzero()
    return slice(max(0, int(places.min()) - 1), int(places.max()) + 2)


def neighbour_sums(values: Float[Tensor, "b planes H W"]) -> Float[Tensor, "b planes H W"]:
    """What the neighbours that there are add up to, in twelfths."""
    if onednn.convolves(values):
        planes = values.shape[1]
        return F.conv2d(values, _kernel(planes), padding=1, groups=planes)
    # Other convolutions are slow, as of doubles on a CPU, or may round to TF32, as on a GPU.
    around = F.pad(values, (1, 1, 1, 1))
    rows = around[..., :-2, :] + around[..., 2:, :] + 2 * around[..., 1:-1, :]
    return rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1] - 4 * values


@lru_cache(maxsize=8)
def _kernel(planes: int) -> Float[Tensor, "planes 1 3 3"]:
    with torch.inference_mode(False):
        return torch.tensor(NEIGHBOURS).repeat(planes, 1, 1, 1)


def _side_by_side(images: Float[Tensor, "b channels H W"]) -> Planes:
    return images.flatten(0, 1)[None].contiguous(memory_format=torch.channels_last)


def _holes(missing: Bool[Tensor, "b H W"], images: Float[Tensor, "b channels H W"]) -> Planes:
    """1 where a pixel is missing, in the place of each channel of each image."""
    last = missing.permute(1, 2, 0).to(images.dtype).contiguous()
    return last.repeat_interleave(images.shape[1], -1)[None].permute(0, 3, 1, 2)


def pulled(kept: Planes, holes: Planes, levels: Sequence[Level] = ()) -> Planes:
    """A first guess: what is not known is taken from the means of ever larger blocks, and swept.

    Args:
        kept: what is known, zero where a cell is missing.
        holes: 1 where a cell is missing.
        levels: the grid and coarser ones; beyond them nothing is swept.
    """
    if max(kept.shape[-2:]) == 1:
        return kept
    share = 1 - F.avg_pool2d(holes, 2, ceil_mode=True)
    blocks = F.avg_pool2d(kept, 2, ceil_mode=True).div_(share.clamp_min(LEAST))
    coarse = pulled(blocks, share.eq(0).to(kept.dtype), levels[1:])
    values = torch.addcmul(kept, holes, _enlarged(coarse, kept))
    return levels[0].swept(values, kept, GUESSED_SWEEPS) if levels else values


def _levels(holes: Planes) -> list[Level]:
    """The grid and coarser ones, on which a cell is missing if all that it covers is."""
    degree = _degree(holes)
    levels = [Level(holes, degree, holes * (1 / degree))]
    if max(holes.shape[-2:]) <= SMALLEST or min(holes.shape[-2:]) <= NARROWEST:
        return levels
    return levels + _levels(F.avg_pool2d(holes, 2, ceil_mode=True).floor_())


def _degree(like: Tensor) -> Float[Tensor, "1 1 H W"]:
    """What the neighbours of each cell weigh, in twelfths: those of (1 2 1) x (1 2 1) around it."""
    lines = [like.new_full((cells,), 2.0) for cells in like.shape[-2:]]
    for line in lines:
        line[1:] += 1
        line[:-1] += 1
    return (torch.outer(*lines) - 4)[None, None]


def _cycle(levels: list[Level], right: Planes) -> Planes:
    """One V: what has to be added to the holes."""
    level, coarser = levels[0], levels[1:]
    first = level.step * right  # a sweep from nothing
    if not coarser:
        return level.swept(first, first, LAST_SWEEPS)
    values = level.swept(first, first, SWEEPS - 1)
    found = _coarser(levels, level.rest(values, right))
    values.addcmul_(level.holes, _enlarged(found, values))
    return level.swept(values, first, SWEEPS)


def _coarser(levels: list[Level], rest: Planes) -> Tensor:
    """What the next coarser grid says has to be added, from what the equations are off by."""
    # The sum over each block: a coarse grid's equations are four times as steep.
    blocks = 4 * F.avg_pool2d(rest, 2, ceil_mode=True)
    return _cycle(levels[1:], levels[1].holes * blocks)


def _dot(one: Planes, two: Planes) -> Float[Tensor, "1 planes 1 1"]:
    return (one * two).sum((-2, -1), keepdim=True)


def _over(number: Tensor, divisor: Tensor) -> Tensor:
    return torch.where(divisor == 0, 0, number / torch.where(divisor == 0, 1, divisor))


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(coarse, like.shape[-2:], mode="bilinear", align_corners=False)
