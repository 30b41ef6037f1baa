"""Pictures on disk: found in folders, and decoded, whatever they are, to 8-bit RGB."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mitate.data.made import is_made
from mitate.errors import DataError, ImageError, MitateWarning

MAX_PIXELS = 120_000_000
"""The largest width x height that is decoded: 360 MB of RGB, above the largest cameras."""

FULL, DIM = 65535.0, 4095.0  # of 16 bits, and of the 12 that many cameras fill
MAX_SAMPLE = 281  # TIFF's tag of the largest value that is used
DARK = (
    "a picture of 16 bits uses less than 12 of them and is nearly black: if all its values are so, "
    "scale it to the full range, or write its TIFF with the tag MaxSampleValue"
)

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".png", ".tif", ".tiff", ".webp"}
    | {".jpg", ".jpeg", ".jpe", ".jfif"}
    | {".pbm", ".pgm", ".pnm", ".ppm"}
)
"""Lower-case endings of the files that are taken for pictures in a folder."""

# A short list on purpose: Pillow would run Ghostscript on a file that looks like EPS.
READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "PPM": PpmImageFile,
}


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Gives the picture as 8-bit RGB, upright by its EXIF, first frame, on white where clear.

    Args:
        path: A JPEG, PNG, WebP, TIFF, BMP, GIF or PPM file, told by its content.
        max_pixels: The largest width x height; checked in the header, before decoding.

    Raises:
        ImageError: The file is missing, empty, too large, damaged, or no picture.
    """
    return to_rgb(load_image(Path(path), max_pixels=max_pixels))


def load_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Decodes the picture, upright by its EXIF, in the mode in which it was saved."""
    _check_file(path)
    try:
        with path.open("rb") as file:
            image = _open(file)
            _check_size(path, image.size, max_pixels)
            image.load()
            _turn_upright(image)
            return image
    except ImageError:
        raise
    except PermissionError as exc:
        raise ImageError(f"{path} may not be read: give yourself the right to read it.") from exc
    except UnknownFormatError as exc:
        raise ImageError(
            f"{path} is not a picture in a format that mitate reads ({', '.join(READERS)}):"
            " check the file, or save the picture as PNG or JPEG."
        ) from exc
    except Exception as exc:  # Pillow's readers raise nearly anything on damaged bytes
        raise ImageError(
            f"{path} is damaged or cut short ({exc}): copy it again or leave it out."
        ) from exc


def image_size(path: str | Path) -> tuple[int, int]:
    """Gives width and height as `read_image` does, upright, from the header alone.

    Raises:
        ImageError: The file is no picture that can be read.
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as file:
            image = _open(file)
            width, height = image.size
            return (height, width) if _lies_on_its_side(image) else (width, height)
    except (UnknownFormatError, OSError, SyntaxError, ValueError):
        return load_image(path).size  # tells what is wrong with it, in words


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to 8-bit RGB: 16 bits and floats scaled, transparency on white."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


class UnknownFormatError(Exception):
    """No reader knows the first bytes of the file; never leaves this module."""


def _check_file(path: Path) -> None:
    if os.path.isdir(path):
        raise ImageError(f"{path} is a folder, not a picture: give the files in it.")
    if not os.path.exists(path):
        raise ImageError(f"{path} does not exist: check the path.")
    if not os.path.isfile(path):
        raise ImageError(f"{path} is not a regular file: give a picture file.")
    if os.path.getsize(path) == 0:
        raise ImageError(f"{path} is empty (0 bytes): copy it again or leave it out.")


def _open(file: IO[bytes]) -> ImageFile:
    """Reads the header, without the size check of Image.open, which warns by global state."""
    prefix = file.read(16)
    for name, reader in READERS.items():
        accepts = Image.OPEN[name][1]
        known = accepts is not None and accepts(prefix)
        if known and not isinstance(known, str):
            file.seek(0)
            return reader(file, "")  # with a name, Pillow would map the file into memory
    raise UnknownFormatError


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{path} has no pixels ({width} x {height}): leave it out.")
    if width * height > max_pixels:
        raise ImageError(
            f"{path} is {width} x {height} pixels and the limit is {max_pixels:,} pixels in all:"
            " make it smaller or leave it out."
        )


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # broken EXIF, common in phone photos, is no reason to lose the picture
        return


def _lies_on_its_side(image: Image.Image) -> bool:
    if image.format == "TIFF":  # Pillow turns it by itself, and tells its size as turned
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # broken EXIF, which `_turn_upright` does not follow either
        return False


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    values[~np.isfinite(values)] = 0
    brightest = float(values.max())
    low, high = _value_range(image, float(values.min()), brightest)
    if high == FULL and 0 < brightest <= DIM:
        warnings.warn(DARK, MitateWarning, stacklevel=2)
    scaled = (values - low) * (255 / (high - low))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _value_range(image: Image.Image, low: float, high: float) -> tuple[float, float]:
    """The file's full range; for TIFFs that tell none, the smallest usual one that fits."""
    most = float(np.max(getattr(image, "tag_v2", {}).get(MAX_SAMPLE, 0)))
    if most > 0 and low >= 0 and high <= most:
        return 0.0, most
    if image.mode.startswith("I;16"):
        return 0.0, FULL
    usual = [FULL] if getattr(image, "format", None) in ("PNG", "PPM") else [255.0, FULL]
    if image.mode == "F":
        usual.insert(0, 1.0)
    if low < 0 or high > usual[-1]:
        return low, high if high > low else low + 1
    return 0.0, next(top for top in usual if high <= top)


def find_images(paths: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """Gives the files as they are and, of a folder, the pictures in and below it, sorted.

    Raises:
        ImageError: A path does not exist.
        DataError: A folder holds no picture, or may not be read.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    return tuple(dict.fromkeys(found for path in given for found in _find(Path(path))))


def _find(path: Path) -> Sequence[Path]:
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise ImageError(f"{path} does not exist: check the path.")
        return [path]
    found = [file for file in walk(path) if is_image(file.name)]
    if not found:
        raise DataError(
            f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}): check the folder."
        )
    return found


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def walk(folder: Path, seen: Iterable[Path] = (), *, made: bool = False) -> Iterator[Path]:
    """Yields the visible files in and below a folder, naturally sorted, links followed once.

    What mitate has drawn is left out, and folders of classifiers, unless ``made`` asks for it too.
    """
    entered = {_identity(place) for place in seen}
    return _walk(folder, entered, made)


def _walk(folder: Path, entered: set[tuple[int, int]], made: bool) -> Iterator[Path]:
    identity = _identity(folder)
    if identity in entered:  # a link that leads back would never end
        return
    entered.add(identity)
    for path, is_folder in visible(folder):
        if not made and is_made(path, is_folder):
            continue
        if is_folder:
            yield from _walk(path, entered, made)
        else:
            yield path


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def visible(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder, naturally sorted, hidden and macOS files left out; is it a folder?

    Raises:
        DataError: The folder may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries if _is_visible(entry)]
    except OSError as exc:
        raise DataError(f"{folder} may not be read ({exc.strerror}): check its rights.") from exc
    found.sort(key=lambda item: natural_key(item[0]))
    return [(folder / name, is_folder) for name, is_folder in found]


def _is_visible(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith((".", "__MACOSX"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def natural_key(name: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Sorts img2 before img10, and letters without regard to case."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(_number_key(part) if i % 2 else part for i, part in enumerate(parts)), name


def _number_key(digits: str) -> tuple[int, str]:
    significant = digits.lstrip("0")
    return len(significant), significant
