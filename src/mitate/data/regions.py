"""The one reader of masks that serves every command, whatever tool wrote them."""

from collections.abc import Iterable
from pathlib import Path

from mitate.data.annotations import annotations_in
from mitate.data.masks import MaskIndex, Masks
from mitate.errors import DataError


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
