import contextlib
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mitate
import tiny
from mitate.errors import LayerError, MitateWarning, TargetError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.flags import UNSEEN
from mitate.models.accepting import as_classifier
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from oracles import networks

NAMES = ("rust", "blight", "健康", "spot", "mould")


def classifier(name: str = "with relu", **options) -> Classifier:
    return Classifier.from_module(
        networks.make(name), classes=NAMES, preprocessing=Preprocessing(size=(16, 24)), **options
    )


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index} 葉.png" for index in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    return paths


def test_three_lines(photos: list[Path]) -> None:
    explainer = mitate.Explainer(classifier(), method="scorecam")
    explanation = explainer(photos, top_k=3)
    assert explanation.names == ("0 葉.png", "1 葉.png", "2 葉.png")
    plain = replace(explanation, names=(), class_names=("a", "b", "c", "d", "e"))
    assert plain.plot().axes
    assert explanation.method == "scorecam"
    assert explanation.class_names == NAMES
    assert explanation.input_size == (16, 24)
    plainly = {"channel_softmax": False, "tolerance": 0.0, "signed": False, "principal": False}
    assert explanation.options == plainly
    assert [picture.size for picture in explanation.pictures] == [(40, 30)] * 3


def test_photos_equal_their_preprocessed_tensors(photos: list[Path]) -> None:
    explainer = Explainer(classifier())
    inputs = explainer.classifier.inputs([Image.open(path) for path in photos])
    assert torch.equal(explainer(photos).maps, explainer(inputs).maps)


@pytest.mark.parametrize(("given", "largest"), [(None, 60), (7, 7)])
def test_how_many_images_go_through_at_once(given: int | None, largest: int) -> None:
    model, sizes = classifier(), []
    model.network.register_forward_hook(lambda _module, images, _out: sizes.append(len(images[0])))
    images = networks.make_images(60)
    Explainer(model, batch_size=given)(images, top_k=1)
    assert max(sizes) == largest
    with pytest.raises(UsageError, match="batch_size is 0: use 1 or more"):
        Explainer(model, batch_size=0)


def test_auto_takes_the_last_spatial_layer_and_follows_the_size() -> None:
    explainer = Explainer(classifier())
    assert explainer(networks.make_images(1)).layer == "last"
    assert explainer(networks.make_images(1, size=(32, 32))).maps.shape[-2:] == (8, 8)


def test_a_layer_by_module_and_by_name() -> None:
    model = classifier()
    by_module = Explainer(model, layer=model.network.tapped)(networks.make_images(1))
    by_name = Explainer(model, layer="tapped")(networks.make_images(1))
    assert by_module.layer == by_name.layer == "tapped"
    assert torch.equal(by_module.maps, by_name.maps)


def test_a_layer_by_its_number() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 3))
    images = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert Explainer(network, layer=1)(images).layer == "1"
    assert Explainer(network, layer=-4)(images).layer == "0"
    assert Explainer(network, layer=[0, 1])(images).layer == "0 + 1"
    with pytest.raises(LayerError, match="no layer is called '7'"):
        Explainer(network, layer=7)


def test_targets_are_explained_in_the_order_given() -> None:
    explainer, images = Explainer(classifier()), networks.make_images(2)
    explanation = explainer(images, targets=[[4, 1], [0, 4]])
    assert explanation.classes.tolist() == [[4, 1], [0, 4]]
    expected = explanation.logits.softmax(1)
    assert explanation.probabilities.tolist() == [
        [expected[0, 4].item(), expected[0, 1].item()],
        [expected[1, 0].item(), expected[1, 4].item()],
    ]
    assert explainer(images, targets=[3, 2]).classes.tolist() == [[3], [2]]


def test_the_true_label() -> None:
    explanation = Explainer(classifier())(
        networks.make_images(2), targets="label", labels=["健康", 0]
    )
    assert explanation.classes.tolist() == [[2], [0]]
    assert explanation.labels == (2, 0)
    assert explanation.label_of(0) == "健康"


def test_labels_may_be_unknown() -> None:
    explanation = Explainer(classifier())(networks.make_images(2), labels=[None, "rust"])
    assert explanation.labels == (-1, 0)
    assert explanation.label_of(0) is None


def test_fewer_classes_than_three_are_all_explained() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 2))
    explainer = Explainer(network)
    assert explainer(torch.randn(1, 3, 8, 8)).classes.shape == (1, 2)
    with pytest.raises(TargetError, match="top_k is 3 and the classifier has 2 classes"):
        explainer(torch.randn(1, 3, 8, 8), top_k=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"top_k": 6}, "top_k is 6 and the classifier has 5 classes"),
        ({"targets": [1]}, r"1 target\(s\) for 2 image\(s\)"),
        ({"targets": [[1, 2], [3]]}, "the same number for every image"),
        ({"targets": [0, 9]}, "use 0 to 4"),
        ({"targets": "label"}, "needs labels="),
        ({"targets": "label", "labels": [0, None]}, "needs labels="),
        ({"targets": "truth"}, "no class of this classifier"),
        ({"labels": ["rsut", "rust"]}, "did you mean rust"),
        ({"labels": [0]}, r"1 label\(s\) for 2"),
    ],
)
def test_bad_targets_are_told_before_any_forward(unchecked, call: dict, message: str) -> None:
    class Broken(nn.Module):
        def forward(self, images):
            raise AssertionError("a forward was run")

    explainer = Explainer(Classifier.from_module(Broken(), classes=NAMES), batch_size=1)
    with pytest.raises(TargetError, match=message):
        explainer(networks.make_images(2), **call)


def test_names_of_another_number() -> None:
    with pytest.raises(UsageError, match="1 names for 2 images"):
        Explainer(classifier())(networks.make_images(2), names=["a"])


def test_class_names_of_another_number_than_the_scores() -> None:
    model = Classifier.from_module(networks.make("with relu"), classes=["a", "b", "c"])
    with pytest.raises(UsageError, match="gives 5 scores, and there are 3 classes"):
        Explainer(model)(networks.make_images(1))


def test_a_number_of_classes_that_was_guessed_wrongly() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.other = networks.make("with relu").float(), nn.Linear(4, 2)

        def forward(self, images):
            return self.net(images), 0

    with pytest.raises(UsageError, match=r"by its last linear layer there are 2 classes: pass cl"):
        Explainer(TwoHeads())(networks.make_images(1).float())
    model = Classifier.from_module(TwoHeads(), classes=5)
    assert Explainer(model)(networks.make_images(1).float()).maps.shape[:2] == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gradcamm"}, "no method is called 'gradcamm': did you mean gradcam"),
        ({"method": "zzz"}, "there are cam, gradcam, .*scorecam, .*random, centre, edges"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batchsize": 4}, "gradcam has no option 'batchsize': did you mean batch_size"),
        ({"method": "scorecam", "softmax": True}, "did you mean channel_softmax"),
        ({"method": "scorecam", "channel_softmax": "yes"}, "takes a bool, not 'yes'"),
        ({"method": "centre", "sigma": "wide"}, "takes a float, not 'wide'"),
        ({"method": "centre", "sigma": float("nan")}, "takes a float, not nan"),
        ({"method": "rise", "samples": True}, "takes a int, not True"),
        ({"method": None}, "method is None: give a name"),
        ({"method": "auto", "budget": float("nan")}, "budget nan: use 3 forwards or more"),
        ({"layer": None}, "layer is None: give a module, a name"),
        ({"seed": "a"}, "seed is 'a': use a whole number"),
        ({"against": 1, "strength": float("nan")}, "strength is nan"),
        ({"strength": 2.0}, "name that one"),
        ({"fusion": "max"}, "fusion is of several layers, and one is named"),
    ],
)
def test_wrong_arguments(unchecked, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Explainer(classifier(), **arguments)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("smoothgrad", {"spread": -1.0}, "spread is -1: use"),
        ("smoothgradcampp", {"spread": -1.0}, "spread is -1: use"),
        ("smoothgradcampp", {"samples": 0}, "samples is 0: use 1 or more"),
        ("sscam", {"spread": -0.5}, "spread is -0.5: use"),
        ("fem", {"deviations": -1.0}, "deviations is -1: use"),
    ],
)
def test_wrong_numbers(method: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Explainer(classifier(), method, "tapped", **options)(networks.make_images(1))


def test_weights_that_have_no_values_yet() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(UsageError, match="lazy layers that have seen no input: run one batch"):
        Explainer(lazy)
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(UsageError, match="on the meta device and have no values: load them"):
        Explainer(empty)


def test_scores_that_are_probabilities_already_are_told_once() -> None:
    network = nn.Sequential(networks.make("with relu"), nn.Softmax(1))
    images = networks.make_images(2)
    explainer = Explainer(Classifier.from_module(network, classes=NAMES), layer="0.tapped")
    with pytest.warns(MitateWarning, match="as if a softmax had made probabilities of them"):
        explainer(images)
    explainer(images)  # warnings are errors here
    cured = Classifier.from_module(
        network, classes=NAMES, output=lambda p: p.clamp_min(1e-12).log()
    )
    found = Explainer(cured, layer="0.tapped")(images)
    wanted = Explainer(classifier(), layer="tapped")(images)
    torch.testing.assert_close(found.probabilities, wanted.probabilities)


def test_whole_numbers_for_scores(unchecked) -> None:
    network = networks.make("with relu").float()
    model = Classifier.from_module(
        network, classes=NAMES, output=lambda logits: (1000 * logits).long()
    )
    assert Explainer(model, "eigencam", "tapped")(networks.make_images(1).float()).maps.any()


def test_named_fields_of_an_output() -> None:
    """Logits by name go before the first element."""

    class Output(NamedTuple):
        features: torch.Tensor
        logits: torch.Tensor

    class Naming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks.make("with relu")

        def forward(self, images: torch.Tensor) -> Output:
            return Output(images.flatten(1), self.net(images))

    images = networks.make_images(2)
    made = Explainer(Classifier.from_module(Naming(), classes=NAMES), layer="net.tapped")(images)
    assert torch.equal(made.logits, classifier().network(images))


def test_wrong_layers() -> None:
    with pytest.raises(LayerError, match="the nearest are tapped"):
        Explainer(classifier(), layer="taped")
    with pytest.raises(LayerError, match="is no grid in the image: use one such as .*last"):
        Explainer(classifier(), layer="head")(networks.make_images(1))


def test_methods_are_found_however_they_are_spelt() -> None:
    for spelling in ("Grad-CAM", "grad_cam", "GRADCAM"):
        assert Explainer(classifier(), spelling).method.name == "gradcam"


@pytest.mark.parametrize("thing", [3, None, object(), {"model": 1}])
def test_what_is_no_classifier(thing) -> None:
    with pytest.raises(UsageError, match="is no classifier: give a module"):
        as_classifier(thing)


def test_what_stands_for_a_classifier(tmp_path: Path) -> None:
    model = classifier()
    assert as_classifier(model) is model
    assert as_classifier(model.network).network is model.network


def test_an_output_with_logits_inside() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks.make("with relu")

        def forward(self, images):
            return {"scores": self.net(images), "other": 1}

    images = networks.make_images(2)
    model = Classifier.from_module(Inside(), classes=NAMES, output=lambda found: found["scores"])
    expected = Explainer(classifier())(images)
    assert torch.equal(Explainer(model)(images).maps, expected.maps)
    with pytest.raises(mitate.MitateError, match="gives dict where logits"):
        Explainer(Classifier.from_module(Inside(), classes=NAMES))(images)


def test_a_class_that_the_layer_does_not_see_is_flagged() -> None:
    network = networks.make("with relu")
    with torch.no_grad():
        network.head.weight[1] = 0
    explanation = Explainer(Classifier.from_module(network, classes=5))(
        networks.make_images(1), targets=[[0, 1]]
    )
    flag = explanation.flag_of(0, 1)
    assert (flag.kind, flag.reason) == ("zero", UNSEEN)


def test_what_autocast_gives_is_explained() -> None:
    network = networks.make("with relu").float()
    images = networks.make_images(2).float()
    expected = Explainer(Classifier.from_module(network, classes=5))(images, targets=[0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        found = Explainer(Classifier.from_module(network, classes=5))(images, targets=[0, 1])
    assert found.maps.dtype == found.resize().dtype == torch.float32
    assert (found.maps - expected.maps).abs().max() < 0.1 * expected.maps.max()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("method", "asked", "shown"),
    [
        ("scorecam", None, True),
        ("scorecam", False, False),
        ("gradcam", None, False),
        ("gradcam", True, True),
    ],
)
def test_progress_is_shown_for_many_forwards_on_a_terminal(
    monkeypatch, method: str, asked: bool | None, shown: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Explainer(classifier(), method, "tapped", show_progress=asked)(networks.make_images(2))
    assert bool(terminal.getvalue()) == shown


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "edges"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_progress_ends_at_the_number_of_images(monkeypatch, method: str, batch_size: int) -> None:
    told: list[float] = []

    @contextlib.contextmanager
    def progress(description, total, *, shown):
        assert (description, total) == (method, 3)
        yield told.append

    monkeypatch.setattr("mitate.explain.explainer.progress", progress)
    Explainer(classifier(), method, "tapped", batch_size=batch_size)(networks.make_images(3))
    assert sum(told) == pytest.approx(3)
    assert min(told) > 0


def test_they_are_shown_in_a_line() -> None:
    explainer = Explainer(classifier(), "gradcam", "tapped")
    explanation = explainer(networks.make_images(2), top_k=2)
    rows, columns = explanation.maps.shape[-2:]
    assert repr(explainer).startswith("Explainer(gradcam at tapped, Classifier(")
    assert repr(explanation) == f"Explanation(2 x 2 maps of {rows} x {columns}, gradcam at tapped)"


def test_targets_and_top_k_are_two_answers_to_one_question() -> None:
    explainer = Explainer(tiny.classifier(), "gradcam")
    with pytest.raises(TargetError, match="give one of them"):
        explainer(torch.randn(1, 3, 32, 32), targets=0, top_k=2)


def test_what_an_explanation_of_pixels_calls_its_layer_is_taken_as_a_layer() -> None:
    classifier = tiny.classifier()
    images = torch.randn(1, 3, 32, 32)
    first = Explainer(classifier, "gradient")(images, top_k=1)
    again = Explainer(classifier, "gradient", first.layer)
    assert "pixels" in repr(Explainer(classifier, "edges", first.layer))
    torch.testing.assert_close(again(images, top_k=1).maps, first.maps)
    edges = Explainer(classifier, "edges", first.layer)(images, top_k=1)
    assert edges.layer == "pixels"
    assert edges.maps.shape == first.maps.shape
    with pytest.raises(LayerError, match="pixels are none"):
        Explainer(classifier, "gradcam", "pixels")
    with pytest.raises(LayerError, match="pixels"):
        Explainer(classifier, "gradcam", [classifier.network, "pixels"])
