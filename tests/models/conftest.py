"""Small networks of timm and of transformers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mitate import imports

PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "image_size": 32,
    "patch_size": 8,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
HUGGINGFACE = {
    "vit": ("ViTConfig", PLAIN),
    "deit": ("DeiTConfig", PLAIN),
    "beit": ("BeitConfig", PLAIN),
    "swin": (
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [1, 2],
            "num_heads": [2, 2],
            "window_size": 2,
        },
    ),
    "convnext": ("ConvNextConfig", STAGES),
    "resnet": ("ResNetConfig", {"embedding_size": 8, **STAGES}),
    "mobilenet_v2": ("MobileNetV2Config", {"depth_multiplier": 0.25}),
    "mobilevit": (
        "MobileViTConfig",
        {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [4, 4, 8, 8, 8, 8, 16], "image_size": 64},
    ),
    "segformer": ("SegformerConfig", {**STAGES, "num_attention_heads": [1, 1, 2, 2]}),
    "clip": (
        "CLIPConfig",
        {
            "vision_config": PLAIN,
            "text_config": {
                **{name: PLAIN[name] for name in PLAIN if "size" not in name},
                "hidden_size": 8,
                "intermediate_size": 8,
                "vocab_size": 50000,
            },
        },
    ),
}


@pytest.fixture
def timm_network() -> Callable[..., nn.Module]:
    """timm_network("test_convnext", num_classes=5): random, the same each time."""

    def make(name: str = "test_convnext", **arguments) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: nn.Module = imports.timm().create_model(name, **arguments)
        return network.eval()

    return make


@pytest.fixture
def timm_file(tmp_path: Path, timm_network) -> Callable[..., Path]:
    """timm_file("test_convnext", num_classes=5): its weights as a safetensors file."""

    def make(name: str = "test_convnext", **arguments) -> Path:
        path = tmp_path / f"{name} 重み.safetensors"
        save_file(timm_network(name, **arguments).state_dict(), path)
        return path

    return make


@pytest.fixture
def hf_network() -> Callable[..., nn.Module]:
    """hf_network("vit", ["a", "b"], num_channels=1): random, the same each time."""

    def make(
        kind: str = "vit", names: Sequence[str] = ("良", "b c", "d"), **arguments
    ) -> nn.Module:
        transformers = imports.transformers()
        class_name, settings = HUGGINGFACE[kind]
        config = getattr(transformers, class_name)(
            **{**settings, **arguments},
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            architectures=[class_name.replace("Config", "ForImageClassification")],
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: nn.Module = transformers.AutoModelForImageClassification.from_config(config)
        return network.eval()

    return make


@pytest.fixture
def hf_folder(tmp_path: Path, hf_network) -> Callable[..., Path]:
    """hf_folder("vit", processor): what save_pretrained writes of the two."""

    def make(kind: str = "vit", processor=None, **arguments) -> Path:
        folder = tmp_path / f"{kind} 網"
        hf_network(kind, **arguments).save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
        return folder

    return make
