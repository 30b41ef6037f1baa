import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mitate.auditing.reasons import confused_pairs
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer


def pairs_of(planted, **settings):
    settings = {"labels": planted.labels, "shown": False, **settings}
    method = settings.pop("method", "gradcam")
    explainer = planted.explainer(method)
    return confused_pairs(planted.classifier, planted.images, explainer, **settings)


@pytest.fixture
def mixed(planted):
    """Fifteen stamped images that are truly plain ones, and three spotted that are stamped."""
    return replace(planted, labels=(0,) * 27 + (1,) * 5 + (1,) * 3 + (2,) * 9)


def test_the_largest_cells_and_where_they_are_decided(mixed):
    first, second = pairs_of(mixed)
    assert (first.true, first.predicted, len(first.members)) == ("plain", "stamped", 15)
    assert first.share == pytest.approx(15 / 27)
    assert (first.place.name, first.peaks, first.mapped) == ("the lower right corner", 1, 15)
    assert first.border > 0.99
    assert set(first.members) == set(range(12, 27))
    assert first.words == (
        "56 % of 'plain' (15 images) is taken for 'stamped'; what speaks for it and against "
        "'plain' is hottest in the lower right corner, where 100 % of the maps have their peak"
    )
    assert (second.true, second.predicted, len(second.members)) == ("stamped", "spotted", 3)


def test_top_takes_as_many_as_there_are(mixed):
    assert len(pairs_of(mixed, top=1)) == 1
    assert len(pairs_of(mixed, top=9)) == 2


def test_a_classifier_without_errors_confuses_nothing(planted):
    assert pairs_of(planted) == ()


def test_the_surest_error_comes_first_and_is_shown(mixed):
    first, _ = pairs_of(mixed)
    logits = mixed.classifier.logits(mixed.images)
    margins = (logits[:, 1] - logits[:, 0])[list(first.members)]
    assert (margins.diff() <= 1e-6).all()
    assert first.picture.size == (32, 32)


def test_the_maps_are_against_the_true_class(mixed):
    first, _ = pairs_of(mixed)
    chosen = list(first.members)
    against = Explainer(mixed.classifier, layer="1", against="plain", show_progress=False)
    maps = against(mixed.images[chosen], targets=[1] * 15).maps[:, 0].clamp_min(0)
    shares = maps / maps.sum((1, 2), keepdim=True)
    assert first.heat == pytest.approx(shares.mean(0).numpy(), abs=1e-6)


def test_masks_tell_how_much_lies_outside(mixed):
    first, second = pairs_of(mixed, masks=mixed.masks)
    assert first.outside.mean == pytest.approx(1)
    assert second.outside.mean < 0.5  # a map of cells spreads over their edges
    assert pairs_of(mixed)[0].outside is None


def test_a_method_without_gradients_is_replaced_and_told(mixed):
    first, _ = pairs_of(mixed, method="scorecam")
    assert (first.method, first.layer) == ("hirescam", "1")
    assert pairs_of(mixed)[0].method == "gradcam"


def test_images_of_unknown_class_are_left_out(mixed):
    labels = [None] * 20 + list(mixed.labels[20:])
    first, _ = pairs_of(mixed, labels=labels)
    assert set(first.members) == set(range(20, 27))
    assert first.share == 1


def test_maps_without_heat_give_no_place(planted):
    """Two classes are scored by the same weights, so that nothing speaks for one of them."""
    head = planted.classifier.network[4]
    with torch.no_grad():
        head.weight[0] = head.weight[1]
        head.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    first, _ = pairs_of(planted, labels=(0,) * 44)
    assert (first.predicted, len(first.members), first.mapped) == ("stamped", 32, 0)
    assert first.place is None
    assert np.isnan(first.heat).all()
    assert first.words.endswith("no part of the maps stands out")
    json.dumps(first.as_dict(), allow_nan=False)


def test_it_is_plain_data_for_json(mixed):
    stored = json.loads(json.dumps([pair.as_dict() for pair in pairs_of(mixed)], allow_nan=False))
    assert stored[0]["predicted"] == "stamped"
    assert len(stored[0]["members"]) == 15


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"top": 0}, "use 1 or more"), ({"labels": None}, "need true classes")],
)
def test_what_cannot_be_done_is_refused(planted, settings, word):
    with pytest.raises(UsageError, match=word):
        pairs_of(planted, **settings)


def test_a_network_of_values_is_refused(planted):
    with pytest.raises(UsageError, match="values"):
        pairs_of(replace(planted, classifier=replace(planted.classifier, task="regression")))
