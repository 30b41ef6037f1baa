"""Which of several grids a tensor's cells are really on, by a look at what they look at."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from mitate.explain.grid import Grid, faded_noise, is_astray
from mitate.explain.hooks import Place
from mitate.explain.tap import Read, tapped_forward
from mitate.explain.tokens import learned_queries
from mitate.fusing import forgetting

NUMBERS_AT_ONCE = 1 << 24

# What was seen of a module's calls: a network does not change the order of its cells.
_seen: WeakKeyDictionary[nn.Module, dict[tuple[int, tuple[Grid, ...]], Grid | None]] = (
    WeakKeyDictionary()
)


def settled(
    network: nn.Module,
    inputs: Tensor,
    places: Sequence[tuple[Place, tuple[Grid, ...]]],
    read: Read,
) -> list[Grid | None]:
    """The grid of each place among its readings, or None where every one is astray.

    Channels first is believed where it is the sole reading: tokens and windows are what networks
    reorder. What needs a look is looked at once.
    """
    new = [
        (place, grids)
        for place, grids in places
        if not _is_sure(grids) and (place.call, grids) not in _seen.get(place.module, {})
    ]
    while new:
        some, numbers = [new.pop()], 0
        while new and numbers < NUMBERS_AT_ONCE:
            some.append(new.pop())
            numbers += some[-1][1][0].cells * some[-1][1][0].channels
        _look(network, inputs, some, read)
    return [
        next(iter(grids), None) if _is_sure(grids) else _seen[place.module][place.call, grids]
        for place, grids in places
    ]


def _is_sure(grids: tuple[Grid, ...]) -> bool:
    return not grids or (len(grids) == 1 and grids[0].layout == "channels first")


@forgetting()
def _look(
    network: nn.Module, inputs: Tensor, places: Sequence[tuple[Place, tuple[Grid, ...]]], read: Read
) -> None:
    taps = [place for place, _ in places]
    images, queries = faded_noise(inputs), learned_queries(network)
    given = [tapped_forward(network, image, taps, read=read).activations for image in images]
    for (place, grids), outputs in zip(places, zip(*given, strict=True), strict=True):
        fitting = (
            grid
            for grid in grids
            if not is_astray(
                *map(grid.faced, outputs),
                learned=grid.layout == "tokens" and grid.prefix + grid.cells in queries,
            )
        )
        _seen.setdefault(place.module, {})[place.call, grids] = next(fitting, None)
