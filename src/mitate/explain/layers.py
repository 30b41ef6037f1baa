"""Finding the layers that a map can be made at, and where their cells lie in the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain.grid import Grid, readings
from mitate.explain.hooks import SCRIPTED, Place
from mitate.explain.settling import settled
from mitate.explain.spatial import Found, spatial_calls, spatial_calls_of_images
from mitate.explain.tap import Read, tapped_forward
from mitate.explain.tokens import possible_prefixes
from mitate.fusing import forgetting
from mitate.tensors import generator_of

LOOKED_AT = 8  # layers at first, then twice as many each time
SMALL_STRIDE = 6  # pixels to a cell's side, and over; most networks have strides of 4 and 8
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
WHOLE_NUMBERS = (
    "the layers of this quantised network give whole numbers, which have no gradients and no maps: "
    "explain the network that it was made from, or use a method that needs no layer, such as "
    "occlusion or rise"
)

EXPORTED = (
    "this graph of plain operations, such as torch.export gives, calls no layers: explain the "
    "network that it was made from, or use a method that needs no layer, such as gradient, "
    "occlusion or rise"
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


def candidates(network: nn.Module, inputs: Tensor, *, read: Read) -> list[Layer]:
    """List the layers with a spatial grid, first to last, for inputs such as ``inputs`` (1, ...).

    They are those of ``spatial_calls``, less tokens and windows that are not in the order of their
    places, which a few noisy images tell (``is_astray``), and what is the same for every image,
    such as a table of relative positions.
    """
    found = spatial_calls_of_images(network, inputs)
    layers = _with_counts(network, inputs, _layers(found), read)
    places = [(layer.place, one.grids) for layer, one in zip(layers, found, strict=True)]
    grids = settled(network, inputs, places, read)
    return [replace(layer, grid=grid) for layer, grid in zip(layers, grids, strict=True) if grid]


def automatic(network: nn.Module, inputs: Tensor, *, read: Read) -> Layer:
    """Give the last layer with a spatial grid before pooling on whose cells the scores depend.

    Raises:
        LayerError: the network has no layer with a spatial grid.
    """
    found = spatial_calls(network, inputs)
    layers, grids = _layers(found), {one.name: one.grids for one in found}

    def grid_of(layer: Layer) -> Grid | None:
        (grid,) = settled(network, inputs, [(layer.place, grids[layer.name])], read)
        return grid

    lesser: list[Layer] = []
    for some in _from_the_last(layers):
        for layer in reversed(_with_counts(network, inputs, some, read)):
            if not all(_fitness(layer)):
                lesser.append(layer)
            elif grid := grid_of(layer):
                return replace(layer, grid=grid)
    for layer in sorted(lesser, key=_fitness, reverse=True):
        if grid := grid_of(layer):
            return replace(layer, grid=grid)
    if isinstance(network, torch.jit.ScriptModule):
        raise LayerError(SCRIPTED)
    if isinstance(network, torch.fx.GraphModule) and _calls_no_layer(network):
        raise LayerError(EXPORTED)
    if any(module.__module__.startswith(QUANTISED) for module in network.modules()):
        raise LayerError(WHOLE_NUMBERS)
    size = "x".join(str(side) for side in _size(inputs))
    raise LayerError(
        f"no layer of this {type(network).__name__} has a spatial grid of two cells or more at "
        f"{size} px: give larger images, or name a layer"
    )


def _calls_no_layer(network: torch.fx.GraphModule) -> bool:
    called = (node for node in network.graph.nodes if node.op == "call_module")
    return not any(node.users for node in called)  # nothing uses what guards the inputs' sizes


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


def _at_one_end(slopes: Float[Tensor, "b c *cells"]) -> bool:
    """Whether the scores depend on the first cell alone, or on the last."""
    reached = slopes.any(1).flatten(1).any(0)
    ends = bool(reached[0]) or bool(reached[-1])
    return len(reached) > 1 and int(reached.sum()) == 1 and ends


def _layers(found: Sequence[Found]) -> list[Layer]:
    """Layers on the likeliest of their grids."""
    return [Layer(one.name, one.call.module, one.call.call, one.grids[0]) for one in found]


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
    (grid,) = settled(network, inputs, [(place, grids)], read)
    if grid is not None:
        return grid
    layers = candidates(network, inputs, read=read)  # of all images: some may go other ways
    would_do = [layer.name for layer in layers if layer.counts and layer.name != place.name]
    # Of a part of the images, auto may have taken it, by the first of them.
    of_some = activation.shape[:1].numel() % len(inputs) > 0
    automatic_too = "" if of_some else ", or layer='auto'"
    fault = "whose cells look elsewhere than where they stand" if grids else "which is no grid"
    raise LayerError(
        f"layer {place.name!r} gives a tensor of shape {tuple(activation.shape)}, {fault} in the "
        f"image: use one such as {', '.join(would_do[-3:]) or '(none in this network)'}"
        f"{automatic_too}; `mitate layers` lists them"
    )


def _size(inputs: Tensor) -> tuple[int, ...]:
    return tuple(int(side) for side in inputs.shape[2:])


@forgetting()
def _with_counts(
    network: nn.Module, inputs: Tensor, layers: list[Layer], read: Read
) -> list[Layer]:
    """Tell which layers the scores depend on, by the gradient of a random sum of the scores.

    A layer gives the scores themselves where the first class depends on the first channel alone. Of
    a sequence that is read at one end, as a recurrent network's is, no map can be made either.
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
        counts = bool(spatial[:, 0].any()) and not _at_one_end(spatial[:, 0])
        scores = maybe and not spatial[:, 1:, 1:].any()
        told.append(replace(layer, counts=counts, scores=counts and scores))
    return told
