"""How much more memory Score-CAM takes than a plain forward, at a layer of so many channels.

python -m benchmarks.memory CHANNELS    prints MiB (Linux)
"""

import sys
from pathlib import Path

import torch
from torch import nn

from mitate import Classifier, Explainer

BATCH, PIXELS = 16, 224


def main(channels: int) -> None:
    """Print the difference of two peaks, once everything is imported and warm."""
    _explain(_network(8), 32)
    network = _network(channels)
    with torch.no_grad():
        network(torch.randn(BATCH, 3, PIXELS, PIXELS))
    before = peak()
    _explain(network, PIXELS)
    print(peak() - before)


def _network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=16, padding=3),
        nn.ReLU(),
        nn.Conv2d(16, channels, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    ).eval()


def _explain(network: nn.Module, pixels: int) -> None:
    explainer = Explainer(
        Classifier.from_module(network), "scorecam", "2", batch_size=BATCH, show_progress=False
    )
    explainer(torch.randn(1, 3, pixels, pixels))


def peak() -> float:
    """The largest resident memory of this process so far, in MiB.

    Not ``getrusage``: its peak is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
