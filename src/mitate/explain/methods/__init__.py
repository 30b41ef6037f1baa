"""The published ways to make a map, one file a family; importing this fills the table."""

from mitate.explain.methods import (
    attention,
    concepts,
    controls,
    decomposition,
    gradients,
    loupe,
    masked,
    perturbed,
    pixels,
    small,
)
from mitate.explain.methods.table import METHODS, Method, find_method, in_order_of_families

in_order_of_families()

__all__ = [
    "METHODS",
    "Method",
    "attention",
    "concepts",
    "controls",
    "decomposition",
    "find_method",
    "gradients",
    "loupe",
    "masked",
    "perturbed",
    "pixels",
    "small",
]
