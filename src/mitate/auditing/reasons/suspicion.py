"""When a group is decided for a wrong reason. docs/reasons.md tells whence the numbers are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mitate import imports
from mitate.auditing.comparison import FEWEST
from mitate.auditing.intervals import Interval
from mitate.auditing.reasons.groups import Group
from mitate.auditing.reasons.numbers import percent
from mitate.auditing.reasons.patterns import Pattern
from mitate.auditing.reasons.places import Place
from mitate.auditing.reasons.regions import mostly_in
from mitate.auditing.reasons.spots import Spot
from mitate.data.wording import counted

MARGIN = 0.1  # how far the region's flips must surely lie above those of random places
SMALL = 0.25  # a region that covers more of the image tells no place
PEAKS = 0.5  # share of the members whose own map must have its peak there


def judged(group: Group) -> Group:
    """The group with its verdict.

    It is found where all of these hold:

    - it has six images or more, and its region covers at most a quarter of the image;
    - at least half of the members' own maps have their peak there;
    - hiding the region flips the decision more often than hiding as much at random places of the
      same images, by 0.1 or more at the lower end of the 95 % interval;
    - the reason cannot be what the image is of: masks mark less of the region than of the whole
      image; or they are not known, or do not surely mark more of it, as of lesions that lie all
      over a leaf, and it is in a corner or on the border, and the members have a pattern at the
      same pixels of it that other images have not (see ``patterns``).
    """
    missing = missing_before_pattern(group) or missing_pattern(group.marked, group.pattern)
    if missing or group.place is None:
        return replace(group, suspicion="quiet", why=missing)
    return replace(group, suspicion="found", why=why_wrong(group.place, group.marked))


def beside_spots(group: Group, spots: Sequence[Spot]) -> Group:
    """The group; of a quiet one whose region is part of a place that was found it is said so."""
    if group.suspicion == "found":
        return group
    for spot in spots:
        same = spot.suspicion == "found" and spot.class_name == group.class_name
        if same and mostly_in(group.region, spot.region):
            told = f"this part of {spot.place.name} alone does not decide, and all of it does"
            return replace(group, why=told)
    return group


def why_wrong(place: Place, marked: Interval | None) -> str:
    """What speaks for a wrong reason, once nothing is missing for it."""
    wrong = (
        f"the masks mark less of {place.name} than of the image"
        if spared(marked)
        else f"the same pattern stands in {place.name} of these images"
    )
    return f"{wrong}, and hiding it changes the decision"


def needs_pattern(group: Group) -> bool:
    """Whether all but the pattern speaks for a wrong reason."""
    return not spared(group.marked) and not missing_before_pattern(group)


def spared(marked: Interval | None) -> bool:
    """Whether masks are known, and mark less of a place than of the whole image."""
    return marked is not None and marked.mean < 0


def missing_before_pattern(group: Group) -> str:
    """The first thing but the pattern that keeps a group from being found; empty where none is."""
    if len(group.members) < FEWEST:
        return f"{counted(len(group.members), 'image')}, and it takes {FEWEST} to judge"
    if group.place is None:
        return "no part of the maps stands out"
    if group.area > SMALL:
        return f"the region covers {percent(group.area)} of the image, which tells no place"
    if group.peaks < PEAKS:
        return f"only {percent(group.peaks)} of the maps have their peak in the region"
    return missing_cause(group.place, group.marked, group.excess)


def missing_cause(place: Place, marked: Interval | None, excess: Interval | None) -> str:
    """The first thing that keeps a place from being a wrong cause; empty where none is.

    Args:
        place: what was hidden.
        marked: how much more of it than of the whole image the masks mark; None without masks.
        excess: how much more often hiding it flips the decision than hiding as much elsewhere.
    """
    if marked is not None and marked.low > 0:
        return "the masks mark more of the region than of the image"
    if not spared(marked) and not place.at_edge:
        told = "masks would tell" if marked is None else "the masks do not mark less of it"
        return f"{place.name} may be where the object is; {told}"
    if excess is None or excess.images < FEWEST:
        return "the region could not be hidden and compared with other places"
    if not excess.low >= MARGIN:
        return "hiding the region flips hardly more than hiding as much elsewhere"
    return ""


def missing_pattern(marked: Interval | None, found: Pattern | None) -> str:
    """What is missing where neither masks nor a fixed pattern speak; empty where one does."""
    if spared(marked) or (found is not None and found.is_fixed):
        return ""
    said = "what lies in the region differs from image to image"
    if marked is None:
        return f"{said}; masks would tell more"
    return f"{said}, and the masks mark as much of it as of the image"


def ranked(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Found groups first; among these and among the others by the mean of their ranks.

    The ranks are those by size, error lift, heat outside the masks, and heat on the border, as far
    as they are known; ties share a rank.
    """
    if not groups:
        return ()
    columns = [
        [group.share for group in groups],
        [_or_least(group.error_lift) for group in groups],
        [_or_least(group.outside.mean if group.outside else None) for group in groups],
        [_or_least(group.border) for group in groups],
    ]
    rankdata = imports.scipy("stats").rankdata
    ranks = np.mean([rankdata(column) for column in columns], axis=0)
    order = sorted(range(len(groups)), key=lambda i: (groups[i].suspicion != "found", -ranks[i], i))
    return tuple(groups[index] for index in order)


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None or not np.isfinite(value) else value
