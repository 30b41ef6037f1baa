"""Maps held against what the network itself segments."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import seeing
import tiny
from mitate.auditing.agreement import (
    segmentation_energy,
    segmentation_rank_accuracy,
    segmented,
)
from mitate.auditing.measuring import measure, planned_forwards
from mitate.errors import ClassifierError, UsageError
from mitate.models.decoder import decoder_for
from oracles import metrics
from oracles.maps import enlarged

AGREEMENT = ("segmentation_energy", "segmentation_rank_accuracy")
DRAWN = torch.tensor([[[1.0, 1, 0, 0]], [[0.0, 0, 0, 0]], [[math.nan] * 4], [[1.0, 1, 1, 1]]])


def test_by_hand_in_a_row_of_four_pixels():
    maps = torch.tensor([[[3.0, 1, 4, 2]]]).expand(4, -1, -1)
    energy, ranked = segmentation_energy(maps, DRAWN), segmentation_rank_accuracy(maps, DRAWN)
    assert energy.tolist() == pytest.approx([0.4, math.nan, math.nan, 1], nan_ok=True)
    assert ranked.tolist() == pytest.approx([0.5, math.nan, math.nan, 1], nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_sums_and_a_plain_sort(seed):
    rng = np.random.default_rng(seed)
    maps, drawn = rng.random((3, 3, 4)), (rng.random((3, 11, 9)) < 0.3).astype(float)
    planes = [np.array(enlarged(plane.tolist(), 11, 9)) for plane in maps]
    energy = [(p * hit).sum() / p.sum() for p, hit in zip(planes, drawn, strict=True)]
    ranks = [
        metrics.rank_accuracy(p.tolist(), hit.astype(bool).tolist())
        for p, hit in zip(planes, drawn, strict=True)
    ]
    maps, drawn = torch.tensor(maps), torch.tensor(drawn)
    pixels = torch.tensor(np.stack(planes))
    assert segmentation_energy(maps, drawn).tolist() == pytest.approx(energy)
    assert segmentation_rank_accuracy(pixels, drawn).tolist() == pytest.approx(ranks)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None)
def test_a_map_that_is_the_segmentation_lies_on_it_wholly(marked):
    drawn = torch.tensor(marked, dtype=torch.float32).reshape(1, 2, 3)
    for measured in (segmentation_energy(drawn, drawn), segmentation_rank_accuracy(drawn, drawn)):
        assert measured.item() == 1 if drawn.any() else measured.isnan().all()


@given(st.lists(st.floats(0.1, 9), min_size=6, max_size=6))
@settings(deadline=None)
def test_a_segmentation_of_everything_favours_no_map(values):
    maps, everything = torch.tensor(values).reshape(1, 2, 3), torch.ones(1, 4, 6)
    assert segmentation_energy(maps, everything).item() == pytest.approx(1)


class TestSegmented:
    def made(self, regions, seed=0):
        """A decoder of weights that are drawn, so that some pixels are on either side of a half."""
        plain = tiny.classifier()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            decoder = decoder_for(plain.network, torch.zeros(1, 3, 64, 64), regions).eval()
            nn.init.normal_(decoder.last.weight)
        return replace(plain, decoder=decoder)

    def inputs(self):
        return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def test_one_region_whatever_the_class(self):
        made, inputs = self.made(["region"]), self.inputs()
        found = segmented(made, inputs, torch.tensor([0, 1, 2]))
        assert torch.equal(found, (made.segment(inputs)[:, 0] >= 0.5).float())
        assert 0 < found.mean() < 1

    def test_the_region_of_the_class_where_each_has_one(self):
        made, inputs = self.made(tiny.NAMES), self.inputs()
        likely = made.segment(inputs)
        for classes in ([0, 1, 2], [2, 2, 0]):
            found = segmented(made, inputs, torch.tensor(classes))
            for place, index in enumerate(classes):
                assert torch.equal(found[place], (likely[place, index] >= 0.5).float())

    def test_of_other_regions_all_together(self):
        made, inputs = self.made(["spot", "rim"]), self.inputs()
        found = segmented(made, inputs, torch.tensor([0, 1, 2]))
        assert torch.equal(found, (made.segment(inputs).amax(1) >= 0.5).float())

    def test_what_is_not_finite_is_no_segmentation(self):
        inputs, _, _ = seeing.tensors(2)
        found = segmented(seeing.segmenting(seeing.honest(), "nan"), inputs, torch.zeros(2).long())
        assert found.isnan().all()

    def test_a_classifier_without_one(self):
        with pytest.raises(ClassifierError, match="mitate train --masks"):
            segmented(tiny.classifier(), self.inputs(), torch.tensor([0, 1, 2]))


class TestMeasured:
    CLASSES = torch.tensor([0, 1, 0])

    def run(self, classifier, **given):
        inputs, _, _ = seeing.tensors(3)
        maps = {
            "a": torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)),
            "b": torch.ones(3, 2, 2),
        }
        return measure(classifier, inputs, self.CLASSES, maps, AGREEMENT, **given)

    def test_one_forward_an_image_for_all_contenders_and_both_metrics(self):
        told = []
        found = self.run(seeing.segmenting(seeing.honest(), "square"), advance=told.append)
        assert found.forwards == planned_forwards(AGREEMENT, 2) == sum(told) / 3 == 1
        area = (seeing.SQUARE / seeing.SIZE) ** 2
        assert found.values["b", "segmentation_energy"].tolist() == pytest.approx([area] * 3)

    def test_the_batch_size_does_not_matter(self):
        made = seeing.segmenting(seeing.honest(), "square")
        whole, apart = self.run(made), self.run(made, batch_size=2)
        for key, values in whole.values.items():
            torch.testing.assert_close(values, apart.values[key])

    def test_the_network_and_its_decoder_are_left_as_they_were(self):
        made = seeing.segmenting(seeing.honest(), "square")
        made.network.train()
        made.decoder.train()
        self.run(made)
        assert made.network.training
        assert made.decoder.training

    def test_a_classifier_that_segments_nothing_is_told_the_way_out(self):
        with pytest.raises(UsageError, match="^segmentation_energy compares .*train --masks"):
            self.run(seeing.honest())
