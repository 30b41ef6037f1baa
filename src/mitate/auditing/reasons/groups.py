"""What the search for wrong reasons gives: groups of images that are decided alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mitate.auditing.intervals import Interval
from mitate.auditing.reasons.numbers import interval_data, number_data, percent
from mitate.auditing.reasons.patterns import Pattern
from mitate.auditing.reasons.places import Place
from mitate.auditing.reasons.spots import Spot

Suspicion = Literal["found", "quiet"]


@dataclass(frozen=True, eq=False)
class Group:
    """Images of one decided class that the network decides alike.

    Attributes:
        class_name: what they are decided to be.
        number: of the group in its class, the largest is 0.
        members: numbers of the images, in the order that they were given in.
        names: of the members.
        share: of the images that are decided to be this class and have a map.
        heat: the mean of the members' maps, each as shares of its sum; on the layer's grid.
        region: the pixels around the peak of ``heat``; empty where nothing stands out.
        place: the part of the image that the region takes; None of an empty one.
        peaks: share of the members whose own map has its peak in the region.
        border: share of the heat on the frame of an eighth of the side.
        outside: share of the members' heat outside their masks; None without masks.
        marked: how much more of the region than of the whole image the masks mark; None without.
        errors: share of the members with another true class; None without labels.
        error_lift: how far that is above the share in all images decided to be this class.
        flips: how often hiding the region flips the decision; None where it was not tried.
        elsewhere: how often hiding as much at random places does.
        excess: the difference of the two, image by image.
        fall: by how much the probability of the class falls with the region hidden.
        pattern: whether the same thing stands at the same pixels; None where it was not asked.
        medoid: number of the member that is most like all the others.
        medoid_name: its name.
        medoid_heat: its own map.
        picture: what the network saw of it; None where that cannot be told.
        suspicion: ``found`` where the group is decided for a wrong reason.
        why: what speaks for that, or what is missing.
    """

    class_name: str
    number: int
    members: tuple[int, ...]
    names: tuple[str, ...]
    share: float
    heat: Float[np.ndarray, "h w"]
    region: Bool[np.ndarray, "H W"]
    place: Place | None
    peaks: float
    border: float
    outside: Interval | None
    marked: Interval | None
    errors: float | None
    error_lift: float | None
    flips: Interval | None
    elsewhere: Interval | None
    excess: Interval | None
    fall: float | None
    medoid: int
    medoid_name: str
    medoid_heat: Float[np.ndarray, "h w"]
    picture: Image.Image | None = None
    pattern: Pattern | None = None
    suspicion: Suspicion = "quiet"
    why: str = ""

    @property
    def area(self) -> float:
        """Share of the image that the region takes."""
        return float(self.region.mean())

    @property
    def words(self) -> str:
        """What was found, as one sentence."""
        said = f"{percent(self.share)} of {self.class_name!r}"
        if self.place is None:
            return f"{said} has maps of which no part stands out"
        verb = "is decided by" if self.suspicion == "found" else "has its heat in"
        said = f"{said} {verb} {self.place.name}"
        if self.flips is None or self.flips.images == 0:
            return said
        said = f"{said}; hiding it flips {percent(self.flips.mean)} of them"
        if self.elsewhere is None or self.elsewhere.images == 0:
            return said
        return f"{said} (as much elsewhere: {percent(self.elsewhere.mean)})"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no maps and no pictures; what is no number is None."""
        return {
            "class": self.class_name,
            "group": self.number,
            "images": len(self.members),
            "share": number_data(self.share),
            "place": self.place and self.place.name,
            "kind": self.place and self.place.kind,
            "box": _box(self.region),
            "area": number_data(self.area),
            "peaks": number_data(self.peaks),
            "border": number_data(self.border),
            "errors": number_data(self.errors),
            "error_lift": number_data(self.error_lift),
            "fall": number_data(self.fall),
            **{
                name: interval_data(getattr(self, name))
                for name in ("outside", "marked", "flips", "elsewhere", "excess")
            },
            "agreement": number_data(self.pattern.agreement if self.pattern else None),
            "agreement_by_chance": number_data(self.pattern.by_chance if self.pattern else None),
            "medoid": self.medoid_name,
            "suspicion": self.suspicion,
            "why": self.why,
            "words": self.words,
            "members": list(self.names),
        }


@dataclass(frozen=True)
class Reasons:
    """Groups of all classes, the most suspicious first.

    Attributes:
        groups: those that were found, then the quiet ones.
        method: of the maps.
        layer: that they were made at.
        seed: of grouping, random places and noise.
        images: how many were looked at.
        unmapped: images whose map is not finite or has no heat, by class; they are in no group.
        failures: images that could not be read, and why.
        forwards: what all cost, in forward-equivalents.
        masked: whether masks told the true regions.
        spots: fixed places of each class, hidden whatever the maps show; those that were found
            first.
    """

    groups: tuple[Group, ...]
    method: str
    layer: str
    seed: int
    images: int
    unmapped: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    forwards: float = 0.0
    masked: bool = False
    spots: tuple[Spot, ...] = ()

    @property
    def found(self) -> tuple[Group, ...]:
        """The groups that are decided for a wrong reason."""
        return tuple(group for group in self.groups if group.suspicion == "found")

    @property
    def unseen(self) -> tuple[Spot, ...]:
        """The places that decide for a wrong reason though no group of maps was found there."""
        return tuple(spot for spot in self.spots if spot.suspicion == "found")

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """The class and the place of each thing that was found, of groups first."""
        found: tuple[Group | Spot, ...] = (*self.found, *self.unseen)
        return tuple((one.class_name, one.place.name) for one in found if one.place is not None)

    @property
    def wrong(self) -> tuple[str, ...]:
        """One sentence for each group and each place that was found."""
        groups = tuple(group.words for group in self.found)
        return groups + tuple(spot.words for spot in self.unseen)

    @property
    def words(self) -> tuple[str, ...]:
        """The same, or one that says that there is none."""
        return self.wrong or ("nothing is decided for a wrong reason",)

    def rows(self) -> Iterator[dict[str, object]]:
        """One plain row an image in a group, and one for each that an unseen place flips."""
        for group in self.groups:
            for name in group.names:
                yield {
                    "class": group.class_name,
                    "group": group.number,
                    "place": group.place.name if group.place else "",
                    "suspicion": group.suspicion,
                    "medoid": name == group.medoid_name,
                    "path": name,
                }
        for spot in self.unseen:
            for name in spot.names:
                yield {
                    "class": spot.class_name,
                    "group": "",
                    "place": spot.place.name,
                    "suspicion": spot.suspicion,
                    "medoid": False,
                    "path": name,
                }

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "method": self.method,
            "layer": self.layer,
            "seed": self.seed,
            "images": self.images,
            "masked": self.masked,
            "forwards": self.forwards,
            "unmapped": dict(self.unmapped),
            "failures": list(self.failures),
            "words": list(self.words),
            "groups": [group.as_dict() for group in self.groups],
            "places": [spot.as_dict() for spot in self.spots],
        }


def _box(region: Bool[np.ndarray, "h w"]) -> list[float] | None:
    """Left, top, right and bottom of a region, as shares of the sides."""
    if not region.any():
        return None
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    height, width = region.shape
    return [
        round(float(edge), 4)
        for edge in (
            columns[0] / width,
            rows[0] / height,
            (columns[-1] + 1) / width,
            (rows[-1] + 1) / height,
        )
    ]
