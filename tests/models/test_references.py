import shutil
import time
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from mitate import imports
from mitate.errors import (
    ClassifierError,
    MissingExtraError,
    MitateWarning,
    UnsafePickleError,
    WeightsError,
)
from mitate.models import hub
from mitate.models.classifier import Classifier
from mitate.models.references import _preprocessing

TORCHVISION = ["alexnet", "efficientnet_b0", "efficientnet_v2_m", "inception_v3", "maxvit_t"]
TORCHVISION += ["regnet_y_16gf", "resnet50", "swin_v2_t", "vit_b_16", "vit_h_14"]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["test_convnext", "test_resnet", "test_efficientnet", "test_convnext.r160_in1k"]
)
def test_timm_with_a_weights_file(timm_network, timm_file, name: str) -> None:
    classifier = Classifier.load(f"timm:{name}@{timm_file(name)}")
    with torch.no_grad():
        assert_close(classifier.logits(IMAGES), timm_network(name)(IMAGES))
    assert len(classifier.class_names) == 1000
    assert classifier.class_names[281].startswith("tabby")
    assert classifier.preprocessing.size == (160, 160)
    assert classifier.preprocessing.crop_fraction == pytest.approx(0.95)
    assert classifier.provenance["reference"] == f"timm:{name}"
    assert not classifier.network.training


def test_a_file_with_other_classes_tells_their_number(timm_file) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = Classifier.load(f"timm:test_convnext@{timm_file(num_classes=4)}")
    assert classifier.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert classifier.logits(IMAGES).shape == (2, 4)


def test_names_of_the_same_number_keep_the_head(timm_network, timm_file) -> None:
    path = timm_file(num_classes=2)
    classifier = Classifier.load(f"timm:test_convnext@{path}", class_names=["良", "不良"])
    assert classifier.class_names == ("良", "不良")
    with torch.no_grad():
        expected = timm_network(num_classes=2)(IMAGES)
    assert_close(classifier.logits(IMAGES), expected)


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_vit", "test_efficientnet"])
def test_a_head_of_another_number_is_made_anew_with_a_warning(
    timm_network, timm_file, name: str
) -> None:
    with pytest.warns(MitateWarning, match="has 1000 classes and 3 are wanted: the head .* anew"):
        classifier = Classifier.load(f"timm:{name}@{timm_file(name)}", class_names=["a", "b", "c"])
    ours, theirs = classifier.network.state_dict(), timm_network(name).state_dict()
    differing = {key for key in ours if ours[key].shape != theirs[key].shape}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key not in differing)
    assert 1 <= len(differing) <= 2
    size = classifier.preprocessing.size
    assert classifier.logits(torch.randn(1, 3, *size)).shape == (1, 3)


def test_both_heads_of_a_distilled_network(timm_file) -> None:
    name = "deit_tiny_distilled_patch16_224"
    with pytest.warns(MitateWarning, match=r"head\.weight.*head_dist\.weight.* anew"):
        classifier = Classifier.load(f"timm:{name}@{timm_file(name)}", class_names=["a", "b"])
    assert classifier.logits(torch.randn(1, 3, 224, 224)).shape == (1, 2)


def test_a_head_that_is_made_anew_begins_without_an_opinion(tmp_path: Path) -> None:
    network = imports.timm().create_model("mobilenetv2_035").eval()
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    with pytest.warns(MitateWarning, match="made anew"):
        fresh = Classifier.load(
            f"timm:mobilenetv2_035@{tmp_path / 'a.safetensors'}", class_names=["a", "b", "c"]
        ).network.classifier
    assert fresh.weight.detach().std().item() == pytest.approx(0.01)
    assert not fresh.bias.any()


def test_torchvision_with_a_weights_file(tmp_path: Path) -> None:
    network = imports.torchvision("models").squeezenet1_1(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "a.pth")
    classifier = Classifier.load(f"torchvision:squeezenet1_1@{tmp_path / 'a.pth'}")
    with torch.no_grad():
        assert_close(classifier.logits(IMAGES), network(IMAGES))
    assert classifier.class_names[281] == "tabby"
    assert classifier.preprocessing.size == (224, 224)
    assert classifier.preprocessing.crop_fraction == 224 / 256
    with pytest.warns(MitateWarning, match="made anew"):
        other = Classifier.load(
            f"torchvision:squeezenet1_1@{tmp_path / 'a.pth'}", class_names=["a", "b"]
        )
    assert other.logits(IMAGES).shape == (2, 2)


def photo() -> Image.Image:
    y, x = np.mgrid[:300, :400]
    colours = np.stack([255 * x / 400, 255 * y / 300, 128 + 100 * np.sin(x / 20)], -1)
    return Image.fromarray(colours.astype(np.uint8))


def test_torchvisions_default_weights_bring_their_names_and_their_preprocessing(
    monkeypatch, tmp_path: Path
) -> None:
    models = imports.torchvision("models")
    network = models.squeezenet1_1(weights=None).eval()
    published = models.get_model_weights("squeezenet1_1").DEFAULT
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / published.url.rsplit("/")[-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    classifier = Classifier.load("torchvision:squeezenet1_1")
    assert list(classifier.class_names) == published.meta["categories"]
    assert classifier.provenance["weights"] == "torchvision's pretrained weights"
    with torch.no_grad():
        assert_close(classifier.logits(IMAGES), network(IMAGES))
    inputs, expected = classifier.inputs([photo()])[0], published.transforms()(photo())
    assert float((inputs - expected).abs().mean()) < 0.03


@pytest.mark.parametrize("name", TORCHVISION)
def test_each_torchvision_network_has_the_preprocessing_of_its_weights(name: str) -> None:
    preset = imports.torchvision("models").get_model_weights(name).DEFAULT.transforms()
    inputs, expected = _preprocessing("torchvision", name, nn.Identity())(photo()), preset(photo())
    assert inputs.shape == expected.shape
    assert float((inputs - expected).abs().mean()) < 0.03


def test_torchvisions_googlenet_scales_its_input_as_its_weights_need(tmp_path: Path) -> None:
    make = imports.torchvision("models").googlenet
    trained = make(weights=None, aux_logits=False, init_weights=False, transform_input=True).eval()
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    classifier = Classifier.load(f"torchvision:googlenet@{tmp_path / 'a.pth'}")
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(IMAGES), trained(IMAGES))


def test_weights_of_another_architecture(timm_file) -> None:
    with pytest.raises(WeightsError, match="does not fit .*missing: .*Name the architecture"):
        Classifier.load(f"timm:test_resnet@{timm_file('test_convnext')}")


def test_weights_of_another_architecture_with_another_head(timm_file) -> None:
    path = timm_file("test_convnext", num_classes=7)
    with pytest.raises(WeightsError):
        Classifier.load(f"timm:test_convnext2@{path}", class_names=["a", "b"])


def test_a_pickled_network_is_refused(tmp_path: Path, timm_network) -> None:
    torch.save(timm_network(), tmp_path / "whole.pth")
    with pytest.raises(UnsafePickleError, match=r"timm\.models.*mitate convert"):
        Classifier.load(f"timm:test_convnext@{tmp_path / 'whole.pth'}")


def test_the_home_folder_is_understood(timm_file, monkeypatch) -> None:
    path = timm_file(num_classes=2)
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(Classifier.load(f"timm:test_convnext@~/{path.name}").class_names) == 2


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere", r"no classifier at 'nowhere': give a folder"),
        ("timm:", "timm has no architecture ''"),
        ("timm:convnext_tinny", "timm has no architecture 'convnext_tinny': .*convnext_tiny"),
        ("torchvision:resnet81", "torchvision has no architecture 'resnet81': .*resnet18"),
        ("torchvision:fcn_resnet50", "torchvision has no architecture"),
        ("timm:test_convnext@gone.safetensors", "no weights file at gone.safetensors"),
        ("a.pkl", "is a pickle, and reading one runs code: mitate convert"),
        ("keras:resnet", "no classifier at 'keras:resnet': .* or hf:ORG/NAME"),
    ],
)
def test_references_that_give_nothing(reference: str, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        Classifier.load(reference)


def test_a_weights_file_alone(timm_file) -> None:
    with pytest.raises(ClassifierError, match="name their architecture as well, timm:NAME@"):
        Classifier.load(timm_file(num_classes=2))


@pytest.mark.parametrize("reference", ["timm:test_convnext", "torchvision:squeezenet1_1"])
def test_offline_one_error_names_the_two_ways_out_at_once(
    monkeypatch, tmp_path: Path, reference: str
) -> None:
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("a download was tried"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(ClassifierError) as caught:
        Classifier.load(reference)
    assert time.monotonic() - started < 20
    assert "Two ways out" in str(caught.value)
    assert f"{reference}@weights.safetensors" in str(caught.value)
    assert "run once where the hub can be reached" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_hugging_face_without_transformers_names_the_extra(monkeypatch) -> None:
    def absent(name: str) -> ModuleType:
        if name.split(".")[0] == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        return import_module(name)

    monkeypatch.setattr(imports.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"transformers is needed.*'mitate\[hf\]'"):
        Classifier.load("hf:org/leaves")


def test_an_architecture_without_published_weights() -> None:
    with pytest.raises(ClassifierError, match="timm publishes no weights for test_mambaout"):
        Classifier.load("timm:test_mambaout")


def test_weights_in_the_hubs_cache(monkeypatch, timm_network) -> None:
    create = imports.timm().create_model

    def cached(name: str, pretrained: bool = False, **arguments) -> nn.Module:
        return timm_network(name) if pretrained else create(name, **arguments)

    monkeypatch.setattr(imports.timm(), "create_model", cached)
    classifier = Classifier.load("timm:test_convnext")
    with torch.no_grad():
        assert_close(classifier.logits(IMAGES), timm_network()(IMAGES))
    with pytest.warns(MitateWarning, match="timm's pretrained weights has 1000 classes and 2"):
        assert Classifier.load("timm:test_convnext", class_names=["a", "b"]).logits(
            IMAGES
        ).shape == (2, 2)


def test_a_saved_folder_and_its_names(tmp_path: Path, timm_file) -> None:
    Classifier.load(f"timm:test_convnext@{timm_file(num_classes=3)}").save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    renamed = Classifier.load(tmp_path / "saved", class_names=["a", "b", "c"])
    assert renamed.class_names == ("a", "b", "c")
    with pytest.raises(ClassifierError, match="has 3 classes and 2 names were given"):
        Classifier.load(tmp_path / "saved", class_names=["a", "b"])
    shutil.rmtree(tmp_path / "saved")


@pytest.mark.real
def test_the_imagenet_mobilenet_knows_a_bull_mastiff(shared: Path) -> None:
    path = shared / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    classifier = Classifier.load(f"timm:mobilenetv2_100@{path}")
    with Image.open(shared / "photos" / "both.png") as image:
        inputs = classifier.inputs([image.convert("RGB")])
    best = classifier.logits(inputs)[0].topk(5).indices.tolist()
    assert {242, 243, 281, 282, 285} & set(best)


@pytest.mark.real
def test_the_imagenet_squeezenet(shared: Path) -> None:
    path = shared / "weights" / "squeezenet1_0.imagenet1k.pth"
    classifier = Classifier.load(f"torchvision:squeezenet1_0@{path}")
    with Image.open(shared / "photos" / "both.png") as image:
        logits = classifier.logits(classifier.inputs([image.convert("RGB")]))
    # Among the breeds of dogs, 151 to 268, and cats, 281 to 285.
    assert int(logits.argmax()) in {*range(151, 269), *range(281, 286)}
