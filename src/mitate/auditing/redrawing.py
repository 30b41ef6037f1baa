"""A network with weights that have learned nothing, for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mitate.tensors import generator_of

Layer = tuple[nn.Parameter, ...]


def learned_layers(network: nn.Module) -> list[Layer]:
    """The weights of each layer, in the order of its modules, each weight once.

    A layer whose weights are all constant, such as a normalisation before training, would be drawn
    as it is and is left out.
    """
    seen: set[int] = set()
    layers = []
    for module in network.modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, own))
        varying = tuple(p for p in own if p.numel() > 1 and _varies(p.detach()))
        if varying:
            layers.append(varying)
    return layers


def _varies(weight: Tensor) -> bool:
    least, most = weight.aminmax()
    return bool(least != most)


def cut(layers: Sequence[Layer], stages: int) -> list[list[Layer]]:
    """Layers in ``stages`` lists: the first of all layers, the next of ever fewer of the last."""
    number = min(stages, len(layers))
    starts = [len(layers) * stage // number for stage in range(number)]
    return [list(layers[start:]) for start in starts]


class Redrawn:
    """New weights for a network, drawn when they are first needed and kept for what comes next.

    Each is drawn from a normal distribution of its own mean and deviation, by a generator of its
    own, so that what follows keeps its scale and no two layers are alike.
    """

    def __init__(self, network: nn.Module, seed: int) -> None:
        """Draw nothing yet."""
        self.layers = learned_layers(network)
        self.seed = seed
        self.kept: dict[int, Tensor] = {}

    @contextmanager
    def entered(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Give layers their new weights, and the ones that they had back, whatever happens."""
        weights = [weight for layer in layers for weight in layer]
        own = [weight.data for weight in weights]
        try:
            for weight in weights:
                weight.data = self._drawn(weight)
            yield
        finally:
            for weight, data in zip(weights, own, strict=True):
                weight.data = data

    def _drawn(self, weight: nn.Parameter) -> Tensor:
        if id(weight) not in self.kept:
            generator = generator_of("redrawn", self.seed, self._place(weight))
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            own = weight.detach().float()
            mean = own.mean()
            deviation = torch.linalg.vector_norm(own - mean) / (own.numel() - 1) ** 0.5
            new = noise.to(weight.device).mul_(deviation).add_(mean)
            self.kept[id(weight)] = new.to(weight.dtype)
        return self.kept[id(weight)]

    def _place(self, weight: nn.Parameter) -> int:
        every = (found for layer in self.layers for found in layer)
        return next(place for place, found in enumerate(every) if found is weight)
