"""The published ways to make a map, one file a family; importing this fills the table."""

from mitate.explain.methods import (
    attention,
    concepts,
    controls,
    decomposition,
    gradients,
    masked,
    perturbed,
    pixels,
)
from mitate.explain.methods.table import METHODS, Method, find_method

__all__ = [
    "METHODS",
    "Method",
    "attention",
    "concepts",
    "controls",
    "decomposition",
    "find_method",
    "gradients",
    "masked",
    "perturbed",
    "pixels",
]
