"""Finding, naming and resolving layers."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain.grid import Grid, find_grid
from mitate.explain.tap import Call, Place, Read, tapped_forward, trace

LayerSpec = str | nn.Module
PASSING_ON = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
INSIDES = ("0", "0.model", "model", "module")
FASTAI = "0.model."


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
    """

    name: str
    module: nn.Module
    call: int
    grid: Grid
    counts: bool = True

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

    Layers that give the very same tensor are one; the outermost stands for it, short of one that
    holds half the network. Pooling is left out, and so is what lies inside an attention module:
    queries and keys are no features of a place.
    """
    size = (int(inputs.shape[-2]), int(inputs.shape[-1]))
    prefix = prefix_tokens(network)
    inside = _inside_attention(network)
    calls = trace(network, inputs)
    pooled = {_tensor_of(call) for call in calls if isinstance(call.module, POOLING)}
    spatial = [
        (call, grid)
        for call in calls
        if call.name
        and call.name not in inside
        and not isinstance(call.module, PASSING_ON)
        and _tensor_of(call) not in pooled
        and len(call.output) == len(inputs)
        and call.output.is_floating_point()
        and (grid := find_grid(call.output.shape, size, call.module, prefix))
    ]
    uses = Counter(id(call.module) for call in calls)
    layers = [
        Layer(
            call.name if uses[id(call.module)] == 1 else f"{call.name}#{call.call}",
            call.module,
            call.call,
            grid,
        )
        for call, grid in _one_a_tensor(spatial)
    ]
    return _with_counts(network, inputs, layers, read)


def automatic(network: nn.Module, inputs: Tensor, *, read: Read) -> Layer:
    """Give the last layer with a spatial grid before pooling on whose cells the scores depend.

    Raises:
        LayerError: the network has no layer with a spatial grid.
    """
    layers = candidates(network, inputs, read=read)
    chosen = automatic_of(layers)
    if chosen is None:
        raise LayerError(
            f"no layer of this {type(network).__name__} has a spatial grid of two cells or more at "
            f"{inputs.shape[-2]}x{inputs.shape[-1]} px: give larger images, or name a layer"
        )
    return chosen


def automatic_of(layers: Sequence[Layer]) -> Layer | None:
    """The layer that ``auto`` takes among candidates.

    Where no layer counts (a head of zeros gives no gradient to anything) it is the last one.
    """
    counting = [layer for layer in layers if layer.counts] or layers
    return counting[-1] if counting else None


def resolve(network: nn.Module, spec: LayerSpec) -> Place:
    """Find the module that ``spec`` means: a module, or a name with (negative) indices.

    A name may leave out the path to the network's inside (``stages.2`` in a fastai model whose
    network is ``0.model``) or carry fastai's ``0.model.`` where it is not needed; ``name#2`` is the
    third call of a module that a forward uses several times.

    Raises:
        LayerError: no such layer, with the nearest names.
    """
    if isinstance(spec, nn.Module):
        return Place(spec, _name_of(network, spec))
    path, mark, call = spec.partition("#")
    if mark and not re.fullmatch(r"-?[0-9]{1,6}", call):
        raise LayerError(f"layer {spec!r}: what follows # must be the number of a call, from 0")
    for root, inner in _beginnings(network, path):
        found = _descend(root, inner)
        if found is not None:
            return Place(found, _name_of(network, found) + mark + call, int(call) if call else -1)
    raise LayerError(_unknown(network, path))


def located(
    network: nn.Module, place: Place, inputs: Tensor, activation: Tensor, *, read: Read
) -> Grid:
    """Give the grid of a tapped activation.

    Raises:
        LayerError: the activation is not spatial; names layers that would do.
    """
    size = (int(inputs.shape[-2]), int(inputs.shape[-1]))
    grid = None
    if len(activation) == len(inputs):
        grid = find_grid(activation.shape, size, place.module, prefix_tokens(network))
    if grid is not None:
        return grid
    layers = candidates(network, inputs[:1], read=read)
    would_do = [layer.name for layer in layers if layer.counts]
    raise LayerError(
        f"layer {place.name!r} gives a tensor of shape {tuple(activation.shape)}, which has no "
        f"spatial grid: use one such as {', '.join(would_do[-3:]) or '(none in this network)'}, or "
        "layer='auto'; `mitate layers` lists them"
    )


def prefix_tokens(network: nn.Module) -> int | None:
    """The number of class and register tokens before the patches, where the network tells it."""
    for module in network.modules():
        number = getattr(module, "num_prefix_tokens", None)
        if isinstance(number, int):
            return number
    return None


def _inside_attention(network: nn.Module) -> set[str]:
    attention = [
        name
        for name, module in network.named_modules()
        if name.split(".")[-1].startswith("attn") or "Attention" in type(module).__name__
    ]
    roots = tuple(f"{name}." for name in attention if name)
    return {name for name, _ in network.named_modules() if name.startswith(roots)}


def _tensor_of(call: Call) -> tuple[int, int]:
    return id(call.output), call.version


def _one_a_tensor(spatial: list[tuple[Call, Grid]]) -> list[tuple[Call, Grid]]:
    """Merge calls that give the same tensor into the outermost that is not half the network."""
    merged: dict[tuple[int, int], tuple[Call, Grid]] = {}
    for call, grid in spatial:
        key = _tensor_of(call)
        if key in merged and _holds_half(call, spatial):
            continue
        merged.pop(key, None)
        merged[key] = (call, grid)
    return list(merged.values())


def _holds_half(call: Call, spatial: list[tuple[Call, Grid]]) -> bool:
    inside = sum(other.name.startswith(f"{call.name}.") for other, _ in spatial)
    return 2 * inside >= len(spatial)


def _with_counts(
    network: nn.Module, inputs: Tensor, layers: list[Layer], read: Read
) -> list[Layer]:
    """Tell which layers the scores depend on, by the gradient of a random sum of the scores."""
    if not layers:
        return []
    places = [layer.place for layer in layers]
    with torch.inference_mode(False), torch.enable_grad():
        forward = tapped_forward(network, inputs, places, read=read, gradients=True)
        weights = torch.randn(forward.logits.shape[1], generator=torch.Generator().manual_seed(0))
        score = (forward.logits * weights.to(forward.logits)).sum(1, keepdim=True)
        slopes = forward.gradients(score)
    return [
        replace(layer, counts=bool(layer.grid.spatial(slope).any()))
        for layer, slope in zip(layers, slopes, strict=True)
    ]


def _name_of(network: nn.Module, wanted: nn.Module) -> str:
    for name, module in network.named_modules():
        if module is wanted:
            return str(name)
    raise LayerError(
        f"the given {type(wanted).__name__} is not a layer of this network: take it from the "
        "network that is explained (a copy has other modules)"
    )


def _beginnings(network: nn.Module, path: str) -> Iterator[tuple[nn.Module, str]]:
    """Where a path may begin: at the top, there without fastai's prefix, or further inside."""
    yield network, path
    if path.startswith(FASTAI):
        yield network, path.removeprefix(FASTAI)
    if re.match(r"[A-Za-z_]", path):
        modules = dict(network.named_modules())
        yield from ((modules[name], path) for name in INSIDES if name in modules)


def _descend(root: nn.Module, path: str) -> nn.Module | None:
    module = root
    for step in path.split("."):
        children = dict(module.named_children())
        if step in children:
            module = children[step]
        elif re.fullmatch(r"-[1-9][0-9]{0,5}", step) and len(children) >= -int(step):
            module = list(children.values())[int(step)]
        else:
            return None
    return module


def _unknown(network: nn.Module, path: str) -> str:
    names = [name for name, _ in network.named_modules() if name]
    near = get_close_matches(path, names, n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(near or _siblings(network, path) or names[:3])}"
    return f"no layer is called {path!r}: {hint}; `mitate layers` lists the layers that would do"


def _siblings(network: nn.Module, path: str) -> list[str]:
    """The children of the longest beginning of a path that exists."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        parent = _descend(network, ".".join(parts[:depth]))
        if parent is not None:
            stem = _name_of(network, parent)
            return [f"{stem}.{child}" for child, _ in parent.named_children()][-3:]
    return []
