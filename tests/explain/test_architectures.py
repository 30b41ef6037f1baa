"""What `auto` takes in every family of networks, written down by reading the networks.

The expected layer is the last feature map before pooling on whose cells the scores depend: in a
network with a class token it is what the last attention reads. `docs/networks.md` shows the table
(``python tests/explain/test_architectures.py`` prints it).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mitate import imports
from mitate.explain.layers import automatic
from mitate.models.classifier import Classifier

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
NCHW, NHWC, TOKENS = "channels first", "channels last", "tokens"


@dataclass(frozen=True)
class Expected:
    """A network made small, and what `auto` takes for inputs of a size.

    ``settled`` is for networks whose signal dies in batch norms that saw no image yet.
    """

    name: str
    layer: str
    grid: tuple[int, int]
    size: tuple[int, int] = (64, 96)
    layout: str = NCHW
    prefix: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    settled: bool = False
    library: str = "timm"

    def __str__(self) -> str:
        return f"{self.library}-{self.name}-{self.size[0]}x{self.size[1]}"


def convolutional(
    layer: str, *names: str, grid: tuple[int, int] = (2, 3), **more: Any
) -> list[Expected]:
    return [Expected(name, layer, grid, **more) for name in names]


def tokens(
    layer: str, *names: str, prefix: int = 0, patch: int = 16, sized: bool = True, **more: Any
) -> list[Expected]:
    """Plain transformers of two small blocks, 3x5 patches."""
    size = (3 * patch, 5 * patch)
    small = {"depth": 2, "embed_dim": 24, "num_heads": 2}
    if sized:
        small["img_size"] = size
    return [Expected(name, layer, (3, 5), size, TOKENS, prefix, small, **more) for name in names]


def sized(size: tuple[int, int] = (64, 96), **more: Any) -> dict[str, Any]:
    return {"size": size, "arguments": {"img_size": size, **more}}


FOUR = {"depths": (1, 1, 2, 1)}
SWIN = {"embed_dim": 8, **FOUR, "num_heads": (1, 2, 2, 2)}
HYBRID = {"embed_dim": (32, 32, 64, 64), "depths": (1, 1, 1, 1)}
ALL_CONVNEXT = {"embed_dim": (64, 128, 128, 128), "depths": (1, 1, 1, 1)}
WIDE = (96, 160)
VALID = (107, 171)
NARROW = {"mlp_ratio": 1 / 64}  # of the head, which is most of a VGG

RESNETS = [
    *convolutional(
        "layer4",
        *("resnet10t", "resnet18d", "resnet26t", "resnetblur18", "resnetrs50", "resnext50_32x4d"),
        *("seresnet18", "ecaresnet26t", "skresnet18", "res2net50_26w_4s", "res2next50"),
        *("resnest14d", "legacy_seresnet18", "legacy_seresnext26_32x4d", "test_resnet"),
    ),
    *convolutional("layer4", "resnet18", grid=(3, 5), size=WIDE),
    *convolutional("norm", "resnetv2_18", "resnetv2_50x1_bit", "resnetv2_50d_gn"),
    *convolutional("body.layer4", "tresnet_m"),
    *convolutional("stages.3", "resnext26ts", "eca_resnext26ts", "resnet50_clip_gap"),
    *convolutional("stages.3", "gcresnext26ts", grid=(3, 5), size=WIDE),
    *convolutional("stages.3", "resnet50_clip"),
    *convolutional("final_conv", "resnet51q", "gernet_s"),
    *convolutional("stages.3", "botnet26t_256", grid=(3, 5), **sized(WIDE)),
    *convolutional("final_act", "nfnet_l0", "eca_nfnet_l0", "nf_resnet26", "nf_regnet_b0"),
]

MOBILE = [
    *convolutional(
        "bn2",
        *("efficientnet_b0", "efficientnet_lite0", "efficientnetv2_rw_t", "tf_efficientnetv2_b0"),
        *("efficientnet_es", "mobilenetv2_035", "mobilenet_edgetpu_100", "fbnetc_100", "tinynet_e"),
        *("mixnet_s", "mnasnet_small", "semnasnet_075", "spnasnet_100", "test_efficientnet"),
    ),
    *convolutional("bn2", "efficientnet_cc_b0_4e", grid=(4, 6), size=(128, 192)),
    *convolutional("blocks.4", "mobilenetv1_100", "mobilenetv4_conv_small_035"),
    *convolutional("blocks.4", "mobilenetv4_hybrid_medium_075", grid=(3, 5), size=WIDE),
    *convolutional("blocks.5", "mobilenetv3_small_050", "lcnet_035"),
    *convolutional("blocks.6", "fbnetv3_b", "hardcorenas_a"),
    *convolutional("blocks.9", "ghostnet_050", "ghostnetv2_100", "ghostnetv3_050"),
    *convolutional("blocks.9", "repghostnet_050"),
    *convolutional("features.16", "rexnet_100", "rexnetr_100"),
    *convolutional("stages.3", "mobileone_s0", "repvgg_a0", "repvit_m0_9", "fasternet_t0"),
    *convolutional("stages.3", "lcnetv2_small", "hgnet_tiny", "hgnetv2_b0"),
    *convolutional("final_conv", "fastvit_t8", "fastvit_mci0"),
    *convolutional("final_conv", "mobilevit_xxs", grid=(4, 6), size=(128, 192)),
    *convolutional("stages.4", "mobilevitv2_050", grid=(4, 6), size=(128, 192), settled=True),
    *convolutional("norm", "starnet_s050", "swiftformer_xs"),
    *convolutional("in_conv", "lowformer_b0", grid=(6, 8), size=(192, 256)),
    *convolutional("head.in_conv", "cpubone_nano", grid=(4, 6), size=(128, 192), settled=True),
]

CONVOLUTIONS = [
    *convolutional("stages.3", "convnext_atto", "convnext_zepto_rms", "convnextv2_atto"),
    *convolutional("stages.3", "test_convnext", grid=(2, 2), size=(64, 64)),
    *convolutional("norm_pre", "convnext_tiny_hnf"),
    *convolutional("stages.3", "edgenext_xx_small", "inception_next_atto"),
    *convolutional("stages.3", "convformer_s18", "caformer_s18"),
    *convolutional("stages.3", "poolformer_s12", "poolformerv2_s12", grid=(4, 6), size=(128, 192)),
    *convolutional("stages.3", "mambaout_femto", layout=NHWC),
    *convolutional("s4", "regnetx_002", "regnety_002"),
    *convolutional("final_conv", "regnetv_040", "regnetz_005", "regnetz_b16"),
    *convolutional("features.norm5", "densenet121", "densenetblur121d"),
    *convolutional("dense_stages.6", "rdnet_tiny"),
    *convolutional("features.19", "vgg11", grid=(4, 6), arguments=NARROW),
    *convolutional("features.27", "vgg11_bn", grid=(4, 6), arguments=NARROW),
    *convolutional("Mixed_7c", "inception_v3", grid=(4, 6), size=(171, 235)),
    *convolutional("features.21", "inception_v4", grid=(2, 4), size=VALID),
    *convolutional("conv2d_7b", "inception_resnet_v2", grid=(2, 4), size=VALID),
    *convolutional("act4", "legacy_xception"),
    *convolutional("blocks.12", "xception41"),
    *convolutional("act", "xception41p"),
    *convolutional("features.conv5_bn_ac", "dpn48b"),
    *convolutional("level5", "dla34", "dla46_c", "dla60_res2net"),
    *convolutional("final_layer", "hrnet_w18_small"),
    *convolutional("stages.3", "cspresnet50", "cs3darknet_focus_s", "cs3darknet_s"),
    *convolutional("stages.3", "cspnext_tiny", grid=(4, 6), size=(128, 192)),
    *convolutional("stages.4", "cspdarknet53", "darknet17"),
    *convolutional("stages.3", "eca_vovnet39b", "ese_vovnet19b_slim", "vovnet39a"),
    *convolutional("head", "selecsls42b", size=(128, 192)),
    *convolutional("blocks.19", "convmixer_1024_20_ks9_p14", grid=(3, 5), size=(42, 70)),
]

TRANSFORMERS = [
    *tokens("blocks.1.norm1", "vit_tiny_patch16_224", "vit_base_patch16_clip_224", prefix=1),
    *tokens("blocks.1.norm1", "flexivit_small", "deit_tiny_patch16_224", prefix=1),
    *tokens("blocks.1.norm1", "deit3_small_patch16_224", prefix=1),
    *tokens("blocks.1.norm1", "vit_relpos_base_patch16_cls_224", prefix=1),
    *tokens("blocks.1.attns.1.norm", "vit_small_patch16_18x2_224", prefix=1),
    *tokens("blocks.1.norm1", "deit_tiny_distilled_patch16_224", prefix=2),
    *tokens("blocks.1.norm1", "vit_small_patch14_reg4_dinov2", prefix=5, patch=14),
    *tokens("norm", "vit_medium_patch16_gap_240", "vit_base_patch16_siglip_gap_224"),
    *tokens("norm", "vit_base_patch16_siglip_224"),
    *tokens("norm", "aimv2_large_patch14_224", patch=14),
    *tokens("norm", "vit_pe_core_tiny_patch16_384", prefix=1),
    *tokens("blocks.1", "vit_wee_patch16_reg1_gap_256", prefix=1),
    *tokens("blocks.1", "vit_relpos_small_patch16_224"),
    *tokens("blocks.1", "beit_base_patch16_224", "beitv2_base_patch16_224", prefix=1),
    *tokens("blocks.1", "beit3_base_patch16_224", prefix=1),
    *tokens("blocks.1", "vit_base_patch16_rope_reg1_gap_256", prefix=1),
    *tokens("blocks.1", "eva_giant_patch14_224", "eva02_tiny_patch14_224", prefix=1, patch=14),
    *tokens("norm", "vit_small_patch16_dinov3", prefix=5, sized=False),
    *tokens("blocks.1", "naflexvit_base_patch16_gap", prefix=4, sized=False),
    *tokens("norm", "naflexvit_base_patch16_map", prefix=1, sized=False),
    *tokens("encoder.norm", "deepseek_vit_412m", patch=14, sized=False),
    *tokens("blocks_token_only.1.norm1", "cait_xxs24_224", prefix=1),
    *tokens("cls_attn_blocks.1.norm1", "xcit_nano_12_p16_224", prefix=1, sized=False),
    Expected(
        "vit_tiny_patch16_224",
        "blocks.1.norm1",
        (2, 2),
        (32, 32),
        TOKENS,
        1,
        {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32},
    ),
    Expected(
        "vit_tiny_patch16_224",
        "blocks.1",
        (3, 5),
        (48, 80),
        TOKENS,
        0,
        {
            **{"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": (48, 80)},
            **{"class_token": False, "global_pool": "avg"},
        },
    ),
    Expected(
        "vit_tiny_r_s16_p8_224",
        "blocks.1.norm1",
        (3, 5),
        WIDE,
        TOKENS,
        1,
        {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": WIDE},
    ),
    Expected(
        "samvit_base_patch16_224",
        "neck",
        (3, 5),
        (48, 80),
        arguments={
            **{"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": (48, 80)},
            **{"neck_chans": 16, "window_size": 3, "global_attn_indexes": (1,)},
        },
    ),
    Expected("convit_tiny", "blocks.11.norm1", (3, 3), (48, 48), TOKENS, 1, {"img_size": (48, 48)}),
    Expected("crossvit_9_240", "blocks.2.fusion.1.norm1", (20, 20), (240, 240), TOKENS, 1),
    Expected(
        "coat_lite_tiny", "serial_blocks4.1.norm1", (2, 3), layout=TOKENS, prefix=1, **sized()
    ),
    Expected("coat_tiny", "parallel_blocks.5.norm14", (2, 3), layout=TOKENS, prefix=1, **sized()),
    Expected("levit_128s", "stages.2", (2, 2), layout=TOKENS, **sized((96, 96))),
    Expected("levit_conv_128s", "stages.2", (2, 2), **sized((96, 96))),
    Expected(
        "pit_ti_224", "transformers.2.blocks.3.norm1", (2, 3), layout=TOKENS, prefix=1, **sized()
    ),
    Expected(
        "pit_ti_distilled_224",
        "transformers.2.blocks.3.norm1",
        (2, 3),
        layout=TOKENS,
        prefix=2,
        **sized(),
    ),
    Expected(
        "tnt_s_patch16_224",
        "blocks.1.norm_out",
        (3, 5),
        layout=TOKENS,
        prefix=1,
        **sized((48, 80), depth=2),
    ),
    Expected("vitamin_small_224", "blocks.13", (3, 5), layout=TOKENS, **sized((48, 80))),
    Expected("volo_d1_224", "norm", (4, 6), layout=TOKENS, prefix=1, **sized()),
    Expected("gmixer_12_224", "norm", (3, 5), layout=TOKENS, **sized((48, 80))),
    Expected("gmlp_ti16_224", "norm", (3, 5), layout=TOKENS, **sized((48, 80))),
    Expected("mixer_s16_224", "norm", (3, 5), layout=TOKENS, **sized((48, 80))),
    Expected("resmlp_12_224", "norm", (3, 5), layout=TOKENS, **sized((48, 80))),
]

HIERARCHIES = [
    Expected("twins_pcpvt_small", "norm", (2, 3), layout=TOKENS, **sized(depths=(1, 1, 1, 1))),
    Expected("twins_svt_small", "norm", (2, 3), layout=TOKENS, **sized(depths=(1, 1, 1, 1))),
    Expected("pvt_v2_b0", "stages.3", (2, 3)),
    Expected(
        "swin_tiny_patch4_window7_224", "norm", (2, 3), layout=NHWC, **sized(**SWIN, window_size=4)
    ),
    Expected(
        "swin_s3_tiny_224", "norm", (2, 3), layout=NHWC, **sized(**SWIN, window_size=(2, 2, 2, 2))
    ),
    Expected(
        "swinv2_tiny_window8_256", "norm", (2, 3), layout=NHWC, **sized(**SWIN, window_size=4)
    ),
    Expected("swinv2_cr_tiny_ns_224", "stages.3", (2, 3), **sized(**SWIN)),
    Expected("maxvit_pico_rw_256", "norm", (2, 3), **sized(**HYBRID)),
    Expected("maxvit_tiny_tf_224", "stages.3", (2, 3), **sized(**HYBRID)),
    Expected("maxxvit_rmlp_nano_rw_256", "norm", (2, 3), **sized(**ALL_CONVNEXT)),
    Expected("coatnet_pico_rw_224", "norm", (2, 3), **sized(**HYBRID)),
    Expected("coatnext_nano_rw_224", "norm", (2, 3), **sized(**ALL_CONVNEXT)),
    Expected("mvitv2_tiny", "norm", (2, 2), layout=TOKENS, **sized((64, 64))),
    Expected(
        "mvitv2_small_cls",
        "stages.3.blocks.1.norm1",
        (2, 2),
        layout=TOKENS,
        prefix=1,
        **sized((64, 64)),
    ),
    Expected("hiera_tiny_224", "blocks.11", (2, 3), layout=TOKENS, **sized()),
    Expected("hiera_tiny_224", "blocks.11", (3, 5), layout=TOKENS, **sized(WIDE)),
    Expected("hieradet_small", "blocks.15", (2, 3), layout=NHWC),
    Expected("gcvit_xxtiny", "stages.3", (2, 3), **sized()),
    Expected("davit_tiny", "stages.3", (2, 3), arguments={"depths": (1, 1, 1, 1)}),
    Expected("focalnet_tiny_srf", "norm", (2, 3)),
    Expected("nest_tiny", "norm", (4, 4), layout=NHWC, **sized((64, 64))),
    Expected("sequencer2d_s", "norm", (4, 6), layout=NHWC),
    Expected("visformer_tiny", "norm", (3, 5), **sized(WIDE)),
    Expected("tiny_vit_5m_224", "stages.3", (2, 3)),
    Expected("nextvit_small", "norm", (2, 3)),
    Expected("efficientformer_l1", "norm", (7, 7), (224, 224), TOKENS),
    Expected("efficientformerv2_s0", "norm", (2, 3), **sized()),
    Expected("efficientvit_b0", "head.in_conv", (2, 3)),
    Expected("efficientvit_m0", "stages.2", (3, 5), **sized((192, 320))),
    Expected("efficientvim_m1", "norm.3", (3, 5), (192, 320)),
    Expected("shvit_s1", "stages.2", (2, 3), (128, 192), settled=True),
    Expected("iformer_t", "stages.3", (2, 3)),
    Expected("csatv2", "stages.3", (2, 3), (128, 192)),
    Expected(
        "qwen3_vit_88m_merge", "encoder.merger", (2, 3), layout=TOKENS, arguments={"depth": 2}
    ),
]


def torchvision(name: str, layer: str, grid: tuple[int, int] = (2, 3), **more: Any) -> Expected:
    return Expected(name, layer, grid, library="torchvision", **more)


TORCHVISION = [
    torchvision("resnet18", "layer4"),
    torchvision("vgg11", "features.19", (4, 6)),
    torchvision("alexnet", "features.11", (5, 7), size=(96, 128)),
    torchvision("squeezenet1_1", "features.12", (3, 5)),
    torchvision("googlenet", "inception5b", arguments={"init_weights": False}),
    torchvision("densenet121", "features.norm5"),
    torchvision("shufflenet_v2_x0_5", "conv5"),
    torchvision("mnasnet0_5", "layers.16"),
    torchvision("mobilenet_v2", "features.18"),
    torchvision("mobilenet_v3_small", "features.12"),
    torchvision("efficientnet_b0", "features.8"),
    torchvision("convnext_tiny", "features.7"),
    torchvision("regnet_x_400mf", "trunk_output.block4"),
    torchvision("swin_t", "norm", layout=NHWC),
    torchvision("swin_v2_t", "norm", layout=NHWC),
    torchvision(
        "VisionTransformer",
        "encoder.layers.encoder_layer_1.ln_1",
        (3, 3),
        size=(48, 48),
        layout=TOKENS,
        prefix=1,
        arguments={
            **{"image_size": 48, "patch_size": 16, "num_layers": 2, "num_heads": 2},
            **{"hidden_dim": 24, "mlp_dim": 48},
        },
    ),
    torchvision(
        "MaxVit",
        "blocks.3",
        (4, 4),
        size=(128, 128),
        arguments={
            **{"input_size": (128, 128), "stem_channels": 8, "partition_size": 4, "head_dim": 4},
            **{"block_channels": [8, 16, 16, 32], "block_layers": [1, 1, 1, 1]},
            "stochastic_depth_prob": 0.0,
        },
    ),
]

TIMM = [*RESNETS, *MOBILE, *CONVOLUTIONS, *TRANSFORMERS, *HIERARCHIES]
EVERY = [*TIMM, *TORCHVISION]


def make(expected: Expected) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if expected.library == "torchvision":
            build = getattr(imports.torchvision("models"), expected.name)
            network: nn.Module = build(num_classes=5, **expected.arguments)
        else:
            network = imports.timm().create_model(
                expected.name, num_classes=5, **expected.arguments
            )
    return network.double().eval()


def give_weights(network: nn.Module, expected: Expected) -> None:
    """Let nothing start at zero, and let every layer look at its own place first.

    The middle of a kernel outweighs its rim, and learned attention offsets favour no offset.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("attention_biases"):
                weight[:, 0] = 8
            elif not name.endswith("bias") and weight.numel() > 1:
                wake(weight, generator)
    if expected.settled:
        settle_norms(network, expected.size)
        return
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size[0] > module.stride[0]:
                rim = torch.full_like(module.weight, 0.02)
                rim[..., (rim.shape[-2] - 1) // 2, (rim.shape[-1] - 1) // 2] = 1
                module.weight.mul_(rim)


def wake(weight: Tensor, generator: torch.Generator) -> None:
    tiny = weight.abs().max() < 1e-3
    if not tiny and (weight != weight.flatten()[0]).any():
        return
    if weight.ndim > 1 and weight[0].numel() > 1:
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    else:
        middling = torch.rand(weight.shape, generator=generator) + 0.5
        weight.copy_(middling / 10 if tiny else middling)


def settle_norms(network: nn.Module, size: tuple[int, int]) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        network(torch.randn(4, 3, *size, generator=generator, dtype=torch.double))
    network.eval()


def looked_at(network: nn.Module, expected: Expected, cells: list[tuple[int, int]]) -> Tensor:
    """The middle (row, column), in shares of the image, of what each cell alone depends on."""
    height, width = expected.grid
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *expected.size, generator=generator, dtype=torch.double)
    images = image.repeat(len(cells), 1, 1, 1).requires_grad_()
    outputs = []
    hook = network.get_submodule(expected.layer).register_forward_hook(
        lambda _module, _args, output: outputs.append(output)
    )
    network(images)
    hook.remove()
    given = outputs[-1] if isinstance(outputs[-1], Tensor) else outputs[-1][0]
    if expected.layout == NHWC:
        given = given.permute(0, 3, 1, 2)
    if expected.layout == TOKENS:
        patches = given[:, expected.prefix :]
        given = patches.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    assert given.shape[2:] == (height, width)
    signs = torch.randn(given.shape[1], generator=generator, dtype=torch.double)
    chosen = [(given[n, :, row, column] * signs).sum() for n, (row, column) in enumerate(cells)]
    (slope,) = torch.autograd.grad(torch.stack(chosen).sum(), images)
    if not expected.settled:  # what all cells depend on alike tells nothing of a place
        slope = slope - slope.mean(0)
    weights = slope.square().sum(1)
    weights = weights / weights.sum((1, 2), keepdim=True)
    down, across = ((torch.arange(side) + 0.5) / side for side in expected.size)
    return torch.stack([(weights.sum(2) * down).sum(1), (weights.sum(1) * across).sum(1)], 1)


def some_cells(height: int, width: int) -> list[tuple[int, int]]:
    cells = [(row, column) for row in range(height) for column in range(width)]
    if len(cells) <= 16:
        return cells
    drawn = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[:12]
    corners = [(row, column) for row in (0, height - 1) for column in (0, width - 1)]
    return [*corners, *(cells[index] for index in drawn.tolist())]


HEAVY = {  # over three seconds each; a relative of each runs with the quick tests
    "timm-botnet26t_256-96x160",
    "timm-caformer_s18-64x96",
    "timm-coat_tiny-64x96",
    "timm-convformer_s18-64x96",
    "timm-convmixer_1024_20_ks9_p14-42x70",
    "timm-convnext_tiny_hnf-64x96",
    "timm-crossvit_9_240-240x240",
    "timm-efficientformer_l1-224x224",
    "timm-efficientnet_cc_b0_4e-128x192",
    "timm-gcresnext26ts-96x160",
    "timm-hiera_tiny_224-96x160",
    "timm-hieradet_small-64x96",
    "timm-inception_resnet_v2-107x171",
    "timm-inception_v3-171x235",
    "timm-inception_v4-107x171",
    "timm-lowformer_b0-192x256",
    "timm-poolformer_s12-128x192",
    "timm-poolformerv2_s12-128x192",
    "timm-rdnet_tiny-64x96",
    "timm-selecsls42b-128x192",
    "timm-sequencer2d_s-64x96",
    "timm-vitamin_small_224-48x80",
    "timm-volo_d1_224-64x96",
    "timm-xception41-64x96",
    "timm-xception41p-64x96",
    "torchvision-convnext_tiny-64x96",
    "torchvision-swin_v2_t-64x96",
}


def test_the_heavy_ones_are_listed_and_the_quick_ones_many() -> None:
    names = {str(expected) for expected in EVERY}
    assert names >= HEAVY
    assert len(names - HEAVY) > 100


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(each, id=str(each), marks=[pytest.mark.long] if str(each) in HEAVY else [])
        for each in EVERY
    ],
)
def test_auto_and_its_cells_places(expected: Expected) -> None:
    network = make(expected)
    give_weights(network, expected)
    image = torch.randn(1, 3, *expected.size, dtype=torch.double)

    found = automatic(network, image, read=Classifier.from_module(network, classes=5).read)

    grid = found.grid
    assert found.name == expected.layer
    assert (grid.height, grid.width) == expected.grid
    assert (grid.layout, grid.prefix) == (expected.layout, expected.prefix)
    assert found.counts
    cells = some_cells(*expected.grid)
    seen = looked_at(network, expected, cells)
    for axis in (0, 1):
        pair = torch.stack([seen[:, axis], torch.tensor(cells, dtype=torch.double)[:, axis]])
        assert torch.corrcoef(pair)[0, 1] > 0.7, f"axis {axis}: {seen[:, axis].tolist()}"


def test_there_are_many_families() -> None:
    names = {expected.name for expected in TIMM}
    modules = imports.timm("models").__dict__
    families = {modules[name].__module__ for name in names}
    assert len(names) > 150
    assert len(families) > 75


def row(expected: Expected) -> str:
    cells, size = (f"{a}x{b}" for a, b in (expected.grid, expected.size))
    layout = expected.layout + (f" after {expected.prefix}" if expected.prefix else "")
    names = f"{expected.library} | `{expected.name}` | `{expected.layer}`"
    return f"| {names} | {layout} | {size} | {cells} |"


def table() -> list[str]:
    return [row(expected) for expected in EVERY]


def test_the_page_shows_the_table() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| library"))
    shown = [line for line in lines[start + 2 :] if line.startswith("|")]
    assert shown == table(), "run python tests/explain/test_architectures.py"


if __name__ == "__main__":
    print("\n".join(table()))
