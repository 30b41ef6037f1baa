from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from PIL import Image
from torch import nn

import tiny
from mitate.errors import ClassifierError, MitateWarning, UsageError
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing


class Giving(nn.Module):
    """Gives its scores in some form."""

    def __init__(self, form) -> None:
        super().__init__()
        self.form = form
        self.linear = nn.Linear(12, 4)

    def forward(self, images):
        return self.form(self.linear(images.flatten(1)))


class Output(OrderedDict):
    @property
    def logits(self):
        return self["logits"]


IMAGES = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: scores,
        lambda scores: (scores, 1),
        lambda scores: [scores, scores * 2],
        lambda scores: Output(logits=scores),
    ],
)
def test_logits_are_read_from_usual_outputs(form) -> None:
    network = Giving(form)
    expected = network.linear(IMAGES.flatten(1)).detach()
    torch.testing.assert_close(Classifier.from_module(network).logits(IMAGES), expected)


def test_logits_are_read_by_a_function_from_others() -> None:
    network = Giving(lambda scores: {"scores": scores})
    classifier = Classifier.from_module(network, output=lambda found: found["scores"])
    assert classifier.logits(IMAGES).shape == (2, 4)
    with pytest.raises(ClassifierError, match="gives dict where logits .* output="):
        Classifier.from_module(network).logits(IMAGES)


def test_an_output_of_another_shape() -> None:
    with pytest.raises(ClassifierError, match=r"gives \(2, 4, 1\) where logits"):
        Classifier.from_module(Giving(lambda scores: scores[..., None])).logits(IMAGES)


def test_logits_leave_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(inplace=True), Giving(lambda s: s)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = IMAGES.clone()
    assert not Classifier.from_module(network).logits(IMAGES).requires_grad
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(given, IMAGES)


def test_an_input_is_not_altered_in_place() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), Giving(lambda s: s))
    given = IMAGES.clone()
    Classifier.from_module(network).logits(IMAGES)
    assert torch.equal(given, IMAGES)


def test_class_names() -> None:
    network = Giving(lambda scores: scores)
    assert Classifier.from_module(network).class_names == tuple(f"class {i}" for i in range(4))
    assert Classifier.from_module(network, classes=2).class_names == ("class 0", "class 1")
    assert Classifier.from_module(network, classes=["a", "良"]).class_names == ("a", "良")


def test_a_compiled_module_is_the_module_inside() -> None:
    network = Giving(lambda scores: scores)
    assert Classifier.from_module(torch.compile(network, backend="eager")).network is network


def test_a_network_without_a_linear_head_needs_their_number() -> None:
    with pytest.raises(UsageError, match=r"from_module\(network, classes="):
        Classifier.from_module(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    convolutional = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert len(Classifier.from_module(convolutional).class_names) == 5


def test_weights_that_take_no_gradients() -> None:
    with torch.inference_mode():
        network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match=r"give copy\.deepcopy\(network\), made outside of it"):
        Classifier.from_module(network)
    Classifier.from_module(deepcopy(network))


@pytest.mark.parametrize(
    ("classes", "message"), [("rust", "not one string"), (0, "classes is 0"), (-3, "classes is -3")]
)
def test_classes_that_make_no_sense(classes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Classifier.from_module(Giving(lambda scores: scores), classes=classes)


def test_photos_without_known_preprocessing_give_a_warning() -> None:
    photo = Image.new("RGB", (20, 10))
    classifier = Classifier.from_module(Giving(lambda scores: scores))
    with pytest.warns(MitateWarning, match="does not tell its preprocessing"):
        assert classifier.inputs([photo]).shape == (1, 3, 224, 224)
    told = Classifier.from_module(
        Giving(lambda scores: scores), preprocessing=Preprocessing(size=(2, 2))
    )
    assert told.inputs([photo, photo]).shape == (2, 3, 2, 2)


def test_timms_preprocessing_is_known(timm_network) -> None:
    settings = Classifier.from_module(timm_network()).preprocessing
    assert settings == Preprocessing(
        size=(160, 160),
        resize="crop",
        crop_fraction=0.95,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    grey = Classifier.from_module(timm_network(in_chans=1)).preprocessing
    assert grey.mean == (0.5,)
    assert grey.std == (0.5,)


def test_inputs_follow_the_network(timm_network) -> None:
    classifier = Classifier.from_module(timm_network().to(torch.bfloat16))
    assert classifier.dtype == torch.bfloat16
    assert classifier.inputs([Image.new("RGB", (9, 9))]).dtype == torch.bfloat16
    assert classifier.device == torch.device("cpu")
    assert Classifier.from_module(nn.Flatten(), classes=3).dtype == torch.float32


def test_provenance_is_added_to_a_copy() -> None:
    known = {"classes": 4, "preprocessing": Preprocessing()}
    first = Classifier.from_module(Giving(lambda s: s), **known)
    second = first.with_provenance(metrics={"accuracy": 1})
    assert first.provenance == {}
    assert second.provenance == {"metrics": {"accuracy": 1}}
    assert second.network is first.network


def test_it_is_known_by_its_folder_without_where_that_lies(tmp_path, monkeypatch) -> None:
    made = tiny.classifier()
    assert made.reference == f"timm:{tiny.MODEL}"
    assert Classifier.from_module(made.network).reference == ""
    assert made.save(tmp_path / "leaves").reference == "leaves"
    monkeypatch.chdir(tmp_path)
    assert Classifier.load("leaves/").reference == "leaves"
    (tmp_path / "other").mkdir()
    made.save("other/leaves")
    assert Classifier.load("other/leaves").reference == "other/leaves"
