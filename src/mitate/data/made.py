"""What mitate itself has drawn, and leaves beside photos: none of it is a photo."""

import re
from pathlib import Path

from PIL import Image

MADE_BY = "mitate"  # in the field Software of a sheet's PNG
NUMBER = r"(\d{3}|[1-9]\d{3,})"  # as f"{number:03}" writes it
SHEET = re.compile(rf"sheet-{NUMBER}\.png")
CLASSIFIER = "classifier.json"  # in the folder of one, beside pictures of its training
MASKS, COCO = "masks", "instances.json"
OF_MASKS = "made of maps by mitate masks"  # stands in the first line of that COCO file
HEAD = 200  # bytes


def sheet_name(number: int) -> str:
    """The name of a sheet."""
    return f"sheet-{number:03}.png"


def is_made(path: Path, is_folder: bool) -> bool:
    """Whether it is a sheet, the folder of a classifier, or one of masks that were made of maps."""
    if not is_folder:
        return SHEET.fullmatch(path.name) is not None and is_sheet(path)
    if (path / CLASSIFIER).is_file():
        return True
    return path.name == MASKS and _holds_made_masks(path.parent)


def is_sheet(path: Path) -> bool:
    """Whether mitate drew it; earlier versions let Matplotlib sign."""
    try:
        with Image.open(path) as image:
            signed = str(image.info.get("Software", ""))
    except (OSError, SyntaxError, ValueError):
        return False
    return signed.startswith((MADE_BY, "Matplotlib"))


def _holds_made_masks(folder: Path) -> bool:
    try:
        with (folder / COCO).open("rb") as file:
            return OF_MASKS.encode() in file.read(HEAD)
    except OSError:
        return False
