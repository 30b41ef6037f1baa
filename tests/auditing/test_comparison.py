import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mitate.auditing.comparison import CONTROLS, Comparison, mask_batch
from mitate.explain.explanation import Explanation


def explanation(method, shares, names=(), layer="stages.3"):
    """Maps of which so much lies on the left half."""
    maps = torch.tensor([[[[share, 1 - share]]] for share in shares])
    number = len(shares)
    return Explanation(
        maps=maps,
        classes=torch.zeros(number, 1, dtype=torch.long),
        logits=torch.zeros(number, 2),
        class_names=("a", "b"),
        method=method,
        layer=layer,
        input_size=(1, 2),
        names=tuple(names),
    )


def compared(**shares):
    number = len(next(iter(shares.values())))
    masks = mask_batch([np.array([[1.0, 0.0]], np.float32)] * number)
    comparison = Comparison()
    comparison.add([explanation(name, values) for name, values in shares.items()], masks)
    return comparison


def verdict(**shares):
    return compared(**shares).places()[0].verdict


def test_the_controls_are_the_methods_that_never_look():
    assert set(CONTROLS) == {"random", "centre", "edges"}


def test_shares_of_several_batches():
    comparison = compared(gradcam=[0.5, 0.25], centre=[0.1, 0.3])
    masks = mask_batch([np.array([[1.0, 0.0]], np.float32)])
    comparison.add([explanation("gradcam", [1.0]), explanation("centre", [0.0])], masks)
    place, control = comparison.places()
    assert (place.method, place.layer, place.control) == ("gradcam", "stages.3", False)
    assert place.energy.mean == pytest.approx(1.75 / 3)
    assert (control.method, control.control, control.verdict) == ("centre", True, "")
    assert len(comparison) == comparison.area().images == 3
    assert comparison.area().mean == 0.5


def test_only_the_first_target_counts():
    maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    both = replace(explanation("gradcam", [0.5]), maps=maps, classes=torch.tensor([[1, 0]]))
    comparison = Comparison()
    comparison.add([both], mask_batch([np.array([[1, 0]], np.float32)]))
    assert comparison.places()[0].energy.mean == 1


def test_better_than_every_control():
    words = verdict(gradcam=[0.9, 0.8, 0.85, 0.9, 0.7, 0.8], centre=[0.3] * 6, random=[0.5] * 6)
    assert words == "better than every control (best: random)"


def test_a_control_that_wins_or_draws_is_named():
    assert verdict(gradcam=[0.3] * 6, centre=[0.4] * 6) == "not better than the control centre"
    assert verdict(gradcam=[0.3] * 6, edges=[0.3] * 6) == "not better than the control edges"
    wild = [0.0, 1.0, 0.0, 1.0, 0.0, 0.95]
    words = verdict(gradcam=[0.6] * 6, random=wild, centre=[0.5] * 6)
    assert words == "not better than the control random"


def test_pairs_decide_and_not_the_means_alone():
    base = np.linspace(0.1, 0.8, 12)
    assert verdict(gradcam=(base + 0.05).tolist(), centre=base.tolist()).startswith("better")


def test_few_photos_prove_nothing():
    words = verdict(gradcam=[0.9] * 5, centre=[0.1] * 5)
    assert words == "too few photos to judge: 5 of at least 6"


def test_without_a_control_or_a_value_there_is_no_verdict():
    assert verdict(gradcam=[0.5] * 6) == ""
    assert verdict(gradcam=[math.nan] * 6, centre=[0.5] * 6) == "no map has energy"
    assert verdict(gradcam=[0.5] * 6, centre=[math.nan] * 6) == ""


def test_rows_name_the_photos_and_leave_empty_what_is_no_number():
    comparison = Comparison()
    masks = mask_batch([np.array([[1.0, 0.0]], np.float32)] * 2)
    comparison.add([explanation("gradcam", [0.25, math.nan], ["a.jpg", "b.jpg"])], masks)
    assert comparison.rows() == [
        {"image": "a.jpg", "mask_area": 0.5, "gradcam stages.3": 0.25, "left_out": ""},
        {"image": "b.jpg", "mask_area": 0.5, "gradcam stages.3": None, "left_out": "gradcam"},
    ]
    assert [row["image"] for row in compared(gradcam=[0.1, 0.2]).rows()] == ["image 0", "image 1"]


def test_the_left_out_are_counted_method_by_method():
    comparison = compared(gradcam=[0.5, math.nan, math.nan], centre=[0.1, 0.3, math.nan])
    assert [place.energy.missing for place in comparison.places()] == [2, 1]
    assert [row["left_out"] for row in comparison.rows()] == ["", "gradcam", "gradcam; centre"]
    assert "left_out" not in compared(gradcam=[0.5], centre=[0.1]).rows()[0]


def test_an_empty_comparison():
    empty = Comparison()
    assert (len(empty), empty.places(), empty.rows()) == (0, (), [])
    assert math.isnan(empty.area().mean)
