"""Layers of fixed weights: the gradients that autograd gives, by less work."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mitate import fixed
from mitate.fixed import fixed_gelu, fixed_linear, is_fixed


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SLOPES = {
    "alike": lambda: _random(3, 1, 1, 200).expand(3, 12, 10, 200),
    "alike, and as many numbers": lambda: _random(3, 1, 1, 200).expand(3, 12, 10, 200).clone(),
    "one place": lambda: torch.cat([_random(3, 1, 1, 200), torch.zeros(3, 1, 119, 200)], 2),
    "one place of one image": lambda: F.pad(_random(1, 1, 1, 200), (0, 0, 0, 119, 0, 0, 1, 1)),
    "half of them": lambda: torch.cat([_random(3, 1, 60, 200), torch.zeros(3, 1, 60, 200)], 2),
    "none": lambda: torch.zeros(3, 12, 10, 200),
    "all": lambda: _random(3, 12, 10, 200),
    "all but one alike": lambda: (
        _random(3, 1, 1, 200).expand(3, 12, 10, 200).index_fill(1, torch.tensor([5]), 0.5)
    ),
}


@pytest.mark.parametrize("kind", SLOPES)
def test_the_slope_of_fixed_weights(kind):
    slope = SLOPES[kind]()
    rows = _random(*slope.shape[:-1], 300, seed=1).requires_grad_()
    layer = nn.Linear(300, 200)
    output = fixed_linear(rows, layer.weight, layer.bias)
    torch.testing.assert_close(output, layer(rows))
    (gradient,) = torch.autograd.grad(output, rows, slope)
    wanted = slope.double() @ layer.weight.double()
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-4)
    assert gradient.shape == rows.shape


def test_places_that_are_alike_are_multiplied_once(monkeypatch):
    rows, weight = _random(3, 120, 300).requires_grad_(), _random(200, 300)
    output = fixed_linear(rows, weight)
    multiplied = []
    monkeypatch.setattr(fixed, "product", lambda a, b: (multiplied.append(len(a)), a @ b)[1])
    slopes = (SLOPES["alike"](), SLOPES["one place"](), SLOPES["all"]())
    for slope in slopes:
        torch.autograd.grad(output, rows, slope.reshape(3, 120, 200), retain_graph=True)
    assert multiplied == [3, 3, 360]


def test_fixed_weights_twice_differentiated():
    rows, weight = _random(2, 150, 300).requires_grad_(), _random(200, 300)
    curved = fixed_linear(rows, weight).square()
    (slope,) = torch.autograd.grad(curved.sum(), rows, create_graph=True)
    (again,) = torch.autograd.grad(slope.square().sum(), rows)
    exact = rows.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(
        (exact @ weight.double().t()).square().sum(), exact, create_graph=True
    )
    (wanted,) = torch.autograd.grad(wanted.square().sum(), exact)
    torch.testing.assert_close(again.double(), wanted, rtol=1e-3, atol=10.0)


def test_small_or_unrecorded_products_are_left_as_they_are():
    weight = _random(200, 300)
    small, large = _random(2, 5, 300).requires_grad_(), _random(3, 120, 300)
    assert not is_fixed(fixed_linear(small, weight).grad_fn)
    assert fixed_linear(large, weight).grad_fn is None
    assert is_fixed(fixed_linear(large.requires_grad_(), weight).grad_fn)
    with torch.no_grad():
        assert not fixed_linear(large, weight).requires_grad


def test_weights_that_are_made_of_the_input_keep_their_gradient():
    base, slopes = _random(300, 256, seed=2), []
    for run in (F.linear, fixed_linear):
        given = _random(512, 256, seed=1).requires_grad_()
        found = run(given, base * given.mean(0), given.sum() * torch.ones(300))
        slopes.append(torch.autograd.grad(found.square().mean(), given)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-4, atol=1e-6)


@pytest.fixture
def derivatives(monkeypatch):
    """Counts how often a GELU's derivative is computed."""
    calls = []
    back = torch.ops.aten.gelu_backward
    monkeypatch.setattr(
        fixed.torch.ops.aten,
        "gelu_backward",
        lambda *args, **named: (calls.append(named), back(*args, **named))[1],
    )
    return calls


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_gelus_derivative_is_computed_once(derivatives, approximate):
    given = (_random(3, 5, 40) * 3).requires_grad_()
    scores = fixed_gelu(given, approximate=approximate).square().flatten(1)
    exact = given.detach().double().requires_grad_()
    wanted = F.gelu(exact, approximate=approximate).square().flatten(1)
    for k in range(3):
        (slope,) = torch.autograd.grad(scores[:, k::7].sum(), given, retain_graph=True)
        (expected,) = torch.autograd.grad(wanted[:, k::7].sum(), exact, retain_graph=True)
        torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-5)
    assert derivatives == [{"approximate": approximate}]


def test_a_gelu_twice_differentiated():
    given = _random(2, 30).double().requires_grad_()
    assert torch.autograd.gradgradcheck(fixed_gelu, given)
    assert torch.autograd.gradcheck(fixed_gelu, given)


def test_an_unrecorded_gelu_is_left_as_it_is():
    given = _random(3, 40)
    assert fixed_gelu(given).grad_fn is None
    with torch.no_grad():
        assert not fixed_gelu(given.requires_grad_()).requires_grad
