"""Whether a map is true and its place is right: measures, intervals, controls.

Importing it fills the table of metrics.
"""

from mitate.auditing import complexity, faithfulness, localisation, randomisation, robustness

__all__ = ["complexity", "faithfulness", "localisation", "randomisation", "robustness"]
