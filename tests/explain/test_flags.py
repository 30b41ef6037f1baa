import pytest
import torch
from torch import nn

from mitate import Explainer
from mitate.explain.flags import NOTHING, REASONS, UNSEEN, find_flags, unseen


def test_maps_that_say_nothing_are_flagged_with_the_reason() -> None:
    maps = torch.rand(2, 3, 2, 2)
    maps[0, 1] = 0
    maps[0, 2] = 0.3
    maps[1, 0, 0, 0] = float("nan")
    maps[1, 2] = float("inf")
    found = [(f.image, f.target, f.kind, f.reason) for f in find_flags(maps)]
    assert found == [
        (0, 1, "zero", REASONS["zero"]),
        (0, 2, "constant", REASONS["constant"]),
        (1, 0, "not finite", REASONS["not finite"]),
        (1, 2, "not finite", REASONS["not finite"]),
    ]


def test_a_layer_without_gradient_is_told() -> None:
    gradients = torch.rand(1, 3, 4, 2, 2) - 0.5
    gradients[0, 1] = 0
    blind = unseen(gradients)
    assert blind.tolist() == [[False, True, False]]
    flags = find_flags(torch.zeros(1, 3, 2, 2), blind)
    assert [flag.reason for flag in flags] == [REASONS["zero"], UNSEEN, REASONS["zero"]]


@pytest.mark.parametrize(
    ("method", "weight", "reason"),
    [("gradcam", -1, REASONS["zero"]), ("occlusion", 0, NOTHING), ("reciprocam", 0, NOTHING)],
)
def test_a_zero_map_is_told_in_the_methods_own_words(
    method: str, weight: float, reason: str
) -> None:
    """All that is positive speaks against the class, or nothing speaks of it."""
    layers = nn.Conv2d(3, 4, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(4, 2)).eval()
    nn.init.constant_(network[-1].weight, weight)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    (flag,) = Explainer(network, method)(images, targets=[0]).flags
    assert (flag.kind, flag.reason) == ("zero", reason)


def test_signed_and_tiny_maps_are_fine() -> None:
    maps = torch.tensor([[[[-1.0, 1.0]], [[1e-30, 0.0]], [[-2.0, -1.0]]]])
    assert find_flags(maps) == ()
