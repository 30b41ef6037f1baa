"""Which photos of a data set are audited: of all its parts, and most of them with masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, TypeVar

import numpy as np

from mitate.data.decoding import image_size
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.errors import ImageError
from mitate.jobs.photos import evenly
from mitate.models.preprocessing import Preprocessing

T = TypeVar("T")
MASKED = 0.75  # of a sample, where so many have a mask that shows something
LOOKED = 16  # masks are looked for in so many times the sample, so that a large set is not read


@dataclass(frozen=True)
class Sample(Generic[T]):
    """What was chosen, in the order of the whole, and what is to be told of that.

    Attributes:
        chosen: of the whole.
        notices: how the choice differs from an even one; none where it does not.
    """

    chosen: list[T]
    notices: tuple[str, ...] = ()


def sample(
    every: Sequence[T], limit: int | None, shows: Callable[[T], bool] | None = None
) -> Sample[T]:
    """At most ``limit`` of all, three quarters of them such as show something if so many do.

    Both they and the rest are spread over the whole. Where more than three quarters of all show
    something, their share is kept. Nothing is drawn: the same list gives the same choice.

    Args:
        every: from what is chosen.
        limit: how many; None takes all.
        shows: whether one has a mask with anything in it; it is asked of an even choice of at most
            sixteen times ``limit``. None chooses evenly.

    Raises:
        UsageError: a limit below 1.
    """
    even = evenly(every, limit)
    if limit is None or len(even) == len(every):
        return Sample(even)
    some = Sample(
        even,
        (
            f"{len(even)} of the {len(every)} photos were taken, evenly chosen (--limit takes "
            "more): the accuracy is that of these",
        ),
    )
    if shows is None:
        return some
    places = evenly(range(len(every)), LOOKED * limit)
    found = np.asarray([shows(every[place]) for place in places])
    showing, rest = np.flatnonzero(found).tolist(), np.flatnonzero(~found).tolist()
    usual = limit * len(showing) / len(places)
    wanted = min(len(showing), max(round(usual), ceil(MASKED * limit)))
    wanted = max(wanted, limit - len(rest))
    if wanted <= usual + 1:
        return some
    kept = evenly(showing, wanted) + (evenly(rest, limit - wanted) if limit > wanted else [])
    notice = (
        f"{wanted} of the {limit} photos audited have a mask that shows something, as have "
        f"{len(showing)} of the {len(places)} in which one was looked for: they were preferred, so "
        "that there is enough to judge maps by; the accuracy is that of these photos, not of all"
    )
    return Sample([every[places[place]] for place in sorted(kept)], (notice,))


def shows_region(
    masks: Masks | None, mask_value: int | None, preprocessing: Preprocessing
) -> Callable[[Record], bool] | None:
    """Whether a photo's mask has anything where the network looks; None where there are no masks.

    A mask that cannot be read shows nothing: whoever opens the photo tells why.
    """
    if masks is None:
        return None

    def shows(record: Record) -> bool:
        try:
            size = image_size(record.path)
            drawn = masks.read(record.path, size, value=mask_value)
        except ImageError:
            return False
        return drawn is not None and bool(preprocessing.mask(drawn).any())

    return shows
