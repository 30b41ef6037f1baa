"""The measuring itself: every contender and control on every image, a batch at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from mitate.auditing.entrants import Entrant
from mitate.auditing.measuring import Measured, measure, planned_forwards
from mitate.auditing.parts import Parts
from mitate.auditing.reasons.finding import search_cost
from mitate.auditing.rounds import Budget, images_a_round, least
from mitate.auditing.subjects import Subjects, in_batches
from mitate.auditing.table import METRICS, find_metric
from mitate.auditing.values import Part, Values, best_first, mean_of
from mitate.data.wording import counted
from mitate.explain.flags import find_flags
from mitate.models.classifier import Classifier
from mitate.models.mode import USUAL_BATCH
from mitate.progress import Advance, progress

Tell = Callable[[str], None]
LONG = 900  # seconds, from which on it is said that there is a shorter way
TOO_LONG = (
    "too long? A budget, such as 10min or 50k, is spent on the better maps; a lower limit takes "
    "fewer images"
)
FOR_THE_SEARCH = 1 / 3  # of a budget, at most


@dataclass(frozen=True)
class Contest:
    """What is measured of whom.

    Attributes:
        classifier: whose maps are measured.
        subjects: on which images, in their order.
        classes: the class of each image that is explained.
        contenders: methods at layers, the controls last.
        metrics: names.
        pick: the metric that tells who goes on where there is a budget.
        options: of metrics.
        seed: of random metrics.
        batch_size: images, or altered images, in one forward.
    """

    classifier: Classifier
    subjects: Subjects
    classes: Int[Tensor, " n"]
    contenders: tuple[Entrant, ...]
    metrics: tuple[str, ...]
    pick: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = USUAL_BATCH

    @property
    def methods(self) -> list[Entrant]:
        """The contenders that are no controls."""
        return [one for one in self.contenders if not one.is_control]

    @property
    def controls(self) -> list[Entrant]:
        """The controls."""
        return [one for one in self.contenders if one.is_control]

    @property
    def segments(self) -> bool:
        """Whether a metric asks for what the classifier itself segments."""
        return any(METRICS[name].needs_segmentation for name in self.metrics)

    def cost(self, of: Entrant) -> float:
        """Forwards that an image takes more for one contender: its map, and what metrics ask."""
        plain, again = self.split()
        marginal = planned_forwards(plain, 2, options=self.options_of(plain)) - planned_forwards(
            plain, 1, options=self.options_of(plain)
        )
        if not of.explains or not again:
            return of.cost + marginal
        options = self.options_of(again)
        return of.cost + marginal + planned_forwards(again, 1, explanation=of.cost, options=options)

    @property
    def floor(self) -> float:
        """Forwards that an image takes whoever is compared: for controls, and shared ones."""
        plain, _ = self.split()
        options = self.options_of(plain)
        one, two = (planned_forwards(plain, number, options=options) for number in (1, 2))
        return 2 * one - two + sum(self.cost(control) for control in self.controls)

    def split(self) -> tuple[list[str], list[str]]:
        """The metrics of a map alone, and those that make new maps."""
        again = [name for name in self.metrics if METRICS[name].explains_again]
        return [name for name in self.metrics if name not in again], again

    def options_of(self, metrics: Sequence[str]) -> dict[str, Any]:
        """The options that some of these metrics have."""
        known = {name for metric in metrics for name in METRICS[metric].options}
        return {name: value for name, value in self.options.items() if name in known}

    def named(self, names: Sequence[str]) -> list[Entrant]:
        """The contenders of these names, in their order."""
        return [one for one in self.contenders if one.name in set(names)]


@dataclass(frozen=True)
class Course:
    """What came of a contest: the values, who went on to the end, and what it took.

    Forwards and seconds are those of all runs, where some parts were measured by an earlier one.
    """

    values: Values
    survivors: tuple[str, ...]
    rounds: tuple[tuple[int, int], ...]
    forwards: float
    seconds: float


def hold(
    contest: Contest,
    plan: Mapping[str, Any],
    *,
    budget: Budget | None = None,
    searched: int = 0,
    folder: Path | None = None,
    tell: Tell = lambda words: None,
    shown: bool = True,
) -> Course:
    """Measure all, in rounds where there is a budget; what lies in ``folder`` is not done again.

    Args:
        contest: what is measured of whom.
        plan: all that the values depend on; parts in ``folder`` of another plan are no use.
        budget: at most so much; the better half of the contenders goes on after each round.
        searched: in so many images wrong reasons are looked for afterwards: the estimate tells it,
            and what it needs of a budget, a third at most, is left for it, if what remains is
            enough for the maps.
        folder: where parts are kept.
        tell: told the estimate before it starts.
        shown: show progress.

    Raises:
        UsageError: a budget that is too small.
    """
    parts = Parts(folder, plan)
    pace = seconds_a_forward(contest)
    each = {one.name: contest.cost(one) for one in contest.methods}
    floor = contest.floor
    images, total = len(contest.subjects), None if budget is None else budget.in_forwards(pace)
    search = searched * search_cost(max(one.cost for one in contest.contenders))
    limit = total
    if searched and total is not None:
        needed = least(list(each.values()), floor, images)
        kept = min(total * FOR_THE_SEARCH, search)
        limit = min(total, max(total - kept, needed))
    rounds = parts.rounds(lambda: images_a_round(list(each.values()), floor, images, limit))
    planned = _planned(list(each.values()), floor, rounds)
    search = search if total is None else min(search, max(0.0, total - planned))
    tell(_estimate(contest, planned, pace, rounds, parts.found))
    if search:
        tell(f"then wrong reasons in up to {counted(searched, 'image')}: {_price(search, pace)}")
    if limit is None and not parts.found and (planned + search) * pace > LONG:
        tell(TOO_LONG)
    values, alive, number, forwards, seconds = Values(), list(each), 0, 0.0, 0.0
    with progress("auditing", round(planned), shown=shown) as advance:
        for survivors, new in rounds:
            alive = _better(values, alive, contest.pick, survivors)
            here = [*contest.named(alive), *contest.controls]
            for places in in_batches(range(values.images, values.images + new), contest.batch_size):
                part = parts.read(number)
                if part is None:
                    part = _measured(contest, here, places, advance)
                    parts.write(number, part)
                else:
                    advance(part.forwards)
                values.add(part)
                forwards, seconds = forwards + part.forwards, seconds + part.seconds
                number += 1
    return Course(values, tuple(alive), tuple(rounds), forwards, seconds)


def seconds_a_forward(contest: Contest) -> float:
    """An image's share of a full batch's forward on this machine, the second time it is run."""
    inputs = contest.subjects.open(range(min(contest.batch_size, len(contest.subjects)))).inputs
    contest.classifier.logits(inputs).cpu()  # a GPU has done it then, and not only been asked to
    started = time.perf_counter()
    contest.classifier.logits(inputs).cpu()
    return (time.perf_counter() - started) / len(inputs)


def _price(forwards: float, pace: float) -> str:
    return f"about {forwards:,.0f} forwards, {_duration(forwards * pace)}"


def _planned(costs: Sequence[float], floor: float, rounds: Sequence[tuple[int, int]]) -> float:
    dearest = sorted(costs, reverse=True)
    return sum(new * (sum(dearest[:alive]) + floor) for alive, new in rounds)


def _estimate(
    contest: Contest, planned: float, pace: float, rounds: Sequence[tuple[int, int]], found: int
) -> str:
    images = sum(new for _, new in rounds)
    words = (
        f"{counted(len(contest.methods), 'map')} and {counted(len(contest.controls), 'control')} "
        f"of {counted(images, 'image')} by {counted(len(contest.metrics), 'metric')}: "
        f"{_price(planned, pace)}"
    )
    halving = f", in {len(rounds)} rounds that halve the maps" if len(rounds) > 1 else ""
    are = "is" if found == 1 else "are"
    again = f"; {counted(found, 'part')} of an earlier run {are} used again" if found else ""
    return words + halving + again


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 1):.0f} s"


def _better(values: Values, alive: Sequence[str], pick: str, survivors: int) -> list[str]:
    """The best so far; a tie keeps the order."""
    if len(alive) <= survivors:
        return list(alive)
    means = {name: mean_of(values.of(name, pick)) for name in alive}
    kept = set(best_first(means, find_metric(pick).better == "higher")[:survivors])
    return [name for name in alive if name in kept]


def _measured(
    contest: Contest, contenders: Sequence[Entrant], places: Sequence[int], advance: Advance
) -> Part:
    """All of a batch: metrics that make new maps are not asked of what is no explainer's own."""
    started = time.monotonic()
    batch, classes = contest.subjects.open(places), contest.classes[list(places)]
    maps = {one.name: one.maps(batch.inputs, classes) for one in contenders}
    spent = len(batch) * sum(one.cost for one in contenders)
    advance(spent)
    found = []
    for metrics, asked in zip(contest.split(), (contenders, _explaining(contenders)), strict=True):
        if metrics and asked:
            found.append(
                measure(
                    contest.classifier,
                    batch.inputs,
                    classes,
                    {one.name: maps[one.name] for one in asked},
                    metrics,
                    masks=batch.masks,
                    explainers={one.name: one.explainer for one in asked},
                    seed=contest.seed,
                    batch_size=contest.batch_size,
                    advance=advance,
                    options=contest.options_of(metrics),
                )
            )
            spent += len(batch) * found[-1].forwards
    seconds = time.monotonic() - started
    return _part(contest, maps, places, found, spent, seconds)


def _explaining(contenders: Sequence[Entrant]) -> list[Entrant]:
    return [one for one in contenders if one.explains]


def _part(
    contest: Contest,
    maps: Mapping[str, Tensor],
    places: Sequence[int],
    found: Sequence[Measured],
    forwards: float,
    seconds: float,
) -> Part:
    names = list(maps)
    values = {key: column for one in found for key, column in one.values.items()}
    drawn = {key: rows for one in found for key, rows in one.curves.items()}
    fractions = {curve: steps for one in found for curve, steps in one.fractions.items()}
    curves = dict.fromkeys(curve for _, curve in drawn)

    def column(contender: str, metric: str) -> np.ndarray:
        known = values.get((contender, metric))
        return np.full(len(places), np.nan) if known is None else _array(known)

    return Part(
        places=tuple(places),
        contenders=tuple(names),
        metrics=contest.metrics,
        values=np.stack([[column(name, m) for m in contest.metrics] for name in names]),
        empty=np.stack([_empty(one) for one in maps.values()]),
        curves={
            curve: np.stack([_array(drawn[name, curve]) for name in names]) for curve in curves
        },
        fractions={curve: np.asarray(fractions[curve]) for curve in curves},
        forwards=forwards,
        seconds=seconds,
    )


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().double().numpy()
    return array


def _empty(maps: Tensor) -> np.ndarray:
    """Which maps say nothing: zero, constant or not finite."""
    flagged = {flag.image for flag in find_flags(maps[:, None])}
    return np.asarray([index in flagged for index in range(len(maps))])
