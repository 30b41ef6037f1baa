"""Training with masks on real leaves, of which some have masks of their symptoms."""

import pytest

from mitate.data.dataset import read_dataset
from mitate.data.decoding import read_image
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.training import Supervision, fit
from mitate.training.masks import true_masks
from mitate.training.preparing import prepared

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture(scope="module")
def leaves(shared):
    """Every twelfth leaf, so that it takes minutes."""
    dataset = read_dataset(shared / "data" / "coffee_leaf")
    return prepared(dataset.with_records(dataset.records[::12]))


def test_masks_of_some_leaves_teach_to_segment(shared, leaves, tmp_path):
    masks = true_masks(leaves, shared / "data" / "coffee_leaf", value=2)
    assert 0 < len(masks.paths) < len(leaves.records)
    done = fit(
        leaves,
        tmp_path,
        model="mobilenetv2_100",
        weights=shared / "weights" / "mobilenetv2_100.imagenet1k.safetensors",
        size=(64, 128),
        epochs=6,
        lr=2e-3,
        show_progress=False,
        masks=masks,
        supervision=Supervision(guide=True, guide_weight=2.0),
    )
    assert done.scores.segmentation.dice > 0.1  # the symptoms cover a few percent
    assert done.scores.accuracy > 0.4  # five classes
    loaded = Classifier.load(tmp_path)
    records = leaves.split("valid").records[:4]
    explanation = Explainer(loaded)([record.path for record in records], top_k=3)
    assert explanation.maps.isfinite().all()
    inputs = loaded.inputs([read_image(record.path) for record in records])
    assert loaded.segment(inputs).shape == (4, 1, 64, 128)
