"""Which fixed places decide, found without a map: corners, the frame and the centre are hidden."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mitate.auditing.comparison import FEWEST
from mitate.auditing.intervals import known_interval, mean_interval, sure_interval
from mitate.auditing.reasons.evidence import Decided
from mitate.auditing.reasons.groups import Group
from mitate.auditing.reasons.hiding import PLACES, Tried, mean_over_places, try_places
from mitate.auditing.reasons.patterns import Pattern, pattern
from mitate.auditing.reasons.photos import Images, picture_of
from mitate.auditing.reasons.places import FRAME, place_of
from mitate.auditing.reasons.regions import boxes, elsewhere, mostly_in, peaks_in
from mitate.auditing.reasons.spots import Spot
from mitate.auditing.reasons.suspicion import (
    MARGIN,
    missing_cause,
    missing_pattern,
    spared,
    why_wrong,
)
from mitate.models.classifier import Classifier
from mitate.progress import Advance

SIDE = 0.375  # of the image's: a corner, which holds a line of print, and the box at the centre
EDGE = FRAME / 2  # the frame's width: all four sides together take less than a quarter of the image


def find_spots(
    classifier: Classifier,
    images: Images,
    seen: Decided,
    groups: Sequence[Group],
    *,
    seed: int,
    batch_size: int,
    advance: Advance,
) -> tuple[tuple[Spot, ...], int]:
    """Hide each fixed place in the images of each class, and tell where that decides.

    A map that was trained to lie elsewhere, or that is made at a layer which has mixed all places,
    can hide what a network decides by; this asks the network alone. A place is compared with random
    places of its size where it would be found if none of these flipped anything.

    Args:
        classifier: what decides.
        images: where they are read.
        seen: what was decided, and the maps.
        groups: those that the maps found; a place that one of them names is not said again.
        seed: of the random places and of the noise.
        batch_size: images in one forward.
        advance: told how many images are done.

    Returns:
        The places of all classes with six images or more, those found first; and the forwards.
    """
    counts = np.bincount(seen.predicted, minlength=len(classifier.class_names))
    asked = [decided for decided, count in enumerate(counts) if count >= FEWEST]
    search = _Search(classifier, images, seen, seed, batch_size, len(asked))
    spots = [spot for decided in asked for spot in search.spots_of(decided, groups, advance)]
    spots.sort(key=lambda spot: (spot.suspicion != "found", -spot.flips.mean))
    return tuple(spots), search.forwards


def fixed_places(size: tuple[int, int]) -> list[Bool[np.ndarray, "H W"]]:
    """The four corners and the centre, each three eighths of the sides, and the frame."""
    height, width = (max(1, round(SIDE * side)) for side in size)
    top, left = ((side - part) // 2 for side, part in zip(size, (height, width), strict=True))
    rows = (slice(height), slice(size[0] - height, None))
    columns = (slice(width), slice(size[1] - width, None))
    parts = [(row, column) for row in rows for column in columns]
    parts.append((slice(top, top + height), slice(left, left + width)))
    places = [np.zeros(size, dtype=np.bool_) for _ in parts]
    for place, (row, column) in zip(places, parts, strict=True):
        place[row, column] = True
    frame = np.ones(size, dtype=np.bool_)
    high, wide = (max(1, round(EDGE * side)) for side in size)
    frame[high:-high, wide:-wide] = False
    return [*places, frame]


@dataclass
class _Search:
    """One search through the classes; counts the forwards."""

    classifier: Classifier
    images: Images
    seen: Decided
    seed: int
    batch_size: int
    classes: int
    forwards: int = 0

    def spots_of(self, decided: int, groups: Sequence[Group], advance: Advance) -> Iterator[Spot]:
        """What each place does to the images that are decided to be one class."""
        rows = np.flatnonzero(self.seen.predicted == decided)
        places = fixed_places(self.seen.input_size)
        tried = self._tried(decided, rows, places)
        advance(len(rows))
        name = self.classifier.class_names[decided]
        shown = [group.region for group in groups if group.class_name == name]
        for number, region in enumerate(places):
            flips = tried.flips[:, number]
            spot = Spot(name, place_of(region), region, len(flips), mean_interval(flips))
            best = sure_interval(flips, np.zeros_like(flips), self.classes * len(places))
            if best.low >= MARGIN:
                flipped = np.asarray(tried.numbers)[flips > 0]
                spot = replace(
                    self._compared(spot, decided, rows, flips, len(places)),
                    marked=known_interval(tried.marked[:, number]),
                    **self._of_members(rows, flipped, region),
                )
                spot = self._judged(spot, decided, shown)
            yield spot

    def _tried(
        self,
        decided: int,
        rows: Int[np.ndarray, " n"],
        places: Sequence[Bool[np.ndarray, "H W"]],
    ) -> Tried:
        tried = try_places(
            self.classifier,
            self.images,
            self.seen.probabilities(rows),
            decided,
            places,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        self.forwards += tried.forwards
        return tried

    def _compared(
        self,
        spot: Spot,
        decided: int,
        rows: Int[np.ndarray, " n"],
        flips: Float[np.ndarray, " n"],
        places: int,
    ) -> Spot:
        """With what random places of its size do; boxes, where the place has no room elsewhere."""
        rng = np.random.default_rng(self.seed)
        others = elsewhere(spot.region, PLACES, rng) or boxes(spot.region, PLACES, rng)
        beside = mean_over_places(self._tried(decided, rows, others).flips)
        return replace(
            spot,
            elsewhere=mean_interval(beside),
            excess=sure_interval(flips, beside, places * self.classes),
        )

    def _of_members(
        self,
        rows: Int[np.ndarray, " n"],
        flipped: Int[np.ndarray, " m"],
        region: Bool[np.ndarray, "H W"],
    ) -> dict[str, Any]:
        """What is told of the images that flip, and where the maps of the class lie."""
        heat, names = self.seen.heat, self.images.names
        mapped = rows[self.seen.mapped[rows]]
        mine = mapped[np.isin(self.seen.numbers[mapped], flipped)]
        return {
            "peaks": peaks_in(heat[mapped], region) if len(mapped) else float("nan"),
            "members": tuple(flipped.tolist()),
            "names": tuple(names[number] for number in flipped),
            "heat": heat[mine].mean(0) if len(mine) else np.full(heat.shape[1:], np.nan),
            "picture": picture_of(self.classifier, self.images, int(flipped[0])),
        }

    def _judged(self, spot: Spot, decided: int, shown: Sequence[Bool[np.ndarray, "H W"]]) -> Spot:
        """With its verdict, by the rules of groups but for those of maps."""
        if any(mostly_in(region, spot.region) for region in shown):
            return replace(spot, why="the maps show it: a group is found there")
        missing = missing_cause(spot.place, spot.marked, spot.excess)
        if not missing and not spared(spot.marked):
            others = self.seen.numbers[self.seen.predicted != decided].tolist()
            spot = replace(spot, pattern=self._pattern(spot, others))
        missing = missing or missing_pattern(spot.marked, spot.pattern)
        if missing:
            return replace(spot, why=missing)
        return replace(spot, suspicion="found", why=why_wrong(spot.place, spot.marked))

    def _pattern(self, spot: Spot, others: Sequence[int]) -> Pattern:
        return pattern(
            self.images,
            spot.members,
            others,
            spot.region,
            seed=self.seed,
            batch_size=self.batch_size,
        )
