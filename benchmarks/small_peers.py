"""The peers' maps for ``benchmarks.small_things``, the likely best of each."""

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

import torch
from torch import Tensor

from benchmarks import peers
from mitate import Classifier
from mitate.explain.layers import automatic_pair

AT_LAYERS = (
    ("grad-cam", peers.grad_cam, ("GradCAM", "HiResCAM", "LayerCAM")),
    ("torchcam", peers.torchcam, ("LayerCAM",)),
)
OF_NO_LAYER = (
    ("grad-cam", peers.grad_cam, ("FullGrad",)),
    ("captum", peers.captum, ("IntegratedGradients", "Occlusion")),
)
BATCH = 16


def maps_of_peers(classifier: Classifier, inputs: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A name and maps (b, h, w) of the predicted classes, by peer, method and layer (early, last).

    grad-cam's lie at the image's pixels. Negative evidence counts for nothing, as in mitate's maps.
    What a peer cannot do on this network is left out and told.
    """
    network = classifier.network
    layers = automatic_pair(network, inputs[:1], read=classifier.read)
    runs = [
        (f"{peer}: {method}, `{layer.name}`", run, layer.place.module, method)
        for peer, run, methods in AT_LAYERS
        for method in methods
        for layer in layers
    ]
    runs += [
        (f"{peer}: {method}", run, layers[-1].place.module, method)
        for peer, run, methods in OF_NO_LAYER
        for method in methods
    ]
    for name, run, module, method in runs:
        try:
            with redirect_stdout(sys.stderr):  # where grad-cam says that FullGrad has no layers
                parts = [
                    run(network, module, part, 1, method) for part in torch.split(inputs, BATCH)
                ]
        except Exception as exc:  # whatever a peer raises is its answer
            print(f"{name} left out: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            continue
        made = torch.cat([torch.as_tensor(part)[:, 0] for part in parts])
        yield name, made.float().clamp(min=0).nan_to_num(0)
