"""Wrong reasons, looked for behind an audit: with what its budget leaves, and only once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mitate.auditing.audit import Audit, with_reasons
from mitate.auditing.comparison import FEWEST
from mitate.auditing.parts import digest_of_plan
from mitate.auditing.reasons import confused_pairs, find_reasons
from mitate.auditing.reasons.finding import search_cost
from mitate.auditing.reasons.keeping import keep, kept
from mitate.auditing.rounds import Budget
from mitate.errors import MissingExtraError, UsageError
from mitate.jobs.given import Given, photo_subjects
from mitate.jobs.photos import evenly
from mitate.tensors import digest_of

REASONS, FILE = 256, "reasons.npz"


def check_reasons(number: int | None) -> None:
    """Refuse a number of images to look for wrong reasons in that is none.

    Raises:
        UsageError: it is under 0.
    """
    if number is not None and number < 0:
        raise UsageError(f"reasons is {number}: use 0 for none, or more images")


def with_wrong_reasons(
    audit: Audit,
    given: Given,
    searched: int,
    *,
    mask_value: int | None,
    folder: Path | None,
    shown: bool,
) -> Audit:
    """The audit with the groups that are decided alike, and the pairs that are confused.

    Args:
        audit: whose recommended map tells.
        given: what is audited.
        searched: in how many of its images, evenly chosen.
        mask_value: the value of index masks that marks the region.
        folder: where what was found is kept, and taken from the next time; None keeps nothing.
        shown: show progress.
    """
    explainer = audit.explainer
    if explainer is None:
        return audit
    afforded = _afforded(audit, searched)
    if afforded < searched:
        notice = (
            f"wrong reasons were looked for in {afforded} of {searched} images, since the budget "
            "went no further: raise it, or leave it out"
        )
        audit = replace(audit, notices=(*audit.notices, notice))
    if not afforded:
        return audit
    given = _at(given, evenly(range(len(given.photos)), afforded))
    masks = given.masks if audit.subjects.masked else None
    settings = {
        "labels": given.labels,
        "masks": masks,
        "mask_value": mask_value,
        "root": given.root,
        "batch_size": audit.parameters["batch_size"],
        "shown": shown,
    }
    path, plan = None if folder is None else folder / FILE, ""
    if path is not None:
        plan = digest_of_plan(_plan(audit, replace(given, masks=masks), mask_value))
    found = None if path is None else kept(path, plan)
    if found is None:
        seed = audit.parameters["seed"]
        try:
            reasons = find_reasons(audit.classifier, given.photos, explainer, seed=seed, **settings)
        except MissingExtraError as exc:
            notice = f"wrong reasons were not looked for: {exc}"
            return replace(audit, notices=(*audit.notices, notice))
        pairs = (
            confused_pairs(audit.classifier, given.photos, explainer, **settings)
            if audit.subjects.labelled
            else ()
        )
        found = reasons, tuple(pairs)
        if path is not None:
            keep(path, plan, *found)
    told = with_reasons(audit, *found)
    return replace(told, failures=tuple(dict.fromkeys((*told.failures, *found[0].failures))))


def _afforded(audit: Audit, searched: int) -> int:
    """In how many of the images, by what is left of the budget; none where too few to judge."""
    budget = Budget.of(audit.parameters["budget"])
    if budget is None or audit.recommended is None:
        return searched
    left = budget.left(audit.course.forwards, audit.course.seconds)
    images = int(left / search_cost(audit.recommended.cost))
    return min(searched, images) if images >= min(FEWEST, searched) else 0


def _at(given: Given, places: list[int]) -> Given:
    """Some of the images."""
    photos, labels, masks = given.photos, given.labels, given.masks
    if isinstance(photos, Tensor):
        return replace(
            given,
            photos=photos[places],
            labels=None if labels is None else [labels[place] for place in places],
            masks=masks[places] if isinstance(masks, Tensor) else None,
        )
    return replace(given, photos=[photos[place] for place in places])


def _plan(audit: Audit, given: Given, mask_value: int | None) -> dict[str, Any]:
    """All that is found depends on: as the audit's own, and of the images that are looked at."""
    photos, masks = given.photos, given.masks
    chosen = audit.recommendation.name if audit.recommendation else ""
    plan = {
        **audit.parameters,
        "budget": None,
        "map": chosen,
        "masked": audit.subjects.masked,
        "labelled": audit.subjects.labelled,
        "classes": audit.classifier.class_names,
        "task": audit.classifier.task,
    }
    if isinstance(photos, Tensor):
        drawn = [masks] if isinstance(masks, Tensor) else []
        return {**plan, "images": digest_of(photos, *drawn), "labels": str(given.labels)}
    index = None if isinstance(masks, Tensor) else masks
    subjects, failures = photo_subjects(audit.classifier, photos, index, (mask_value, None))
    told = [(str(record.path), record.label) for record in photos]
    return {**plan, "images": subjects.digest, "photos": told, "failures": failures}
