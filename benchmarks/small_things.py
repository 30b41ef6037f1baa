"""Every method on small things: where its maps lie, what the class loses by them, and the cost.

python -m benchmarks.small_things [--quick] [--photos N] [--most N] [--methods NAME,…] [--peers]
                                  [CLASSIFIER DATA MASK_VALUE SPLIT]

Without arguments it takes the demo's paddy photos, and the coffee leaves, magnetic tiles and sample
photos beside this checkout, each by a MobileNetV2 that starts from ImageNet's weights and by the
demo's ConvNeXt. That one goes from one set to the next; of the sample photos it is taught by the
MobileNetV2 (benchmarks.distilling). What is not trained yet is trained under out/small, and the
tables are written to benchmarks/SMALL_THINGS.md; --photos takes another number of each than 80,
--most leaves out methods of more forwards an image, --methods all but some, and --peers adds the
peers' maps (of the extra ``peers``). With --quick it takes four photos and three methods and writes
nothing.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.distilling import PHOTOS as PHOTOS_BESIDE
from benchmarks.distilling import SHARED, WEIGHTS, pictures, taught_twice, teacher
from benchmarks.small_peers import maps_of_peers
from mitate import Classifier, Explainer
from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.localisation import energy_share, pointing
from mitate.auditing.redrawing import Redrawn
from mitate.auditing.similarity import spearman
from mitate.data.dataset import Record, read_dataset
from mitate.data.masks import MaskIndex
from mitate.demo import ARGUMENTS, MODEL, drawn, trained
from mitate.errors import MitateError
from mitate.explain.inputs import prepare
from mitate.explain.layers import Layer, automatic
from mitate.explain.methods import METHODS
from mitate.explain.methods.perturbed import blurred
from mitate.explain.scorer import Scorer
from mitate.jobs.photos import evenly, open_shot
from mitate.training import Supervision, fit

TRAINED, DEMO = Path("out/small"), Path("out/demo")
# Each set: its folder, the size of the input, the mask's value, and the column of its groups.
SETS: tuple[tuple[Path, int | tuple[int, int], int, str | None], ...] = (
    (DEMO / "paddy", 96, 2, None),
    (SHARED / "data" / "coffee_leaf", (128, 256), 2, None),
    (SHARED / "data" / "magnetic_tile", 192, 1, "part"),
)
RESULTS = Path(__file__).parent / "SMALL_THINGS.md"
PHOTOS, BATCH, MOST = 80, 16, 3000
# Halves of a fifth down to a 320th, where small things are decided, and tenths above it.
FRACTIONS = (
    0.0, 0.003125, 0.00625, 0.0125, 0.025, 0.05, 0.1, 0.15, 0.2,
    0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
)  # fmt: skip
EARLY = FRACTIONS.index(0.2) + 1
MEASURED = ("share", "pointing", "first 20 %", "deletion", "insertion")
RANDOMISED = ("another class", "new weights")  # rank correlations with the map as it is
COLUMNS = (*MEASURED, *RANDOMISED, "cost")
FEW = 8  # photos that are explained again for another class and by new weights
BETTER = {"share": 1, "pointing": 1, "first 20 %": -1, "deletion": -1, "insertion": 1}
OPTIONS: dict[str, dict[str, Any]] = {"rise": {"samples": 1000}}
OWN = ("glance", "loupe")
Columns = dict[str, np.ndarray]
UNTOLD: Columns = {column: np.full(FEW, np.nan) for column in RANDOMISED}


@dataclass(frozen=True)
class Photos:
    """A set to measure on: a classifier, photos that have a mask or none, and what marks it."""

    title: str
    classifier: Classifier
    records: Sequence[Record]
    masks: MaskIndex | None = None
    mask_value: int | None = None


def main() -> None:
    """Measure and write the tables."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("named", nargs="*", metavar="CLASSIFIER DATA MASK_VALUE SPLIT")
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--most", type=int, default=MOST, help="forwards an image")
    parser.add_argument("--methods", default=",".join(METHODS), help="by comma")
    parser.add_argument("--peers", action="store_true", help="their maps too")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    names = ("gradcam", *OWN) if given.quick else given.methods.split(",")
    sets = [_named(*given.named)] if given.named else list(_beside())
    lines = ["# Small things", "", "Written by `make bench-small`.", ""]
    for photos in sets:
        number = 4 if given.quick else given.photos
        lines += [*table(photos, names, number, given.most, given.peers), ""]
    print("\n".join(lines))
    if not given.named and not given.quick:
        RESULTS.write_text("\n".join(lines), encoding="utf-8")


def table(
    photos: Photos, names: Sequence[str], number: int, most: int, peers: bool = False
) -> Iterator[str]:
    """One row a method, and the true mask where there is one, for the predicted classes."""
    found: dict[str, Columns] = {}
    inputs, masks = _opened(photos, number)
    if masks is not None:
        found["the true mask"] = measured(photos.classifier, inputs, masks, masks, 0.0) | UNTOLD
    layer = automatic(photos.classifier.network, inputs[:1], read=photos.classifier.read)
    for name in names:
        explainer = Explainer(photos.classifier, name, show_progress=False, **OPTIONS.get(name, {}))
        try:
            if (forwards := price(explainer, layer)) > most:
                print(f"{photos.title}: {name} left out: {forwards:.0f} forwards", file=sys.stderr)
                continue
            made = explainer(inputs, top_k=1)
        except MitateError as exc:
            print(f"{photos.title}: {name} left out: {exc}", file=sys.stderr)
            continue
        maps = made.maps[:, 0]
        try:
            again = randomised(explainer, inputs[:FEW], made.logits[:FEW], maps[:FEW])
        except MitateError as exc:
            print(f"{photos.title}: {name} is not made again: {exc}", file=sys.stderr)
            again = UNTOLD
        found[name] = measured(photos.classifier, inputs, maps, masks, made.cost) | again
        print(f"{photos.title}: {name}", file=sys.stderr, flush=True)
    for name, maps in maps_of_peers(photos.classifier, inputs) if peers else ():
        found[name] = measured(photos.classifier, inputs, maps, masks, float("nan")) | UNTOLD
        print(f"{photos.title}: {name}", file=sys.stderr, flush=True)
    yield f"## {photos.title}: {len(inputs)} photos, means and 95 % intervals"
    yield ""
    yield f"| method | {' | '.join(COLUMNS)} |"
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    for name, columns in found.items():
        yield f"| {name} | {' | '.join(told(mean_interval(columns[c])) for c in COLUMNS)} |"
    yield ""
    yield from _against_the_best(found)


def price(explainer: Explainer, layer: Layer) -> float:
    """What an image costs at most, in forwards; those from the layer on are not counted."""
    grid, cost = layer.grid, explainer.method.cost
    return cost.of(grid.channels, 1, grid.height * grid.width, explainer.options, share=0)


def measured(
    classifier: Classifier, inputs: Tensor, maps: Tensor, masks: Tensor | None, cost: float
) -> Columns:
    """Each figure of each photo."""
    nothing = np.full(len(inputs), np.nan)
    share = nothing if masks is None else energy_share(maps, masks).numpy()
    hit = nothing if masks is None else pointing(_enlarged(maps, masks), masks).numpy()
    deleted, inserted = (curve(classifier, inputs, maps, inserts) for inserts in (False, True))
    places = torch.tensor(FRACTIONS)
    early = torch.trapezoid(deleted[:, :EARLY], places[:EARLY], dim=1) / places[EARLY - 1]
    return {
        "share": share,
        "pointing": hit,
        "first 20 %": early.numpy(),
        "deletion": torch.trapezoid(deleted, places, dim=1).numpy(),
        "insertion": torch.trapezoid(inserted, places, dim=1).numpy(),
        "cost": np.full(len(inputs), cost),
    }


def randomised(explainer: Explainer, inputs: Tensor, logits: Tensor, maps: Tensor) -> Columns:
    """Rank correlation of maps with those of the runner-up class, and of the same by new weights.

    About 1 for a map that knows nothing of the class, or of what the network has learned.
    """
    first, second = logits.topk(2).indices.unbind(1)
    other = explainer(inputs, targets=second.tolist()).maps[:, 0]
    redrawn = Redrawn(explainer.classifier.network, seed=0)
    with redrawn.entered(redrawn.layers):
        drawn = explainer(inputs, targets=first.tolist()).maps[:, 0]
    return {
        column: spearman(maps, again.nan_to_num(0, 0, 0)).numpy()
        for column, again in zip(RANDOMISED, (other, drawn), strict=True)
    }


def curve(classifier: Classifier, inputs: Tensor, maps: Tensor, inserts: bool) -> Tensor:
    """Probabilities (b, fractions) of the predicted class while pixels are blurred, or unblurred.

    The most relevant go first; equal ones in an order drawn once (Petsiuk et al. 2018).
    """
    network, read = classifier.network, classifier.read
    with torch.no_grad():
        whole = torch.cat([read(network(part)) for part in torch.split(inputs, BATCH)])
    classes = whole.argmax(1, keepdim=True)
    scorer = Scorer(network, read, inputs, classes, whole, BATCH, task=classifier.task)
    large = _enlarged(maps, inputs)
    pixels = large[0].numel()
    drawn = torch.randperm(pixels, generator=torch.Generator().manual_seed(0))
    order = drawn[large.flatten(1)[:, drawn].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(pixels).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places).reshape(large.shape)

    def make(owner: Tensor, number: Tensor) -> Tensor:
        limit = (torch.tensor(FRACTIONS)[number] * pixels).round()[:, None, None]
        first = ranks[owner] < limit
        return (first if inserts else ~first)[:, None].to(inputs.dtype)

    every = torch.ones(len(inputs), len(FRACTIONS), dtype=torch.bool)
    found = torch.zeros(every.shape)
    for owner, number, _, scores in scorer.each(every, make, behind=blurred(inputs)):
        found[owner, number] = scores[:, 0].float()
    return found


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (b, h, w) at the pixels of masks or images."""
    return F.interpolate(maps[:, None].double(), like.shape[-2:], mode="bilinear")[:, 0]


def _against_the_best(found: dict[str, Columns]) -> Iterator[str]:
    """What mitate's own methods are better by than the best of the others, photo by photo."""
    left_out = {"the true mask", *OWN, *(name for name in METHODS if METHODS[name].is_control)}
    others = [name for name in found if name not in left_out]
    for own in [name for name in OWN if name in found]:
        for column in MEASURED:
            means = {name: BETTER[column] * found[name][column].mean() for name in others}
            best = max(means, key=lambda name: means[name], default=None)
            if best is not None and np.isfinite(means[best]):
                gap = paired_interval(found[own][column], found[best][column])
                yield f"- {own}, {column}: {told(gap)} over {best}"


def told(interval: Interval) -> str:
    """A mean with its 95 % interval over photos."""
    if interval.images == 0:
        return "–"
    if interval.low == interval.high:
        return f"{interval.mean:.4g}"
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _opened(photos: Photos, number: int) -> tuple[Tensor, Tensor | None]:
    """The inputs, and the masks brought to them, of so many photos; none whose mask is empty."""
    opened = (
        open_shot(
            record,
            "",
            photos.masks,
            mask_value=photos.mask_value,
            preprocessing=photos.classifier.preprocessing,
            failures=[],
        )
        for record in (photos.records if photos.masks else evenly(photos.records, number))
    )
    if photos.masks is None:
        return prepare(photos.classifier, [shot.photo for shot in opened]).inputs, None
    marked = [
        (shot.photo, shot.mask) for shot in opened if shot.mask is not None and shot.mask.any()
    ]
    kept = evenly(marked, number)
    masks = torch.stack([torch.from_numpy(mask) for _, mask in kept])
    return prepare(photos.classifier, [photo for photo, _ in kept]).inputs, masks


def _named(reference: str, data: str, mask_value: str, split: str = "valid") -> Photos:
    dataset = read_dataset(data).split(split)
    masked = [record for record in dataset.records if record.mask is not None]
    title = f"{Path(data).name}, {split}"
    classifier = Classifier.load(reference)
    return Photos(title, classifier, masked, MaskIndex.of(dataset), int(mask_value))


def _beside() -> Iterator[Photos]:
    """What lies beside the checkout, and the demo's own photos, by two networks each."""
    start: Path | None = None
    for data, size, value, group in SETS:
        index = drawn(data, seed=0) if data.parent == DEMO else data / "index.csv"
        common: dict[str, Any] = {"size": size, "group": group, "batch_size": 16, "augment": "turn"}
        mobile, convnext = (TRAINED / data.name / name for name in ("mobilenetv2", "convnext"))
        if not mobile.exists():
            common |= {"model": "mobilenetv2_100", "weights": WEIGHTS}
            fit(index, mobile, **common, lr=1e-3, epochs=8)
        if not convnext.exists() and start is None:
            trained(index, convnext, seed=0)
        elif not convnext.exists():
            common |= {"model": MODEL, "arguments": ARGUMENTS, "weights": start}
            common |= {"lr": 5e-3, "epochs": 20}
            if group:  # few parts are defective, and a network from scratch goes by their surfaces
                common |= {"epochs": 40, "balance": True, "masks": index, "mask_value": value}
                common |= {"supervision": Supervision(plant=True)}
            fit(index, convnext, **common)
        start = convnext / "weights.safetensors"
        for network in (mobile, convnext):
            named = _named(str(network), str(index), str(value))
            yield replace(named, title=f"{data.name}, {network.name}")
    convnext = TRAINED / "photos" / "convnext"
    if not convnext.exists():
        taught_twice(convnext, teacher(), pictures())
    photos = [Record(path, None) for path in sorted(PHOTOS_BESIDE.glob("*.jpg"))]
    for name, classifier in (("mobilenetv2", teacher()), ("convnext", Classifier.load(convnext))):
        yield Photos(f"ImageNet sample photos, {name}", classifier, photos)


if __name__ == "__main__":
    main()
