"""What a network of the story knows, where it looks, and what the audit finds in it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from mitate.auditing.comparison import mask_batch
from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.localisation import energy_share
from mitate.auditing.reasons import Reasons, Spot, find_reasons
from mitate.data.decoding import read_image
from mitate.data.masks import MaskIndex
from mitate.demo import SYMPTOM
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.story.photos import CORNER, STAMP, Photos

FINDER, LAYER = "layercam", "stages.2"
BATCH = 32


@dataclass(frozen=True)
class Look:
    """How much of a method's maps of the stamped class lies on the date and on the lesions.

    On the validation photos that bear the date, as shares of each map's energy.
    """

    method: str
    date: Interval
    lesions: Interval


@dataclass(frozen=True, eq=False)
class Judged:
    """One network: what it knows without the date, where it looks, and what the audit finds.

    Attributes:
        classifier: as it was saved.
        right: whether each validation photo is recognised, with no date on any.
        stamped: which of these are of the class that bears the date.
        lured: whether the date makes each photo of another class, once it is printed on it, the
            stamped class.
        looks: one a method.
        reasons: what the search for wrong reasons found on the photos with the date.
    """

    classifier: Classifier
    right: Bool[np.ndarray, " n"]
    stamped: Bool[np.ndarray, " n"]
    lured: Bool[np.ndarray, " others"]
    looks: tuple[Look, ...]
    reasons: Reasons

    @property
    def known(self) -> Interval:
        """Share of the photos without a date that is recognised."""
        return mean_interval(self.right.astype(float))

    @property
    def known_of_the_stamped(self) -> Interval:
        """The same, of the class that bears the date."""
        return mean_interval(self.right[self.stamped].astype(float))

    @property
    def turned(self) -> Interval:
        """How many photos of other classes the date turns into the stamped class."""
        return mean_interval(self.lured.astype(float))

    @property
    def corner(self) -> Spot | None:
        """What hiding the date's corner does to photos that are decided to be the stamped class."""
        spots = (spot for spot in self.reasons.spots if spot.class_name == STAMP.disease)
        return next((spot for spot in spots if spot.place.name == CORNER), None)

    @property
    def named(self) -> bool:
        """Whether the audit names the class and the corner of the date."""
        return (STAMP.disease, CORNER) in self.reasons.named

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "accuracy": asdict(self.known),
            "accuracy_of_the_stamped_class": asdict(self.known_of_the_stamped),
            "turned_by_the_date": asdict(self.turned),
            "flipped_without_the_corner": self.corner and asdict(self.corner.flips),
            "looks": [asdict(look) for look in self.looks],
            "named": self.named,
            "reasons": list(self.reasons.words),
        }


@dataclass(frozen=True, eq=False)
class Story:
    """The network that cheats, the one that masks taught, how they differ, and the page."""

    seed: int
    before: Judged
    after: Judged
    page: Path

    @property
    def gain(self) -> Interval:
        """How many more of the photos without a date are recognised afterwards."""
        return paired_interval(self.after.right.astype(float), self.before.right.astype(float))

    @property
    def gain_of_the_stamped(self) -> Interval:
        """The same, of the class that bears the date."""
        stamped = self.before.stamped
        after, before = (one.right[stamped].astype(float) for one in (self.after, self.before))
        return paired_interval(after, before)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "seed": self.seed,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "gain": asdict(self.gain),
            "gain_of_the_stamped_class": asdict(self.gain_of_the_stamped),
            "page": str(self.page),
        }


def judged(classifier: Classifier, photos: Photos, methods: Sequence[str], seed: int) -> Judged:
    """Measure what the network knows, where it looks, and by what it decides."""
    labels = np.array([record.label for record in photos.plain])
    pictures = [read_image(record.path) for record in photos.plain]
    found = np.array(list(said(classifier, pictures)))
    return Judged(
        classifier,
        found == labels,
        labels == STAMP.disease,
        lured(classifier, pictures, labels, found, seed),
        tuple(looked(classifier, photos, methods)),
        find_reasons(
            classifier,
            photos.judged,
            Explainer(classifier, FINDER, LAYER),
            masks=MaskIndex.of(photos.stamped),
            mask_value=SYMPTOM,
            seed=seed,
        ),
    )


def said(classifier: Classifier, pictures: Sequence[Image.Image]) -> Iterator[str]:
    """The class that the network gives each photo."""
    for start in range(0, len(pictures), BATCH):
        inputs = classifier.inputs(pictures[start : start + BATCH])
        decided = classifier.logits(inputs).argmax(1)
        yield from (classifier.class_names[index] for index in decided.tolist())


def lured(
    classifier: Classifier,
    pictures: Sequence[Image.Image],
    labels: np.ndarray,
    found: np.ndarray,
    seed: int,
) -> Bool[np.ndarray, " others"]:
    """Whether a date makes each photo of the other classes what it was not: the stamped class."""
    rng = np.random.default_rng(seed)
    others = [number for number, label in enumerate(labels) if label != STAMP.disease]
    dated = [Image.fromarray(STAMP.press(np.asarray(pictures[n]), rng)) for n in others]
    after = np.array(list(said(classifier, dated)))
    return np.asarray((after == STAMP.disease) & (found[others] != STAMP.disease))


def looked(classifier: Classifier, photos: Photos, methods: Sequence[str]) -> Iterator[Look]:
    """Where each method's maps of the stamped class lie, on photos that bear the date."""
    paths, index = [record.path for record in photos.dated], MaskIndex.of(photos.stamped)
    size = classifier.preprocessing.size
    drawn = [index.read(path, size, value=SYMPTOM) for path in paths]
    lesions = mask_batch([mask for mask in drawn if mask is not None])
    date = torch.from_numpy(STAMP.region(size[0])).float().expand_as(lesions)
    for method in methods:
        explainer = Explainer(classifier, method, LAYER, show_progress=False)
        labels = [STAMP.disease] * len(paths)
        maps = explainer(paths, targets="label", labels=labels).maps[:, 0]
        yield Look(method, *(mean_interval(energy_share(maps, m).numpy()) for m in (date, lesions)))
