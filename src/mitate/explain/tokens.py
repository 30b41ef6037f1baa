"""How many of a network's tokens are no cells: class and register tokens, and learned queries."""

import re

from torch import nn

from mitate.explain.grid import MOST_PREFIX_TOKENS

TOKEN = re.compile(r"token|cls|class_?emb|regist|prompt", re.IGNORECASE)
QUERIES = re.compile(r"latent|quer(y|ies)|slots?(_|$)", re.IGNORECASE)


def prefix_tokens(network: nn.Module) -> int | None:
    """The number of class and register tokens before the patches, where the network tells it."""
    for module in network.modules():
        number = getattr(module, "num_prefix_tokens", None)
        if isinstance(number, int):
            return number
    return None


def possible_prefixes(network: nn.Module) -> tuple[int, ...]:
    """How many tokens may stand before the patches, the likeliest number first.

    Where the network tells the number it is this one, or none in layers before they are added;
    otherwise any sum of the class, distillation and register tokens among its parameters: those
    that are called so, and one of the shape (1, 1, channels) beside a table of places, a row each.
    """
    told = prefix_tokens(network)
    if told is not None:
        return tuple(dict.fromkeys((told, 0)))
    sums = {0}
    unnamed = {id(token) for module in network.modules() for token in _beside_places(module)}
    for name, parameter in network.named_parameters():
        if id(parameter) in unnamed or TOKEN.search(name.split(".")[-1]):
            number = parameter.shape[-2] if parameter.ndim > 1 else 1
            sums |= {before + number for before in sums if before + number <= MOST_PREFIX_TOKENS}
    return tuple(sorted(sums))


def _beside_places(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of a module that have the shape of a class token, where it has one of places."""
    own = list(module.parameters(recurse=False))
    tables = {one.shape[-1] for one in own if one.ndim in (2, 3) and one.shape[-2] > 1}
    return [one for one in own if one.shape[:-1] == (1, 1) and one.shape[-1] in tables]


def learned_queries(network: nn.Module) -> set[int]:
    """How many queries the network has learned: a Perceiver's latents, a DETR's object queries."""
    return {
        parameter.shape[-2]
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and any(map(QUERIES.search, name.split(".")[-2:]))
    }
