import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from mitate.errors import UsageError
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation, joined
from mitate.explain.flags import Flag
from mitate.models.classifier import Classifier
from oracles import networks

NAMES = ("rust", "blight", "健康", "rust", "mould")


def explain(number: int = 4, top_k: int = 2, **call) -> Explanation:
    model = Classifier.from_module(networks.make("with relu"), classes=NAMES)
    return Explainer(model)(networks.make_images(number), top_k=top_k, **call)


def flagged() -> Explanation:
    flags = (Flag(1, 0, "zero", "why"), Flag(3, 1, "constant", "so"))
    return dataclasses.replace(
        explain(labels=[0, 1, None, 3], names=["a", "b", "c", "d"]), flags=flags
    )


def test_it_indexes_iterates_and_slices_by_image() -> None:
    explanation = flagged()
    assert len(explanation) == 4
    one = explanation[-1]
    assert len(one) == 1
    assert torch.equal(one.maps, explanation.maps[3:])
    assert (one.names, one.labels) == (("d",), (3,))
    assert one.flags == (Flag(0, 1, "constant", "so"),)
    assert one.pictures == explanation.pictures[3:]
    back = explanation[::-1]
    assert back.names == ("d", "c", "b", "a")
    assert back.flags == (Flag(0, 1, "constant", "so"), Flag(2, 0, "zero", "why"))
    for chosen in (torch.tensor([3, 0]), np.array([3, 0])):
        assert explanation[chosen].names == ("d", "a")
    with pytest.raises(IndexError, match="there is no image 4: there are 4, from 0"):
        explanation[4]
    twice = explanation[[3, 3]]
    assert twice.flags == (Flag(0, 1, "constant", "so"), Flag(1, 1, "constant", "so"))
    assert [part.names[0] for part in explanation] == ["a", "b", "c", "d"]
    assert len(explanation[2:2]) == 0
    assert explanation[np.int64(1)].names == ("b",)
    with pytest.raises(IndexError):
        explanation[4]


def test_what_it_tells_of_one_map() -> None:
    explanation = flagged()
    assert explanation.name_of(0, 0) == NAMES[explanation.classes[0, 0]]
    assert explanation.label_of(1) == "blight"
    assert explanation.label_of(2) is None
    assert explanation.flag_of(1, 0).reason == "why"
    assert explanation.flag_of(0, 0) is None
    assert torch.equal(explanation.predicted, explanation.classes[:, 0])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resize_stays_within_each_maps_range(mode: str) -> None:
    explanation = explain()
    resized = explanation.resize(mode)
    assert resized.shape == (4, 2, 16, 24)
    low, high = (explanation.maps.amin((-2, -1)), explanation.maps.amax((-2, -1)))
    assert (resized.amin((-2, -1)) >= low).all()
    assert (resized.amax((-2, -1)) <= high).all()
    assert explanation.resize(mode, (5, 7)).shape == (4, 2, 5, 7)


@pytest.mark.parametrize(
    ("size", "message"),
    [(10, r"such as \(10, 10\)"), ((1, 2, 3), "height and width"), ((0, 4), "1 or more")],
)
def test_a_wrong_size(unchecked, size, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explain().resize(size=size)


def test_a_list_of_images() -> None:
    explanation = explain()
    some = explanation[[2, 0]]
    assert torch.equal(some.maps, explanation.maps[[2, 0]])
    assert torch.equal(some.logits, explanation.logits[[2, 0]])
    with pytest.raises(IndexError):
        explanation[[0, 9]]
    with pytest.raises(TypeError, match="not by true and false"):
        explanation[[True, False]]


def test_an_unknown_resize_mode() -> None:
    with pytest.raises(UsageError, match="unknown resize mode 'cubic': use one of bilinear"):
        explain().resize("cubic")


def test_normalized_maps_peak_at_one_and_zero_stays_zero() -> None:
    maps = torch.rand(1, 4, 2, 2)
    maps[0, 1] = 0
    maps[0, 2] *= -5
    maps[0, 3, 0, 0] = float("nan")
    explanation = dataclasses.replace(
        explain(1, 4), maps=maps, classes=torch.arange(4)[None], flags=()
    )
    peaks = explanation.normalized().abs().amax((-2, -1))
    assert peaks.tolist() == [[1, 0, 1, 1]]
    assert explanation.normalized().isfinite().all()
    assert explanation.signed


@pytest.mark.parametrize(
    "options",
    [{}, {"colormap": "jet", "opacity": 0.4}, {"mode": "bilinear"}, {"opacity": 1.0}],
)
def test_overlays_have_the_size_of_their_picture(options: dict) -> None:
    pictures = tuple(Image.new("RGB", (30 + i, 20), (9, 99, 9)) for i in range(4))
    explanation = dataclasses.replace(explain(), pictures=pictures)
    drawn = explanation.overlay(**options)
    assert [[image.size for image in row] for row in drawn] == [
        [(30 + i, 20)] * 2 for i in range(4)
    ]


def test_opacity_zero_is_the_picture() -> None:
    explanation = explain(1)
    (row,) = explanation.overlay(opacity=0.0)
    for image in row:
        assert image.tobytes() == explanation.pictures[0].tobytes()


def test_signed_maps_are_drawn_with_both_sides() -> None:
    maps = torch.tensor([[[[-1.0, 1.0]]]])
    explanation = dataclasses.replace(explain(1, 1), maps=maps, pictures=None)
    ((image,),) = explanation.overlay(opacity=1.0, mode="nearest")
    left, right = np.asarray(image)[0, 0], np.asarray(image)[0, -1]
    assert left[2] > left[0]
    assert right[0] > right[2]


def test_without_pictures_it_is_drawn_on_white() -> None:
    explanation = dataclasses.replace(explain(1), pictures=None)
    assert [picture.size for picture in explanation.shown()] == [(24, 16)]
    assert explanation.plot().axes


@pytest.mark.parametrize("options", [{"colormap": "no such"}, {"opacity": 2.0}, {"mode": "cubic"}])
def test_wrong_styles(options: dict) -> None:
    with pytest.raises(UsageError):
        explain(1).overlay(**options)


def test_parts_are_joined_in_order() -> None:
    explanation = flagged()
    again = joined([explanation[:1], explanation[1:3], explanation[3:]])
    assert torch.equal(again.maps, explanation.maps)
    assert (again.names, again.labels) == (explanation.names, explanation.labels)
    assert again.flags == explanation.flags
    assert again.pictures == explanation.pictures
    assert again.cost == explanation.cost


def test_an_estimate_goes_with_its_images() -> None:
    error = torch.rand(4, flagged().maps.shape[1])
    estimate = Estimate(error, torch.arange(4), torch.arange(4) + 10)
    explanation = dataclasses.replace(flagged(), estimate=estimate)
    again = joined([explanation[:1], explanation[1:]]).estimate
    for name, value in vars(estimate).items():
        assert torch.equal(getattr(again, name), value), name
    assert torch.equal(explanation[2].estimate.error, error[2:3])
    assert joined([explanation[:1], flagged()[1:]]).estimate is None


def test_what_a_part_does_not_know_is_not_shifted_onto_another() -> None:
    explanation = flagged()
    bare = dataclasses.replace(explanation[:2], names=(), labels=(), pictures=None)
    again = joined([bare, explanation[2:]])
    assert again.names == ()
    assert again.labels == (-1, -1, -1, 3)
    assert again.pictures is None


def test_parts_that_do_not_belong_together() -> None:
    with pytest.raises(UsageError, match="no explanation to join"):
        joined([])
    explanation = explain()
    others = [
        {"method": "other"},
        {"layer": "other"},
        {"class_names": ("a", "b", "c", "d", "e")},
        {"maps": explanation.maps[..., :2]},
    ]
    for change in others:
        with pytest.raises(UsageError, match="cannot be joined"):
            joined([explanation, dataclasses.replace(explanation, **change)])


def test_explanations_can_be_compared_and_kept_in_sets() -> None:
    explanation = explain(1)
    assert explanation == explanation
    assert len({explanation, explain(1)}) == 2
