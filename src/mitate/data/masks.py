"""Masks: which pixels of a picture are the object, and which mask belongs to which picture."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from mitate.data.decoding import is_image, load_image, walk
from mitate.data.records import Dataset, locate
from mitate.data.tables import read_table, table_in
from mitate.data.wording import some_of
from mitate.errors import DataError, ImageError

MASK_ENDINGS = ("_mask", "_gt")
MOST_INDICES = 20  # more values than so many are greys

_WHITE = 255
_LOSSY_THRESHOLD = 128
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Pillow stretches grey PNGs of 2 and 4 bits to 0-255, which would hide their indices.
_STRETCH_BY_BITS = {2: 85, 4: 17}

Values = NDArray[Any]
Size = tuple[int, int]


@runtime_checkable
class Masks(Protocol):
    """Where masks of pictures come from."""

    def read(
        self, image_path: str | Path, size: Size, *, value: int | None = None
    ) -> NDArray[np.float32] | None:
        """The share of each pixel in the region, (height, width); None where there is no mask.

        Args:
            image_path: The picture's.
            size: The picture's width and height, as `read_image` gives it.
            value: The value that marks the region, where masks have several.

        Raises:
            ImageError: This picture's mask cannot be read or used.
        """

    def strange(self, image_paths: Iterable[Path]) -> list[str]:
        """Names of the masks that belong to none of these pictures."""


def read_mask(path: str | Path, *, value: int | None = None) -> NDArray[np.bool_]:
    """Gives the mask as booleans (height, width): what is not 0, or equals `value`.

    Palette masks are read by index, not by colour, and index 255 beside others is VOC's void, which
    is no region; masks compressed with loss (JPEG, WebP), whose values blur, from 128 up.

    Raises:
        ImageError: The file cannot be read.
        DataError: The mask cannot hold that value: it is black and white, coloured or a JPEG.
    """
    path = Path(path)
    image = load_image(path)
    values = _values(path, image)
    if value is None:
        values = _without_void(image, values)
        return np.asarray((values != 0).reshape(*values.shape[:2], -1).any(axis=2))
    if image.mode == "1" and value == 1:
        value = _WHITE
    grey = _grey(path, values)
    _check_value(path, image, grey, value)
    return np.asarray(grey == value)


def mask_values(path: Path) -> tuple[int, ...]:
    """The values beside 0 of an index mask; none of a mask of colours, of greys or of a JPEG.

    Raises:
        ImageError: The file cannot be read.
    """
    image = load_image(path)
    values = _values(path, image)
    if values.ndim > 2 or _is_lossy(path, image):
        return ()
    found = [int(value) for value in np.unique(_without_void(image, values)) if value]
    return tuple(found) if len(found) <= MOST_INDICES else ()


def _without_void(image: ImageFile, values: Values) -> Values:
    """A palette mask's values, without what VOC marks as neither region nor background."""
    if image.mode == "P" and set(np.unique(values).tolist()) - {0, _WHITE}:
        return np.where(values == _WHITE, 0, values)
    return values


def _values(path: Path, image: ImageFile) -> Values:
    """The saved numbers: (height, width), or (height, width, 3) for colours."""
    if image.mode in ("LA", "PA", "RGBA"):
        bands = np.asarray(image)
        if _is_lossy(path, image):
            bands = np.where(bands >= _LOSSY_THRESHOLD, _WHITE, 0)
        seen = np.where(bands[..., -1:] > 0, bands[..., :-1], 0)  # what is clear is background
        # Black strokes on a clear ground, as painting programs export a layer, are told by it.
        drawn = bands[..., -1] >= _LOSSY_THRESHOLD
        return seen if seen.any() or drawn.all() else np.where(drawn, _WHITE, 0)
    if image.mode == "1":
        return np.asarray(image) * np.uint8(_WHITE)
    if image.mode not in ("P", "L", "RGB", "I", "F") and not image.mode.startswith("I;"):
        return np.asarray(image.convert("RGB"))
    values: Values = np.nan_to_num(np.asarray(image))
    if _is_lossy(path, image):
        return np.where(values >= _LOSSY_THRESHOLD, _WHITE, 0)
    return values // _stretch(path) if image.mode == "L" else values


def _is_lossy(path: Path, image: ImageFile) -> bool:
    """Whether values blur in the format: in JPEG, TIFF that holds JPEG, and WebP but lossless."""
    if image.format == "TIFF":
        return image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return image.format in ("JPEG", "MPO") or (image.format == "WEBP" and _webp_blurs(path))


def _webp_blurs(path: Path) -> bool:
    """Whether the first picture in a WebP file is compressed with loss (``VP8 ``, not ``VP8L``).

    https://developers.google.com/speed/webp/docs/riff_container
    """
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8 ", b"VP8L"):
                return kind == b"VP8 "
            if kind == b"ANMF":  # a frame, whose chunks follow its own 16 bytes
                file.seek(16, os.SEEK_CUR)
            else:
                file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _stretch(path: Path) -> int:
    with path.open("rb") as file:
        header = file.read(26)
    is_grey_png = header.startswith(_PNG_MAGIC) and header[25] == 0
    return _STRETCH_BY_BITS.get(header[24], 1) if is_grey_png else 1


def _grey(path: Path, values: Values) -> Values:
    if values.ndim == 2:
        return values
    if (values != values[..., :1]).any():
        raise DataError(
            f"{path} is a coloured mask and has no single values: leave out the mask value to take"
            " all that is not black, or save the mask as a grey or palette PNG."
        )
    return values[..., 0]


def _check_value(path: Path, image: ImageFile, grey: Values, value: int) -> None:
    """A black and white mask, asked for an index, would give an empty mask without a word."""
    present = np.unique(grey).tolist()
    two_valued = image.mode == "1" or _is_lossy(path, image) or _WHITE in present
    if two_valued and set(present) <= {0, _WHITE} and value not in (0, _WHITE):
        raise DataError(
            f"{path} is black and white, with the values {some_of(present)}, and not {value}:"
            f" give {_WHITE} as the mask value, or none."
        )


WITHOUT = " (the photo is taken without this mask)"


@dataclass(frozen=True)
class MaskIndex:
    """Finds the mask of a picture: as listed, or by name in a folder of masks.

    ``shared`` are the masks that may be of several pictures; ``home`` is the name of the folders of
    pictures that all masks belong to, where that is told.
    """

    source: Path
    listed: Mapping[str, Path] | None = None
    by_stem: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    shared: Mapping[Path, Sequence[Path]] = field(default_factory=dict)
    home: str = ""

    @classmethod
    def open(cls, source: str | Path) -> "MaskIndex":
        """Reads a CSV with the columns path and mask, or a folder of masks.

        Args:
            source: The CSV (paths relative to its folder), a folder with such an index.csv, or a
                folder whose masks are named like the pictures, in folders like theirs; the
                endings _mask and _gt are understood.

        Raises:
            DataError: There are no masks.
        """
        source = Path(source)
        if not source.exists():
            raise DataError(f"{source} does not exist: give a folder of masks or a CSV file.")
        table = table_in(source)
        return cls._of_folder(source) if table is None else cls._of_table(table)

    @classmethod
    def of(cls, dataset: Dataset) -> "MaskIndex":
        """The masks that the records of a data set name."""
        masks = {r.path: r.mask for r in dataset.records if r.mask is not None}
        return cls(dataset.root, _by_place(masks))

    @classmethod
    def _of_table(cls, path: Path) -> "MaskIndex":
        root = path.parent
        listed = {}
        for row in read_table(path, ("path", "mask")).rows:
            if row["mask"].strip():
                image = locate(root, row["path"]) or root / row["path"]
                listed[image] = locate(root, row["mask"]) or root / row["mask"]
        if not listed:
            raise DataError(f"{path} names no masks: fill its column mask.")
        return cls(path, _by_place(listed))

    @classmethod
    def _of_folder(cls, folder: Path) -> "MaskIndex":
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in walk(folder, made=True):
            if is_image(path.name):
                for stem in {_stem(path), _bare_stem(path)}:
                    by_stem[stem].append(path)
        if not by_stem:
            raise DataError(f"{folder} holds no masks: give a folder of mask pictures or a CSV.")
        return cls(folder, None, by_stem)

    def among(self, image_paths: Iterable[Path]) -> "MaskIndex":
        """Masks of these pictures: one that by its name would be of several folders' is of none.

        Masks in a folder that has the name of a folder of pictures, as of a class, are its alone.
        """
        image_paths = list(image_paths)
        name = os.path.basename(os.path.abspath(self.source))
        told = name in map(_folder_name, image_paths) and self.listed is None
        index = replace(self, home=name if told else "")
        owners: dict[Path, dict[str, Path]] = defaultdict(dict)
        for path in image_paths if self.listed is None else ():
            with suppress(DataError):
                if mask := index.find(path):
                    owners[mask].setdefault(os.path.realpath(path.parent), path)
        shared = {mask: tuple(them.values()) for mask, them in owners.items() if len(them) > 1}
        return replace(index, shared=shared)

    def read(
        self, image_path: str | Path, size: Size, *, value: int | None = None
    ) -> NDArray[np.float32] | None:
        """The mask of a picture of this width and height, 0 or 1, (height, width); or None.

        Raises:
            ImageError: The mask cannot be read or used, is not the only one, or has another size.
        """
        try:
            path = self.find(image_path)
            mask = None if path is None else read_mask(path, value=value)
        except DataError as exc:  # this mask's fault only
            raise ImageError(str(exc)) from exc
        if mask is None:
            return None
        if mask.shape[::-1] != size:
            raise ImageError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} px and its photo {size[0]}x{size[1]}:"
                " a mask has the size of its photo"
            )
        return mask.astype(np.float32)

    def strange(self, image_paths: Iterable[Path]) -> list[str]:
        """Names of the masks that belong to none of these pictures."""
        used = set[Path | None](self.shared)
        for path in image_paths:
            try:
                used.add(self.find(path))
            except DataError:  # of one of several masks: each photo's reader tells it
                used.update(self._nearest(Path(_place(path))))
        there = self.listed or {}
        every = dict.fromkeys([*there.values(), *(m for ms in self.by_stem.values() for m in ms)])
        root = self.source if self.source.is_dir() else self.source.parent
        return [
            str(mask.relative_to(root) if mask.is_relative_to(root) else mask)
            for mask in every
            if mask not in used
        ]

    def find(self, image_path: str | Path) -> Path | None:
        """The mask of a picture, or None where it has none.

        Raises:
            DataError: Several masks have the picture's name, or several pictures the mask's, and no
                folder tells which it is.
        """
        image = Path(image_path)
        if self.listed is not None:
            real = os.path.join(os.path.realpath(image.parent), image.name)
            return self.listed.get(_place(image)) or self.listed.get(real)
        if self.home and _folder_name(image) != self.home:
            return None
        return self._find_by_name(Path(_place(image)))

    def _nearest(self, image: Path) -> list[Path]:
        """Masks of a picture's name, of those in folders most like its own."""
        masks = [mask for mask in self.by_stem.get(_stem(image), ()) if _place(mask) != str(image)]
        depths = {mask: self._depth(mask, image) for mask in masks}
        deepest = max(depths.values(), default=-1)
        return [mask for mask, depth in depths.items() if depth == deepest >= 0]

    def _find_by_name(self, image: Path) -> Path | None:
        nearest = self._nearest(image)
        if len({mask.parent for mask in nearest}) > 1:
            raise DataError(
                f"{image} may have the mask {nearest[0]} or {nearest[1]}: put the masks into"
                " folders named like those of the pictures, or list them in a CSV."
            )
        mask = min(nearest, key=_preference, default=None)
        if mask is not None and mask in self.shared:
            first, second, *_ = self.shared[mask]
            raise DataError(
                f"{mask} may be the mask of {first} or of {second}: put the masks into folders"
                " named like those of the pictures, or list them in a CSV."
            )
        return mask

    def _depth(self, mask: Path, image: Path) -> int:
        """How many folders above both files have the same names; -1 if the mask is another's."""
        folders = mask.relative_to(self.source).parts[-2::-1]
        places = list(zip(folders, image.parents, strict=False))
        for depth, (folder, place) in enumerate(places):
            if folder != place.name:
                # Beside the picture's folder lies one named like the mask's: it belongs there.
                return -1 if (place.parent / folder).is_dir() else depth
        return len(places)


def _by_place(masks: Mapping[Path, Path]) -> dict[str, Path]:
    """The masks by absolute picture path, as given and with links in its folders followed."""
    real = {folder: os.path.realpath(folder) for folder in {image.parent for image in masks}}
    places = {os.path.join(real[image.parent], image.name): mask for image, mask in masks.items()}
    return places | {_place(image): mask for image, mask in masks.items()}


def _folder_name(path: Path) -> str:
    return os.path.basename(os.path.realpath(path.parent))


def _place(path: Path) -> str:
    return os.path.abspath(path)


def _stem(path: Path) -> str:
    return unicodedata.normalize("NFC", path.stem)


def _bare_stem(path: Path) -> str:
    stem = _stem(path)
    for ending in MASK_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def _preference(mask: Path) -> tuple[bool, bool, str]:
    return _bare_stem(mask) == _stem(mask), mask.suffix.lower() != ".png", mask.name
