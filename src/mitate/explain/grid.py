"""Where the spatial axes of an activation are, and how to bring them to the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from mitate.tensors import at_least_single, generator_of

Layout = Literal["channels first", "channels last", "tokens"]

MOST_PREFIX_TOKENS = 16
CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
)
CHANNELS_LAST = (nn.Linear,)
MIXED_TOKENS = (nn.Conv1d, nn.BatchNorm1d, nn.InstanceNorm1d)
FAR = 0.15
ASTRAY = 0.6


@dataclass(frozen=True)
class Grid:
    """The spatial grid of an activation: layout, height, width, and tokens before the patches.

    A volume has a ``depth`` too. Its slices stand one below the other in what ``spatial`` gives.
    """

    layout: Layout
    height: int
    width: int
    channels: int
    prefix: int = 0
    depth: int | None = None

    @property
    def cells(self) -> int:
        """How many places the grid has."""
        return (self.depth or 1) * self.height * self.width

    def spatial(self, activation: Tensor) -> Tensor:
        """Give (..., channels, height, width) for any activation of this layout.

        A volume gives (..., channels, depth * height, width).
        """
        axes = 2 if self.depth is None else 3
        if self.layout == "tokens":
            patches = activation[..., self.prefix :, :].movedim(-1, -2)
            return patches.reshape(*patches.shape[:-1], -1, self.width)
        first = activation
        if self.layout == "channels last":
            first = activation.movedim(-1, -1 - axes)
        return first if self.depth is None else first.flatten(-3, -2)

    def laid(self, mask: Tensor) -> Tensor:
        """Give a mask (height, width) the layout of one image's activation, to multiply it."""
        if self.layout == "channels first":
            return mask
        if self.layout == "channels last":
            return mask[..., None]
        return torch.cat([mask.new_zeros(self.prefix), mask.flatten()])[:, None]

    def pooled(self, activation: Tensor) -> Tensor:
        """Give every cell, and every token before them, the mean of all."""
        axes = {"channels first": (-2, -1), "channels last": (-3, -2), "tokens": (-2,)}[self.layout]
        return activation.mean(axes, keepdim=True).expand_as(activation)

    def faced(self, activation: Tensor) -> Tensor:
        """Give (1, channels, height, width) of one image; of a volume one of each slice."""
        found = self.volume(self.spatial(activation))
        return found if self.depth is None else found.squeeze(0).movedim(-3, 0)

    def volume(self, maps: Tensor) -> Tensor:
        """Give (..., depth, height, width) for maps (..., depth * height, width) of a volume."""
        if self.depth is None:
            return maps
        return maps.reshape(*maps.shape[:-2], self.depth, self.height, self.width)


def find_grid(
    shape: Sequence[int],
    input_size: Sequence[int],
    module: nn.Module | None = None,
    prefixes: Sequence[int] = (0,),
) -> Grid | None:
    """Find the grid in an activation's shape, or None where there is no grid of two cells or more.

    It is the first of ``readings``.
    """
    return next(iter(readings(shape, input_size, module, prefixes)), None)


def readings(
    shape: Sequence[int],
    input_size: Sequence[int],
    module: nn.Module | None = None,
    prefixes: Sequence[int] = (0,),
) -> tuple[Grid, ...]:
    """Give every grid of two cells or more that a shape can be read as, the likeliest first.

    Four axes are believed where two have the input's aspect to within a cell of rounding and are
    no finer than it; of two readings the closer comes first, and NCHW on a tie. Five axes are read
    so where the input is a volume. Tokens are believed where they are as many as the cells that one
    stride cuts the input into; of a volume as many as so many slices of two or more. ``module``
    settles the layout where its type does; ``prefixes`` are the numbers of class and register
    tokens that the network may have.
    """
    if len(shape) == 3 and not isinstance(module, MIXED_TOKENS):
        return _token_grids(shape, input_size, prefixes)
    if len(shape) != len(input_size) + 2:
        return ()
    found = [grid for grid in _axes(shape, module) if grid.cells > 1]
    believed = [grid for grid in found if _is_likely(grid, input_size)]
    if not believed and isinstance(module, CHANNELS_FIRST):
        believed = found
    return tuple(sorted(believed, key=lambda grid: _mismatch(grid, input_size)))


def is_astray(plain: Tensor, noisy: Tensor, *faded: Tensor, learned: bool = False) -> bool:
    """Tell whether the cells of (slices, c, h, w) look elsewhere than where they stand.

    The share of a cell's change that is left when the noise in the image fades in along an axis is
    how far along this axis lies what the cell looks at. Cells out of order (a network that sorts
    its tokens by windows) spread over the image and do not follow their rows or columns; cells that
    look at everything alike do not spread, and are in no wrong place, unless they may be learned
    queries, which stand in none.

    Args:
        plain: what a layer gives for an image.
        noisy: for the image with noise all over.
        *faded: for the noise faded in from top to bottom, and from left to right.
        learned: whether they are as many as the network has learned queries.
    """
    start, *rest = (at_least_single(given) for given in (plain, noisy, *faded))
    change, *left = (given - start for given in rest)
    energy = change.square().sum(1)
    if not energy.isfinite().all():
        return False
    if not energy.any():
        return learned
    weights, spreads = energy / energy.sum(), False
    for axis, remainder in zip((-2, -1), left, strict=True):
        looked_at = (remainder * change).sum(1) / energy.clamp_min(energy.max() * 1e-12)
        stand = _ramp(energy, axis).expand_as(energy)
        looked_at, stand = (at - (weights * at).sum() for at in (looked_at, stand))
        spread = (weights * looked_at.square()).sum().sqrt()
        follow = (weights * looked_at * stand).sum()
        expected = spread * (weights * stand.square()).sum().sqrt()
        if spread > FAR and follow < ASTRAY * expected:
            return True
        spreads = spreads or bool(spread > FAR)
    return learned and not spreads


def faded_noise(inputs: Tensor) -> tuple[Tensor, ...]:
    """The first of the inputs: plain, with noise, and with this noise faded in along each axis."""
    image = inputs[:1]
    generator = generator_of("faded noise")
    drawn = torch.randn(image.shape, generator=generator).to(image)
    noise = drawn * (0.1 * image.std() or 0.1)
    return image, image + noise, *(image + noise * _ramp(noise, axis) for axis in (-2, -1))


def _ramp(like: Tensor, axis: int) -> Tensor:
    """Where the middles of cells lie along an axis, in shares of it; shaped to multiply."""
    number = like.shape[axis]
    middles = (torch.arange(number, device=like.device, dtype=like.dtype) + 0.5) / number
    return middles.reshape(-1, *[1] * (-1 - axis))


def _axes(shape: Sequence[int], module: nn.Module | None) -> list[Grid]:
    _, *axes = shape
    first = _grid("channels first", axes[0], axes[1:])
    last = _grid("channels last", axes[-1], axes[:-1])
    if isinstance(module, CHANNELS_FIRST) or first.cells == 1:
        return [first]
    # timm's LayerNorm2d is a LayerNorm too, and has its channels first.
    if isinstance(module, CHANNELS_LAST) or type(module) is nn.LayerNorm:
        return [last]
    return [first, last]


def _grid(layout: Layout, channels: int, sides: Sequence[int]) -> Grid:
    *depth, height, width = sides
    return Grid(layout, height, width, channels, depth=depth[0] if depth else None)


def _token_grids(
    shape: Sequence[int], input_size: Sequence[int], prefixes: Sequence[int]
) -> tuple[Grid, ...]:
    _, tokens, channels = shape
    if tokens in prefixes and tokens > 0:
        return ()
    found = [
        Grid("tokens", *sides, channels, prefix, depth)
        for prefix in prefixes
        if tokens - prefix > 1
        for depth, sides in _tiled(tokens - prefix, input_size)
    ]
    return tuple(sorted(found, key=lambda grid: _mismatch(grid, input_size)))


def _tiled(cells: int, input_size: Sequence[int]) -> Iterator[tuple[int | None, tuple[int, int]]]:
    """Depth, rows and columns of so many cells, a volume's of whole strides in depth first."""
    *volume, height, width = input_size
    tilings = _tilings(height, width)
    if not volume:
        if cells in tilings:
            yield None, tilings[cells]
        return
    (slices,) = volume
    depths = [depth for depth in range(1, slices + 1) if cells % depth == 0]
    for depth in sorted(depths, key=lambda depth: (slices % depth > 0, -depth)):
        if 1 < cells // depth in tilings:
            yield depth, tilings[cells // depth]


@lru_cache(maxsize=64)
def _tilings(height: int, width: int) -> dict[int, tuple[int, int]]:
    """Rows and columns by their product, for the tiles of every stride.

    They are cut off or padded at the end, or two strides wide and overlapping (as PiT's). Where
    products are alike the finest stride wins.
    """
    strides = range(max(height, width), 0, -1)
    overlapping = [(height // stride - 1, width // stride - 1) for stride in strides]
    padded = [(-(-height // stride), -(-width // stride)) for stride in strides]
    cut = [(height // stride, width // stride) for stride in strides]
    alternating = [tiling for pair in zip(padded, cut, strict=True) for tiling in pair]
    return {rows * columns: (rows, columns) for rows, columns in overlapping + alternating}


def _is_likely(grid: Grid, input_size: Sequence[int]) -> bool:
    sides = [side for side in (grid.depth, grid.height, grid.width) if side is not None]
    if any(side > limit for side, limit in zip(sides, input_size, strict=True)):
        return False
    return _mismatch(grid, input_size) <= 1 / input_size[-2] + 1 / input_size[-1]


def _mismatch(grid: Grid, input_size: Sequence[int]) -> float:
    return abs(grid.height / input_size[-2] - grid.width / input_size[-1])
