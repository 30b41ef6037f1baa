"""Speed and memory of maps beside the peers. Writes benchmarks/RESULTS.md.

python -m benchmarks.maps [--quick] [PART …]    all parts, or some; the others stay as they were

Parts: gradcam, scorecam, memory, compiled; few and many: every method, by its forwards.
With ``--quick`` nothing is written.
"""

import argparse
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

import mitate
from benchmarks import compiled, methods, peers
from benchmarks.timing import best_seconds
from mitate import Classifier, Explainer, imports

LAYER = "stages.2.blocks.-1.conv_dw"
K = 3
RESULTS = Path(__file__).parent / "RESULTS.md"
MARK = "<!-- {} -->"  # before each part
HEADER = """# Maps beside the peers

Written by `make bench`. Every figure is a ratio of times in one process: the best of several rounds
in which the works take turns. A busy machine moves them by some percent. Networks are timm's with
random weights, images of 224 px, float32.
"""


def main() -> None:
    """Run the parts that were asked for, and write their results in the place of older ones."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.maps")
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"no part is called {', '.join(unknown)}: they are {', '.join(PARTS)}")
    kept = _earlier()
    for name in asked.parts or PARTS:
        lines = []
        for line in chain(PARTS[name](asked.quick), ("", f"Measured on {machine()}.")):
            print(line, flush=True)
            lines.append(line)
        kept[name] = "\n".join(lines)
        if not asked.quick:
            told = [
                f"{MARK.format(part)}\n{kept[part].strip()}\n" for part in PARTS if part in kept
            ]
            RESULTS.write_text("\n".join([HEADER, *told]), encoding="utf-8")


def machine() -> str:
    """What the figures were measured on."""
    level = torch.backends.cpu.get_cpu_capability()
    return f"{_processor()} ({level}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def _earlier() -> dict[str, str]:
    """The parts that were written before."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    _, *pieces = re.split(MARK.format(r"(\w+)"), text)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def gradcam(quick: bool) -> Iterator[str]:
    """Grad-CAM for the three most probable classes of a batch."""
    images = _images(4 if quick else 16)
    network = imports.timm().create_model("convnext_tiny", num_classes=1000).eval()
    layer = network.stages[2].blocks[-1].conv_dw
    explainer = Explainer(Classifier.from_module(network), layer=LAYER, batch_size=16)
    works = {
        "plain forward, recording (`network(x)`)": partial(network, images),
        "plain forward under `no_grad`": partial(_forward, network, images),
        "mitate": partial(explainer, images, K),
        "torchcam 0.5.0": partial(peers.torchcam, network, layer, images, K),
        "captum 0.9.0": partial(peers.captum, network, layer, images, K),
        "grad-cam 1.5.7": partial(peers.grad_cam, network, layer, images, K),
        "hook loop over images": partial(peers.hook_loop, network, layer, images, K),
    }
    seconds = best_seconds(works, 2 if quick else 4)
    recording = seconds["plain forward, recording (`network(x)`)"]
    silent = seconds["plain forward under `no_grad`"]
    yield ""
    yield f"## Grad-CAM, top {K}, batch of {len(images)}, ConvNeXt-Tiny at `{LAYER}`"
    yield ""
    yield "| | x one plain forward | x one forward under `no_grad` |"
    yield "| --- | --- | --- |"
    for name, time in seconds.items():
        yield f"| {name} | {time / recording:.2f} | {time / silent:.2f} |"


def scorecam(quick: bool) -> Iterator[str]:
    """Score-CAM for three classes, against the forwards that it cannot do without."""
    images = _images(1)
    network = imports.timm().create_model("convnext_tiny", num_classes=1000).eval()
    place = "stages.0" if quick else "stages.1"
    layer = network.get_submodule(place)
    model = Classifier.from_module(network)
    explainer = Explainer(model, "scorecam", place, show_progress=False)
    compiled_scorer = mitate.compile(
        model, "scorecam", place, backend="inductor", show_progress=False
    )
    channels = round(explainer(images, K).cost - 1)
    share = min(
        seconds / len(batch)
        for batch in (_images(8), _images(16), _images(32))
        for seconds in best_seconds({"": partial(_forward, network, batch)}, 3).values()
    )
    works: dict[str, Callable[[], object]] = {
        "mitate": partial(explainer, images, K),
        "mitate, compiled by inductor": partial(compiled_scorer, images, K),
        "torchcam 0.5.0": partial(peers.torchcam, network, layer, images, K, "ScoreCAM"),
        "grad-cam 1.5.7": partial(peers.grad_cam, network, layer, images, K, "ScoreCAM"),
    }
    seconds = best_seconds(works, 1 if quick else 2)
    yield f"## Score-CAM, top {K}, one image, ConvNeXt-Tiny at `{place}`, {channels} live channels"
    yield ""
    yield "Ratio to live channels x one image's share of the best batched forward (8, 16 or 32)."
    yield ""
    yield "| | ratio |"
    yield "| --- | --- |"
    for name, time in seconds.items():
        yield f"| {name} | {time / (channels * share):.2f} |"


def memory(_quick: bool) -> Iterator[str]:
    """Peak memory of Score-CAM at layers of more and more channels, each in its own process."""
    yield "## Peak memory of Score-CAM by channels"
    yield ""
    yield "Resident memory over that of the same network's plain forward, 224 px, batches of 16;"
    yield "the least of three runs."
    yield ""
    yield "| channels | MiB more |"
    yield "| --- | --- |"
    for channels in (64, 256, 1024):
        command = [sys.executable, "-m", "benchmarks.memory", str(channels)]
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)
        ]
        yield f"| {channels} | {min(float(run.stdout) for run in runs):.0f} |"


def _images(number: int) -> Tensor:
    return torch.randn(number, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def _forward(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = network(images)
    return output


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def few_forwards(quick: bool) -> Iterator[str]:
    """Every method of few forwards beside every peer that has it."""
    return methods.few_forwards(("gradcam", "eigencam") if quick else ())


def many_forwards(quick: bool) -> Iterator[str]:
    """Every method of many forwards beside every peer that has it."""
    return methods.many_forwards(("ablationcam",) if quick else ())


PARTS: dict[str, Callable[[bool], Iterator[str]]] = {
    "gradcam": gradcam,
    "scorecam": scorecam,
    "memory": memory,
    "compiled": compiled.tables,
    "few": few_forwards,
    "many": many_forwards,
}

if __name__ == "__main__":
    main()
