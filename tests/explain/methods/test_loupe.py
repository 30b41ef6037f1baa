import pytest
import torch
from torch import Tensor, nn

from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.flags import UNSEEN
from mitate.explain.methods import loupe
from mitate.explain.scorer import Scorer
from mitate.models.classifier import Classifier
from oracles import masked, networks, optimised
from oracles.staged import Closed, Rounded, Stages, stages

SIZE = (16, 32)


def explainer(network: nn.Module, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, "loupe", show_progress=False, **options)


def images(number: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return networks.make_images(number, size=size)


def search(network: Stages, batch: Tensor, classes: list[list[int]]) -> loupe.Search:
    with torch.no_grad():
        logits = network(batch)
    return loupe.Search.of(
        Scorer(network, lambda output: output, batch, torch.tensor(classes), logits)
    )


@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize("target", [0, 3])
def test_slopes_are_the_oracles(target: int, shows: bool) -> None:
    network, batch = stages(), images(1)
    drawn = torch.rand(4, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = search(network, batch, [[1, target]]).slopes(
        torch.tensor([1]), drawn[None], level=0.4, price=7.0, behind=int(shows), shows=shows
    )
    colour = batch[0].mean((-2, -1), keepdim=True).expand_as(batch[0])
    expected = optimised.slopes(
        network,
        batch[0],
        target,
        drawn.tolist(),
        behind=colour if shows else masked.blurred(batch[0], 31, 50),
        level=0.4,
        price=7.0,
        shows=shows,
    )
    torch.testing.assert_close(
        found[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-8
    )


def test_the_share_by_hand() -> None:
    seen = torch.tensor([-1.0, 30.0], dtype=torch.float64)
    odds = torch.tensor([3.0, -4.0], dtype=torch.float64)
    first = optimised.soft_plus(1.0) / optimised.soft_plus(5.0)
    second = 32.0 / optimised.soft_plus(-2.0)
    hidden = loupe.share_left(seen, odds, shows=False)
    torch.testing.assert_close(hidden, torch.tensor([first, second], dtype=torch.float64))
    shown = loupe.share_left(seen, odds, shows=True)
    torch.testing.assert_close(shown, torch.tensor([-first, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("odds", [-60.0, -4.0, 0.0])
def test_what_is_shown_pulls_no_harder_however_improbable_the_class_was(odds: float) -> None:
    seen = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    whole = torch.tensor([odds], dtype=torch.float64)
    loupe.share_left(seen, whole, shows=True).sum().backward()
    expected = -optimised.logistic(7.0) / optimised.soft_plus(7.0)
    assert seen.grad is not None
    assert float(seen.grad) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_map_is_the_oracles(steps: int) -> None:
    network, batch = stages(20.0), images(1)
    made = explainer(network, steps=steps, cells=4)(batch, targets=[[0, 3]]).maps
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    early, last = (
        Explainer(classifier, method, layer)(batch, targets=[[0, 3]])
        for method, layer in (("hirescam", "fine"), ("gradcam", "coarse"))
    )
    last_map = nn.functional.interpolate(
        last.normalized(), (4, 8), mode="bilinear", align_corners=False
    )
    product = last_map * early.normalized()
    start = product / product.amax((-2, -1), keepdim=True)
    assert start.shape[-2:] == (4, 8)  # the mask's own grid: nothing is resized and back
    blurred = masked.blurred(batch[0], 31, 50)
    colour = batch[0].mean((-2, -1), keepdim=True).expand_as(batch[0])
    pixels = nn.functional.interpolate(start, SIZE, mode="bilinear", align_corners=False)
    for place, target in enumerate((0, 3)):
        begun = masked.averaged(pixels[0, place].tolist(), 4, 8)
        expected = optimised.loupe(
            network, batch[0], target, start=begun, blurred=blurred, colour=colour, steps=steps
        )
        torch.testing.assert_close(
            made[0, place], torch.tensor(expected, dtype=torch.float64), rtol=2e-3, atol=1e-10
        )
    assert made.any()


def test_what_the_mask_leaves_out_is_ranked_by_what_is_near_and_by_the_start() -> None:
    mask, nothing = torch.zeros(2, 1, 1, 16, 16, dtype=torch.float64)
    mask[..., 4, 4] = 0.7
    start = networks.make_images(1, size=(16, 16))[:, :1].abs()
    near = torch.tensor(optimised.under_a_bell(mask[0, 0].tolist()), dtype=torch.float64)
    found = loupe.surroundings(mask, start)[0, 0]
    torch.testing.assert_close(found, (near + 1e-6) * (start[0, 0] + 1e-6))
    assert loupe.surroundings(mask, nothing).flatten().argmax() == 4 * 16 + 4
    assert found[4, 4] / start[0, 0, 4, 4] > 1e4 * found[15, 15] / start[0, 0, 15, 15]


def test_level_sets_keep_their_ends_and_are_soft() -> None:
    masks = torch.linspace(0, 1, 11, dtype=torch.float64)[None, None, None]
    for level in (0.1, 0.5, 0.9):
        made = loupe.level_set(masks, level)[0, 0, 0]
        expected = [optimised.hidden_share(v / 10, level) for v in range(11)]
        torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64))
        assert made[0] == 0
        assert made[-1] == 1
        assert (made.diff() > 0).all()


def test_several_batch_sizes_give_the_same() -> None:
    network, batch = stages(), images(5, size=(32, 16))
    expected = explainer(network, steps=5)(batch, top_k=2)
    for size in (1, 3):
        made = explainer(network, steps=5, batch_size=size)(batch, top_k=2)
        torch.testing.assert_close(made.maps, expected.maps, rtol=0, atol=1e-10)
        assert made.cost == pytest.approx(expected.cost)


def test_the_classes_share_nothing_but_the_batch() -> None:
    network, batch = stages(20.0), images()
    cost = explainer(network, steps=5)(batch, top_k=1).cost
    assert cost == 1 + 2 + 5 * 3
    assert explainer(network, steps=5)(batch, top_k=2).cost == 1 + 2 * (2 + 5 * 3)


def test_settled_masks_are_left_alone_and_the_cost_says_so() -> None:
    made = explainer(stages(20.0), steps=200)(images(), targets=[0, 3])
    assert 3 + 3 * loupe.PATIENCE < made.cost < 3 + 3 * 200


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), (48, 48)), ((16, 96), (16, 96)), ((160, 64), (120, 48))]
)
def test_cells_are_square_and_no_smaller_than_pixels(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    batch = images(1, size=size)
    assert loupe.on_grid(batch, size, 48).shape == (1, 3, *grid)
    made = explainer(stages(), steps=2)(batch, top_k=1)
    assert made.maps.shape == (1, 1, *size)
    assert made.maps.isfinite().all()


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_saturated_class_is_explained(scale: float) -> None:
    made = explainer(stages(scale), steps=10)(images(), top_k=1)
    assert (made.probabilities > 0.9999).all()
    assert made.maps.isfinite().all()
    assert made.maps.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_that_is_not_there_has_a_finite_map(dtype: torch.dtype) -> None:
    network = stages(20.0).to(dtype)
    with torch.no_grad():
        network.head.bias[4] = -200.0
    made = explainer(network, steps=12)(images().to(dtype), targets=[4, 4])
    assert (made.probabilities < 1e-30).all()
    assert made.maps.isfinite().all()
    assert made.maps.any()


def test_a_uniform_image_is_flagged() -> None:
    made = explainer(stages())(torch.full((2, 3, *SIZE), 0.7).double(), top_k=2)
    assert made.maps.isfinite().all()
    assert [(flag.image, flag.target) for flag in made.flags] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("steps", [2, 12])
def test_where_no_slope_comes_there_is_no_map_and_it_is_said(steps: int) -> None:
    network = Rounded(stages())
    layer = ["inner.fine", "inner.coarse"]
    made = explainer(network, steps=steps, layer=layer)(images(), top_k=1)
    assert not made.maps.any()
    assert [flag.reason for flag in made.flags] == [UNSEEN] * 2


@pytest.mark.parametrize("trains", [False, True])
def test_a_network_without_gradients_is_told_what_to_use(trains: bool) -> None:
    with pytest.raises(UsageError, match=r"gives none for its input .* occlusion or rise"):
        explainer(Closed(stages().requires_grad_(trains)))(images())


def test_a_class_against_another_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"loupe cannot explain .* targets=lambda logits"):
        explainer(stages(), against=1)


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (64, 256), (256, 64)])
def test_images_of_any_size_and_shape(size: tuple[int, int]) -> None:
    batch = images(1, size).float()
    batch[..., :16, :16] *= 40
    made = explainer(stages(20.0).float(), steps=8)(batch, top_k=1)
    assert made.maps.isfinite().all()
    assert made.maps.any()


def test_half_precision_is_near_single() -> None:
    network, batch = stages(20.0).float(), images().float()
    single = explainer(network, steps=12)(batch, targets=[0, 3])
    half = explainer(network.bfloat16(), steps=12)(batch.bfloat16(), targets=[0, 3])
    assert half.maps.dtype == torch.float32
    assert half.maps.isfinite().all()
    pair = torch.stack([single.maps.flatten(), half.maps.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.9


def test_functions_of_the_output_are_explained_at_any_scale() -> None:
    network, batch = stages(20.0), images()
    difference = [lambda logits: logits[:, 0] - logits[:, 3]]
    thousands = [lambda logits: 1000 * (logits[:, 0] - logits[:, 3])]
    made, scaled = (
        explainer(network, steps=8)(batch, targets=functions).maps
        for functions in (difference, thousands)
    )
    torch.testing.assert_close(made, scaled)


def test_other_classes_and_other_weights_give_other_maps() -> None:
    batch = images()
    made = explainer(stages(20.0), steps=20)(batch, targets=[[0, 3]] * 2).maps
    network = stages(20.0, seed=9)
    other = explainer(network, steps=20)(batch, targets=[[0, 3]] * 2).maps
    assert (made[:, 0] - made[:, 1]).abs().amax() > 0.01
    assert (made - other).abs().amax() > 0.01


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"cells": 0}, {"rate": 0.0}, {"rate": 1.5}, {"rate": float("nan")}]
)
def test_wrong_options_are_refused(options: dict) -> None:
    with pytest.raises(
        UsageError, match="1 step and 1 cell or more|more than 0 and at most 1|takes a float"
    ):
        explainer(stages(), **options)(images())


def test_a_small_rate_moves_a_mask_less() -> None:
    """From its start, of which the mean mask of a few steps is told apart by the rate alone."""
    network, batch = stages(20.0), images()
    start, slow, fast = (
        explainer(network, steps=4, rate=rate)(batch, top_k=1).maps for rate in (1e-6, 0.02, 0.2)
    )
    assert (slow - start).abs().max() > 0
    assert (fast - start).abs().sum() > 2 * (slow - start).abs().sum()
