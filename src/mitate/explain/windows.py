"""Attention within windows (Swin, MaxViT), brought back to the grid that it is over.

Networks roll, pad and cut their grids in ways of their own. Where each cell goes is found by trial:
noise is added to some of the cells that come into a block, those of one bit of their number at a
time, and the tokens that change are theirs.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mitate.explain.grid import Grid
from mitate.tensors import generator_of

Diagonal = Callable[[Tensor], Tensor]  # from a block's input to each token's score with itself
PADDING = -1
CHANGED = 1e-5  # of the largest score or change

# What was found for a module and the shape of its input: it sorts its cells always alike.
_orders: WeakKeyDictionary[nn.Module, dict[Any, Tensor | None]] = WeakKeyDictionary()


def window_order(
    module: nn.Module, start: Tensor, grid: Grid, axis: int, diagonal: Diagonal
) -> Int[Tensor, "windows n"] | None:
    """The cell that each token of each window is, -1 for padding; None where it cannot be told.

    It cannot where a block mixes cells before it attends, or attends to a cell in several windows.

    Args:
        module: the block.
        start: what came into it, batch first.
        grid: where its cells are.
        axis: of the windows in what the block attends with, as ``windows_first`` has it.
        diagonal: runs the block and gives (b, heads, n), with the windows at that axis.
    """
    known = _orders.setdefault(module, {})
    key = (start.shape, axis)
    if key not in known:
        known[key] = _found(start, grid, lambda given: windows_first(diagonal(given), axis, 2))
    order = known[key]
    return None if order is None else order.to(start.device)


def windows_first(tensor: Tensor, axis: int, ends: int) -> Tensor:
    """(b x windows, ...) of a tensor that has its windows at another axis.

    Args:
        tensor: batch first, and at its end ``ends`` axes of heads and what is behind them.
        axis: where windows are: 0 in the batch already, 1 before the heads, 2 behind them.
        ends: how many there are without the windows.
    """
    if not axis:
        return tensor
    return tensor.movedim(axis - ends - 2, 1).flatten(0, 1)


def unwindowed(
    windows: Float[Tensor, "bw *others n n"], order: Int[Tensor, "windows n"], cells: int
) -> Float[Tensor, "b *others cells cells"]:
    """Matrices of windows as one over all cells; zero between windows, padding left out."""
    number, size = order.shape
    batch, others = len(windows) // number, windows.shape[1:-2]
    parts = windows.reshape(batch, number, -1, size, size).transpose(1, 2)
    places = torch.where(order == PADDING, cells, order)
    out = parts.new_zeros(*parts.shape[:2], cells + 1, cells + 1)
    out[:, :, places[:, :, None], places[:, None, :]] = parts
    return out[..., :cells, :cells].reshape(batch, *others, cells, cells)


def _found(start: Tensor, grid: Grid, diagonal: Diagonal) -> Tensor | None:
    plain = diagonal(start)
    numbers = torch.arange(1, grid.cells + 1, device=start.device)  # 0 is for padding
    generator = generator_of("windows")
    drawn = torch.randn(start.shape[1:], generator=generator).to(start) * (start.std() or 1)
    told = torch.zeros(plain.shape[0], plain.shape[-1], dtype=torch.long, device=start.device)
    for bit in range(grid.cells.bit_length()):
        chosen = grid.laid((numbers >> bit & 1).reshape(grid.height, grid.width).to(start))
        change = (diagonal(start + drawn * chosen) - plain).abs().sum(1)
        limit = CHANGED * torch.maximum(plain.abs().max(), change.max())
        told += (change > limit).long() << bit
    order = told.reshape(len(start), -1, told.shape[-1])[0] - 1
    once = torch.equal(order[order != PADDING].sort().values, numbers - 1)
    return order.cpu() if once else None
