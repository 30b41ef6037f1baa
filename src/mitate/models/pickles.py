"""The one safe road from a pickle to a classifier folder.

A pickle runs code when it is read. It is read here only: in a subprocess, of the very bytes whose
SHA-256 the user passed, and what comes out is written as plain data and safetensors.
"""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mitate import imports
from mitate.errors import ClassifierError, MitateError, UnsafePickleError, UsageError
from mitate.models.classifier import Classifier
from mitate.models.learners import from_learner, is_learner
from mitate.models.weights import pickle_globals, read_weights, sha256

HARMLESS = ("torch", "collections", "numpy", "fastai", "fastcore", "timm", "pathlib", "functools")


def convert(
    source: Path, folder: Path, *, trust: str | None, classes: tuple[str, ...] = ()
) -> Classifier:
    """Turn a fastai export or a pickled module into a classifier folder.

    Args:
        source: the pickle.
        folder: where the classifier goes.
        trust: the file's SHA-256, which says that the user trusts these very bytes.
        classes: class names for a pickled module, which has none of its own.

    Raises:
        UnsafePickleError: no or another SHA-256; names what the pickle would import.
        ClassifierError: the pickle cannot be read, or holds no network that can be saved, or the
            file needs no converting.
    """
    if not source.is_file():
        raise UsageError(f"no file at {source}: check the path")
    if _holds_weights_alone(source):
        raise ClassifierError(
            f"{source.name} holds weights and no network, and needs no trust: give it with the "
            f"architecture that it was made for, as timm:NAME@{source} or "
            f"torchvision:NAME@{source}, in the place of a classifier"
        )
    digest = sha256(source)
    if trust is None:
        raise UnsafePickleError(_warning(source, digest))
    if trust.lower().removeprefix("sha256:") != digest:
        raise UnsafePickleError(
            f"the SHA-256 of {source} is {digest}, not the one that you trust: this is another file"
        )
    job = {"source": str(source), "sha256": digest, "folder": str(folder), "classes": classes}
    finished = subprocess.run(
        [sys.executable, "-m", "mitate.models.pickles"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        lines = finished.stderr.strip().splitlines() or ["it ended without a word"]
        raise ClassifierError(f"{source.name} could not be converted: {lines[-1]}")
    return Classifier.load(folder)


def _holds_weights_alone(source: Path) -> bool:
    try:
        return bool(read_weights(source))
    except MitateError:
        return False


def _warning(source: Path, digest: str) -> str:
    try:
        names = pickle_globals(source)
    except Exception as exc:  # not a pickle at all
        raise ClassifierError(f"{source} is not a pickle: {exc}") from exc
    foreign = [name for name in names if name.split(".")[0] not in HARMLESS]
    shown = ", ".join((foreign or list(names))[:6]) or "nothing"
    return (
        f"{source.name} is a pickle and would run code; it imports {len(names)} names, among them "
        f"{shown}. If you trust where it comes from, pass --trust-pickle {digest}"
    )


def _convert_here(job: dict[str, Any]) -> None:
    """Runs in the subprocess: check the bytes, read them, save the classifier."""
    content = Path(job["source"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != job["sha256"]:
        raise ClassifierError("the file changed while it was read")
    loaded = _unpickle(content)
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), nn.Module):
        loaded = loaded["model"]
    if is_learner(loaded):
        classifier = from_learner(loaded)
    elif isinstance(loaded, nn.Module):
        classifier = Classifier.from_module(loaded, classes=job["classes"] or None)
    else:
        raise ClassifierError(f"the pickle holds a {type(loaded).__name__}, not a network")
    facts = {"converted_from": Path(job["source"]).name, "converted_sha256": job["sha256"]}
    classifier.with_provenance(**facts).save(job["folder"])


def _unpickle(content: bytes) -> Any:
    imports.declare_missing_operators()
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as exc:
        raise ClassifierError(
            f"the pickle needs code that is not installed here ({exc}): convert it where that code "
            "can be imported, or save the network's state_dict() there and name its architecture"
        ) from exc


def _main() -> int:
    try:
        _convert_here(json.loads(sys.stdin.read()))
    except Exception as exc:  # one line crosses the process boundary, whatever went wrong
        kind = "" if isinstance(exc, MitateError) else f"{type(exc).__name__}: "
        print(f"{kind}{exc}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
