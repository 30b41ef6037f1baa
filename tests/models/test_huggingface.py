import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

from mitate import imports
from mitate.errors import (
    ClassifierError,
    MitateWarning,
    UnsafePickleError,
    WeightsError,
)
from mitate.models import hub
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing

pytest.importorskip("transformers")

NAMES = ("良", "b c", "d")
PROCESSORS = {
    "vit": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
    "deit": (
        "DeiTImageProcessor",
        {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "beit": (
        "BeitImageProcessor",
        {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    ),
    "swin": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "resample": 3}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    "resnet": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.95}),
    "mobilenet_v2": (
        "MobileNetV2ImageProcessor",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "mobilevit": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "segformer": ("SegformerImageProcessor", {"size": {"height": 64, "width": 64}}),
    "clip": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
    ),
}


def processor(kind: str) -> object:
    name, settings = PROCESSORS[kind]
    return getattr(imports.transformers(), name)(**settings)


def photo(width: int = 120, height: int = 90) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    colours = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 20)], -1)
    return Image.fromarray(colours.astype(np.uint8))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_folder_of_save_pretrained_and_back_through_mitates_own(
    hf_network, hf_folder, tmp_path: Path, kind: str
) -> None:
    network, theirs = hf_network(kind), processor(kind)
    folder = hf_folder(kind, theirs)
    state = torch.random.get_rng_state()
    classifier = Classifier.load(f"hf:{folder}")
    assert torch.equal(torch.random.get_rng_state(), state)

    assert classifier.class_names == NAMES
    assert classifier.provenance["reference"] == f"hf:{folder}"
    assert not classifier.network.training
    assert tuple(classifier.network.config.id2label.values()) == NAMES

    expected = theirs(images=photo(), return_tensors="pt")["pixel_values"]
    inputs = classifier.inputs([photo()])
    assert inputs.shape == expected.shape
    assert float((inputs - expected).abs().mean()) < 0.03
    with torch.no_grad():
        logits = network(expected).logits
    torch.testing.assert_close(classifier.logits(expected), logits)

    saved = classifier.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    assert torch.equal(again.logits(expected), saved.logits(expected))
    assert again.class_names == NAMES
    assert again.preprocessing == classifier.preprocessing
    assert again.provenance == classifier.provenance
    content = json.loads((tmp_path / "saved" / "classifier.json").read_text(encoding="utf-8"))
    assert content["architecture"]["kind"] == "hf"
    assert "transformers" in content["libraries"]


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_module_as_it_is(hf_network, tmp_path: Path, kind: str) -> None:
    network = hf_network(kind)
    size = (32, 32) if PROCESSORS[kind][1]["size"].get("height") == 32 else (64, 64)
    size = (32, 32) if kind in ("deit", "clip") else size
    classifier = Classifier.from_module(network, preprocessing=Preprocessing(size=size))
    assert classifier.class_names == NAMES
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), network(images).logits)
    classifier.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    assert torch.equal(again.logits(images), classifier.logits(images))


def test_an_explainer_of_a_module_and_of_a_reference(hf_network, hf_folder) -> None:
    from mitate import Explainer

    network = hf_network("convnext")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    explanation = Explainer(network)(images)
    assert explanation.class_names == NAMES
    assert explanation.maps.shape == (2, 3, 2, 2)
    loaded = Explainer(f"hf:{hf_folder('convnext', processor('convnext'))}")
    torch.testing.assert_close(loaded(images).maps, explanation.maps)
    assert loaded([photo()]).maps.shape == (1, 3, 2, 2)


def test_the_preprocessing_of_a_module_is_not_known(hf_network, hf_folder, tmp_path: Path) -> None:
    for classifier in (
        Classifier.from_module(hf_network("vit")),
        Classifier.load(f"hf:{hf_folder('vit')}"),
        Classifier.load(Classifier.from_module(hf_network("vit")).save(tmp_path / "saved").folder),
    ):
        with pytest.warns(MitateWarning, match="does not tell its preprocessing.* at 32x32 px"):
            assert classifier.inputs([photo()]).shape == (1, 3, 32, 32)


def test_shards(hf_network, tmp_path: Path) -> None:
    network = hf_network("vit")
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = network(images).logits
    torch.testing.assert_close(Classifier.load(f"hf:{tmp_path}").logits(images), expected)
    next(iter(tmp_path.glob("model-00002*"))).unlink()
    with pytest.raises(WeightsError, match="model-00002.* no safetensors file beside it"):
        Classifier.load(f"hf:{tmp_path}")


@pytest.mark.parametrize("part", ["../other.safetensors", "pytorch_model.bin", 3, None])
def test_an_index_that_leads_elsewhere(hf_folder, part) -> None:
    folder = hf_folder("vit")
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    (folder / "pytorch_model.bin").touch()
    index = {"metadata": {}, "weight_map": {"classifier.weight": part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="no safetensors file beside it"):
        Classifier.load(f"hf:{folder}")


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_head_of_another_number_is_made_anew_with_a_warning(
    hf_network, hf_folder, kind: str
) -> None:
    folder = hf_folder(kind, processor(kind))
    state = torch.random.get_rng_state()
    with pytest.warns(MitateWarning, match=r"has 3 classes and 2 are wanted: the head \(.* anew"):
        classifier = Classifier.load(f"hf:{folder}", class_names=["a", "良"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert classifier.class_names == ("a", "良")
    assert classifier.logits(classifier.inputs([photo()])).shape == (1, 2)
    ours, theirs = classifier.network.state_dict(), hf_network(kind).state_dict()
    differing = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert len(differing) == 2
    assert all(ours[name].shape[1:] == theirs[name].shape[1:] for name in differing)


def test_names_of_the_same_number_keep_the_head(hf_network, hf_folder) -> None:
    classifier = Classifier.load(f"hf:{hf_folder('vit')}", class_names=["x", "y", "z"])
    assert classifier.class_names == ("x", "y", "z")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), hf_network("vit")(images).logits)


def test_weights_without_a_head(hf_network, tmp_path: Path) -> None:
    hf_network("vit").vit.save_pretrained(tmp_path)
    with pytest.warns(MitateWarning, match=r"has no trained head: the head \(classifier\.bias, cl"):
        classifier = Classifier.load(f"hf:{tmp_path}")
    assert classifier.class_names == NAMES


def test_weights_for_another_task_have_more_than_is_needed(hf_network, tmp_path: Path) -> None:
    masked = imports.transformers().ViTForMaskedImageModeling(hf_network("vit").config)
    masked.save_pretrained(tmp_path)
    with pytest.warns(MitateWarning, match="has no trained head"):
        Classifier.load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"hidden_size": 48}]
)
@pytest.mark.parametrize("names", [None, ("a", "b")])
def test_weights_of_another_network(hf_folder, change: dict, names) -> None:
    folder = hf_folder("vit")
    edit(folder / "config.json", **change)
    with pytest.raises(WeightsError, match="do not fit its configuration: .* and .* more are miss"):
        Classifier.load(f"hf:{folder}", class_names=names)


def test_fewer_layers_than_the_weights_of_a_body_have(hf_network, tmp_path: Path) -> None:
    hf_network("vit").vit.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", num_hidden_layers=1)
    with pytest.raises(WeightsError, match="do not fit its configuration"):
        Classifier.load(f"hf:{tmp_path}")


def test_half_precision_is_read_as_single(hf_network, tmp_path: Path) -> None:
    hf_network("vit").half().save_pretrained(tmp_path)
    classifier = Classifier.load(f"hf:{tmp_path}")
    assert classifier.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


def test_class_names_that_do_not_fit_are_numbered(hf_folder) -> None:
    folder = hf_folder("vit")
    edit(folder / "config.json", id2label={"0": "a", "1": "b", "3": "c"})
    assert Classifier.load(f"hf:{folder}").class_names == ("a", "b", "class 2")


def test_a_pickle_is_never_read(hf_network, tmp_path: Path) -> None:
    network = hf_network("vit")
    network.config.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafePickleError, match=r"in a pickle only.* save_pretrained\(FOLDER\)"):
        Classifier.load(f"hf:{tmp_path}")
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match="reads weights as safetensors only"):
        Classifier.load(f"hf:{tmp_path}")


def test_code_in_a_folder_is_never_run(hf_folder, tmp_path: Path) -> None:
    folder = hf_folder("vit", processor("vit"))
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()")
    references = {
        "AutoConfig": "evil.Evil",
        "AutoModelForImageClassification": "evil.Evil",
        "AutoImageProcessor": "evil.Evil",
    }
    edit(folder / "config.json", auto_map=references)
    edit(folder / "preprocessor_config.json", auto_map=references)
    assert Classifier.load(f"hf:{folder}").class_names == NAMES
    edit(folder / "preprocessor_config.json", image_processor_type="EvilImageProcessor")
    edit(folder / "config.json", attn_implementation="someone/kernels", transformers_weights="a.b")
    assert Classifier.load(f"hf:{folder}").preprocessing.mean == (0.5, 0.5, 0.5)
    edit(folder / "config.json", model_type="evil")
    with pytest.raises(ClassifierError, match="needs code of its own that mitate does not run"):
        Classifier.load(f"hf:{folder}")
    assert not ran.exists()


@pytest.mark.parametrize("place", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("field", ["image_processor_type", "feature_extractor_type"])
@pytest.mark.parametrize("name", ["AutoModel", "Trainer", "AutoImageProcessor", "pipeline", 3])
def test_an_image_processor_of_another_kind(hf_folder, place: str, field: str, name) -> None:
    folder = hf_folder("vit")
    settings = {field: name}
    if place == "processor_config.json":
        settings = {"image_processor": settings}
    (folder / place).write_text(json.dumps(settings))
    with pytest.raises(ClassifierError, match="as its image processor: load the network with tra"):
        Classifier.load(f"hf:{folder}")


def test_settings_of_an_older_transformers(hf_folder) -> None:
    folder = hf_folder("vit")
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "ViTFeatureExtractor",
                "size": 32,
                "resample": 2,
                "do_resize": True,
                "do_normalize": True,
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.1, 0.2, 0.3],
            }
        )
    )
    found = Classifier.load(f"hf:{folder}").preprocessing
    assert (found.size, found.resize) == ((32, 32), "squash")
    assert (found.mean, found.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_a_processor_that_the_network_s_type_tells(hf_folder) -> None:
    folder = hf_folder("vit")
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert Classifier.load(f"hf:{folder}").preprocessing.mean == (0.1, 0.2, 0.3)


def test_a_grey_network(hf_folder) -> None:
    theirs = imports.transformers().ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.25]
    )
    classifier = Classifier.load(f"hf:{hf_folder('vit', theirs, num_channels=1)}")
    assert classifier.inputs([photo()]).shape == (1, 1, 32, 32)
    assert classifier.logits(classifier.inputs([photo()])).shape == (1, 3)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "has no config.json that can be read"),
        ("config.json", "[]", "config.json of hf:.* holds no settings"),
        ("config.json", "{}", "no image classifier of type None"),
        ("preprocessor_config.json", "[", "has no preprocessor_config.json that can be read"),
        ("preprocessor_config.json", '{"size": "large"}', "processor of hf:.* cannot be made"),
        ("adapter_config.json", "{}", "is an adapter for another network: merge"),
        ("model.safetensors", "", "weights of hf:.* cannot be loaded"),
        ("model.safetensors", "x" * 900, "weights of hf:.* cannot be loaded"),
    ],
)
def test_damaged_folders(hf_folder, file: str, content: str, message: str) -> None:
    folder = hf_folder("vit")
    (folder / file).write_text(content)
    with pytest.raises(ClassifierError, match=message):
        Classifier.load(f"hf:{folder}")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hf:", "there is no folder ''"),
        ("hf:./nowhere/at/all", "there is no folder './nowhere/at/all'"),
        ("hf:org/name@main", "there is no folder 'org/name@main'"),
        ("hf:{empty}", "holds no config.json: name a folder that save_pretrained wrote"),
    ],
)
def test_references_that_give_nothing(tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        Classifier.load(reference.format(empty=tmp_path))


def test_a_folder_named_without_hf(hf_folder) -> None:
    with pytest.raises(ClassifierError, match="is a folder of Hugging Face: name it hf:"):
        Classifier.load(hf_folder("vit"))


def test_the_home_folder_is_understood(hf_folder, monkeypatch) -> None:
    folder = hf_folder("vit")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert Classifier.load(f"hf:~/{folder.name}").class_names == NAMES


def test_offline_one_error_names_the_two_ways_out_at_once(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    imports.transformers()
    started = time.monotonic()
    with pytest.raises(ClassifierError) as caught:
        Classifier.load("hf:google/vit-base-patch16-224")
    assert time.monotonic() - started < 10
    assert "hf:google/vit-base-patch16-224 cannot be fetched here" in str(caught.value)
    assert "name the folder, hf:FOLDER" in str(caught.value)
    assert "run once where the hub can be reached" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def in_cache(cache: Path, folder: Path, name: str) -> Path:
    """What the hub's client leaves of a repository."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / ("0123456789" * 4)
    shutil.copytree(folder, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_a_repository_in_the_hubs_cache(monkeypatch, tmp_path: Path, hf_network, hf_folder) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    snapshot = in_cache(tmp_path / "cache", hf_folder("vit", processor("vit")), "org/leaves")
    classifier = Classifier.load("hf:org/leaves")
    assert classifier.class_names == NAMES
    assert classifier.provenance["reference"] == "hf:org/leaves"
    assert classifier.preprocessing.mean == (0.5, 0.5, 0.5)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), hf_network("vit")(images).logits)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="hf:org/leaves has no model.safetensors here"):
        Classifier.load("hf:org/leaves")


def test_only_what_is_needed_is_asked_of_the_hub(monkeypatch, hf_folder) -> None:
    folder, asked = hf_folder("vit"), {}

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert Classifier.load("hf:org/leaves").class_names == NAMES
    assert set(asked) == {"org/leaves"}
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked["org/leaves"])


def test_a_repository_that_is_not_there(monkeypatch) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    class NotFound(RepositoryNotFoundError):
        def __init__(self) -> None:
            Exception.__init__(self, "404")

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        raise NotFound

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ClassifierError, match="the hub has no repository org/leaves that you may"):
        Classifier.load("hf:org/leaves")


def test_a_network_in_half_of_its_classes_is_refused(hf_folder) -> None:
    folder = hf_folder("vit")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"][:2].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="classifier.weight"):
        Classifier.load(f"hf:{folder}")
