"""Linear layers run as convolutions: the same numbers, and only where they should be."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mitate import linears
from mitate.linears import ConvolvedLinears, gains, quick_linears


@pytest.fixture
def convolutions(monkeypatch):
    """Counts the convolutions that linear layers were turned into."""
    calls = []
    convolve = F.conv2d
    monkeypatch.setattr(
        linears.F, "conv2d", lambda *args: (calls.append(args[0].shape), convolve(*args))[1]
    )
    return calls


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lead", [(600,), (2, 300), (2, 20, 15), (1, 1, 256)])
@pytest.mark.parametrize("biased", [True, False])
def test_gives_what_a_linear_layer_gives(convolutions, lead, biased):
    rows = _random(*lead, 256).requires_grad_()
    weight, bias = _random(256, 256, seed=1), _random(256, seed=2) if biased else None
    expected = F.linear(rows.double(), weight.double(), None if bias is None else bias.double())
    with ConvolvedLinears():
        output = F.linear(rows, weight, bias)
    assert len(convolutions) == 1
    assert output.is_contiguous()
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(output.square().sum(), rows)
    (wanted,) = torch.autograd.grad(expected.square().sum(), rows)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-1)


def test_rows_in_any_order_of_memory(convolutions):
    picture = _random(2, 256, 20, 15).permute(0, 2, 3, 1)
    weight = _random(256, 256, seed=1)
    with ConvolvedLinears():
        output = F.linear(picture, weight)
    assert len(convolutions) == 1
    torch.testing.assert_close(output, F.linear(picture, weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "weight"),
    [
        (_random(100, 512), _random(512, 512)),  # few rows
        (_random(600, 16), _random(16, 16)),  # little work
        (_random(600, 256).double(), _random(256, 256).double()),
        (_random(600, 256).bfloat16(), _random(256, 256).bfloat16()),
        (_random(0, 256), _random(256, 256)),
        (_random(40_000, 512), _random(512)),  # a vector of weights
    ],
)
def test_leaves_the_others_alone(convolutions, rows, weight):
    with ConvolvedLinears():
        output = F.linear(rows, weight)
    assert not convolutions
    assert torch.equal(output, F.linear(rows, weight))


def test_other_functions_are_as_they_were():
    rows = _random(600, 256)
    with ConvolvedLinears():
        assert torch.equal(F.gelu(rows, approximate="tanh"), F.gelu(rows, approximate="tanh"))


def test_modules_go_through_it(convolutions):
    network = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256)).eval()
    rows = _random(2, 300, 256)
    with torch.no_grad(), ConvolvedLinears():
        output = network(rows)
    assert len(convolutions) == 2
    with torch.no_grad():
        torch.testing.assert_close(output, network(rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("processor", "capability", "expected"),
    [
        ("vendor_id\t: AuthenticAMD", "AVX512", True),
        ("vendor_id\t: GenuineIntel", "AVX512", False),
        ("vendor_id\t: AuthenticAMD", "AVX2", False),
    ],
)
def test_only_where_it_gains(monkeypatch, processor, capability, expected):
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        pytest.skip("this torch has no MKL or no oneDNN")
    monkeypatch.setattr(linears, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    gains.cache_clear()
    try:
        assert gains() is expected
        with quick_linears():
            modes = torch.overrides._get_current_function_mode_stack()
        assert any(isinstance(mode, ConvolvedLinears) for mode in modes) is expected
        assert not torch.overrides._get_current_function_mode_stack()
    finally:
        gains.cache_clear()


@pytest.mark.parametrize("gaining", [True, False])
@pytest.mark.parametrize("laid", [lambda rows: rows, lambda rows: rows.t().contiguous().t()])
def test_products_with_a_weight_as_it_lies(monkeypatch, gaining, laid):
    """By oneDNN where it gains, whatever the order of rows in memory, and without it."""
    monkeypatch.setattr(linears, "gains", lambda: gaining)
    rows, weight = laid(_random(600, 256)), _random(256, 320, seed=1)
    exact = rows.double() @ weight.double()
    torch.testing.assert_close(linears.product(rows, weight).double(), exact, rtol=1e-4, atol=1e-4)
