"""What a classifier segments on an audit's images: where, how rightly, and whether it is used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.agreement import segmented
from mitate.auditing.intervals import Interval, mean_interval
from mitate.auditing.localisation import area_share, region
from mitate.auditing.subjects import Batch, Subjects, in_batches
from mitate.auditing.usage import Usage, usage
from mitate.auditing.values import Numbers
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.training.overlaps import Overlaps


@dataclass(frozen=True)
class Segmentation:
    """What is segmented for the audited class of each image.

    Attributes:
        areas: the share of each image that is segmented: 0 where nothing is, NaN where what the
            decoder gives is not finite.
        true_areas: the share that the true region covers; NaN where there is none.
        overlaps: pixels that are segmented and true, segmented only, and true only; none of any
            kind in an image without a true region or with a segmentation that is not finite.
        usage: what hiding the segmented regions does to the class.
    """

    areas: Numbers
    true_areas: Numbers
    overlaps: Overlaps
    usage: Usage

    @property
    def area(self) -> Interval:
        """The share of the images in which something is segmented; the others are missing."""
        return mean_interval(np.where(self.areas > 0, self.areas, np.nan))

    @property
    def true_area(self) -> Interval:
        """The share that the true regions cover of the images that have one."""
        return mean_interval(self.true_areas)

    @property
    def empty(self) -> int:
        """In how many images nothing is segmented."""
        return int((self.areas == 0).sum())

    @property
    def broken(self) -> int:
        """In how many images the decoder gives what is not finite."""
        return int(np.isnan(self.areas).sum())

    @property
    def compared(self) -> int:
        """In how many images it is held against a true region."""
        return int((np.isfinite(self.areas) & np.isfinite(self.true_areas)).sum())

    def rows(self) -> list[dict[str, float]]:
        """By image, its area and, beside a true region, Dice and IoU; NaN where there is none."""
        nan = float("nan")
        each = [Overlaps(counts[None]) for counts in self.overlaps.counts]
        return [
            {
                "segmentation_area": float(area),
                "segmentation_dice": nan if (dice := one.dice()) is None else dice,
                "segmentation_iou": nan if (iou := one.iou()) is None else iou,
            }
            for area, one in zip(self.areas, each, strict=True)
        ]


@dataclass(frozen=True)
class OfClass:
    """What is segmented for one audited class.

    Attributes:
        name: of the class.
        images: how many.
        area: the share that is segmented, where anything is; the others are missing.
        energy: the recommended map's share on that.
        difference: how much more the class falls without it than without as much elsewhere.
    """

    name: str
    images: int
    area: Interval
    energy: Interval
    difference: Interval


def by_class(
    drawn: Segmentation,
    classes: Int[np.ndarray, " n"],
    class_names: Sequence[str],
    energy: Float[np.ndarray, " m"],
) -> tuple[OfClass, ...]:
    """What is segmented class by class, where the mean of all would hide one.

    Args:
        drawn: what is segmented of the images.
        classes: the audited class of each.
        class_names: of all classes, in whose order they are told.
        energy: the recommended map's on what is segmented, image by image; it may be known of the
            first images only, or of none.
    """
    known = np.full(len(classes), np.nan)
    known[: len(energy)] = energy
    areas = np.where(drawn.areas > 0, drawn.areas, np.nan)
    return tuple(
        OfClass(
            name,
            int(mine.sum()),
            mean_interval(areas[mine]),
            mean_interval(known[mine]),
            mean_interval(drawn.usage.beyond[mine]),
        )
        for index, name in enumerate(class_names)
        if (mine := classes == index).any()
    )


def segmentation(
    classifier: Classifier,
    subjects: Subjects,
    classes: Int[Tensor, " n"],
    places: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    shown: bool,
) -> Segmentation:
    """Segment the images at some places, and hide what is segmented.

    Raises:
        ClassifierError: a classifier without a decoder.
    """
    areas, true_areas, counts = [], [], []
    with progress("segmenting", len(places), shown=shown) as advance:
        for part in in_batches(places, batch_size):
            batch = subjects.open(part)
            drawn = segmented(classifier, batch.inputs, classes[list(part)]).cpu()
            true = torch.zeros_like(drawn) if batch.masks is None else batch.masks.cpu()
            marked, finite = true.flatten(1).any(1), drawn.flatten(1).isfinite().all(1)
            areas.append(area_share(drawn))
            true_areas.append(torch.where(marked, area_share(true), torch.nan))
            known = (marked & finite)[:, None, None, None].expand(-1, 1, *drawn.shape[1:])
            found = Overlaps.of(drawn[:, None], region(true).float()[:, None], known)
            counts.append(found.counts)
            advance(len(part))
    hiding = segmented_subjects(classifier, subjects, classes)
    return Segmentation(
        torch.cat(areas).double().numpy(),
        torch.cat(true_areas).double().numpy(),
        Overlaps(torch.cat(counts)),
        usage(classifier, hiding, classes, places, seed=seed, batch_size=batch_size, shown=shown),
    )


def segmented_subjects(
    classifier: Classifier, subjects: Subjects, classes: Int[Tensor, " n"]
) -> Subjects:
    """The same images, with what the classifier segments in the place of the true regions."""

    def opened(places: Sequence[int]) -> Batch:
        batch = subjects.open(places)
        drawn = segmented(classifier, batch.inputs, classes[list(places)])
        return replace(batch, masks=drawn.nan_to_num(0))

    return replace(subjects, open=opened, masked=True)
