"""The modules around each attention of a forward, and the attention by itself."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from mitate.explain.attention import AttentionTap
from mitate.explain.hooks import Place, first_tensor, is_scripted, of_this_thread, undisturbed


@dataclass(frozen=True)
class Around:
    """One call of a module in which one attention is computed, and no other.

    Attributes:
        place: the module, its name, and which of its calls, counted from 0.
        input: the tensor that it took.
        rest: the other arguments, and those by name.
        output: the tensor that it gave, in the graph.
    """

    place: Place
    input: Tensor
    rest: tuple[tuple[Any, ...], dict[str, Any]]
    output: Tensor


@contextmanager
def noting_blocks(
    network: nn.Module, attended: AttentionTap, around: dict[int, list[Around]]
) -> Iterator[None]:
    """Note each call of a module, but of the network itself, that holds one attention alone."""
    begun: list[int] = []
    counts: Counter[int] = Counter()
    handles = []

    def begin(_module: nn.Module, _args: Any) -> None:
        begun.append(len(attended.kept))

    def end(name: str, module: nn.Module, args: Any, named: dict[str, Any], output: Any) -> None:
        first, call = begun.pop(), counts[id(module)]
        counts[id(module)] += 1
        given = first_tensor(output)
        alone = len(attended.kept) == first + 1
        if alone and given is not None and args and isinstance(args[0], Tensor):
            place, rest = Place(module, name, call), (tuple(args[1:]), dict(named))
            around[first].append(Around(place, args[0].detach(), rest, given))

    try:
        for name, module in network.named_modules():
            if name and not is_scripted(module):
                ended = of_this_thread(partial(end, name))
                handles.append(module.register_forward_pre_hook(of_this_thread(begin)))
                handles.append(module.register_forward_hook(ended, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def diagonal(network: nn.Module, around: Around, tensor: Tensor) -> Tensor:
    """Each token's score with itself, of the attention in a call that takes another tensor."""
    attended = AttentionTap(gradients=False)
    rest, named = around.rest
    with undisturbed(network), attended:
        around.place.module(tensor, *rest, **named)
    return attended.diagonals[0]
