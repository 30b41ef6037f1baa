"""References to classifiers: a folder, timm:NAME[@WEIGHTS], torchvision:NAME[@WEIGHTS], hf:NAME."""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning, WeightsError
from mitate.models import huggingface, saved
from mitate.models.architecture import build
from mitate.models.classifier import Classifier, timm_preprocessing
from mitate.models.hub import check_download, impatient_hub
from mitate.models.preprocessing import Preprocessing
from mitate.models.weights import load_into, read_weights

IMAGENET = 1000
HEAD_SPREAD = 0.01  # standard deviation of a fresh head's weights
BUFFERS = ("relative_position_index", "attn_mask", "relative_coords_table")


def load(reference: str, class_names: Sequence[str] | None = None) -> Classifier:
    """Load what a reference means; see Classifier.load."""
    source, colon, rest = reference.partition(":")
    if colon and source in ("timm", "torchvision"):
        name, _, weights = rest.partition("@")
        return from_library(
            source, name, Path(weights).expanduser() if weights else None, class_names
        )
    if colon and source == "hf":
        return huggingface.load(rest, class_names)
    folder = Path(reference).expanduser()
    if folder.suffix in (".pkl", ".pickle") and not folder.is_dir():
        raise ClassifierError(
            f"{folder.name} is a pickle, and reading one runs code: mitate convert {folder.name} "
            "OUT --trust-pickle SHA256 turns it into a classifier folder"
        )
    if not folder.exists():
        raise ClassifierError(
            f"no classifier at {reference!r}: give a folder that `mitate train` wrote, timm:NAME, "
            "timm:NAME@WEIGHTS, torchvision:NAME@WEIGHTS or hf:ORG/NAME"
        )
    if folder.is_file():
        raise ClassifierError(
            f"{reference} is a file: to use weights, name their architecture as well, "
            f"timm:NAME@{reference}"
        )
    if huggingface.is_folder(folder) and not (folder / saved.DESCRIPTION).exists():
        raise ClassifierError(f"{reference} is a folder of Hugging Face: name it hf:{reference}")
    return _renamed(saved.load(folder), class_names)


def _renamed(classifier: Classifier, class_names: Sequence[str] | None) -> Classifier:
    if class_names is None:
        return classifier
    number = len(classifier.class_names)
    if len(class_names) != number:
        raise ClassifierError(
            f"{classifier.folder} has {number} classes and {len(class_names)} names were given: "
            f"give {number}, or train anew from its weights ({saved.WEIGHTS})"
        )
    return replace(classifier, class_names=tuple(class_names))


def from_library(
    library: str,
    name: str,
    weights_file: Path | None,
    class_names: Sequence[str] | None = None,
    **arguments: Any,
) -> Classifier:
    """Load an architecture of timm or torchvision with weights from a file or the hub.

    ``arguments`` go to the builder (``img_size`` for networks of a fixed size).
    """
    weights = read_weights(weights_file) if weights_file else _hub_weights(library, name)
    source = str(weights_file) if weights_file else f"{library}'s pretrained weights"
    stored = _stored_classes(library, name, weights)
    wanted = len(class_names) if class_names is not None else stored
    settings = {**arguments, **_trained_with(library, name, weights)}
    if wanted is not None and wanted != IMAGENET:
        settings["num_classes"] = wanted
    recipe = {"kind": library, "name": name, "arguments": settings}
    network = build(recipe).eval()
    if library == "timm" and "img_size" in arguments:
        weights = _fitted_to_size(network, weights)
    if wanted != stored and stored is not None:
        weights = _without_head(network, weights, stored, wanted or 0, source)
    load_into(network, weights, source)
    return Classifier(
        network=network,
        class_names=_names(library, name, wanted or stored or IMAGENET, class_names),
        preprocessing=_preprocessing(library, name, network),
        provenance={"reference": f"{library}:{name}", "weights": source},
        recipe=recipe,
        seen=saved.seen_behind(weights_file) if weights_file else None,
    )


def _fitted_to_size(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize position embeddings by timm's own filter, which each family keeps in its module."""
    home = sys.modules[type(network).__module__]
    resize = getattr(home, "checkpoint_filter_fn", None)
    if resize is None:
        return weights
    fitted: dict[str, Tensor] = resize(dict(weights), network)
    own = network.state_dict()
    return {**{name: own[name] for name in own if name.endswith(BUFFERS)}, **fitted}


def _hub_weights(library: str, name: str) -> dict[str, Tensor]:
    """Pretrained weights from the library's hub, or one error that names the two ways out."""
    network = build({"kind": library, "name": name, "arguments": {}})
    if library == "timm" and not _is_published(network):
        raise ClassifierError(
            f"timm publishes no weights for {name}: name a file of your own, "
            f"timm:{name}@weights.safetensors"
        )
    try:
        network = _pretrained(library, name)
    except Exception as exc:  # hubs raise whatever their HTTP libraries raise
        raise ClassifierError(
            f"the pretrained weights of {library}:{name} cannot be fetched here "
            f"({type(exc).__name__}). Two ways out: download them elsewhere and name the file, "
            f"{library}:{name}@weights.safetensors; or run once where the hub can be reached, so "
            "that they lie in its cache"
        ) from exc
    state: dict[str, Tensor] = network.state_dict()
    return state


def _pretrained(library: str, name: str) -> Any:
    if library == "timm":
        with impatient_hub():
            return imports.timm().create_model(name, pretrained=True)
    models = imports.torchvision("models")
    weights = models.get_model_weights(name).DEFAULT
    check_download(weights.url)
    return models.get_model(name, weights=weights)


def _is_published(network: Any) -> bool:
    config = network.pretrained_cfg
    return any(config.get(where) for where in ("url", "hf_hub_id", "file"))


def _trained_with(library: str, name: str, weights: dict[str, Tensor]) -> dict[str, Any]:
    """What torchvision's builder sets by itself when it is asked for pretrained weights."""
    if library != "torchvision" or name not in ("googlenet", "inception_v3"):
        return {}
    auxiliary = any(key.startswith(("aux1.", "AuxLogits.")) for key in weights)
    return {"transform_input": True, "aux_logits": auxiliary}


def _head_name(library: str, name: str) -> str | None:
    """The name of the layer that gives the logits, in an architecture as it comes."""
    if library == "timm":
        config = imports.timm("models").get_pretrained_cfg(name.split(".")[0])
        classifier = getattr(config, "classifier", None) if config else None
        # Distilled networks have two heads of the same classes.
        return classifier[0] if isinstance(classifier, tuple | list) else classifier
    with torch.device("meta"):
        network = build({"kind": library, "name": name, "arguments": {}})
    heads = [
        inner
        for inner, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return heads[-1] if heads else None


def _stored_classes(library: str, name: str, weights: dict[str, Tensor]) -> int | None:
    head = _head_name(library, name)
    weight = weights.get(f"{head}.weight") if head else None
    return int(weight.shape[0]) if weight is not None else None


def _without_head(
    network: nn.Module, weights: dict[str, Tensor], stored: int, wanted: int, source: str
) -> dict[str, Tensor]:
    own = network.state_dict()
    odd = [n for n in weights if n in own and weights[n].shape != own[n].shape]
    if any(weights[n].shape[:1] != (stored,) for n in odd):
        raise WeightsError(f"{source} does not fit the architecture: {', '.join(odd[:4])} differ")
    warnings.warn(
        f"{source} has {stored} classes and {wanted} are wanted: the head ({', '.join(odd)}) is "
        "made anew and is untrained",
        MitateWarning,
        stacklevel=4,
    )
    return {**weights, **{name: _quiet(own[name]) for name in odd}}


def _quiet(fresh: Tensor) -> Tensor:
    """A fresh head's weights, made so small that it begins without an opinion.

    Some architectures draw them for a thousand classes; for five, a MobileNet's first logits are of
    the order of ten, and the search for a learning rate sees nothing else.
    """
    spread = float(fresh.std()) if fresh.ndim > 1 else 0.0
    return fresh * (HEAD_SPREAD / spread) if spread else torch.zeros_like(fresh)


def _names(library: str, name: str, number: int, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    if number == IMAGENET:
        return _imagenet_names(library, name)
    return tuple(f"class {index}" for index in range(number))


def _imagenet_names(library: str, name: str) -> tuple[str, ...]:
    if library == "torchvision":
        weights = imports.torchvision("models").get_model_weights(name).DEFAULT
        return tuple(weights.meta["categories"])
    info = imports.timm("data").ImageNetInfo()
    return tuple(info.index_to_description(index).split(",")[0] for index in range(IMAGENET))


def _preprocessing(library: str, name: str, network: nn.Module) -> Preprocessing:
    if library == "timm":
        return timm_preprocessing(network) or Preprocessing()
    preset = imports.torchvision("models").get_model_weights(name).DEFAULT.transforms()
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    return Preprocessing(
        size=(crop, crop),
        resize="crop",
        crop_fraction=min(1.0, crop / resize),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
