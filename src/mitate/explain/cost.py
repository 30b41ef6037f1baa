"""What an explanation costs, in forward-equivalents an image: planned, and spent."""

from collections.abc import Mapping, Sequence
from typing import Any

from mitate.explain.evidence import Evidence
from mitate.explain.methods import Method
from mitate.explain.methods.table import BACKWARD
from mitate.tensors import varies


def planned(method: Method, options: Mapping[str, Any], evidence: Sequence[Evidence]) -> float:
    """What all layers cost, as far as it is known beforehand."""
    layers = (_at_layer(method, options, seen) for seen in evidence)
    return method.cost.forwards + sum(layers)


def spent(method: Method, evidence: Sequence[Evidence], told: float) -> float:
    """What was told by a method that is counted, the images' own forward, and gradients."""
    counted = evidence[: 1 if method.shares_gradients else None] if method.records else ()
    return 1 + told + BACKWARD * sum(seen.classes.shape[1] for seen in counted)


def _at_layer(method: Method, options: Mapping[str, Any], seen: Evidence) -> float:
    """What one layer costs, but for what all of them share.

    That is the forward, and beyond the first layer the backward of the scores.
    """
    masked = method.cost.per_channel > 0
    live = round(float(varies(seen.activations).sum(1).float().mean())) if masked else 0
    classes = seen.classes.shape[1]
    shared = BACKWARD * classes if seen.index and method.shares_gradients else 0
    return method.cost.of(live, classes, seen.grid.cells, options) - method.cost.forwards - shared
