"""Two classifiers on the same photos: what `mitate compare` does, and `mitate.compare`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

from mitate.auditing.audit import Audit, audit_images
from mitate.auditing.defaults import metric_names
from mitate.auditing.files import interval_file, remembered
from mitate.auditing.gate import requirement_of
from mitate.auditing.rivals import Rivals, set_beside
from mitate.auditing.subjects import Subjects
from mitate.auditing.table import find_metrics
from mitate.data.masks import Masks
from mitate.data.regions import regions_told
from mitate.errors import ImageError, UsageError
from mitate.files import write_csv, write_text
from mitate.jobs.given import LIMIT, Given, check_usable, photo_subjects
from mitate.jobs.photos import folder_of, learnt_from, open_masks, reported, with_known_labels
from mitate.jobs.sampling import sample, shows_region
from mitate.jobs.searching import REASONS, check_reasons, with_wrong_reasons
from mitate.models.accepting import as_classifier
from mitate.models.classifier import Classifier

METHOD, LAYER = "hirescam", "auto"
TABLE, SUMMARY = "compare.csv", "compare.json"


def compare(
    first: Any,
    second: Any,
    data: str | Path,
    *,
    masks: str | Path | Masks | None = None,
    mask_value: int | None = None,
    object_value: int | None = None,
    split: str | None = None,
    limit: int | None = LIMIT,
    method: str | None = None,
    layer: str | None = None,
    metrics: Sequence[str] | None = None,
    audited: str = "label",
    require: Sequence[str] = (),
    reasons: int | None = REASONS,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda words: None,
    shown: bool = False,
) -> Rivals:
    """Set two classifiers side by side: accuracy, every metric, and where their reasons moved.

    Args:
        first: a classifier, or what stands for one: the one that is there.
        second: another: the one that is to take its place.
        data: photos, a folder of them, or a data set, as for ``mitate.audit``.
        masks: a folder or a CSV of masks of the right places.
        mask_value: the value that marks the region in index masks.
        object_value: the value of index masks that marks the object around it.
        split: another split of the data set.
        limit: only so many photos, chosen as for ``mitate.audit``; None takes all.
        method: of both; None takes of each what ``Explainer.best`` remembers, or HiResCAM.
        layer: of both; None takes what is remembered, or ``auto``.
        metrics: names, or families of them; None takes the default ones, without those that hold
            a map against what its own classifier segments.
        audited: ``label``, or ``predicted`` to audit the predicted class throughout.
        require: thresholds: ``accuracy not worse`` (the interval of the difference does not lie
            below 0), ``energy better`` (it lies above 0), or ``energy>=0.5`` of the second.
        reasons: in so many photos wrong reasons are looked for, of each classifier by its own map;
            None takes all, and 0 looks for none.
        options: of the metrics.
        seed: of all that is random.
        batch_size: images, or altered images, in one forward; None as ``Explainer`` has it.
        out: a folder for compare.json and compare.csv.
        tell: told the estimates before it starts.
        shown: show progress.

    Raises:
        UsageError: anything that cannot be compared; DataError: data or masks that cannot be used;
        ImageError: no photo can be read.
    """
    check_reasons(reasons)
    pair = (as_classifier(first), as_classifier(second))
    index = masks if isinstance(masks, Masks) else open_masks(masks, data)
    root = folder_of(Path(data))
    records, notices = reported(Path(data), pair[0], split)
    notices = (*notices, *learnt_from(records, pair[1]))
    taken = sample(records, limit, shows_region(index, mask_value, pair[0].preprocessing))
    told = regions_told(index, [record.path for record in taken.chosen], mask_value)
    notices = (*notices, *taken.notices, *told)
    found = [
        photo_subjects(
            one,
            with_known_labels(taken.chosen, one.class_names),
            index,
            (mask_value, object_value),
            root=root,
            shown=shown,
        )
        for one in pair
    ]
    subjects = _in_common([one for one, _ in found])
    failures = tuple(dict.fromkeys(line for _, lines in found for line in lines))
    if not len(subjects[0]):
        raise ImageError(f"none of the {len(taken.chosen)} photos can be read: {failures[0]}")
    check_usable(subjects[0], failures)
    masked = all(one.masked for one in subjects)
    pick = next(iter(find_metrics(metrics or ())), None)
    # Each is held against a region of its own, of another size: compared where that is asked for.
    segments = metrics is not None and all(one.decoder is not None for one in pair)
    names = metric_names(metrics, pick, masked=masked, segments=segments)
    required = [requirement_of(words, names, two=True) for words in require]
    searched = len(records) if reasons is None else min(reasons, len(records))
    audits = [
        _audit(
            classifier,
            images if masked else images.without_masks(),
            method,
            layer,
            metrics=names,
            pick=pick,
            audited=audited,
            options=options,
            seed=seed,
            batch_size=batch_size,
            searched=searched,
            tell=tell,
            shown=shown,
        )
        for classifier, images in zip(pair, subjects, strict=True)
    ]
    if searched:
        audits = [
            with_wrong_reasons(
                audit,
                Given(
                    audit.subjects,
                    with_known_labels(records, audit.classifier.class_names),
                    index,
                    root=root,
                ),
                searched,
                mask_value=mask_value,
                folder=None,
                shown=shown,
            )
            for audit in audits
        ]
    rivals = set_beside(audits[0], audits[1], required)
    strange = set(pair[0].class_names) ^ set(pair[1].class_names)
    if strange:
        notices = (*notices, f"classes of one of them only: {', '.join(sorted(strange))}")
    notices = (*notices, *_areas(audits))
    rivals = replace(rivals, failures=failures, notices=tuple(notices))
    if out is not None:
        _write(rivals, Path(out))
    return rivals


def _in_common(pair: Sequence[Subjects]) -> list[Subjects]:
    """What both can read, in the same order."""
    common = set(pair[0].names) & set(pair[1].names)
    return [
        one.at([place for place, name in enumerate(one.names) if name in common]) for one in pair
    ]


def _audit(
    classifier: Classifier,
    subjects: Subjects,
    method: str | None,
    layer: str | None,
    **settings: Any,
) -> Audit:
    best = remembered(classifier) if method is None and layer is None else None
    found = (best.method, best.layer) if best else (method or METHOD, layer or LAYER)
    if "earlier" in found:
        raise UsageError("two classifiers are compared at one layer: name it, or auto")
    return audit_images(classifier, subjects, methods=found[:1], layers=found[1:], **settings)


def _areas(audits: Sequence[Audit]) -> Iterator[str]:
    """How much each segments, where maps are held against that."""
    drawn = [one.segmentation.area.mean for one in audits if one.segmentation]
    if drawn:
        first, second = (f"{100 * area:.1f} %" for area in drawn)
        yield (
            f"the first segments {first} of the picture and the second {second}: of any map more "
            "lies on what is larger"
        )


def as_dict(rivals: Rivals) -> dict[str, Any]:
    """The comparison as plain data."""
    return {
        "format": "mitate comparison",
        "version": 1,
        "classifiers": [
            {
                "reference": audit.classifier.reference,
                "map": next(one.name for one in audit.entrants if not one.is_control),
                "parameters": dict(audit.parameters),
                "verdict": asdict(audit.verdict),
                "reasons": None if audit.reasons is None else audit.reasons.as_dict(),
            }
            for audit in rivals.audits
        ],
        "differences": [
            {
                "metric": one.metric,
                "first": interval_file(one.first).model_dump(),
                "second": interval_file(one.second).model_dump(),
                "difference": interval_file(one.difference).model_dump(),
                "words": one.words,
            }
            for one in rivals.differences
        ],
        "moved": [
            {**asdict(one), "moved": one.moved if isfinite(one.moved) else None}
            for one in rivals.moved
        ],
        "gate": [asdict(outcome) for outcome in rivals.gate],
        "failures": list(rivals.failures),
        "notices": list(rivals.notices),
    }


def _write(rivals: Rivals, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = as_dict(rivals)
    rows = [{"classifier": n, **row} for n, a in enumerate(rivals.audits, 1) for row in a.rows()]
    write_csv(folder / TABLE, rows)
    text = json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(folder / SUMMARY, text + "\n")
