"""How good a classifier is on labelled images, and its segmentation on masks."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mitate import imports
from mitate.training.overlaps import Overlaps

_DRAWN = "segmentation"


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one class, in [0, 1], and its number of images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class RegionScores:
    """Dice and IoU of one class in [0, 1], and its images with a mask; None where nothing is true.

    Of a decoder with one region they are over the images of the class; of one with a region a
    class, over the class's region in all images.
    """

    name: str
    dice: float | None
    iou: float | None
    images: int


@dataclass(frozen=True)
class SegmentationScores:
    """Dice and IoU over the pixels of all images that have a mask, and class by class."""

    dice: float | None
    iou: float | None
    images: int
    classes: tuple[RegionScores, ...]

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "SegmentationScores":
        """What ``asdict`` gave, read back."""
        classes = tuple(RegionScores(**score) for score in stored["classes"])
        return cls(stored["dice"], stored["iou"], int(stored["images"]), classes)


@dataclass(frozen=True)
class Scores:
    """Scores over a set of images.

    Attributes:
        accuracy: the share of images that are right.
        macro_f1: F1 averaged over the classes that have images.
        classes: one score a class.
        confusion: images by true class (row) and predicted class (column).
        segmentation: of a classifier that was trained with masks.
    """

    accuracy: float
    macro_f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    segmentation: SegmentationScores | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for classifier.json."""
        stored = asdict(self)
        return stored if self.segmentation else {k: stored[k] for k in stored if k != _DRAWN}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Scores":
        """What ``as_dict`` gave, read back."""
        drawn = stored.get(_DRAWN)
        return cls(
            accuracy=float(stored["accuracy"]),
            macro_f1=float(stored["macro_f1"]),
            classes=tuple(ClassScores(**score) for score in stored["classes"]),
            confusion=tuple(tuple(int(n) for n in row) for row in stored["confusion"]),
            segmentation=SegmentationScores.from_dict(drawn) if drawn else None,
        )


def guessing(scores: Scores) -> Iterator[str]:
    """What is to be told of a classifier that is right no more often than a guess would be."""
    images = [of_class.support for of_class in scores.classes]
    share = max(images, default=0) / max(1, sum(images))
    if scores.accuracy <= share < 1:
        yield (
            f"The classifier is right on {scores.accuracy:.3f} of the validation photos; to name "
            f"the most frequent class each time would be on {share:.3f}: train longer, with "
            "another learning rate, from pretrained weights, or with every class shown equally "
            "often (--balance)."
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


def score_segmentation(
    overlaps: Overlaps, true: Sequence[int], class_names: Sequence[str]
) -> SegmentationScores:
    """Score what was drawn on images with masks, of these true classes."""
    regions = overlaps.counts.shape[1]
    labels = torch.as_tensor(true, dtype=torch.long)
    rows = []
    for index, name in enumerate(class_names):
        own = overlaps[labels == index] if regions == 1 else overlaps.region(index)
        images = int((labels == index).sum())
        rows.append(RegionScores(name, own.dice(), own.iou(), images))
    return SegmentationScores(overlaps.dice(), overlaps.iou(), len(labels), tuple(rows))
