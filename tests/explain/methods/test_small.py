import pytest
import torch
from torch import Tensor, nn

from mitate.errors import UsageError
from mitate.explain import layers
from mitate.explain.explainer import Explainer
from mitate.explain.grid import Grid
from mitate.explain.layers import Layer
from mitate.models.classifier import Classifier
from oracles import networks
from oracles.staged import Stages, stages


def images(number: int = 2, size: tuple[int, int] = (32, 64)) -> Tensor:
    return networks.make_images(number, size=size)


def explainer(network: nn.Module, method: str, layer: str = "auto", **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, layer, **options)


def product_by_hand(network: Stages, image: Tensor, target: int) -> Tensor:
    fine = network.fine(image[None]).detach().requires_grad_()
    coarse = network.coarse(fine)
    score = network.head(coarse.mean((-2, -1)))[0, target]
    of_fine, of_coarse = torch.autograd.grad(score, (fine, coarse))
    early = torch.zeros(fine.shape[-2:]).double()
    for channel, slope in zip(fine[0], of_fine[0], strict=True):
        early += (channel * slope).detach()
    last = torch.zeros(coarse.shape[-2:]).double()
    for channel, slope in zip(coarse[0], of_coarse[0], strict=True):
        last += (channel * slope.mean()).detach()
    early, last = early.clamp_min(0), last.clamp_min(0)
    large = nn.functional.interpolate(
        (last / last.max())[None, None], early.shape, mode="bilinear", align_corners=False
    )
    return large[0, 0] * (early / early.max()) ** 2


def test_glance_is_the_product_of_both_layers() -> None:
    network, batch = stages(), images()
    made = explainer(network, "glance")(batch, targets=[[0, 3]] * 2)
    assert made.layer == "fine + coarse"
    assert made.maps.shape == (2, 2, 8, 16)
    for i, image in enumerate(batch):
        for j, target in enumerate((0, 3)):
            torch.testing.assert_close(made.maps[i, j], product_by_hand(network, image, target))
    assert made.maps.any()


def test_glance_costs_one_backward_for_all_its_layers() -> None:
    assert explainer(stages(), "glance")(images(), top_k=1).cost == 3
    assert explainer(stages(), "glance")(images(), top_k=3).cost == 7


def test_layers_may_be_named_in_any_order() -> None:
    expected = explainer(stages(), "glance")(images())
    for named in ("fine + coarse", "coarse + fine"):
        made = explainer(stages(), "glance", named)(images())
        assert torch.equal(made.maps, expected.maps)
        assert made.fusion == ""


def test_one_layer_is_multiplied_with_itself() -> None:
    made = explainer(stages(), "glance", "coarse")(images())
    assert made.layer == "coarse"
    assert made.maps.shape[-2:] == (2, 4)


def test_a_class_against_another_has_a_map_of_its_own() -> None:
    plain = explainer(stages(), "glance")(images(), targets=[0, 0])
    other = explainer(stages(), "glance", against=1)(images(), targets=[0, 0])
    assert not torch.allclose(plain.maps, other.maps)


@pytest.mark.parametrize("method", ["glance", "loupe"])
@pytest.mark.parametrize("fusion", ["max", "product"])
def test_a_fusion_means_nothing_and_is_refused(method: str, fusion: str) -> None:
    with pytest.raises(UsageError, match=f"{method} makes one map of all its layers by itself"):
        explainer(stages(), method, "fine + coarse", fusion=fusion)


def listed(*rows: tuple[str, int]) -> list[Layer]:
    return [
        Layer(name, nn.Identity(), -1, Grid("channels first", side, side, 8)) for name, side in rows
    ]


@pytest.mark.parametrize(
    ("side", "rows", "expected"),
    [
        (224, [("stem", 112), ("layer1.0", 56), ("layer1", 56), ("layer2.0.conv1", 56)], "layer1"),
        (224, [("bn1", 112), ("blocks.1", 56), ("blocks.2.0.bn1", 56), ("x", 28)], "blocks.1"),
        (224, [("patch_embed", 14), ("blocks.0", 14), ("blocks.0.norm", 14), ("norm", 14)], "norm"),
        (32, [("first", 32), ("second", 8), ("third", 4)], "second"),
    ],
)
def test_the_early_layer_has_cells_of_about_four_pixels(side: int, rows, expected: str) -> None:
    found = layers.early_of(listed(*rows), (side, side))
    assert found is not None
    assert found.name == expected


def test_where_no_layer_counts_there_is_no_early_one() -> None:
    assert layers.early_of([], (32, 32)) is None
