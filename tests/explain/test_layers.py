from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mitate import Explainer, imports
from mitate.errors import LayerError
from mitate.explain.grid import Grid, faded_noise
from mitate.explain.layers import (
    automatic,
    automatic_of,
    candidates,
    located,
)
from mitate.explain.names import resolve
from mitate.explain.tap import tapped_forward
from mitate.explain.tokens import prefix_tokens
from mitate.models.classifier import Classifier
from oracles import networks


@dataclass(frozen=True)
class Expected:
    """A network of timm made small, and what `auto` takes for inputs of a size."""

    name: str
    layer: str
    grid: Grid
    size: tuple[int, int] = (96, 96)
    arguments: dict[str, Any] = field(default_factory=dict)


CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
SWIN = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 2), "window_size": 4}
VIT = {"embed_dim": 24, "num_heads": 2, "depth": 2}
COATNET = {"embed_dim": (32, 32, 64, 64), "depths": (1, 1, 1, 1)}
NCHW, NHWC = "channels first", "channels last"
WIDE = (128, 256)
EXPECTED = [
    Expected("convnext_atto", "stages.3", Grid(NCHW, 3, 3, 32), arguments=CONVNEXT),
    Expected("convnext_atto", "stages.3", Grid(NCHW, 4, 8, 32), WIDE, CONVNEXT),
    Expected("resnet10t", "layer4", Grid(NCHW, 3, 3, 512)),
    Expected("resnet10t", "layer4", Grid(NCHW, 4, 8, 512), WIDE),
    Expected("mobilenetv2_035", "bn2", Grid(NCHW, 3, 3, 1280)),
    Expected("mobilenetv3_small_050", "blocks.5", Grid(NCHW, 2, 4, 288), (64, 128)),
    Expected("efficientnet_b0", "bn2", Grid(NCHW, 2, 4, 1280), (64, 128)),
    Expected(
        "vit_tiny_patch16_224",
        "blocks.1.norm1",
        Grid("tokens", 4, 4, 24, 1),
        (64, 64),
        {**VIT, "img_size": (64, 64)},
    ),
    Expected(
        "vit_tiny_patch16_224",
        "blocks.1.norm1",
        Grid("tokens", 4, 8, 24, 1),
        (64, 128),
        {**VIT, "img_size": (64, 128)},
    ),
    Expected(
        "vit_tiny_patch16_224",
        "blocks.1",
        Grid("tokens", 4, 4, 24),
        (64, 64),
        {**VIT, "img_size": (64, 64), "global_pool": "avg", "class_token": False},
    ),
    Expected(
        "swin_tiny_patch4_window7_224",
        "norm",
        Grid(NHWC, 4, 4, 64),
        (128, 128),
        {**SWIN, "img_size": (128, 128)},
    ),
    Expected(
        "swin_tiny_patch4_window7_224",
        "norm",
        Grid(NHWC, 4, 8, 64),
        WIDE,
        {**SWIN, "img_size": WIDE},
    ),
    Expected(
        "coatnet_nano_rw_224", "norm", Grid(NCHW, 4, 8, 64), WIDE, {**COATNET, "img_size": WIDE}
    ),
    Expected("vgg11", "features.19", Grid(NCHW, 4, 4, 512), (64, 64), {"mlp_ratio": 1 / 64}),
    Expected(
        "densenet121",
        "features.norm5",
        Grid(NCHW, 3, 3, 16),
        arguments={"growth_rate": 4, "block_config": (2, 2, 2, 2)},
    ),
]


def make(expected: Expected) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = imports.timm().create_model(
            expected.name, num_classes=5, **expected.arguments
        )
    return network.eval()


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda e: f"{e.name}-{e.size[0]}x{e.size[1]}")
def test_auto_is_the_last_spatial_layer_before_pooling(expected: Expected) -> None:
    network, images = make(expected), torch.randn(2, 3, *expected.size)
    read = Classifier.from_module(network).read
    layers = candidates(network, images[:1], read=read)
    chosen = automatic(network, images[:1], read=read)
    assert (chosen.name, chosen.grid) == (expected.layer, expected.grid)
    assert chosen == automatic_of(layers)
    assert len({layer.name for layer in layers}) == len(layers) > 5
    for layer in layers[::7]:
        place = resolve(network, layer.name)
        (activation,) = tapped_forward(network, images, [place], read=read).activations
        grid = located(network, place, images, activation, read=read)
        assert grid == layer.grid
        spatial = grid.spatial(activation)
        assert spatial.shape == (2, grid.channels, grid.height, grid.width)


def test_a_class_tokens_last_block_does_not_count() -> None:
    expected = EXPECTED[7]
    layers = candidates(make(expected), torch.randn(1, 3, 64, 64), read=first)
    counts = {layer.name: layer.counts for layer in layers}
    assert counts["blocks.0"]
    assert counts["blocks.1.norm1"]
    assert not counts["blocks.1"]
    assert not counts["norm"]
    assert "blocks.0.attn.qkv" not in counts
    assert counts["patch_embed"]


@pytest.mark.parametrize("index", [0, 10])
def test_channels_are_where_they_seem(index: int) -> None:
    """Moving the input by one stride moves the activation by one cell, in the layout found."""
    network = make(EXPECTED[index])
    size = EXPECTED[index].size
    name = ("stem.0", "patch_embed.proj")[index > 0]
    place = resolve(network, name)
    image = torch.randn(1, 3, *size)
    moved = image.roll((4, 8), (-2, -1))
    found = []
    for given_image in (image, moved):
        (activation,) = tapped_forward(network, given_image, [place], read=first).activations
        grid = located(network, place, given_image, activation, read=first)
        found.append(grid.spatial(activation))
    torch.testing.assert_close(found[0].roll((1, 2), (-2, -1)), found[1])


def test_a_layer_used_twice_is_named_by_its_call() -> None:
    network, images = networks.make("used twice, last"), networks.make_images(1)
    names = [layer.name for layer in candidates(network, images, read=first)]
    assert names == ["stem", "tapped#0", "tapped#1"]
    assert resolve(network, "tapped#0").call == 0
    assert resolve(network, "tapped").call == -1
    assert resolve(network, "tapped#1").name == "tapped#1"


def test_pooling_and_what_passes_on_are_no_candidates() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Identity(), nn.Flatten()
    )
    network.append(nn.Linear(4 * 7 * 7, 5))
    layers = candidates(network, torch.randn(1, 3, 16, 16), read=first)
    assert [layer.name for layer in layers] == ["0", "1"]


def test_a_head_of_zeros_leaves_the_last_layer() -> None:
    network = networks.make("with relu")
    nn.init.zeros_(network.head.weight)
    layers = candidates(network, networks.make_images(1), read=first)
    assert not any(layer.counts for layer in layers)
    assert automatic(network, networks.make_images(1), read=first).name == "last"


class LateAside(nn.Module):
    """Many layers run last whose outcome the scores do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.aside = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30))
        self.head = nn.Linear(3, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.body:
            images = layer(images)
        aside = images
        for layer in self.aside:
            aside = layer(aside)
        return self.head(images.mean((-2, -1)))


def test_auto_looks_beyond_the_last_few() -> None:
    network, images = LateAside(), torch.randn(1, 3, 8, 8)
    chosen = automatic(network, images, read=first)
    assert chosen == automatic_of(candidates(network, images, read=first))
    assert chosen.name == "body.3"


def test_auto_records_no_more_than_it_needs() -> None:
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30)))
    network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(3, 5))
    recorded = []
    network[3].register_forward_hook(lambda *call: recorded.append(call[-1].requires_grad))
    assert automatic(network.eval(), torch.randn(1, 3, 8, 8), read=first).name == "29"
    assert recorded
    assert not any(recorded)


def test_no_spatial_layer_at_all() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    with pytest.raises(LayerError, match="no layer of this Sequential has a spatial grid"):
        automatic(network, torch.randn(1, 3, 4, 4), read=first)
    with pytest.raises(LayerError, match="give larger images"):
        automatic(make(EXPECTED[2]), torch.randn(1, 3, 1, 1), read=first)


def test_a_layer_without_a_grid_is_refused_with_those_that_would_do() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    place = resolve(network, "head")
    (activation,) = tapped_forward(network, images, [place], read=first).activations
    with pytest.raises(LayerError, match=r"'head' .* \(2, 5\).* use one such as .*tapped.*last"):
        located(network, place, images, activation, read=first)


def test_the_layers_that_would_do_are_ones_that_count() -> None:
    network, images = make(EXPECTED[7]), torch.randn(1, 3, 64, 64)
    place = resolve(network, "head")
    (activation,) = tapped_forward(network, images, [place], read=first).activations
    with pytest.raises(LayerError, match=r"blocks\.1\.norm1, or layer='auto'"):
        located(network, place, images, activation, read=first)


def test_prefix_tokens() -> None:
    assert prefix_tokens(networks.make("tokens, prefix told")) == 1
    assert prefix_tokens(networks.make("tokens")) is None
    assert prefix_tokens(make(EXPECTED[7])) == 1


class TestResolve:
    @classmethod
    def setup_class(cls) -> None:
        cls.network = make(EXPECTED[0])
        inner = nn.Module()
        inner.model = cls.network
        cls.fastai = nn.Sequential(inner, nn.Linear(3, 3))

    @pytest.mark.parametrize(
        ("spec", "name"),
        [
            ("stages.2", "stages.2"),
            ("stages.2.blocks.-1.conv_dw", "stages.2.blocks.1.conv_dw"),
            ("stages.-2.blocks.-2.mlp", "stages.2.blocks.0.mlp"),
            ("0.model.stages.2.blocks.-1.conv_dw", "stages.2.blocks.1.conv_dw"),
            ("-2", "norm_pre"),
        ],
    )
    def test_names_with_indices(self, spec: str, name: str) -> None:
        place = resolve(self.network, spec)
        assert place.name == name
        assert place.module is self.network.get_submodule(name)

    @pytest.mark.parametrize("prefix", ["", "0.model."])
    def test_fastais_prefix_both_ways(self, prefix: str) -> None:
        place = resolve(self.fastai, f"{prefix}stages.2.blocks.-1.conv_dw")
        assert place.name == "0.model.stages.2.blocks.1.conv_dw"

    def test_a_wrapped_network(self) -> None:
        wrapper = nn.Module()
        wrapper.module = self.network
        assert resolve(wrapper, "stages.0").name == "module.stages.0"

    def test_a_module(self) -> None:
        module = self.network.stages[2].blocks[-1].conv_dw
        assert resolve(self.network, module).name == "stages.2.blocks.1.conv_dw"

    def test_a_module_of_another_network(self) -> None:
        with pytest.raises(LayerError, match="given Conv2d is not a layer of this network"):
            resolve(self.network, nn.Conv2d(1, 1, 1))

    @pytest.mark.parametrize(
        ("spec", "nearest"),
        [
            ("stages.2.blocks.7.conv_dw", r"stages\.2\.blocks\.1\.conv_dw"),
            ("stagse.2", r"stages\.2"),
            ("stages.4", r"stages\.\d"),
            ("stages.2.blocks.-3", r"stages\.2\.blocks"),
            ("xyz", "stem"),
            ("fc", "head.fc"),
            ("", "stem"),
        ],
    )
    def test_wrong_names_list_the_nearest(self, spec: str, nearest: str) -> None:
        with pytest.raises(LayerError, match=f"the nearest are .*{nearest}"):
            resolve(self.network, spec)

    @pytest.mark.parametrize(
        "spec", ["stem#x", "stem#", "stem#1#2", "stem#1.5", "stem#" + "9" * 5000]
    )
    def test_a_wrong_call(self, spec: str) -> None:
        with pytest.raises(LayerError, match="the number of a call"):
            resolve(self.network, spec)

    @settings(max_examples=150)
    @given(
        st.text(max_size=30)
        | st.lists(
            st.sampled_from(
                [
                    "stages",
                    "0",
                    "-1",
                    "-0",
                    "2",
                    "blocks",
                    "model",
                    "norm",
                    "",
                    "#",
                    "head",
                    "-99999999",
                ]
            ),
            max_size=6,
        ).map(".".join)
    )
    def test_any_text_gives_a_layer_or_an_error_of_ours(self, spec: str) -> None:
        for network in (self.network, self.fastai):
            try:
                place = resolve(network, spec)
            except LayerError:
                continue
            assert any(place.module is module for module in network.modules())


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_an_image_of_anybodys_noise_is_an_image_like_others(seed: int) -> None:
    """The noise that places are looked for with is not that of a seed which others use too.

    An image that is this noise itself would only be stretched by it, which a norm takes back.
    """
    expected = EXPECTED[7]
    image = torch.randn(1, 3, *expected.size, generator=torch.Generator().manual_seed(seed))
    noisy = faded_noise(image)[1] - image
    alike = torch.corrcoef(torch.stack([image.flatten(), noisy.flatten()]))[0, 1]
    assert alike.abs() < 0.05
    assert automatic(make(expected), image, read=first).name == expected.layer


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_network_that_hides_its_layers() -> None:
    image = torch.zeros(1, 3, 32, 32)
    traced = torch.jit.trace(torch.nn.Conv2d(3, 4, 3), image)
    with pytest.raises(LayerError, match="TorchScript module does not let its layers be watched"):
        automatic(traced, image, read=first)


class Perceiver(nn.Module):
    """Sixteen learned latents ask the patches: as many as cells of a grid, and none is one."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.1 * torch.randn(16, 8))
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.asking = nn.MultiheadAttention(8, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        latents = self.latents.expand(len(images), -1, -1)
        latents = latents + self.asking(latents, tokens, tokens, need_weights=False)[0]
        return self.head(self.norm(self.block(latents)).mean(1))


@pytest.mark.parametrize("seed", range(3))
def test_learned_queries_are_no_grid(seed: int) -> None:
    torch.manual_seed(seed)
    network, images = Perceiver().eval(), torch.rand(1, 3, 32, 32)
    assert automatic(network, images, read=first).name == "patches"
    with pytest.raises(LayerError, match="look elsewhere than where they stand"):
        Explainer(network, layer="norm")(images)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 2, 16, 16))

    def forward(self) -> Tensor:
        return self.weight.tanh()


class Tabled(nn.Module):
    """Attention with a table of relative positions, (1, heads, tokens, tokens), from a module."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.table = nn.Conv2d(3, 8, 8, stride=8), Table()
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        seen = F.scaled_dot_product_attention(heads, heads, heads, self.table())
        return self.head(self.mix(tokens + seen.transpose(1, 2).flatten(2)).tanh().mean(1))


def test_a_table_of_weights_is_no_layer() -> None:
    torch.manual_seed(0)
    network, images = Tabled().eval(), torch.rand(2, 3, 32, 32)
    names = [layer.name for layer in candidates(network, images[:1], read=first)]
    assert names == ["patches", "mix"]
    made = Explainer(network, "glance")(images, top_k=2)
    assert "table" not in made.layer
    assert made.maps.shape == (2, 2, 4, 4)


class OneAtATime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        assert len(images) == 1
        return self.head(self.features(images).mean((-2, -1)))


def test_a_network_of_one_image_at_a_time() -> None:
    (layer,) = candidates(OneAtATime().eval(), torch.rand(1, 3, 16, 16), read=first)
    assert layer.name == "features"


class SelfAttentionProjection(nn.Module):
    """Of a name as CvT's: a part of an attention module that seems one."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        return self.mix(grid)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.value = SelfAttentionProjection(), nn.Conv2d(4, 4, 1)

    def forward(self, grid: Tensor) -> Tensor:
        return grid + self.value(self.project(grid)).tanh()


def test_projections_inside_of_attention_are_no_layers() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), SelfAttention(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).append(nn.Linear(4, 2))
    names = [layer.name for layer in candidates(network, torch.rand(1, 3, 32, 32), read=first)]
    assert names == ["0", "1"]


class Unnamed(nn.Module):
    """A vision transformer whose class token is called as nobody would know it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 16, 4, 4)
        self.c = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 65, 16))
        block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        cells = self.cells(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.c.expand(len(cells), -1, -1), cells], 1) + self.places
        return self.head(self.blocks(tokens)[:, 0])


def test_a_class_token_is_known_by_its_shape() -> None:
    network, images = Unnamed().eval(), torch.randn(2, 3, 32, 32)
    found = automatic(network, images, read=first)
    assert found.name.startswith("blocks.layers.")
    assert (found.grid.height, found.grid.width, found.grid.prefix) == (8, 8, 1)


class Routed(nn.Module):
    """Images go to one of two experts, behind a layer that sees all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Conv2d(3, 4, 3, padding=1)
        self.ways = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        before, way = self.all(images), (images.mean((1, 2, 3)) > 0).long()
        out = torch.zeros_like(before)
        for number, convolution in enumerate(self.ways):
            out[way == number] = convolution(before[way == number])
        return self.head(out.mean((2, 3)))


def test_a_layer_that_sees_some_of_the_images_is_not_advised() -> None:
    images = torch.randn(3, 3, 8, 8) + torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1, 1)
    with pytest.raises(LayerError, match="use one such as all; `mitate layers`"):
        Explainer(Routed(), "gradcam")(images)


class Recurrent(nn.Module):
    """A text reader's head: the cells in a row, and what is left after the last."""

    def __init__(self, end: int) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 8, 4, 4)
        self.along = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.head, self.end = nn.Linear(12, 5), end

    def forward(self, images: Tensor) -> Tensor:
        cells = self.cells(images).flatten(2).transpose(1, 2)
        return self.head(self.along(cells)[0][:, self.end])


@pytest.mark.parametrize("end", [0, -1])
def test_a_sequence_that_is_read_at_one_end_has_no_map(end: int) -> None:
    found = automatic(Recurrent(end).eval(), torch.randn(1, 3, 32, 32), read=first)
    assert found.name == "cells"


def test_a_sequence_that_is_read_as_a_whole_has_one() -> None:
    class Pooled(Recurrent):
        def forward(self, images: Tensor) -> Tensor:
            cells = self.cells(images).flatten(2).transpose(1, 2)
            return self.head(self.along(cells)[0].amax(1))

    found = automatic(Pooled(0).eval(), torch.randn(1, 3, 32, 32), read=first)
    assert found.name == "along"


def test_a_graph_of_plain_operations_has_no_layers_and_says_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.zeros(2, 3, 16, 16)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(network.eval(), (images,), dynamic_shapes=shapes).module()
    model = Classifier.from_module(exported, classes=list("abcdefgh"))
    with pytest.raises(LayerError, match="calls no layers: explain the network that it was made"):
        Explainer(model)(images, top_k=1)
    assert Explainer(model, "gradient")(images, top_k=1).maps.shape == (2, 1, 16, 16)
