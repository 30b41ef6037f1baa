"""Who is how good, beside the best control, and who is recommended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mitate.auditing.comparison import FEWEST
from mitate.auditing.entrants import Entrant, Kind
from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.table import METRICS
from mitate.auditing.values import Numbers, Values, best_first, mean_of, paired

# What a map made blindly can be bad at. A blob is robust, simple, and alike for every class.
JUDGED = ("faithfulness", "localisation", "agreement")
LEAST = 1e-3
# (least, largest) of an interval that says that a map does not depend on what it should show.
IGNORES, ALIKE = "ignores the network", "alike for every class"
BADGES: dict[str, tuple[float, float, str]] = {
    "efficient_randomisation": (-0.02, 0.02, IGNORES),
    "cascading_randomisation": (0.9, 1.0, IGNORES),
    "random_logit": (0.95, 1.0, ALIKE),
}


@dataclass(frozen=True)
class Score:
    """One metric of one contender.

    Attributes:
        value: the mean over the images.
        control: the best control in this metric, on the same images; empty where none has values.
        floor: that control's mean.
        difference: paired, image by image; above 0 where the contender is better.
        beaten: whether the interval of the difference to every control lies above a thousandth,
            which is of no matter; None where that is not judged.
        words: what is to be said of it.
    """

    value: Interval
    control: str = ""
    floor: float = float("nan")
    difference: Interval | None = None
    beaten: bool | None = None
    words: str = ""


@dataclass(frozen=True)
class Standing:
    """One contender or control in all metrics.

    Attributes:
        name: method and layer.
        method: its method's name.
        layer: where the network is tapped.
        kind: ``method``, or which kind of control.
        images: on how many it was measured.
        cost: of a map in forwards.
        empty: maps that are zero, constant or not finite.
        scores: by metric.
        badges: what else is to be known of it.
    """

    name: str
    method: str
    layer: str
    kind: Kind
    images: int
    cost: float
    empty: int
    scores: Mapping[str, Score]
    badges: tuple[str, ...] = ()

    @property
    def is_control(self) -> bool:
        """Whether it is there to be beaten."""
        return self.kind != "method"

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return control_in_words(self.name) if self.is_control else f"{self.method} at {self.layer}"

    def images_with(self, metric: str) -> str:
        """How many images a metric has a value for, of those it was measured on."""
        score = self.scores.get(metric)
        told = score is not None and score.value.missing > 0
        return f"{score.value.images} of {self.images}" if score and told else str(self.images)


@dataclass(frozen=True)
class Recommendation:
    """Which map to take.

    Attributes:
        method: its method's name.
        layer: where the network is tapped.
        metric: by which it was picked.
        trusted: whether it is better than every control there.
        reason: one sentence.
        as_good: contenders that cannot be told from it.
    """

    method: str
    layer: str
    metric: str
    trusted: bool
    reason: str
    as_good: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Method and layer."""
        return f"{self.method} {self.layer}"


def standings(
    entrants: Sequence[Entrant], metrics: Sequence[str], values: Values
) -> tuple[Standing, ...]:
    """One line a contender, controls last, each in the order of the entrants."""
    controls = [one.name for one in entrants if one.is_control]
    return tuple(
        Standing(
            name=one.name,
            method=one.method,
            layer=one.layer,
            kind=one.kind,
            images=values.seen(one.name),
            cost=one.cost,
            empty=values.empty.get(one.name, 0),
            scores=(scores := _scores(one, controls, metrics, values)),
            badges=() if one.is_control else _badges(scores),
        )
        for one in entrants
    )


def recommend(lines: Sequence[Standing], values: Values, pick: str) -> Recommendation | None:
    """The best contender by one metric; None where no contender has values in it.

    Those that were measured on fewer images, because others were better, are not in the choice.
    """
    methods = [line for line in lines if not line.is_control]
    most = max((line.images for line in methods), default=0)
    running = {line.name: line for line in methods if line.images == most}
    means = {name: mean_of(values.of(name, pick)) for name in running}
    means = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    if not means:
        return None
    proven = {name: mean for name, mean in means.items() if running[name].scores[pick].beaten}
    higher = METRICS[pick].better == "higher"
    best = running[best_first(proven or means, higher)[0]]
    as_good = tuple(
        name
        for name in means
        if name != best.name
        and _told_apart(values.of(best.name, pick), values.of(name, pick)) is False
    )
    reason = _reason(best, pick, len(proven), as_good)
    trusted = bool(best.scores[pick].beaten)
    return Recommendation(best.method, best.layer, pick, trusted, reason, as_good)


def _scores(
    one: Entrant, controls: Sequence[str], metrics: Sequence[str], values: Values
) -> dict[str, Score]:
    return {
        metric: _score(one, metric, controls, values)
        for metric in metrics
        if len(values.of(one.name, metric))
    }


def _score(one: Entrant, metric: str, controls: Sequence[str], values: Values) -> Score:
    own = values.of(one.name, metric)
    mean = mean_interval(own)
    if one.is_control:
        return Score(mean)
    higher = METRICS[metric].better == "higher"
    others = {name: paired(values.of(name, metric), own)[0] for name in controls}
    others = {name: other for name, other in others.items() if np.isfinite(other).any()}
    if not np.isfinite(own).any():
        return Score(mean, words="nothing to judge: no map has a value")
    if not others:
        return Score(mean)
    ordered = best_first({name: mean_of(other) for name, other in others.items()}, higher)
    differences = {name: _difference(own, others[name], higher) for name in ordered}
    best = ordered[0]
    beaten, words = _judged(metric, ordered, differences)
    return Score(mean, best, mean_of(others[best]), differences[best], beaten, words)


def _difference(own: Numbers, other: Numbers, higher: bool) -> Interval:
    first, second = paired(own, other)
    return paired_interval(first, second) if higher else paired_interval(second, first)


def _judged(
    metric: str, ordered: Sequence[str], differences: Mapping[str, Interval]
) -> tuple[bool | None, str]:
    if METRICS[metric].family not in JUDGED:
        return None, ""
    images = min(difference.images for difference in differences.values())
    if images < FEWEST:
        return None, f"too few photos to judge: {images} of at least {FEWEST}"
    unbeaten = [name for name in ordered if differences[name].low <= LEAST]
    if unbeaten:
        blob = next((name for name in unbeaten if name.startswith("centre ")), None)
        return False, f"not better than {control_in_words(blob or unbeaten[0])}"
    return True, f"better than every control (best: {control_in_words(ordered[0])})"


def control_in_words(name: str) -> str:
    """What a control is called in a sentence."""
    kind, colon, rest = name.partition(": ")
    if colon:
        of = {"other class": "a map for another class", "shifted": "a map moved elsewhere"}
        return f"{of.get(kind, kind)} ({rest})"
    method = name.split(" ")[0]
    words = {"centre": "a blob in the centre", "random": "random numbers", "edges": "an edge map"}
    return words.get(method, method)


def _badges(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """What the randomised network and the random class say of a map, where enough images tell."""
    found = [
        badge
        for metric, (least, largest, badge) in BADGES.items()
        if metric in scores
        and scores[metric].value.images >= FEWEST
        and least <= scores[metric].value.low
        and scores[metric].value.high <= largest + 1e-6
    ]
    return tuple(dict.fromkeys(found))


def _told_apart(best: Numbers, other: Numbers) -> bool | None:
    """Whether two differ beyond chance; None where too few images tell."""
    difference = paired_interval(*paired(best, other))
    if difference.images < FEWEST:
        return None
    return difference.low > 0 or difference.high < 0


def _reason(best: Standing, pick: str, proven: int, as_good: Sequence[str]) -> str:
    score = best.scores[pick]
    mean = f"{pick.replace('_', ' ')} {score.value.mean:.3f}"
    if not score.beaten:
        said = score.words or "in this metric it is not judged beside the controls"
        return f"{best.title} comes first with {mean}, but is not to be relied on: {said}"
    extreme = "highest" if METRICS[pick].better == "higher" else "lowest"
    first = f"the {extreme} of the {proven} maps" if proven > 1 else "the only map"
    equal = f"; not told apart from {', '.join(as_good)}" if as_good else ""
    return (
        f"{best.title} has {mean}, {first} better than every control (the best of them, "
        f"{control_in_words(score.control)}: {score.floor:.3f}){equal}"
    )
