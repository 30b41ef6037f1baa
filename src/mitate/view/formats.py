"""Numbers and pictures as they stand in a page."""

from base64 import b64encode
from io import BytesIO
from math import isfinite

from PIL import Image

ABSENT = "–"
THIN = "\u202f"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] in percent; a dash where it is no number."""
    if share is None or not isfinite(share):
        return ABSENT
    return f"{100 * share:.{digits}f}{THIN}%"


def number(value: float | None, digits: int = 3) -> str:
    """A number; a dash where it is none."""
    if value is None or not isfinite(value):
        return ABSENT
    return f"{value:.{digits}f}"


def fraction(share: float | None) -> str:
    """A share as CSS takes it: within [0, 1], 0 where it is no number."""
    return f"{min(max(share, 0), 1):.4f}" if share is not None and isfinite(share) else "0"


def embedded(picture: Image.Image, longest: int, quality: int = 80) -> str:
    """A data URI of the picture as JPEG, no side longer than so many pixels."""
    small = picture.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    with BytesIO() as buffer:
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()
