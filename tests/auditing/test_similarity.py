import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.similarity import mean_ranks, pearson, spearman
from oracles import metrics

rows = st.lists(st.integers(-4, 4), min_size=6, max_size=6)


def test_by_hand():
    one, two = torch.tensor([[1.0, 2, 3]]), torch.tensor([[2.0, 4, 3]])
    assert pearson(one, two).item() == pytest.approx(0.5)
    assert pearson(one, one * 7 + 2).item() == pytest.approx(1)
    assert pearson(one, -one).item() == pytest.approx(-1)
    assert mean_ranks(torch.tensor([[3.0, 1, 3, 0]])).tolist() == [[2.5, 1, 2.5, 0]]


def test_a_constant_row_is_like_nothing():
    constant = torch.full((1, 2, 3), 0.1)
    other = torch.rand(1, 2, 3)
    assert pearson(constant, other).isnan().all()
    assert spearman(other, constant).isnan().all()


@given(rows, rows)
@settings(deadline=None)
def test_against_loops(one, two):
    first, second = (torch.tensor([row], dtype=torch.float64) for row in (one, two))
    if len(set(one)) == 1 or len(set(two)) == 1:
        assert pearson(first, second).isnan().all()
        return
    assert pearson(first, second).item() == pytest.approx(metrics.correlation(one, two))
    ranked = [
        [sum(v < value for v in row) + (row.count(value) - 1) / 2 for value in row]
        for row in (one, two)
    ]
    assert spearman(first, second).item() == pytest.approx(metrics.correlation(*ranked))


def test_ranks_do_not_see_the_scale():
    one, two = torch.rand(2, 9, dtype=torch.float64), torch.rand(2, 9, dtype=torch.float64)
    assert torch.equal(spearman(one, two), spearman(one.exp(), 3 * two))
