"""Finding the layers that a map can be made at, and where their cells lie in the image."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain.grid import (
    MOST_PREFIX_TOKENS,
    Grid,
    faded_noise,
    is_astray,
    readings,
)
from mitate.explain.tap import SCRIPTED, Call, Place, Read, tapped_forward, trace
from mitate.fusing import forgetting
from mitate.tensors import generator_of

PASSING_ON = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
POOLING = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
ATTENTION = re.compile(r"[aA]tt(n|ention)?(?![a-z])(?!(Conv|Linear)?Proj)")
TOKEN = re.compile(r"token|cls|class_?emb|regist|prompt", re.IGNORECASE)
QUERIES = re.compile(r"latent|quer(y|ies)|slots?(_|$)", re.IGNORECASE)
MOST_OF_THE_NETWORK = 2 / 3
EATS_ITS_GRID = 1 / 3
LOOKED_AT = 8  # layers at first, then twice as many each time
SMALL_STRIDE = 6  # pixels to a cell's side, and over; most networks have strides of 4 and 8
NUMBERS_AT_ONCE = 1 << 24

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
WHOLE_NUMBERS = (
    "the layers of this quantised network give whole numbers, which have no gradients and no maps: "
    "explain the network that it was made from, or use a method that needs no layer, such as "
    "occlusion or rise"
)

# What was seen of a module's calls: a network does not change the order of its cells.
_seen: WeakKeyDictionary[nn.Module, dict[tuple[int, tuple[Grid, ...]], Grid | None]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class Layer:
    """A layer with a spatial grid that a map can be made at.

    Attributes:
        name: its path in the network, with ``#call`` where a forward uses the module several times.
        module: the module itself.
        call: which of its calls in a forward.
        grid: where the spatial axes of its output are.
        counts: whether the scores depend on its spatial cells (a ViT's last block fails this: its
            head reads the class token only).
        scores: whether its channels are the classes' scores, place by place: ``auto`` takes the
            features that they are read from.
    """

    name: str
    module: nn.Module
    call: int
    grid: Grid
    counts: bool = True
    scores: bool = False

    @property
    def place(self) -> Place:
        """Where the tap goes."""
        return Place(self.module, self.name, self.call)

    @property
    def type_name(self) -> str:
        """The module's class."""
        return type(self.module).__name__


@dataclass(frozen=True)
class Found:
    """A call in a trace whose tensor can be read as one grid or several, the likeliest first."""

    call: Call
    grids: tuple[Grid, ...]


def candidates(network: nn.Module, inputs: Tensor, *, read: Read) -> list[Layer]:
    """List the layers with a spatial grid, first to last, for inputs such as ``inputs`` (1, ...).

    Layers that give the very same tensor are one; the outermost stands for it, short of one that
    holds most of the network. Pooling is left out, and so is what lies inside an attention module:
    queries and keys are no features of a place. So are tokens and windows that are not in the order
    of their places, which a few noisy images tell (``is_astray``), and what is the same for every
    image, such as a table of relative positions.
    """
    layers, found = _layers_of_images(network, inputs)
    layers = _with_counts(network, inputs, layers, read)
    places = [(layer.place, one.grids) for layer, one in zip(layers, found, strict=True)]
    grids = _settled(network, inputs, places, read)
    return [replace(layer, grid=grid) for layer, grid in zip(layers, grids, strict=True) if grid]


def automatic(network: nn.Module, inputs: Tensor, *, read: Read) -> Layer:
    """Give the last layer with a spatial grid before pooling on whose cells the scores depend.

    Raises:
        LayerError: the network has no layer with a spatial grid.
    """
    layers, found = _layers(network, inputs)
    grids = {layer.name: one.grids for layer, one in zip(layers, found, strict=True)}

    def settled(layer: Layer) -> Grid | None:
        (grid,) = _settled(network, inputs, [(layer.place, grids[layer.name])], read)
        return grid

    lesser: list[Layer] = []
    for some in _from_the_last(layers):
        for layer in reversed(_with_counts(network, inputs, some, read)):
            if not all(_fitness(layer)):
                lesser.append(layer)
            elif grid := settled(layer):
                return replace(layer, grid=grid)
    for layer in sorted(lesser, key=_fitness, reverse=True):
        if grid := settled(layer):
            return replace(layer, grid=grid)
    if isinstance(network, torch.jit.ScriptModule):
        raise LayerError(SCRIPTED)
    if any(module.__module__.startswith(QUANTISED) for module in network.modules()):
        raise LayerError(WHOLE_NUMBERS)
    size = "x".join(str(side) for side in _size(inputs))
    raise LayerError(
        f"no layer of this {type(network).__name__} has a spatial grid of two cells or more at "
        f"{size} px: give larger images, or name a layer"
    )


def automatic_of(layers: Sequence[Layer]) -> Layer | None:
    """The layer that ``auto`` takes among candidates.

    Where no layer counts (a head of zeros gives no gradient to anything) it is the last one.
    """
    return max(reversed(layers), key=_fitness, default=None)


def automatic_pair(network: nn.Module, inputs: Tensor, *, read: Read) -> list[Layer]:
    """Give an early layer of small cells and the last layer, or the one that is both.

    Raises:
        LayerError: the network has no layer with a spatial grid.
    """
    last = automatic(network, inputs, read=read)
    early = early_of(candidates(network, inputs, read=read), _size(inputs)) or last
    return [last] if early.name == last.name else [early, last]


def early_of(layers: Sequence[Layer], input_size: Sequence[int]) -> Layer | None:
    """The layer among candidates whose cells are small: about four pixels to a side.

    It is the last of the outermost layers on the coarsest grid whose stride is under six pixels;
    where there is none, as in transformers of large patches, on the finest grid.
    """
    fit = [layer for layer in layers if layer.counts and not layer.scores]
    small = [layer for layer in fit if layer.grid.height * SMALL_STRIDE > input_size[-2]]
    cells = [layer.grid.cells for layer in small or fit]
    wanted = min(cells) if small else max(cells, default=0)
    alike = [layer for layer in fit if layer.grid.cells == wanted]
    return min(reversed(alike), key=lambda layer: layer.name.count("."), default=None)


def _from_the_last(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """A few layers at once: as a rule the last ones do, and nothing before them is recorded."""
    end, number = len(layers), LOOKED_AT
    while end > 0:
        yield list(layers[max(0, end - number) : end])
        end, number = end - number, 2 * number


def _fitness(layer: Layer) -> tuple[bool, bool]:
    return layer.counts, not layer.scores


def located(
    network: nn.Module, place: Place, inputs: Tensor, activation: Tensor, *, read: Read
) -> Grid:
    """Give the grid of a tapped activation.

    Raises:
        LayerError: the activation is not spatial; names layers that would do.
    """
    grids: tuple[Grid, ...] = ()
    if activation.shape[:1] == inputs.shape[:1]:
        prefixes = possible_prefixes(network)
        grids = readings(activation.shape, _size(inputs), place.module, prefixes)
    (grid,) = _settled(network, inputs, [(place, grids)], read)
    if grid is not None:
        return grid
    layers = candidates(network, inputs[:1], read=read)
    would_do = [layer.name for layer in layers if layer.counts]
    fault = "whose cells look elsewhere than where they stand" if grids else "which is no grid"
    raise LayerError(
        f"layer {place.name!r} gives a tensor of shape {tuple(activation.shape)}, {fault} in the "
        f"image: use one such as {', '.join(would_do[-3:]) or '(none in this network)'}, or "
        "layer='auto'; `mitate layers` lists them"
    )


def prefix_tokens(network: nn.Module) -> int | None:
    """The number of class and register tokens before the patches, where the network tells it."""
    for module in network.modules():
        number = getattr(module, "num_prefix_tokens", None)
        if isinstance(number, int):
            return number
    return None


def possible_prefixes(network: nn.Module) -> tuple[int, ...]:
    """How many tokens may stand before the patches, the likeliest number first.

    Where the network tells the number it is this one, or none in layers before they are added;
    otherwise any sum of the class, distillation and register tokens among its parameters.
    """
    told = prefix_tokens(network)
    if told is not None:
        return tuple(dict.fromkeys((told, 0)))
    sums = {0}
    for name, parameter in network.named_parameters():
        if TOKEN.search(name.split(".")[-1]):
            number = parameter.shape[-2] if parameter.ndim > 1 else 1
            sums |= {before + number for before in sums if before + number <= MOST_PREFIX_TOKENS}
    return tuple(sorted(sums))


def _learned_queries(network: nn.Module) -> set[int]:
    """How many queries the network has learned: a Perceiver's latents, a DETR's object queries."""
    return {
        parameter.shape[-2]
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and any(map(QUERIES.search, name.split(".")[-2:]))
    }


def _size(inputs: Tensor) -> tuple[int, ...]:
    return tuple(int(side) for side in inputs.shape[2:])


def _layers_of_images(network: nn.Module, inputs: Tensor) -> tuple[list[Layer], list[Found]]:
    """The layers that give something for each image of two, which tables of weights do not."""
    try:
        return _layers(network, inputs[:1].expand(2, *inputs.shape[1:]))
    except Exception:  # a network of one image at a time, which raises what it likes
        return _layers(network, inputs)


def _layers(network: nn.Module, inputs: Tensor) -> tuple[list[Layer], list[Found]]:
    """What a trace shows: layers, each with its likeliest grid, and the grids it can be read as."""
    calls = trace(network, inputs)
    uses = Counter(id(call.module) for call in calls)
    found = _one_a_tensor(_spatial(network, inputs, calls))
    layers = [
        Layer(
            call.name if uses[id(call.module)] == 1 else f"{call.name}#{call.call}",
            call.module,
            call.call,
            one.grids[0],
        )
        for one in found
        for call in [one.call]
    ]
    return layers, found


def _spatial(network: nn.Module, inputs: Tensor, calls: Sequence[Call]) -> Iterator[Found]:
    prefixes, inside = possible_prefixes(network), _inside_attention(network)
    pooled = {_tensor_of(call) for call in calls if isinstance(call.module, POOLING)}
    fewest_cells = 1
    for call in calls:
        if call.output.shape[:1] != inputs.shape[:1] or not call.output.is_floating_point():
            continue
        grids = readings(call.output.shape, _size(inputs), call.module, prefixes)
        if _is_dense(call):
            fewest_cells = call.output[0, 0].numel()
        grids = tuple(grid for grid in grids if grid.cells > fewest_cells)
        kept = call.name and call.name not in inside and not isinstance(call.module, PASSING_ON)
        if kept and grids and _tensor_of(call) not in pooled:
            yield Found(call, grids)


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


@forgetting()
def _with_counts(
    network: nn.Module, inputs: Tensor, layers: list[Layer], read: Read
) -> list[Layer]:
    """Tell which layers the scores depend on, by the gradient of a random sum of the scores.

    A layer gives the scores themselves where the first class depends on the first channel alone.
    """
    if not layers:
        return []
    places = [layer.place for layer in layers]
    with torch.inference_mode(False), torch.enable_grad():
        forward = tapped_forward(network, inputs, places, read=read, gradients=True)
        classes = forward.logits.shape[1]
        alike = [1 < layer.grid.channels == classes for layer in layers]
        weights = torch.randn(classes, generator=generator_of("scores"))
        score = (forward.logits * weights.to(forward.logits)).sum(1, keepdim=True)
        first = forward.logits[:, : any(alike)]
        slopes = forward.gradients(torch.cat([score, first], 1))
    told = []
    for layer, slope, maybe in zip(layers, slopes, alike, strict=True):
        spatial = layer.grid.spatial(slope)
        counts, scores = bool(spatial[:, 0].any()), maybe and not spatial[:, 1:, 1:].any()
        told.append(replace(layer, counts=counts, scores=counts and scores))
    return told


def _settled(
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
    images, queries = faded_noise(inputs), _learned_queries(network)
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
