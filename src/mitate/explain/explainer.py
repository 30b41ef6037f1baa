"""The one object that users call: a classifier, a method and a layer, and images to explain."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mitate.allocation import keeping_memory
from mitate.errors import MitateWarning, TargetError, UsageError
from mitate.explain.augmentation import VARIANTS, averaged
from mitate.explain.choice import choose
from mitate.explain.contrast import checked_contrast
from mitate.explain.cost import planned, spent
from mitate.explain.evidence import Derivatives, Evidence, plain_score
from mitate.explain.explanation import Explanation, joined
from mitate.explain.flags import find_flags
from mitate.explain.fusion import checked_fusion, fused
from mitate.explain.hooks import Place
from mitate.explain.inputs import Images, prepare
from mitate.explain.methods import Method
from mitate.explain.names import LayerSpec, joined_names, split
from mitate.explain.outputs import Target, TargetFunctions, named_functions, together
from mitate.explain.places import Places
from mitate.explain.scores import PROBABILITIES, check_scores, seem_probabilities
from mitate.explain.suffix import Traced
from mitate.explain.tap import TappedForward, tapped_forward
from mitate.explain.targets import (
    Labels,
    Targets,
    checked_targets,
    checked_top_k,
    label_indices,
    label_targets,
    top_classes,
)
from mitate.models.accepting import as_classifier
from mitate.models.mode import batch_for
from mitate.models.tasks import ONE_OUTPUT
from mitate.progress import Advance, progress
from mitate.tensors import at_least_single, recordable


class Explainer:
    """Makes maps of one classifier by one method at one layer."""

    def __init__(
        self,
        model: Any,
        method: str = "gradcam",
        layer: LayerSpec | Sequence[LayerSpec] = "auto",
        *,
        budget: float | None = None,
        fusion: str | None = None,
        against: str | int | None = None,
        strength: float = 1.0,
        augment: bool = False,
        batch_size: int | None = None,
        seed: int = 0,
        show_progress: bool | None = None,
        differentiable: bool = False,
        **options: Any,
    ) -> None:
        """Choose what to explain and how.

        Args:
            model: a Classifier, a reference to one, a fastai Learner or a plain module.
            method: a name from ``mitate methods``, or ``auto``: what was found best for these very
                weights, or else what the budget affords (see ``choose``). ``method`` and
                ``options`` then tell what was taken.
            layer: a module, a name with indices, the number of a child, or ``auto``: the last
                layer with a spatial grid before pooling. Several of them, in a list or as
                ``"blocks.1 + blocks.-1"``, give one map, on the finest of their grids. Methods
                that join layers take an early one too; methods of pixels look at none.
            budget: with ``auto``, the forwards that an image may cost for each of its classes; a
                forward with its backward counts 3. None is for the cheapest.
            fusion: how the maps of several layers, each divided by its largest value, become one:
                ``max`` (which None takes), ``mean`` or ``product``. Not for methods that join
                layers by themselves.
            against: explain why a class rather than another: a class by name or index, or
                ``nearest`` for the classes of the nearest scores (FinerCAM: see ``Contrast``). For
                methods of gradients alone; a function as the target does it for the others.
            strength: how much of the other's score is taken off.
            augment: average the maps of the image, of its mirror image, and of both at 0.9 and 1.1
                times the contrast, which smooths (grad-cam's ``aug_smooth``) and costs six times
                as much.
            batch_size: images, or masked images, in one forward; None takes 16 of 224 px, and more
                of smaller ones (``batch_for``).
            seed: seeds methods that draw random numbers; the global state is not touched.
            show_progress: None shows it for methods of many forwards on a terminal.
            differentiable: give maps that a loss can go back from, to the network's weights, and
                record all that this needs; for methods of activations and their gradients.
            **options: the method's own options.

        Raises:
            UsageError: an unknown method or option, LayerError: no such layer.
        """
        if batch_size is not None and (
            not isinstance(batch_size, int | np.integer) or batch_size < 1
        ):
            raise UsageError(f"batch_size is {batch_size}: use 1 or more, a whole number")
        self.classifier = as_classifier(model)
        compares = against is not None
        chosen = choose(self.classifier, method, layer, budget=budget, compares=compares)
        self.method: Method = chosen.method
        self.options = self.method.checked_options({**chosen.options, **options})
        if not isinstance(seed, int | np.integer):
            raise UsageError(f"seed is {seed!r}: use a whole number")
        self.batch_size = batch_size
        self.seed = int(seed)
        self.show_progress = show_progress
        self.contrast = checked_contrast(against, strength, self.classifier.class_names)
        if self.contrast is not None and not self.method.contrasts:
            raise UsageError(
                f"{self.method.name} cannot explain one class against another: use a method of "
                "gradients, such as hirescam (in Python, targets=lambda logits: logits[:, 0] - "
                "logits[:, 1] does too)"
            )
        if differentiable and (augment or not self.method.can_teach):
            raise UsageError(
                f"{self.method.name}{' with augment' if augment else ''} gives no maps that can be "
                "differentiated: use a method of activations and gradients, such as gradcam, "
                "without augment"
            )
        self.differentiable = differentiable
        self.augment = augment
        self.layers = split(chosen.layer)
        self.fusion = checked_fusion(fusion, self.method, len(self.layers))
        if self.options.get("tolerance") and (augment or len(self.layers) > 1):
            raise UsageError(
                "tolerance is for the map of one layer: leave out augment and further layers"
            )
        compared = {"against": against, "strength": strength} if self.contrast else {}
        self.modifiers = {**compared, **({"augment": True} if augment else {})}
        self.places = Places(self.classifier, self.method, self.layers)
        self._traces: dict[Any, Traced | None] = {}
        self._aimed: dict[tuple[tuple[str, Target], ...], Explainer] = {}
        self._told = False
        self._quick: Callable[[Tensor], Tensor] | None = None  # as Scorer has it

    @classmethod
    def best(cls, model: Any, images: Images | None = None, **settings: Any) -> "Explainer":
        """Measure which method at which layer tells the truth about a classifier, and take it.

        The choice is remembered in the classifier's folder, for these weights: without images, or
        with the same ones, it is taken from there.

        Args:
            model: what ``Explainer`` takes.
            images: what it takes, six or more; None takes what is remembered.
            **settings: ``labels``, ``masks`` (b, H, W) and what ``mitate.audit`` takes: methods,
                layers, pick, budget, audited, options, seed, batch_size, tell and shown.

        Raises:
            UsageError: no image where nothing is remembered, or nothing that can be measured.

        Warns:
            MitateWarning: the best map is no better than a control.
        """
        from mitate.auditing.best import best_explainer

        return best_explainer(model, images, **settings)

    def __repr__(self) -> str:
        where = f" at {self.places}" if self.method.at_layer else ""
        return f"{type(self).__name__}({self.method.name}{where}, {self.classifier!r})"

    def __call__(
        self,
        images: Images,
        top_k: int | None = None,
        *,
        targets: Targets | TargetFunctions | str | None = None,
        labels: Labels | None = None,
        names: Sequence[str] = (),
    ) -> Explanation:
        """Explain images.

        Args:
            images: a batch of preprocessed tensors (b, channels, H, W), or photos or their paths;
                volumes (b, channels, D, H, W) for the methods of gradients.
            top_k: how many of the most probable classes; None takes 3, or all of fewer.
            targets: instead of ``top_k`` one class for all images, one an image or a list of
                classes an image, by index or name; ``"label"`` for the true class; or functions
                from the network's output to one score an image: one, a list of them, or a dict by
                name. Each is explained on every image.
            labels: true classes as names or indices, None where unknown.
            names: names of the images.

        Raises:
            ImageError: an image that cannot be read or is not finite; TargetError: targets that do
            not fit; LayerError: a layer without a spatial grid.
        """
        batch = prepare(self.classifier, images)
        if batch.inputs.ndim == 5 and not self.method.takes_volumes:
            raise UsageError(
                f"{self.method.name} is made for images and was given volumes: use a method of "
                "gradients, such as layercam"
            )
        number, class_names = len(batch.inputs), self.classifier.class_names
        shown = tuple(names) or batch.names
        if shown and len(shown) != number:
            raise UsageError(f"{len(shown)} names for {number} images: give one an image")
        if targets is not None and top_k is not None:
            raise TargetError("targets and top_k both say what to explain: give one of them")
        known = label_indices(labels, number, class_names)
        functions = named_functions(targets)
        if functions is not None and (labels is not None or self.contrast is not None):
            raise TargetError(
                "labels and against are of classes: leave them out with target functions"
            )
        if functions is not None and "head" in self.method.needs:
            raise UsageError(
                f"{self.method.name} reads the weights of classes, and a function has none: use "
                "hirescam, which is the same where those are defined"
            )
        if functions is None and self.classifier.provenance.get("guessed_task"):
            warnings.warn(ONE_OUTPUT, MitateWarning, stacklevel=2)
        if functions is None:
            explainer, wanted = self, self._wanted(targets, known, number, top_k)
        else:
            explainer = self._aimed_at(functions)
            wanted = torch.arange(len(functions)).expand(number, -1)
        explanation = explainer._in_batches(batch.inputs, wanted, top_k)
        return replace(explanation, names=shown, labels=known, pictures=batch.pictures)

    def _wanted(
        self, targets: Any, labels: tuple[int, ...], images: int, top_k: int | None
    ) -> Int[Tensor, "b k"] | None:
        """The classes that were named; None where the most probable ones are to be found."""
        class_names = self.classifier.class_names
        if isinstance(targets, str) and targets == "label":
            targets = label_targets(labels)
        if targets is not None:
            return checked_targets(targets, images, class_names)
        checked_top_k(top_k, len(class_names))
        return None

    def _aimed_at(self, functions: Mapping[str, Target]) -> "Explainer":
        """An explainer of functions of the output, in the place of classes."""
        key = tuple(functions.items())
        if key not in self._aimed:
            aimed = copy(self)
            aimed.classifier = replace(
                self.classifier,
                class_names=tuple(functions),
                output=together(functions),
                task="regression",
            )
            aimed.places = Places(aimed.classifier, self.method, self.layers)
            aimed._traces = {}
            self._aimed = {key: aimed}
        return self._aimed[key]

    def _batch(self, inputs: Tensor) -> int:
        return batch_for(inputs, self.batch_size)

    def _in_batches(
        self, inputs: Tensor, wanted: Int[Tensor, "b k"] | None, top_k: int | None
    ) -> Explanation:
        with (
            keeping_memory(),
            torch.inference_mode(False),
            torch.enable_grad(),
            self._progress(inputs) as advance,
        ):
            parts = []
            for start in range(0, len(inputs), size := self._batch(inputs)):
                chosen = slice(start, start + size)
                targets = None if wanted is None else recordable(wanted[chosen])
                given = recordable(inputs[chosen])
                parts.append(self._smoothed(given, targets, top_k, advance))
            return joined(parts)

    def _smoothed(
        self,
        inputs: Float[Tensor, "b channels *pixels"],
        wanted: Int[Tensor, "b k"] | None,
        top_k: int | None,
        advance: Advance,
    ) -> Explanation:
        if not self.augment:
            return self._explained(inputs, wanted, top_k, advance)

        def explain(images: Tensor, classes: Tensor | None) -> Explanation:
            named = wanted if classes is None else classes
            return self._explained(images, named, top_k, lambda n: advance(n / len(VARIANTS)))

        return averaged(explain, inputs)

    def _explained(
        self,
        inputs: Float[Tensor, "b channels *pixels"],
        wanted: Int[Tensor, "b k"] | None,
        top_k: int | None,
        advance: Advance,
    ) -> Explanation:
        places = self.places.found(inputs)
        forward = self._forward(inputs, places)
        logits = forward.logits.detach()
        self._check(logits, len(inputs))
        classes = top_classes(logits, top_k) if wanted is None else wanted.to(logits.device)
        evidence = self._evidence(inputs, classes, forward, places)
        expected = planned(self.method, self.options, evidence)
        told: list[float] = []

        def tell(forwards: float) -> None:
            told.append(forwards)
            advance(forwards / expected)

        maps, estimate = [], None
        for seen in evidence:
            seen.advance = tell
            given = self.method.function(*seen.given(self.method.needs), **self.options)
            if isinstance(given, tuple):
                given, estimate = given
            maps.append(seen.grid.volume(given))
        advance(len(inputs) - sum(told) / expected)
        one = fused(maps, self.fusion)
        one = one if self.differentiable else one.detach()
        blind = _blind(one, evidence, self.method)
        counted = self.method.counts
        return Explanation(
            maps=at_least_single(one),  # autocast rounds sums over channels
            classes=classes,
            logits=at_least_single(logits),
            class_names=self.classifier.class_names,
            method=self.method.name,
            layer=joined_names(place.name for place, _ in evidence[0].looked_at),
            input_size=tuple(inputs.shape[2:]),
            flags=find_flags(one.detach(), blind, of_channels=self.method.weights_channels),
            options={**self.options, **self.modifiers},
            seed=self.seed,
            cost=spent(self.method, evidence, sum(told) / len(inputs)) if counted else expected,
            task=self.classifier.task,
            fusion=self.fusion if len(evidence) > 1 else "",
            estimate=estimate,
        )

    def _forward(self, inputs: Tensor, places: Sequence[Place]) -> TappedForward:
        """The images' own forward, with what the method needs of it."""
        return tapped_forward(
            self.classifier.network,
            inputs,
            places,
            read=self.classifier.read,
            gradients=self.method.records,
            attention="attention" in self.method.needs,
            curvature="curvature" in self.method.needs,
            differentiable=self.differentiable,
        )

    def _check(self, logits: Tensor, images: int) -> None:
        check_scores(logits, self.classifier, images)
        if not self._told and seem_probabilities(logits, self.classifier, self.method):
            self._told = True
            warnings.warn(PROBABILITIES, MitateWarning, stacklevel=2)

    def _evidence(
        self,
        inputs: Float[Tensor, "b channels *pixels"],
        classes: Int[Tensor, "b k"],
        forward: TappedForward,
        places: Sequence[Place],
    ) -> list[Evidence]:
        """That of each layer that the method looks at; one for all where it joins them."""
        looked_at = self.places.looked_at(places, inputs, forward)
        derivatives = Derivatives(forward, classes, self.contrast or plain_score)
        evidence = [
            Evidence(
                self.classifier,
                inputs,
                derivatives,
                looked_at,
                index,
                self._batch(inputs),
                self.seed,
                self._traces,
                quick=self._quick,
            )
            for index in range(len(looked_at))
        ]
        return evidence[:1] if self.method.joins_layers else evidence

    def _progress(self, inputs: Tensor) -> AbstractContextManager[Advance]:
        many = self.method.counts
        shown = many and sys.stderr.isatty() if self.show_progress is None else self.show_progress
        return progress(self.method.name, len(inputs), shown=shown)


def _blind(
    maps: Tensor, evidence: Sequence[Evidence], method: Method
) -> Bool[Tensor, "b k"] | None:
    """Where no gradient arrives at all; None where none was asked for, or no map is zero."""
    if not method.differentiates or maps.flatten(2).any(-1).all():
        return None
    masks = "scorer" in method.needs  # whose slopes go through the image
    return torch.stack([seen.blind(pixels=masks) for seen in evidence]).all(0)
