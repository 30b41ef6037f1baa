"""An audit on disk: audit.json, audit.csv, and the choice that a classifier's folder remembers."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mitate.auditing.audit import Audit
from mitate.auditing.intervals import Interval
from mitate.auditing.leaderboard import Recommendation, Score, Standing
from mitate.auditing.usage import Usage
from mitate.errors import DataError
from mitate.explain.targets import UNKNOWN
from mitate.files import write_csv, write_text
from mitate.models.saved import libraries
from mitate.models.weights import digest_of_network

MANIFEST, TABLE, GROUPS, BEST = "audit.json", "audit.csv", "groups.csv", "best.json"
FORMAT: Final = "mitate audit"
FORMAT_BEST: Final = "mitate best map"
VERSION = 1


class Plain(BaseModel):
    """Parent of what stands in these files: NaN is null, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IntervalFile(Plain):
    """A mean with its 95 % interval; null where no image has a value."""

    mean: float | None
    low: float | None
    high: float | None
    images: int
    missing: int


class ScoreFile(Plain):
    """One metric of one contender, beside the best control in it."""

    value: IntervalFile
    control: str
    floor: float | None
    difference: IntervalFile | None
    better_than_every_control: bool | None
    words: str


class StandingFile(Plain):
    """One line of the leaderboard."""

    name: str
    method: str
    layer: str
    kind: Literal["method", "control", "other class", "shifted"]
    images: int
    cost: float
    empty_maps: int
    badges: tuple[str, ...]
    scores: dict[str, ScoreFile]


class RecommendationFile(Plain):
    """Which map to take."""

    method: str
    layer: str
    metric: str
    trusted: bool
    reason: str
    as_good: tuple[str, ...]


class VerdictFile(Plain):
    """Is the map wrong, or the classifier?"""

    outcome: str
    grade: Literal["good", "open", "bad"]
    headline: str
    sentences: tuple[str, ...]
    advice: str


class ImageFile(Plain):
    """One image that was audited; segmented is the share of it that is, 0 where nothing is."""

    name: str
    sha256: str
    true: str | None
    predicted: str
    audited: str
    segmented: float | None = None


class UsageFile(Plain):
    """What hiding the true regions does to the class."""

    fall: IntervalFile
    elsewhere: IntervalFile
    difference: IntervalFile
    flips: IntervalFile


class SegmentedClassFile(Plain):
    """What is segmented for one audited class, and what hiding it does beyond hiding elsewhere."""

    name: str
    images: int
    area: IntervalFile
    energy: IntervalFile
    difference: IntervalFile


class SegmentationFile(Plain):
    """What the classifier itself segments; Dice and IoU are pooled over what has a true region."""

    area: IntervalFile
    empty: int
    not_finite: int
    true_area: IntervalFile
    compared: int
    dice: float | None
    iou: float | None
    reliance: UsageFile
    classes: tuple[SegmentedClassFile, ...]


class OutcomeFile(Plain):
    """One requirement."""

    requirement: str
    met: bool
    found: str


class AuditFile(Plain):
    """What audit.json holds."""

    format: Literal["mitate audit"] = FORMAT
    version: int = VERSION
    classifier: dict[str, Any]
    libraries: dict[str, str]
    parameters: dict[str, Any]
    verdict: VerdictFile
    accuracy: IntervalFile | None
    over_guessing: IntervalFile | None
    reliance: UsageFile | None
    segmentation: SegmentationFile | None = None
    recommendation: RecommendationFile | None
    leaderboard: tuple[StandingFile, ...]
    curves: dict[str, dict[str, list[float]]]
    fractions: dict[str, list[float]]
    gate: tuple[OutcomeFile, ...]
    reasons: dict[str, Any] | None
    confused: tuple[dict[str, Any], ...]
    images: tuple[ImageFile, ...]
    rounds: tuple[tuple[int, int], ...]
    forwards: float
    seconds: float
    failures: tuple[str, ...]
    notices: tuple[str, ...]


class BestFile(Plain):
    """The choice that a classifier's folder remembers."""

    format: Literal["mitate best map"] = FORMAT_BEST
    version: int = VERSION
    weights_sha256: str
    images_sha256: str
    images: int
    method: str
    layer: str
    metric: str
    trusted: bool
    reason: str


def as_dict(audit: Audit) -> dict[str, Any]:
    """The audit as plain data, as audit.json has it."""
    return audit_file(audit).model_dump(mode="json")


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write audit.csv, groups.csv and, last, audit.json; give the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / TABLE, audit.rows())
    write_csv(folder / GROUPS, list(audit.reasons.rows()) if audit.reasons else [])
    text = json.dumps(as_dict(audit), ensure_ascii=False, indent=1, allow_nan=False)
    return write_text(folder / MANIFEST, text + "\n")


def remember(audit: Audit, folder: Path) -> Path | None:
    """Write the recommended map into a classifier's folder; nothing where none is recommended."""
    chosen = audit.recommendation
    if chosen is None:
        return None
    best = BestFile(
        weights_sha256=digest_of_network(audit.classifier.network),
        images_sha256=audit.parameters["images_sha256"],
        images=len(audit.subjects),
        method=chosen.method,
        layer=chosen.layer,
        metric=chosen.metric,
        trusted=chosen.trusted,
        reason=chosen.reason,
    )
    return write_text(folder / BEST, best.model_dump_json(indent=1) + "\n")


def remembered(classifier: Any) -> BestFile | None:
    """The map that was found best for this very classifier; None where none is remembered.

    Raises:
        DataError: the file is no such choice, or of a newer version.
    """
    path = None if classifier.folder is None else classifier.folder / BEST
    if path is None or not path.is_file():
        return None
    try:
        best = BestFile.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as exc:
        raise DataError(f"{path} is no remembered choice of a map: delete it") from exc
    if best.version > VERSION:
        raise DataError(f"{path} is of version {best.version} and this mitate reads {VERSION}")
    return best if best.weights_sha256 == digest_of_network(classifier.network) else None


def audit_file(audit: Audit) -> AuditFile:
    """The audit in the fields of audit.json."""
    classifier, names = audit.classifier, audit.classifier.class_names
    subjects, chosen = audit.subjects, audit.recommendation
    curves = dict.fromkeys(name for _, name in audit.values.curves)
    accuracy, over = audit.facts.accuracy, audit.facts.over_guessing
    segmented = _segmented(audit)
    return AuditFile(
        classifier={
            "reference": classifier.reference,
            "network": type(classifier.network).__name__,
            "class_names": list(names),
        },
        libraries=libraries(),
        parameters=dict(audit.parameters),
        verdict=VerdictFile(**asdict(audit.verdict)),
        accuracy=None if accuracy is None else interval_file(accuracy),
        over_guessing=None if over is None else interval_file(over),
        reliance=None if audit.usage is None else _usage(audit.usage),
        segmentation=_segmentation(audit),
        recommendation=None if chosen is None else _recommendation(chosen),
        leaderboard=tuple(_standing(line) for line in audit.standings),
        curves={curve: _curves(audit, curve) for curve in curves},
        fractions={name: steps.tolist() for name, steps in audit.values.fractions.items()},
        gate=tuple(OutcomeFile(**asdict(outcome)) for outcome in audit.gate),
        reasons=None if audit.reasons is None else audit.reasons.as_dict(),
        confused=tuple(pair.as_dict() for pair in audit.confused),
        images=tuple(
            ImageFile(
                name=subjects.names[place],
                sha256=subjects.digests[place],
                true=None if subjects.labels[place] == UNKNOWN else names[subjects.labels[place]],
                predicted=names[audit.predicted[place]],
                audited=names[audit.classes[place]],
                segmented=segmented[place],
            )
            for place in range(len(subjects))
        ),
        rounds=audit.course.rounds,
        forwards=audit.course.forwards,
        seconds=audit.course.seconds,
        failures=audit.failures,
        notices=audit.notices,
    )


def interval_file(interval: Interval) -> IntervalFile:
    """An interval whose NaN are null."""
    return IntervalFile(**{name: _known(value) for name, value in asdict(interval).items()})


def _usage(used: Usage) -> UsageFile:
    return UsageFile(
        fall=interval_file(used.fall),
        elsewhere=interval_file(used.elsewhere),
        difference=interval_file(used.difference),
        flips=interval_file(used.flips),
    )


def _segmentation(audit: Audit) -> SegmentationFile | None:
    drawn = audit.segmentation
    if drawn is None:
        return None
    return SegmentationFile(
        area=interval_file(drawn.area),
        empty=drawn.empty,
        not_finite=drawn.broken,
        true_area=interval_file(drawn.true_area),
        compared=drawn.compared,
        dice=drawn.overlaps.dice(),
        iou=drawn.overlaps.iou(),
        reliance=_usage(drawn.usage),
        classes=tuple(
            SegmentedClassFile(
                name=one.name,
                images=one.images,
                area=interval_file(one.area),
                energy=interval_file(one.energy),
                difference=interval_file(one.difference),
            )
            for one in audit.segmented_by_class()
        ),
    )


def _segmented(audit: Audit) -> list[float | None]:
    """The share of each image that is segmented; None where that is not known."""
    areas = audit.segmentation.areas.tolist() if audit.segmentation else []
    return [*map(_known, areas), *[None] * (len(audit.subjects) - len(areas))]


def _recommendation(chosen: Recommendation) -> RecommendationFile:
    return RecommendationFile(**asdict(chosen))


def _standing(line: Standing) -> StandingFile:
    return StandingFile(
        name=line.name,
        method=line.method,
        layer=line.layer,
        kind=line.kind,
        images=line.images,
        cost=line.cost,
        empty_maps=line.empty,
        badges=line.badges,
        scores={metric: _score(score) for metric, score in line.scores.items()},
    )


def _score(score: Score) -> ScoreFile:
    return ScoreFile(
        value=interval_file(score.value),
        control=score.control,
        floor=_known(score.floor),
        difference=None if score.difference is None else interval_file(score.difference),
        better_than_every_control=score.beaten,
        words=score.words,
    )


def _curves(audit: Audit, curve: str) -> dict[str, list[float]]:
    found: Mapping[str, np.ndarray] = {
        line.name: audit.values.curve(line.name, curve) for line in audit.standings
    }
    return {name: steps.tolist() for name, steps in found.items() if len(steps)}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
