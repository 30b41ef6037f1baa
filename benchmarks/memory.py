"""How much more memory Score-CAM takes than a plain forward, at a layer of so many channels.

python -m benchmarks.memory CHANNELS    prints MiB
"""

import resource
import sys

import torch
from torch import nn

from mitate import Classifier, Explainer

BATCH = 16


def main(channels: int) -> None:
    """Print the difference of two peaks."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=16, padding=3),
        nn.ReLU(),
        nn.Conv2d(16, channels, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    ).eval()
    images = torch.randn(BATCH, 3, 224, 224)
    with torch.no_grad():
        network(images)
    before = _peak()
    explain = Explainer(
        Classifier.from_module(network), "scorecam", "2", batch_size=BATCH, show_progress=False
    )
    explain(images[:1])
    print(_peak() - before)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
