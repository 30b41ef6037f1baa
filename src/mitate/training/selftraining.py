"""Training in rounds, with masks that a segmentation draws for the photos that have none."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mitate.data.wording import counted
from mitate.models.classifier import Classifier
from mitate.training.judging import BATCH, inputs_of, segmented
from mitate.training.loop import Epoch, Schedule, Stopped, run
from mitate.training.overlaps import HALF, POOR
from mitate.training.photos import Photos
from mitate.training.task import Task

# Of the photos with a mask, how many show it elsewhere: in the first two rounds nearly all, since a
# segmentation must know a photo without seams too; in the last all, so that of what stands beside a
# class nothing is left.
PLANTED, ALWAYS = 0.9, 1.0


@dataclass(frozen=True, eq=False)
class DrawnMasks:
    """What was drawn, and how good such masks are where the truth is known.

    Attributes:
        photos: the same, with a mask for each that had none and got one.
        number: how many got one.
        without: how many still have none, because nothing was found on them.
        dice: of the validation photos that have a mask, drawn alike; None without any.
        judged: how many these are.
    """

    photos: Photos
    number: int
    without: int
    dice: float | None
    judged: int

    @property
    def words(self) -> str:
        """What there is to tell."""
        if not self.number + self.without:
            return "All images to train on have a mask: none was drawn."
        told = f"Masks of {counted(self.number, 'training image')} were drawn"
        if self.without:
            told += f", on {self.without} nothing was found"
        if self.dice is None:
            return f"{told}. No validation image has a mask, so how good they are is not known."
        quality = f"Dice {self.dice:.2f} on {counted(self.judged, 'validation image')}"
        if self.dice < POOR:
            return (
                f"{told}. They are poor ({quality}) and may do harm: give more true masks, train "
                "longer, or do without drawn ones."
            )
        return f"{told} ({quality})."

    def as_dict(self) -> dict[str, Any]:
        """Plain data for classifier.json."""
        return {name: value for name, value in vars(self).items() if name != "photos"}


def passes(epochs: int) -> tuple[int, int, int]:
    """How many epochs each round has."""
    return max(1, epochs // 2), epochs, max(1, epochs // 3)


def run_drawing(
    classifier: Classifier,
    task: Task,
    train: Photos,
    valid: Photos,
    schedule: Schedule,
    *,
    shown: bool,
) -> tuple[list[Epoch], float, DrawnMasks]:
    """Train in three rounds; give the history, the learning rate and the masks that were drawn.

    First on the photos that have a mask alone, because the others may teach what the masks are to
    cure; then on all, with drawn masks for the others; last on the former again, because drawn
    masks take in some of what stands beside a class. To end on a few photos in which this goes with
    every class is what Kirichenko et al. 2022 found enough (arXiv:2204.02937).

    Args:
        classifier: whose decoder draws, once the task has taught it.
        task: trains it in place.
        train: of which some have a mask.
        valid: to judge.
        schedule: of the second round; an epoch of the others has as many images.
        shown: print what was drawn to standard error, too.

    Raises:
        Stopped: interrupted after an epoch or more, with those of all rounds.
    """
    marked, (first, second, last) = train.marked(), passes(schedule.epochs)
    plant = PLANTED if schedule.plant else 0
    few = replace(schedule, epochs=first, plant=plant, length=len(train))
    history, lr = run(task, marked, valid, few, shown=shown)
    try:
        drawn = drawn_masks(classifier, train, valid)
        if shown:
            print(drawn.words, file=sys.stderr)
        many = replace(schedule, epochs=second, plant=plant, lr=lr)
        few = replace(few, epochs=last, plant=ALWAYS if schedule.plant else 0, lr=lr)
        for photos, plan in ((drawn.photos, many), (marked, few)):
            more, _ = run(task, photos, valid, plan, shown=shown)
            history += _numbered(more, len(history))
    except KeyboardInterrupt as exc:
        more = exc.history if isinstance(exc, Stopped) else []
        raise Stopped([*history, *_numbered(more, len(history))], lr) from exc
    return history, lr, drawn


def _numbered(epochs: Sequence[Epoch], before: int) -> list[Epoch]:
    return [replace(epoch, epoch=epoch.epoch + before) for epoch in epochs]


def drawn_masks(classifier: Classifier, photos: Photos, valid: Photos) -> DrawnMasks:
    """Masks of the classifier's own segmentation, from one half up, for photos that have none.

    A network that goes on learning from what it says itself is self-training (Scudder 1965,
    doi:10.1109/TIT.1965.1053799; with drawn masks, Zoph et al. 2020, arXiv:2006.06882). Where all
    true masks of a class are empty there is nothing to mark on its photos, and nothing is drawn.
    A photo of another class on which nothing is found keeps none: an empty mask would say that its
    class shows nowhere.

    Args:
        classifier: with a decoder.
        photos: to train on, of which some have a mask.
        valid: those that judge.
    """
    without = [number for number in range(len(photos)) if not _known(photos, number)]
    bare = _bare(photos)
    found: dict[int, Bool[np.ndarray, "h w"]] = {}
    for start in range(0, len(without), BATCH):
        batch = without[start : start + BATCH]
        drawn = classifier.segment(inputs_of(classifier, photos, np.array(batch))).cpu()
        for number, shares in zip(batch, drawn, strict=True):
            label = photos.labels[number]
            region = _region(shares, label) & (label not in bare)
            if region.any() or label in bare:
                found[number] = region
    truth = segmented(classifier, valid)
    left = len(without) - len(found)
    return DrawnMasks(photos.with_drawn(found), len(found), left, truth.dice, truth.images)


def _known(photos: Photos, number: int) -> bool:
    return bool((photos.levels(number) >= 0).any())


def _bare(photos: Photos) -> set[int]:
    """The classes of which there are masks, and nothing is marked on any."""
    known = [number for number in range(len(photos)) if _known(photos, number)]
    marked = {photos.labels[n] for n in known if bool((photos.levels(n) > 0).any())}
    return {photos.labels[number] for number in known} - marked


def _region(shares: Float[Tensor, "regions h w"], label: int) -> Bool[np.ndarray, "h w"]:
    """What is drawn of the photo's class, or of the one region of all classes."""
    return np.asarray(shares[label if len(shares) > 1 else 0] >= HALF)
