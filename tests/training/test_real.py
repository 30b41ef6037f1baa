"""Training with masks on real leaves, of which some have masks of their symptoms."""

import numpy as np
import pytest
import torch

from mitate.auditing.localisation import energy_share
from mitate.data.dataset import read_dataset
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.training import Supervision, fit
from mitate.training.masks import LEVELS, true_masks
from mitate.training.preparing import prepared

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture(scope="module")
def leaves(shared):
    """Every twelfth leaf, so that it takes minutes."""
    dataset = read_dataset(shared / "data" / "coffee_leaf")
    return prepared(dataset.with_records(dataset.records[::12]))


def test_masks_of_some_leaves_teach_to_segment_and_to_look(shared, leaves, tmp_path):
    masks = true_masks(leaves, shared / "data" / "coffee_leaf", value=2)
    assert 0 < len(masks.paths) < len(leaves.records)
    settings = {
        "model": "mobilenetv2_100",
        "weights": shared / "weights" / "mobilenetv2_100.imagenet1k.safetensors",
        "size": (64, 128),
        "epochs": 6,
        "lr": 2e-3,
        "show_progress": False,
    }
    plain = fit(leaves, tmp_path / "plain", **settings)
    both = Supervision(guide=True, guide_weight=2.0)
    taught = fit(leaves, tmp_path / "taught", masks=masks, supervision=both, **settings)
    assert taught.scores.segmentation.dice > 0.1  # the symptoms cover a few percent
    before, after = (
        energy_on_symptoms(Classifier.load(done.classifier.folder), leaves, masks)
        for done in (plain, taught)
    )
    assert after > before
    assert taught.scores.accuracy > 0.4  # five classes


def energy_on_symptoms(classifier, leaves, masks):
    """Mean share of Grad-CAM's energy on the symptoms of the validation leaves."""
    found = []
    explainer = Explainer(classifier)
    for record in leaves.split("valid").records:
        levels = masks.levels(record.path, classifier.preprocessing)
        if levels is not None and levels.any():
            maps = explainer([record.path], targets="label", labels=[record.label]).maps
            share = energy_share(maps[:, 0], torch.from_numpy(levels / LEVELS)[None].float())
            found += share.tolist()
    assert len(found) >= 3
    return float(np.nanmean(found))
