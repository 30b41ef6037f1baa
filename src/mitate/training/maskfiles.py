"""The files of made masks: written whole, and never over what was corrected by hand.

What is written carries a digest of itself: a PNG in a text chunk, a file of instances in its
``info``. A file whose content has another one was changed since, or made by others.
"""

import json
import warnings
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mitate import imports
from mitate.data.made import OF_MASKS
from mitate.data.masks import read_mask
from mitate.data.records import Dataset, Record
from mitate.errors import DataError, ImageError
from mitate.files import write_bytes, write_text

DIGEST = "mitate-mask"  # the name of the PNG's text chunk
WHITE = 255


def write_mask(mask: np.ndarray, path: Path) -> np.ndarray:
    """Write a mask (height, width) as PNG, unless another than was made is there.

    Returns:
        What the file holds: ``mask`` itself where it was written.

    Raises:
        ImageError: what is there cannot be read, or has another size.
    """
    if path.exists() and (there := _corrected(path)) is not None:
        if there.shape != mask.shape:
            (height, width), (rows, columns) = there.shape, mask.shape
            raise ImageError(
                f"{path} is {width}x{height} px and its photo {columns}x{rows}: a mask has the "
                "size of its photo"
            )
        return mask if np.array_equal(there, mask) else there
    path.parent.mkdir(parents=True, exist_ok=True)
    about = PngInfo()
    about.add_text(DIGEST, _digest(mask))
    with BytesIO() as buffer:
        Image.fromarray(mask.astype(np.uint8) * WHITE).save(buffer, "PNG", pnginfo=about)
        write_bytes(path, buffer.getvalue())
    return mask


def _corrected(path: Path) -> np.ndarray | None:
    """The mask of a file, or None where it is as it was made."""
    mask = read_mask(path)
    with Image.open(path) as image:
        told = getattr(image, "text", {}).get(DIGEST)
    return None if told == _digest(mask) else mask


def _digest(mask: np.ndarray) -> str:
    return sha256(str(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


def check_described(path: Path) -> None:
    """Refuse to write over a file of instances that was changed since it was made.

    Raises:
        DataError: it was, or others made it.
    """
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text("utf-8"))
        made = content["info"]["digest"] == _digest_of(content)
    except (OSError, ValueError, TypeError, KeyError):
        made = False
    if not made:
        raise DataError(
            f"{path} is not as it was made (or an earlier mitate or others made it), and would be "
            "written over: move it away, or choose another folder"
        )


def _digest_of(content: dict[str, Any]) -> str:
    told = [content[part] for part in ("images", "annotations", "categories")]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Coco:
    """COCO's file of instances, written photo by photo: one region each."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        names = dataset.class_names or ("region",)
        self.numbers = {name: number for number, name in enumerate(names, 1)}
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, record: Record, mask: np.ndarray) -> None:
        """Add a photo and its mask."""
        (height, width), number = mask.shape, len(self.images) + 1
        name = self.dataset.name(record.path)
        self.images.append({"id": number, "file_name": name, "width": width, "height": height})
        if mask.any():
            about = {
                "id": len(self.annotations) + 1,
                "image_id": number,
                "category_id": self.numbers.get(record.label or "", 1),
                "iscrowd": 0,
            }
            self.annotations.append({**about, **_run_lengths(mask)})

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the file."""
        categories = [{"id": number, "name": name} for name, number in self.numbers.items()]
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        about = {"description": OF_MASKS, "digest": _digest_of(content)}
        return {"info": about, **content}

    def write(self, path: Path) -> None:
        """Write the file whole."""
        write_text(path, json.dumps(self.as_dict(), ensure_ascii=False))


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths, with its area and box."""
    coco = imports.pycocotools("mask")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ impl", DeprecationWarning)
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        area, box = int(coco.area(packed)), coco.toBbox(packed).tolist()
    counts = packed["counts"].decode()
    return {"segmentation": {**packed, "counts": counts}, "area": area, "bbox": box}
