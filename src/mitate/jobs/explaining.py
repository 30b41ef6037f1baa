"""Explaining photos into a folder: figures, maps, predictions, and where the maps lie."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mitate.auditing.comparison import CONTROLS, Comparison, mask_batch
from mitate.data.made import sheet_name
from mitate.data.masks import Masks
from mitate.data.records import Record
from mitate.data.wording import counted
from mitate.drawing.colour import COLORMAP, OPACITY, overlay
from mitate.drawing.sheet import Sheet, save_sheet
from mitate.explain.choice import AUTO, Choice, choose, is_auto
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.estimating.estimate import joined as joined_estimates
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation, joined
from mitate.explain.figure import draw
from mitate.explain.files import as_json
from mitate.explain.targets import checked_top_k
from mitate.files import uninterrupted, write_csv, write_text
from mitate.jobs.earlier import check_apart, clear, has_results, maps_name, told
from mitate.jobs.given import NO_MASK
from mitate.jobs.photos import Shot, open_shots, shown_names, strange, with_known_labels
from mitate.jobs.segmenting import segmentation_panels
from mitate.models.classifier import Classifier
from mitate.models.tasks import word
from mitate.progress import progress

ROWS = 8
MODIFIERS = ("against", "strength", "augment", "budget")
UNMARKED = f"{NO_MASK}, so no share of energy is told: check the masks, and the mask value"


@dataclass(frozen=True)
class Style:
    """How overlays are drawn; None takes the default."""

    colormap: str | None = None
    opacity: float | None = None
    resize: str = "bicubic"

    def checked(self) -> "Style":
        """This style, if anything can be drawn in it.

        Raises:
            UsageError: an unknown colormap, or an opacity outside [0, 1].
        """
        strength = OPACITY if self.opacity is None else self.opacity
        blank = Image.new("RGB", (1, 1))
        overlay(blank, np.zeros((1, 1)), colormap=self.colormap or COLORMAP, opacity=strength)
        return self


@dataclass
class Explained:
    """What came of explaining photos; notices are about all of them.

    ``estimates`` has, by method, what it tells of its own errors, a batch at a time.
    """

    predictions: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    comparison: Comparison = field(default_factory=Comparison)
    figures: list[Path] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    estimates: dict[str, list[Estimate]] = field(default_factory=dict)

    def places_as_dicts(self) -> list[dict[str, Any]]:
        """Where the maps lie, as plain data."""
        return [asdict(place) for place in self.comparison.places()]


def explain_photos(
    classifier: Classifier,
    records: Sequence[Record],
    folder: Path,
    *,
    methods: Sequence[str],
    top_k: int | None = None,
    options: Mapping[str, Any] | None = None,
    among: Sequence[Record] = (),
    masks: Masks | None = None,
    mask_value: int | None = None,
    style: Style | None = None,
    shown: bool = True,
    **settings: Any,
) -> Explained:
    """Explain photos by several methods, side by side; a bad photo is told and left out.

    Writes ``sheet-001.png`` … (a row an image), ``maps/METHOD-001.npz``, ``predictions.csv``,
    ``predictions.json`` and, with masks, ``energy.csv``. Results of an earlier run in the same
    folder go before the first of these is written, so that what lies there is of one run; they
    stay where no photo can be explained. Interrupted, what is done is in the tables too.

    Args:
        classifier: what is explained.
        records: the photos; a label that is no class of the classifier counts as unknown.
        folder: where all goes.
        methods: names; each is taken once.
        top_k: how many of the most probable classes; None takes 3, or all of fewer.
        options: each goes to the methods that have it.
        among: photos that these were chosen from: names tell them apart from those too.
        masks: true regions; with them the share of each map's energy on them is measured.
        mask_value: the value of index masks that marks the region.
        style: how overlays are drawn.
        shown: show progress.
        **settings: of ``Explainer``: layer, budget, fusion, against, strength, augment, batch_size,
            seed.

    Raises:
        UsageError: an unknown method, layer, option or colormap, more classes than there are, or a
            photo in the place of a result.
    """
    checked_top_k(top_k, len(classifier.class_names))
    style = (style or Style()).checked()
    settings = {**settings, "show_progress": False}
    explainers = explainers_of(classifier, methods, options or {}, **settings)
    controls = controls_beside(explainers, **settings)
    labels = (record.label for record in records)
    explained = Explained(notices=list(strange(labels, classifier.class_names)))
    records = with_known_labels(records, classifier.class_names)
    check_apart([record.path for record in records], folder)
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    removed: list[str] = []
    try:
        with progress("explaining", len(records), shown=shown) as advance:
            named = list(zip(records, _names(records, among), strict=True))
            opened = _opened(classifier, named, masks, mask_value, explained.failures, advance)
            for number, shots in enumerate(_batches(opened), 1):
                done = [_explain(explainer, shots, top_k) for explainer in explainers]
                figure = draw(
                    done,
                    colormap=style.colormap,
                    opacity=style.opacity,
                    mode=style.resize,
                    segmentations=segmentation_panels(classifier, shots),
                )
                with uninterrupted():  # no sheet without its rows in the tables
                    if number == 1:
                        removed = clear(folder)
                    _keep(done, figure, number, folder, explained)
                _measure(done, controls, shots, explained.comparison)
                advance(len(shots))
    except KeyboardInterrupt as exc:
        if not explained.figures:
            raise
        _write_tables(folder, explained, word(classifier.task))
        done_so_far = f"after {len(explained.predictions)} of {counted(len(records), 'photo')}"
        raise KeyboardInterrupt(f"{done_so_far}: what was drawn of them is in {folder}") from exc
    if masks is not None and explained.predictions and not len(explained.comparison):
        explained.notices.append(UNMARKED)
    if not explained.figures and has_results(folder):
        explained.notices.append(f"nothing new: what an earlier run left in {folder} stays")
        return explained
    _write_tables(folder, explained, word(classifier.task))
    explained.notices += _estimated(explained.estimates)
    gone = [name for name in removed if not (folder / name).exists()]
    explained.notices += told(gone, folder)
    return explained


def explainers_of(
    classifier: Classifier, methods: Sequence[str], options: Mapping[str, Any], **settings: Any
) -> list[Explainer]:
    """One explainer a method, each with those of the options that it has.

    A budget goes to ``auto``; a fusion to the methods that do not join the layers themselves.

    Raises:
        UsageError: an unknown method, or an option or setting that none of them has.
    """
    chosen = _chosen(classifier, methods, settings)
    for name in options:
        if not any(name in one.method.options for one in chosen):
            chosen[0].method.checked_options({name: options[name]})
    fusing = [one for one in chosen if not one.method.joins_layers] or chosen
    return [
        Explainer(
            classifier,
            one.method.name,
            one.layer,
            **{**settings, "fusion": settings.get("fusion") if one in fusing else None},
            **{**one.options, **_taken(one, options)},
        )
        for one in chosen
    ]


def _taken(one: Choice, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in one.method.options}


def _chosen(
    classifier: Classifier, methods: Sequence[str], settings: dict[str, Any]
) -> list[Choice]:
    """Each method once; takes layer and budget out of the settings."""
    layer, budget = settings.pop("layer", AUTO), settings.pop("budget", None)
    compares = settings.get("against") is not None
    spending = [name for name in methods if is_auto(name)] or methods[:1]
    once: dict[str, Choice] = {}
    for name in methods:
        own = budget if name in spending else None
        one = choose(classifier, name, layer, budget=own, compares=compares)
        once.setdefault(one.method.name, one)
    return list(once.values())


def controls_beside(explainers: Sequence[Explainer], **settings: Any) -> list[Explainer]:
    """Explainers of the controls that are not among some explainers, without their modifiers."""
    there = {explainer.method.name for explainer in explainers}
    missing = [name for name in CONTROLS if name not in there]
    plain = {name: value for name, value in settings.items() if name not in MODIFIERS}
    return [Explainer(explainers[0].classifier, name, **plain) for name in missing]


def _names(records: Sequence[Record], among: Sequence[Record]) -> list[str]:
    """What photos are called, whichever were chosen."""
    paths = [record.path for record in (*records, *among)]
    return shown_names(paths)[: len(records)]


def _opened(
    classifier: Classifier,
    named: Sequence[tuple[Record, str]],
    masks: Masks | None,
    mask_value: int | None,
    failures: list[str],
    advance: Callable[[float], None],
) -> Iterator[Shot]:
    for shot in open_shots(
        named,
        masks,
        mask_value=mask_value,
        preprocessing=classifier.preprocessing,
        failures=failures,
    ):
        if shot is None:
            advance(1)
        else:
            yield shot


def _batches(opened: Iterator[Shot]) -> Iterator[list[Shot]]:
    shots: list[Shot] = []
    for shot in opened:
        shots.append(shot)
        if len(shots) == ROWS:
            yield shots
            shots = []
    if shots:
        yield shots


def _explain(explainer: Explainer, shots: Sequence[Shot], top_k: int | None) -> Explanation:
    return explainer(
        [shot.photo for shot in shots],
        top_k,
        labels=[shot.record.label for shot in shots],
        names=[shot.name for shot in shots],
    )


def _keep(
    done: Sequence[Explanation], figure: Sheet, number: int, folder: Path, explained: Explained
) -> None:
    explained.figures.append(save_sheet(figure, folder / sheet_name(number)))
    for explanation in done:
        explanation.save(folder / maps_name(explanation.method, number))
        if explanation.estimate is not None:
            explained.estimates.setdefault(explanation.method, []).append(explanation.estimate)
        explained.flags += [
            f"{explanation.names[flag.image]}: the {explanation.method} map for "
            f"{explanation.name_of(flag.image, flag.target)} is {flag.kind} ({flag.reason})"
            for flag in explanation.flags
        ]
    explained.predictions += as_json(done[0])


def _estimated(estimates: Mapping[str, Sequence[Estimate]]) -> list[str]:
    """A line for each method whose maps were made from a part of their evidence."""
    whole = {method: joined_estimates(parts) for method, parts in estimates.items()}
    return [f"{method}: {estimate.told()}" for method, estimate in whole.items() if estimate]


def _measure(
    done: Sequence[Explanation],
    controls: Sequence[Explainer],
    shots: Sequence[Shot],
    comparison: Comparison,
) -> None:
    """Where the maps of the predicted class lie, on the images whose mask is not empty."""
    marked = [i for i, shot in enumerate(shots) if shot.mask is not None and shot.mask.any()]
    if not marked:
        return
    batch = [shots[i] for i in marked]
    masks = mask_batch([shot.mask for shot in batch if shot.mask is not None])
    of_methods = [joined([explanation[i] for i in marked]) for explanation in done]
    comparison.add([*of_methods, *(_explain(control, batch, 1) for control in controls)], masks)


def _write_tables(folder: Path, explained: Explained, likely: str) -> None:
    rows = [
        {
            "image": entry["image"],
            "true": entry["true"] or "",
            "predicted": entry["predicted"],
            **{
                f"{column}_{rank}": value[key]
                for rank, value in enumerate(entry["classes"], 1)
                for column, key in (("class", "name"), (likely, likely))
            },
        }
        for entry in explained.predictions
    ]
    write_csv(folder / "predictions.csv", rows)
    write_csv(folder / "energy.csv", explained.comparison.rows())
    text = json.dumps(explained.predictions, ensure_ascii=False, indent=1)
    write_text(folder / "predictions.json", text + "\n")
