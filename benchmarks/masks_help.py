"""Do masks help? With and without them, guided and not, on real photos, several seeds.

python -m benchmarks.masks_help DATA WEIGHTS [--sets coffee_leaf magnetic_tile] [--seeds 0 1 2]
    [--epochs 8] [--size 224] [--batch-size 32] [--model mobilenetv2_100]
    [--ways plain masks guided both] [--guide-weight 1] [--part 1] [--out masks_help.json] [--quick]

DATA holds a folder a set with its index.csv; WEIGHTS is a file for the model. Every way has the
same epochs, split, start and augmentation. A run that stands in --out with the same settings is not
done again. Printed, a line a run and then the means over seeds:

- accuracy and macro F1 on the validation photos;
- energy and pointing: the share of Grad-CAM's energy in the mask (of the true class, at the layer
  that `auto` takes), and how often its highest pixel lies in the mask, on validation photos whose
  mask marks something; the area of the masks beside them is what a map without preference scores;
- Dice of the segmentation, where one was taught.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mitate.auditing.localisation import area_share, energy_share
from mitate.cli.parsing import size_of
from mitate.data.masks import MaskIndex
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import resize_maps
from mitate.training import Supervision, fit
from mitate.training.masks import LEVELS, TrueMasks, true_masks
from mitate.training.preparing import Prepared, prepared

SETS = {"coffee_leaf": (2, None), "magnetic_tile": (None, "part")}  # mask value, group column
MEASURES = ("accuracy", "macro_f1", "energy", "pointing", "area", "dice", "seconds")
EXPLAINED = 32


def main() -> None:
    """Run every set, way and seed, print and keep what came out."""
    warnings.simplefilter("ignore")
    asked = _arguments()
    rows = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else []
    for name in asked.sets:
        value, group = SETS[name]
        dataset = _part(prepared(asked.data / name, group=group), asked.part)
        masks = true_masks(dataset, MaskIndex.open(asked.data / name), value=value)
        print(f"{name}: {'; '.join(masks.notices)}", flush=True)
        for seed in asked.seeds:
            for way, supervision in _ways(asked).items():
                run = {"set": name, "way": way, "seed": seed, **_settings(asked, supervision)}
                if not any(run.items() <= row.items() for row in rows):
                    rows.append({**run, **_run(dataset, masks, supervision, seed, asked)})
                    print(_line(rows[-1]), flush=True)
                    asked.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("\n".join(_table(rows, asked)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=["plain", "masks", "guided", "both"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=size_of, default=(224, 224), help="224, or 128x256")
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--guide-weight", type=float, default=1.0)
    parser.add_argument("--part", type=int, default=1, help="every so many-th training photo only")
    parser.add_argument("--out", type=Path, default=Path("masks_help.json"))
    parser.add_argument("--quick", action="store_true", help="a trial: few photos, one epoch")
    asked = parser.parse_args()
    if asked.quick:
        asked.epochs, asked.size, asked.part, asked.seeds = 1, (64, 64), 40, asked.seeds[:1]
    return asked


def _ways(asked: argparse.Namespace) -> dict[str, Supervision | None]:
    weight = asked.guide_weight
    ways = {
        "plain": None,
        "masks": Supervision(),
        "guided": Supervision(weight=0, guide=True, guide_weight=weight),
        "both": Supervision(guide=True, guide_weight=weight),
    }
    return {way: ways[way] for way in asked.ways}


def _settings(asked: argparse.Namespace, supervision: Supervision | None) -> dict[str, object]:
    """All that a run's figures depend on, beside the set, the way and the seed."""
    return {
        "model": asked.model,
        "epochs": asked.epochs,
        "size": list(asked.size),
        "part": asked.part,
        "batch_size": asked.batch_size,
        "guide_weight": supervision.guide_weight if supervision and supervision.guide else None,
    }


def _part(dataset: Prepared, step: int) -> Prepared:
    """The data set with every so many-th of its training photos."""
    kept = [*dataset.split("train").records[::step], *dataset.split("valid").records]
    return dataset if step == 1 else Prepared(**vars(dataset.with_records(kept)))


def _run(
    dataset: Prepared,
    masks: TrueMasks,
    supervision: Supervision | None,
    seed: int,
    asked: argparse.Namespace,
) -> dict[str, float | None]:
    with tempfile.TemporaryDirectory() as folder:
        done = fit(
            dataset,
            folder,
            model=asked.model,
            weights=asked.weights,
            epochs=asked.epochs,
            size=asked.size,
            batch_size=asked.batch_size,
            lr=1e-3,
            seed=seed,
            show_progress=False,
            masks=None if supervision is None else masks,
            supervision=supervision,
        )
    drawn = done.scores.segmentation
    return {
        "accuracy": done.scores.accuracy,
        "macro_f1": done.scores.macro_f1,
        **_localised(done.classifier, dataset, masks),
        "dice": None if drawn is None else drawn.dice,
        "seconds": done.seconds,
    }


def _localised(
    classifier: Classifier, dataset: Prepared, masks: TrueMasks
) -> dict[str, float | None]:
    """Where Grad-CAM of the true class lies, on validation photos with something marked."""
    energy, pointing, area = [], [], []
    explainer = Explainer(classifier, "gradcam", show_progress=False)
    for paths, labels, shares in _marked(classifier, dataset, masks):
        maps = explainer(paths, targets="label", labels=labels).maps
        energy += energy_share(maps[:, 0], shares).tolist()
        area += area_share(shares).tolist()
        pixels = resize_maps(maps, shares.shape[-2:])[:, 0].flatten(1)
        hit = shares.flatten(1).gather(1, pixels.argmax(1, keepdim=True))[:, 0] >= 0.5
        pointing += (hit & pixels.any(1)).float().tolist()
    found = {"energy": energy, "pointing": pointing, "area": area}
    return {name: float(np.nanmean(v)) if v else None for name, v in found.items()}


def _marked(
    classifier: Classifier, dataset: Prepared, masks: TrueMasks
) -> Iterator[tuple[list[Path], list[str | None], torch.Tensor]]:
    records = [record for record in dataset.split("valid").records if record.path in masks.paths]
    found = {r.path: masks.levels(r.path, classifier.preprocessing) for r in records}
    levels = {path: drawn for path, drawn in found.items() if drawn is not None and drawn.any()}
    records = [record for record in records if record.path in levels]
    for start in range(0, len(records), EXPLAINED):
        batch = records[start : start + EXPLAINED]
        shares = torch.from_numpy(np.stack([levels[r.path] for r in batch])) / LEVELS
        yield [r.path for r in batch], [r.label for r in batch], shares


def _line(row: dict[str, object]) -> str:
    measured = " ".join(f"{name} {_number(row[name])}" for name in MEASURES)
    return f"{row['set']} {row['way']} seed {row['seed']}: {measured}"


def _table(rows: list[dict[str, object]], asked: argparse.Namespace) -> Iterator[str]:
    size = " x ".join(map(str, asked.size))
    yield f"\n{asked.model}, {asked.epochs} epochs, {size} px, seeds {asked.seeds}\n"
    yield f"| set | way | {' | '.join(MEASURES)} |"
    yield "| --- " * (2 + len(MEASURES)) + "|"
    for name in asked.sets:
        for way in asked.ways:
            fixed = {"set": name, "way": way, **_settings(asked, _ways(asked)[way])}
            own = [r for r in rows if fixed.items() <= r.items() and r["seed"] in asked.seeds]
            yield f"| {name} | {way} | {' | '.join(_mean(own, m) for m in MEASURES)} |"


def _mean(rows: list[dict[str, object]], measure: str) -> str:
    """Mean over seeds, with the lowest and the highest."""
    values = [float(str(row[measure])) for row in rows if row[measure] is not None]
    if not values:
        return "–"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _number(value: object) -> str:
    return "–" if value is None else f"{float(str(value)):.3f}"


if __name__ == "__main__":
    main()
