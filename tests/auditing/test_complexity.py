import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.auditing.complexity import area, entropy, sparseness
from oracles import metrics

plane = st.lists(st.floats(-9, 9, width=32), min_size=6, max_size=6)


def test_by_hand():
    one, even, half = [[1.0, 0], [0, 0]], [[2.0, 2], [2, 2]], [[0.0, 0], [3, -3]]
    maps = torch.tensor([one, even, half])
    assert sparseness(maps).tolist() == pytest.approx([0.75, 0, 0.5])
    assert entropy(maps).tolist() == pytest.approx([0, math.log(4), math.log(2)])
    assert area(maps).tolist() == pytest.approx([0.25, 1, 0.25])
    assert area(torch.tensor([[[1.0, 2, 3, 4, 5]]])).item() == pytest.approx(0.6)
    assert area(torch.tensor([[[1.0, 2, 3, 4, 5]]]), threshold=0.9).item() == pytest.approx(0.2)


def test_what_is_zero_everywhere_is_neither_simple_nor_complex():
    zero = torch.zeros(1, 2, 2)
    assert sparseness(zero).isnan().all()
    assert entropy(zero).isnan().all()
    assert area(zero).isnan().all()
    assert area(zero - 1).isnan().all()


@given(plane, st.floats(0.01, 100))
@settings(deadline=None)
def test_against_loops_and_blind_to_positive_scale(values, scale):
    maps = torch.tensor(values, dtype=torch.float64).reshape(1, 2, 3)
    if sum(map(abs, values)) < 1e-3:
        return
    assert sparseness(maps).item() == pytest.approx(metrics.gini(maps[0].tolist()), abs=1e-9)
    assert entropy(maps).item() == pytest.approx(metrics.entropy(maps[0].tolist()), abs=1e-9)
    for found in (sparseness, entropy):
        assert found(scale * maps).item() == pytest.approx(found(maps).item(), abs=1e-9)
