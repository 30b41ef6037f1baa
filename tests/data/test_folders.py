import unicodedata
from pathlib import Path

import pytest

from mitate.data.folders import read_folders
from mitate.errors import DataError


def test_class_folders(tree) -> None:
    root = tree({"rust": 2, "いもち病": 1, "class 10": 1, "class 9": 1})
    dataset = read_folders(root)
    assert dataset.class_names == ("class 9", "class 10", "rust", "いもち病")
    assert dataset.counts() == {None: {"class 9": 1, "class 10": 1, "rust": 2, "いもち病": 1}}
    assert dataset.notices == ()
    assert dataset.root == root


def test_what_was_trained_beside_the_photos_is_no_class(tree) -> None:
    root = tree({"x": 1, "y": 1, "out": 1})
    (root / "out" / "classifier.json").write_text("{}")
    dataset = read_folders(root)
    assert dataset.class_names == ("x", "y")
    assert dataset.notices == ("1 folder that mitate made left out: out.",)


def test_nor_what_lies_deeper(tree, draw) -> None:
    root = tree({"x": 1, "y": 1})
    draw(root / "leaves" / "interrupted" / "confusion.png")
    (root / "leaves" / "interrupted" / "classifier.json").write_text("{}")
    assert read_folders(root).class_names == ("x", "y")


def test_pictures_below_a_class_folder_belong_to_it(tree) -> None:
    assert read_folders(tree({"a/2021": 2, "a/2022": 1, "b": 1})).counts()[None] == {"a": 3, "b": 1}


@pytest.mark.parametrize("valid", ["valid", "val", "Validation", "VALID"])
def test_split_folders(tree, valid: str) -> None:
    dataset = read_folders(tree({"Train/a": 3, "Train/b": 2, f"{valid}/a": 1, "testing/b": 1}))
    assert dataset.counts() == {
        "train": {"a": 3, "b": 2},
        "valid": {"a": 1, "b": 0},
        "test": {"a": 0, "b": 1},
    }


def test_train_may_be_a_class(tree) -> None:
    dataset = read_folders(tree({"bus": 1, "train": 2, "car": 1}))
    assert dataset.class_names == ("bus", "car", "train")


def test_test_beside_classes_is_a_class(tree) -> None:
    assert read_folders(tree({"a": 1, "test/deep": 2})).class_names == ("a", "test")


def test_folders_beside_the_splits_are_told(tree) -> None:
    dataset = read_folders(tree({"train/a": 1, "valid/a": 1, "masks/a": 1}))
    assert len(dataset) == 2
    assert dataset.notices == ("Folders beside the split folders are not read: masks.",)


def test_split_folders_without_class_folders(tree) -> None:
    with pytest.raises(DataError, match="train, valid with pictures directly in them"):
        read_folders(tree({"train": 2, "valid": 1}))


def test_one_class_in_two_unicode_forms(tree) -> None:
    name = "ごま葉枯病"
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    dataset = read_folders(tree({f"train/{forms[0]}": 1, f"valid/{forms[1]}": 1}))
    assert dataset.class_names == (forms[0],)


def test_what_is_left_out_is_told(tree, draw) -> None:
    root = tree({"a": 1, "b": 0, "c": 0})
    draw(root / "loose.png")
    for name in ("a/x.heic", "a/y.HEIC", "a/notes.txt", "a/Thumbs.db", "a/.DS_Store", "c/README"):
        (root / name).touch()
    dataset = read_folders(root)
    assert dataset.class_names == ("a",)
    assert dataset.notices == (
        "2 class folders without pictures left out: b, c.",
        "1 picture outside of any class folder left out: loose.png.",
        "4 files of a kind that mitate does not read left out: .heic (2), .txt (1), README (1); "
        "save pictures as JPEG or PNG.",
    )


def test_hidden_files_and_folders_are_passed_over(tree, draw) -> None:
    root = tree({"a": 1, ".ipynb_checkpoints": 1, "__MACOSX/a": 1})
    draw(root / "a" / "._0.png")
    assert (len(read_folders(root)), read_folders(root).notices) == (1, ())


@pytest.mark.parametrize(
    ("folders", "words"),
    [({}, "no class folders with"), ({"a": 0}, "hold no pictures: a"), ({".": 1}, "but no class")],
)
def test_nothing_to_read(tree, folders: dict[str, int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_folders(tree(folders))


def test_links_in_a_circle_end(tree) -> None:
    root = tree({"a": 2})
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "loop").symlink_to(root)
    dataset = read_folders(root)
    assert len(dataset) == 2
    assert dataset.notices == ("1 class folder without pictures left out: loop.",)


def test_linked_class_folders_are_followed(tree, tmp_path_factory, draw) -> None:
    root = tree({"a": 1})
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    draw(elsewhere / "1.png")
    (root / "b").symlink_to(elsewhere)
    assert read_folders(root).class_names == ("a", "b")


def test_no_picture_is_opened(tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"a": 1, "b": 1})
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    assert len(read_folders(root)) == 2
