"""Wrong reasons: images decided alike, places that decide, and confused pairs of classes."""

from mitate.auditing.reasons.confusion import ConfusedPair, confused_pairs
from mitate.auditing.reasons.finding import find_reasons
from mitate.auditing.reasons.groups import Group, Reasons
from mitate.auditing.reasons.spots import Spot

__all__ = ["ConfusedPair", "Group", "Reasons", "Spot", "confused_pairs", "find_reasons"]
