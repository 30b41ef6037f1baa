import pytest
import torch

from mitate.auditing.reliance import _moved, _moves, reliance
from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from oracles import metrics

SIZE = (12, 16)


def weights_on(rows, columns):
    """Of class 0, whose logit is a share of a region's sum."""
    weights = torch.zeros(2, 1, *SIZE, dtype=torch.float64)
    weights[0, 0, rows, columns] = 0.2
    return weights


TRUE = slice(2, 5), slice(3, 6)


def case(uses=TRUE):
    images = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(0)).double() * 0.1
    images[:, :, TRUE[0], TRUE[1]] += 1.0
    images[:, :, 8:11, 10:13] += 1.0
    masks = torch.zeros(3, *SIZE)
    masks[:, TRUE[0], TRUE[1]] = 1
    masks[2] = 0
    weights = weights_on(*uses)
    network = metrics.Linear(weights - weights_on(*uses)[[1, 0]])
    classes = torch.zeros(3, dtype=torch.long)
    return Classifier.from_module(network, classes=2), images, classes, masks


def asked(uses=TRUE, **options):
    return reliance(*case(uses), **{"filling": "mean", "margin": 0.0, **options})


def test_a_classifier_that_uses_the_region_falls_without_it():
    found = asked(places=4)
    assert (found.fall[:2] > 0.2).all()
    assert (found.fall[:2] > found.fall_outside[:2] + 0.2).all()
    assert found.fall_inside.isnan().all()
    assert found.hidden.isnan().tolist() == [False, False, True]
    assert found.outside[2].isnan().all()


def test_a_classifier_that_uses_something_else_does_not():
    found = asked((slice(8, 11), slice(10, 13)), places=60)
    assert (found.fall[:2].abs() < 1e-6).all()
    assert (found.fall_outside[:2] > 0.003).all()


def test_hidden_by_hand():
    classifier, images, classes, masks = case()
    found = asked()
    for place in range(2):
        altered = images[place].clone()
        altered[:, TRUE[0], TRUE[1]] = images[place].mean()
        expected = classifier.network(altered[None]).softmax(1)[0, 0].item()
        assert found.hidden[place].item() == pytest.approx(expected)
        assert found.own[place] > found.hidden[place]


def test_flips_are_told_where_the_class_was_the_most_probable():
    found = asked()
    assert found.flipped[2].isnan()
    assert set(found.flipped[:2].tolist()) <= {0.0, 1.0}
    classifier, images, classes, masks = case()
    other = reliance(classifier, images, classes + 1, masks, filling="mean")
    assert other.flipped.isnan().all()


def test_regions_elsewhere_lie_where_they_should_and_keep_their_shape():
    true = torch.zeros(*SIZE, dtype=torch.bool)
    true[2:5, 3:5] = True
    true[4, 5] = True
    within = torch.zeros_like(true)
    within[:8, :9] = True
    generator = torch.Generator().manual_seed(0)
    moves = _moves(true, within, 6, generator)
    assert _moved(true, moves[0]).equal(true)
    for place, move in enumerate(moves[1:]):
        moved = _moved(true, move)
        assert moved.sum() == true.sum()
        assert not (moved & true).any()
        assert (moved & within).sum() == (true.sum() if place < 6 else 0)
    assert len(set(moves)) == 13


def test_without_room_there_is_no_region_elsewhere():
    true = torch.zeros(*SIZE, dtype=torch.bool)
    true[2:5, 3:5] = True
    moves = _moves(true, true, 3, torch.Generator())
    assert moves[1:4] == [None] * 3
    assert None not in moves[4:]
    most = torch.ones(*SIZE, dtype=torch.bool)
    assert _moves(most, None, 2, torch.Generator())[1:] == [None] * 4


def test_batch_is_loop_and_what_was_spent():
    classifier, images, classes, masks = case()
    objects = torch.zeros_like(masks)
    objects[:, :8] = 1
    whole = reliance(classifier, images, classes, masks, objects=objects, places=3)
    assert whole.forwards == pytest.approx((3 + 2 * 7) / 3)
    for place in range(3):
        part = slice(place, place + 1)
        alone = reliance(
            classifier, images[part], classes[part], masks[part], objects=objects[part], places=3,
            batch_size=2,
        )  # fmt: skip
        for name in ("hidden", "inside", "outside", "flipped_outside"):
            torch.testing.assert_close(
                getattr(alone, name)[0], getattr(whole, name)[place], equal_nan=True
            )


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_said():
    classifier, images, classes, masks = case()
    with pytest.raises(UsageError, match="objects of .* bring them to the size"):
        reliance(classifier, images, classes, masks, objects=masks[:, :4])
    with pytest.raises(UsageError, match="places is 0: use 1 or more"):
        reliance(classifier, images, classes, masks, places=0)
