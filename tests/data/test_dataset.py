import ast
import sys
from pathlib import Path

import pytest

import mitate.data
from mitate.data.dataset import check_dataset, read_dataset, split_dataset
from mitate.data.decoding import read_image
from mitate.data.masks import MaskIndex, read_mask
from mitate.errors import DataError, ImageError


def test_folder_and_table_give_the_same(tree) -> None:
    root = tree({"rust": 2, "healthy": 1})
    by_folder = read_dataset(root)
    lines = [f"{r.path.relative_to(root)},{r.label}\n" for r in by_folder.records]
    (root / "list.csv").write_text("path,label\n" + "".join(lines))
    assert read_dataset(str(root / "list.csv")) == by_folder


def test_index_in_a_folder_is_read_first(tree) -> None:
    root = tree({"images": 2, "masks": 2})
    (root / "index.csv").write_text("path,label\nimages/0.png,a\nimages/1.png,b\n")
    assert read_dataset(root).class_names == ("a", "b")


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist: give a folder"):
        read_dataset(tmp_path / "gone")


def test_picture_as_source(draw, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a CSV"):
        read_dataset(draw(tmp_path / "1.png"))


def test_group_needs_a_table(tree) -> None:
    with pytest.raises(DataError, match=r"no index\.csv to take the group part from"):
        read_dataset(tree({"a": 1}), group="part")


def test_classes_that_differ_in_case(tree) -> None:
    dataset = read_dataset(tree({"train/Rust": 1, "valid/rust": 1}))
    assert "Rust and rust" in dataset.notices[0]


def test_the_whole_way_with_every_trouble(tree, draw) -> None:
    root = tree({"a": 6, "b": 6, "lonely": 1, "empty": 0, "broken": 1})
    (root / "a" / "0.png").write_bytes(b"")
    (root / "b" / "1.png").write_text("text")
    (root / "broken" / "0.png").write_bytes(b"")
    for label in "ab":
        draw(root / label / "copy.png", 999)
    dataset = split_dataset(check_dataset(read_dataset(root)))
    assert dataset.class_names == ("a", "b", "lonely")
    assert dataset.counts()["train"]["lonely"] == 1
    assert len({r.split for r in dataset.records if r.path.name == "copy.png"}) == 1
    told = " ".join(dataset.notices)
    for words in ("empty", "3 images cannot be read", "broken", "lonely", "several classes"):
        assert words in told


def test_this_room_needs_no_heavy_package() -> None:
    heavy = {"torch", "torchvision", "timm", "fastai", "pandas", "sklearn"}
    for name in ("decoding", "dataset", "masks"):
        path = Path(str(sys.modules[f"mitate.data.{name}"].__file__))
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not heavy & {module.split(".")[0] for module in imports}
    assert mitate.data.__doc__


@pytest.mark.real
def test_coffee_leaves(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "coffee_leaf")
    assert dataset == read_dataset(shared / "data" / "coffee_leaf" / "index.csv")
    assert dataset.class_names == ("cercospora", "healthy", "miner", "phoma", "rust")
    assert dataset.notices == ()
    assert len(dataset.split("train")) + len(dataset.split("valid")) == len(dataset) == 1685
    checked = check_dataset(dataset)
    assert checked == dataset
    masked = [r for r in dataset.records if r.mask]
    assert len(masked) == 490
    masks = MaskIndex.of(dataset)
    symptoms = 0
    for record in masked[::10]:
        mask = masks.find(record.path)
        assert mask == record.mask
        leaf, symptom = read_mask(mask), read_mask(mask, value=2)
        assert leaf.shape == read_image(record.path).size[::-1]
        assert not (symptom & ~leaf).any()
        symptoms += symptom.any()
    assert symptoms > 20


@pytest.mark.real
def test_magnetic_tiles(shared: Path) -> None:
    folder = shared / "data" / "magnetic_tile"
    dataset = split_dataset(read_dataset(folder, group="part"))
    assert len(dataset) == 1344
    assert dataset.notices == ()
    sides: dict[str | None, set[str | None]] = {}
    for record in dataset.records:
        sides.setdefault(record.group, set()).add(record.split)
    assert all(len(on) == 1 for on in sides.values())
    assert check_dataset(dataset) == dataset
    index = MaskIndex.open(folder)
    by_name = MaskIndex.open(folder / "masks")
    for record in dataset.records[::25]:
        assert index.find(record.path) == by_name.find(record.path) == record.mask
        if record.mask:
            assert read_mask(record.mask).any()
            assert (read_mask(record.mask) == read_mask(record.mask, value=1)).all()


@pytest.mark.real
def test_magnetic_tiles_split_anew(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "magnetic_tile", group="part")
    unsplit = dataset.with_records(
        type(r)(r.path, r.label, r.mask, None, r.group) for r in dataset.records
    )
    counts = split_dataset(unsplit, seed=3).counts()
    for label in dataset.class_names:
        share = counts["valid"][label] / (counts["valid"][label] + counts["train"][label])
        assert 0.12 < share < 0.28


@pytest.mark.real
def test_tomatoes(shared: Path) -> None:
    dataset = read_dataset(shared / "data" / "tomato10")
    assert len(dataset.class_names) == 10
    assert set(dataset.counts()["train"].values()) == {240}
    assert set(dataset.counts()["valid"].values()) == {50}
    assert dataset.notices == ()
    for record in dataset.records[::300]:
        assert read_image(record.path).size == (256, 256)


@pytest.mark.real
def test_photos(shared: Path) -> None:
    assert read_image(shared / "photos" / "both.png").size == (224, 224)
    assert read_image(shared / "photos" / "dog_cat.jfif").mode == "RGB"
    with pytest.raises(ImageError, match="folder"):
        read_image(shared / "photos")
