"""Explaining photos into a folder: figures, maps, predictions, and where the maps lie."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mitate.audit.comparison import CONTROLS, Comparison, mask_batch
from mitate.data.masks import MaskIndex
from mitate.data.records import Record
from mitate.drawing.sheet import save_sheet
from mitate.errors import ImageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.figure import draw
from mitate.explain.files import as_json
from mitate.models.classifier import Classifier
from mitate.models.saved import write_atomically
from mitate.progress import progress
from mitate.view.photos import Shot, open_shot

ROWS = 8


@dataclass(frozen=True)
class Style:
    """How overlays are drawn."""

    colormap: str | None = None
    opacity: float | None = None
    resize: str = "bicubic"


@dataclass
class Explained:
    """What came of explaining photos."""

    predictions: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    comparison: Comparison = field(default_factory=Comparison)
    figures: list[Path] = field(default_factory=list)

    def places_as_dicts(self) -> list[dict[str, Any]]:
        """Where the maps lie, as plain data."""
        return [asdict(place) for place in self.comparison.places()]


def explain_photos(
    classifier: Classifier,
    records: Sequence[Record],
    folder: Path,
    *,
    methods: Sequence[str],
    layer: str = "auto",
    top_k: int = 3,
    options: dict[str, Any] | None = None,
    masks: MaskIndex | None = None,
    mask_value: int | None = None,
    style: Style = Style(),
    batch_size: int = 16,
    seed: int = 0,
    shown: bool = True,
    on_figure: Callable[[Path], None] = lambda path: None,
) -> Explained:
    """Explain photos by several methods, side by side; a bad photo is told and left out.

    Writes ``sheet-001.png`` … (a row an image), ``maps/METHOD-001.npz``, ``predictions.csv`` and,
    with masks, ``energy.csv``.
    """
    explainers = [
        Explainer(
            classifier,
            method,
            layer,
            batch_size=batch_size,
            seed=seed,
            show_progress=False,
            **(options or {}),
        )
        for method in methods
    ]
    controls = [
        Explainer(classifier, name, layer, seed=seed) for name in CONTROLS if name not in methods
    ]
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    explained = Explained()
    with progress("explaining", len(records), shown=shown) as advance:
        for number, shots in enumerate(
            _batches(classifier, records, masks, mask_value, explained, advance), 1
        ):
            done = [_explain(explainer, shots, top_k) for explainer in explainers]
            _keep(done, number, folder, style, explained)
            on_figure(explained.figures[-1])
            _measure(done, controls, shots, explained.comparison)
            advance(len(shots))
    _write_tables(folder, explained)
    return explained


def _batches(
    classifier: Classifier,
    records: Sequence[Record],
    masks: MaskIndex | None,
    mask_value: int | None,
    explained: Explained,
    advance: Callable[[int], None],
) -> Iterator[list[Shot]]:
    shots: list[Shot] = []
    for record in records:
        try:
            shots.append(
                open_shot(
                    record, masks, mask_value=mask_value, preprocessing=classifier.preprocessing
                )
            )
        except ImageError as exc:
            explained.failures.append(str(exc))
            advance(1)
        if len(shots) == ROWS:
            yield shots
            shots = []
    if shots:
        yield shots


def _explain(explainer: Explainer, shots: Sequence[Shot], top_k: int) -> Explanation:
    names = explainer.classifier.class_names
    labels = [shot.record.label if shot.record.label in names else None for shot in shots]
    return explainer(
        [shot.photo for shot in shots],
        top_k,
        labels=labels,
        names=[shot.name for shot in shots],
    )


def _keep(
    done: Sequence[Explanation], number: int, folder: Path, style: Style, explained: Explained
) -> None:
    figure = draw(done, colormap=style.colormap, opacity=style.opacity, mode=style.resize)
    explained.figures.append(save_sheet(figure, folder / f"sheet-{number:03}.png"))
    for explanation in done:
        explanation.save(folder / "maps" / f"{explanation.method}-{number:03}.npz")
        explained.flags += [
            f"{explanation.names[flag.image]}: the {explanation.method} map for "
            f"{explanation.name_of(flag.image, flag.target)} is {flag.kind} ({flag.reason})"
            for flag in explanation.flags
        ]
    explained.predictions += as_json(done[0])


def _measure(
    done: Sequence[Explanation],
    controls: Sequence[Explainer],
    shots: Sequence[Shot],
    comparison: Comparison,
) -> None:
    """Where the maps of the predicted class lie, on the images that have a mask with anything in it."""
    marked = [i for i, shot in enumerate(shots) if shot.mask is not None and shot.mask.any()]
    if not marked:
        return
    batch = [shots[i] for i in marked]
    masks = mask_batch([shot.mask for shot in batch if shot.mask is not None])
    of_methods = [
        explanation[:] if len(marked) == len(shots) else _only(explanation, marked)
        for explanation in done
    ]
    comparison.add([*of_methods, *(_explain(control, batch, 1) for control in controls)], masks)


def _only(explanation: Explanation, indices: Sequence[int]) -> Explanation:
    from mitate.explain.explanation import joined

    return joined([explanation[index] for index in indices])


def _write_tables(folder: Path, explained: Explained) -> None:
    rows = [
        {
            "image": entry["image"],
            "true": entry["true"] or "",
            "predicted": entry["predicted"],
            **{
                f"{word}_{rank}": value[key]
                for rank, value in enumerate(entry["classes"], 1)
                for word, key in (("class", "name"), ("probability", "probability"))
            },
        }
        for entry in explained.predictions
    ]
    _write_csv(folder / "predictions.csv", rows)
    _write_csv(folder / "energy.csv", explained.comparison.rows())
    text = json.dumps(explained.predictions, ensure_ascii=False, indent=1)
    write_atomically(folder / "predictions.json", text + "\n")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
