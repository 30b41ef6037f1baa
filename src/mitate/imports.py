"""The one road to torchvision, timm and the optional packages.

On a machine whose torch is a CPU build, the registry's torchvision wheel cannot load its compiled
operators, and its import stops at two schemas that nobody declared. Declaring them first makes all
of it work but those operators, which mitate does not use. timm, fastai and transformers import
torchvision, so they come through here too.
"""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

from mitate.errors import MissingExtraError

EXTRAS = {
    "fastai": "train",
    "sklearn": "audit",
    "pycocotools": "train",
    "scipy": "audit",
    "skimage": "train",
    "transformers": "hf",
}


def torchvision(submodule: str = "") -> Any:
    """Import torchvision or one of its submodules (``"models"``)."""
    return _load("torchvision", submodule)


def timm(submodule: str = "") -> Any:
    """Import timm or one of its submodules."""
    return _load("timm", submodule)


def fastai(submodule: str = "") -> Any:
    """Import fastai or one of its submodules; raises MissingExtraError where it is absent."""
    return _load("fastai", submodule)


def sklearn(submodule: str = "") -> Any:
    """Import scikit-learn or one of its submodules; raises MissingExtraError where it is absent."""
    return _load("sklearn", submodule)


def scipy(submodule: str = "") -> Any:
    """Import SciPy or one of its submodules; raises MissingExtraError where it is absent."""
    return _load("scipy", submodule)


def pycocotools(submodule: str = "") -> Any:
    """Import pycocotools or one of its submodules; raises MissingExtraError where it is absent."""
    return _load("pycocotools", submodule)


def skimage(submodule: str = "") -> Any:
    """Import scikit-image or one of its submodules; raises MissingExtraError where it is absent."""
    return _load("skimage", submodule)


def transformers(submodule: str = "") -> Any:
    """Import transformers or a submodule; raises MissingExtraError where it is absent."""
    return _load("transformers", submodule)


def declare_missing_operators() -> None:
    """Declare the schemas that torchvision's import asks for, where its operators cannot load."""
    import torch

    if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, "nms"):
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    for library in sorted(Path(spec.origin).parent.glob("_C*")):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            return
        except OSError:
            continue
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
        )


def _load(package: str, submodule: str) -> Any:
    declare_missing_operators()
    try:
        with warnings.catch_warnings():
            # What fastai uses of torch and pandas as it is imported is no concern of the user's.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(f"{package}.{submodule}" if submodule else package)
    except ModuleNotFoundError as exc:
        if exc.name != package:
            raise
        install = f"mitate[{EXTRAS[package]}]" if package in EXTRAS else package
        raise MissingExtraError(
            f"{package} is needed for this and is not installed: pip install '{install}'"
        ) from exc
