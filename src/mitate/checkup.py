"""What a machine has of what mitate needs, and how to get the rest."""

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

NEEDED = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "safetensors",
    "cyclopts",
    "rich",
    "pydantic",
    "jinja2",
    "matplotlib",
    "jaxtyping",
)
TRAIN, AUDIT = "pip install 'mitate[train]'", "pip install 'mitate[audit]'"
OPTIONAL = {
    "fastai": ("training", TRAIN),
    "pycocotools": ("masks of COCO", TRAIN),
    "scikit-image": ("masks that follow edges", TRAIN),
    "scikit-learn": ("scores, training and the search for wrong reasons", AUDIT),
    "scipy": ("the search for wrong reasons", AUDIT),
    "transformers": ("Hugging Face classifiers", "pip install 'mitate[hf]'"),
    "playwright": ("the browser tests", "pip install 'mitate[dev]'"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        subject: what.
        good: whether it is there and works.
        found: the version, or what was seen.
        remedy: what to do where it is not.
        needed: whether mitate cannot do without.
    """

    subject: str
    good: bool
    found: str
    remedy: str = ""
    needed: bool = False


def checkup() -> list[Finding]:
    """Look for everything; what is missing or broken is a finding and never an error."""
    findings = [
        Finding("python", True, platform.python_version(), needed=True),
        *(_package(name, needed=True) for name in ("mitate", *NEEDED)),
        *(_package(name, *OPTIONAL[name]) for name in OPTIONAL),
        _operators(),
        _browser(),
    ]
    if _there("torch"):
        findings += _devices()
    if _there("matplotlib"):
        findings.append(_fonts())
    return findings


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _package(name: str, purpose: str = "", remedy: str = "", *, needed: bool = False) -> Finding:
    try:
        return Finding(name, True, version(name), needed=needed)
    except PackageNotFoundError:
        fix = remedy or f"pip install {name}"
        return Finding(
            name, False, "not installed", f"{fix}  ({purpose})" if purpose else fix, needed
        )


def _operators() -> Finding:
    from mitate import imports

    subject = "torchvision's import"
    if not (_there("torch") and _there("torchvision")):
        fix = "pip install torch torchvision"
        return Finding(subject, False, "not installed", fix, needed=True)
    try:
        module = imports.torchvision()
    except Exception as exc:  # whatever a broken build raises
        fix = "install the torchvision that belongs to this torch"
        return Finding(subject, False, f"{type(exc).__name__}: {exc}", fix, needed=True)
    own = module.extension._has_ops()
    found = "with its operators" if own else "works without its compiled operators"
    return Finding(subject, True, found, needed=True)


def _devices() -> list[Finding]:
    import torch

    devices = [Finding("cpu", True, f"{torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return [*devices, Finding("cuda", True, ", ".join(names))]
    if torch.backends.mps.is_available():
        return [*devices, Finding("mps", True, "Apple GPU")]
    build = "no GPU is seen" if torch.version.cuda else "this torch is a CPU build"
    return [*devices, Finding("gpu", False, build, "none is needed; training is slower without")]


def _fonts() -> Finding:
    from mitate.drawing.fonts import undrawable

    sample = "見立て 病斑 稻瘟病 도열병"
    missing = undrawable([sample])
    if not missing:
        return Finding("fonts for Japanese, Chinese, Korean", True, "found")
    remedy = "install fonts-noto-cjk (Debian) or Noto Sans CJK"
    return Finding("fonts for Japanese, Chinese, Korean", False, "not all found", remedy)


def _browser() -> Finding:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    remedy = "apt install chromium, for the browser tests only"
    return Finding("chromium", path is not None, path or "not found", "" if path else remedy)
