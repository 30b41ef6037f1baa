"""Layers by name: what users write, and the module that they mean."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import numpy as np
from torch import nn

from mitate.errors import LayerError, UsageError
from mitate.explain.hooks import Place

LayerSpec = str | int | nn.Module  # a number is that of a child, as network[-2]
AND = "+"  # between the names of several layers
INSIDES = ("0", "0.model", "model", "module")
FASTAI = "0.model."


def split(spec: LayerSpec | Sequence[LayerSpec]) -> list[str | nn.Module]:
    """The layers that a user named: one, a list of them, or names with ``+`` between them.

    Raises:
        UsageError: none, or one twice.
    """
    if isinstance(spec, nn.Module | int | np.integer):
        return [_spelled(spec)]
    if not isinstance(spec, Sequence):
        raise UsageError(f"layer is {spec!r}: give a module, a name, several of them, or 'auto'")
    parts = spec.split(AND) if isinstance(spec, str) else spec
    found = [_spelled(part) for part in parts]
    if not found or "" in found or len(set(map(_identity, found))) < len(found):
        raise UsageError(f"layer {spec!r}: name one layer or several different ones")
    return found


def joined_names(names: Iterable[str]) -> str:
    """The names of several layers as one, which ``split`` takes apart."""
    return f" {AND} ".join(names)


def _spelled(spec: LayerSpec) -> str | nn.Module:
    return spec if isinstance(spec, nn.Module) else str(spec).strip()


def _identity(spec: str | nn.Module) -> str | int:
    return spec if isinstance(spec, str) else id(spec)


def resolve(network: nn.Module, spec: str | nn.Module) -> Place:
    """Find the module that ``spec`` means: a module, or a name with (negative) indices.

    A name may leave out the path to the network's inside (``stages.2`` in a fastai model whose
    network is ``0.model``) or carry fastai's ``0.model.`` where it is not needed; ``name#2`` is the
    third call of a module that a forward uses several times.

    Raises:
        LayerError: no such layer, with the nearest names.
    """
    if isinstance(spec, nn.Module):
        return Place(spec, _name_of(network, spec))
    path, mark, call = spec.partition("#")
    if mark and not re.fullmatch(r"-?[0-9]{1,6}", call):
        raise LayerError(f"layer {spec!r}: what follows # must be the number of a call, from 0")
    for root, inner in _beginnings(network, path):
        found = _descend(root, inner)
        if found is not None:
            return Place(found, _name_of(network, found) + mark + call, int(call) if call else -1)
    raise LayerError(_unknown(network, path))


def _name_of(network: nn.Module, wanted: nn.Module) -> str:
    for name, module in network.named_modules():
        if module is wanted:
            return str(name)
    raise LayerError(
        f"the given {type(wanted).__name__} is not a layer of this network: take it from the "
        "network that is explained (a copy has other modules)"
    )


def _beginnings(network: nn.Module, path: str) -> Iterator[tuple[nn.Module, str]]:
    """Where a path may begin: at the top, there without fastai's prefix, or further inside."""
    yield network, path
    if path.startswith(FASTAI):
        yield network, path.removeprefix(FASTAI)
    if re.match(r"[A-Za-z_]", path):
        modules = dict(network.named_modules())
        yield from ((modules[name], path) for name in INSIDES if name in modules)


def _descend(root: nn.Module, path: str) -> nn.Module | None:
    module = root
    for step in path.split("."):
        children = dict(module.named_children())
        if step in children:
            module = children[step]
        elif re.fullmatch(r"-[1-9][0-9]{0,5}", step) and len(children) >= -int(step):
            module = list(children.values())[int(step)]
        else:
            return None
    return module


def _unknown(network: nn.Module, path: str) -> str:
    names = [name for name, _ in network.named_modules() if name]
    near = get_close_matches(path, names, n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(near or _siblings(network, path) or names[:3])}"
    return f"no layer is called {path!r}: {hint}; `mitate layers` lists the layers that would do"


def _siblings(network: nn.Module, path: str) -> list[str]:
    """The children of the longest beginning of a path that exists."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        parent = _descend(network, ".".join(parts[:depth]))
        if parent is not None:
            stem = _name_of(network, parent)
            return [f"{stem}.{child}" for child, _ in parent.named_children()][-3:]
    return []
