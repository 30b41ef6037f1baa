import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning, WeightsError
from mitate.models.classifier import Classifier
from mitate.models.decoder import decoder_for
from mitate.models.preprocessing import Preprocessing
from mitate.models.saved import DECODER, DESCRIPTION, WEIGHTS, upcoming

UPCOMING = upcoming(Path(WEIGHTS)).name
NAMES = ("いもち病", "良", "c d")
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tmp_path: Path, timm_network) -> Classifier:
    classifier = Classifier.from_module(timm_network(num_classes=3), classes=NAMES)
    facts = {"metrics": {"accuracy": 0.9, "epochs": [1, 2]}, "licence": "Apache-2.0"}
    return classifier.with_provenance(**facts).save(tmp_path / "new" / "分類器")


def test_round_trip_to_identical_logits(saved: Classifier) -> None:
    loaded = Classifier.load(saved.folder)
    assert torch.equal(loaded.logits(IMAGES), saved.logits(IMAGES))
    assert loaded.class_names == NAMES
    assert loaded.preprocessing == saved.preprocessing
    assert loaded.provenance == saved.provenance
    assert loaded.folder == saved.folder
    assert sorted(path.name for path in saved.folder.iterdir()) == [DESCRIPTION, WEIGHTS]
    content = json.loads((saved.folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert content["libraries"]["torch"] == torch.__version__
    assert content["class_names"] == list(NAMES)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_resnet", {"in_chans": 1}),
        ("test_vit", {"img_size": 96}),
        ("test_efficientnet", {}),
    ],
)
def test_round_trip_of_other_networks(tmp_path: Path, timm_network, name, arguments) -> None:
    network = timm_network(name, num_classes=3, **arguments)
    saved = Classifier.from_module(network, classes=NAMES).save(tmp_path / "a")
    channels, size = len(saved.preprocessing.mean), saved.preprocessing.size
    images = torch.randn(1, channels, *size)
    assert torch.equal(Classifier.load(tmp_path / "a").logits(images), saved.logits(images))
    assert channels == arguments.get("in_chans", 3)
    if "img_size" in arguments:
        assert size == (96, 96)


def test_round_trip_in_half_precision(tmp_path: Path, timm_network) -> None:
    network = timm_network(num_classes=3).to(torch.bfloat16)
    saved = Classifier.from_module(network, classes=NAMES).save(tmp_path / "a")
    loaded = Classifier.load(tmp_path / "a")
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.logits(IMAGES), saved.logits(IMAGES))


def test_round_trip_of_plain_layers_and_of_torchvision(tmp_path: Path) -> None:
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    ).append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)))
    squeezenet = imports.torchvision("models").squeezenet1_1(weights=None, num_classes=3)
    settings = Preprocessing(size=(64, 64))
    for number, network in enumerate((plain, squeezenet)):
        classifier = Classifier.from_module(network, classes=NAMES, preprocessing=settings)
        expected = classifier.save(tmp_path / str(number)).logits(IMAGES)
        assert network.training
        assert torch.equal(Classifier.load(tmp_path / str(number)).logits(IMAGES), expected)


def test_saving_leaves_the_model_as_it_was(tmp_path: Path, timm_network) -> None:
    network = timm_network(num_classes=3).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Classifier.from_module(network, classes=NAMES).save(tmp_path / "a")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_saving_again_replaces(saved: Classifier, timm_network) -> None:
    other = Classifier.from_module(timm_network("test_resnet", num_classes=2), classes=["a", "b"])
    other.save(saved.folder)
    assert Classifier.load(saved.folder).class_names == ("a", "b")


STEPS = {  # the calls of Path.replace in one save, and what can be read after a crash before each
    0: ("old", [DESCRIPTION, WEIGHTS]),
    1: ("old", [DESCRIPTION, UPCOMING, WEIGHTS]),
    2: ("new", [DESCRIPTION, UPCOMING, WEIGHTS]),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_while_saving_again_leaves_one_of_the_two(
    saved: Classifier, timm_network, monkeypatch, step: int
) -> None:
    other = Classifier.from_module(timm_network("test_resnet", num_classes=2), classes=["a", "b"])
    replace, left = Path.replace, [step]

    def crashing(self: Path, target: Path) -> Path:
        if not left[0]:
            raise Crash
        left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crashing)
        with pytest.raises(Crash):
            other.save(saved.folder)
    expected, files = STEPS[step]
    known = {"old": saved, "new": other}[expected]
    loaded = Classifier.load(saved.folder)
    assert loaded.class_names == known.class_names
    assert torch.equal(loaded.logits(IMAGES), known.logits(IMAGES))
    assert sorted(path.name for path in saved.folder.iterdir()) == files
    other.save(saved.folder)
    assert Classifier.load(saved.folder).class_names == ("a", "b")
    assert sorted(path.name for path in saved.folder.iterdir()) == [DESCRIPTION, WEIGHTS]


class Crash(BaseException):
    """The end of the process."""


def test_a_first_save_that_is_cut_short_is_read_or_told(saved: Classifier) -> None:
    (saved.folder / WEIGHTS).rename(saved.folder / UPCOMING)
    assert torch.equal(Classifier.load(saved.folder).logits(IMAGES), saved.logits(IMAGES))
    (saved.folder / DESCRIPTION).unlink()
    with pytest.raises(ClassifierError, match=f"holds no {DESCRIPTION}"):
        Classifier.load(saved.folder)


def test_a_full_disk_leaves_the_old_classifier_alone(
    saved: Classifier, timm_network, monkeypatch
) -> None:
    other = Classifier.from_module(timm_network("test_resnet", num_classes=2), classes=["a", "b"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mitate.models.saved.write_text", full)
        with pytest.raises(OSError, match="No space"):
            other.save(saved.folder)
    assert Classifier.load(saved.folder).class_names == NAMES
    assert sorted(path.name for path in saved.folder.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_altered_weights_are_refused(saved: Classifier) -> None:
    weights = saved.folder / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="its SHA-256 differs"):
        Classifier.load(saved.folder)


def test_missing_weights(saved: Classifier) -> None:
    (saved.folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match="copy the whole classifier folder"):
        Classifier.load(saved.folder)


def test_a_folder_without_a_description(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=f"holds no {DESCRIPTION}"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is not a description of a classifier"),
        (lambda text: "", "is not a description"),
        (lambda text: "[]", "is not a description"),
        (lambda text: "\udcff", "is not a description"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "update it"),
        (lambda text: text.replace('"mitate classifier"', '"other"'), "is not a description"),
        (lambda text: text.replace('"crop"', '"fit"'), "is not a description"),
        (lambda text: text.replace('"std"', '"sdt"'), "is not a description"),
    ],
)
def test_a_damaged_description(saved: Classifier, change, message: str) -> None:
    path = saved.folder / DESCRIPTION
    text = change(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ClassifierError, match=message):
        Classifier.load(saved.folder)


@pytest.mark.parametrize(
    "architecture",
    [
        {"kind": "pickle", "name": "x"},
        {"kind": "timm", "name": "test_convnext", "arguments": {"checkpoint_path": "evil.pth"}},
        {"kind": "timm", "name": "test_convnext", "arguments": {"pretrained": True}},
        {"kind": "timm", "name": "local-dir:evil", "arguments": {}},
        {"kind": "torchvision", "name": "resnet18", "arguments": {"weights": "DEFAULT"}},
        {"kind": "layer", "type": "Sequential", "arguments": {}},
        {"kind": "layer", "type": "Linear", "arguments": {"in_features": "x"}},
        {"kind": "timm", "name": "test_convnext", "arguments": {"num_classes": -5}},
        {"kind": "sequential", "children": {"a": 3}},
    ],
)
def test_a_description_that_asks_for_what_it_must_not(saved: Classifier, architecture) -> None:
    path = saved.folder / DESCRIPTION
    content = json.loads(path.read_text(encoding="utf-8")) | {"architecture": architecture}
    path.write_text(json.dumps(content))
    with pytest.raises(ClassifierError):
        Classifier.load(saved.folder)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, images):
        return self.conv(images).mean((-2, -1))


def test_what_cannot_be_built_again_is_not_saved(tmp_path: Path, timm_network) -> None:
    own = Classifier.from_module(Own(), classes=NAMES)
    with pytest.raises(ClassifierError, match="cannot be built again without its code"):
        own.save(tmp_path / "a")
    with_function = Classifier.from_module(
        timm_network(num_classes=3), classes=NAMES, output=lambda found: found
    )
    with pytest.raises(ClassifierError, match="a function is code"):
        with_function.save(tmp_path / "a")
    other_depth = imports.timm().create_model("test_convnext", num_classes=3, depths=(1, 1, 1, 1))
    with pytest.raises(ClassifierError, match="built with options that mitate does not know"):
        Classifier.from_module(other_depth, classes=NAMES).save(tmp_path / "a")
    other_slope = imports.timm().create_model("test_resnet", num_classes=3, act_layer="gelu")
    with pytest.raises(ClassifierError, match="built with options that mitate does not know"):
        Classifier.from_module(other_slope, classes=NAMES).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path, timm_network) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ClassifierError, match="is a file: name a folder"):
        Classifier.from_module(timm_network(num_classes=3), classes=NAMES).save(tmp_path / "a")


def test_an_assumption_about_preprocessing_survives(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier.from_module(network.append(nn.Linear(4, 3)))
    from PIL import Image

    loaded = Classifier.load(classifier.save(tmp_path / "a").folder)
    with pytest.warns(MitateWarning, match="does not tell its preprocessing"):
        loaded.inputs([Image.new("RGB", (9, 9))])


class TestDecoder:
    @pytest.fixture
    def segmenting(self, saved: Classifier) -> Classifier:
        decoder = decoder_for(saved.network, IMAGES[:1], ("a", "いもち病")).eval()
        return replace(saved, decoder=decoder).save(saved.folder)

    def test_round_trip(self, segmenting: Classifier) -> None:
        loaded = Classifier.load(segmenting.folder)
        assert torch.equal(loaded.segment(IMAGES), segmenting.segment(IMAGES))
        assert torch.equal(loaded.logits(IMAGES), segmenting.logits(IMAGES))
        assert loaded.decoder.description() == segmenting.decoder.description()
        files = sorted(path.name for path in segmenting.folder.iterdir())
        assert files == [DESCRIPTION, DECODER, WEIGHTS]

    def test_it_goes_along_to_another_folder(self, segmenting: Classifier, tmp_path: Path) -> None:
        copy = Classifier.load(segmenting.folder).save(tmp_path / "copy")
        assert torch.equal(copy.segment(IMAGES), segmenting.segment(IMAGES))

    def test_a_classifier_without_one_takes_it_away(self, segmenting: Classifier) -> None:
        replace(segmenting, decoder=None).save(segmenting.folder)
        assert Classifier.load(segmenting.folder).decoder is None
        assert not (segmenting.folder / DECODER).exists()

    def test_other_weights_are_refused(self, segmenting: Classifier) -> None:
        path = segmenting.folder / DECODER
        path.write_bytes((segmenting.folder / WEIGHTS).read_bytes())
        with pytest.raises(WeightsError, match=f"{DECODER} is not the file"):
            Classifier.load(segmenting.folder)
        path.unlink()
        with pytest.raises(WeightsError, match=f"has no {DECODER}"):
            Classifier.load(segmenting.folder)

    def test_a_save_cut_short_before_the_last_step_is_read(self, segmenting: Classifier) -> None:
        (segmenting.folder / DECODER).rename(upcoming(segmenting.folder / DECODER))
        loaded = Classifier.load(segmenting.folder)
        assert torch.equal(loaded.segment(IMAGES), segmenting.segment(IMAGES))
