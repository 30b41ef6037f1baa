"""The calls of a network's modules in one forward."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mitate.explain.hooks import first_tensor, hooked, is_scripted, own_copy, undisturbed


@dataclass(frozen=True)
class Call:
    """One call of a module in a forward: where, and the tensors that it took and gave."""

    name: str
    module: nn.Module
    call: int
    output: Tensor
    version: int
    input: Tensor | None = None


def trace(
    network: nn.Module, inputs: Tensor, kinds: tuple[type[nn.Module], ...] = (nn.Module,)
) -> list[Call]:
    """Run one forward without gradients and list the modules' calls, in finishing order."""
    names = {id(module): name for name, module in network.named_modules()}
    calls: list[Call] = []
    counts: dict[int, int] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        index = counts.get(id(module), 0)
        counts[id(module)] = index + 1
        if tensor is not None:
            taken = args[0] if args and isinstance(args[0], Tensor) else None
            version = 0 if tensor.is_inference() else tensor._version  # these have none
            calls.append(Call(names[id(module)], module, index, tensor, version, taken))

    watched = [m for m in network.modules() if isinstance(m, kinds) and not is_scripted(m)]
    with undisturbed(network), hooked(watched, note):
        network(own_copy(inputs))
    return calls
