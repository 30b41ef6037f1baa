"""What operations add by themselves: explicit biases, and the implicit ones of all that bends.

A network without them would be homogeneous: its score would be its gradient times its input
(Srinivas and Fleuret 2019, arXiv:1905.00780). They are taken where functions of torch are called,
so that a batch norm with an activation inside, as timm has it, hides neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from mitate.errors import UsageError
from mitate.explain.grid import Layout, readings

BIASED_FIRST = {  # with how many axes their outputs have behind the channels
    F.conv1d: 1,
    F.conv2d: 2,
    F.conv3d: 3,
    F.conv_transpose1d: 1,
    F.conv_transpose2d: 2,
    F.conv_transpose3d: 3,
}
BENDING_FIRST = {F.group_norm, F.instance_norm}
BENDING_LAST = {F.layer_norm, F.rms_norm}
BENDING = {
    F.relu6,
    F.hardtanh,
    F.hardswish,
    F.hardsigmoid,
    F.silu,
    F.gelu,
    F.mish,
    F.elu,
    F.celu,
    F.selu,
    F.softplus,
    F.sigmoid,
    torch.sigmoid,
    Tensor.sigmoid,
    F.tanh,
    torch.tanh,
    Tensor.tanh,
}
ANY: tuple[Layout, ...] = ("channels first", "channels last", "tokens")
FIRST: tuple[Layout, ...] = ("channels first",)
LAST: tuple[Layout, ...] = ("channels last", "tokens")


@dataclass(frozen=True)
class FullGradient:
    """One score an image, taken apart: its terms add up to it.

    Attributes:
        spatial: the input times its gradient (b, channels, H, W), and then each bias times the
            gradient where it is added, (b, c, h, w) on the grid of its operation.
        rest: (b,), the sum of the terms that have no place, such as the head's biases.
    """

    spatial: tuple[Float[Tensor, "b _c _h _w"], ...]
    rest: Float[Tensor, " b"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        """The sum of all terms: the score, where no activations are multiplied by each other."""
        return self.rest + torch.stack([_sums(term, len(term)) for term in self.spatial]).sum(0)


@dataclass(frozen=True)
class Bias:
    """What an operation added to its output.

    Attributes:
        place: of the operation's output in the graph, whatever writes over that later.
        added: what of it is not linear in its input; of the output's shape or such as broadcasts.
        layouts: how the output may be read.
    """

    place: GradientEdge
    added: Tensor
    layouts: tuple[Layout, ...]


class BiasTap(TorchFunctionMode):
    """Keeps every bias while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Bias] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note what a function adds, before it may write over its input."""
        given = dict(kwargs or {})
        found = _bias(func, args, given)
        output = func(*args, **given)
        if found is None or not output.requires_grad:
            return output
        self.kept.append(Bias(get_gradient_edge(output), *found))
        return output


def of_images(biases: Sequence[Bias], inputs: Tensor) -> list[Bias]:
    """Those that were added to what depends on the images, and not to weights alone.

    Args:
        biases: of one forward.
        inputs: the leaf of its graph that the images are.
    """
    reached: dict[Node, bool] = {get_gradient_edge(inputs).node: True}

    def reaches(node: Node) -> bool:
        waiting = [node]
        while waiting:
            before = [other for other, _ in waiting[-1].next_functions if other is not None]
            unknown = [other for other in before if other not in reached]
            if unknown:
                waiting += unknown
            else:
                reached.setdefault(waiting.pop(), any(reached[other] for other in before))
        return reached[node]

    return [bias for bias in biases if reaches(bias.place.node)]


def full_gradient(
    inputs: Float[Tensor, "b channels H W"],
    slope: Float[Tensor, "b channels H W"],
    biases: Sequence[Bias],
    slopes: Sequence[Tensor | None],
    prefixes: Sequence[int],
) -> FullGradient:
    """Products of inputs and biases with gradients, brought to their grids.

    Args:
        inputs: the preprocessed images.
        slope: the gradient at the inputs.
        biases: in the order in which they were added.
        slopes: the gradients at their operations' outputs; None where nothing leads to one.
        prefixes: how many tokens may stand before the patches.

    Raises:
        UsageError: an operation was given some of the images, and which cannot be told.
    """
    batch, size = len(inputs), tuple(inputs.shape[2:])
    rest = inputs.new_zeros(batch)
    spatial = [inputs * slope]
    for bias, gradient in zip(biases, slopes, strict=True):
        if gradient is None:
            continue
        term = bias.added.to(inputs.dtype) * gradient.to(inputs.dtype)
        if _is_of_some(term, batch):
            raise UsageError(
                f"of {batch} images this network gives one of its operations {len(term)}: it sends "
                "images different ways, and FullGrad cannot tell whose each bias is. Explain one "
                "image at a time: batch_size=1"
            )
        grids = readings(term.shape, size, None, prefixes) if len(term) == batch else ()
        grid = next((grid for grid in grids if grid.layout in bias.layouts), None)
        if grid is not None:
            spatial.append(grid.spatial(term))
        if grid is None or spatial[-1].numel() < term.numel():
            beside = 0 if grid is None else _sums(spatial[-1], batch)
            rest = rest + _sums(term, batch) - beside
    return FullGradient(tuple(spatial), rest)


def _is_of_some(term: Tensor, batch: int) -> bool:
    """Whether it is of a part of the images: neither theirs, nor their windows', nor by tokens."""
    return len(term) % batch > 0 and not (term.ndim == 3 and term.shape[1] == batch)


def _sums(term: Tensor, batch: int) -> Float[Tensor, " b"]:
    if len(term) != batch:
        return term.reshape(batch, -1).sum(1)
    return term.sum(tuple(range(1, term.ndim))) if term.ndim > 1 else term


def _bias(
    func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]
) -> tuple[Tensor, tuple[Layout, ...]] | None:
    """What a function adds and how its output may be read; None where it adds nothing."""
    if func in BIASED_FIRST or func is F.linear:
        bias = given.get("bias", args[2] if len(args) > 2 else None)
        if bias is None:
            return None
        if func is F.linear:
            return bias.detach(), LAST
        return bias.detach().reshape(-1, *[1] * BIASED_FIRST[func]), FIRST
    if func is F.batch_norm and not given.get("training", args[5] if len(args) > 5 else False):
        nothing = args[0].new_zeros(1, args[0].shape[1], *[1] * (args[0].ndim - 2))
        return func(nothing, *args[1:], **given).detach(), FIRST
    if func in BENDING_FIRST or func is F.batch_norm:
        return _bent(func, args, given), FIRST
    if func in BENDING_LAST:
        return _bent(func, args, given), LAST
    return (_bent(func, args, given), ANY) if func in BENDING else None


def _bent(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> Tensor:
    """A function's value less its derivative times its input.

    Each element bends by itself but in norms, whose derivative along the input takes two backwards.
    """
    values = dict(given)
    start = (args[0] if args else values.pop("input")).detach()
    if func is F.layer_norm:
        return _bent_layer_norm(start, *args[1:], **values)
    with torch.enable_grad():
        leaf = start.view_as(start).requires_grad_()
        value: Tensor = func(leaf.clone(), *args[1:], **values)  # it may write over its input
        if func in BENDING:
            (slope,) = torch.autograd.grad(value.sum(), leaf)
            return value.detach().addcmul(slope, start, value=-1)
        seed = torch.zeros_like(value, requires_grad=True)
        (back,) = torch.autograd.grad(value, leaf, seed, create_graph=True)
        (along,) = torch.autograd.grad(back, seed, start)
    return (value - along).detach()


def _bent_layer_norm(
    start: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Its derivative along the input is what it makes of that, times eps / (variance + eps)."""
    axes = tuple(range(-len(normalized_shape), 0))
    share = start.var(axes, correction=0, keepdim=True).add_(eps).reciprocal_().mul_(eps)
    weight = None if weight is None else weight.detach()
    made = F.layer_norm(start, normalized_shape, weight, None, eps).mul_(1 - share)
    return made if bias is None else made.add_(bias.detach())
