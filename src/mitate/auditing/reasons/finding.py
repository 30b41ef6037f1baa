"""Wrong reasons: which images are decided alike, by what place, and whether that is the cause."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.allocation import keeping_memory
from mitate.auditing.comparison import FEWEST
from mitate.auditing.intervals import known_interval, mean_interval
from mitate.auditing.reasons.evidence import Decided, look
from mitate.auditing.reasons.grouping import group
from mitate.auditing.reasons.groups import Group, Reasons
from mitate.auditing.reasons.hiding import Hidden, hide
from mitate.auditing.reasons.patterns import Pattern, pattern
from mitate.auditing.reasons.photos import Images, Recorded, images_of, picture_of
from mitate.auditing.reasons.places import border_share, place_of
from mitate.auditing.reasons.probing import find_spots
from mitate.auditing.reasons.regions import hot_region, peaks_in
from mitate.auditing.reasons.suspicion import beside_spots, judged, needs_pattern, ranked
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.explain.explainer import Explainer
from mitate.explain.targets import UNKNOWN, Labels
from mitate.models.classifier import Classifier
from mitate.models.mode import USUAL_BATCH
from mitate.progress import Advance, progress

HIDDEN = 16  # forwards an image beside its map: a region and six places, and others like them


def search_cost(a_map: float) -> float:
    """Forwards that the search takes in an image whose map takes ``a_map``, where all is quiet."""
    return a_map + HIDDEN


@keeping_memory()
def find_reasons(
    classifier: Classifier,
    photos: Sequence[Record] | Tensor,
    explainer: Explainer,
    *,
    labels: Labels | None = None,
    masks: Masks | Tensor | None = None,
    mask_value: int | None = None,
    root: Path | None = None,
    seed: int = 0,
    batch_size: int = USUAL_BATCH,
    shown: bool = True,
) -> Reasons:
    """Find groups of images that are decided alike, and tell those decided for a wrong reason.

    For each class the images that are decided to be it are grouped by where their maps lie and by
    what the network sees there (SpRAy: Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4). The
    region where a group's mean map is hot is then replaced by background, and how often that flips
    the decision is compared with random places of the same shape and size in the same images.
    ``suspicion.judged`` says when that makes a wrong reason. Maps can hide what a network decides
    by, so six fixed places (corners, centre, frame) are hidden too, whatever the maps show. An
    image is decided to be its most probable class, also where several can be true. It costs the
    explainer's own cost and sixteen forwards an image, and eight more for each place that flips so
    many of its class that it is compared with others.

    Args:
        classifier: what is looked into.
        photos: records, or one preprocessed tensor (n, channels, H, W).
        explainer: makes the maps, of the predicted class.
        labels: true classes, where they are known; records have their own.
        masks: the true regions, where they are known: an index for records, else a tensor
            (n, H, W) of shares in [0, 1].
        mask_value: the value of index masks that marks the region.
        root: the folder from which records are named; None names them as they were given.
        seed: of grouping, of the random places and of the noise.
        batch_size: images in one forward.
        shown: show progress.

    Raises:
        UsageError: no images, volumes, values instead of classes, or masks that do not fit;
        TargetError: labels that do not fit; ImageError: none of the images can be read.
    """
    images = images_of(
        classifier, photos, labels=labels, masks=masks, mask_value=mask_value, root=root
    )
    with progress("looking for wrong reasons", 3 * len(photos), shown=shown) as advance:
        seen = look(explainer, images, batch_size, advance)
        search = _Search(classifier, images, seen, masks is not None, seed, batch_size)
        groups = [
            found
            for decided in range(len(classifier.class_names))
            for found in search.groups_of(decided, advance)
        ]
        spots, tried = find_spots(
            classifier,
            images,
            seen,
            [found for found in groups if found.suspicion == "found"],
            seed=seed,
            batch_size=batch_size,
            advance=advance,
        )
    lost = Counter(classifier.class_names[c] for c in seen.predicted[~seen.mapped])
    failures = images.failures.values() if isinstance(images, Recorded) else ()
    return Reasons(
        ranked([beside_spots(found, spots) for found in groups]),
        explainer.method.name,
        seen.layer,
        seed,
        len(seen.numbers),
        dict(lost),
        tuple(failures),
        seen.forwards + search.forwards + tried,
        masks is not None,
        spots,
    )


@dataclass
class _Search:
    """One search through the classes; counts the forwards that hiding takes."""

    classifier: Classifier
    images: Images
    seen: Decided
    masked: bool
    seed: int
    batch_size: int
    forwards: int = 0

    def groups_of(self, decided: int, advance: Advance) -> list[Group]:
        """The groups of the images that are decided to be one class."""
        rows = np.flatnonzero((self.seen.predicted == decided) & self.seen.mapped)
        if not len(rows):
            return []
        features = self.seen.features(rows)
        numbers = group(features, self.seed)
        errors = self._errors(rows)
        found = []
        for number in range(int(numbers.max()) + 1):
            mine = numbers == number
            medoid = int(rows[mine][_medoid(features[mine])])
            found.append(self._group(decided, number, rows[mine], len(rows), medoid, errors))
            advance(int(mine.sum()))
        return found

    def _group(
        self,
        decided: int,
        number: int,
        rows: Int[np.ndarray, " m"],
        of: int,
        medoid: int,
        class_errors: float | None,
    ) -> Group:
        heat = self.seen.heat[rows].mean(0)
        region = hot_region(heat, self.seen.input_size)
        hidden = self._hidden(decided, rows, region)
        errors = self._errors(rows)
        names = self.images.names
        found = Group(
            class_name=self.classifier.class_names[decided],
            number=number,
            members=tuple(self.seen.numbers[rows].tolist()),
            names=tuple(names[n] for n in self.seen.numbers[rows]),
            share=len(rows) / of,
            heat=heat,
            region=region,
            place=place_of(region) if region.any() else None,
            peaks=peaks_in(self.seen.heat[rows], region),
            border=float(border_share(self.seen.heat[rows]).mean()),
            outside=mean_interval(1 - self.seen.on_mask[rows]) if self.masked else None,
            errors=errors,
            error_lift=None if errors is None else errors - (class_errors or 0.0),
            medoid=int(self.seen.numbers[medoid]),
            medoid_name=names[self.seen.numbers[medoid]],
            medoid_heat=self.seen.heat[medoid],
            picture=picture_of(self.classifier, self.images, int(self.seen.numbers[medoid])),
            **self._caused(hidden),
        )
        if needs_pattern(found):
            found = replace(found, pattern=self._pattern(rows, region))
        return judged(found)

    def _pattern(self, rows: Int[np.ndarray, " m"], region: Bool[np.ndarray, "H W"]) -> Pattern:
        members = self.seen.numbers[rows].tolist()
        others = np.setdiff1d(self.seen.numbers, members).tolist()
        return pattern(
            self.images, members, others, region, seed=self.seed, batch_size=self.batch_size
        )

    def _hidden(
        self, decided: int, rows: Int[np.ndarray, " m"], region: Bool[np.ndarray, "H W"]
    ) -> Hidden | None:
        """What hiding does; None where there is no region, or too few images to judge."""
        if not region.any() or len(rows) < FEWEST:
            return None
        hidden = hide(
            self.classifier,
            self.images,
            self.seen.probabilities(rows),
            decided,
            region,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        self.forwards += hidden.forwards
        return hidden

    def _caused(self, hidden: Hidden | None) -> dict[str, Any]:
        if hidden is None:
            return dict.fromkeys(("flips", "elsewhere", "excess", "fall", "marked"))
        return {
            "flips": hidden.rate,
            "elsewhere": hidden.rate_elsewhere,
            "excess": hidden.excess,
            "fall": float(hidden.falls.mean()) if len(hidden.falls) else None,
            "marked": known_interval(hidden.marked),
        }

    def _errors(self, rows: Int[np.ndarray, " m"]) -> float | None:
        """Share of the labelled images that are decided wrongly; None where none is labelled."""
        known = rows[self.seen.labels[rows] != UNKNOWN]
        if not len(known):
            return None
        return float((self.seen.labels[known] != self.seen.predicted[known]).mean())


def _medoid(features: Float[np.ndarray, "m d"]) -> int:
    """The row whose distances to all the others add up to the least."""
    lengths = (features**2).sum(1)
    squares = lengths[:, None] + lengths[None] - 2 * features @ features.T
    # Rounded, so that of equal images the first is taken whatever order the products are summed in.
    return int(np.sqrt(squares.clip(0)).sum(1).round(6).argmin())
