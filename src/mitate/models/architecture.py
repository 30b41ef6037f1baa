"""How a network is built again from plain data: the recipe in classifier.json.

A recipe is one of
    {"kind": "timm", "name": ..., "arguments": {...}}
    {"kind": "torchvision", "name": ..., "arguments": {...}}
    {"kind": "hf", "name": ..., "config": {...}}                a classifier of transformers
    {"kind": "cut torchvision", "name": ..., "upto": -2}        fastai's body of a torchvision net
    {"kind": "features", "body": recipe}                        fastai's TimmBody
    {"kind": "sequential", "children": {name: recipe}}
    {"kind": "layer", "type": "Linear", "arguments": {...}}     a layer of torch.nn, from a list
No recipe names code outside that list, and a library's builder gets no arguments but ARGUMENTS
(timm's checkpoint_path would read a file; for transformers see configs), so that reading a recipe
runs nothing foreign.
"""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.configs import build_huggingface, describe_huggingface

Recipe = dict[str, Any]


class Features(nn.Module):
    """A timm network's feature extractor under the name ``model``, as in fastai's TimmBody."""

    def __init__(self, model: nn.Module, pooled: bool = False) -> None:
        super().__init__()
        self.model = model
        self.pooled = pooled

    def forward(self, images: Tensor) -> Any:
        """Give the unpooled features, or the network's own output where it pools itself."""
        return self.model(images) if self.pooled else self.model.forward_features(images)  # type: ignore[operator]


class ConcatPool(nn.Module):
    """Maximum and mean over space, side by side, as in fastai's AdaptiveConcatPool2d."""

    def __init__(self, size: Any = 1) -> None:
        super().__init__()
        self.size = size
        self.ap = nn.AdaptiveAvgPool2d(size)
        self.mp = nn.AdaptiveMaxPool2d(size)

    def forward(self, features: Tensor) -> Tensor:
        """Give (b, 2 c, 1, 1)."""
        return torch.cat([self.mp(features), self.ap(features)], 1)


LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "Linear": (nn.Linear, ("in_features", "out_features")),
    "Conv2d": (
        nn.Conv2d,
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    ),
    "BatchNorm1d": (nn.BatchNorm1d, ("num_features", "eps")),
    "BatchNorm2d": (nn.BatchNorm2d, ("num_features", "eps")),
    "LayerNorm": (nn.LayerNorm, ("normalized_shape", "eps")),
    "Dropout": (nn.Dropout, ("p",)),
    "Dropout2d": (nn.Dropout2d, ("p",)),
    "ReLU": (nn.ReLU, ("inplace",)),
    "ReLU6": (nn.ReLU6, ("inplace",)),
    "LeakyReLU": (nn.LeakyReLU, ("negative_slope", "inplace")),
    "GELU": (nn.GELU, ("approximate",)),
    "SiLU": (nn.SiLU, ("inplace",)),
    "Sigmoid": (nn.Sigmoid, ()),
    "Tanh": (nn.Tanh, ()),
    "Identity": (nn.Identity, ()),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "ceil_mode")),
    "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode")),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d, ("output_size",)),
    "ConcatPool": (ConcatPool, ("size",)),
}
WITH_BIAS = ("Linear", "Conv2d")
CUTS = (-2, -1)  # where fastai cuts a torchvision network before its head
ARGUMENTS = (
    "num_classes",
    "in_chans",
    "img_size",
    "drop_rate",
    "drop_path_rate",
    "pad_type",
    "depths",
    "dims",
    "kernel_sizes",
    "norm_layer",
    "ls_init_value",
    "transform_input",
    "aux_logits",
)


def build(recipe: Recipe) -> nn.Module:
    """Build a network with fresh weights, drawn without touching the global random state.

    Raises:
        ClassifierError: a recipe that this version does not know, or that cannot be built.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            return _build(recipe)
    except (TypeError, ValueError, RuntimeError, AssertionError) as exc:
        raise ClassifierError(f"the architecture {recipe} cannot be built: {exc}") from exc


def input_channels(network: nn.Module) -> int | None:
    """How many channels the network's first convolution reads, or None where there is none."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def number_of_outputs(network: nn.Module) -> int | None:
    """What the last linear or convolutional layer gives, quantised or not; None for no such one."""
    number = None
    for module in network.modules():
        given = (getattr(module, name, None) for name in ("out_features", "out_channels"))
        number = next((one for one in given if isinstance(one, int)), number)
    return number


def _build(recipe: Recipe) -> nn.Module:
    match recipe:
        case {"kind": "timm", "name": str(name), "arguments": dict(arguments)}:
            return _build_timm(name, arguments)
        case {"kind": "torchvision", "name": str(name), "arguments": dict(arguments)}:
            return _build_torchvision(name, arguments)
        case {"kind": "hf", "name": str(name), "config": dict(values)}:
            return build_huggingface(name, values)
        case {"kind": "cut torchvision", "name": str(name), "upto": int(upto)}:
            return nn.Sequential(*list(_build_torchvision(name, {}).children())[:upto])
        case {"kind": "features", "body": dict(body), "pooled": bool(pooled)}:
            return Features(build(body), pooled)
        case {"kind": "sequential", "children": dict(children)}:
            network = nn.Sequential()
            for name, child in children.items():
                network.add_module(name, build(child))
            return network
        case {"kind": "layer", "type": str(name), "arguments": dict(arguments)} if name in LAYERS:
            return LAYERS[name][0](**{key: _tupled(value) for key, value in arguments.items()})
    raise ClassifierError(
        f"an architecture of kind {recipe.get('kind')!r} is not known to this mitate, or its "
        f"description is damaged: update mitate, or copy the classifier again"
    )


def describe(network: nn.Module) -> Recipe:
    """Give the recipe of a network.

    Raises:
        ClassifierError: a network of a class that mitate cannot build again.
    """
    name = _timm_name(network)
    if name:
        return {"kind": "timm", "name": name, "arguments": _timm_arguments(network)}
    configured = describe_huggingface(network)
    if configured is not None:
        return configured
    kind = type(network).__name__
    if kind == "TimmBody":
        body, pooled = network.model, not network.needs_pool
        return {"kind": "features", "body": describe(_module(body)), "pooled": pooled}
    if isinstance(network, Features):
        return {"kind": "features", "body": describe(network.model), "pooled": network.pooled}
    if isinstance(network, nn.Sequential):
        return _describe_sequential(network)
    layer = _describe_layer(network)
    if layer is not None:
        return layer
    if type(network).__module__.startswith("torchvision.models"):
        return _match_torchvision(network)
    raise ClassifierError(
        f"a {type(network).__module__}.{kind} cannot be built again without its code, so it "
        "cannot be saved as a classifier folder; in Python, mitate.Classifier.from_module explains "
        "it as it is"
    )


def _build_timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    timm = imports.timm()
    if not timm.is_model(name):
        raise ClassifierError(_unknown("timm", name))
    network: nn.Module = timm.create_model(name, pretrained=False, **_checked(arguments))
    return network


def _build_torchvision(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    models = imports.torchvision("models")
    if name not in _torchvision_names():
        raise ClassifierError(_unknown("torchvision", name))
    # These two draw weights with SciPy, slowly, where they are not told to leave it.
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, **extra, **_checked(arguments))
    return network


def _torchvision_names() -> list[str]:
    models = imports.torchvision("models")
    names: list[str] = models.list_models(module=models)
    return names


def _unknown(library: str, name: str) -> str:
    """That there is no such architecture: who has it, or else the nearest names."""
    names = {"timm": imports.timm().list_models(), "torchvision": _torchvision_names()}
    known, missing = names.pop(library), f"{library} has no architecture {name!r}"
    for other, theirs in names.items():
        if name in theirs:
            return f"{missing}, but {other} has: {other}:{name}"
    near = get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    return f"{missing}: the nearest are {', '.join(near)}"


def _checked(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in arguments:
        if name not in ARGUMENTS:
            raise ClassifierError(
                f"an architecture cannot be built with {name!r}: it takes {', '.join(ARGUMENTS)}"
            )
    return arguments


def _timm_name(network: nn.Module) -> str:
    if not type(network).__module__.startswith("timm."):
        return ""
    config = getattr(network, "pretrained_cfg", None) or {}
    architecture = config.get("architecture", "")
    tag = config.get("tag", "")
    return f"{architecture}.{tag}" if tag else str(architecture)


def _timm_arguments(network: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_classes": int(network.num_classes)}
    channels = input_channels(network)
    if channels not in (None, 3):
        arguments["in_chans"] = channels
    size = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if size is not None and network.pretrained_cfg.get("fixed_input_size"):
        arguments["img_size"] = list(size)
    return arguments


def _describe_sequential(network: nn.Sequential) -> Recipe:
    if any(type(child).__module__.startswith("torchvision.models") for child in _flat(network)):
        return _match_cut_torchvision(network)
    children = {name: describe(child) for name, child in network.named_children()}
    return {"kind": "sequential", "children": children}


def _flat(network: nn.Sequential) -> list[nn.Module]:
    return [
        inner
        for child in network.children()
        for inner in ([child, *child.children()] if isinstance(child, nn.Sequential) else [child])
    ]


def _describe_layer(layer: nn.Module) -> Recipe | None:
    kind = type(layer).__name__
    fastai = type(layer).__module__.startswith("fastai.")
    if fastai and kind == "AdaptiveConcatPool2d":
        kind = "ConcatPool"
    if kind not in LAYERS or not (fastai or _is_listed(layer, kind)):
        return None
    if fastai and kind == "Flatten":
        return {"kind": "layer", "type": kind, "arguments": {"start_dim": 1, "end_dim": -1}}
    arguments = {name: getattr(layer, name) for name in LAYERS[kind][1]}
    if kind in WITH_BIAS:
        arguments["bias"] = layer.bias is not None
    return {"kind": "layer", "type": kind, "arguments": arguments}


def _is_listed(layer: nn.Module, kind: str) -> bool:
    return type(layer) is LAYERS[kind][0]


def _match_torchvision(network: nn.Module) -> Recipe:
    shapes, classes = _shapes(network), number_of_outputs(network)
    arguments = {} if classes in (None, 1000) else {"num_classes": classes}
    for name in _families().get(type(network), []):
        twin = _on_meta(name, arguments)
        if twin is not None and _shapes(twin) == shapes:
            return {"kind": "torchvision", "name": name, "arguments": arguments}
    raise ClassifierError(
        f"this {type(network).__name__} is no architecture of torchvision as it stands: "
        "use mitate.Classifier.from_module in Python"
    )


def _match_cut_torchvision(network: nn.Sequential) -> Recipe:
    shapes, kinds = _shapes(network), [type(part) for part in network]
    for family in _families().values():
        for name in family:
            twin = _on_meta(name, {})
            parts = [] if twin is None else list(twin.children())
            if parts and not any([type(p) for p in parts[:upto]] == kinds for upto in CUTS):
                break  # the others of the family have the same kinds of parts
            for upto in CUTS:
                if _shapes(nn.Sequential(*parts[:upto])) == shapes:
                    return {"kind": "cut torchvision", "name": name, "upto": upto}
    raise ClassifierError(
        "this body is no architecture of torchvision cut before its head: use "
        "mitate.Classifier.from_module in Python"
    )


def _families() -> dict[Any, list[str]]:
    """The architectures of torchvision by the class that their builders tell to give."""
    builder_of = imports.torchvision("models").get_model_builder
    families: dict[Any, list[str]] = {}
    for name in _torchvision_names():
        kind = inspect.signature(builder_of(name)).return_annotation
        families.setdefault(kind, []).append(name)
    return families


def _on_meta(name: str, arguments: Mapping[str, Any]) -> nn.Module | None:
    """A torchvision network without memory for its weights, or None where it cannot be made so."""
    try:
        with torch.device("meta"):
            return _build_torchvision(name, arguments)
    except (NotImplementedError, RuntimeError, AttributeError, TypeError, ValueError):
        return None


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _module(value: Any) -> nn.Module:
    if not isinstance(value, nn.Module):
        raise ClassifierError(f"expected a network inside, found a {type(value).__name__}")
    return value


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
