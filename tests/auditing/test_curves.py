import math

import pytest
import torch

from mitate.auditing.curves import (
    CURVES,
    FRACTIONS,
    early,
    mean_height,
    over_fraction,
    over_logarithm,
)
from oracles import metrics


def test_both_ends_are_on_the_curve():
    assert (FRACTIONS[0], FRACTIONS[-1]) == (0, 1)
    assert list(FRACTIONS) == sorted(set(FRACTIONS))
    assert all(0 <= fraction <= 1 for places in CURVES.values() for fraction in places)


def test_by_hand():
    curve = torch.tensor([[1.0, 0.5, 0.0], [0.2, 0.2, 0.2]])
    assert mean_height(curve, (0, 0.25, 1)).tolist() == pytest.approx([0.1875 + 0.1875, 0.2])


def test_the_number_of_steps_does_not_matter():
    few, many = (0.0, 1.0), tuple(step / 50 for step in range(51))
    line = torch.tensor([[1 - 0.8 * place for place in many]])
    assert mean_height(line, many).item() == pytest.approx(0.6)
    assert mean_height(line[:, [0, -1]], few).item() == pytest.approx(0.6)


def test_against_plain_trapezoids():
    curve = torch.rand(3, len(FRACTIONS), generator=torch.Generator().manual_seed(0))
    logs = [math.log(fraction) for fraction in FRACTIONS[1:]]
    for row, whole, log, first in zip(
        curve.tolist(),
        over_fraction(curve).tolist(),
        over_logarithm(curve).tolist(),
        early(curve).tolist(),
        strict=True,
    ):
        assert whole == pytest.approx(metrics.trapezoids(row, FRACTIONS))
        assert log == pytest.approx(metrics.trapezoids(row[1:], logs))
        assert first == pytest.approx(metrics.trapezoids(row[:9], FRACTIONS[:9]))


def test_a_fall_in_the_first_hundredth_counts_early_and_in_the_logarithm():
    sudden = torch.tensor([[1.0 if fraction < 0.01 else 0.0 for fraction in FRACTIONS]])
    slow = torch.tensor([[1.0 if fraction < 0.05 else 0.0 for fraction in FRACTIONS]])
    assert (over_fraction(slow) - over_fraction(sudden)).item() < 0.05
    assert (over_logarithm(slow) - over_logarithm(sudden)).item() > 0.2
    assert (early(slow) - early(sudden)).item() > 0.1
