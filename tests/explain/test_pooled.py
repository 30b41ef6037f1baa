"""A layer's mean gradient by sums over places: autograd's own, and only where nothing else sees."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mitate import Classifier, Explainer, fusing, imports
from mitate.explain import evidence
from mitate.explain.grid import Grid
from mitate.explain.pooled import behind
from mitate.fixed import fixed_linear

IMAGES, CHANNELS, HIDDEN, SIDE, CLASSES = 3, 64, 600, 12, 2
FIRST = Grid("channels first", SIDE, SIDE, CHANNELS)
LAST = Grid("channels last", SIDE, SIDE, CHANNELS)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _kept(grid: Grid = FIRST) -> Tensor:
    shape = (SIDE, SIDE, CHANNELS) if grid is LAST else (CHANNELS, SIDE, SIDE)
    return (_random(IMAGES, *shape) * 2 + 0.5).requires_grad_()


def _last(kept: Tensor) -> Tensor:
    return kept.clone().permute(0, 2, 3, 1)


def _scores(rows: Tensor, linear: Callable[..., Tensor] = fixed_linear, **without: None) -> Tensor:
    """Scores (b, classes) of rows with channels last, behind a norm and a linear layer."""
    made: dict[str, Tensor | None] = {
        "scale": _random(CHANNELS, seed=1),
        "offset": _random(CHANNELS, seed=2),
        "bias": _random(HIDDEN, seed=3),
    }
    scale, offset, bias = ({**made, **without}[name] for name in made)
    to = rows.dtype
    scale, offset, bias = (None if one is None else one.to(to) for one in (scale, offset, bias))
    rows = F.layer_norm(rows, (CHANNELS,), scale, offset)
    hidden = F.gelu(linear(rows, _random(HIDDEN, CHANNELS, seed=4).to(to), bias))
    return hidden.square().mean((1, 2)) @ _random(HIDDEN, CLASSES, seed=5).to(to)


@pytest.mark.parametrize(
    "without", [(), ("scale",), ("offset",), ("bias",), ("scale", "offset", "bias")]
)
@pytest.mark.parametrize("grid", [FIRST, LAST], ids=lambda grid: grid.layout)
def test_is_the_mean_of_the_gradients(grid: Grid, without: tuple[str, ...]) -> None:
    kept = _kept(grid)
    rows = kept.clone() if grid is LAST else _last(kept)
    scores = _scores(rows, **dict.fromkeys(without))
    found = behind(scores, kept, grid)
    assert found is not None
    exact = kept.detach().double().requires_grad_()
    laid = exact if grid is LAST else exact.permute(0, 2, 3, 1)
    wanted = _scores(laid, F.linear, **dict.fromkeys(without))
    for k in range(CLASSES):
        (slope,) = torch.autograd.grad(scores[:, k].sum(), [found.edge], retain_graph=True)
        (whole,) = torch.autograd.grad(wanted[:, k].sum(), exact, retain_graph=True)
        expected = grid.spatial(whole).mean((-2, -1))
        assert expected.abs().min() > 0
        scale = expected.abs().max().item()
        torch.testing.assert_close(found.mean(slope).double(), expected, rtol=0, atol=1e-5 * scale)


def test_is_zero_where_a_score_does_not_depend_on_it() -> None:
    kept = _kept()
    found = behind(_scores(_last(kept)), kept, FIRST)
    assert found is not None
    assert torch.equal(found.mean(None), torch.zeros(IMAGES, CHANNELS))


def test_not_where_something_else_takes_what_the_layer_gave() -> None:
    kept = _kept()
    given = kept.clone()
    scores = _scores(given.permute(0, 2, 3, 1)) + given.mean((2, 3))[:, :CLASSES]
    assert behind(scores, kept, FIRST) is None


def test_not_where_something_else_takes_what_the_norm_gave() -> None:
    kept = _kept()
    rows = F.layer_norm(_last(kept), (CHANNELS,))
    linear = fixed_linear(rows, _random(HIDDEN, CHANNELS))
    scores = linear.mean((1, 2))[:, :CLASSES] + rows.mean((1, 2))[:, :CLASSES]
    assert behind(scores, kept, FIRST) is None


@pytest.mark.parametrize(
    "rows",
    [
        lambda kept: kept.clone().permute(0, 3, 2, 1),
        lambda kept: kept.clone().permute(2, 0, 3, 1),
        lambda kept: kept.clone().relu().permute(0, 2, 3, 1),
        lambda kept: kept.clone().roll(1, 2).permute(0, 2, 3, 1),
    ],
    ids=["turned", "images elsewhere", "an activation", "moved"],
)
def test_not_behind_anything_else(rows: Callable[[Tensor], Tensor]) -> None:
    kept = _random(IMAGES, CHANNELS, SIDE, CHANNELS).requires_grad_()
    assert (
        behind(_scores(rows(kept)), kept, Grid("channels first", SIDE, CHANNELS, CHANNELS)) is None
    )


def test_not_of_a_linear_layer_that_is_recorded_as_it_is_written() -> None:
    kept = _kept()
    assert behind(_scores(_last(kept), F.linear), kept, FIRST) is None


def test_not_of_an_activation_that_is_no_leaf_nor_of_tokens_before_the_patches() -> None:
    kept = _kept()
    inner = kept * 2
    assert behind(_scores(inner.permute(0, 2, 3, 1)), inner, FIRST) is None
    tokens = _random(IMAGES, SIDE * SIDE + 1, CHANNELS).requires_grad_()
    scores = fixed_linear(F.layer_norm(tokens.clone(), (CHANNELS,)), _random(HIDDEN, CHANNELS))
    grid = Grid("tokens", SIDE, SIDE, CHANNELS, prefix=1)
    assert behind(scores.mean(1), tokens, grid) is None
    assert behind(torch.zeros(IMAGES, CLASSES), kept, FIRST) is None


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 2, 1), "dims": (32, 64, 128, 256)}
    network = imports.timm().create_model("convnext_tiny", num_classes=5, **sizes).eval()
    for name, weight in network.named_parameters():
        if "norm" in name or name.endswith("gamma"):
            nn.init.uniform_(weight, 0.2, 1.0)
    return network


@pytest.mark.parametrize("at", ["stages.2.blocks.-1.conv_dw", "stages.3.blocks.0.conv_dw"])
def test_gradcam_of_a_convnext_takes_it(
    convnext: nn.Module, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _random(8, 3, 224, 224)
    if not fusing.pays(images):
        pytest.skip("linear layers are recorded as they are written here")
    found = []
    monkeypatch.setattr(
        evidence, "behind", lambda *given: (found.append(behind(*given)), found[-1])[1]
    )
    explainer = Explainer(Classifier.from_module(convnext), layer=at, signed=True, batch_size=8)
    made = explainer(images, 3)
    assert found
    assert None not in found
    monkeypatch.setattr(evidence, "behind", lambda *given: None)
    again = explainer(images, 3)
    torch.testing.assert_close(made.maps, again.maps, rtol=0, atol=1e-5 * again.maps.abs().max())
    assert not made.flags
