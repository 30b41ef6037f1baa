"""The one object that users call: a classifier, a method and a layer, and images to explain."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mitate.data.decoding import read_image
from mitate.errors import ImageError, TargetError, UsageError
from mitate.explain import layers
from mitate.explain.explanation import Explanation, Flag, joined
from mitate.explain.grid import Grid
from mitate.explain.layers import LayerSpec
from mitate.explain.methods import Method, Needs, find_method
from mitate.explain.scorer import Scorer
from mitate.explain.tap import Place, TappedForward, tapped_forward
from mitate.explain.targets import Targets, choose_classes
from mitate.models.classifier import Classifier
from mitate.models.learners import from_learner, is_learner
from mitate.progress import Advance, progress
from mitate.tensors import seeded

Photo = str | Path | Image.Image
Images = Tensor | Photo | Sequence[Photo]


class Explainer:
    """Makes maps of one classifier by one method at one layer."""

    def __init__(
        self,
        model: Any,
        method: str = "gradcam",
        layer: LayerSpec = "auto",
        *,
        batch_size: int = 16,
        seed: int = 0,
        show_progress: bool | None = None,
        **options: Any,
    ) -> None:
        """Choose what to explain and how.

        Args:
            model: a Classifier, a reference to one, a fastai Learner or a plain module.
            method: a name from ``mitate methods``.
            layer: a module, a name with indices, or ``auto``: the last layer with a spatial grid
                before pooling.
            batch_size: images, or masked images, in one forward.
            seed: seeds methods that draw random numbers; the global state is not touched.
            show_progress: None shows it for methods of many forwards on a terminal.
            **options: the method's own options.

        Raises:
            UsageError: an unknown method or option, LayerError: no such layer.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}: use 1 or more")
        self.classifier = as_classifier(model)
        self.method: Method = find_method(method)
        self.options = self.method.checked_options(options)
        self.batch_size = batch_size
        self.seed = seed
        self.show_progress = show_progress
        self.layer = layer
        network = self.classifier.network
        self._place = None if layer == "auto" else layers.resolve(network, layer)
        self._automatic: dict[tuple[int, ...], Place] = {}

    def __call__(
        self,
        images: Images,
        top_k: int = 3,
        *,
        targets: Targets | str | None = None,
        labels: Sequence[int | str | None] | None = None,
        names: Sequence[str] = (),
    ) -> Explanation:
        """Explain images.

        Args:
            images: a batch of preprocessed tensors (b, channels, H, W), or photos or their paths.
            top_k: how many of the most probable classes.
            targets: instead of ``top_k`` one class an image, a list of classes an image, or
                ``"label"`` for the true class.
            labels: true classes as names or indices, None where unknown.
            names: names of the images.

        Raises:
            ImageError: an image that cannot be read or is not finite; TargetError: targets that do
            not fit; LayerError: a layer without a spatial grid.
        """
        inputs, pictures, found = self._prepared(images)
        known = self._labels(labels, len(inputs))
        if isinstance(targets, str):
            targets = _label_targets(targets, known)
        shown = tuple(names) or found
        if shown and len(shown) != len(inputs):
            raise UsageError(f"{len(shown)} names for {len(inputs)} images: give one an image")
        if targets is not None and len(targets) != len(inputs):
            raise TargetError(
                f"{len(targets)} target(s) for {len(inputs)} image(s): give one class an image, "
                "or one list of classes an image"
            )
        generator = seeded(self.seed)
        with torch.inference_mode(False), torch.enable_grad(), self._progress(inputs) as advance:
            parts = [
                self._explained(
                    inputs[start : start + self.batch_size],
                    top_k,
                    None if targets is None else targets[start : start + self.batch_size],
                    generator,
                    advance,
                )
                for start in range(0, len(inputs), self.batch_size)
            ]
        explanation = joined(parts)
        return _described(explanation, shown, known, pictures)

    def place(self, inputs: Tensor) -> Place:
        """The layer that is tapped for inputs such as these."""
        if self._place is not None:
            return self._place
        size = tuple(inputs.shape[1:])
        if size not in self._automatic:
            network, read = self.classifier.network, self.classifier.read
            self._automatic[size] = layers.automatic(network, inputs[:1], read=read).place
        return self._automatic[size]

    def _explained(
        self,
        inputs: Tensor,
        top_k: int,
        targets: Targets | None,
        generator: torch.Generator,
        advance: Advance,
    ) -> Explanation:
        place = self.place(inputs)
        forward = tapped_forward(
            self.classifier.network,
            inputs,
            [place],
            read=self.classifier.read,
            gradients=self.method.needs is Needs.GRADIENTS,
        )
        advance(len(inputs))
        classes = choose_classes(forward.logits.detach(), top_k=top_k, targets=targets)
        grid = layers.located(self.classifier.network, place, inputs, forward.activations[0])
        maps, reasons = self._maps(inputs, forward, grid, classes, generator, advance)
        return Explanation(
            maps=maps.detach(),
            classes=classes,
            logits=forward.logits.detach(),
            class_names=self._names(forward.logits.shape[1]),
            method=self.method.name,
            layer=place.name,
            input_size=(int(inputs.shape[-2]), int(inputs.shape[-1])),
            flags=tuple(_flags(maps, reasons)),
            options=self.options,
            seed=self.seed,
            cost=self.method.cost.of(_live_channels(grid, forward), classes.shape[1]),
        )

    def _maps(
        self,
        inputs: Tensor,
        forward: TappedForward,
        grid: Grid,
        classes: Tensor,
        generator: torch.Generator,
        advance: Advance,
    ) -> tuple[Tensor, list[list[str]]]:
        """Maps (b, k, h, w), and what would explain each if it came out empty."""
        make = self.method.function
        blank = [[""] * classes.shape[1] for _ in classes]
        activations = grid.spatial(forward.activations[0].detach())
        if self.method.needs is Needs.IMAGES:
            size = (grid.height, grid.width)
            return make(inputs, size, classes, generator, **self.options), blank
        if self.method.needs is Needs.GRADIENTS:
            scores = forward.logits.gather(1, classes)
            gradients = grid.spatial(forward.gradients(scores)[0])
            return make(activations, gradients, **self.options), _why(gradients)
        scorer = Scorer(
            self.classifier.network,
            self.classifier.read,
            inputs,
            classes,
            self.batch_size,
            advance,
        )
        return make(activations, scorer, **self.options), blank

    def _prepared(
        self, images: Images
    ) -> tuple[Tensor, tuple[Image.Image, ...] | None, tuple[str, ...]]:
        if isinstance(images, Tensor):
            return self._checked(images), self._guessed(images), ()
        single = isinstance(images, str | Path | Image.Image)
        given: Sequence[Photo] = [images] if single else list(images)  # type: ignore[list-item, arg-type]
        if not given:
            raise UsageError("there is no image to explain: give at least one")
        if all(isinstance(image, Tensor) for image in given):
            return self._prepared(torch.stack(given))  # type: ignore[arg-type]
        photos = [as_photo(image) for image in given]
        names = tuple(
            Path(image).name if isinstance(image, str | Path) else f"image {index}"
            for index, image in enumerate(given)
        )
        pictures = tuple(self.classifier.preprocessing.view(photo) for photo in photos)
        return self._checked(self.classifier.inputs(photos), names), pictures, names

    def _checked(self, inputs: Tensor, names: Sequence[str] = ()) -> Tensor:
        if inputs.ndim == 3:
            inputs = inputs[None]
        if inputs.ndim != 4 or not inputs.is_floating_point() or len(inputs) == 0:
            raise UsageError(
                f"images are a {inputs.dtype} tensor of shape {tuple(inputs.shape)}; expected a "
                "preprocessed float batch (images, channels, height, width)"
            )
        finite = inputs.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            bad = [i for i, good in enumerate(finite.tolist()) if not good]
            shown = ", ".join(names[i] if names else str(i) for i in bad[:4])
            raise ImageError(
                f"after preprocessing, image(s) {shown} hold values that are not finite: check the "
                "pixels and the preprocessing's std"
            )
        return inputs.to(self.classifier.device, self.classifier.dtype)

    def _guessed(self, inputs: Tensor) -> tuple[Image.Image, ...] | None:
        """Pictures of tensors, as the classifier's own normalisation would undo them."""
        preprocessing = self.classifier.preprocessing
        batch = inputs[None] if inputs.ndim == 3 else inputs
        if batch.ndim != 4 or batch.shape[1] != len(preprocessing.mean):
            return None
        return tuple(Image.fromarray(pixels) for pixels in preprocessing.denormalize(batch))

    def _labels(
        self, labels: Sequence[int | str | None] | None, images: int
    ) -> tuple[int, ...]:
        if labels is None:
            return ()
        if len(labels) != images:
            raise TargetError(f"{len(labels)} label(s) for {images} image(s): give one an image")
        return tuple(self._label(label) for label in labels)

    def _label(self, label: int | str | None) -> int:
        names = self.classifier.class_names
        if label is None:
            return -1
        if isinstance(label, str):
            if label not in names:
                raise TargetError(f"{label!r} is no class of this classifier: {', '.join(names[:8])}")
            return names.index(label)
        if not 0 <= int(label) < len(names):
            raise TargetError(f"label {label} is out of range: use 0 to {len(names) - 1}")
        return int(label)

    def _names(self, classes: int) -> tuple[str, ...]:
        names = self.classifier.class_names
        if len(names) != classes:
            raise UsageError(
                f"the network gives {classes} scores and {len(names)} class names were given: pass "
                "as many names as scores"
            )
        return names

    def _progress(self, inputs: Tensor) -> AbstractContextManager[Advance]:
        many = self.method.needs is Needs.SCORES
        shown = many and sys.stderr.isatty() if self.show_progress is None else self.show_progress
        total = None if many else len(inputs)
        return progress(self.method.name, total, shown=bool(shown))


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
        "Learner, or a reference such as timm:NAME@WEIGHTS"
    )


def as_photo(image: Any) -> Image.Image:
    """An RGB photo of a path, a PIL image or an array (H, W, 3) of bytes."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        return Image.fromarray(image).convert("RGB")
    raise ImageError(
        f"a {type(image).__name__} is no image: give paths, PIL images, uint8 arrays (H, W, 3) or "
        "one preprocessed tensor"
    )


def _label_targets(targets: str, labels: tuple[int, ...]) -> list[int]:
    if targets != "label":
        raise TargetError(f"targets={targets!r} is not known: use 'label', or class indices")
    if not labels or -1 in labels:
        raise TargetError("targets='label' needs labels=, a class for every image")
    return list(labels)


def _described(
    explanation: Explanation,
    names: tuple[str, ...],
    labels: tuple[int, ...],
    pictures: tuple[Image.Image, ...] | None,
) -> Explanation:
    from dataclasses import replace

    return replace(explanation, names=names, labels=labels, pictures=pictures)


def _live_channels(grid: Grid, forward: TappedForward) -> int:
    activations = grid.spatial(forward.activations[0].detach())
    live = activations.amax((-2, -1)) > activations.amin((-2, -1))
    return round(float(live.sum(1).float().mean()))


def _why(gradients: Tensor) -> list[list[str]]:
    """Why a gradient method's map may be empty, for every image and class."""
    seen = gradients.flatten(2).any(-1)
    positive = "the layer sees a gradient, and all of the weighted sum is negative"
    return [
        [positive if sees else "the layer sees no gradient from this class" for sees in row]
        for row in seen.tolist()
    ]


def _flags(maps: Tensor, reasons: list[list[str]]) -> list[Flag]:
    finite = maps.isfinite().all(-1).all(-1)
    zero = ~maps.any(-1).any(-1)
    constant = maps.amax((-2, -1)) == maps.amin((-2, -1))
    flags = []
    for image, target in (~finite | zero | constant).nonzero().tolist():
        kind = (
            "not finite"
            if not finite[image, target]
            else "zero" if zero[image, target] else "constant"
        )
        reason = reasons[image][target] if kind == "zero" else ""
        flags.append(Flag(image, target, kind, reason or REASONS[kind]))
    return flags


REASONS = {
    "not finite": "the activations or scores overflowed or were not finite",
    "zero": "no weighted channel is positive anywhere",
    "constant": "the method gives the same value everywhere on this grid",
}
