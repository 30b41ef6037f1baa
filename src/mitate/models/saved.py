"""A classifier on disk: a folder of classifier.json and weights.safetensors.

A classifier that was trained with masks has its decoder's weights beside them, and one that mitate
trained the table of the photos that it was trained on, tied to it by their SHA-256.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mitate.data.made import CLASSIFIER
from mitate.data.seen import Seen, Table
from mitate.errors import ClassifierError, WeightsError
from mitate.files import sha256, unfinished, write_bytes, write_text
from mitate.models.architecture import build, describe
from mitate.models.decoder import Decoder
from mitate.models.preprocessing import (
    ChannelOrder,
    Interpolation,
    OddCrop,
    Padding,
    Preprocessing,
    Resize,
)
from mitate.models.tasks import Task
from mitate.models.trial import probe
from mitate.models.weights import load_into, read_weights

if TYPE_CHECKING:
    from mitate.models.classifier import Classifier

DESCRIPTION = CLASSIFIER
WEIGHTS = "weights.safetensors"
DECODER = "decoder.safetensors"
SEEN = "trained_on.csv"
# What files are called until the description of them is written: a save that is cut short leaves
# the old classifier, or the new one with its files called so, and never neither.
NEXT = ".next"
# In the weights' own file, so that a copy of it alone tells that there were photos.
TRAINED = {"format": "pt", "mitate": "trained"}  # others ask for the format where a file tells more
VERSION = 1


class PreprocessingFile(BaseModel):
    """Preprocessing as it stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int]
    resize: Resize
    crop_fraction: float
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "RGB"
    padding: Padding = "mean"
    odd_crop: OddCrop = "even"


class DecoderFile(BaseModel):
    """A segmentation decoder as it stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[int, ...]
    channels: tuple[int, ...]
    regions: tuple[str, ...]
    doublings: int
    width: int
    weights_sha256: str


class ClassifierFile(BaseModel):
    """What classifier.json holds."""

    model_config = ConfigDict(frozen=True)

    format: Literal["mitate classifier"] = "mitate classifier"
    version: int = VERSION
    architecture: dict[str, Any]
    class_names: tuple[str, ...]
    task: Task = "single-label"
    preprocessing: PreprocessingFile
    provenance: dict[str, Any] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str
    photos_sha256: str | None = None
    photos_whole: bool = True
    decoder: DecoderFile | None = None


def save(classifier: "Classifier", folder: Path) -> Path:
    """Write the folder after a check that the recipe gives the same logits.

    A classifier that is there already can be read until the new one can, also after a crash.

    Raises:
        ClassifierError: a network that cannot be built again, or an ``output=`` function, which is
        code and cannot be written.
    """
    if classifier.output is not None:
        raise ClassifierError(
            "a classifier with output= cannot be saved, because a function is code: wrap the "
            "network in a module that gives the logits"
        )
    recipe = dict(classifier.recipe or describe(classifier.network))
    _check_rebuilds(classifier, recipe)
    if folder.exists() and not folder.is_dir():
        raise ClassifierError(f"{folder} is a file: name a folder to save the classifier in")
    folder.mkdir(parents=True, exist_ok=True)
    seen = classifier.seen
    weights = _write_weights(classifier.network, folder / WEIGHTS, TRAINED if seen else None)
    decoder = _write_decoder(classifier.decoder, folder / DECODER)
    if seen:
        write_bytes(upcoming(folder / SEEN), seen.content)
    description = ClassifierFile(
        architecture=recipe,
        class_names=classifier.class_names,
        task=classifier.task,
        preprocessing=PreprocessingFile(**vars(classifier.preprocessing)),
        provenance=dict(classifier.provenance),
        libraries=libraries(),
        weights_sha256=sha256(weights),
        photos_sha256=seen.digest if seen else None,
        photos_whole=seen.is_known if seen else True,
        decoder=decoder,
    )
    try:
        write_text(folder / DESCRIPTION, description.model_dump_json(indent=2) + "\n")
    except OSError:  # a full disk, say
        for name in (WEIGHTS, DECODER, SEEN):
            upcoming(folder / name).unlink(missing_ok=True)
        raise
    weights.replace(folder / WEIGHTS)
    for name, is_written in ((DECODER, decoder), (SEEN, seen)):
        if is_written is None:
            (folder / name).unlink(missing_ok=True)
            upcoming(folder / name).unlink(missing_ok=True)
        else:
            upcoming(folder / name).replace(folder / name)
    return folder


def load(folder: Path) -> "Classifier":
    """Read a classifier folder.

    Raises:
        ClassifierError: the folder is incomplete, of a newer version, or altered.
    """
    from mitate.models.classifier import Classifier

    description = _read_description(folder)
    weights = _described(folder / WEIGHTS, description.weights_sha256)
    stored = read_weights(weights)
    network = build(description.architecture).eval().to(_dtype(stored))
    load_into(network, stored, str(weights))
    return Classifier(
        network=network,
        class_names=description.class_names,
        task=description.task,
        preprocessing=Preprocessing(**description.preprocessing.model_dump()),
        provenance=description.provenance,
        recipe=description.architecture,
        folder=folder,
        decoder=_read_decoder(folder, description.decoder),
        seen=_seen(folder, description),
    )


def seen_behind(weights: Path) -> Seen | None:
    """The photos that weights were trained on: as their classifier's folder tells, where they lie.

    None where nothing tells that mitate trained them; where that is told and no more, a ``Seen``
    that is not whole.
    """
    weights = weights.resolve()
    try:
        description = _read_description(weights.parent)
    except (ClassifierError, OSError):
        description = None
    if description is not None and sha256(weights) == description.weights_sha256:
        return _seen(weights.parent, description)
    return Seen((), whole=False) if _were_trained(weights) else None


def libraries() -> dict[str, str]:
    """Versions of what a classifier depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    names = ("mitate", "torch", "torchvision", "timm", "transformers", "fastai", "numpy", "pillow")
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read_description(folder: Path) -> ClassifierFile:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ClassifierError(
            f"{folder} holds no {DESCRIPTION}: name a folder that `mitate train` or `mitate "
            "convert` wrote, timm:NAME@WEIGHTS or hf:ORG/NAME"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise ClassifierError(
                f"{path} is of version {version} and this mitate reads {VERSION}: update it"
            )
        return ClassifierFile.model_validate(content)
    except (ValueError, RecursionError) as exc:  # not UTF-8, not JSON, or not these fields
        why = " ".join(str(exc).splitlines()[:3])
        raise ClassifierError(f"{path} is not a description of a classifier: {why}") from exc


def _seen(folder: Path, description: ClassifierFile) -> Seen | None:
    if description.photos_sha256 is not None:
        places = (folder / SEEN, upcoming(folder / SEEN))
        return Seen(Table(places, description.photos_sha256), description.photos_whole)
    return Seen((), whole=False) if "training" in description.provenance else None


def _were_trained(weights: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "pt") as file:
            return TRAINED.items() <= (file.metadata() or {}).items()
    except (SafetensorError, OSError):  # of another kind
        return False


def upcoming(path: Path) -> Path:
    """Where a file lies until it is described."""
    return path.with_suffix(NEXT + path.suffix)


def _described(path: Path, digest: str) -> Path:
    """The weights that the description is of."""
    there = [place for place in (path, upcoming(path)) if place.is_file()]
    if not there:
        raise WeightsError(f"{path.parent} has no {path.name}: copy the whole classifier folder")
    found = next((place for place in there if sha256(place) == digest), None)
    if found is None:
        raise WeightsError(
            f"{path} is not the file that {DESCRIPTION} was written for (its SHA-256 "
            "differs): copy the classifier folder again"
        )
    return found


def _dtype(weights: Mapping[str, Tensor]) -> torch.dtype:
    """The type of the first floating-point weights."""
    floats = (value.dtype for value in weights.values() if value.is_floating_point())
    return next(floats, torch.float32)


def _check_rebuilds(classifier: "Classifier", recipe: dict[str, Any]) -> None:
    """A recipe that builds another network must not be written."""
    options = ClassifierError(
        f"this {type(classifier.network).__name__} was built with options that mitate does not "
        "know, and built again it is another network: use Classifier.from_module in Python"
    )
    twin = build(recipe).eval()
    try:
        load_into(twin, classifier.network.state_dict(), "the network built again")
    except WeightsError as exc:
        raise options from exc
    image = probe(classifier)
    twin.to(classifier.device, classifier.dtype)
    with torch.no_grad():
        again = classifier.read(twin(image.to(classifier.device, classifier.dtype)))
    if not torch.allclose(classifier.logits(image), again, rtol=1e-3, atol=1e-4):
        raise options


def _write_decoder(decoder: Decoder | None, path: Path) -> DecoderFile | None:
    if decoder is None:
        return None
    digest = sha256(_write_weights(decoder, path))
    return DecoderFile(**decoder.description(), weights_sha256=digest)


def _read_decoder(folder: Path, description: DecoderFile | None) -> Decoder | None:
    if description is None:
        return None
    path = _described(folder / DECODER, description.weights_sha256)
    stored = read_weights(path)
    decoder = Decoder(**description.model_dump(exclude={"weights_sha256"}))
    load_into(decoder.eval().to(_dtype(stored)), stored, str(path))
    return decoder


def _write_weights(network: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a module's weights to where they lie until they are described."""
    from safetensors.torch import save_file

    path = upcoming(path)
    tensors: dict[str, Tensor] = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    with unfinished(path) as part:
        part.touch()
        rights = part.stat().st_mode
        save_file(tensors, part, metadata)  # leaves a file that only its owner may read
        part.chmod(rights)
    return path
