import math
from dataclasses import replace

import pytest
import torch

import seeing
from mitate.auditing.audit import audit_images
from mitate.auditing.gate import requirement_of
from mitate.auditing.rivals import set_beside, share_elsewhere
from mitate.auditing.subjects import subjects_of
from mitate.errors import UsageError


class TestShareElsewhere:
    def test_by_hand(self):
        first = torch.tensor([[[1.0, 1.0], [0, 0]]])
        second = torch.tensor([[[0.0, 3.0], [3, 0]]])
        assert share_elsewhere(first, second).tolist() == [0.5]

    def test_equal_maps_have_not_moved_and_a_factor_does_not_matter(self):
        maps = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
        assert share_elsewhere(maps, 7 * maps).tolist() == pytest.approx([0, 0, 0], abs=1e-6)

    def test_maps_that_share_nothing(self):
        left, right = torch.tensor([[[1.0, 0]]]), torch.tensor([[[0.0, 2]]])
        assert share_elsewhere(left, right).tolist() == [1]

    def test_negative_parts_do_not_count(self):
        assert share_elsewhere(
            torch.tensor([[[1.0, -5]]]), torch.tensor([[[2.0, -1]]])
        ).tolist() == [0]

    def test_the_finer_grid_is_taken(self):
        coarse, fine = torch.ones(1, 2, 2), torch.ones(1, 4, 4)
        assert share_elsewhere(coarse, fine).tolist() == pytest.approx([0])

    @pytest.mark.parametrize("empty", [0.0, -1.0, math.nan, math.inf])
    def test_a_map_without_energy_has_no_place(self, empty):
        maps = torch.full((1, 2, 2), empty)
        assert share_elsewhere(maps, torch.ones(1, 2, 2)).isnan().all()
        assert share_elsewhere(torch.ones(1, 2, 2), maps).isnan().all()


@pytest.fixture(scope="module")
def audits():
    inputs, masks, labels = seeing.tensors(10, tinted=True)
    subjects = subjects_of(inputs, masks=masks, labels=labels)
    settings = {"methods": ("gradcam",), "layers": ("pool",), "metrics": ("energy", "deletion")}
    return [
        audit_images(made, subjects, **settings)
        for made in (seeing.honest(), seeing.cheat(), seeing.shuffled())
    ]


def test_which_is_better(audits):
    honest, cheat, shuffled = audits
    found = set_beside(honest, shuffled)
    assert found.difference("accuracy").difference.mean == -1
    assert found.difference("accuracy").words == "the first is better"
    assert set_beside(shuffled, honest).difference("accuracy").words == "the second is better"
    assert set_beside(honest, cheat).difference("accuracy").words == "not told apart"


def test_lower_is_better_where_the_metric_says_so(audits):
    honest, cheat, _ = audits
    one, two = set_beside(honest, cheat), set_beside(cheat, honest)
    deletion = one.difference("deletion")
    assert deletion.difference.mean == pytest.approx(deletion.first.mean - deletion.second.mean)
    assert deletion.difference.mean == pytest.approx(-two.difference("deletion").difference.mean)


def test_the_images_whose_reason_moved_most_come_first(audits):
    honest, cheat, _ = audits
    found = set_beside(honest, cheat)
    moved = [one.moved for one in found.moved]
    assert moved == sorted(moved, reverse=True)
    assert {one.image for one in found.moved} == set(honest.subjects.names)
    assert all(one.moved == 0 for one in set_beside(honest, honest).moved)


def test_requirements(audits):
    honest, cheat, shuffled = audits
    words = ("accuracy not worse", "accuracy better", "accuracy>=0.9")
    required = [requirement_of(w, honest.metrics, two=True) for w in words]
    assert [one.met for one in set_beside(honest, cheat, required).gate] == [True, False, True]
    assert [one.met for one in set_beside(honest, shuffled, required).gate] == [False] * 3
    assert set_beside(shuffled, honest, required).passed


def test_without_labels_no_accuracy_is_good_enough(audits):
    inputs, _, _ = seeing.tensors(6)
    made = audit_images(
        seeing.honest(), subjects_of(inputs), methods=("gradcam",), layers=("pool",),
        metrics=("sparseness",),
    )  # fmt: skip
    required = [requirement_of("accuracy not worse", made.metrics, two=True)]
    found = set_beside(made, made, required)
    assert [one.metric for one in found.differences] == ["sparseness", "early_deletion"]
    assert (found.gate[0].met, found.gate[0].found) == (False, "no true class is known")


def test_other_images_cannot_be_compared(audits):
    other = audit_images(
        seeing.honest(), subjects_of(seeing.tensors(6)[0]), methods=("gradcam",), layers=("pool",),
        metrics=("sparseness",),
    )  # fmt: skip
    with pytest.raises(UsageError, match="same images"):
        set_beside(audits[0], other)
    with pytest.raises(UsageError, match="was not compared"):
        set_beside(audits[0], audits[1]).difference("sparseness")


def test_a_less_sure_classifier_of_the_same_decisions_is_not_called_better():
    inputs, masks, labels = seeing.tensors(12)
    settings = {"methods": ("gradcam",), "layers": ("pool",)}
    settings["metrics"] = ("early_deletion", "energy")
    sure, unsure = seeing.honest(), seeing.honest()
    unsure = replace(unsure, output=lambda logits: 0.25 * logits)
    both = [
        audit_images(made, subjects_of(inputs, labels=labels, masks=masks), **settings)
        for made in (sure, unsure)
    ]
    found = set_beside(*both)
    assert abs(found.difference("early_deletion").difference.mean) > 0.01
    assert found.difference("early_deletion").words == "not judged: how sure each is enters"
    assert found.difference("energy").words == "not told apart"
    assert found.difference("accuracy").words == "not told apart"
    assert max(one.moved for one in found.moved) < 1e-5
