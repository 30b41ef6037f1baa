"""The one object that users call: a classifier, a method and a layer, and images to explain."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mitate.allocation import keeping_memory
from mitate.errors import LayerError, MitateWarning, TargetError, UsageError
from mitate.explain import layers
from mitate.explain.augmentation import VARIANTS, averaged
from mitate.explain.choice import choose
from mitate.explain.contrast import checked_contrast
from mitate.explain.evidence import DIFFERENTIATED, Derivatives, Evidence, plain_score
from mitate.explain.explanation import Explanation, joined
from mitate.explain.flags import find_flags
from mitate.explain.fusion import checked_fusion, fused
from mitate.explain.grid import Grid
from mitate.explain.inputs import Images, prepare
from mitate.explain.methods import Method
from mitate.explain.methods.table import BACKWARD, DERIVED, OF_SCORES
from mitate.explain.names import AND, LayerSpec, resolve, split
from mitate.explain.outputs import ONE_EACH, Target, TargetFunctions, named_functions, together
from mitate.explain.suffix import Traced
from mitate.explain.tap import Place, TappedForward, tapped_forward
from mitate.explain.targets import (
    Labels,
    Targets,
    checked_targets,
    checked_top_k,
    label_indices,
    label_targets,
    top_classes,
)
from mitate.models.classifier import Classifier
from mitate.models.learners import from_learner, is_learner
from mitate.models.mode import batch_for
from mitate.models.tasks import ONE_OUTPUT
from mitate.progress import Advance, progress
from mitate.tensors import at_least_single, varies

ONE_OF_TWO = (
    "the network gives 1 score, and there are 2 classes: name the one that it speaks for alone, or "
    "both with output=lambda logit: torch.cat([torch.zeros_like(logit), logit], dim=1)"
)
PROBABILITIES = (
    "the network's scores are not negative and add up to 1, as if a softmax had made probabilities "
    "of them already: they are taken for logits, and maps of them fade where the network is sure. "
    "Leave out the softmax, or give Classifier.from_module(network, "
    "output=lambda p: p.clamp_min(1e-12).log())"
)
OF_NO_SCORES = {"activations", "classes", "grid", "images", "generators"}
NEAR_ONE, ROUNDINGS = 1e-5, 8  # of half precision so many of its own
# Evidence that tells of its own forwards.
COUNTED = {"scorer", "suffix", "noisy", "slopes", "guided", "fullgradients"}
PIXELS = "pixels"  # in the place of a layer's name


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
                "gradients, such as hirescam, or targets=lambda logits: logits[:, 0] - logits[:, 1]"
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
        several = len(self.layers) > 1
        self.fusion = checked_fusion(fusion, self.method) if several or fusion else ""
        if fusion and not several:
            raise UsageError(
                "fusion is of several layers, and one is named: give layer='blocks.1 + auto', or "
                "leave out fusion"
            )
        if self.options.get("tolerance") and (augment or len(self.layers) > 1):
            raise UsageError(
                "tolerance is for the map of one layer: leave out augment and further layers"
            )
        compared = {"against": against, "strength": strength} if self.contrast else {}
        self.modifiers = {**compared, **({"augment": True} if augment else {})}
        network = self.classifier.network
        self._named = [None if _is_auto(spec) else resolve(network, spec) for spec in self.layers]
        self._automatic: dict[tuple[int, ...], list[Place]] = {}
        self._grids: dict[tuple[Any, ...], Grid] = {}
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
        named = [place.name if place else "auto" for place in self._named]
        layers_named = f" at {' + '.join(named)}" if self.method.at_layer else ""
        return f"{type(self).__name__}({self.method.name}{layers_named}, {self.classifier!r})"

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
            aimed._automatic, aimed._grids, aimed._traces = {}, {}, {}
            self._aimed = {key: aimed}
        return self._aimed[key]

    def places(self, inputs: Float[Tensor, "b channels *pixels"]) -> list[Place]:
        """The layers that are tapped for inputs such as these; none for a method of pixels.

        None either where no layer has a grid for a method that needs its number of cells alone:
        the pixels are its cells then.
        """
        named = self._named if self.method.at_layer else []
        found = ([place] if place else self._auto(inputs) for place in named)
        return [place for places in found for place in places]

    def _auto(self, inputs: Tensor) -> list[Place]:
        size = tuple(inputs.shape[1:])
        if size not in self._automatic:
            network, read = self.classifier.network, self.classifier.read
            if self.method.joins_layers:
                found = layers.automatic_pair(network, inputs[:1], read=read)
            else:
                found = self._last(inputs)
            self._automatic[size] = [layer.place for layer in found]
        return self._automatic[size]

    def _last(self, inputs: Tensor) -> list[layers.Layer]:
        try:
            found = layers.automatic(self.classifier.network, inputs[:1], read=self.classifier.read)
        except LayerError:
            if not self.method.needs_cells_alone:
                raise
            return []
        return [found]

    def _grid(self, place: Place, inputs: Tensor, activation: Tensor) -> Grid:
        """Where the axes of a layer's output are, found once for each size of the input."""
        key = (id(place.module), tuple(inputs.shape[1:]), tuple(activation.shape[1:]))
        if key not in self._grids:
            network, read = self.classifier.network, self.classifier.read
            self._grids[key] = layers.located(network, place, inputs, activation, read=read)
        return self._grids[key]

    def _looked_at(
        self, places: Sequence[Place], inputs: Tensor, forward: TappedForward
    ) -> list[tuple[Place, Grid]]:
        """The tapped layers with their grids, or the pixels themselves."""
        if not places:
            channels, height, width = inputs.shape[1:]
            pixels = Grid("channels first", height, width, channels)
            return [(Place(self.classifier.network, PIXELS), pixels)]
        activations = zip(places, forward.activations, strict=True)
        return [(place, self._grid(place, inputs, given)) for place, given in activations]

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
                targets = None if wanted is None else wanted[chosen]
                parts.append(self._smoothed(inputs[chosen], targets, top_k, advance))
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
        places, needs = self.places(inputs), self.method.needs
        layers_shown = [place.name for place in places] or [PIXELS]
        network, read = self.classifier.network, self.classifier.read
        forward = tapped_forward(
            network,
            inputs,
            places,
            read=read,
            gradients=not DIFFERENTIATED.isdisjoint(needs),
            attention="attention" in needs,
            curvature="curvature" in needs,
            differentiable=self.differentiable,
        )
        logits = forward.logits.detach()
        if len(logits) != len(inputs):
            raise TargetError(
                f"there are {len(logits)} scores for a batch of {len(inputs)}: {ONE_EACH}"
            )
        class_names = self._names(logits.shape[1])
        self._notice_probabilities(logits)
        classes = top_classes(logits, top_k) if wanted is None else wanted.to(logits.device)
        looked_at, score = self._looked_at(places, inputs, forward), self.contrast or plain_score
        derivatives = Derivatives(forward, classes, score)
        evidence = [
            Evidence(
                self.classifier,
                inputs,
                classes,
                forward,
                derivatives,
                index,
                place,
                grid,
                score,
                self._batch(inputs),
                self.seed,
                self._traces,
                grids=[grid for _, grid in looked_at],
                quick=self._quick,
            )
            for index, (place, grid) in enumerate(looked_at)
        ][: 1 if self.method.joins_layers else None]
        planned = self.method.cost.forwards + sum(self._cost(seen) for seen in evidence)
        told: list[float] = []

        def spent(forwards: float) -> None:
            told.append(forwards)
            advance(forwards / planned)

        maps, counted, estimate = [], not COUNTED.isdisjoint(needs), None
        for seen in evidence:
            seen.advance = spent
            given = self.method.function(*seen.given(needs), **self.options)
            if isinstance(given, tuple):
                given, estimate = given
            maps.append(seen.grid.volume(given))
        advance(len(inputs) - sum(told) / planned)
        one = fused(maps, self.fusion)
        one = one if self.differentiable else one.detach()
        return Explanation(
            maps=at_least_single(one),  # autocast rounds sums over channels
            classes=classes,
            logits=at_least_single(logits),
            class_names=class_names,
            method=self.method.name,
            layer=f" {AND} ".join(layers_shown),
            input_size=tuple(inputs.shape[2:]),
            flags=find_flags(
                one.detach(), _blind(one, evidence, needs), of_channels=self.method.weights_channels
            ),
            options={**self.options, **self.modifiers},
            seed=self.seed,
            cost=self._spent(sum(told) / len(inputs), evidence) if counted else planned,
            task=self.classifier.task,
            fusion=self.fusion if len(evidence) > 1 else "",
            estimate=estimate,
        )

    def _cost(self, seen: Evidence) -> float:
        """Forward-equivalents an image at one layer, but for what all layers share.

        That is the forward, and beyond the first layer the backward of the scores.
        """
        masked = self.method.cost.per_channel > 0
        live = round(float(varies(seen.activations).sum(1).float().mean())) if masked else 0
        classes = seen.classes.shape[1]
        shared = BACKWARD * classes if seen.index and self._shares_gradients else 0
        whole = self.method.cost.of(live, classes, seen.grid.cells, self.options)
        return whole - self.method.cost.forwards - shared

    def _spent(self, told: float, evidence: Sequence[Evidence]) -> float:
        """Forward-equivalents an image: what was told, the images' own forward and gradients."""
        derived = not DIFFERENTIATED.isdisjoint(self.method.needs)
        counted = evidence[: 1 if self._shares_gradients else None] if derived else ()
        return 1 + told + BACKWARD * sum(seen.classes.shape[1] for seen in counted)

    @property
    def _shares_gradients(self) -> bool:
        """Whether one backward a score serves all layers."""
        return not OF_SCORES.isdisjoint(self.method.needs)

    def _names(self, classes: int) -> tuple[str, ...]:
        names = self.classifier.class_names
        if len(names) != classes:
            if (classes, len(names)) == (1, 2):
                raise UsageError(ONE_OF_TWO)
            guessed = self.classifier.provenance.get("guessed_classes")
            told = "by its last linear layer there are" if guessed else "there are"
            raise UsageError(
                f"the network gives {classes} scores, and {told} {len(names)} classes: pass "
                f"classes= with {classes} names, or output= where the scores are elsewhere"
            )
        return names

    def _notice_probabilities(self, logits: Float[Tensor, "b n"]) -> None:
        """Tell, once, of scores that a softmax has been through."""
        looked_at = not OF_NO_SCORES.issuperset(self.method.needs)
        if self._told or self.classifier.task != "single-label" or not looked_at:
            return
        if not logits.is_floating_point():
            return
        apart = (at_least_single(logits).sum(1) - 1).abs().max()
        rounding = max(NEAR_ONE, ROUNDINGS * torch.finfo(logits.dtype).eps)
        if bool((logits >= 0).all()) and float(apart) < rounding:
            self._told = True
            warnings.warn(PROBABILITIES, MitateWarning, stacklevel=2)

    def _progress(self, inputs: Tensor) -> AbstractContextManager[Advance]:
        many = not COUNTED.isdisjoint(self.method.needs)
        shown = many and sys.stderr.isatty() if self.show_progress is None else self.show_progress
        return progress(self.method.name, len(inputs), shown=shown)


def _is_auto(spec: str | nn.Module) -> bool:
    return isinstance(spec, str) and spec == "auto"


def _blind(
    maps: Tensor, evidence: Sequence[Evidence], needs: Sequence[str]
) -> Bool[Tensor, "b k"] | None:
    """Where no gradient arrives at all; None where none was asked for, or no map is zero."""
    if DERIVED.isdisjoint(needs) or maps.flatten(2).any(-1).all():
        return None
    return torch.stack([seen.blind for seen in evidence]).all(0)


def as_classifier(model: Any) -> Classifier:
    """A Classifier of whatever stands for one.

    Raises:
        UsageError: an object that is no classifier.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        return Classifier.from_module(model)
    if isinstance(model, str | Path):
        return Classifier.load(model)
    if is_learner(model):
        return from_learner(model)
    raise UsageError(
        f"a {type(model).__name__} is no classifier: give a module, a mitate.Classifier, a fastai "
        "Learner, or a reference such as timm:NAME@WEIGHTS or hf:ORG/NAME"
    )
