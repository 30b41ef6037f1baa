"""Every method beside every peer that has it, as ratios to one plain forward of the batch.

python -m benchmarks.methods [NAME …]    prints the tables, of some methods or of all
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.timing import best_seconds
from mitate import Classifier, Explainer, imports
from mitate.errors import LayerError
from mitate.explain.methods import METHODS

K = 3
COLUMNS = ("torchcam", "grad-cam", "captum")
RUN = {"torchcam": peers.torchcam, "grad-cam": peers.grad_cam, "captum": peers.captum}
# The names that peers give to a method: torchcam 0.5.0, grad-cam 1.5.7, captum 0.9.0.
THEIRS: dict[str, dict[str, str]] = {
    "cam": {"torchcam": "CAM"},
    "gradcam": {"torchcam": "GradCAM", "grad-cam": "GradCAM", "captum": "LayerGradCam"},
    "hirescam": {"grad-cam": "HiResCAM"},
    "elementwise": {"grad-cam": "GradCAMElementWise"},
    "layercam": {"torchcam": "LayerCAM", "grad-cam": "LayerCAM"},
    "xgradcam": {"torchcam": "XGradCAM", "grad-cam": "XGradCAM"},
    "gradcampp": {"torchcam": "GradCAMpp", "grad-cam": "GradCAMPlusPlus"},
    "smoothgradcampp": {"torchcam": "SmoothGradCAMpp"},
    "shapleycam": {"grad-cam": "ShapleyCAM"},
    "eigencam": {"grad-cam": "EigenCAM"},
    "eigengradcam": {"grad-cam": "EigenGradCAM"},
    "kpcacam": {"grad-cam": "KPCA_CAM"},
    "fem": {"grad-cam": "FEM"},
    "fullgrad": {"grad-cam": "FullGrad"},
    "scorecam": {"torchcam": "ScoreCAM", "grad-cam": "ScoreCAM"},
    "ablationcam": {"grad-cam": "AblationCAM"},
    "sscam": {"torchcam": "SSCAM"},
    "iscam": {"torchcam": "ISCAM"},
    "occlusion": {"captum": "Occlusion"},
    "gradient": {"captum": "Saliency"},
    "inputxgradient": {"captum": "InputXGradient"},
    "integratedgradients": {"captum": "IntegratedGradients"},
    "guidedgradcam": {"captum": "GuidedGradCam"},
}
# As many windows as captum is given, or the other way round where the peer counts by default.
OPTIONS: dict[str, dict[str, Any]] = {"occlusion": {"window": 0.25, "stride": 0.125}}
MANY_FORWARDS = ("masked forwards", "perturbed")


@dataclass(frozen=True)
class Case:
    """A network, one of its layers, and how many images are explained at once."""

    network: str
    layer: str
    images: int

    def made(self) -> tuple[nn.Module, nn.Module, Tensor]:
        """The network, its layer and the images."""
        torch.manual_seed(0)
        network = imports.timm().create_model(self.network).eval()
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.images, 3, 224, 224, generator=generator)
        return network, network.get_submodule(self.layer), images


CHEAP = (Case("convnext_tiny", "stages.3", 16), Case("resnet50", "layer4", 16))
BESIDE = tuple(Case(case.network, case.layer, 4) for case in CHEAP)  # peers go image by image
ATTENTIVE = Case("vit_small_patch16_224", "blocks.11.norm1", 4)
DEAR = Case("resnet18", "layer4", 1)
BEHIND = ("ablationcam", "reciprocam")  # of many forwards, but only behind the layer
BEHIND_A_LAYER = Case("convnext_tiny", "stages.3", 1)


def few_forwards(wanted: Sequence[str] = ()) -> Iterator[str]:
    """Methods of a few forwards, on batches."""
    few = [name for name in METHODS if not _dear(name)]
    attentive = [name for name in few if METHODS[name].family == "attention"]
    for case in BESIDE:
        yield from _table(case, [name for name in few if name not in attentive], wanted)
    yield from _table(ATTENTIVE, attentive, wanted)


def many_forwards(wanted: Sequence[str] = ()) -> Iterator[str]:
    """Methods of many forwards, on one image."""
    yield from _table(DEAR, [name for name in METHODS if _dear(name)], wanted)
    yield from _table(BEHIND_A_LAYER, BEHIND, wanted)


def _dear(name: str) -> bool:
    return METHODS[name].family in MANY_FORWARDS or bool(METHODS[name].cost.passes)


def _table(case: Case, every: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    names = [name for name in every if not wanted or name in wanted]
    if not names:
        return
    yield ""
    yield f"## {case.network} at `{case.layer}`, top {K}, {case.images} image(s)"
    yield ""
    yield f"| x one plain forward | mitate | {' | '.join(COLUMNS)} |"
    yield "| --- | --- | " + " | ".join("---" for _ in COLUMNS) + " |"
    for name in names:
        print(f"{case.network} {name}", file=sys.stderr)
        yield from _row(case, name)


def _row(case: Case, name: str) -> Iterator[str]:
    """One line; none where the method is not for such a network."""
    network, layer, images = case.made()
    options = OPTIONS.get(name, {})
    explainer = Explainer(
        Classifier.from_module(network),
        name,
        case.layer,
        show_progress=False,
        batch_size=16,
        **options,
    )
    works: dict[str, Callable[[], object]] = {"mitate": partial(explainer, images, K)}
    for peer, theirs in THEIRS.get(name, {}).items():
        works[peer] = partial(RUN[peer], network, layer, images, K, theirs)
    told = {}
    for peer, work in works.items():
        try:
            seconds = best_seconds({"plain": partial(forward, network, images), peer: work}, 2)
            told[peer] = f"{seconds[peer] / seconds['plain']:.2f}"
        except LayerError:
            return
        except Exception as exc:  # a peer that fails is told, and the others are measured
            told[peer] = f"fails: {type(exc).__name__}"
    cells = " | ".join(told.get(column, "") for column in ("mitate", *COLUMNS))
    yield f"| `{name}` | {cells} |"


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """One plain eager forward, as people write it: recording."""
    output: Tensor = network(images)
    return output


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in chain(few_forwards(sys.argv[1:]), many_forwards(sys.argv[1:])):
        print(line, flush=True)
