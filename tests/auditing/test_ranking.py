import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.ranking import levels, ranks, tie_orders
from oracles import metrics


def orders(number: int, pixels: int) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in range(number)]
    return tie_orders(pixels, generators, torch.device("cpu"))


def test_by_hand():
    plane = torch.tensor([[[0.1, 5.0], [-2.0, 0.2]]])
    assert ranks(plane, orders(1, 4)).tolist() == [[[2, 0], [3, 1]]]


def test_equal_values_go_in_the_given_order():
    plane = torch.tensor([[[1.0, 0.0, 1.0], [1.0, 0.0, 2.0]]])
    given = torch.tensor([[5, 4, 3, 0, 1, 2]])
    assert ranks(plane, given).tolist() == [[[3, 5, 2], [1, 4, 0]]]


def test_a_constant_map_does_not_go_from_its_corner():
    found = ranks(torch.full((2, 8, 8), 0.1), orders(2, 64)).flatten(1)
    assert found.sort(1).values.tolist() == [list(range(64))] * 2
    assert found[0].tolist() != found[1].tolist() != list(range(64))
    assert torch.equal(found, orders(2, 64).argsort(1).argsort(1))


def test_a_constant_map_is_constant_after_interpolation():
    cells = torch.full((1, 1, 4, 6), 0.1)
    for exact in (cells, cells.double()):
        pixels = torch.nn.functional.interpolate(exact, (16, 24), mode="bilinear")[:, 0]
        assert not levels(pixels).any()


def test_what_interpolation_makes_of_equal_cells_is_equal():
    cells = torch.full((1, 1, 7, 7), 0.1) + 1e-9 * torch.rand(1, 1, 7, 7)
    cells[..., 3, 3] = 1
    pixels = torch.nn.functional.interpolate(cells, (50, 50), mode="bilinear")[:, 0]
    assert pixels.unique().numel() > levels(pixels).unique().numel()
    assert (levels(pixels)[0, :10] == 0).all()


@given(st.lists(st.integers(-3, 3), min_size=12, max_size=12), st.floats(0.01, 1000))
@settings(deadline=None)
def test_against_a_plain_sort_and_blind_to_scale(values, scale):
    plane = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 4)
    given = orders(1, 12)
    found = ranks(plane, given)
    listed = metrics.order(plane[0].tolist(), given[0].tolist())
    assert found.flatten()[listed].tolist() == list(range(12))
    assert torch.equal(ranks(scale * plane, given), found)
