"""The one safe road from a pickle to a classifier folder.

A pickle runs code when it is read. It is read here only: in a subprocess, of the very bytes whose
SHA-256 the user passed, and what comes out is written as plain data and safetensors.
"""

import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mitate import imports
from mitate.data.wording import counted
from mitate.errors import (
    ClassifierError,
    MitateError,
    MitateWarning,
    UnsafePickleError,
    UsageError,
)
from mitate.files import sha256
from mitate.models import saved
from mitate.models.classifier import Classifier
from mitate.models.learners import from_learner, is_learner
from mitate.models.trial import probe
from mitate.models.weights import (
    COMPUTED,
    begins_as_zip,
    is_of_older_torch,
    pickle_globals,
    printable,
    read_weights,
)

USUAL = ("torch", "collections", "numpy", "fastai", "fastcore", "timm", "pathlib", "functools")
WARNED = "mitate warns: "
PICKLED = ("torch.storage._load_from_bytes",)  # of tensors, in pickles that torch did not write
# Of these modules any name, and of any module these names, reach for commands, files or the net.
REACHING_MODULES = re.compile(
    r"(.*\.)?"
    r"(os|posix|nt|subprocess|shutil|sys|socket|ctypes|importlib|runpy|pty|code|codeop|signal|"
    r"webbrowser|urllib|http|ftplib|requests|multiprocessing|pickle|marshal|tempfile|glob)"
    r"(\.|$)"
)
REACHING_NAMES = re.compile(
    r"_*"
    r"(system|popen\w*|run\w*|spawn\w*|exec\w*|eval|compile|call|check_call|check_output|getoutput|"
    r"getstatusoutput|open|input|import__|import_module|loads?|load_\w+|download\w*|url\w+|untar\w*|"
    r"rmtree|remove|unlink|touch|rename|replace|write\w*|mk\w*dirs?|attrgetter|methodcaller)$",
    re.IGNORECASE,
)
REACHING = "WHAT CAN REACH COMMANDS, FILES OR THE NET"
NESTED = "WHAT READS ANOTHER PICKLE INSIDE, whose names are not among these"
FOREIGN = "not of fastai, torch or numpy"
FAMILIAR = "of fastai, torch, numpy and the like"


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
    warning = _warning(source, digest)
    if trust is None:
        raise UnsafePickleError(warning)
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
    for message in _warned(finished.stdout):
        warnings.warn(message, MitateWarning, stacklevel=2)
    return Classifier.load(folder)


def _warned(printed: str) -> list[str]:
    """What the subprocess has to tell, among what the pickle's own code may print."""
    lines = [line for line in printed.splitlines() if line.startswith(WARNED)]
    return list(json.loads(lines[-1].removeprefix(WARNED))) if lines else []


def _holds_weights_alone(source: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch's, of a pickle's protocol
            return bool(read_weights(source))
    except MitateError:
        return False


def _warning(source: Path, digest: str) -> str:
    try:
        names = pickle_globals(source)
    except Exception as exc:  # not a pickle at all
        raise ClassifierError(f"{source} is not a pickle that can be read: {exc}") from exc
    told = [f"it imports {counted(len(names), 'name')}"]
    for words, such in _sorted_by_danger(names).items():
        if such:
            told.append(f"{words}: {', '.join(map(printable, such))}")
    return (
        f"{source.name} is a pickle and would run code; {'; '.join(told)}. If you trust where it "
        f"comes from, pass --trust-pickle {digest}"
    )


def _sorted_by_danger(names: Sequence[str]) -> dict[str, list[str]]:
    """All names, each under the words that say what it may do; the worst first."""
    sorted_names: dict[str, list[str]] = {REACHING: [], NESTED: [], FOREIGN: [], FAMILIAR: []}
    for name in names:
        if name in PICKLED:
            sorted_names[NESTED].append(name)
        elif _reaches(name):
            sorted_names[REACHING].append(name)
        else:
            sorted_names[FAMILIAR if name.split(".")[0] in USUAL else FOREIGN].append(name)
    return sorted_names


def _reaches(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return name == COMPUTED or bool(REACHING_MODULES.match(module) or REACHING_NAMES.match(last))


def _convert_here(job: dict[str, Any]) -> None:
    """Runs in the subprocess: check the bytes, read them, save the classifier."""
    content = Path(job["source"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != job["sha256"]:
        raise ClassifierError("the file changed while it was read")
    loaded = _unpickle(content)
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), nn.Module):
        loaded = loaded["model"]
    if is_learner(loaded):
        classifier = _of_learner(loaded, job["classes"])
    elif isinstance(loaded, nn.Module):
        classifier = _of_module(loaded, job["classes"])
    elif isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        raise ClassifierError(
            "it holds weights and an optimiser's state, as learn.save() writes them, and no "
            "network: use learn.export(), or save learn.model.state_dict() and name the "
            "architecture, timm:NAME@WEIGHTS"
        )
    else:
        raise ClassifierError(f"the pickle holds a {type(loaded).__name__}, not a network")
    facts = {"converted_from": Path(job["source"]).name, "converted_sha256": job["sha256"]}
    classifier.with_provenance(**facts).save(job["folder"])


def _of_learner(learner: Any, names: Sequence[str]) -> Classifier:
    classifier = from_learner(learner)
    if names and tuple(names) != classifier.class_names:
        raise ClassifierError(
            f"this Learner has its own class names, {', '.join(classifier.class_names)}: leave out "
            "--class"
        )
    return classifier


def _of_module(network: nn.Module, names: Sequence[str]) -> Classifier:
    """A network as it is, with as many names as it has scores, where it takes photos at all."""
    classifier = Classifier.from_module(network, classes=tuple(names) or None)
    if classifier.provenance.get("assumed_preprocessing"):
        height, width = classifier.preprocessing.size
        warnings.warn(
            "the pickle does not tell the preprocessing: ImageNet's mean and std at "
            f"{height}x{width} px are assumed; {saved.DESCRIPTION} in the folder can be edited",
            MitateWarning,
            stacklevel=2,
        )
    if not names:
        shown = ", ".join(classifier.class_names[:2])
        warnings.warn(
            f"classes are called {shown} …: name them in order, --class NAME --class NAME",
            MitateWarning,
            stacklevel=2,
        )
    try:
        scores = classifier.logits(probe(classifier)).shape[1]
    except (RuntimeError, ValueError, AssertionError, ClassifierError):
        return classifier  # it takes no such photo: that is told when it is used
    if scores != len(classifier.class_names):
        raise ClassifierError(
            f"the network gives {scores} scores, and there are {len(classifier.class_names)} "
            f"classes: name {scores}, --class NAME for each in order"
        )
    return classifier


def _unpickle(content: bytes) -> Any:
    imports.declare_missing_operators()
    try:
        if begins_as_zip(content) or is_of_older_torch(content):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
        return pickle.loads(content)  # of the bytes that are trusted
    except (ModuleNotFoundError, AttributeError) as exc:
        raise ClassifierError(
            f"the pickle needs code that is not installed here ({exc}): convert it where that code "
            "can be imported, or save the network's state_dict() there and name its architecture"
        ) from exc


def _main() -> int:
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", MitateWarning)
            _convert_here(json.loads(sys.stdin.read()))
        ours = (str(one.message) for one in told if issubclass(one.category, MitateWarning))
        print(f"\n{WARNED}{json.dumps(list(dict.fromkeys(ours)))}")
    except Exception as exc:  # one line crosses the process boundary, whatever went wrong
        kind = "" if isinstance(exc, MitateError) else f"{type(exc).__name__}: "
        print(f"{kind}{exc}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
