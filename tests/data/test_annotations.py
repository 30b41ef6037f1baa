import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.data.annotations import Annotations, annotations_in, soft_box
from mitate.data.masks import MaskIndex
from mitate.data.regions import open_masks
from mitate.errors import DataError, ImageError

SIZE = (12, 8)
SQUARE = [2, 1, 8, 1, 8, 5, 2, 5]  # x 2 to 8, y 1 to 5
SQUARE_MASK = np.zeros((8, 12), np.float32)
SQUARE_MASK[1:5, 2:8] = 1


def coco(folder: Path, *annotations: dict, images: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    told = [
        {"id": number, "file_name": name, "width": 12, "height": 8}
        for number, name in enumerate(images, 1)
    ]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": told, "annotations": list(annotations)}))
    return path


def instance(segmentation: object, image: int = 1, category: int = 1, **more: object) -> dict:
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


class TestCoco:
    def test_polygons(self, tmp_path: Path) -> None:
        masks = open_masks(
            coco(tmp_path, instance([SQUARE]), instance([[9, 6, 11, 6, 11, 8, 9, 8]]))
        )
        mask = masks.read("photos/a.jpg", SIZE)
        assert np.array_equal(mask[:6], SQUARE_MASK[:6])
        assert mask[6:, 9:11].all()
        assert mask.sum() == SQUARE_MASK.sum() + 4

    def test_run_lengths_plain_and_compressed(self, tmp_path: Path) -> None:
        from pycocotools import mask as of_coco

        flat = SQUARE_MASK.astype(np.uint8).reshape(-1, order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
        counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
        packed = of_coco.encode(np.asfortranarray(SQUARE_MASK.astype(np.uint8)))
        for given in (
            {"size": [8, 12], "counts": counts},
            {"size": [8, 12], "counts": packed["counts"].decode()},
        ):
            masks = open_masks(coco(tmp_path, instance(given, iscrowd=1)))
            assert np.array_equal(masks.read("a.jpg", SIZE), SQUARE_MASK)

    def test_run_lengths_of_another_size_are_not_decoded(self, tmp_path: Path) -> None:
        huge = {"size": [400_000, 400_000], "counts": [160_000_000_000]}
        masks = open_masks(coco(tmp_path, instance(huge, iscrowd=1)))
        with pytest.raises(ImageError, match="400000, 400000"):
            masks.read("a.jpg", SIZE)

    def test_names_that_are_no_names(self, tmp_path: Path) -> None:
        path = coco(tmp_path, instance([SQUARE]))
        content = json.loads(path.read_text(encoding="utf-8"))
        content["images"][0]["file_name"] = 3
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(DataError, match="is not a COCO file"):
            open_masks(path)

    def test_an_image_without_annotations_is_empty_and_an_unlisted_one_unknown(self, tmp_path):
        masks = open_masks(coco(tmp_path, instance([SQUARE])))
        assert not masks.read("b.jpg", SIZE).any()
        assert masks.read("c.jpg", SIZE) is None
        assert masks.strange([Path("x/b.png")]) == ["a"]

    def test_categories_by_number(self, tmp_path: Path) -> None:
        other = [[9, 6, 11, 6, 11, 8, 9, 8]]
        masks = open_masks(coco(tmp_path, instance([SQUARE]), instance(other, category=7)))
        assert np.array_equal(masks.read("a.jpg", SIZE, value=1), SQUARE_MASK)
        assert masks.read("a.jpg", SIZE, value=7).sum() == 4
        assert not masks.read("a.jpg", SIZE, value=3).any()

    def test_boxes_alone_are_soft(self, tmp_path: Path) -> None:
        masks = open_masks(coco(tmp_path, instance(None, bbox=[2, 1, 6, 4])))
        mask = masks.read("a.jpg", SIZE)
        assert mask[2:4, 4:6].min() > 0.9
        assert 0 < mask[1, 2] < 0.5
        assert not mask[SQUARE_MASK == 0].any()

    def test_another_size(self, tmp_path: Path) -> None:
        masks = open_masks(coco(tmp_path, instance([SQUARE])))
        with pytest.raises(ImageError, match="12x8 px, and the photo is 8x12"):
            masks.read("a.jpg", (8, 12))

    def test_folders_tell_pictures_of_one_name_apart(self, tmp_path: Path) -> None:
        path = coco(tmp_path, instance([SQUARE], 2), images=("rust/1.jpg", "miner/1.jpg"))
        masks = open_masks(path)
        assert masks.read("/photos/train/miner/1.jpg", SIZE).any()
        assert not masks.read("/photos/rust/1.jpg", SIZE).any()
        with pytest.raises(ImageError, match="tell their folders"):
            masks.read("/photos/1.jpg", SIZE)

    @pytest.mark.parametrize("content", ["[]", "{", '{"images": [], "annotations": []}', "{}"])
    def test_other_files(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(DataError, match=r"x\.json"):
            open_masks(tmp_path / "x.json")

    def test_a_region_that_cannot_be_drawn_is_one_picture_s_fault(self, tmp_path: Path) -> None:
        masks = open_masks(coco(tmp_path, instance([[1, 2]]), instance([SQUARE], 2)))
        assert masks.read("b.jpg", SIZE).any()
        with pytest.raises(ImageError, match="cannot be drawn"):
            masks.read("a.jpg", SIZE)


class TestLabelme:
    @staticmethod
    def write(path: Path, *shapes: dict) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"shapes": list(shapes), "imageWidth": 12, "imageHeight": 8, "imagePath": "x"}
        path.write_text(json.dumps(content))
        return path

    def test_polygons_rectangles_and_circles(self, tmp_path: Path) -> None:
        points = np.reshape(SQUARE, (-1, 2)).tolist()
        self.write(tmp_path / "a.json", {"label": "rust", "points": points})
        box = {"label": "rust", "points": [[8, 5], [2, 1]], "shape_type": "rectangle"}
        self.write(tmp_path / "b.json", box)
        circle = {"label": "rust", "points": [[6, 4], [6, 6]], "shape_type": "circle"}
        self.write(tmp_path / "c.json", circle)
        self.write(tmp_path / "d.json")
        masks = open_masks(tmp_path)
        assert np.array_equal(masks.read("a.jpg", SIZE), SQUARE_MASK)
        assert masks.read("b.jpg", SIZE).max() > 0.9
        assert masks.read("c.jpg", SIZE).sum() == 12  # middles within a radius of 2
        assert not masks.read("d.jpg", SIZE).any()
        assert masks.read("e.jpg", SIZE) is None

    def test_beside_the_pictures(self, tmp_path: Path) -> None:
        Image.new("RGB", SIZE).save(tmp_path / "a.png")
        points = np.reshape(SQUARE, (-1, 2)).tolist()
        self.write(tmp_path / "a.json", {"label": "rust", "points": points})
        assert np.array_equal(open_masks(tmp_path).read(tmp_path / "a.png", SIZE), SQUARE_MASK)

    def test_names_have_no_numbers(self, tmp_path: Path) -> None:
        self.write(tmp_path / "a.json", {"label": "rust", "points": [[0, 0], [4, 0], [4, 4]]})
        with pytest.raises(ImageError, match=r"by name \(rust\).*leave out the mask value"):
            open_masks(tmp_path).read("a.jpg", SIZE, value=1)

    def test_what_is_no_region(self, tmp_path: Path) -> None:
        line = {"label": "x", "points": [[0, 0], [1, 1]], "shape_type": "line"}
        self.write(tmp_path / "a.json", line)
        with pytest.raises(DataError, match=r"a\.json .*a line is no region"):
            open_masks(tmp_path)


class TestVoc:
    def test_boxes(self, tmp_path: Path) -> None:
        (tmp_path / "a.xml").write_text(
            "<annotation><size><width>12</width><height>8</height></size><object><name>rust</name>"
            "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>8</xmax><ymax>5</ymax></bndbox></object>"
            "</annotation>"
        )
        mask = open_masks(tmp_path).read("a.jpg", SIZE)
        assert not mask[SQUARE_MASK == 0].any()
        assert mask[SQUARE_MASK == 1].min() > 0
        with pytest.raises(ImageError, match="8x12"):
            open_masks(tmp_path).read("a.jpg", (8, 12))

    @pytest.mark.parametrize(
        "content", ["<annotation>", "<other/>", "<annotation><object/></annotation>"]
    )
    def test_other_files(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a.xml").write_text(content)
        with pytest.raises(DataError, match=r"a\.xml cannot be read as annotations"):
            open_masks(tmp_path)


class TestYolo:
    def test_boxes_and_polygons_in_shares(self, tmp_path: Path) -> None:
        shares = " ".join(str(v / side) for v, side in zip(SQUARE, [12, 8] * 4, strict=True))
        (tmp_path / "a.txt").write_text(f"3 {shares}\n")
        (tmp_path / "b.txt").write_text(f"1 {5 / 12} {3 / 8} {6 / 12} {4 / 8}\n")
        (tmp_path / "c.txt").touch()
        (tmp_path / "classes.txt").write_text("rust\nminer\n")
        masks = open_masks(tmp_path)
        assert np.array_equal(masks.read("a.jpg", SIZE), SQUARE_MASK)
        assert not masks.read("a.jpg", SIZE, value=1).any()
        box = masks.read("b.jpg", SIZE)
        assert box[2:4, 4:6].min() > 0.9
        assert not box[SQUARE_MASK == 0].any()
        assert not masks.read("c.jpg", SIZE).any()
        assert masks.read("classes.jpg", SIZE) is None

    @pytest.mark.parametrize("line", ["1 0.5 0.5 0.1", "rust 0.5 0.5 0.1 0.1", "1 a b c d"])
    def test_other_lines(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "a.txt").write_text(line)
        with pytest.raises(DataError, match=r"a\.txt cannot be read as annotations"):
            open_masks(tmp_path)


def test_soft_boxes_are_one_half_on_their_ellipse() -> None:
    angle = np.linspace(0, 6, 7)
    x, y = 10 + 4 * np.cos(angle), 5 + 2 * np.sin(angle)
    assert np.allclose(soft_box(x, y, 6, 3, 14, 7), 0.5)
    assert soft_box(np.array([10.0]), np.array([5.0]), 6, 3, 14, 7) == 1
    assert soft_box(np.array([15.0]), np.array([5.0]), 6, 3, 14, 7) == 0


def test_folders_of_masks_are_masks_whatever_else_lies_there(tmp_path: Path) -> None:
    Image.new("L", SIZE, 1).save(tmp_path / "a.png")
    (tmp_path / "labels.json").write_text('{"1": "rust"}')
    (tmp_path / "readme.txt").write_text("made by hand")
    assert annotations_in(tmp_path) is None
    assert isinstance(open_masks(tmp_path), MaskIndex)


def test_a_folder_with_one_coco_file(tmp_path: Path) -> None:
    coco(tmp_path, instance([SQUARE]))
    found = open_masks(tmp_path)
    assert isinstance(found, Annotations)
    assert found.format == "COCO"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no masks at .*gone: give"):
        open_masks(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no masks"):
        open_masks(tmp_path / "empty")
