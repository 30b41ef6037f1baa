"""What maps cost over one plain forward: as they are, as a static graph, and compiled.

python -m benchmarks.compiled [--quick]    prints the tables; --quick takes small networks
python -m benchmarks.compiled WORK NETWORK LAYER IMAGES    prints the MiB that one work takes more
"""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import mitate
from benchmarks import peers
from benchmarks.memory import peak
from benchmarks.methods import CHEAP, Case, forward
from benchmarks.timing import best_seconds
from mitate import Classifier, Explainer
from mitate.explain.methods import METHODS, Method

K = 3
SMALL = (Case("test_convnext", "stages.3", 2), Case("test_resnet", "layer4", 2))
GRADCAM, GRADIENTS, EIGENCAM, COMPILED = 1.15, 1.3, 1.1, 0.9  # wanted at most, x one forward
Explain = Callable[[Tensor, int], object]
PEERS = {"torchcam": peers.torchcam, "captum": peers.captum, "grad-cam": peers.grad_cam}


def tables(quick: bool = False) -> Iterator[str]:
    """Every table of this file."""
    cases = SMALL if quick else CHEAP
    for case in cases:
        yield from speed(case, 1 if quick else 4)
    yield from growth(quick)
    for case in cases:
        yield from memory(case)


def speed(case: Case, rounds: int) -> Iterator[str]:
    """Methods that take one backward a class, and Eigen-CAM, beside what is wanted of them."""
    network, _, images = case.made()
    model = Classifier.from_module(network)
    works: dict[str, tuple[Explain, float | None]] = {}
    for name, wanted in _wanted().items():
        explainer = Explainer(model, name, case.layer, batch_size=case.images)
        works[f"`{name}`"] = explainer, wanted
    for backend, bound in (("eager", None), ("inductor", COMPILED)):
        for name in ("gradcam", "eigencam"):
            compiled = mitate.compile(
                model, name, case.layer, K, backend=backend, batch_size=case.images
            )
            told = bound if name == "gradcam" else None
            works[f"`{name}`, static graph, {backend}"] = compiled, told
    yield ""
    place = f"{case.network} at `{case.layer}`"
    yield f"## One forward and its maps: {place}, top {K}, {case.images} images"
    yield ""
    yield "| | x one plain forward | wanted at most |"
    yield "| --- | --- | --- |"
    for name, (explain, most) in works.items():
        print(f"{case.network} {name}", file=sys.stderr)
        plain = {"plain": partial(forward, network, images)}
        seconds = best_seconds({**plain, name: partial(explain, images, K)}, rounds)
        yield f"| {name} | {seconds[name] / seconds['plain']:.2f} | {most or ''} |"


def growth(quick: bool) -> Iterator[str]:
    """Score-CAM of more images and of more classes, over that of one image and one class."""
    case = Case("test_resnet" if quick else "resnet18", "layer4", 4)
    network, _, images = case.made()
    explain = Explainer(
        Classifier.from_module(network), "scorecam", case.layer, show_progress=False
    )
    works = {
        (number, classes): partial(explain, images[:number], classes)
        for number in (1, 2, 4)
        for classes in (1, 3, 10)
    }
    named = {str(key): work for key, work in works.items()}
    seconds = best_seconds(named, 1 if quick else 2)
    yield ""
    yield f"## Score-CAM of more images and classes: {case.network} at `{case.layer}`"
    yield ""
    yield "Ratio to one image and one class."
    yield ""
    yield "| images | 1 class | 3 classes | 10 classes |"
    yield "| --- | --- | --- | --- |"
    for number in (1, 2, 4):
        row = [seconds[str((number, classes))] / seconds["(1, 1)"] for classes in (1, 3, 10)]
        yield f"| {number} | " + " | ".join(f"{ratio:.2f}" for ratio in row) + " |"


def memory(case: Case) -> Iterator[str]:
    """Peak memory of Grad-CAM beside the peers, each in its own process."""
    yield ""
    yield f"## Peak memory of Grad-CAM: {case.network} at `{case.layer}`, {case.images} images"
    yield ""
    yield "Resident memory over that of a forward under `no_grad`; the least of three runs."
    yield ""
    yield "| | MiB more |"
    yield "| --- | --- |"
    for work in ("mitate", "mitate, static graph", *PEERS):
        given = [work, case.network, case.layer, str(case.images)]
        command = [sys.executable, "-m", "benchmarks.compiled", *given]
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)
        ]
        yield f"| {work} | {min(float(run.stdout) for run in runs):.0f} |"


def more(work: str, case: Case) -> float:
    """MiB of a work's peak over a forward's, once everything is imported, traced and warm."""
    network, layer, images = case.made()
    explain = _work(work, network, layer, case)
    explain(images, K)
    _forget_peak()
    with torch.no_grad():
        network(images)
    before = peak()
    _forget_peak()
    explain(images, K)
    return peak() - before


def _forget_peak() -> None:
    """Let the peak be what is in use now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _work(work: str, network: nn.Module, layer: nn.Module, case: Case) -> Explain:
    model = Classifier.from_module(network)
    if work == "mitate":
        return Explainer(model, "gradcam", case.layer, batch_size=case.images)
    if work == "mitate, static graph":
        return mitate.compile(model, "gradcam", case.layer, batch_size=case.images)
    return partial(PEERS[work], network, layer)


def _wanted() -> dict[str, float]:
    """What each method may take at most."""
    backward = [name for name, method in METHODS.items() if _is_one_backward(method)]
    return {**dict.fromkeys(backward, GRADIENTS), "gradcam": GRADCAM, "eigencam": EIGENCAM}


def _is_one_backward(method: Method) -> bool:
    return method.family == "gradients" and method.cost.per_class == 2


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) == 5:
        print(more(sys.argv[1], Case(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        print("\n".join(tables("--quick" in sys.argv)))
