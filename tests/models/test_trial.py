import pytest
from torch import nn

from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from mitate.models.trial import check_takes


def classifier() -> Classifier:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    return Classifier.from_module(flat, classes=2, preprocessing=Preprocessing(size=(8, 8)))


def test_a_size_that_fits() -> None:
    check_takes(classifier(), (8, 8))


def test_one_that_does_not_and_why() -> None:
    with pytest.raises(UsageError, match=r"Sequential takes no images of 9x8 px \(.+\): use"):
        check_takes(classifier(), (9, 8))
