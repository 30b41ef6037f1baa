"""The one reader of masks that serves every command, whatever tool wrote them."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mitate.data.annotations import annotations_in
from mitate.data.masks import MOST_INDICES, MaskIndex, Masks, mask_values
from mitate.errors import DataError, ImageError

LOOKED_AT = 24  # masks, of all
ONE_REGION = {1, 255}  # either marks it, and masks of one folder may do it either way


def regions_told(masks: Masks | None, photos: Sequence[Path], value: int | None) -> tuple[str, ...]:
    """What there is to tell of index masks whose regions are taken as one, without a value."""
    if value is not None or not isinstance(masks, MaskIndex):
        return ()
    each = list[set[int]]()
    for photo in photos[:: max(1, len(photos) // LOOKED_AT)]:
        with suppress(DataError, ImageError):
            mask = masks.find(photo)
            each.append(set(mask_values(mask)) if mask is not None else set())
    found = set[int]().union(*each)
    one_way = all(len(values) < 2 for values in each) and found <= ONE_REGION
    if len(found) < 2 or len(found) > MOST_INDICES or one_way:
        return ()
    values = ", ".join(map(str, sorted(found)))
    told = f"The masks hold the values {values}, taken as one region: give the value of one."
    return (told,)


def open_masks(source: str | Path, photos: Iterable[Path] = ()) -> Masks:
    """Reads masks, or annotations that can be drawn as masks.

    Args:
        source: A CSV with the columns path and mask, a folder of masks, a COCO file, or a folder of
            LabelMe, VOC or YOLO annotations.
        photos: All pictures that they are looked up for: a mask that by its name would be of
            several of them is used for none.

    Raises:
        DataError: There are none.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(
            f"no masks at {source}: give a folder of masks, a CSV with path and mask, or"
            " annotations of COCO, LabelMe, VOC or YOLO"
        )
    return annotations_in(source) or MaskIndex.open(source).among(photos)
