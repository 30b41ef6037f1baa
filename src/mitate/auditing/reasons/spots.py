"""What came of hiding a fixed place: a corner, the frame or the centre."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mitate.auditing.intervals import Interval
from mitate.auditing.reasons.numbers import interval_data, number_data, percent
from mitate.auditing.reasons.patterns import Pattern
from mitate.auditing.reasons.places import Place


@dataclass(frozen=True, eq=False)
class Spot:
    """A fixed place that was hidden in all images of one decided class.

    Attributes:
        class_name: what they are decided to be.
        place: what was hidden.
        region: its pixels.
        images: how many it was tried on.
        flips: how often that flips the decision.
        elsewhere: how often as much at random places does; None where the place flips too few to
            ask, as all that follows.
        excess: the difference, in an interval that holds for all places and classes at once.
        marked: how much more of the place than of the whole image the masks mark.
        pattern: whether the same thing stands at the same pixels; None where it was not asked.
        peaks: share of the maps of the class that have their peak there; NaN where there is none.
        members: numbers of the images that flip, in the order that they were given in.
        names: of these.
        heat: the mean of their maps, each as shares of its sum; NaN where there is none.
        picture: what the network saw of the first of them; None where that cannot be told.
        suspicion: ``found`` where the class is decided there for a wrong reason.
        why: what speaks for that, or what is missing.
    """

    class_name: str
    place: Place
    region: Bool[np.ndarray, "H W"]
    images: int
    flips: Interval
    elsewhere: Interval | None = None
    excess: Interval | None = None
    marked: Interval | None = None
    pattern: Pattern | None = None
    peaks: float = float("nan")
    members: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    heat: Float[np.ndarray, "h w"] | None = None
    picture: Image.Image | None = None
    suspicion: Literal["found", "quiet"] = "quiet"
    why: str = "hiding it flips too few decisions to tell"

    @property
    def words(self) -> str:
        """What was found, as one sentence."""
        said = f"hiding {self.place.name} flips {percent(self.flips.mean)} of {self.class_name!r}"
        if self.elsewhere is None or self.elsewhere.images == 0:
            return said
        said = f"{said} (as much elsewhere: {percent(self.elsewhere.mean)})"
        if not isfinite(self.peaks):
            return said
        if not self.peaks:
            return f"{said}, though none of the maps has its peak there"
        return f"{said}; {percent(self.peaks)} of the maps have their peak there"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no maps and no pictures; what is no number is None."""
        return {
            "class": self.class_name,
            "place": self.place.name,
            "kind": self.place.kind,
            "images": self.images,
            **{
                name: interval_data(getattr(self, name))
                for name in ("flips", "elsewhere", "excess", "marked")
            },
            "peaks": number_data(self.peaks),
            "agreement": number_data(self.pattern.agreement if self.pattern else None),
            "agreement_by_chance": number_data(self.pattern.by_chance if self.pattern else None),
            "suspicion": self.suspicion,
            "why": self.why,
            "words": self.words,
            "members": list(self.names),
        }
