"""What a step of loupe costs beside a plain one, and a batch of 16 beside its steps.

python -m benchmarks.loupe_steps [NAME …]    prints a table

A step is a forward of masked images and the gradient of a class for the masks, 16 images at once:
*plain* calls the network as it is; *inductor* what ``torch.compile`` makes of it; *mitate* what
loupe runs; weights need no gradient. The last column is the whole of loupe, twelve steps of one
class with its start and none of them saved, over what it says that it cost (``Explanation.cost``, a
step being three forwards) in mitate's own steps. Best of several rounds, by turns, in one process.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.timing import best_seconds
from mitate import Classifier, Explainer, imports
from mitate.demo import ARGUMENTS, MODEL
from mitate.explain.methods import loupe
from mitate.explain.scorer import Scorer

IMAGES, CLASSES, STEPS, ROUNDS = 16, 5, 12, 4
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "mobilenetv2_100": ("mobilenetv2_100", {}, (128, 256)),
    "resnet50": ("resnet50", {}, (160, 160)),
    "efficientnet_b0": ("efficientnet_b0", {}, (160, 160)),
    "the demo's ConvNeXt": (MODEL, ARGUMENTS, (128, 256)),
    "convnext_atto": ("convnext_atto", {}, (128, 128)),
    "vit_tiny_patch16_224": ("vit_tiny_patch16_224", {}, (224, 224)),
}


@patch.object(loupe, "PATIENCE", STEPS + 1)  # none is saved, of masks without a slope either
def main(*names: str) -> None:
    """Print a line a network."""
    warnings.simplefilter("ignore")
    print("| network | size | inductor / plain step | mitate / plain step | loupe / its steps |")
    print("| --- | --- | --- | --- | --- |")
    for name in names or NETWORKS:
        model, arguments, size = NETWORKS[name]
        torch.manual_seed(0)
        network = imports.timm().create_model(model, num_classes=CLASSES, **arguments)
        network.eval().requires_grad_(False)
        compiled, own, whole = ratios(network, torch.randn(IMAGES, 3, *size))
        print(
            f"| {name} | {size[0]} x {size[1]} | {compiled:.2f} | {own:.2f} | {whole:.2f} |",
            flush=True,
        )


def ratios(network: nn.Module, images: Tensor) -> tuple[float, float, float]:
    """Of a compiled and of mitate's step over a plain one, and of loupe over its steps."""
    classifier = Classifier.from_module(network)
    explainer = Explainer(classifier, "loupe", steps=STEPS, batch_size=IMAGES, show_progress=False)
    logits = classifier.logits(images)
    classes = logits.argmax(1, keepdim=True)
    scorer = Scorer(network, classifier.read, images, classes, logits, IMAGES)
    owners = torch.arange(IMAGES)
    behind = images.mean((-2, -1), keepdim=True).expand_as(images)

    def masked(run: Callable[[Tensor], Tensor], masks: Tensor) -> Tensor:
        return run(torch.lerp(behind, images, masks))

    def step(forward: Callable[[Tensor], Tensor]) -> Tensor:
        masks = torch.full((IMAGES, 1, *images.shape[-2:]), 0.5, requires_grad=True)
        return torch.autograd.grad(forward(masks).gather(1, classes).sum(), masks)[0]

    compiled = partial(step, partial(masked, torch.compile(network, dynamic=False)))
    compiled()  # which takes a minute
    own = partial(scorer.masked_logits, owners, behind=behind)
    seconds = best_seconds(
        {
            "plain": partial(step, partial(masked, network)),
            "inductor": compiled,
            "mitate": partial(step, own),
            "loupe": partial(explainer, images, top_k=1),
        },
        ROUNDS,
    )
    spent = explainer(images, top_k=1).cost / 3 * seconds["mitate"]
    return (
        seconds["inductor"] / seconds["plain"],
        seconds["mitate"] / seconds["plain"],
        seconds["loupe"] / spent,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
