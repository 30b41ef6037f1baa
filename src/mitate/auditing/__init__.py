"""Whether a map is true and its place is right: measures, intervals, controls.

Importing it fills the table of metrics.
"""

from mitate.auditing import (
    agreement,
    complexity,
    faithfulness,
    localisation,
    randomisation,
    robustness,
)

__all__ = [
    "agreement",
    "complexity",
    "faithfulness",
    "localisation",
    "randomisation",
    "robustness",
]
