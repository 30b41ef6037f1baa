"""Regions that annotation tools write: COCO, LabelMe, VOC boxes and YOLO, drawn as masks.

Polygons and run lengths are drawn by pycocotools. A box says less than a mask: it is drawn soft,
sure in its middle, one half on the ellipse inside it, and nearly nothing at its corners.
"""

import json
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mitate import imports
from mitate.data.decoding import is_image, walk
from mitate.data.masks import Size
from mitate.errors import DataError, ImageError

Kind = Literal["polygon", "box", "run lengths", "circle"]
NOT_LABELS = {"classes.txt", "obj.names", "train.txt", "val.txt", "valid.txt", "test.txt"}


@dataclass(frozen=True)
class Shape:
    """One region of a picture.

    Attributes:
        kind: what the numbers are.
        given: in pixels: x and y of a polygon's points in turn; left, top, right and bottom of a
            box; centre and radius of a circle; COCO's dict of run lengths.
        category: its number in the file, or its name where the format has no numbers.
    """

    kind: Kind
    given: Any
    category: int | str


@dataclass(frozen=True)
class Annotated:
    """A picture and its regions; of YOLO, whose numbers are shares, the size comes with the photo.

    Attributes:
        name: the picture's path as the file tells it, without its ending.
        shapes: none where there is nothing on the picture.
        size: width and height, or None where the file does not tell them.
        shares: whether the numbers are shares of the picture's sides.
    """

    name: str
    shapes: tuple[Shape, ...]
    size: Size | None = None
    shares: bool = False


@dataclass(frozen=True)
class Annotations:
    """Finds and draws the regions of a picture by its name."""

    source: Path
    format: str
    by_stem: Mapping[str, Sequence[Annotated]]

    @classmethod
    def of(cls, source: Path, format: str, pictures: Iterable[Annotated]) -> "Annotations":
        """Annotations of some pictures.

        Raises:
            DataError: there are none.
        """
        by_stem: dict[str, list[Annotated]] = defaultdict(list)
        for picture in pictures:
            by_stem[PurePosixPath(picture.name).name].append(picture)
        if not by_stem:
            raise DataError(f"{source} annotates no pictures: give another file or folder.")
        return cls(source, format, by_stem)

    def read(
        self, image_path: str | Path, size: Size, *, value: int | None = None
    ) -> NDArray[np.float32] | None:
        """The share of each pixel in the picture's regions, (height, width); None if unknown.

        Args:
            image_path: the picture's.
            size: its width and height.
            value: take only the regions of the category with this number.

        Raises:
            ImageError: annotations of several pictures of its name, of another size, or of shapes
                that cannot be drawn.
        """
        found = self._find(Path(image_path))
        if found is None:
            return None
        if found.size is not None and found.size != size:
            raise ImageError(
                f"{self.source} tells that {found.name} is {found.size[0]}x{found.size[1]} px, and "
                f"the photo is {size[0]}x{size[1]}: annotate the photo as it is"
            )
        mask = np.zeros((size[1], size[0]), np.float32)
        for shape in found.shapes:
            if value is None or self._category(shape, value):
                np.maximum(mask, _drawn(shape, size, found.shares), out=mask)
        return mask

    def strange(self, image_paths: Iterable[Path]) -> list[str]:
        """Names of the annotated pictures that are none of these."""
        known = {_stem(path) for path in image_paths}
        pictures = [picture for some in self.by_stem.values() for picture in some]
        return [p.name for p in pictures if PurePosixPath(p.name).name not in known]

    def _category(self, shape: Shape, value: int) -> bool:
        if isinstance(shape.category, str):
            raise ImageError(
                f"{self.source} has categories by name ({shape.category}), not by number: leave "
                "out the mask value"
            )
        return shape.category == value

    def _find(self, image: Path) -> Annotated | None:
        """The picture whose folders fit best, as far as the file tells them."""
        some = self.by_stem.get(_stem(image), ())
        parts = _normal(image.with_suffix("").absolute().as_posix()).split("/")
        depths = [_common(parts, picture.name.split("/")) for picture in some]
        best = [p for p, depth in zip(some, depths, strict=True) if depth == max(depths)]
        if len(best) > 1:
            raise ImageError(
                f"{image} may be {best[0].name} or another picture of that name in {self.source}: "
                "tell their folders in the annotations"
            )
        return best[0] if best else None


def read_coco(path: Path) -> Annotations:
    """COCO's file of images and annotations; an image without annotations has an empty mask.

    Raises:
        DataError: not such a file.
    """
    content = _json(path)
    try:
        shapes: dict[int, list[Shape]] = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            shapes.setdefault(entry["image_id"], []).extend(_of_coco(entry))
        pictures = [
            Annotated(
                _bare(image["file_name"]),
                tuple(shapes[image["id"]]),
                (int(image["width"]), int(image["height"])),
            )
            for image in content["images"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise DataError(f"{path} is not a COCO file of instances: it lacks {exc}") from exc
    return Annotations.of(path, "COCO", pictures)


def read_labelme(folder: Path, files: Sequence[Path]) -> Annotations:
    """LabelMe's files, one a picture."""
    return Annotations.of(folder, "LabelMe", _each(folder, files, _labelme))


def read_voc(folder: Path, files: Sequence[Path]) -> Annotations:
    """Pascal VOC's files of boxes, one a picture."""
    return Annotations.of(folder, "VOC", _each(folder, files, _voc))


def read_yolo(folder: Path, files: Sequence[Path]) -> Annotations:
    """YOLO's files of boxes or polygons, one a picture, in shares of its sides."""
    return Annotations.of(folder, "YOLO", _each(folder, files, _yolo))


def annotations_in(source: Path) -> Annotations | None:
    """What annotations a file or a folder holds; None where it holds masks or a CSV.

    A folder may hold one COCO file, LabelMe's files or VOC's, also beside the pictures; text files
    are YOLO's where there is no picture.

    Raises:
        DataError: a file that cannot be read.
    """
    if source.suffix.lower() == ".json" and source.is_file():
        return read_coco(source)
    if not source.is_dir() or (source / "index.csv").is_file():
        return None
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for path in walk(source, made=True):
        by_ending[path.suffix.lower()].append(path)
    described = by_ending.get(".json", [])
    if len(described) == 1 and _has(described[0], "images", "annotations"):
        return read_coco(described[0])
    if described and _has(described[0], "shapes"):
        return read_labelme(source, described)
    if boxes := by_ending.get(".xml"):
        return read_voc(source, boxes)
    lines = [path for path in by_ending.get(".txt", ()) if path.name not in NOT_LABELS]
    if lines and not any(is_image(f"x{ending}") for ending in by_ending):
        return read_yolo(source, lines)
    return None


def _each(
    folder: Path, files: Sequence[Path], read: Callable[[Path, str], Annotated]
) -> Iterator[Annotated]:
    for path in files:
        name = _bare(path.relative_to(folder).as_posix())
        try:
            yield read(path, name)
        except (KeyError, TypeError, ValueError, AttributeError, ElementTree.ParseError) as exc:
            raise DataError(f"{path} cannot be read as annotations ({exc}): repair it") from exc


def _labelme(path: Path, name: str) -> Annotated:
    content = _json(path)
    shapes = []
    for entry in content["shapes"]:
        points = np.asarray(entry["points"], dtype=float)
        label = str(entry["label"])
        match entry.get("shape_type", "polygon"):
            case "polygon":
                shapes.append(Shape("polygon", points.reshape(-1).tolist(), label))
            case "rectangle":
                box = [*points.min(0), *points.max(0)]
                shapes.append(Shape("box", [float(side) for side in box], label))
            case "circle":
                radius = float(np.hypot(*(points[1] - points[0])))
                shapes.append(Shape("circle", [*points[0].tolist(), radius], label))
            case other:
                raise ValueError(f"a {other} is no region: draw polygons, rectangles or circles")
    told = content.get("imageWidth"), content.get("imageHeight")
    size = (int(told[0]), int(told[1])) if told[0] and told[1] else None
    return Annotated(name, tuple(shapes), size)


def _voc(path: Path, name: str) -> Annotated:
    root = ElementTree.parse(path).getroot()
    if root.tag != "annotation":
        raise ValueError(f"it begins with {root.tag}, not with annotation")
    shapes = []
    for entry in root.iter("object"):
        sides = [float(entry.find(f"bndbox/{side}").text) for side in _VOC_SIDES]  # type: ignore[union-attr, arg-type]
        left, top, right, bottom = sides
        # VOC counts pixels from 1, and its last one belongs to the box.
        shapes.append(Shape("box", [left - 1, top - 1, right, bottom], entry.findtext("name", "")))
    width, height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    return Annotated(name, tuple(shapes), (width, height) if width and height else None)


_VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _yolo(path: Path, name: str) -> Annotated:
    shapes = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        category, *words = line.split()
        numbers = [float(word) for word in words]
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            shapes.append(Shape("box", box, int(category)))
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:
            shapes.append(Shape("polygon", numbers, int(category)))
        else:
            raise ValueError(f"{len(numbers)} numbers in a line are no box and no polygon")
    return Annotated(name, tuple(shapes), shares=True)


def _of_coco(entry: Mapping[str, Any]) -> Iterator[Shape]:
    drawn, category = entry.get("segmentation"), int(entry["category_id"])
    if isinstance(drawn, Mapping):
        yield Shape("run lengths", dict(drawn), category)
    elif drawn:
        yield from (Shape("polygon", points, category) for points in drawn)
    else:
        left, top, width, height = entry["bbox"]
        yield Shape("box", [left, top, left + width, top + height], category)


def _drawn(shape: Shape, size: Size, shares: bool) -> NDArray[np.float32]:
    width, height = size
    if shape.kind == "run lengths":
        return _decoded(shape.given, size)
    numbers = np.asarray(shape.given, dtype=float)
    if shares:
        numbers = numbers * np.resize([width, height], len(numbers))
    if shape.kind == "polygon":
        return _decoded([numbers.tolist()], size)
    y, x = np.mgrid[:height, :width] + 0.5
    if shape.kind == "circle":
        distance = np.hypot(x - numbers[0], y - numbers[1])
        return np.asarray(distance <= numbers[2], np.float32)
    return soft_box(x, y, *numbers.tolist())


def soft_box(
    x: NDArray[Any], y: NDArray[Any], left: float, top: float, right: float, bottom: float
) -> NDArray[np.float32]:
    """A box at the middles of pixels: 1 in its middle, 1/2 at the ellipse inside it, 0 outside.

    The share falls by one from half of the ellipse's radius to one and a half.
    """
    across, down = max(right - left, 1e-6) / 2, max(bottom - top, 1e-6) / 2
    u, v = (x - (left + right) / 2) / across, (y - (top + bottom) / 2) / down
    inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    return np.asarray(np.where(inside, np.clip(1.5 - np.hypot(u, v), 0, 1), 0), np.float32)


def _decoded(given: Any, size: Size) -> NDArray[np.float32]:
    """Polygons or run lengths as pycocotools draws them."""
    coco = imports.pycocotools("mask")
    width, height = size
    told = given.get("size") if isinstance(given, Mapping) else None
    if isinstance(told, list | tuple) and list(told) != [height, width]:
        raise ImageError(f"run lengths of {told} (height, width) for a photo of {width}x{height}")
    try:
        compressed = isinstance(given, Mapping) and isinstance(given["counts"], str | bytes)
        with warnings.catch_warnings():
            # Its arrays do as numpy before 2 asked them to.
            warnings.filterwarnings("ignore", "__array__ impl", DeprecationWarning)
            found = given if compressed else coco.frPyObjects(given, height, width)
            mask = np.asarray(coco.decode(found), dtype=np.float32)
    except Exception as exc:  # it raises nearly anything, of numbers that are no region
        raise ImageError(f"a region cannot be drawn ({exc}): repair the annotations") from exc
    if mask.ndim == 3:
        mask = np.asarray(mask.max(axis=2), np.float32)
    if mask.shape != (height, width):
        raise ImageError(
            f"run lengths of {mask.shape[1]}x{mask.shape[0]} px for a photo of {width}x{height}"
        )
    return mask


def _has(path: Path, *keys: str) -> bool:
    content = _json(path)
    return isinstance(content, dict) and set(keys) <= content.keys()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path} is not a JSON file that can be read: {exc}") from exc


def _bare(name: str) -> str:
    return _normal(PurePosixPath(name.replace("\\", "/")).with_suffix("").as_posix())


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(image: Path) -> str:
    return _normal(image.stem)


def _common(parts: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts of two paths are the same."""
    count = 0
    for mine, theirs in zip(reversed(parts), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count
