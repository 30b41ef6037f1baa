import numpy as np
import pytest
import torch

import tiny
from mitate.auditing.subjects import audited_classes, in_batches, subjects_of
from mitate.errors import UsageError


@pytest.fixture
def inputs():
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_images_are_opened_by_place(inputs):
    masks = torch.arange(5.0)[:, None, None].expand(5, 8, 8)
    subjects = subjects_of(inputs, masks=masks)
    batch = subjects.open([3, 0])
    assert torch.equal(batch.inputs, inputs[[3, 0]])
    assert batch.masks is not None
    assert batch.masks[:, 0, 0].tolist() == [3, 0]
    assert subjects.masked
    assert not subjects.labelled


def test_empty_masks_are_none(inputs):
    assert not subjects_of(inputs, masks=torch.zeros(5, 8, 8)).masked


def test_another_order_moves_everything_alike(inputs):
    subjects = subjects_of(inputs, names=list("abcde"), labels=[0, 1, 2, 0, 1])
    moved = subjects.shuffled(3)
    assert moved.names != subjects.names
    for place, name in enumerate(moved.names):
        before = subjects.names.index(name)
        assert torch.equal(moved.open([place]).inputs[0], inputs[before])
        assert moved.labels[place] == subjects.labels[before]
        assert moved.digests[place] == subjects.digests[before]
    assert moved.names == subjects.shuffled(3).names


def test_the_digest_is_of_pixels_masks_and_labels(inputs):
    plain = subjects_of(inputs, labels=[0] * 5)
    masks = torch.zeros(5, 8, 8)
    others = [
        subjects_of(inputs + 1e-3, labels=[0] * 5),
        subjects_of(inputs, labels=[0, 0, 0, 0, 1]),
        subjects_of(inputs, labels=[0] * 5, masks=masks),
        subjects_of(inputs.flip(0), labels=[0] * 5),
    ]
    assert plain.digest == subjects_of(inputs.clone(), labels=[0] * 5).digest
    assert len({plain.digest, *(one.digest for one in others)}) == 5


def test_masks_of_another_size_are_refused(inputs, unchecked):
    with pytest.raises(UsageError, match="height and width"):
        subjects_of(inputs, masks=torch.zeros(5, 4, 8))


def test_predictions_do_not_depend_on_the_batch():
    classifier = tiny.classifier()
    subjects = subjects_of(torch.randn(5, 3, 64, 64))
    found = subjects.predicted(classifier, 2)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, subjects.predicted(classifier, 5), rtol=1e-4)


def test_batches_keep_the_order():
    assert [list(b) for b in in_batches(range(10, 15), 2)] == [[10, 11], [12, 13], [14]]


def test_the_true_class_is_audited_where_it_is_known():
    predicted = np.array([2, 2, 0])
    assert audited_classes([0, -1, 1], predicted, "label").tolist() == [0, 2, 1]
    assert audited_classes([0, -1, 1], predicted, "predicted").tolist() == [2, 2, 0]
    with pytest.raises(UsageError, match="label, predicted"):
        audited_classes([0, -1, 1], predicted, "true")
