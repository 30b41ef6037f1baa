"""Which metrics an audit measures, and which of them recommends a map."""

from collections.abc import Sequence

from mitate.auditing.agreement import NO_SEGMENTATION
from mitate.auditing.table import (
    DEFAULT_METRICS,
    METRICS,
    OF_SEGMENTATION,
    find_metric,
    find_metrics,
)
from mitate.errors import UsageError

PICK, PICK_WITH_MASKS = "early_deletion", "energy"
NO_MASK = (
    "compares maps with masks, and no image has one with anything in it: give masks, or leave it "
    "out"
)


def default_pick(masked: bool) -> str:
    """The metric that recommends: what masks tell, or else what orders maps most as masks do."""
    return PICK_WITH_MASKS if masked else PICK


def metric_names(
    metrics: Sequence[str] | None, pick: str | None, *, masked: bool, segments: bool = False
) -> tuple[str, ...]:
    """The metrics that are measured, the one that recommends among them.

    Args:
        metrics: names, or families of them; None takes the default ones that can be measured.
        pick: the metric that recommends; None takes the default one.
        masked: whether any image has a mask.
        segments: whether the classifier has a segmentation of its own.

    Raises:
        UsageError: an unknown name, or a metric that needs masks or a segmentation where there is
        none.
    """
    named = find_metrics(metrics or (*DEFAULT_METRICS, OF_SEGMENTATION))
    picked = find_metric(pick or default_pick(masked)).name
    every = {name: METRICS[name] for name in dict.fromkeys((*named, picked))}
    blind = [n for n, one in every.items() if one.needs_masks and not masked]
    bare = [n for n, one in every.items() if one.needs_segmentation and not segments]
    for lacking, why in ((blind, NO_MASK), (bare, NO_SEGMENTATION)):
        if asked := [name for name in lacking if metrics is not None or name == picked]:
            raise UsageError(f"{', '.join(asked)} {why}")
    return tuple(name for name in every if name not in (*blind, *bare))
