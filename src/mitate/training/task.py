"""What a training run teaches: a model, its loss and what is measured of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mitate import imports


@dataclass(frozen=True)
class Task:
    """A model with what the loop needs to teach it.

    Attributes:
        model: takes a batch of inputs.
        loss: takes what the model gave and the truth: masks where there are any, and classes.
        measures: metrics as fastai takes them; accuracy first, Dice second where there are masks.
        fresh: modules that start anew, and so learn faster than a pretrained body.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    measures: Sequence[Any]
    fresh: Sequence[nn.Module]

    def body_and_fresh(self, model: nn.Module) -> list[list[nn.Parameter]]:
        """Two groups of weights: the pretrained body, and what starts anew."""
        fresh = {id(parameter) for module in self.fresh for parameter in module.parameters()}
        parameters = list(model.parameters())
        return [
            [parameter for parameter in parameters if id(parameter) not in fresh],
            [parameter for parameter in parameters if id(parameter) in fresh],
        ]


def classification(network: nn.Module) -> Task:
    """Cross-entropy of a network of timm by itself."""
    vision = imports.fastai("vision.all")
    head = network.get_classifier()  # type: ignore[operator]
    return Task(network, vision.CrossEntropyLossFlat(), (vision.accuracy,), (head,))
