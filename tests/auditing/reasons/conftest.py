"""A network whose reasons are known: its weights are set by hand."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing

NAMES = ("plain", "stamped", "spotted")
SIDE, PATCH = 32, 4


@dataclass(frozen=True)
class Planted:
    """Images in grey noise, some with a red corner or a blue spot, and a network that sees these.

    What is red anywhere makes an image ``stamped``, what is blue makes it ``spotted``, and what is
    neither is ``plain``.
    """

    classifier: Classifier
    images: Tensor
    labels: tuple[int, ...]
    masks: Tensor

    def explainer(self, method: str = "gradcam") -> Explainer:
        return Explainer(self.classifier, method, "1", show_progress=False)


def network() -> nn.Sequential:
    """Means of patches, how much redder and bluer than grey they are, and the sum of these."""
    made = nn.Sequential(
        nn.Conv2d(3, 3, PATCH, stride=PATCH),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 3),
    )
    excess = torch.tensor([[1.0, 1.0, 1.0], [2.0, -1.0, -1.0], [-1.0, -1.0, 2.0]])
    head = torch.tensor([[0.1, 0.0, 0.0], [0.0, 64.0, 0.0], [0.0, 0.0, 64.0]])
    with torch.no_grad():
        made[0].weight.copy_(excess[..., None, None].expand(3, 3, PATCH, PATCH) / PATCH**2)
        made[0].bias.copy_(torch.tensor([0.0, -0.4, -0.4]))
        made[4].weight.copy_(head)
        made[4].bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
    return made.eval()


def drawn(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Grey noise, and the place of one spot in each (not in the lower right corner) as a mask."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.rand(number, 1, SIDE, SIDE, generator=generator)
    images = (0.4 + 0.2 * grey).expand(-1, 3, -1, -1)
    masks = torch.zeros(number, SIDE, SIDE)
    places = torch.randint(0, SIDE // PATCH - 2, (number, 2), generator=generator).tolist()
    for mask, (row, column) in zip(masks, places, strict=True):
        mask[PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)] = 1
    return images.clone(), masks


def stamp(images: Tensor) -> None:
    """Print a red corner."""
    images[:, :, -PATCH:, -PATCH:] = torch.tensor([1.0, 0.1, 0.1])[:, None, None]


def spot(images: Tensor, masks: Tensor) -> None:
    """Paint the masks blue."""
    blue = torch.tensor([0.1, 0.1, 1.0])[:, None, None]
    images.copy_(torch.where(masks[:, None] > 0, blue, images))


@pytest.fixture
def planted() -> Planted:
    """Twelve plain images, twenty stamped and twelve spotted ones."""
    images, masks = drawn(44)
    stamp(images[12:32])
    spot(images[32:], masks[32:])
    names = Preprocessing((SIDE, SIDE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    classifier = Classifier(network(), NAMES, names)
    return Planted(classifier, images, (0,) * 12 + (1,) * 20 + (2,) * 12, masks)
