import unicodedata
from pathlib import Path

import pytest

from mitate.data.records import (
    Dataset,
    Record,
    class_names_of,
    label_of,
    locate,
    split_of,
)
from mitate.errors import UsageError


def dataset() -> Dataset:
    records = (
        Record(Path("/d/1.png"), "rust", split="train"),
        Record(Path("/d/2.png"), "healthy", split="train"),
        Record(Path("/d/3.png"), "rust", split="valid"),
        Record(Path("/d/4.png"), None),
    )
    return Dataset(Path("/d"), records, class_names_of(records))


def test_split_keeps_the_class_names() -> None:
    valid = dataset().split("valid")
    assert len(valid) == 1
    assert valid.class_names == ("healthy", "rust")
    assert len(dataset().split("test")) == 0


def test_unknown_split() -> None:
    with pytest.raises(UsageError, match="'dev': choose one of train, valid, test"):
        dataset().split("dev")


def test_counts_has_every_class_in_every_split() -> None:
    assert dataset().counts() == {
        "train": {"healthy": 1, "rust": 1},
        "valid": {"healthy": 0, "rust": 1},
        None: {"healthy": 0, "rust": 0},
    }
    assert list(dataset().counts()) == ["train", "valid", None]


def test_with_records_and_notices_leave_the_first_alone() -> None:
    first = dataset()
    fewer = first.with_records(first.records[:1]).with_notices("one.", "two.")
    assert fewer.class_names == ("rust",)
    assert fewer.notices == ("one.", "two.")
    assert (len(first), first.notices) == (4, ())


def test_files_are_named_below_the_root() -> None:
    paths = [Path("/d/a/1.png"), Path("/e/2.png"), *map(Path, "xyz")]
    assert dataset().name_some(paths) == "a/1.png, /e/2.png, x and 2 more"


def test_class_names_are_naturally_sorted() -> None:
    names = ["c10", "c9", "Beta", "alpha", "いもち病"]
    records = [Record(Path(name), name) for name in names]
    assert class_names_of(records) == ("alpha", "Beta", "c9", "c10", "いもち病")


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train", "train"), ("VAL", "valid"), (" validation ", "valid"), ("test", "test")],
)
def test_split_names(name: str, split: str) -> None:
    assert split_of(name) == split
    assert split_of(name + "x") is None


def test_labels_in_another_unicode_form_are_the_same() -> None:
    assert label_of(unicodedata.normalize("NFD", " ごま葉枯病 ")) == "ごま葉枯病"


@pytest.mark.parametrize("name", ["a b.png", " x.png", "が.png", "葉/が.png"])
def test_locate(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert locate(tmp_path, name) == tmp_path / name
    assert locate(tmp_path, str(tmp_path / name)) == tmp_path / name
    assert locate(tmp_path, f"{name} ") is not None or name.startswith(" ")
    assert locate(tmp_path, unicodedata.normalize("NFD", name)) is not None
    assert locate(tmp_path, name.replace("/", "\\")) is not None


@pytest.mark.parametrize("cell", ["", ".", "gone.png", "nul\0", "x" * 5000])
def test_locate_nothing(tmp_path: Path, cell: str) -> None:
    assert locate(tmp_path, cell) is None
