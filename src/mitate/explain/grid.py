"""Where the two spatial axes of an activation are, and how to bring them to the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Layout = Literal["channels first", "channels last", "tokens"]

MOST_PREFIX_TOKENS = 16
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
CHANNELS_LAST = (nn.Linear,)


@dataclass(frozen=True)
class Grid:
    """The spatial grid of an activation: layout, height, width, and tokens before the patches."""

    layout: Layout
    height: int
    width: int
    channels: int
    prefix: int = 0

    def spatial(self, activation: Tensor) -> Tensor:
        """Give (..., channels, height, width) for any activation of this layout, as a view."""
        if self.layout == "channels first":
            return activation
        if self.layout == "channels last":
            return activation.movedim(-1, -3)
        patches = activation[..., self.prefix :, :].movedim(-1, -2)
        return patches.unflatten(-1, (self.height, self.width))


def find_grid(
    shape: Sequence[int],
    input_size: tuple[int, int],
    module: nn.Module | None = None,
    prefix: int | None = None,
) -> Grid | None:
    """Find the grid in an activation's shape, or None where there is no grid of two cells or more.

    A grid is believed where it has the input's aspect to within a cell of rounding; among several
    readings the closest wins, and NCHW on a tie. ``module`` settles the layout where its type
    does; ``prefix`` is the number of class and register tokens where the network tells it.
    """
    if len(shape) == 4:
        readings = _four_axes(shape, module)
    elif len(shape) == 3:
        readings = _token_axes(shape, input_size, prefix)
    else:
        return None
    believed = [
        (mismatch, order, grid)
        for order, grid in enumerate(readings)
        if grid.height * grid.width > 1
        and (mismatch := _mismatch(grid, input_size)) <= _tolerance(input_size)
    ]
    if believed:
        return min(believed, key=lambda entry: entry[:2])[2]
    if isinstance(module, CHANNELS_FIRST) and len(shape) == 4 and shape[2] * shape[3] > 1:
        return Grid("channels first", shape[2], shape[3], shape[1])
    return None


def _four_axes(shape: Sequence[int], module: nn.Module | None) -> list[Grid]:
    _, a, b, c = shape
    first = Grid("channels first", b, c, a)
    last = Grid("channels last", a, b, c)
    if isinstance(module, CHANNELS_FIRST) or b == c == 1:
        return [first]
    if isinstance(module, CHANNELS_LAST) or type(module) is nn.LayerNorm:
        return [last]
    return [first, last]


def _token_axes(
    shape: Sequence[int], input_size: tuple[int, int], prefix: int | None
) -> list[Grid]:
    _, tokens, channels = shape
    choices = range(min(MOST_PREFIX_TOKENS, tokens)) if prefix is None else (prefix,)
    for skipped in choices:
        patches = tokens - skipped
        grids = [
            Grid("tokens", height, patches // height, channels, skipped)
            for height in range(1, patches + 1)
            if patches % height == 0
        ]
        exact = [grid for grid in grids if _mismatch(grid, input_size) <= _tolerance(input_size)]
        if exact:
            return exact
    return []


def _mismatch(grid: Grid, input_size: tuple[int, int]) -> float:
    return abs(grid.height / input_size[0] - grid.width / input_size[1])


def _tolerance(input_size: tuple[int, int]) -> float:
    return 1 / input_size[0] + 1 / input_size[1]
