"""Simulated photos of paddy leaves: nine diseases and health, with exact lesion masks."""

from mitate.data.paddy.photo import CLASSES, Photo, draw
from mitate.data.paddy.stamp import Stamp
from mitate.data.paddy.write import write_paddy

__all__ = ["CLASSES", "Photo", "Stamp", "draw", "write_paddy"]
