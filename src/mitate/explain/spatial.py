"""The calls in a forward that give something spatial, as a trace shows them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mitate.explain.grid import Grid, readings
from mitate.explain.tokens import possible_prefixes
from mitate.explain.trace import Call, trace

PASSING_ON = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
POOLING = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
ATTENTION = re.compile(r"[aA]tt(n|ention)?(?![a-z])(?!(Conv|Linear)?Proj)")
MOST_OF_THE_NETWORK = 2 / 3
EATS_ITS_GRID = 1 / 3


@dataclass(frozen=True)
class Found:
    """A call in a trace whose tensor can be read as one grid or several, the likeliest first.

    Attributes:
        name: the module's path, with ``#call`` where the forward uses it several times.
        call: what was called, and what it gave.
        grids: one or more.
    """

    name: str
    call: Call
    grids: tuple[Grid, ...]


def spatial_calls(network: nn.Module, inputs: Tensor) -> list[Found]:
    """The calls in a forward that give something on a grid, in finishing order.

    Those that give the very same tensor are one; the outermost stands for it, short of one that
    holds most of the network. Pooling is left out, and so is what lies inside an attention module:
    queries and keys are no features of a place.
    """
    calls = trace(network, inputs)
    return _one_a_tensor(_spatial(network, inputs, calls))


def spatial_calls_of_images(network: nn.Module, inputs: Tensor) -> list[Found]:
    """Those that give something for each image of two, which tables of weights do not."""
    try:
        return spatial_calls(network, inputs[:1].expand(2, *inputs.shape[1:]))
    except Exception:  # a network of one image at a time, which raises what it likes
        return spatial_calls(network, inputs)


def _spatial(network: nn.Module, inputs: Tensor, calls: Sequence[Call]) -> Iterator[Found]:
    prefixes, inside = possible_prefixes(network), _inside_attention(network)
    uses = Counter(id(call.module) for call in calls)
    pooled = {_tensor_of(call) for call in calls if isinstance(call.module, POOLING)}
    fewest_cells = 1
    for call in calls:
        if call.output.shape[:1] != inputs.shape[:1] or not call.output.is_floating_point():
            continue
        grids = readings(call.output.shape, tuple(inputs.shape[2:]), call.module, prefixes)
        if _is_dense(call):
            fewest_cells = call.output[0, 0].numel()
        grids = tuple(grid for grid in grids if grid.cells > fewest_cells)
        kept = call.name and call.name not in inside and not isinstance(call.module, PASSING_ON)
        if kept and grids and _tensor_of(call) not in pooled:
            name = call.name if uses[id(call.module)] == 1 else f"{call.name}#{call.call}"
            yield Found(name, call, grids)


def _is_dense(call: Call) -> bool:
    """Whether a layer is a fully connected one written as a convolution, as in timm's VGG.

    Without padding it eats much of its grid, and what is left lies in the middle of the image.
    """
    module = call.module
    if type(module) is not nn.Conv2d or module.stride != (1, 1) or module.padding != (0, 0):
        return False
    eaten = module.kernel_size[0] - 1
    return eaten > EATS_ITS_GRID * (call.output.shape[-2] + eaten)


def _inside_attention(network: nn.Module) -> set[str]:
    """The names of what lies inside the innermost modules that call themselves attention."""
    attention = [
        name
        for name, module in network.named_modules()
        if any(True for _ in module.children())
        and (ATTENTION.search(name.split(".")[-1]) or ATTENTION.search(type(module).__name__))
    ]
    roots = tuple(
        f"{name}."
        for name in attention
        if name and not any(other.startswith(f"{name}.") for other in attention)
    )
    return {name for name, _ in network.named_modules() if name.startswith(roots)}


def _tensor_of(call: Call) -> tuple[int, int, int]:
    """The numbers themselves: a reshaped or permuted view of them is the same tensor."""
    return call.output.data_ptr(), call.output.numel(), call.version


def _one_a_tensor(spatial: Iterable[Found]) -> list[Found]:
    """Merge calls that give the same tensor into the outermost that holds not most of the network.

    What passes on a tensor that another layer made, such as a stochastic depth at rest or a block
    of several branches, is no layer of its own.
    """
    every = list(spatial)
    merged: dict[tuple[int, int, int], Found] = {}
    for one in every:
        made = merged.get(_tensor_of(one.call))
        if made is not None:
            outer = made.call.name.startswith(f"{one.call.name}.")
            if not outer or _holds_most(one.call, every):
                continue
            del merged[_tensor_of(one.call)]
        merged[_tensor_of(one.call)] = one
    return list(merged.values())


def _holds_most(call: Call, spatial: Sequence[Found]) -> bool:
    inside = sum(other.call.name.startswith(f"{call.name}.") for other in spatial)
    return inside >= MOST_OF_THE_NETWORK * len(spatial)
