"""Whether a classifier uses the true regions of an audit's images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.reliance import reliance
from mitate.auditing.subjects import Subjects, in_batches
from mitate.auditing.values import Numbers
from mitate.models.classifier import Classifier
from mitate.progress import progress


@dataclass(frozen=True)
class Usage:
    """What hiding the true regions does to the class, over the images that have one.

    Attributes:
        fall: of the class's probability without the region.
        elsewhere: without regions of its shape elsewhere: in the object, where that is known and
            has the place, or else outside it.
        difference: the first less the second, image by image.
        flips: how often another class is decided without the region.
        forwards: what it took.
        beyond: the difference of each image; NaN where there is no region, or no place elsewhere.
    """

    fall: Interval
    elsewhere: Interval
    difference: Interval
    flips: Interval
    forwards: float
    beyond: Numbers = field(default_factory=lambda: np.empty(0), compare=False)


def usage(
    classifier: Classifier,
    subjects: Subjects,
    classes: Int[Tensor, " n"],
    places: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    shown: bool,
) -> Usage:
    """Hide the regions of the images at some places, a batch at a time."""
    columns: list[Tensor] = []
    forwards = 0.0
    with progress("hiding the regions", len(places), shown=shown) as advance:
        for part in in_batches(places, batch_size):
            batch = subjects.open(part)
            assert batch.masks is not None
            found = reliance(
                classifier,
                batch.inputs,
                classes[list(part)].to(batch.inputs.device),
                batch.masks,
                objects=batch.objects,
                seed=seed,
                batch_size=batch_size,
            )
            inside = found.fall_inside
            elsewhere = torch.where(inside.isfinite(), inside, found.fall_outside)
            told = [found.fall, elsewhere, found.flipped]
            columns.append(torch.stack(told).cpu().double())
            forwards += found.forwards * len(part)
            advance(len(part))
    fall, elsewhere, flipped = torch.cat(columns, 1).numpy()
    return Usage(
        mean_interval(fall),
        mean_interval(elsewhere),
        paired_interval(fall, elsewhere),
        mean_interval(flipped),
        forwards,
        fall - elsewhere,
    )
