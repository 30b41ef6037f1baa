"""What a layer gave, and the gradients of scores with respect to it.

The network is left as it was. The forward up to the first tapped layer records nothing: the tapped
output becomes the leaf, and autograd begins there. Only where maps are to teach the network
(``differentiable``, ``watching``) is all of it recorded.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mitate.errors import LayerError
from mitate.explain.around import Around, noting_blocks
from mitate.explain.attention import AttentionTap, plain_attention
from mitate.explain.hooks import (
    Place,
    first_tensor,
    hooked,
    own_copy,
    undisturbed,
    with_first_tensor,
)
from mitate.models.mode import at_full_speed, switched_off

Read = Callable[[Any], Tensor]
_cutting: WeakSet[nn.Module] = WeakSet()  # networks whose forwards put recording off by themselves


@dataclass(frozen=True)
class TappedForward:
    """What a forward gave, at its end and on the way.

    Attributes:
        logits: (b, n).
        activations: what the tapped layers gave, in the layers' own layout; the input itself first
            where it was tapped.
        probabilities: attention probabilities of every block, (b, heads, queries, keys), where they
            were asked for; with windows in the batch, or before or behind the heads.
        calls: which of its module's calls each place is, counted from 0.
        around: of each attention, the calls of modules that hold it alone, the innermost first.
        recorded: whether gradients are recorded too, so that they can be differentiated.
        cut: whether the forward ended unrecorded, although gradients were wanted.
        network: what was run, where it is in training mode: it must not be while it is gone back
            through. None too where its mode is the caller's.
    """

    logits: Tensor
    activations: tuple[Tensor, ...]
    probabilities: tuple[Tensor, ...] = ()
    calls: tuple[int, ...] = ()
    around: tuple[tuple[Around, ...], ...] = ()
    recorded: bool = False
    cut: bool = False
    network: nn.Module | None = None

    def gradients(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Gradients of ``scores`` (b, k) at every tapped layer, each (b, k, ...) in its layout.

        A layer that a score does not depend on gets zeros.
        """
        return self._at(scores, self.activations)

    def attention_gradients(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Gradients of ``scores`` (b, k) at every block's probabilities."""
        return self._at(scores, self.probabilities)

    def slopes(self, score: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients of a score (b,) at tensors of the graph, one for each."""
        return self._slopes(score.sum(), tuple(tensors))

    def slopes_at(self, score: Tensor, places: Sequence[GradientEdge]) -> tuple[Tensor | None, ...]:
        """Gradients of a score (b,) at places of the graph; None where nothing leads to one."""
        if not score.requires_grad:
            return (None,) * len(places)
        return self._derivatives(score.sum(), tuple(places))

    def curvature(self, scores: Tensor, index: int) -> Tensor:
        """The Hessian of each of ``scores`` (b, k) at one layer, times what that layer gave."""
        activation = self.activations[index]
        products: list[Tensor] = []
        for k in range(scores.shape[1]):
            (slope,) = self._slopes(scores[:, k].sum(), (activation,), again=True)
            products += self._slopes((slope * activation.detach()).sum(), (activation,))
        return torch.stack(products, dim=1)

    def _at(self, scores: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        passes = [self._slopes(scores[:, k].sum(), tensors) for k in range(scores.shape[1])]
        return tuple(torch.stack(layer, dim=1) for layer in zip(*passes, strict=True))

    def _slopes(
        self, score: Tensor, tensors: tuple[Tensor, ...], *, again: bool = False
    ) -> tuple[Tensor, ...]:
        leaves = [one for one in tensors if score.requires_grad and one.requires_grad]
        found: Sequence[Tensor] = ()
        if leaves:
            found = self._derivatives(score, leaves, again=again, materialize_grads=True)
        slopes = dict(zip(map(id, leaves), found, strict=True))
        return tuple(slopes[id(t)] if id(t) in slopes else torch.zeros_like(t) for t in tensors)

    def _derivatives(
        self, score: Tensor, of: Sequence[Any], *, again: bool = False, **options: Any
    ) -> tuple[Any, ...]:
        """Autograd's, in evaluation mode: reversible networks run layers again."""
        with nullcontext() if self.network is None else switched_off(self.network):
            return torch.autograd.grad(
                score,
                of,
                retain_graph=True,
                create_graph=again or self.recorded,
                allow_unused=True,
                **options,
            )


def tapped_forward(
    network: nn.Module,
    inputs: Tensor,
    places: Sequence[Place],
    *,
    read: Read,
    gradients: bool = False,
    attention: bool = False,
    pixels: bool = False,
    curvature: bool = False,
    watch: AbstractContextManager[Any] | None = None,
    differentiable: bool = False,
) -> TappedForward:
    """Run one forward and keep what the places gave.

    Args:
        network: left as it was.
        inputs: the preprocessed images.
        places: the layers to tap.
        read: takes the logits from the network's output.
        gradients: make what is kept differentiable.
        attention: keep every block's attention probabilities too.
        pixels: tap the input as well, before the places.
        curvature: make it differentiable twice, which fused attention is not.
        watch: entered around the forward, to see the functions of torch that it calls.
        differentiable: record the whole forward, from the weights on, and the gradients.

    Raises:
        LayerError: a place was not reached, or gave no tensor.
    """
    run = partial(
        _tapped,
        network,
        places,
        read=read,
        gradients=gradients,
        attention=attention,
        pixels=pixels,
        twice=curvature or differentiable,
        watch=watch,
        differentiable=differentiable,
        from_the_start=pixels or differentiable or (gradients and network in _cutting),
    )
    if watch:  # what watches a forward sees one: none is tried twice
        return run(inputs)

    def recorded(images: Tensor) -> TappedForward:
        forward = run(images)
        if not forward.cut:
            return forward
        # Where ``torch.enable_grad()`` ends around a layer, recording is put back to what it was
        # before: on, if it was from the start.
        del forward
        _cutting.add(network)
        return run(images, from_the_start=True)

    return at_full_speed(network, inputs, recorded, fixed=not differentiable)


def _tapped(
    network: nn.Module,
    places: Sequence[Place],
    inputs: Tensor,
    *,
    read: Read,
    gradients: bool,
    attention: bool,
    pixels: bool,
    twice: bool,
    watch: AbstractContextManager[Any] | None,
    differentiable: bool,
    from_the_start: bool,
) -> TappedForward:
    keeper = _Keeper(places, gradients=gradients)
    own = own_copy(inputs)
    attended = AttentionTap(gradients=gradients) if attention else None
    around: dict[int, list[Around]] = defaultdict(list)
    trained = any(getattr(module, "training", False) for module in network.modules())
    with ExitStack() as entered:
        entered.enter_context(undisturbed(network))
        entered.enter_context(hooked(keeper.modules, keeper))
        entered.enter_context(watch or nullcontext())
        entered.enter_context(plain_attention() if twice else nullcontext())
        if attended is not None:
            entered.enter_context(attended)
            entered.enter_context(noting_blocks(network, attended, around))
        if from_the_start:
            torch.set_grad_enabled(gradients)
        if pixels:
            own = own.requires_grad_(gradients)
        logits = read(network(own.clone() if pixels else own))
        recorded_to_the_end = torch.is_grad_enabled()
    kept, calls = keeper.found()
    return TappedForward(
        logits,
        (own, *kept) if pixels else kept,
        tuple(attended.kept) if attended else (),
        calls,
        tuple(tuple(around[index]) for index in range(len(attended.kept) if attended else 0)),
        differentiable,
        cut=bool(kept) and gradients and not recorded_to_the_end and not from_the_start,
        network=network if trained else None,
    )


@contextmanager
def watching(places: Sequence[Place]) -> Iterator[Callable[[Tensor], TappedForward]]:
    """Keep what the places give in a forward of the caller's own, as while training.

    Gives a function from that forward's logits to what was tapped; it raises LayerError where a
    place was not reached. Mode and recording are the caller's, but that from the first place on it
    is always recorded, so that there are gradients in validation too.
    """
    keeper = _Keeper(places, gradients=True)
    before = torch.is_grad_enabled()

    def tapped(logits: Tensor) -> TappedForward:
        kept, calls = keeper.found()
        return TappedForward(logits, kept, (), calls, recorded=before)

    with hooked(keeper.modules, keeper), plain_attention():
        try:
            yield tapped
        finally:
            torch.set_grad_enabled(before)


class _Keeper:
    """A hook that keeps what the modules of some places give, and makes it differentiable."""

    def __init__(self, places: Sequence[Place], *, gradients: bool) -> None:
        self.places, self.gradients = places, gradients
        self.modules = {id(place.module): place.module for place in places}.values()
        self.outputs: dict[int, list[Tensor]] = {id(place.module): [] for place in places}
        self.unread: dict[int, str] = {}  # what modules gave that cannot be kept

    def __call__(self, module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None or not tensor.is_floating_point():
            self.unread[id(module)] = type(output).__name__ if tensor is None else "whole numbers"
            return output
        if not self.gradients or tensor.is_inference():
            self.outputs[id(module)].append(tensor.detach().clone())
            return output
        torch.set_grad_enabled(True)
        kept = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        self.outputs[id(module)].append(kept)
        return with_first_tensor(output, kept.clone())

    def found(self) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """What each place gave, and in which of its module's calls."""
        kept = tuple(self._kept(place) for place in self.places)
        calls = tuple(place.call % len(self.outputs[id(place.module)]) for place in self.places)
        return kept, calls

    def _kept(self, place: Place) -> Tensor:
        calls, unread = self.outputs[id(place.module)], self.unread.get(id(place.module))
        try:
            return calls[place.call]
        except IndexError:
            found = "is not run by the forward"
            if calls:
                found = f"is run {len(calls)} time(s), and call {place.call} was asked for"
            elif unread:
                found = f"gives {unread}, and no tensor of numbers with a fraction"
            raise LayerError(
                f"layer {place.name!r} {found}; `mitate layers` lists the layers that would do"
            ) from None


def replaced_forward(
    network: nn.Module, inputs: Tensor, place: Place, activation: Tensor, *, read: Read
) -> Tensor:
    """The logits (b, n) of a forward in which a layer gives ``activation`` instead of its own.

    ``place.call`` counts from 0 here. What is recorded begins with the activation, if it is.
    """
    calls = iter(range(1 << 30))

    def replace(module: nn.Module, _args: Any, output: Any) -> Any:
        if next(calls) != place.call:
            return output
        if activation.requires_grad:
            torch.set_grad_enabled(True)
        return with_first_tensor(output, activation)

    with undisturbed(network), hooked([place.module], replace):
        return read(network(own_copy(inputs)))
