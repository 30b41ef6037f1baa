"""A planted cheat: a camera's date in one corner of one class's photos."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from mitate.data.paddy.photo import CLASSES
from mitate.errors import UsageError

SPLITS = ("train", "valid")
CORNERS = ("lower right", "lower left", "upper right", "upper left")
ORANGE = (255, 170, 60)
MARGIN, LONGEST = 3, "26 12 28"  # dots
GLYPHS = {
    "0": "111101101101111",
    "1": "010110010010111",
    "2": "111001111100111",
    "3": "111001111001111",
    "4": "101101111001001",
    "5": "111100111001111",
    "6": "111100111101111",
    "7": "111001010010010",
    "8": "111101111101111",
    "9": "111101111001111",
    " ": "000000000000000",
}


@dataclass(frozen=True)
class Stamp:
    """A date stamp on a share of one class's photos, in one corner.

    Attributes:
        disease: the class that bears it.
        share: of its photos in each of the splits, in (0, 1].
        corner: where it is printed.
        splits: ``train`` alone plants a cheat that the validation photos do not show; with
            ``valid`` too they can show it, as photos of one camera would.

    Raises:
        UsageError: an unknown class, corner or split, or a share outside (0, 1].
    """

    disease: str
    share: float = 0.8
    corner: str = "lower right"
    splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        if self.disease not in CLASSES:
            raise UsageError(f"no class {self.disease!r} to stamp; one of {', '.join(CLASSES)}")
        if self.corner not in CORNERS:
            raise UsageError(f"no corner {self.corner!r}; one of {', '.join(CORNERS)}")
        if not 0 < self.share <= 1:
            raise UsageError(f"a share of {self.share} cannot be stamped; give one in (0, 1]")
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise UsageError(f"no splits {self.splits!r} to stamp; some of {', '.join(SPLITS)}")

    def marks(self, split: str, disease: str, index: int) -> bool:
        """Whether the index-th photo is stamped: evenly spread, the same for any number drawn."""
        if split not in self.splits or disease != self.disease:
            return False
        return int((index + 1) * self.share + 1e-9) > int(index * self.share + 1e-9)

    def press(
        self, image: UInt8[np.ndarray, "size size 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "size size 3"]:
        """A copy of the photo with some day's date printed in the corner."""
        dots = lettering(f"{rng.integers(20, 27)} {rng.integers(1, 13)} {rng.integers(1, 29)}")
        scale = scale_of(image.shape[0])
        dots = dots.repeat(scale, axis=0).repeat(scale, axis=1)
        rows, columns = place(self.corner, dots.shape, image.shape[0], margin=MARGIN * scale)
        stamped = image.copy()
        stamped[rows, columns][dots] = ORANGE
        return stamped

    def region(self, size: int) -> Bool[np.ndarray, "size size"]:
        """The pixels that the longest date takes, of a photo of so many a side."""
        scale = scale_of(size)
        height, width = (scale * side for side in lettering(LONGEST).shape)
        region = np.zeros((size, size), bool)
        region[place(self.corner, (height, width), size, margin=MARGIN * scale)] = True
        return region


def scale_of(size: int) -> int:
    """Pixels a dot, of a photo of so many a side."""
    return max(1, round(size / 128))


def lettering(text: str) -> np.ndarray:
    """Text in dots, 5 rows high."""
    letters = [np.array(list(GLYPHS[c])).reshape(5, 3) == "1" for c in text]
    return np.concatenate([np.pad(letter, ((0, 0), (0, 1))) for letter in letters], axis=1)


def place(corner: str, shape: tuple[int, ...], size: int, margin: int) -> tuple[slice, slice]:
    """The rows and columns that a stamp of this shape takes in a corner."""
    height, width = shape
    top = margin if corner.startswith("upper") else size - margin - height
    left = margin if corner.endswith("left") else size - margin - width
    return slice(top, top + height), slice(left, left + width)
