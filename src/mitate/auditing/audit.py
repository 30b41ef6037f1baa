"""The audit of images that are open already: everything but photos on disk and the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int

from mitate.allocation import keeping_memory
from mitate.auditing.contest import Contest, Course, Tell, hold
from mitate.auditing.defaults import default_pick, metric_names
from mitate.auditing.entrants import Entrant, line_up
from mitate.auditing.gate import ACCURACY, Outcome, Requirement, held, requirement_of
from mitate.auditing.leaderboard import IGNORES, Recommendation, Standing, recommend, standings
from mitate.auditing.measuring import checked_options
from mitate.auditing.reasons import ConfusedPair, Reasons
from mitate.auditing.rounds import Budget
from mitate.auditing.segmentation import OfClass, Segmentation, by_class, segmentation
from mitate.auditing.subjects import Subjects, audited_classes
from mitate.auditing.table import METRICS, find_metric
from mitate.auditing.usage import Usage, usage
from mitate.auditing.values import Values, best_first, mean_of
from mitate.auditing.verdict import Facts, Verdict, judge, over_guessing
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.targets import UNKNOWN
from mitate.models.classifier import Classifier
from mitate.models.mode import batch_for
from mitate.models.weights import digest_of_network

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes:
        classifier: what was audited.
        subjects: the images, in the order in which they were audited.
        predicted: the most probable class of each.
        classes: the class of each whose maps were audited.
        entrants: the contenders, and the controls after them.
        metrics: their names.
        standings: the leaderboard, a line a contender or control.
        recommendation: which map to take, and why.
        verdict: is the map wrong, or the classifier?
        facts: what the verdict rests on.
        course: every value, and what it cost.
        parameters: what all depends on.
        usage: what hiding the true regions does; None without masks.
        segmentation: what the classifier segments by itself; None where no metric asks for it.
        gate: the requirements, and whether they were met.
        reasons: which images are decided alike, and which of them for a wrong reason; None where
            that was not looked for.
        confused: the pairs of classes that are confused most.
        failures: photos that were left out, and why.
        notices: what should be known, a sentence each.
    """

    classifier: Classifier
    subjects: Subjects
    predicted: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    entrants: tuple[Entrant, ...]
    metrics: tuple[str, ...]
    standings: tuple[Standing, ...]
    recommendation: Recommendation | None
    verdict: Verdict
    facts: Facts
    course: Course
    parameters: Mapping[str, Any]
    usage: Usage | None = None
    segmentation: Segmentation | None = None
    gate: tuple[Outcome, ...] = ()
    reasons: Reasons | None = None
    confused: tuple[ConfusedPair, ...] = ()
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        chosen = self.recommendation.name if self.recommendation else "no map"
        return f"Audit({len(self.subjects)} images; {self.verdict.headline} Recommended: {chosen})"

    @property
    def values(self) -> Values:
        """One value an image, contender and metric."""
        return self.course.values

    @property
    def passed(self) -> bool:
        """Whether every requirement was met."""
        return all(outcome.met for outcome in self.gate)

    @property
    def recommended(self) -> Entrant | None:
        """The contender whose maps are recommended."""
        chosen = self.recommendation
        return next((one for one in self.entrants if chosen and one.name == chosen.name), None)

    @property
    def explainer(self) -> Explainer | None:
        """Makes the recommended maps."""
        return self.recommended.explainer if self.recommended else None

    def standing(self, name: str) -> Standing:
        """One line of the leaderboard.

        Raises:
            UsageError: no such line.
        """
        found = next((line for line in self.standings if line.name == name), None)
        if found is None:
            known = ", ".join(line.name for line in self.standings)
            raise UsageError(f"{name!r} was not measured: there are {known}")
        return found

    def segmented_by_class(self) -> tuple[OfClass, ...]:
        """What is segmented class by class; nothing where no metric asks for it."""
        if self.segmentation is None:
            return ()
        chosen = self.recommendation.name if self.recommendation else ""
        energy = self.values.of(chosen, "segmentation_energy")
        classes = self.classes[: self.values.images]
        return by_class(self.segmentation, classes, self.classifier.class_names, energy)

    def ranked(self) -> list[Standing]:
        """The leaderboard from the best to the worst in the metric that picks, controls last."""
        pick = str(self.parameters["pick"])
        means = {line.name: mean_of(self.values.of(line.name, pick)) for line in self.standings}
        places = {n: at for at, n in enumerate(best_first(means, METRICS[pick].better == "higher"))}
        return sorted(
            self.standings, key=lambda line: (line.is_control, -line.images, places[line.name])
        )

    def rows(self) -> list[dict[str, object]]:
        """One plain row an image, contender and metric; then what is segmented of each image."""
        rows = [
            self._row(place, one.method, one.layer, one.kind, metric, value)
            for one in self.entrants
            for metric in self.metrics
            for place, value in enumerate(self.values.of(one.name, metric).tolist())
        ]
        drawn = self.segmentation.rows() if self.segmentation else ()
        return rows + [
            self._row(place, "", "", "segmentation", metric, value)
            for place, found in enumerate(drawn)
            for metric, value in found.items()
        ]

    def value(self, metric: str) -> float:
        """The mean of the recommended map in a metric, or the accuracy; NaN where there is none."""
        if metric == ACCURACY:
            return float("nan") if self.facts.accuracy is None else self.facts.accuracy.mean
        score = self._chosen_scores().get(metric)
        return float("nan") if score is None else score.value.mean

    def beaten(self, metric: str) -> tuple[bool | None, str]:
        """Whether the recommended map is better than every control in a metric, and the words."""
        score = self._chosen_scores().get(metric)
        return (None, "no value") if score is None else (score.beaten, score.words)

    def _row(
        self, place: int, method: str, layer: str, kind: str, metric: str, value: float
    ) -> dict[str, object]:
        names, label = self.classifier.class_names, self.subjects.labels[place]
        return {
            "image": self.subjects.names[place],
            "true": "" if label == UNKNOWN else names[label],
            "predicted": names[self.predicted[place]],
            "audited": names[self.classes[place]],
            "method": method,
            "layer": layer,
            "kind": kind,
            "metric": metric,
            "value": value if np.isfinite(value) else None,
        }

    def _chosen_scores(self) -> Mapping[str, Any]:
        return self.standing(self.recommendation.name).scores if self.recommendation else {}


@keeping_memory()
def audit_images(
    classifier: Classifier,
    subjects: Subjects,
    *,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    audited: str = "label",
    pick: str | None = None,
    budget: str | float | None = None,
    require: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    searched: int = 0,
    folder: Path | None = None,
    tell: Tell = lambda words: None,
    shown: bool = False,
) -> Audit:
    """Audit images that are given.

    Args:
        classifier: what is audited.
        subjects: the images; they are audited in a random order, which ``seed`` draws.
        methods: as for ``line_up``.
        layers: as for ``line_up``.
        metrics: names, or families of them; None takes the default ones, and of these not those
            that compare with masks, or with a segmentation of the classifier's own, where there
            is none.
        audited: ``label`` audits the map of the true class where it is known, ``predicted`` that of
            the predicted class.
        pick: the metric that recommends; None takes energy where there are masks, and otherwise
            early deletion.
        budget: of forwards, or of time, as ``Budget.of`` reads it.
        require: thresholds, as ``requirement_of`` reads them.
        options: of the metrics.
        seed: of all that is random.
        batch_size: images, or altered images, in one forward; None as ``Explainer`` has it.
        searched: in so many images wrong reasons are looked for afterwards, as ``hold`` has it.
        folder: where parts are kept, so that an interrupted audit goes on.
        tell: told the estimate before it starts.
        shown: show progress.

    Raises:
        UsageError: anything that cannot be measured: no image, a network of values, masks or a
        segmentation that a metric needs, an unknown name, a budget that is too small.
    """
    _check(classifier, subjects)
    limit = Budget.of(budget)
    segments = classifier.decoder is not None
    names = metric_names(metrics, pick, masked=subjects.masked, segments=segments)
    picked = find_metric(pick or default_pick(subjects.masked)).name
    checked_options([METRICS[name] for name in names], options or {})
    required = [requirement_of(words, names) for words in require]
    ordered = subjects.shuffled(seed)
    probe = ordered.open([0]).inputs
    batch_size = batch_for(probe, batch_size)
    settings = {"batch_size": batch_size, "seed": seed}
    entrants, left_out = line_up(classifier, probe, methods=methods, layers=layers, **settings)
    predicted = ordered.predicted(classifier, batch_size).argmax(1)
    classes = audited_classes(ordered.labels, predicted, audited)
    contest = Contest(
        classifier,
        ordered,
        classes,
        tuple(entrants),
        names,
        picked,
        options or {},
        seed,
        batch_size,
    )
    parameters = _parameters(contest, audited, budget)
    course = hold(
        contest,
        parameters,
        budget=limit,
        searched=searched,
        folder=folder,
        tell=tell,
        shown=shown,
    )
    lines = standings(entrants, names, course.values)
    chosen = recommend(lines, course.values, picked)
    used = _asked(usage, contest, course, shown) if ordered.masked else None
    drawn = _asked(segmentation, contest, course, shown) if contest.segments else None
    facts = _facts(ordered, predicted, course, lines, chosen, used, drawn)
    audit = Audit(
        classifier,
        ordered,
        predicted,
        classes.numpy(),
        tuple(entrants),
        names,
        lines,
        chosen,
        judge(facts),
        facts,
        course,
        parameters,
        usage=used,
        segmentation=drawn,
        notices=tuple(left_out),
    )
    return with_gate(audit, required)


def with_reasons(
    audit: Audit, reasons: Reasons | None, confused: Sequence[ConfusedPair] = ()
) -> Audit:
    """The same audit with wrong reasons, which its verdict then rests on too."""
    wrong = () if reasons is None else reasons.wrong
    found = tuple(f"{words[0].upper()}{words[1:]}." for words in wrong)
    facts = replace(audit.facts, wrong_reasons=found)
    return replace(
        audit, reasons=reasons, confused=tuple(confused), facts=facts, verdict=judge(facts)
    )


def with_gate(audit: Audit, required: Sequence[Requirement]) -> Audit:
    """The same audit, held against requirements."""
    return replace(audit, gate=tuple(held(requirement, audit) for requirement in required))


def _asked(ask: Callable[..., Answer], contest: Contest, course: Course, shown: bool) -> Answer:
    """What asking the classifier about all images that were measured tells."""
    return ask(
        contest.classifier,
        contest.subjects,
        contest.classes,
        range(course.values.images),
        seed=contest.seed,
        batch_size=contest.batch_size,
        shown=shown,
    )


def _check(classifier: Classifier, subjects: Subjects) -> None:
    if not len(subjects):
        raise UsageError("there is no image to audit: give at least one")
    if classifier.task == "regression":
        raise UsageError(
            "an audit follows the probability of a class, and this network gives values: see its "
            "maps with `mitate explain`"
        )


def _parameters(contest: Contest, audited: str, budget: str | float | None) -> dict[str, Any]:
    """All that the values depend on, as plain data."""
    return {
        "mitate": version("mitate"),
        "torch": torch.__version__,
        "weights_sha256": digest_of_network(contest.classifier.network),
        **_decoder(contest),
        "task": contest.classifier.task,
        "images_sha256": contest.subjects.digest,
        "audited": audited,
        "contenders": [
            {"name": one.name, "options": dict(one.explainer.options)} for one in contest.contenders
        ],
        "metrics": list(contest.metrics),
        "options": dict(contest.options),
        "pick": contest.pick,
        "budget": budget,
        "seed": contest.seed,
        "batch_size": contest.batch_size,
    }


def _decoder(contest: Contest) -> dict[str, str]:
    """The digest of what segments, where a metric asks for it."""
    decoder = contest.classifier.decoder if contest.segments else None
    return {} if decoder is None else {"decoder_sha256": digest_of_network(decoder)}


def _facts(
    subjects: Subjects,
    predicted: np.ndarray,
    course: Course,
    lines: Sequence[Standing],
    chosen: Recommendation | None,
    used: Usage | None,
    drawn: Segmentation | None,
) -> Facts:
    known = [place for place, label in enumerate(subjects.labels) if label != UNKNOWN]
    accuracy, over = None, None
    if known:
        labels = [subjects.labels[place] for place in known]
        accuracy, over = over_guessing(labels, [int(predicted[place]) for place in known])
    line = next((line for line in lines if chosen and line.name == chosen.name), None)
    return Facts(
        images=course.values.images,
        accuracy=accuracy,
        over_guessing=over,
        recommendation=chosen,
        energy=line.scores.get("energy") if line else None,
        reliance=None if used is None else used.difference,
        fall=None if used is None else used.fall,
        ignores=line is not None and IGNORES in line.badges,
        segmentation=drawn,
        agreement=line.scores.get("segmentation_energy") if line else None,
    )
