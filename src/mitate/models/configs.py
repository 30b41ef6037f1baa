"""Hugging Face networks as recipes: the plain values of their configuration, and nothing else.

A configuration of transformers can name kernels to fetch, code of a repository and files of
weights. Only the fields that its own class declares are read here, so that none of these get in.
"""

import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from mitate import imports
from mitate.errors import ClassifierError

KIND = "hf"
# Pixels as words, logits under another name, text beside the image, patches instead of it.
UNREAD = ("imagegpt", "pp_lcnet", "shieldgemma2", "siglip2")
WRAPPED = "timm_wrapper"


def config_of(network: nn.Module) -> Any:
    """The configuration of a network of transformers, which is not imported; None of others."""
    if any(kind.__module__.startswith("transformers.") for kind in type(network).__mro__):
        return getattr(network, "config", None)
    return None


def labels(id2label: Mapping[Any, Any] | None) -> tuple[str, ...]:
    """The class names of a configuration's ``id2label``, in the order of the logits."""
    named = {str(index): str(name) for index, name in (id2label or {}).items()}
    return tuple(named.get(str(index), f"class {index}") for index in range(len(named)))


def input_size(config: Any) -> tuple[int, int] | None:
    """Height and width of the images that a configuration is for, where it tells."""
    size = getattr(_of_images(config), "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else None


def input_channels_of(config: Any) -> int:
    """How many channels a configuration's network reads; 3 where it does not tell."""
    return int(getattr(_of_images(config), "num_channels", None) or 3)


def describe_huggingface(network: nn.Module) -> dict[str, Any] | None:
    """Give the recipe of a classifier of transformers itself, or None of any other network."""
    if not type(network).__module__.startswith("transformers.models."):
        return None
    name, config = type(network).__name__, getattr(network, "config", None)
    if config is None or name not in class_names_of(config.model_type):
        return None
    values = {"model_type": config.model_type, **_own_values(type(config), config.to_dict())}
    return {"kind": KIND, "name": name, "config": {**values, "num_labels": config.num_labels}}


def build_huggingface(name: str, values: Mapping[str, Any]) -> nn.Module:
    """Build a network of transformers from the plain values of its configuration.

    Raises:
        ClassifierError: a network, or a field of a configuration, that transformers itself does
        not have, or values that give no network.
    """
    config = configuration(name, values)
    auto = imports.transformers("models.auto.modeling_auto").AutoModelForImageClassification
    try:
        network: nn.Module = auto.from_config(config, trust_remote_code=False)
    except Exception as exc:  # each network fails in its own way on values that do not fit
        raise ClassifierError(f"no {name} can be built from its configuration: {exc}") from exc
    return network


def configuration(name: str, values: Mapping[str, Any]) -> Any:
    """The configuration that the values of a recipe mean.

    Raises:
        ClassifierError: as build_huggingface.
    """
    model_type = str(values.get("model_type"))
    known = class_names_of(model_type)
    if name not in known:
        raise ClassifierError(
            f"mitate knows no image classifier {name!r} of type {model_type!r} in transformers: "
            f"it knows {', '.join(known) or 'none of this type'}"
        )
    kind = configuration_class(model_type)
    given = {field: value for field, value in values.items() if field != "model_type"}
    number = given.get("num_labels")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ClassifierError(f"num_labels is {number!r}: a classifier has 1 or more classes")
    strange = sorted(_strange_fields(kind, given))
    if strange:
        raise ClassifierError(
            f"the configuration of a {name} has no field {', '.join(strange)}: the description is "
            "damaged or not to be trusted"
        )
    try:
        with quiet_transformers():
            return kind(**given, architectures=[name])
    except Exception as exc:  # strict fields raise errors of their own
        raise ClassifierError(f"a {name} cannot be configured so: {exc}") from exc


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' reports and progress bars quiet: what matters is told by mitate."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

    logging = imports.transformers("utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    without_downloads = are_progress_bars_disabled()  # transformers switches the hub's bars as well
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hub's word that an environment variable decides
        logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if bars:
                logging.enable_progress_bar()
            if without_downloads:
                disable_progress_bars()


def values_of(raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The network's name and the values of a recipe in what a ``config.json`` holds.

    Raises:
        ClassifierError: no image classifier of transformers itself.
    """
    model_type = raw.get("model_type")
    if model_type == WRAPPED or (model_type is None and "pretrained_cfg" in raw):
        name = raw.get("architecture", "NAME")
        raise ClassifierError(
            f"this is a network of timm: use timm:{name} for timm's own weights, or load it with "
            "transformers and give mitate.Classifier.from_module(network.timm_model, classes=[...])"
        )
    known = class_names_of(str(model_type))
    if not known:
        code = ", which needs code of its own that mitate does not run" * ("auto_map" in raw)
        raise ClassifierError(
            f"mitate knows no image classifier of type {model_type!r} in transformers{code}: name "
            "a network that AutoModelForImageClassification loads"
        )
    names = raw.get("architectures") or []
    name = next((name for name in names if name in known), known[0])
    kind = configuration_class(str(model_type))
    values = {"model_type": model_type, **_own_values(kind, raw)}
    return name, {**values, "num_labels": _number_of_labels(raw)}


def class_names_of(model_type: str) -> tuple[str, ...]:
    """The image classifiers of transformers of one type; none for types that are not of images."""
    if model_type == WRAPPED or model_type in UNREAD:
        return ()
    mapping = imports.transformers("models.auto.modeling_auto")
    names = mapping.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(model_type, ())
    return (names,) if isinstance(names, str) else tuple(names)


def configuration_class(model_type: str) -> Any:
    """The class of a configuration, of transformers itself."""
    kind = imports.transformers("models.auto.configuration_auto").CONFIG_MAPPING[model_type]
    if not kind.__module__.startswith("transformers.models."):
        raise ClassifierError(
            f"{model_type!r} means {kind.__module__}.{kind.__name__} in this program, which is not "
            "of transformers itself"
        )
    return kind


def _of_images(config: Any) -> Any:
    return getattr(config, "vision_config", config)


def _number_of_labels(raw: Mapping[str, Any]) -> int:
    named = raw.get("id2label")
    number = len(named) if isinstance(named, Mapping) and named else raw.get("num_labels", 2)
    if not isinstance(number, int):
        raise ClassifierError(f"num_labels is {number!r} in config.json: expected a number")
    return number


def _own_fields(kind: Any) -> set[str]:
    """The fields that a class of configurations adds to what all of them have."""
    common = inspect.signature(_base()).parameters
    own = set(inspect.signature(kind).parameters) - set(common) - {"kwargs", "self"}
    return {name for name in own if not name.startswith("_")}


def _base() -> Any:
    return imports.transformers("configuration_utils").PretrainedConfig


def _inner(kind: Any) -> dict[str, Any]:
    """The configurations inside one, such as CLIP's of text and of images."""
    return dict(getattr(kind, "sub_configs", None) or {})


def _own_values(kind: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    own, inner = _own_fields(kind), _inner(kind)
    values = {
        field: _own_values(inner[field], value)
        if field in inner and isinstance(value, Mapping)
        else value
        for field, value in raw.items()
        if field in own or field in getattr(kind, "attribute_map", {})
    }
    try:
        plain: dict[str, Any] = json.loads(json.dumps(values))
    except (TypeError, ValueError) as exc:
        raise ClassifierError(f"this configuration is no plain data ({exc})") from exc
    return plain


def _strange_fields(kind: Any, values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    inner = _inner(kind)
    allowed = _own_fields(kind) | set(getattr(kind, "attribute_map", {})) | {"num_labels"}
    for field, value in values.items():
        if field not in allowed:
            yield path + field
        elif field in inner and isinstance(value, Mapping):
            yield from _strange_fields(inner[field], value, f"{path}{field}.")
