import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.architecture import build, describe
from mitate.models.configs import (
    config_of,
    input_channels_of,
    input_size,
    labels,
    quiet_transformers,
    values_of,
)

pytest.importorskip("transformers")

KINDS = ("vit", "deit", "beit", "swin", "convnext", "resnet", "mobilenet_v2", "segformer", "clip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_built_again_from_plain_json(hf_network, kind: str) -> None:
    network = hf_network(kind)
    recipe = json.loads(json.dumps(describe(network)))
    state = torch.random.get_rng_state()
    again = build(recipe).eval()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(again) is type(network)
    again.load_state_dict(network.state_dict())
    size = 32 if input_size(network.config) == (32, 32) else 64
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(images).logits, network(images).logits)
    assert (recipe["kind"], recipe["name"]) == ("hf", type(network).__name__)


def test_a_recipe_holds_the_fields_of_its_own_class_only(hf_network) -> None:
    network = hf_network("clip")
    config = describe(network)["config"]
    assert set(config) - {"initializer_factor"} == {
        *("model_type", "num_labels", "text_config", "vision_config"),
        *("projection_dim", "logit_scale_init_value"),
    }
    assert config["vision_config"]["patch_size"] == 8
    assert not any(field.startswith("_") for field in config["vision_config"])
    assert "attn_implementation" not in json.dumps(config)


def test_the_second_network_of_a_type_is_kept(hf_network) -> None:
    transformers = imports.transformers()
    network = transformers.DeiTForImageClassificationWithTeacher(hf_network("deit").config)
    recipe = describe(network)
    assert recipe["name"] == "DeiTForImageClassificationWithTeacher"
    assert type(build(recipe)) is type(network)


def test_what_is_no_image_classifier_of_transformers_itself(hf_network) -> None:
    transformers = imports.transformers()
    config = hf_network("vit").config

    class Own(transformers.ViTForImageClassification):
        pass

    networks = [
        Own(config),
        transformers.ViTModel(config),
        transformers.ViTForMaskedImageModeling(config),
        next(module for module in Own(config).modules() if type(module).__name__ == "ViTLayer"),
        transformers.TimmWrapperForImageClassification(
            transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=2)
        ),
    ]
    for network in networks:
        with pytest.raises(ClassifierError, match="cannot be built again without its code"):
            describe(network)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ViTModel", {}, "knows no image classifier 'ViTModel' of type 'vit'.*ViTForImage"),
        ("Trainer", {}, "knows no image classifier 'Trainer'"),
        ("ViTForImageClassification", {"model_type": "swin"}, "it knows SwinFor"),
        ("ViTForImageClassification", {"model_type": "own"}, "it knows none of this type"),
        ("ViTForImageClassification", {"model_type": ["vit"]}, "it knows none of this type"),
        ("TimmWrapperForImageClassification", {"model_type": "timm_wrapper"}, "none of this type"),
        ("ImageGPTForImageClassification", {"model_type": "imagegpt"}, "none of this type"),
        (None, {"attn_implementation": "someone/kernels"}, "has no field attn_implementation"),
        (None, {"_attn_implementation": "someone/kernels"}, "has no field _attn_implementation"),
        (None, {"_attn_implementation_internal": "a/b"}, "has no field _attn_implementation_int"),
        (None, {"auto_map": {"AutoModel": "evil.Evil"}}, "has no field auto_map"),
        (None, {"quantization_config": {}}, "has no field quantization_config"),
        (None, {"transformers_weights": "../evil.bin"}, "has no field transformers_weights"),
        (None, {"architectures": ["Evil"]}, "has no field architectures"),
        (None, {"name_or_path": "evil"}, "has no field name_or_path"),
        (None, {"num_labels": 0}, "num_labels is 0: a classifier has 1 or more"),
        (None, {"num_labels": None}, "num_labels is None"),
        (None, {"num_labels": True}, "num_labels is True"),
        (None, {"hidden_size": "many"}, "cannot be configured so|can be built"),
        (None, {"hidden_size": -1}, "can be built"),
        (None, {"hidden_act": "__import__"}, "can be built"),
        (None, {"patch_size": 0}, "can be built"),
    ],
)
def test_recipes_that_give_nothing(hf_network, name, change: dict, message: str) -> None:
    recipe = describe(hf_network("vit"))
    values = {**recipe["config"], **change}
    with pytest.raises(ClassifierError, match=message):
        build({"kind": "hf", "name": name or recipe["name"], "config": values})


def test_hostile_values_of_an_inner_configuration(hf_network) -> None:
    recipe = describe(hf_network("clip"))
    recipe["config"]["vision_config"]["_attn_implementation"] = "someone/kernels"
    with pytest.raises(ClassifierError, match="has no field vision_config._attn_implementation"):
        build(recipe)


def test_a_recipe_of_another_form() -> None:
    for recipe in ({"kind": "hf"}, {"kind": "hf", "name": "ViTForImageClassification"}):
        with pytest.raises(ClassifierError, match="kind 'hf' is not known"):
            build(recipe)


def test_a_type_that_this_program_registered_itself_is_not_transformers_own(monkeypatch) -> None:
    mapping = imports.transformers("models.auto.configuration_auto").CONFIG_MAPPING
    monkeypatch.setitem(mapping._extra_content, "vit", SimpleNamespace)
    with pytest.raises(ClassifierError, match="types.SimpleNamespace in this program"):
        values_of({"model_type": "vit"})


def test_what_a_config_file_holds() -> None:
    name, values = values_of(
        {
            "model_type": "vit",
            "architectures": ["ViTForMaskedImageModeling"],
            "hidden_size": 32,
            "attn_implementation": "someone/kernels",
            "auto_map": {"AutoConfig": "evil.Evil"},
            "id2label": {"0": "a", "1": "b", "2": "c"},
            "torch_dtype": "float16",
        }
    )
    assert name == "ViTForImageClassification"
    assert values == {"model_type": "vit", "hidden_size": 32, "num_labels": 3}
    assert values_of({"model_type": "vit"})[1]["num_labels"] == 2
    assert values_of({"model_type": "vit", "num_labels": 7})[1]["num_labels"] == 7


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no image classifier of type None"),
        ({"model_type": "bert"}, "no image classifier of type 'bert'"),
        ({"model_type": "own", "auto_map": {}}, "needs code of its own that mitate does not run"),
        ({"architecture": "resnet18", "pretrained_cfg": {}}, "is a network of timm: use timm:resn"),
        ({"model_type": "timm_wrapper", "architecture": "vit_tiny"}, "use timm:vit_tiny for"),
        ({"model_type": "vit", "num_labels": "3"}, "num_labels is '3' in config.json"),
    ],
)
def test_config_files_that_give_nothing(raw: dict, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        values_of(raw)


def test_class_names_in_the_order_of_the_logits() -> None:
    assert labels({"1": "b", "0": "良"}) == ("良", "b")
    assert labels({0: "a", 2: "c"}) == ("a", "class 1")
    assert labels({"a": 0, "b": 1}) == ("class 0", "class 1")
    assert labels(None) == ()


def test_sizes_and_channels(hf_network) -> None:
    assert input_size(hf_network("vit").config) == (32, 32)
    assert input_size(hf_network("vit", image_size=[32, 64]).config) == (32, 64)
    assert input_size(hf_network("clip").config) == (32, 32)
    assert input_size(hf_network("resnet").config) is None
    assert input_channels_of(hf_network("vit", num_channels=1).config) == 1
    assert input_channels_of(hf_network("clip").config) == 3


def test_configurations_of_other_networks(hf_network) -> None:
    class Configured(nn.Module):
        config = "mine"

    assert config_of(Configured()) is None
    network = hf_network("vit")
    assert config_of(network) is network.config


def test_transformers_is_as_loud_as_before_afterwards() -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    logging = imports.transformers("utils.logging")
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    downloads = are_progress_bars_disabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.CRITICAL
        assert not logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), quiet_transformers():
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert are_progress_bars_disabled() == downloads
