"""Two classifiers side by side on the same images: who is right more often, and what moved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mitate.auditing.audit import Audit
from mitate.auditing.gate import (
    ACCURACY,
    BETTER,
    NOT_WORSE,
    Outcome,
    Requirement,
    bounded,
    higher_is_better,
    improved,
)
from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.table import METRICS
from mitate.auditing.values import Numbers
from mitate.errors import UsageError
from mitate.explain.targets import UNKNOWN
from mitate.tensors import exact, resize_maps


@dataclass(frozen=True)
class Difference:
    """One metric of two classifiers.

    Attributes:
        metric: its name, or accuracy.
        first: of the first classifier.
        second: of the second.
        difference: paired, image by image; above 0 where the second is better.
        words: what is to be said of it.
    """

    metric: str
    first: Interval
    second: Interval
    difference: Interval
    words: str


@dataclass(frozen=True)
class Moved:
    """One image, and how far its reason moved.

    Attributes:
        image: its name.
        true: its true class, None where unknown.
        first: the class that the first classifier predicts.
        second: the class that the second predicts.
        moved: the share of the map's energy that lies elsewhere, in [0, 1].
    """

    image: str
    true: str | None
    first: str
    second: str
    moved: float


@dataclass(frozen=True)
class Rivals:
    """What came of a comparison.

    Attributes:
        audits: of each classifier, on the same images in the same order, with one map each.
        differences: the accuracy, where it is known, and every metric.
        moved: every image, the one whose reason moved most first.
        gate: the requirements, and whether they were met.
    """

    audits: tuple[Audit, Audit]
    differences: tuple[Difference, ...]
    moved: tuple[Moved, ...]
    gate: tuple[Outcome, ...] = ()
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every requirement was met."""
        return all(outcome.met for outcome in self.gate)

    def difference(self, metric: str) -> Difference:
        """One line.

        Raises:
            UsageError: a metric that has none.
        """
        found = next((one for one in self.differences if one.metric == metric), None)
        if found is None:
            known = ", ".join(one.metric for one in self.differences)
            raise UsageError(f"{metric} was not compared: there are {known}")
        return found


def set_beside(first: Audit, second: Audit, required: Sequence[Requirement] = ()) -> Rivals:
    """Compare two audits of the same images.

    Raises:
        UsageError: audits of other images.
    """
    if first.subjects.names != second.subjects.names:
        raise UsageError("two audits can be compared on the same images in the same order only")
    metrics = [metric for metric in first.metrics if metric in second.metrics]
    known = [_accuracies(first, second)] if first.subjects.labelled else []
    differences = [*known, *(_difference(first, second, metric) for metric in metrics)]
    rivals = Rivals((first, second), tuple(differences), tuple(_moved(first, second)))
    return replace(rivals, gate=tuple(_held(one, rivals) for one in required))


def share_elsewhere(
    first: Float[Tensor, "b h w"], second: Float[Tensor, "b h2 w2"]
) -> Float[Tensor, " b"]:
    """Share of a map's energy that lies elsewhere in another map, in [0, 1].

    The total variation distance of two maps without their negative parts, each divided by its sum,
    on the finer of their grids. NaN where a map has no energy or is not finite.
    """
    size = [max(sides) for sides in zip(first.shape[1:], second.shape[1:], strict=True)]
    shares = []
    for maps in (first, second):
        finite = maps.flatten(1).isfinite().all(1)
        positive = exact(maps).clamp_min(0)
        resized = resize_maps(positive[:, None], size)[:, 0]
        total = resized.sum((-2, -1), keepdim=True)
        known = finite[:, None, None] & (total > 0)
        shares.append(torch.where(known, resized / total, torch.nan))
    return (shares[0] - shares[1]).abs().sum((-2, -1)) / 2


def _accuracies(first: Audit, second: Audit) -> Difference:
    columns = []
    for audit in (first, second):
        labels = np.asarray(audit.subjects.labels)
        right = (labels == audit.predicted).astype(float)
        columns.append(np.where(labels == UNKNOWN, np.nan, right))
    return _of_columns(ACCURACY, columns[0], columns[1])


def _difference(first: Audit, second: Audit, metric: str) -> Difference:
    return _of_columns(metric, *(_column(audit, metric) for audit in (first, second)))


def _column(audit: Audit, metric: str) -> Numbers:
    """The values of the one map that is compared."""
    (name,) = [one.name for one in audit.entrants if not one.is_control]
    return audit.values.of(name, metric)


def _of_columns(metric: str, first: Numbers, second: Numbers) -> Difference:
    up = higher_is_better(metric)
    difference = paired_interval(second, first) if up else paired_interval(first, second)
    return Difference(
        metric, mean_interval(first), mean_interval(second), difference, _words(metric, difference)
    )


def _words(metric: str, difference: Interval) -> str:
    if not difference.images:
        return "no image in common"
    if metric != ACCURACY and METRICS[metric].follows_confidence:
        return "not judged: how sure each is enters"
    if difference.low > 0:
        return "the second is better"
    return "the first is better" if difference.high < 0 else "not told apart"


def _moved(first: Audit, second: Audit) -> list[Moved]:
    names, subjects = first.classifier.class_names, first.subjects
    distances = []
    size = int(first.parameters["batch_size"])
    for start in range(0, len(subjects), size):
        places = range(start, min(start + size, len(subjects)))
        maps = [_maps(audit, places) for audit in (first, second)]
        distances += share_elsewhere(*(one.cpu() for one in maps)).tolist()
    found = [
        Moved(
            subjects.names[place],
            None if subjects.labels[place] == UNKNOWN else names[subjects.labels[place]],
            names[first.predicted[place]],
            second.classifier.class_names[second.predicted[place]],
            distance,
        )
        for place, distance in enumerate(distances)
    ]
    return sorted(found, key=lambda one: -one.moved if np.isfinite(one.moved) else 1.0)


def _maps(audit: Audit, places: Sequence[int]) -> Tensor:
    (one,) = [one for one in audit.entrants if not one.is_control]
    classes = torch.from_numpy(audit.classes[list(places)])
    return one.maps(audit.subjects.open(places).inputs, classes)


def _held(requirement: Requirement, rivals: Rivals) -> Outcome:
    if requirement.metric == ACCURACY and not rivals.audits[0].subjects.labelled:
        return Outcome(requirement.words, False, "no true class is known")
    difference = rivals.difference(requirement.metric)
    if requirement.relation in (BETTER, NOT_WORSE):
        return improved(requirement, difference.difference)
    return bounded(requirement, difference.second.mean)
