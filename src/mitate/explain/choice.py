"""``auto`` in the place of a method: the map that was found best, or what a budget affords."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain import layers
from mitate.explain.inputs import prepare
from mitate.explain.methods import METHODS, Method, find_method
from mitate.explain.names import LayerSpec, split
from mitate.models.classifier import Classifier
from mitate.models.mode import evaluating
from mitate.models.trial import check_takes, probe

AUTO = "auto"
CHEAP, JOINED, THOROUGH, BLIND = "gradcam", "glance", "loupe", "occlusion"
FEWEST = 20  # steps of loupe that are worth their price
Layers = LayerSpec | Sequence[LayerSpec]


@dataclass(frozen=True)
class Choice:
    """A method, at a layer, with options of its own."""

    method: Method
    layer: Layers
    options: Mapping[str, Any] = field(default_factory=dict)


def choose(
    classifier: Classifier,
    method: str,
    layer: Layers = AUTO,
    *,
    budget: float | None = None,
    compares: bool = False,
) -> Choice:
    """Find the method of a name; for ``auto`` take, in this order, what there is.

    1. The map that an audit found best for these weights, where the layer is ``auto`` too. With a
       budget its price must be known beforehand, and within it.
    2. With a budget for 20 of its steps or more: ``loupe``, of as many as it affords. Of a network
       that gives its input no gradient: ``occlusion``, if the budget is enough.
    3. ``glance``, and ``gradcam`` where the network has no finer layer than the last.

    Args:
        classifier: what is explained. It is tried on an image of the size that it is made for.
        method: a name from ``mitate methods``, or ``auto``.
        layer: as ``Explainer`` takes it.
        budget: forwards that an image may cost for each explained class; for ``auto`` only.
        compares: whether classes are explained against another.

    Raises:
        UsageError: an unknown method; a budget for a named method, or one that affords nothing; a
        network that cannot be tried.
    """
    if not is_auto(method):
        if budget is not None:
            raise UsageError(f"budget is for the method auto: leave it out for {method}")
        return Choice(find_method(method), layer)
    cheapest = METHODS[CHEAP].cost.of(0, 1)
    if budget is not None and not budget >= cheapest:
        raise UsageError(f"budget {budget:g}: use {cheapest:g} forwards or more")
    return (
        _remembered(classifier, layer, budget, compares)
        or _afforded(classifier, layer, budget or 0, compares)
        or _cheap(classifier, layer)
    )


def is_auto(method: str) -> bool:
    """Whether a method's name leaves the choice open."""
    return isinstance(method, str) and method.strip().lower() == AUTO


def _remembered(
    classifier: Classifier, layer: Layers, budget: float | None, compares: bool
) -> Choice | None:
    if not (isinstance(layer, str) and layer == AUTO):
        return None
    from mitate.auditing.best import best_known

    known = best_known(classifier)
    if known is None:
        return None
    found = find_method(known.method)
    dear = budget is not None and not _price(found) <= budget
    return None if dear or (compares and not found.contrasts) else Choice(found, known.layer)


def _price(method: Method) -> float:
    """Forwards for one class; endless where they follow the layer's channels or cells."""
    follows = method.cost.per_channel or method.cost.per_cell
    return float("inf") if follows else method.cost.of(0, 1, options=method.options)


def _afforded(
    classifier: Classifier, layer: Layers, budget: float, compares: bool
) -> Choice | None:
    """The method of many forwards that a budget is enough for, if any."""
    thorough = METHODS[THOROUGH]
    begins = thorough.cost.of(0, 1)
    steps = min(thorough.options["steps"], int((budget - begins) // thorough.cost.per_step))
    blind = METHODS[BLIND]
    if compares or (steps < FEWEST and budget < _price(blind)):
        return None
    if _gives_gradients(classifier):
        return Choice(thorough, layer, {"steps": steps}) if steps >= FEWEST else None
    return Choice(blind, layer) if budget >= _price(blind) else None


def _cheap(classifier: Classifier, layer: Layers) -> Choice:
    if isinstance(layer, str) and layer == AUTO:
        image = _tried(classifier)
        number = len(layers.automatic_pair(classifier.network, image, read=classifier.read))
    else:
        number = len(split(layer))
    return Choice(METHODS[JOINED if number > 1 else CHEAP], layer)


def _gives_gradients(classifier: Classifier) -> bool:
    """Whether the scores can be differentiated with respect to the image."""
    image = _tried(classifier).requires_grad_()
    with evaluating(classifier.network), torch.inference_mode(False), torch.enable_grad():
        scores = classifier.read(classifier.network(image))
        if not scores.requires_grad:
            return False
        (slope,) = torch.autograd.grad(scores.amax(1).sum(), image, allow_unused=True)
    return slope is not None and bool(slope.any())


def _tried(classifier: Classifier) -> Tensor:
    """An image that the network takes."""
    check_takes(classifier, classifier.preprocessing.size)
    return prepare(classifier, probe(classifier)).inputs
