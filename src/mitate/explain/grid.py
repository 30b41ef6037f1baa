"""Where the two spatial axes of an activation are, and how to bring them to the end."""

from collections.abc import Iterable, Iterator, Sequence
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
        return patches.reshape(*patches.shape[:-1], self.height, self.width)


def find_grid(
    shape: Sequence[int],
    input_size: tuple[int, int],
    module: nn.Module | None = None,
    prefix: int | None = None,
) -> Grid | None:
    """Find the grid in an activation's shape, or None where there is no grid of two cells or more.

    Four axes are believed where two have the input's aspect to within a cell of rounding and are
    no finer than it; of two readings the closer wins, and NCHW on a tie. Tokens are believed where
    they are as many as the cells that one stride cuts the input into. ``module`` settles the layout
    where its type does; ``prefix`` is the number of class and register tokens where the network
    tells it.
    """
    if len(shape) == 3:
        return _token_grid(shape, input_size, prefix)
    if len(shape) != 4:
        return None
    readings = [grid for grid in _four_axes(shape, module) if grid.height * grid.width > 1]
    believed = [grid for grid in readings if _is_likely(grid, input_size)]
    if not believed and isinstance(module, CHANNELS_FIRST):
        believed = readings
    return min(believed, key=lambda grid: _mismatch(grid, input_size), default=None)


def _four_axes(shape: Sequence[int], module: nn.Module | None) -> list[Grid]:
    _, a, b, c = shape
    first = Grid("channels first", b, c, a)
    last = Grid("channels last", a, b, c)
    if isinstance(module, CHANNELS_FIRST) or b == c == 1:
        return [first]
    # timm's LayerNorm2d is a LayerNorm too, and has its channels first.
    if isinstance(module, CHANNELS_LAST) or type(module) is nn.LayerNorm:
        return [last]
    return [first, last]


def _token_grid(
    shape: Sequence[int], input_size: tuple[int, int], prefix: int | None
) -> Grid | None:
    _, tokens, channels = shape
    # A network with prefix tokens may add them after the layer: then there are none yet.
    prefixes: Iterable[int] = range(MOST_PREFIX_TOKENS) if prefix is None else (prefix, 0)
    for skipped in prefixes:
        for height, width in _tilings(input_size):
            if height * width == tokens - skipped > 1:
                return Grid("tokens", height, width, channels, skipped)
    return None


def _tilings(input_size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of the tiles of every stride, finest first, cut off or padded at the end."""
    height, width = input_size
    for stride in range(1, max(input_size) + 1):
        yield height // stride, width // stride
        yield -(-height // stride), -(-width // stride)


def _is_likely(grid: Grid, input_size: tuple[int, int]) -> bool:
    if grid.height > input_size[0] or grid.width > input_size[1]:
        return False
    return _mismatch(grid, input_size) <= 1 / input_size[0] + 1 / input_size[1]


def _mismatch(grid: Grid, input_size: tuple[int, int]) -> float:
    return abs(grid.height / input_size[0] - grid.width / input_size[1])
