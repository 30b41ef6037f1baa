import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mitate import Explainer, imports
from mitate.errors import LayerError, UsageError
from mitate.explain.attention import AttentionTap
from mitate.explain.methods import METHODS
from mitate.explain.tap import tapped_forward
from mitate.models.classifier import Classifier
from oracles import attention, networks

OF_ATTENTION = [name for name, method in METHODS.items() if method.family == "attention"]
GLOBAL = [name for name in attention.MAKERS if not name.startswith("windows")]
KERNELS = ("fused", "module", "timm")
TARGETS = [[0, 3]] * 2


def explainer(network: nn.Module, method: str, layer: str = "auto", **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, layer, **options)


def made(name: str, method: str, kernel: str = "fused", **options) -> torch.Tensor:
    network = attention.make(name, kernel)
    return explainer(network, method, **options)(networks.make_images(2), targets=TARGETS).maps


def assert_is(maps: torch.Tensor, oracle, name: str, **options) -> None:
    network = attention.make(name)
    for i, image in enumerate(networks.make_images(2)):
        for j, target in enumerate(TARGETS[i]):
            expected = torch.tensor(oracle(network, image, target, **options), dtype=torch.float64)
            torch.testing.assert_close(maps[i, j], expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", GLOBAL)
def test_the_maps_are_the_oracles_under_every_kernel(name: str, kernel: str) -> None:
    if kernel == "timm" and name == "relative positions":
        pytest.skip("timm's attention takes no bias")
    assert_is(made(name, "attention", kernel), attention.attention, name)
    assert_is(made(name, "rollout", kernel), attention.rollout, name)
    assert_is(made(name, "gradrollout", kernel), attention.generic, name)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", GLOBAL)
def test_legrad_is_the_oracles(name: str, kernel: str) -> None:
    if kernel == "timm" and name == "relative positions":
        pytest.skip("timm's attention takes no bias")
    assert_is(made(name, "legrad", kernel), attention.legrad, name, pooled=True)
    assert_is(made(name, "legrad", kernel, pooled=False), attention.legrad, name, pooled=False)
    last = made(name, "legrad", kernel, blocks=2)
    count = 2 if name == "mean of tokens" else 3
    assert_is(last, attention.legrad, name, layers=[count - 2, count - 1], pooled=True)


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize("fuse", ["mean", "max", "min"])
def test_options_are_the_oracles(name: str, fuse: str) -> None:
    maps = made(name, "attention", block=0, fuse=fuse)
    assert_is(maps, attention.attention, name, layer=0, fusion=fuse)
    assert_is(made(name, "attention", head=1), attention.attention, name, head=1)
    for discard in (0.0, 0.4, 0.9):
        maps = made(name, "rollout", fuse=fuse, discard=discard)
        assert_is(maps, attention.rollout, name, fusion=fuse, discard=discard)


@pytest.mark.parametrize("kernel", KERNELS)
def test_logits_are_the_same_before_during_and_after(kernel: str) -> None:
    network, images = attention.make("class token", kernel), networks.make_images(2)
    settings = [vars(module).copy() for module in network.modules()]
    before = network(images).detach()
    explanation = explainer(network, "gradrollout")(images)
    torch.testing.assert_close(explanation.logits, before, rtol=1e-10, atol=1e-12)
    assert torch.equal(network(images).detach(), before)
    for module, kept in zip(network.modules(), settings, strict=True):
        for key, value in kept.items():
            if isinstance(value, bool | int | float | str):
                assert vars(module)[key] == value


@pytest.mark.parametrize("method", OF_ATTENTION)
@pytest.mark.parametrize("name", GLOBAL)
def test_batch_is_loop_and_classes_are_calls(method: str, name: str) -> None:
    explain, images = explainer(attention.make(name, "fused"), method), networks.make_images(3)
    together = explain(images, targets=[[0, 3]] * 3)
    for index in range(3):
        for place, target in enumerate((0, 3)):
            alone = explain(images[index : index + 1], targets=[target]).maps[0, 0]
            torch.testing.assert_close(together.maps[index, place], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", OF_ATTENTION)
def test_half_precision_is_near(method: str) -> None:
    network, images = (
        attention.make("class token", "fused").float(),
        networks.make_images(2).float(),
    )
    single = explainer(network, method)(images, targets=TARGETS).maps
    half = explainer(copy.deepcopy(network).to(torch.bfloat16), method)(images, targets=TARGETS)
    assert half.maps.dtype == torch.float32
    assert (half.maps - single).abs().max() < 0.1 * single.abs().max()


@pytest.mark.parametrize("method", OF_ATTENTION)
def test_networks_without_attention_are_told(method: str) -> None:
    with pytest.raises(LayerError, match="it has no attention of as many keys.*such as layercam"):
        explainer(networks.make("with relu"), method, "tapped")(networks.make_images(1))


@pytest.mark.parametrize("method", OF_ATTENTION)
def test_windows_that_no_block_holds_are_refused_rather_than_drawn_wrong(method: str) -> None:
    with pytest.raises(LayerError, match="windows are put back where a block's input is the grid"):
        explainer(attention.make("windows", "fused"), method, "patches")(networks.make_images(1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block": 3}, "3 attend over this grid"),
        ({"head": 9}, "there is no head 9"),
        ({"fuse": "sum"}, "use mean, max or min"),
    ],
)
def test_options_that_mean_nothing(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        explainer(attention.make("class token", "fused"), "attention", **options)(
            networks.make_images(1)
        )
    with pytest.raises(UsageError, match="0 for all"):
        explainer(attention.make("class token", "fused"), "legrad", blocks=-1)(
            networks.make_images(1)
        )
    with pytest.raises(UsageError, match="under 1"):
        explainer(attention.make("class token", "fused"), "rollout", discard=1.0)(
            networks.make_images(1)
        )


@pytest.mark.parametrize("method", OF_ATTENTION)
def test_attention_from_some_tokens_to_others_is_no_block(method: str) -> None:
    """Of a class token alone; and of fewer keys than queries, in all but the last stage."""
    images = torch.randn(1, 3, 224, 224)
    network = imports.timm().create_model("xcit_nano_12_p16_224", num_classes=5).eval()
    with pytest.raises(LayerError, match="no block of this network is seen to attend"):
        Explainer(network, method)(images)
    network = imports.timm().create_model("pvt_v2_b0", num_classes=5).eval()
    explanation = Explainer(network, method)(images)
    assert (explanation.layer, explanation.maps.shape) == ("stages.3", (1, 3, 7, 7))
    assert not explanation.flags


SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 2, "img_size": 48}
HYBRID = {"embed_dim": (32, 32, 64, 64), "depths": (1, 1, 1, 2), "img_size": 64}


@pytest.mark.parametrize(
    ("name", "arguments", "grid"),
    [
        ("vit_tiny_patch16_224", SMALL, (3, 3)),
        ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg", "class_token": False}, (3, 3)),
        ("deit_tiny_distilled_patch16_224", SMALL, (3, 3)),
        ("beit_base_patch16_224", SMALL, (3, 3)),
        ("eva02_tiny_patch14_224", {**SMALL, "img_size": 42}, (3, 3)),
        ("vit_small_patch14_reg4_dinov2", {**SMALL, "img_size": 42}, (3, 3)),
        ("coatnet_nano_rw_224", HYBRID, (2, 2)),
    ],
)
@pytest.mark.parametrize("method", OF_ATTENTION)
def test_timms_networks(method: str, name: str, arguments: dict, grid: tuple[int, int]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=5, **arguments).eval()
        for parameter in network.parameters():  # some begin with heads of zeros
            nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, arguments["img_size"], arguments["img_size"])
    explanation = Explainer(network, method)(images)
    assert explanation.maps.shape == (2, 3, *grid)
    assert explanation.maps.isfinite().all()
    assert not explanation.flags
    with torch.no_grad():
        torch.testing.assert_close(explanation.logits, network(images), rtol=1e-3, atol=1e-4)


def test_torchs_encoder_shows_its_attention() -> None:
    """Its fast path, and the weights that it does not return, hide nothing."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    encoder = nn.TransformerEncoder(block, 2)
    tokens = torch.randn(2, 6, 8)
    forward = tapped_forward(
        encoder, tokens, [], read=lambda output: output.mean(1), attention=True, gradients=True
    )
    assert [kept.shape for kept in forward.probabilities] == [(2, 2, 6, 6)] * 2
    with torch.no_grad():
        torch.testing.assert_close(forward.logits, encoder(tokens).mean(1))


def test_hugging_faces_eager_mode_is_not_needed() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **small, intermediate_size=37, image_size=32, patch_size=8, num_labels=4
    )
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(config).eval()
    mode, images = network.config._attn_implementation, torch.randn(2, 3, 32, 32)
    explanation = Explainer(network, "attention")(images)
    assert network.config._attn_implementation == mode == "sdpa"
    network.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = network(images, output_attentions=True).attentions[-1]
    expected = theirs.mean(1)[:, 0, 1:].reshape(2, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(explanation.maps, expected)


def test_a_mask_of_what_is_hidden_is_read_so() -> None:
    """Torch's own function hides what is true; scaled_dot_product_attention sees it."""

    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)
            self.register_buffer("hidden", torch.ones(5, 5, dtype=torch.bool).triu(1))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            made = self.attention
            return F.multi_head_attention_forward(
                tokens, tokens, tokens, 8, 2, made.in_proj_weight, made.in_proj_bias, None, None,
                False, 0.0, made.out_proj.weight, made.out_proj.bias,
                need_weights=False, attn_mask=self.hidden,
            )[0]  # fmt: skip

    network, tokens = Direct().double(), torch.randn(5, 2, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = network(tokens)
        with AttentionTap(gradients=False) as tap:
            found = network(tokens)
    torch.testing.assert_close(found, expected)
    assert not tap.kept[0].masked_select(network.hidden).any()
