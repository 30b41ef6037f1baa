"""Layers run in one go with what follows them: the numbers of the network as it is written."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from ctypes import memset
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from mitate import Classifier, Explainer, imports, onednn
from mitate.explain.layers import candidates
from mitate.explain.scorer import Scorer
from mitate.fusing import Fusing, joining, mode, pays, pending
from mitate.fusing.pending import Pending, Recipe
from mitate.models.mode import as_written

if not onednn.has_operations():
    pytest.skip("oneDNN's fused operations are of x86 processors", allow_module_level=True)

Done = list[tuple[bool, str | None, bool]]  # convolution, activation, added


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put off everything, however small, and forget what was alone."""
    monkeypatch.setattr(mode, "FEWEST_INPUTS", 0)
    monkeypatch.setattr(joining, "FEWEST_OUTPUTS", 0)
    monkeypatch.setattr(pending, "_alone", {})


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    """What is computed late, in order."""
    found: Done = []
    compute = Recipe.computed

    def noted(recipe: Recipe) -> Tensor:
        name = recipe.activation.name if recipe.activation else None
        found.append((recipe.geometry is not None, name, recipe.added is not None))
        return compute(recipe)

    monkeypatch.setattr(Recipe, "computed", noted)
    return found


def images(*shape: int, seed: int = 0) -> Tensor:
    """Random images whose channels lie last."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn


def norm(channels: int) -> nn.BatchNorm2d:
    """With statistics as after training."""
    made = nn.BatchNorm2d(channels).eval()
    for tensor in (made.running_mean, made.weight, made.bias):
        nn.init.normal_(tensor)
    nn.init.uniform_(made.running_var, 0.2, 3.0)
    return made


def both(run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What a function gives as it is written, and fused."""
    with torch.no_grad():
        plain = run()
        with Fusing():
            fused = run()
    return plain, fused


CONV = nn.Conv2d(3, 8, 3, padding=1)
ACTIVATIONS = {
    "relu": (nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, Tensor.relu, torch.relu_),
    "hardtanh": (nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-0.2, 0.3), F.relu6),
    "leaky_relu": (nn.LeakyReLU(0.2), nn.LeakyReLU(0.3, inplace=True)),
    "gelu": (nn.GELU(), nn.GELU(approximate="tanh"), F.gelu),
    "swish": (nn.SiLU(), nn.SiLU(inplace=True)),
    "hardswish": (nn.Hardswish(), nn.Hardswish(inplace=True)),
}
EACH = [(name, act) for name, acts in ACTIVATIONS.items() for act in acts]


@pytest.mark.parametrize(("name", "act"), EACH)
@pytest.mark.parametrize("between", ["nothing", "norm", "sum", "norm and sum"])
def test_a_convolution_with_all_that_follows_it(
    done: Done, name: str, act: Callable[[Tensor], Tensor], between: str
) -> None:
    given, shortcut, normed = images(2, 3, 9, 7), images(2, 8, 9, 7, seed=1), norm(8)

    def run() -> Tensor:
        found = CONV(given)
        found = normed(found) if "norm" in between else found
        return act(found + shortcut if "sum" in between else found)

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    summed = "sum" in between
    assert done == [(True, name if name == "relu" or not summed else None, summed)]


@pytest.mark.parametrize(("name", "act"), EACH)
@pytest.mark.parametrize("fuses", [True, False])  # where not, one thing after another, in place
def test_a_linear_layer_with_its_activation(
    done: Done,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    act: Callable[[Tensor], Tensor],
    fuses: bool,
) -> None:
    monkeypatch.setattr(pending, "fuses", lambda weight: fuses)
    layer, given = nn.Linear(6, 5), images(4, 7, 6)
    plain, fused = both(lambda: act(layer(given)))
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    assert done == [(False, name, False)]


def test_a_linear_layer_with_a_sum_or_an_activation_but_not_both(done: Done) -> None:
    layer, given, shortcut = nn.Linear(6, 5), images(4, 7, 6), images(4, 7, 5)
    plain, fused = both(lambda: F.relu(shortcut + layer(given)))
    assert_close(fused, plain)
    assert done == [(False, None, True)]


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_layer_turned_and_scaled_and_added_as_in_a_convnext(
    done: Done, monkeypatch: pytest.MonkeyPatch, fuses: bool, inplace: bool, biased: bool
) -> None:
    monkeypatch.setattr(pending, "fuses", lambda weight: fuses)
    layer, given = nn.Linear(6, 5, bias=biased), images(4, 6, 7, 3).permute(0, 2, 3, 1)
    scale, shortcut = torch.linspace(-1, 2, 5), images(4, 5, 7, 3)

    def run() -> Tensor:
        found = layer(given).permute(0, 3, 1, 2)
        gamma = scale.reshape(1, -1, 1, 1)
        return (found.mul_(gamma) if inplace else found * gamma) + shortcut

    plain, fused = both(run)
    assert_close(fused, plain)
    assert fused.stride() == plain.stride()
    assert done == [(False, None, True)]


@pytest.mark.parametrize(
    "scaled",
    [
        lambda found: found * torch.arange(5.0),
        lambda found: torch.arange(5.0) * found,
        lambda found: torch.mul(found, torch.arange(5.0)[None, None, None]),
        lambda found: found.mul_(torch.arange(5.0)).clone(),
        lambda found: found * torch.arange(3.0)[:, None],  # of places: no scale of channels
        lambda found: found * torch.arange(4.0)[:, None, None, None],
        lambda found: found * 2,
        lambda found: found * torch.arange(5),  # whole numbers
        lambda found: found * torch.ones(2, 4, 7, 3, 5),  # of more axes
        lambda found: torch.mul(found, torch.arange(5.0), out=torch.empty(4, 7, 3, 5)),
        lambda found: found.permute(0, 3, 2, 1) + images(4, 5, 3, 7),
        lambda found: torch.permute(found, dims=(0, 3, 1, 2)) + images(4, 5, 7, 3),
        lambda found: torch.permute(found, (0, -1, 1, 2)).permute(0, 3, 1, 2),
        lambda found: F.gelu(found.permute(0, 3, 1, 2)),
        lambda found: (found + images(4, 7, 3, 5)).permute(0, 3, 1, 2),
        lambda found: found.permute(0, 3, 1, 2) + torch.ones(4, 5, 7, 3),  # laid otherwise
        lambda found: (found * torch.arange(5.0)) * torch.arange(5.0) + found,
    ],
)
def test_what_looks_like_a_scale_or_a_turn(scaled: Callable[[Tensor], Tensor]) -> None:
    layer, given = nn.Linear(6, 5), images(4, 6, 7, 3).permute(0, 2, 3, 1)
    plain, fused = both(lambda: scaled(layer(given)))
    assert_close(fused, plain)


@pytest.mark.parametrize(
    ("wide", "gains", "inputs", "expected"),
    [(True, False, 512, True), (True, False, 513, False), (False, False, 9, False)]
    + [(True, True, 513, True)],
)
def test_where_onednn_joins_linear_layers(
    monkeypatch: pytest.MonkeyPatch, wide: bool, gains: bool, inputs: int, expected: bool
) -> None:
    monkeypatch.setattr(pending, "has_wide_vectors", lambda: wide)
    monkeypatch.setattr(pending, "gains", lambda: gains)
    assert pending.fuses(torch.empty(3, inputs)) is expected


POOLED: list[Callable[[Tensor], Tensor]] = [
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((1, 1)),
    lambda found: F.adaptive_avg_pool2d(found, output_size=[1, 1]),
    lambda found: found.mean((2, 3)),
    lambda found: found.mean([-1, -2], keepdim=True),
    lambda found: torch.mean(found, dim=(-2, 3)),
]
UNPOOLED: list[Callable[[Tensor], Tensor]] = [
    nn.AdaptiveAvgPool2d((1, 3)),
    lambda found: found.mean((1, 2)),
    lambda found: found.mean((0, 2, 3)),
    lambda found: found.mean(2),
    lambda found: found.mean((2, 3), True),
    lambda found: found.mean((2, 3), dtype=torch.float64).float(),
    lambda found: found.mean()[None],
    lambda found: F.relu(found).mean((2, 3)),
]


def mixed(
    given: Tensor, turned: bool, shortcut: Tensor | None, scale: Tensor | None = None
) -> Tensor:
    """The end of a block of ConvNeXt, by a linear layer or by a convolution of one place."""
    layer = nn.Linear(6, 5) if turned else nn.Conv2d(6, 5, 1)
    weights = torch.Generator().manual_seed(3)
    for weight in layer.parameters():
        nn.init.normal_(weight, generator=weights)
    found = layer(given.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if turned else layer(given)
    scale = torch.linspace(-1, 2, 5).reshape(1, -1, 1, 1) if scale is None else scale
    found = found * scale
    return found if shortcut is None else found + shortcut


@pytest.mark.parametrize("pool", POOLED + UNPOOLED)
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_a_mean_over_places_is_of_the_mean_place(
    done: Done, pool: Callable[[Tensor], Tensor], turned: bool, added: bool
) -> None:
    shortcut = images(4, 5, 7, 3, seed=1) if added else None
    plain, fused = both(lambda: pool(mixed(images(4, 6, 7, 3), turned, shortcut)))
    assert_close(fused, plain)
    assert fused.shape == plain.shape
    assert len(done) == (pool not in POOLED)


@pytest.mark.parametrize("pool", POOLED + UNPOOLED)
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_a_recorded_mean_over_places_and_its_slopes(
    done: Done, pool: Callable[[Tensor], Tensor], turned: bool, added: bool
) -> None:
    drawn = images(4, 6, 7, 3), images(4, 5, 7, 3, seed=1)
    scale = nn.Parameter(torch.linspace(-1, 2, 5))

    def run() -> tuple[Tensor, ...]:
        given, beside = (one.clone().requires_grad_() for one in drawn)
        inner = given * 1
        shortcut = beside * 1 if added else None
        found = pool(mixed(inner, turned, shortcut, scale.reshape(1, -1, 1, 1)))
        leaves = [given, beside] if added else [given]
        return found, *torch.autograd.grad(found.square().sum(), leaves)

    plain = run()
    with Fusing(fixed=True):
        fused = run()
    for found, wanted in zip(fused, plain, strict=True):
        assert_close(found, wanted)
        assert found.shape == wanted.shape
    assert len(done) == (pool not in POOLED)


def test_a_recorded_scale_that_is_of_the_image_keeps_its_slope() -> None:
    """As of squeeze-and-excitation: of one image it is of a scale's shape."""
    layer, drawn = nn.Conv2d(6, 6, 1), images(1, 6, 7, 3)

    def run() -> Tensor:
        given = drawn.clone().requires_grad_()
        inner = given * 1
        found = layer(inner) * inner.mean((2, 3), keepdim=True).sigmoid()
        (slope,) = torch.autograd.grad(found.square().sum(), given)
        return slope

    plain = run()
    with Fusing(fixed=True):
        assert_close(run(), plain)


def test_weights_of_which_gradients_are_asked_keep_them() -> None:
    layer, drawn = nn.Linear(6, 5), images(4, 7, 3, 6)
    scale = nn.Parameter(torch.linspace(-1, 2, 5))

    def run() -> tuple[Tensor, ...]:
        found = (layer(drawn) * scale).permute(0, 3, 1, 2).mean((2, 3))
        return torch.autograd.grad(found.square().sum(), [layer.weight, layer.bias, scale])

    plain = run()
    with Fusing():
        for found, wanted in zip(run(), plain, strict=True):
            assert_close(found, wanted)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, 3, padding=1),
        nn.Conv2d(6, 4, 1, padding=1),
        nn.Conv2d(6, 4, 1, stride=2),
        nn.Conv2d(6, 4, 1, groups=2),
    ],
)
def test_a_mean_over_places_of_what_looks_beside_them(done: Done, layer: nn.Conv2d) -> None:
    plain, fused = both(lambda: layer(images(4, 6, 7, 3)).mean((2, 3)))
    assert_close(fused, plain)
    assert len(done) == 1


@pytest.mark.parametrize(
    "run",
    [
        lambda rows: nn.Linear(6, 5)(rows).mean((-2, -1)),  # of rows, which have no places
        lambda rows: torch.add(input=rows, other=rows),
        lambda rows: torch.mul(input=rows, other=rows),
        lambda rows: torch.add(nn.Linear(6, 6)(rows), other=rows),
    ],
)
def test_rows_and_keywords(run: Callable[[Tensor], Tensor]) -> None:
    def seeded() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return run(images(4, 6))

    plain, fused = both(seeded)
    assert_close(fused, plain)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_network_that_asks_for_half_precision_has_it(recorded: bool) -> None:
    layer, given = nn.Linear(6, 5), images(4, 6)

    def run() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(given)

    with torch.set_grad_enabled(recorded), Fusing(fixed=True):
        found = run()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, run())


def test_what_was_put_off_before_half_precision_began_is_exact() -> None:
    given = images(2, 3, 9, 7)

    def run() -> Tensor:
        found = CONV(given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return found.sum((2, 3))

    plain, fused = both(run)
    assert_close(fused, plain)


def test_what_joins_while_nothing_is_recorded_joins_after_a_recorded_forward(done: Done) -> None:
    network, given = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU()), images(2, 3, 9, 7)
    with Fusing():
        network(given).sum()
    with torch.no_grad(), Fusing():
        network(given).sum()
    assert done == [(True, None, False), (True, "gelu", False)]


@pytest.mark.parametrize(
    "changed",
    [
        lambda found, turned: (found, turned.mul_(2.0)),
        lambda found, turned: (found, turned.mul_(torch.arange(5.0)[:, None, None])),
        lambda found, turned: (found.add_(1.0), turned),
        lambda found, turned: (found.mul_(torch.arange(5.0)), turned * torch.ones(5, 1, 1)),
        lambda found, turned: (found.add_(images(4, 7, 3, 5, seed=2).contiguous()), turned),
        lambda found, turned: (turned.add_(images(4, 5, 7, 3, seed=2)), found + 0),
        lambda found, turned: (F.relu(found, inplace=True), turned + images(4, 5, 7, 3)),
        lambda found, turned: (turned + images(4, 5, 7, 3), found.mul_(3.0)),
    ],
)
def test_what_is_turned_is_a_view(
    changed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    layer, given = nn.Linear(6, 5), images(4, 6, 7, 3).permute(0, 2, 3, 1)

    def run() -> Tensor:
        found = layer(given)
        turned = found.permute(0, 3, 1, 2)
        return torch.cat([part.flatten() for part in (*changed(found, turned), found, turned)])

    plain, fused = both(run)
    assert_close(fused, plain)


def test_what_was_turned_keeps_what_was_written_before_it_was_let_go() -> None:
    layer, given = nn.Linear(6, 5), images(4, 6, 7, 3).permute(0, 2, 3, 1)

    def run() -> Tensor:
        found = layer(given)
        turned = found.permute(0, 3, 1, 2)
        found.add_(1.0)
        del found
        return turned * torch.arange(5.0)[:, None, None] + images(4, 5, 7, 3)

    plain, fused = both(run)
    assert_close(fused, plain)


def test_a_scale_that_is_changed_afterwards(done: Done) -> None:
    layer, given, scale = nn.Linear(6, 5), images(4, 7, 6), torch.ones(5)

    def run() -> Tensor:
        scale.fill_(2.0)
        found = layer(given) * scale
        scale.fill_(3.0)
        return found + 0

    plain, fused = both(run)
    assert_close(fused, plain)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 3, stride=2, bias=False),
        nn.Conv2d(4, 8, (3, 1), padding=(2, 0), dilation=(2, 1), groups=2),
        nn.Conv2d(4, 4, 5, padding=2, groups=4),
        nn.Conv2d(4, 8, 1),
    ],
)
def test_every_geometry(done: Done, layer: nn.Conv2d) -> None:
    given, normed = images(2, 4, 11, 8), norm(layer.out_channels)
    plain, fused = both(lambda: F.relu(normed(layer(given))))
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    assert fused.is_contiguous(memory_format=torch.channels_last)
    assert done == [(True, "relu", False)]


def test_dropout_that_drops_nothing_does_not_part_them(done: Done) -> None:
    given = images(2, 3, 9, 7)
    plain, fused = both(lambda: F.gelu(F.dropout(CONV(given), 0.5, training=False)))
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    assert done == [(True, "gelu", False)]


def test_what_is_used_twice_is_the_same_twice() -> None:
    given = images(2, 3, 9, 7)

    def run() -> Tensor:
        found = CONV(given)
        return torch.cat([F.relu(found), found, F.relu(-found)], 1)

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_changes_in_place_are_seen_under_every_name() -> None:
    given, shortcut = images(2, 3, 9, 7), images(2, 8, 9, 7, seed=1)

    def run() -> Tensor:
        found = CONV(given)
        same = found
        found += shortcut
        F.relu(same, inplace=True)
        return torch.cat([found, same, found.detach()], 1)

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.mul_(3),
        lambda tensor: tensor.__setitem__(0, 2.0),
        lambda tensor: tensor.__imul__(2),
        lambda tensor: F.relu(tensor, inplace=True),
        lambda tensor: F.relu(tensor, True),
        lambda tensor: torch.neg(tensor, out=tensor),
        lambda tensor: tensor[:1].zero_(),
        lambda tensor: np.negative(tensor.detach().numpy(), out=tensor.detach().numpy()),
        lambda tensor: np.asarray(tensor.detach()).fill(2),
        lambda tensor: memset(tensor.data_ptr(), 0, tensor.nbytes),
        lambda tensor: np.from_dlpack(tensor.detach()).fill(2),
    ],
)
@pytest.mark.parametrize("of", ["input", "shortcut"])
def test_what_was_put_off_is_of_what_its_input_was_then(
    change: Callable[[Tensor], object], of: str
) -> None:
    def run() -> Tensor:
        given, shortcut = images(2, 3, 9, 7), images(2, 8, 9, 7, seed=1)
        found = CONV(given) + shortcut
        change(given if of == "input" else shortcut)
        return F.relu(found)

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "run",
    [
        lambda found: found + 1,
        lambda found: found + found,
        lambda found: found + images(2, 8, 1, 1),
        lambda found: found + images(2, 8, 9, 7).contiguous(),
        lambda found: torch.add(found, images(2, 8, 9, 7), alpha=2),
        lambda found: 2 - found,
        lambda found: F.relu(F.gelu(found)),
        lambda found: F.layer_norm(found.permute(0, 2, 3, 1), (8,)),
        lambda found: F.batch_norm(found, None, None, training=True),
        lambda found: norm(8)(F.relu(found)),
        lambda found: found[:, :3].exp().sum((1, 2)),
        lambda found: torch.stack([found, found]),
        lambda found: torch.einsum("bchw,bdhw->bcd", found, found),
        lambda found: found.contiguous().view(len(found), -1),
        lambda found: found.new_zeros(found.shape) + found.size(1) + found.ndim,
        lambda found: torch.from_numpy(found.numpy().copy()),
        lambda found: torch.tensor(found.tolist()),
        lambda found: found.double(),
        lambda found: found.to(memory_format=torch.contiguous_format),
        lambda found: nn.functional.interpolate(found, scale_factor=2),
    ],
)
def test_anything_else_computes_it(run: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)  # for norms that are made on the way
    given = images(2, 3, 9, 7)

    def whole() -> Tensor:
        torch.manual_seed(0)
        return run(CONV(given))

    plain, fused = both(whole)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
    assert not isinstance(fused, Pending)


def test_shapes_are_told_without_computing(done: Done) -> None:
    with torch.no_grad(), Fusing():
        found = CONV(images(2, 3, 9, 7))
        assert isinstance(found, Pending)
        assert found.shape == (2, 8, 9, 7)
        assert found.ndim == found.dim() == 4
        assert (len(found), found.size(1), found.numel()) == (2, 8, 1008)
        assert found.dtype == torch.float32
        assert found.is_floating_point()
        assert not done
    assert done == [(True, None, False)]  # at the end, for who kept it


def test_what_is_kept_outlives_it() -> None:
    given = images(2, 3, 9, 7)
    kept: list[Tensor] = []
    network = nn.Sequential(CONV, nn.ReLU())
    handle = network[0].register_forward_hook(lambda *called: kept.append(called[2]))
    with torch.no_grad(), Fusing():
        network(given)
    handle.remove()
    expected = CONV(given).detach()
    given.zero_()
    assert_close(kept[0].detach(), expected)
    assert_close(kept[0] * 2, expected * 2)
    assert "tensor" in repr(kept[0])


def test_what_is_kept_can_be_read_where_nothing_is_recorded() -> None:
    kept: list[Tensor] = []
    network = nn.Sequential(CONV, norm(8))
    handle = network[1].register_forward_hook(lambda *called: kept.append(called[2]))
    with Fusing():
        network(images(2, 3, 9, 7).requires_grad_())
    handle.remove()
    with torch.no_grad():
        assert_close(kept[0] + 0, network(images(2, 3, 9, 7)), rtol=1e-4, atol=1e-5)
    assert kept[0].requires_grad


def test_a_hook_that_reads_sees_the_layers_own_output() -> None:
    given, seen = images(2, 3, 9, 7), []
    network = nn.Sequential(CONV, norm(8), nn.ReLU(inplace=True))
    handles = [
        layer.register_forward_hook(lambda *called: seen.append(called[2].clone()))
        for layer in network
    ]
    both(lambda: network(given))
    for handle in handles:
        handle.remove()
    for plain, fused in zip(seen[:3], seen[3:], strict=True):
        assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_a_recorded_convolution_takes_its_norm_along(done: Done) -> None:
    layer, normed = nn.Conv2d(3, 8, 3, padding=1), norm(8)
    weights = [*layer.parameters(), *normed.parameters()]
    slopes = []
    for entered in (nullcontext(), Fusing()):
        given = images(2, 3, 9, 7).requires_grad_()
        with entered:
            found = F.relu(normed(layer(given)), inplace=True) + given[:, :1]
        slopes.append(torch.autograd.grad(found.square().sum(), [given, *weights]))
    for fused, plain in zip(slopes[1], slopes[0], strict=True):
        assert_close(fused, plain, rtol=1e-4, atol=1e-3)
    assert done == [(True, None, False)]


class Doubled(torch.autograd.Function):
    """A function of somebody's own, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        return given * 2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * 2


class Own(nn.Module):
    """Hands what a convolution gave to a function that autograd alone knows."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.norm, self.function = nn.Conv2d(3, 8, 3), norm(8), function

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.function(self.norm(self.first(pictures))).mean((2, 3))
        return found


@pytest.mark.parametrize(
    "function", [Doubled.apply, torch.ops.aten.tanh.default, lambda found: found.detach() * found]
)
@pytest.mark.parametrize("method", ["gradcam", "gradient"])
def test_no_gradient_is_lost_in_functions_of_ones_own(
    function: Callable[[Tensor], Tensor], method: str
) -> None:
    network, given = Own(function).eval(), images(2, 3, 40, 40)
    with as_written():
        plain = Explainer(network, method, "first")(given, 1).maps
    fused = Explainer(network, method, "first")(given, 1).maps
    largest = plain.abs().amax()
    assert largest > 0
    assert_close(fused / largest, plain / largest, rtol=1e-2, atol=1e-3)


def test_gradients_of_masks_are_the_same(done: Done) -> None:
    network, given = (
        nn.Sequential(CONV, norm(8), nn.ReLU(), nn.Flatten()).eval(),
        images(2, 3, 9, 7),
    )
    found = []
    for way in (as_written(), nullcontext()):
        masks = torch.full((2, 1, 9, 7), 0.5, requires_grad=True)
        classes, logits = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 504)
        scorer = Scorer(network, lambda output: output, given, classes, logits, 2)
        with way:
            given_logits = scorer.masked_logits(torch.arange(2), masks)
        found.append(
            (given_logits.detach(), *torch.autograd.grad(given_logits.square().sum(), masks))
        )
    for plain, fused in zip(*found, strict=True):
        assert_close(fused, plain, rtol=1e-3, atol=1e-4)
    assert done == [(True, None, False)]


def test_a_layer_that_nothing_joined_is_not_put_off_again(done: Done) -> None:
    given, layer = images(2, 3, 9, 7), nn.Conv2d(3, 8, 3)
    for _ in range(3):
        both(partial(_summed, layer, given))
    assert done == [(True, None, False)]
    del layer
    assert not pending._alone


def _summed(layer: nn.Module, given: Tensor) -> Tensor:
    return layer(given).sum()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "call",
    [
        lambda given: F.relu(F.conv2d(given, torch.zeros(8, 4, 3, 3))),
        lambda given: F.relu(F.conv2d(given, torch.zeros(8, 3, 30, 3))),
        lambda given: F.relu(F.conv2d(given, torch.zeros(8, 3, 3, 3), torch.zeros(7))),
        lambda given: F.relu(F.linear(given.contiguous(), torch.zeros(4, 6))),
    ],
)
def test_a_networks_mistakes_raise_as_ever(call: Callable[[Tensor], Tensor]) -> None:
    given = images(2, 3, 9, 7)
    with pytest.raises(RuntimeError) as plain, torch.no_grad():
        call(given)
    with pytest.raises(RuntimeError) as fused, torch.no_grad(), Fusing():
        call(given)
    assert str(fused.value) == str(plain.value)


class Reaching(nn.Module):
    """Changes a tensor where no function of torch is seen to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.runs = nn.Conv2d(3, 8, 3, padding=1), 0

    def forward(self, pictures: Tensor) -> Tensor:
        self.runs += 1
        own = pictures.clone()
        found = self.first(own)
        with torch._C.DisableTorchFunction():
            own.zero_()
        return F.relu(found).mean((2, 3))


def test_what_changes_unseen_is_run_as_it_is() -> None:
    network, given = Reaching().eval(), images(2, 3, 9, 7)
    with torch.no_grad():
        expected = network(given)
    classifier = Classifier.from_module(network)
    network.runs = 0
    assert_close(classifier.logits(given), expected)
    assert network.runs == 2
    assert_close(classifier.logits(given), expected)
    assert network.runs == 3


def test_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    given = images(2, 3, 9, 7)
    assert pays(given)
    assert not pays(given.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pays(given)
    torch.vmap(lambda one: one + len([0 for _ in range(pays(one))]))(given)
    monkeypatch.setattr(mode, "FEWEST_INPUTS", given.numel() + 1)
    assert not pays(given)


NETWORKS = (
    "resnet18",
    "test_convnext",
    "test_vit",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "regnetx_002",
    "resnetv2_50",
    "ghostnet_050",
    "test_byobnet",
    "hrnet_w18_small",
    "dla34",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_gives_the_same(done: Done, name: str) -> None:
    torch.manual_seed(0)
    network = imports.timm().create_model(name, num_classes=5).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(0, 0.1)
    given = images(2, 3, *(160, 160) if name.startswith("test") else (64, 64))
    classifier = Classifier.from_module(network)
    explainer = Explainer(classifier, batch_size=2)
    with as_written():
        plain, logits = explainer(given, 2), classifier.logits(given)
    assert not done
    fused = explainer(given, 2)
    assert done
    assert_close(classifier.logits(given), logits, rtol=1e-3, atol=1e-4)
    assert_close(fused.logits, plain.logits, rtol=1e-3, atol=1e-4)
    assert_close(fused.normalized(), plain.normalized(), rtol=1e-2, atol=1e-3)


def test_scripted_parts_are_given_numbers() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self.act = torch.jit.script(nn.Hardsigmoid())

        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = self.act(self.first(pictures))
            return found.mean((2, 3))

    network, given = Half().eval(), images(2, 3, 9, 7)
    plain, fused = both(lambda: network(given))
    assert_close(fused, plain)


def test_looking_for_layers_leaves_no_layer_alone() -> None:
    """It taps them all, so that nothing can join them; the network's own runs are judged alone."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU())
    network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).eval()
    assert candidates(network, images(1, 3, 16, 16), read=lambda output: output)
    assert not pending._alone


class Checkpointed(nn.Module):
    """Runs its layers again in the backward, by a hand of its own."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return checkpoint(self.layers, images, use_reentrant=False)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_checkpoint_saves_the_tensors_that_its_backward_makes_again(fixed: bool) -> None:
    wide = nn.Linear(8, 300)  # times 300 places: large enough for a function of its own
    mixed = Checkpointed(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Flatten(2), Turned(), wide)
    mixed.requires_grad_(not fixed)

    def slope() -> Tensor:
        given = images(8, 3, 32, 32).requires_grad_()
        with Fusing(fixed=fixed):
            score = mixed(given).square().sum()
        (found,) = torch.autograd.grad(score, given)
        return found

    assert_close(slope(), slope())  # alone or not: what was noted changes nothing
    plain = images(8, 3, 32, 32).requires_grad_()
    (expected,) = torch.autograd.grad(mixed(plain).square().sum(), plain)
    assert_close(slope(), expected)


class Turned(nn.Module):
    """Places in rows."""

    def forward(self, images: Tensor) -> Tensor:
        return images.transpose(1, 2)


@pytest.mark.parametrize("give", [Tensor.numpy, np.asarray, np.from_dlpack])
def test_numbers_of_what_waits_are_handed_out_too(give: Callable[[Tensor], np.ndarray]) -> None:
    second = nn.Conv2d(8, 8, 1).eval()

    def run() -> Tensor:
        found = CONV(images(2, 3, 9, 7))
        numbers = give(found)
        then = second(found)
        numbers[:] = 0
        return then

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_numbers_that_were_handed_out_before_may_change_at_any_time() -> None:
    def run() -> Tensor:
        given = images(2, 3, 9, 7)
        numbers = given.numpy()
        found = CONV(given)
        numbers[:] = 0
        return F.relu(found) + CONV(given)

    plain, fused = both(run)
    assert_close(fused, plain, rtol=1e-4, atol=1e-5)
