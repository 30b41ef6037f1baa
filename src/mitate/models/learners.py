"""fastai Learners: their network, vocabulary, normalisation, size and resize method."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning
from mitate.models.architecture import input_channels
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import RESAMPLING, Interpolation, Padding, Preprocessing, Resize
from mitate.models.probes import PROBES, TOLERANCE, apart, probe

METHODS: dict[str, Resize] = {"squish": "squash", "crop": "crop", "pad": "pad"}
PADDING: dict[str, Padding] = {"zeros": "black", "border": "edge", "reflection": "reflection"}
FILTERS: dict[int, Interpolation] = {int(one): name for name, one in RESAMPLING.items()}
SEVERAL = ("MultiCategorize", "EncodedMultiCategorize")  # fastai's transforms of several classes
VALIDATION = 1  # fastai's number of that split


def from_learner(learner: Any) -> Classifier:
    """Wrap a Learner; see Classifier.from_learner."""
    loaders = getattr(learner, "dls", None)
    if loaders is None or not isinstance(getattr(learner, "model", None), torch.nn.Module):
        raise ClassifierError(
            f"a {type(learner).__name__} is no fastai Learner with data loaders: use "
            "Classifier.from_module for a plain network"
        )
    return Classifier(
        network=learner.model,
        class_names=_vocabulary(loaders),
        preprocessing=_preprocessing(learner, loaders),
        provenance={"reference": "fastai Learner"},
        task="multi-label" if _takes_several(learner, loaders) else "single-label",
    )


def _takes_several(learner: Any, loaders: Any) -> bool:
    """Whether several classes can be true at once, by how labels are read or by the loss."""
    loss = getattr(learner, "loss_func", None)
    named = f"{type(loss).__name__} {type(getattr(loss, 'func', None)).__name__}"
    loader = loaders.valid if hasattr(loaders, "valid") else loaders
    lists = getattr(getattr(loader, "dataset", None), "tls", ())
    read = [type(one).__name__ for each in lists for one in getattr(each.tfms, "fs", ())]
    return "BCE" in named or not set(SEVERAL).isdisjoint(read)


def is_learner(model: Any) -> bool:
    """Whether an object is a fastai Learner, without importing fastai."""
    return any(kind.__module__.startswith("fastai.") for kind in type(model).__mro__) and hasattr(
        model, "dls"
    )


def _vocabulary(loaders: Any) -> tuple[str, ...]:
    vocabulary = getattr(loaders, "vocab", None)
    if vocabulary is None:
        raise ClassifierError(
            "this Learner's data loaders have no vocabulary, so it is no classifier: use "
            "Classifier.from_module with classes="
        )
    if len(vocabulary) and isinstance(vocabulary[0], list | tuple) or _nested(vocabulary):
        vocabulary = vocabulary[-1]
    return tuple(str(name) for name in vocabulary)


def _nested(vocabulary: Any) -> bool:
    first = vocabulary[0] if len(vocabulary) else ""
    return not isinstance(first, str) and hasattr(first, "__len__")


def _preprocessing(learner: Any, loaders: Any) -> Preprocessing:
    channels = input_channels(learner.model) or 3
    mean, std = _normalisation(loaders, channels)
    found = replace(_geometry(loaders), mean=mean, std=std)
    try:
        with torch.random.fork_rng(devices=[]):
            difference = _difference(loaders, found)
    except Exception as exc:  # whatever transforms of the user's own raise of a made photo
        warnings.warn(
            f"this Learner's transforms could not be tried on a photo ({type(exc).__name__}: "
            f"{exc}), so that what they do besides resizing is not known: {found} is taken",
            MitateWarning,
            stacklevel=4,
        )
        return found
    half_a_pixel = 0.5 / min(found.size)  # fastai cuts whole pixels of the photo, before it scales
    if difference > TOLERANCE + half_a_pixel:
        warnings.warn(
            f"of a photo this Learner's transforms make something else than {found}, by "
            f"{100 * difference:.0f} % of the range of colours on average: what is predicted and "
            "explained here differs from fastai's. Give Classifier.from_module(learn.model, "
            "classes=learn.dls.vocab, preprocessing=...), or tensors that fastai made",
            MitateWarning,
            stacklevel=4,
        )
    return found


def _normalisation(loaders: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for transform in _transforms(loaders, "after_batch"):
        if type(transform).__name__ == "Normalize":
            return (
                tuple(float(value) for value in transform.mean.flatten()),
                tuple(float(value) for value in transform.std.flatten()),
            )
    return (0.0,) * channels, (1.0,) * channels


def _geometry(loaders: Any) -> Preprocessing:
    """What the transforms of validation do to a photo's shape, as far as it can be said."""
    found: Preprocessing | None = None
    for transform in _transforms(loaders, "after_item"):
        kind = type(transform).__name__
        if kind in ("CropPad", "RandomCrop"):
            raise ClassifierError(
                f"this Learner's {kind} cuts images without resizing them, which mitate's "
                "preprocessing cannot do: use Classifier.from_module(learn.model, preprocessing=…)"
            )
        if kind in ("Resize", "RandomResizedCrop"):
            found = _resized(transform)
    for transform in _transforms(loaders, "after_batch"):
        given = getattr(transform, "size", None)
        if given is not None:
            height, width = (given, given) if isinstance(given, int) else given
            found = replace(found or Preprocessing(), size=(int(height), int(width)))
    if found is None:
        raise ClassifierError(
            "this Learner does not resize its images, so their size is not known: use "
            "Classifier.from_module(learn.model, preprocessing=mitate.Preprocessing(size=...))"
        )
    return found


def _resized(transform: Any) -> Preprocessing:
    """Of fastai's Resize, and of its RandomResizedCrop, which squashes photos in validation."""
    width, height = (int(side) for side in transform.size)
    filters = getattr(transform, "resamples", None) or (Image.Resampling.BILINEAR,)
    resize: Resize = "squash"
    padding: Padding = "mean"
    fraction = 1.0
    if hasattr(transform, "val_xtra"):  # squashed larger by so much, and the middle is kept
        longest = max(width, height)
        fraction = longest / (longest + 8 * math.ceil(longest * transform.val_xtra / 8))
    else:
        method, pad = (getattr(transform, name, "") for name in ("method", "pad_mode"))
        resize = METHODS.get(str(getattr(method, "value", method)), "crop")
        padding = PADDING.get(str(getattr(pad, "value", pad)), "mean")
    return Preprocessing(
        size=(height, width),
        resize=resize,
        crop_fraction=fraction,
        interpolation=FILTERS.get(int(filters[0]), "bilinear"),
        padding=padding,
    )


def _difference(loaders: Any, ours: Preprocessing) -> float:
    """How far fastai's input of a photo is from ours: the mean, in shares of the colours' range."""
    found = [0.0]
    for size in PROBES:
        photo = probe(size)
        theirs = _theirs(loaders, photo, grey=len(ours.mean) == 1)
        mine = ours(photo)
        if theirs.shape != mine.shape:
            return 1.0
        found.append(apart(theirs, mine, ours.std))
    return max(found)


def _theirs(loaders: Any, photo: Image.Image, *, grey: bool) -> Tensor:
    """The input that the transforms of validation make of a photo."""
    loader = loaders.valid if hasattr(loaders, "valid") else loaders
    stages = [getattr(loader, name, None) for name in ("after_item", "after_batch")]
    before = [getattr(stage, "split_idx", None) for stage in stages]
    try:
        for stage in stages:
            if stage is not None:
                stage.split_idx = VALIDATION
        made = (_as_image(photo, grey=grey), 0)
        made = made if stages[0] is None else stages[0](made)
        device = getattr(loaders, "device", None) or "cpu"
        batch = made[0][None].to(device), torch.zeros(1, dtype=torch.long, device=device)
        given: Tensor = (batch if stages[1] is None else stages[1](batch))[0]
        return given.detach().as_subclass(Tensor)[0].float().cpu()
    finally:
        for stage, own in zip(stages, before, strict=True):
            if stage is not None:
                stage.split_idx = own


def _as_image(photo: Image.Image, *, grey: bool) -> Any:
    core = imports.fastai("vision.core")
    if grey:
        return core.PILImageBW.create(np.asarray(photo.convert("L")))
    return core.PILImage.create(np.asarray(photo))


def _transforms(loaders: Any, stage: str) -> list[Any]:
    pipeline = getattr(loaders.valid if hasattr(loaders, "valid") else loaders, stage, None)
    return list(getattr(pipeline, "fs", []))
