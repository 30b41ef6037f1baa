"""The published ways to make a map, one file a family; importing this fills the table."""

from mitate.explain.methods import controls, gradients, masked
from mitate.explain.methods.table import METHODS, Method, Needs, find_method

__all__ = ["METHODS", "Method", "Needs", "controls", "find_method", "gradients", "masked"]
