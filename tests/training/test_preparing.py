import csv

import pytest

import tiny
from mitate.data.dataset import read_dataset
from mitate.errors import DataError, UsageError
from mitate.training.preparing import Prepared, prepared, unevenness


def notices(dataset):
    return " ".join(dataset.notices)


def test_every_fault_is_a_notice_and_nothing_stops(tmp_path):
    tiny.photos(tmp_path, {"blast": 6, "正常": 6, "single": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "blast" / "text.jpg").write_text("no picture")
    (tmp_path / "blast" / "nothing.png").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff half")
    dataset = prepared(tmp_path)
    assert dataset.class_names == ("blast", "single", "正常")
    told = notices(dataset)
    for words in ("empty", "3 images cannot be read", "broken", "single image"):
        assert words in told


def test_duplicates_stay_on_one_side(tmp_path):
    tiny.photos(tmp_path, {"train/a": 5, "train/b": 5, "valid/a": 0, "valid/b": 0})
    for name in ("a", "b"):
        for index in range(3):
            photo = tmp_path / "train" / name / f"{index:04}.png"
            (tmp_path / "valid" / name / photo.name).write_bytes(photo.read_bytes())
    dataset = prepared(tmp_path)
    assert "the same file is also in a held-out split" in notices(dataset)
    assert len(dataset.split("train")) == 4  # of each class two are no copies


def test_a_prepared_data_set_is_taken_as_it_is(tmp_path):
    dataset = prepared(tiny.photos(tmp_path, {"a": 5, "b": 5, "single": 1}))
    assert isinstance(dataset, Prepared)
    assert prepared(dataset, seed=7) is dataset
    assert len(set(dataset.notices)) == len(dataset.notices)


def test_one_that_was_only_read_is_checked_and_split(tmp_path):
    tiny.photos(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "text.jpg").write_text("no picture")
    dataset = prepared(read_dataset(tmp_path))
    assert "cannot be read" in notices(dataset)
    assert {record.split for record in dataset.records} == {"train", "valid"}


def test_groups_stay_together(tmp_path):
    tiny.photos(tmp_path, {"a": 12, "b": 12})
    with (tmp_path / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "part"))
        for name in "ab":
            rows.writerows((f"{name}/{i:04}.png", name, f"{name}{i // 3}") for i in range(12))
    dataset = prepared(tmp_path, group="part", valid_fraction=0.3)
    sides = {}
    for record in dataset.records:
        sides.setdefault(record.group, set()).add(record.split)
    assert all(len(side) == 1 for side in sides.values())
    with pytest.raises(DataError, match="no column kind"):
        prepared(tmp_path, group="kind")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"a": 9}, "only the class a"),
        ({"a": 1, "b": 1}, "no image to judge"),
        ({"valid/a": 2, "valid/b": 2, "train/a": 3}, "only the class a"),
        ({"empty": 0}, "hold no pictures"),
    ],
)
def test_too_little_is_one_clear_error(tmp_path, numbers, words):
    with pytest.raises(DataError, match=words):
        prepared(tiny.photos(tmp_path, numbers))


def test_numbers_that_cannot_be_used(tmp_path):
    tiny.photos(tmp_path, {"a": 4, "b": 4})
    with pytest.raises(UsageError, match="seed"):
        prepared(tmp_path, seed=-1)
    with pytest.raises(UsageError, match="valid_fraction"):
        prepared(tmp_path, valid_fraction=1)


def test_uneven_classes_are_told_with_what_helps():
    assert unevenness({"good": 49, "scratch": 10}) is None
    assert unevenness({"good": 49, "crack": 0}) == (
        "crack has no photo to train on: give some, or leave the class out"
    )
    assert unevenness({"good": 50, "scratch": 10, "dent": 11}) == (
        "good has 50 photos to train on and scratch 10: --balance shows every class equally often"
    )
