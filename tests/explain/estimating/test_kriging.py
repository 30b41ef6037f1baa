"""Kriging beside its textbook form, point by point."""

import math

import pytest
import torch

from mitate.explain.estimating import kriging


def made(points: int = 14, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    where = torch.rand(points, 3, generator=generator, dtype=torch.float64)
    features = torch.rand(points, 2, generator=generator, dtype=torch.float64)
    known = torch.arange(points) % 4 != 1
    return where, features, known


def covariance(points: torch.Tensor, features: torch.Tensor, reach: float) -> torch.Tensor:
    """Rasmussen and Williams 2006, eq. 4.17 and 4.27, one entry at a time."""
    pairs = [
        sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True))
        for one in points
        for other in points
    ]
    # Of two independent draws from the points: every point with every one, itself too, counts once;
    # the unbiased variance leaves the m pairs with themselves out.
    apart = math.sqrt(sum(pairs) / (len(points) * (len(points) - 1)))
    standard = (features - features.mean(0)) / features.std(0)
    entries = []
    for pair, square in enumerate(pairs):
        i, j = divmod(pair, len(points))
        far = math.sqrt(3) * math.sqrt(square) / apart / reach
        line = 1 + sum(float(a) * float(b) for a, b in zip(standard[i], standard[j], strict=True))
        entries.append((1 + far) * math.exp(-far) + kriging.LINEAR * line)
    return torch.tensor(entries, dtype=torch.float64).reshape(len(points), len(points))


def left_out(
    matrix: torch.Tensor, values: torch.Tensor, at: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance at one point from all the others (eq. 2.25-2.26)."""
    rest = [i for i in range(len(matrix)) if i != at]
    weights = torch.linalg.solve(matrix[rest][:, rest], matrix[rest][:, at])
    return weights @ values[rest], matrix[at, at] - weights @ matrix[rest][:, at]


def test_it_is_the_textbooks() -> None:
    points, features, known = made()
    values = torch.stack([points[known].sin().sum(1), features[known].prod(1)], 1)
    centred = values - values.mean(0)
    best, chosen = -math.inf, None
    for reach in kriging.REACHES:
        whole = covariance(points, features, reach)
        for noise in kriging.NOISES:
            matrix = whole[known][:, known] + noise * torch.eye(len(values))
            found = [left_out(matrix, centred, i) for i in range(len(values))]
            z = torch.stack(
                [(centred[i] - mean) / variance.sqrt() for i, (mean, variance) in enumerate(found)]
            )
            scale = z.square().mean(0)
            likely = sum(
                float(torch.distributions.Normal(m, (v * s).sqrt()).log_prob(centred[i, k]))
                for i, (mean, v) in enumerate(found)
                for k, (m, s) in enumerate(zip(mean, scale, strict=True))
            )
            if likely > best:
                best, chosen = likely, (reach, noise, scale.sqrt())
    reach, noise, scale = chosen
    matrix = covariance(points, features, reach)
    between = matrix[~known][:, known]
    inverse = torch.linalg.inv(matrix[known][:, known] + noise * torch.eye(int(known.sum())))
    left = matrix[~known][:, ~known] - between @ inverse @ between.T
    left = left + noise * torch.eye(len(left))
    guess = kriging.guessed(points, features, known, values)
    torch.testing.assert_close(guess.mean, values.mean(0) + between @ inverse @ centred)
    deviation = left.diagonal().sqrt()
    torch.testing.assert_close(guess.deviation, deviation[:, None] * scale)
    torch.testing.assert_close(guess.root @ guess.root.T, left / deviation / deviation[:, None])


def test_it_goes_on_along_straight_lines_of_the_features() -> None:
    points, features, known = made(40)
    values = (features * torch.tensor([2.0, -1.0])).sum(1, keepdim=True) + 5
    guess = kriging.guessed(points, features, known, values[known])
    torch.testing.assert_close(guess.mean, values[~known], rtol=0, atol=0.02)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_values_that_are_all_alike_are_foretold_for_certain(value: float) -> None:
    points, features, known = made()
    values = torch.full((int(known.sum()), 1), value, dtype=torch.float64)
    guess = kriging.guessed(points, features, known, values)
    torch.testing.assert_close(guess.mean, torch.full_like(guess.mean, value))
    assert (guess.deviation < 1e-6).all()


def test_points_that_are_all_one_point_say_nothing_of_distance() -> None:
    _, _, known = made()
    values = torch.arange(int(known.sum()), dtype=torch.float64)[:, None]
    alike = torch.ones(len(known), 2, dtype=torch.float64)
    guess = kriging.guessed(alike, alike, known, values)
    torch.testing.assert_close(guess.mean, values.mean().expand_as(guess.mean))
    assert guess.deviation.isfinite().all()
