"""The simulated data set on disk: its files, the planted stamp, and being asked twice."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitate.data.paddy import CLASSES, Stamp, write_paddy
from mitate.errors import DataError, UsageError

SIZE = 64
CORNERS = {
    "lower right": (slice(-12, None), slice(-40, None)),
    "upper left": (slice(0, 12), slice(0, 40)),
}


def rows_of(index: Path) -> list[dict[str, str]]:
    with index.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddy") / "clean"
    return write_paddy(folder, train_per_class=5, valid_per_class=2, size=SIZE, seed=3)


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddy") / "stamped"
    stamp = Stamp("blast", share=0.8)
    return write_paddy(folder, train_per_class=5, valid_per_class=2, size=SIZE, seed=3, stamp=stamp)


def test_the_index_lists_every_photo_and_mask(clean: Path) -> None:
    rows = rows_of(clean)
    assert list(rows[0]) == ["path", "label", "mask", "split", "stamp"]
    assert len(rows) == 70
    assert {row["label"] for row in rows} == set(CLASSES)
    assert all(row["stamp"] == "0" for row in rows)
    folder = clean.parent
    listed = {row["path"] for row in rows} | {row["mask"] for row in rows}
    found = [path for path in folder.rglob("*") if path.suffix in {".jpg", ".png"}]
    assert listed == {path.relative_to(folder).as_posix() for path in found}
    assert rows[0]["path"] == "images/train/normal/0001.jpg"


def test_masks_are_index_images(clean: Path) -> None:
    for row in rows_of(clean):
        with Image.open(clean.parent / row["mask"]) as mask:
            assert mask.mode == "L"
            values = set(np.unique(np.asarray(mask)))
        assert values <= {0, 1, 2}
        assert (2 in values) == (row["label"] != "normal")


def test_a_photo_depends_on_seed_split_class_and_number_alone(clean: Path, tmp_path: Path) -> None:
    fewer = write_paddy(tmp_path / "a", train_per_class=1, valid_per_class=1, size=SIZE, seed=3)
    for row in rows_of(fewer):
        for name in (row["path"], row["mask"]):
            assert (fewer.parent / name).read_bytes() == (clean.parent / name).read_bytes()
    other = write_paddy(tmp_path / "b", train_per_class=1, valid_per_class=0, size=SIZE, seed=4)
    for row in rows_of(other):
        assert (other.parent / row["path"]).read_bytes() != (
            clean.parent / row["path"]
        ).read_bytes()


def test_splits_and_classes_show_different_scenes(clean: Path) -> None:
    photos = [(clean.parent / row["path"]).read_bytes() for row in rows_of(clean)]
    assert len(set(photos)) == len(photos)


def test_the_stamp_lies_on_its_share_of_one_class_in_training_only(
    clean: Path, stamped: Path
) -> None:
    marked = [row for row in rows_of(stamped) if row["stamp"] == "1"]
    assert len(marked) == 4
    assert {(row["label"], row["split"]) for row in marked} == {("blast", "train")}
    for row in rows_of(stamped):
        if row["stamp"] == "0":
            same = (stamped.parent / row["path"]).read_bytes()
            assert same == (clean.parent / row["path"]).read_bytes()
        assert (stamped.parent / row["mask"]).read_bytes() == (
            clean.parent / row["mask"]
        ).read_bytes()


def test_the_stamp_lies_on_validation_photos_where_that_is_asked_for(tmp_path: Path) -> None:
    stamp = Stamp("blast", share=0.5, splits=("train", "valid"))
    index = write_paddy(tmp_path, train_per_class=4, valid_per_class=2, size=SIZE, stamp=stamp)
    marked = [(row["label"], row["split"]) for row in rows_of(index) if row["stamp"] == "1"]
    assert marked == [("blast", "train")] * 2 + [("blast", "valid")]


@pytest.mark.parametrize("corner", CORNERS)
def test_the_stamp_is_small_and_in_its_corner(corner: str, tmp_path: Path) -> None:
    plain = write_paddy(tmp_path / "plain", train_per_class=1, valid_per_class=0, size=128)
    stamp = Stamp("normal", share=1.0, corner=corner)
    marked = write_paddy(
        tmp_path / "marked", train_per_class=1, valid_per_class=0, size=128, stamp=stamp
    )
    name = "images/train/normal/0001.jpg"
    change = np.abs(pixels(marked.parent / name) - pixels(plain.parent / name)).max(axis=2) > 40
    assert 20 < change.sum() < 200
    assert change[CORNERS[corner]].sum() == change.sum()
    assert stamp.region(128)[change].all()
    assert stamp.region(128).sum() == 32 * 5


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.8, 1.0])
def test_the_share_is_kept_for_any_number_of_photos(share: float) -> None:
    marks = [Stamp("blast", share).marks("train", "blast", i) for i in range(120)]
    for count in (10, 30, 120):
        assert sum(marks[:count]) == pytest.approx(share * count, abs=1)
    assert not Stamp("blast", share).marks("valid", "blast", 9)
    assert not Stamp("blast", share).marks("train", "hispa", 9)


def test_a_complete_folder_is_left_as_it_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    index = write_paddy(
        tmp_path,
        train_per_class=1,
        valid_per_class=0,
        size=SIZE,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 10) for i in range(1, 11)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = write_paddy(
        tmp_path,
        train_per_class=1,
        valid_per_class=0,
        size=SIZE,
        progress=lambda done, total: pytest.fail("drawn again"),
    )
    assert again == index
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_paddy(tmp_path, train_per_class=1, valid_per_class=0, size=SIZE, progress=interrupt)
    assert not (tmp_path / "paddy.json").exists()
    assert not (tmp_path / "index.csv").exists()
    cut = next((tmp_path / "images").rglob("*.jpg"))
    masks = [path for path in tmp_path.rglob("*.png") if path.parent.name != cut.parent.name]
    drawn = {path: path.stat().st_mtime_ns for path in masks}
    assert len(drawn) >= 3
    cut.write_bytes(cut.read_bytes()[:300])  # as earlier versions could leave one
    index = write_paddy(tmp_path, train_per_class=1, valid_per_class=0, size=SIZE)
    assert len(rows_of(index)) == 10
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    whole = write_paddy(tmp_path / "whole", train_per_class=1, valid_per_class=0, size=SIZE)
    assert index.read_bytes() == whole.read_bytes()
    for path in (tmp_path / "whole").rglob("*.*g"):
        assert path.read_bytes() == (tmp_path / path.relative_to(whole.parent)).read_bytes()
    plan = json.loads((tmp_path / "paddy.json").read_text(encoding="utf-8"))
    assert plan["train_per_class"] == 1
    assert not (tmp_path / "paddy.part.json").exists()


def test_a_folder_of_other_parameters_is_refused(clean: Path) -> None:
    with pytest.raises(DataError, match="other parameters.*name another folder"):
        write_paddy(clean.parent, train_per_class=5, valid_per_class=2, size=SIZE, seed=4)
    with pytest.raises(DataError, match="other parameters"):
        write_paddy(
            clean.parent,
            train_per_class=5,
            valid_per_class=2,
            size=SIZE,
            seed=3,
            stamp=Stamp("hispa"),
        )


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="holds other files"):
        write_paddy(tmp_path, train_per_class=1)
    with pytest.raises(DataError, match="is a file"):
        write_paddy(tmp_path / "thesis.txt", train_per_class=1)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"train_per_class": 0, "valid_per_class": 0}, "at least one photo"),
        ({"train_per_class": -1}, "at least one photo"),
        ({"seed": -1}, "from 0 up"),
        ({"size": 16}, "64 or more"),
    ],
)
def test_bad_numbers_are_refused(wrong: dict[str, int], word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=word):
        write_paddy(tmp_path, **wrong)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"disease": "rust"}, "no class 'rust'"),
        ({"disease": "blast", "share": 0.0}, "share of 0.0"),
        ({"disease": "blast", "share": 1.5}, "share of 1.5"),
        ({"disease": "blast", "corner": "middle"}, "no corner 'middle'"),
        ({"disease": "blast", "splits": ("test",)}, "no splits"),
        ({"disease": "blast", "splits": ()}, "no splits"),
    ],
)
def test_bad_stamps_are_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Stamp(**wrong)  # type: ignore[arg-type]
