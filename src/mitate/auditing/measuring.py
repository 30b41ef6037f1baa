"""Measuring maps: every metric of every contender on a batch, with what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.allocation import keeping_memory
from mitate.auditing.agreement import NO_SEGMENTATION
from mitate.auditing.curves import CURVES
from mitate.auditing.plan import Answers, Plan
from mitate.auditing.robustness import spread
from mitate.auditing.sample import Advance, Contender, Sample, contenders
from mitate.auditing.table import EXPLAINED, Metric, find_metric
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.models.mode import batch_for, evaluating
from mitate.tensors import has_doubles

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
Values = dict[tuple[str, str], Tensor]


@dataclass(frozen=True)
class Measured:
    """What was measured of every contender.

    Attributes:
        values: (contender, metric) -> one value an image, NaN where it is undefined.
        curves: (contender, curve) -> the class's probability (b, steps), for drawing.
        fractions: curve -> the fraction of the pixels at each of its steps.
        forwards: forward-equivalents an image that were really spent.
        spreads: contender -> where its maps are not stable (b, h, w), if stability was measured.
        seed: of everything that was drawn.
        options: the options of each metric, as they were used.
    """

    values: Values
    curves: Values
    forwards: float
    spreads: dict[str, Tensor] = field(default_factory=dict)
    fractions: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: dict(CURVES))
    seed: int = 0
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


@keeping_memory()
def measure(
    classifier: Classifier,
    inputs: Float[Tensor, "b channels H W"],
    classes: Int[Tensor, " b"],
    maps: Mapping[str, Float[Tensor, "b _h _w"]],
    metrics: Sequence[str],
    *,
    masks: Float[Tensor, "b H W"] | None = None,
    explainers: Mapping[str, Explainer] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    advance: Advance = lambda forwards: None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Measured:
    """Measure maps of several contenders on the same images.

    An altered image that several metrics or contenders need is run once: give all contenders and
    all metrics in one call. An image's values do not depend on the batch that it is in.

    Args:
        classifier: whose maps they are.
        inputs: the preprocessed images.
        classes: the explained class of each image.
        maps: by contender, the maps of that class, each on its own grid.
        metrics: names of the table.
        masks: the share of each pixel of the input that belongs to the true region.
        explainers: by contender, what made its maps; for the metrics that need new ones.
        seed: of everything that is drawn; the global state is not touched.
        batch_size: altered images in one forward; None as ``Explainer`` has it.
        advance: told of forwards as they are done; ``planned_forwards`` tells how many an image.
        options: of the metrics, by name; each metric takes those that it has.

    Raises:
        UsageError: unknown metrics or options, masks, explainers or a segmentation that are
        missing, or maps of another number of images.
    """
    chosen = _found(metrics)
    used = checked_options(chosen, options)
    _check(chosen, inputs, classes, maps, masks)
    _check_classes(classes, classifier)
    _check_segments(chosen, classifier)
    _check_explainers(chosen, classifier, maps, explainers or {})
    device = inputs.device
    if masks is not None:
        masks = masks.to(device) if masks.is_floating_point() else masks.to(device).float()
    sample = Sample(
        classifier,
        inputs.detach(),
        classes.to(device),
        masks,
        seed,
        batch_for(inputs, batch_size),
        advance,
    )
    with evaluating(classifier.network), torch.inference_mode(False), torch.no_grad():
        entered = contenders(sample, maps, explainers)
        plan = Plan.of(chosen, used)
        found = plan.run(sample, entered)
        values = {
            (contender.name, metric.name): _value(plan, metric, contender, found, used[metric.name])
            for contender in entered.values()
            for metric in chosen
        }
        curves: Values = {}
        for contender in entered.values():
            curves |= _curves(plan, chosen, contender, found)
        spreads = _spreads(chosen, entered)
    return Measured(values, curves, sample.spent / len(inputs), spreads, seed=seed, options=used)


def planned_forwards(
    metrics: Sequence[str],
    contenders: int,
    *,
    explanation: float = 3.0,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> float:
    """Forward-equivalents an image that metrics cost, before they are measured.

    Args:
        metrics: names of the table.
        contenders: how many.
        explanation: what one map costs, the mean over the contenders.
        options: of the metrics, by name.
    """
    chosen = _found(metrics)
    used = checked_options(chosen, options)
    plan = Plan.of(chosen, used)
    again = sum(metric.maps_asked(used[metric.name]) for metric in chosen)
    again += sum(
        maps
        for evidence, maps in EXPLAINED.items()
        if any(evidence in metric.needs for metric in chosen)
    )
    looks = plan.forwards(contenders) or any(_looks(metric) for metric in chosen)
    shared = bool(looks) + any(metric.needs_segmentation for metric in chosen)
    return float(shared) + plan.forwards(contenders) + contenders * again * explanation


def checked_options(
    metrics: Sequence[Metric], options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The options of each metric.

    Raises:
        UsageError: an option that none of them has, or a value of another type.
    """
    known = {name for metric in metrics for name in metric.options}
    for name in options:
        if name not in known:
            raise UsageError(
                f"no chosen metric has an option {name!r}: there are "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    return {metric.name: metric.checked_options(options) for metric in metrics}


def _found(metrics: Sequence[str]) -> list[Metric]:
    """Each metric once, in the order given."""
    return list({found.name: found for found in map(find_metric, metrics)}.values())


def _looks(metric: Metric) -> bool:
    """Whether it needs the forward of the unaltered images."""
    return not {"own", "class_count"}.isdisjoint(metric.needs)


def _check(
    metrics: Sequence[Metric],
    inputs: Tensor,
    classes: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None,
) -> None:
    number = len(inputs)
    if number == 0 or len(classes) != number:
        raise UsageError(f"{len(classes)} class(es) for {number} image(s): give one an image")
    for name, given in maps.items():
        if len(given) != number:
            raise UsageError(f"{name} has {len(given)} map(s) for {number} image(s): give one each")
        if given.ndim != 3:
            raise UsageError(
                f"the maps of {name} are {tuple(given.shape)}: give one map an image, (images, "
                "height, width), such as explanation.maps[:, 0]"
            )
    for metric in metrics:
        if metric.needs_masks and masks is None:
            raise UsageError(f"{metric.name} compares with the true region: give masks")
    if masks is not None and masks.shape != (number, *inputs.shape[-2:]):
        raise UsageError(
            f"masks of {tuple(masks.shape)} for inputs of {tuple(inputs.shape)}: bring them to the "
            "size of the inputs, such as by the classifier's preprocessing.mask"
        )
    if masks is not None and not ((masks >= 0) & (masks <= 1)).all():
        raise UsageError(
            f"masks go from {masks.min():g} to {masks.max():g}: give the share of each pixel that "
            "is of the true region, 0 to 1, such as masks > 0"
        )


def _check_classes(classes: Tensor, classifier: Classifier) -> None:
    number = len(classifier.class_names)
    if not ((classes >= 0) & (classes < number)).all():
        raise UsageError(
            f"classes go from {int(classes.min())} to {int(classes.max())} and the classifier has "
            f"{number}: use 0 to {number - 1}"
        )


def _check_segments(metrics: Sequence[Metric], classifier: Classifier) -> None:
    needing = [metric.name for metric in metrics if metric.needs_segmentation]
    if needing and classifier.decoder is None:
        raise UsageError(f"{needing[0]} {NO_SEGMENTATION}")


def _check_explainers(
    metrics: Sequence[Metric],
    classifier: Classifier,
    maps: Mapping[str, Tensor],
    explainers: Mapping[str, Explainer],
) -> None:
    again = [metric.name for metric in metrics if metric.explains_again]
    lacking = sorted(set(maps) - set(explainers))
    if again and lacking:
        raise UsageError(f"{again[0]} explains again: give explainers for {', '.join(lacking)}")
    for name, explainer in explainers.items():
        if again and explainer.classifier.network is not classifier.network:
            raise UsageError(f"the explainer {name} is of another network than the classifier's")


def _value(
    plan: Plan, metric: Metric, contender: Contender, found: Answers, options: Mapping[str, Any]
) -> Float[Tensor, " b"]:
    evidence = [*contender.evidence(metric.needs), *plan.answers(metric, contender, found)]
    device = contender.images.device
    if not has_doubles(device):  # metrics add up in double precision
        evidence = [_on_the_cpu(one, device) for one in evidence]
    values = metric.value(evidence, options).float().to(device)
    return torch.where(contender.valid, values, torch.nan)


def _on_the_cpu(evidence: Any, device: torch.device) -> Any:
    """A tensor there, and new maps that are made on the device and given there."""
    if isinstance(evidence, Tensor):
        return evidence.cpu()
    if not callable(evidence):
        return evidence
    return lambda images, classes: evidence(images.to(device), classes.to(device)).cpu()


def _spreads(metrics: Sequence[Metric], entered: Mapping[str, Contender]) -> dict[str, Tensor]:
    if not any("variants" in metric.needs for metric in metrics):
        return {}
    return {name: spread(found.maps, found.variants) for name, found in entered.items()}


def _curves(plan: Plan, metrics: Sequence[Metric], contender: Contender, found: Answers) -> Values:
    """The curves of one contender that were run anyway; NaN where its map is not valid."""
    curves: Values = {}
    for metric in metrics:
        if metric.curves and metric.curves[0] not in {name for _, name in curves}:
            answers = plan.answers(metric, contender, found)
            for name, answer in zip(metric.curves, answers, strict=True):
                shown = torch.where(contender.valid[:, None], answer, torch.nan)
                curves[contender.name, name] = shown.float()
    return curves
