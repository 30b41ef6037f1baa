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
    that are called so, and one that has the shape of one, (1, 1, channels).
    """
    told = prefix_tokens(network)
    if told is not None:
        return tuple(dict.fromkeys((told, 0)))
    sums = {0}
    for name, parameter in network.named_parameters():
        shaped = parameter.ndim == 3 and parameter.shape[:2] == (1, 1)
        if shaped or TOKEN.search(name.split(".")[-1]):
            number = parameter.shape[-2] if parameter.ndim > 1 else 1
            sums |= {before + number for before in sums if before + number <= MOST_PREFIX_TOKENS}
    return tuple(sorted(sums))


def learned_queries(network: nn.Module) -> set[int]:
    """How many queries the network has learned: a Perceiver's latents, a DETR's object queries."""
    return {
        parameter.shape[-2]
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and any(map(QUERIES.search, name.split(".")[-2:]))
    }
