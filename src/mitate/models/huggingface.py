"""Classifiers of Hugging Face: hf:ORG/NAME on its hub, or hf:FOLDER that save_pretrained wrote.

Nothing foreign runs: the configuration is read field by field (see configs), the weights are
safetensors, and code that comes with a repository is left alone.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning, UnsafePickleError, WeightsError
from mitate.models.classifier import Classifier
from mitate.models.configs import (
    configuration,
    describe_huggingface,
    input_channels_of,
    labels,
    quiet_transformers,
    values_of,
)
from mitate.models.hub import fetch_repository
from mitate.models.preprocessing import Preprocessing
from mitate.models.processors import INSTEAD, assumed_preprocessing, preprocessing_of
from mitate.models.tasks import task_of

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
ADAPTER = "adapter_config.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
PROCESSOR_NAME = re.compile(r"(?!Auto)\w+(ImageProcessor|FeatureExtractor)(Fast|Pil)?")
SHOWN = 4


@dataclass(frozen=True)
class Loaded:
    """A network, and where its weights and those in the files differ."""

    network: nn.Module
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misfits: tuple[str, ...]


def load(name: str, class_names: Sequence[str] | None = None) -> Classifier:
    """Load what ``hf:NAME`` means; see Classifier.load."""
    imports.transformers()
    folder = _folder(name)
    raw = _read_json(folder / CONFIG, name)
    _check_weights(folder, name)
    network_name, values = values_of(raw)
    own = int(values["num_labels"])
    wanted = own if class_names is None else len(class_names)
    config = configuration(network_name, {**values, "num_labels": wanted})
    config.id2label = dict(enumerate(class_names or _names(raw, wanted)))
    loaded = _load_network(folder, config, name)
    _check_complete(loaded, name, own, wanted)
    preprocessing, provenance = _preprocessing(folder, config, name)
    return Classifier(
        network=loaded.network,
        class_names=tuple(config.id2label.values()),
        preprocessing=preprocessing,
        provenance={"reference": f"hf:{name}", "weights": f"hf:{name}", **provenance},
        recipe=describe_huggingface(loaded.network),
        task=task_of(raw.get("problem_type"), wanted),
    )


def is_folder(path: Path) -> bool:
    """Whether ``save_pretrained`` wrote a folder."""
    return (path / CONFIG).is_file()


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not is_folder(path):
            raise ClassifierError(
                f"{name} holds no {CONFIG}: name a folder that save_pretrained wrote, or a "
                "repository of the hub, hf:ORG/NAME"
            )
        return path
    if not REPOSITORY.fullmatch(name):
        raise ClassifierError(
            f"there is no folder {name!r}: name one that save_pretrained wrote, or a repository "
            "of the hub, hf:ORG/NAME"
        )
    return fetch_repository(name, (CONFIG, *PROCESSORS, WEIGHTS, INDEX, "model-*.safetensors"))


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ClassifierError(f"hf:{name} has no {path.name} that can be read: {exc}") from exc
    if not isinstance(content, dict):
        raise ClassifierError(f"{path.name} of hf:{name} holds no settings: copy it again")
    return content


def _check_weights(folder: Path, name: str) -> None:
    if (folder / ADAPTER).exists():
        raise ClassifierError(
            f"hf:{name} is an adapter for another network: merge the two (merge_and_unload) and "
            "save_pretrained the result"
        )
    if (folder / WEIGHTS).is_file():
        return
    if (folder / INDEX).is_file():
        _check_index(folder, name)
        return
    if any((folder / pickle).is_file() for pickle in PICKLES):
        raise UnsafePickleError(
            f"hf:{name} has its weights in a pickle only, which would run code: if you trust where "
            "it comes from, load it with transformers and save_pretrained(FOLDER), then use "
            "hf:FOLDER"
        )
    raise WeightsError(
        f"hf:{name} has no {WEIGHTS} here: mitate reads weights as safetensors only. Load it with "
        "transformers where you trust it and save_pretrained(FOLDER), then use hf:FOLDER"
    )


def _check_index(folder: Path, name: str) -> None:
    """Every part must be a safetensors file beside the index."""
    files = _read_json(folder / INDEX, name).get("weight_map")
    parts = set(files.values()) if isinstance(files, dict) else {None}
    bad = [part for part in parts if not _is_part(folder, part)]
    if bad:
        raise WeightsError(
            f"{INDEX} of hf:{name} names {bad[0]!r}, which is no safetensors file beside it: copy "
            "the whole folder again"
        )


def _is_part(folder: Path, part: object) -> bool:
    return (
        isinstance(part, str)
        and part == Path(part).name
        and part.endswith(".safetensors")
        and (folder / part).is_file()
    )


def _load_network(folder: Path, config: Any, name: str) -> Loaded:
    auto = imports.transformers("models.auto.modeling_auto").AutoModelForImageClassification
    try:
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            network, found = auto.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as exc:  # whatever safetensors and transformers raise for bad files
        why = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise WeightsError(f"the weights of hf:{name} cannot be loaded: {why}") from exc
    if found.get("error_msgs"):
        raise WeightsError(f"the weights of hf:{name} cannot be loaded: {found['error_msgs'][0]}")
    return Loaded(
        network=network.eval(),
        missing=tuple(sorted(found["missing_keys"])),
        unexpected=tuple(sorted(found["unexpected_keys"])),
        # With the two shapes, or before transformers 5 without them.
        misfits=tuple(
            sorted(one if isinstance(one, str) else one[0] for one in found["mismatched_keys"])
        ),
    )


def _check_complete(loaded: Loaded, name: str, own: int, wanted: int) -> None:
    """Only a head may be missing or of another size, and then a warning says so."""
    state = loaded.network.state_dict()
    anew = (*loaded.missing, *loaded.misfits)
    odd = [key for key in anew if not _is_head(state.get(key), wanted)]
    odd += [key for key in loaded.misfits if own == wanted and key not in odd]
    odd += [key for key in loaded.unexpected if _is_deeper(loaded.network, key)]
    if odd:
        more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        raise WeightsError(
            f"the weights of hf:{name} do not fit its configuration: "
            f"{', '.join(odd[:SHOWN])}{more} are missing, too many or of another shape"
        )
    if not anew:
        return
    lack = f"has {own} classes and {wanted} are wanted" if loaded.misfits else "has no trained head"
    warnings.warn(
        f"hf:{name} {lack}: the head ({', '.join(anew)}) is made anew and is untrained",
        MitateWarning,
        stacklevel=5,
    )


def _is_head(weight: Tensor | None, classes: int) -> bool:
    return weight is not None and weight.ndim > 0 and weight.shape[0] == classes


def _is_deeper(network: nn.Module, key: str) -> bool:
    """Whether a weight belongs to one more layer of a row of layers that the network has."""
    prefix = str(getattr(network, "base_model_prefix", ""))
    return any(_leaves_at_number(network, path) for path in (key, f"{prefix}.{key}"))


def _leaves_at_number(network: nn.Module, path: str) -> bool:
    module = network
    for step in path.split("."):
        children = dict(module.named_children())
        if step not in children:
            return step.isdigit() and "0" in children
        module = children[step]
    return False


def _names(raw: Mapping[str, Any], number: int) -> tuple[str, ...]:
    named = raw.get("id2label")
    if not isinstance(named, Mapping) or len(named) != number:
        return tuple(f"class {index}" for index in range(number))
    return labels(named)


def _preprocessing(folder: Path, config: Any, name: str) -> tuple[Preprocessing, dict[str, Any]]:
    """The processor's preprocessing, or an assumed one with the fact that it is."""
    found = [_read_json(folder / file, name) for file in PROCESSORS if (folder / file).is_file()]
    if not found:
        return assumed_preprocessing(config), {"assumed_preprocessing": True}
    for settings in found:
        _check_processor(settings, name)
    processor = _processor(folder, config, name)
    return preprocessing_of(processor, input_channels_of(config)), {}


def _check_processor(settings: Mapping[str, Any], name: str) -> None:
    """Transformers makes an object of any of its classes that the settings name."""
    inner = settings.get("image_processor")
    for one in (settings, inner if isinstance(inner, Mapping) else {}):
        for field in ("image_processor_type", "feature_extractor_type"):
            kind = one.get(field)
            if kind is not None and not PROCESSOR_NAME.fullmatch(str(kind)):
                raise ClassifierError(f"hf:{name} names {kind!r} as its image processor: {INSTEAD}")


def _processor(folder: Path, config: Any, name: str) -> Any:
    auto = imports.transformers("models.auto.image_processing_auto").AutoImageProcessor
    try:
        with quiet_transformers():
            processor = auto.from_pretrained(
                str(folder), config=config, local_files_only=True, trust_remote_code=False
            )
    except Exception as exc:  # processors raise anything on settings that they do not know
        why = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ClassifierError(
            f"the image processor of hf:{name} cannot be made ({why}): {INSTEAD}"
        ) from exc
    return processor
