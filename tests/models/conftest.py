"""Small networks of timm, which run fastest on one thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mitate import imports


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
