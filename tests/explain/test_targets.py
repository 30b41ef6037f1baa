import numpy as np
import pytest
import torch

from mitate.errors import TargetError
from mitate.explain.targets import (
    checked_targets,
    checked_top_k,
    label_indices,
    label_targets,
    top_classes,
)

NAMES = ("rust", "blight", "健康", "rust")


def test_top_classes_come_most_probable_first() -> None:
    logits = torch.tensor([[0.1, 3.0, 2.0, -1.0], [5.0, 4.0, 3.0, 6.0]])
    assert top_classes(logits, 2).tolist() == [[1, 2], [3, 0]]
    assert top_classes(logits).tolist() == [[1, 2, 0], [3, 0, 1]]
    assert top_classes(logits[:, :2]).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("top_k", [0, -1, 5])
def test_a_k_that_does_not_fit(top_k: int) -> None:
    with pytest.raises(TargetError, match="use a whole number from 1 to 4"):
        checked_top_k(top_k, 4)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([1, 0], [[1], [0]]),
        ([[1, 2], [0, 3]], [[1, 2], [0, 3]]),
        (torch.tensor([3, 3]), [[3], [3]]),
        (np.array([[1], [2]]), [[1], [2]]),
        ([np.int64(1), 2], [[1], [2]]),
        (3, [[3], [3]]),
        (torch.tensor(1), [[1], [1]]),
        ("健康", [[2], [2]]),
        (["blight", 0], [[1], [0]]),
        ([["blight", "健康"], (0, 3)], [[1, 2], [0, 3]]),
    ],
)
def test_targets_as_indices(unchecked, targets, expected) -> None:
    found = checked_targets(targets, 2, NAMES)
    assert found.tolist() == expected
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1], r"1 target\(s\) for 2 image\(s\)"),
        ([1, 2, 3], r"3 target\(s\) for 2"),
        (5, "from 5 to 5"),
        (True, "whole numbers"),
        ([[1, 2], [3]], "the same number for every image"),
        ([[1], 2], "the same number for every image"),
        ("rost", "no class of this classifier: did you mean rust"),
        (["rust", "blight"], "name of classes 0, 3: give the index"),
        ([None, 1], "must be class indices or names"),
        ([0.5, 1.0], "whole numbers"),
        ([True, False], "whole numbers"),
        ([[[1]], [[2]]], "whole numbers"),
        ([[], []], "targets are empty"),
        ([0, 4], "from 0 to 4 and the classifier has 4 classes: use 0 to 3"),
        ([-1, 0], "from -1 to 0"),
    ],
)
def test_targets_that_do_not_fit(unchecked, targets, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        checked_targets(targets, 2, NAMES)


def test_labels_as_indices() -> None:
    assert label_indices(["blight", 3, None, "健康"], 4, NAMES) == (1, 3, -1, 2)
    assert label_indices(None, 4, NAMES) == ()


def test_labels_from_arrays(unchecked) -> None:
    assert label_indices(np.array([1, 2]), 2, NAMES) == (1, 2)
    assert label_indices(torch.tensor([1, 2]), 2, NAMES) == (1, 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["blight"], r"1 label\(s\) for 2"),
        ("ab", r"1 label\(s\) for 2"),
        (["bligth", None], "'bligth' is no class of this classifier: did you mean blight"),
        (["zzz", None], "it has rust, blight, 健康"),
        (["rust", None], "'rust' is the name of classes 0, 3: give the index"),
        ([4, None], "label 4 is out of range: use 0 to 3"),
        ([-1, None], "or None where the class is not known"),
        ([1.5, None], "neither a class name nor an index"),
    ],
)
def test_labels_that_do_not_fit(unchecked, labels, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        label_indices(labels, 2, NAMES)


def test_the_true_label_as_the_target() -> None:
    assert label_targets((1, 2)) == [1, 2]
    for labels in ((), (1, -1)):
        with pytest.raises(TargetError, match="needs labels="):
            label_targets(labels)
