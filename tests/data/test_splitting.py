import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.data.dataset import read_dataset
from mitate.data.records import Dataset, Record, class_names_of
from mitate.data.splitting import split_dataset
from mitate.errors import DataError, UsageError


def sides(dataset: Dataset) -> dict[str, str | None]:
    return {dataset.name(record.path): record.split for record in dataset.records}


def made(records: list[Record]) -> Dataset:
    return Dataset(Path("/none"), tuple(records), class_names_of(records))


def test_each_class_has_its_share(tree) -> None:
    dataset = split_dataset(read_dataset(tree({"a": 20, "b": 10, "c": 3})))
    assert dataset.counts() == {
        "train": {"a": 16, "b": 8, "c": 2},
        "valid": {"a": 4, "b": 2, "c": 1},
    }
    assert dataset.notices == ()


def test_seed_decides_and_global_state_is_untouched(tree) -> None:
    dataset = read_dataset(tree({"a": 20, "b": 20}))
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert split_dataset(dataset, seed=4) == split_dataset(dataset, seed=4)
    assert split_dataset(dataset, seed=4) != split_dataset(dataset, seed=5)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_given_splits_are_kept(tree) -> None:
    dataset = read_dataset(tree({"train/a": 3, "train/b": 2, "valid/a": 1, "valid/b": 4}))
    assert split_dataset(dataset) == dataset
    assert split_dataset(split_dataset(dataset)) == dataset


def test_partly_given_splits(table) -> None:
    lines = [f"{i}.png,{'ab'[i % 2]},{'valid' if i < 2 else ''}" for i in range(12)]
    dataset = split_dataset(read_dataset(table("path,label,split", *lines)), valid_fraction=0.4)
    assert sides(dataset)["0.png"] == sides(dataset)["1.png"] == "valid"
    assert dataset.counts() == {"train": {"a": 3, "b": 3}, "valid": {"a": 3, "b": 3}}


@pytest.mark.parametrize("more", [{}, {"test/a": 2, "test/b": 2}])
def test_valid_is_set_aside_from_train(tree, more: dict[str, int]) -> None:
    dataset = split_dataset(read_dataset(tree({"train/a": 10, "train/b": 10, **more})))
    assert dataset.counts()["valid"] == {"a": 2, "b": 2}
    assert ("test" in dataset.counts()) == bool(more)
    assert dataset.notices == (
        "No valid images are given: some of the train images are set aside for it.",
    )


def test_groups_stay_whole(table) -> None:
    lines = [f"{i}.png,{'ab'[i // 30]},{i // 3}" for i in range(60)]
    dataset = split_dataset(read_dataset(table("path,label,part", *lines), group="part"))
    assert dataset.counts()["valid"] == {"a": 6, "b": 6}
    for group in range(20):
        assert len({r.split for r in dataset.records if r.group == str(group)}) == 1


def test_group_follows_its_given_split(table) -> None:
    lines = ["0.png,a,7,valid", "1.png,a,7,", "2.png,a,8,train", "3.png,a,8,", "4.png,b,9,"]
    path = table("path,label,part,split", *lines)
    assert sides(split_dataset(read_dataset(path, group="part"))) == {
        "0.png": "valid",
        "1.png": "valid",
        "2.png": "train",
        "3.png": "train",
        "4.png": "train",
    }


def test_copies_across_given_splits_leave_train(tree, draw) -> None:
    root = tree({"train/a": 6, "valid/a": 5})
    for i in range(4):
        draw(root / "train" / "a" / f"copy{i}.png", 1000 + i)
        draw(root / "valid" / "a" / f"same{i}.png", 1000 + i)
    dataset = split_dataset(read_dataset(root))
    assert dataset.counts() == {"train": {"a": 6}, "valid": {"a": 9}}
    assert dataset.notices[0] == (
        "4 images left out, since the same file is also in a held-out split:"
        " train/a/copy0.png, train/a/copy1.png, train/a/copy2.png and 1 more."
    )


def test_copies_between_valid_and_test_leave_valid(tree, draw) -> None:
    root = tree({"train/a": 2, "valid/a": 2, "test/a": 2})
    for split in ("train", "valid", "test"):
        draw(root / split / "a" / "copy.png", 1000)
    dataset = split_dataset(read_dataset(root))
    assert dataset.counts() == {"train": {"a": 2}, "valid": {"a": 2}, "test": {"a": 3}}


def test_copies_are_split_together(tree, draw) -> None:
    root = tree({"a": 0, "b": 4})
    for i in range(20):
        draw(root / "a" / f"{i}.png", 1000 + i // 2)
    for seed in range(5):
        split = sides(split_dataset(read_dataset(root), seed=seed))
        assert all(split[f"a/{i}.png"] == split[f"a/{i + 1}.png"] for i in range(0, 20, 2))


def test_copies_join_groups(table, draw) -> None:
    lines = [f"{i}.png,a,{i // 2}" for i in range(8)]
    path = table("path,label,part", *lines)
    draw(path.parent / "1.png", 5000)
    draw(path.parent / "2.png", 5000)
    for seed in range(5):
        split = sides(split_dataset(read_dataset(path, group="part"), seed=seed))
        assert len({split[f"{i}.png"] for i in range(4)}) == 1


def test_copy_of_a_given_valid_image_follows_it(table, draw) -> None:
    path = table("path,label,split", "0.png,a,valid", "1.png,a,", "2.png,a,", "3.png,a,train")
    draw(path.parent / "1.png", 0)
    assert sides(split_dataset(read_dataset(path)))["1.png"] == "valid"


def test_same_picture_under_two_classes_is_told(tree, draw) -> None:
    root = tree({"a": 3, "b": 3})
    for label in "ab":
        draw(root / label / "same.png", 1000)
    assert split_dataset(read_dataset(root)).notices[0] == (
        "1 picture with the same file under several classes: a/same.png, b/same.png."
    )


def test_class_with_one_image_stays_in_train(tree) -> None:
    dataset = split_dataset(read_dataset(tree({"a": 5, "lonely": 1})))
    assert sides(dataset)["lonely/0.png"] == "train"
    assert dataset.notices == (
        "1 class with a single image, which stays in train and cannot be judged: lonely.",
    )


def test_classes_on_one_side_are_told(tree) -> None:
    root = tree({"train/a": 2, "valid/a": 1, "train/b": 2, "valid/c": 1, "valid/d": 2})
    assert split_dataset(read_dataset(root)).notices == (
        "2 classes in valid or test and not in train, which cannot be learned: c, d.",
        "1 class in train and not in valid, which cannot be judged: b.",
    )


def test_one_class_is_told(tree) -> None:
    assert "only the class a" in split_dataset(read_dataset(tree({"a": 5}))).notices[0]


def test_images_without_label_are_left_out(table) -> None:
    dataset = split_dataset(read_dataset(table("path,label", "0.png,", "1.png,a", "2.png,b")))
    assert len(dataset) == 2
    assert dataset.notices[0] == "1 image without a label left out: 0.png."


@pytest.mark.parametrize("lines", [["0.png,,"], ["0.png,a,valid", "1.png,a,test"]])
def test_nothing_to_train_on(table, lines: list[str]) -> None:
    with pytest.raises(DataError, match="no images to train on"):
        split_dataset(read_dataset(table("path,label,split", *lines)))


def test_nothing_to_train_on_but_copies(tree, draw) -> None:
    root = tree({"valid/a": 2, "train/a": 0})
    for number in (1, 2):
        draw(root / "train" / "a" / f"{number}.png", number)
    with pytest.raises(DataError, match="all 2 training images are copies of images that are held"):
        split_dataset(read_dataset(root))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 20, float("nan")])
def test_wrong_fraction(fraction: float) -> None:
    with pytest.raises(UsageError, match="give a number between 0 and 1"):
        split_dataset(made([]), valid_fraction=fraction)


record = st.builds(
    Record,
    path=st.uuids().map(lambda uid: Path(f"/none/{uid}")),
    label=st.sampled_from("abc"),
    group=st.none() | st.sampled_from("123456"),
)


@settings(deadline=None)
@given(st.lists(record, min_size=1, max_size=40), st.integers(0, 5))
def test_any_data_set_is_split_whole(records: list[Record], seed: int) -> None:
    dataset = split_dataset(made(records), seed=seed)
    assert [replace(r, split=None) for r in dataset.records] == records
    on: dict[str, set[str | None]] = {}
    for r in dataset.records:
        if r.group is not None:
            on.setdefault(r.group, set()).add(r.split)
    assert all(len(splits) == 1 for splits in on.values())
    assert {r.label for r in dataset.records if r.split == "train"} == {r.label for r in records}
