"""How good a classifier is on labelled images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mitate import imports


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class, in [0, 1], and its number of images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Scores over a set of images.

    Attributes:
        accuracy: the share of images that are right.
        macro_f1: F1 averaged over the classes that have images.
        classes: one score a class.
        confusion: images by true class (row) and predicted class (column).
    """

    accuracy: float
    macro_f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for classifier.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Scores":
        """What ``as_dict`` gave, read back."""
        return cls(
            accuracy=float(stored["accuracy"]),
            macro_f1=float(stored["macro_f1"]),
            classes=tuple(ClassScores(**score) for score in stored["classes"]),
            confusion=tuple(tuple(int(n) for n in row) for row in stored["confusion"]),
        )


def score(true: Sequence[int], predicted: Sequence[int], class_names: Sequence[str]) -> Scores:
    """Score predictions; a class without images counts in nothing but the confusion matrix."""
    metrics = imports.sklearn("metrics")
    indices = list(range(len(class_names)))
    confusion = metrics.confusion_matrix(true, predicted, labels=indices)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=indices, zero_division=0.0
    )
    present = support > 0
    return Scores(
        accuracy=float(np.mean(np.asarray(true) == np.asarray(predicted))),
        macro_f1=float(f1[present].mean()),
        classes=tuple(
            ClassScores(name, float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(class_names, precision, recall, f1, support, strict=True)
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )
