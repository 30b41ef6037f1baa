"""Wrong reasons: groups of images that are decided alike, and confused pairs of classes."""

from mitate.auditing.reasons.confusion import ConfusedPair, confused_pairs
from mitate.auditing.reasons.finding import find_reasons
from mitate.auditing.reasons.groups import Group, Reasons

__all__ = ["ConfusedPair", "Group", "Reasons", "confused_pairs", "find_reasons"]
