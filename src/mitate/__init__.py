"""mitate (見立て): where an image classifier looks, and whether that is the right place."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mitate.explain.explainer import Explainer as Explainer
    from mitate.explain.explanation import Explanation as Explanation
    from mitate.explain.graph import compile as compile
    from mitate.explain.outputs import DetectionTarget as DetectionTarget
    from mitate.explain.outputs import SegmentationTarget as SegmentationTarget
    from mitate.explain.outputs import SimilarityTarget as SimilarityTarget
    from mitate.jobs.auditing import audit as audit
    from mitate.jobs.comparing import compare as compare
    from mitate.models.classifier import Classifier as Classifier
    from mitate.models.preprocessing import Preprocessing as Preprocessing

HOMES = {
    "Classifier": "mitate.models.classifier",
    "DetectionTarget": "mitate.explain.outputs",
    "Explainer": "mitate.explain.explainer",
    "Explanation": "mitate.explain.explanation",
    "MitateError": "mitate.errors",
    "MitateWarning": "mitate.errors",
    "Preprocessing": "mitate.models.preprocessing",
    "SegmentationTarget": "mitate.explain.outputs",
    "SimilarityTarget": "mitate.explain.outputs",
    "audit": "mitate.jobs.auditing",
    "compare": "mitate.jobs.comparing",
    "compile": "mitate.explain.graph",
}
__all__ = [
    "Classifier",
    "DetectionTarget",
    "Explainer",
    "Explanation",
    "MitateError",
    "MitateWarning",
    "Preprocessing",
    "SegmentationTarget",
    "SimilarityTarget",
    "audit",
    "compare",
    "compile",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that `import mitate` stays light."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'mitate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
