"""Explanations on disk: an .npz of native-grid maps with a JSON header, and no pickle."""

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from pydantic import BaseModel, ConfigDict

from mitate.errors import DataError
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.explanation import Explanation
from mitate.explain.flags import Flag
from mitate.files import UNREADABLE, unfinished
from mitate.models.tasks import Task, word

FORMAT: Final = "mitate explanation"
VERSION = 1


class FlagFile(BaseModel):
    """A flag as it stands in the header."""

    image: int
    target: int
    kind: str
    reason: str


class EstimateFile(BaseModel):
    """An estimate as it stands in the header: lists an image."""

    error: list[list[float]]
    scored: list[int]
    channels: list[int]

    @staticmethod
    def of(estimate: Estimate | None) -> "EstimateFile | None":
        """What is written of an estimate, where there is one."""
        told = estimate and {each.name: getattr(estimate, each.name) for each in fields(estimate)}
        return EstimateFile(**{n: t.tolist() for n, t in told.items()}) if told else None

    def read(self) -> Estimate:
        """The estimate that was written."""
        counts = (torch.tensor(n, dtype=torch.long) for n in (self.scored, self.channels))
        return Estimate(torch.tensor(self.error), *counts)


class Header(BaseModel):
    """The JSON header of a saved explanation."""

    model_config = ConfigDict(frozen=True)

    format: Literal["mitate explanation"] = FORMAT
    version: int = VERSION
    class_names: tuple[str, ...]
    method: str
    layer: str
    input_size: tuple[int, ...]
    flags: tuple[FlagFile, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    options: dict[str, bool | int | float | str | None] = {}
    seed: int = 0
    cost: float = 0.0
    task: Task = "single-label"
    fusion: str = ""
    estimate: EstimateFile | None = None


OTHERWISE = ("format", "version", "flags", "estimate")  # kept in another form, or not at all
KEPT = tuple(name for name in Header.model_fields if name not in OTHERWISE)


def save(explanation: Explanation, path: Path, *, half: bool) -> Path:
    """Write an explanation; float16 maps, or float32 where ``half`` is off or would lose a map."""
    path = _with_suffix(path)
    header = Header(
        flags=tuple(FlagFile(**asdict(flag)) for flag in explanation.flags),
        estimate=EstimateFile.of(explanation.estimate),
        **{name: getattr(explanation, name) for name in KEPT},
    )
    maps = explanation.maps.detach().float().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(header.model_dump_json().encode(), dtype=np.uint8),
            maps=maps.astype(np.float16) if half and _fit_half(maps) else maps,
            classes=explanation.classes.cpu().numpy(),
            logits=explanation.logits.detach().float().cpu().numpy(),
        )
    return path


def load(path: Path) -> Explanation:
    """Read a saved explanation; its pictures are not in the file.

    Raises:
        DataError: the file is no explanation, damaged, or of a newer version.
    """
    header, maps, classes, logits = _read(path if path.exists() else _with_suffix(path))
    if header.version > VERSION:
        raise DataError(
            f"{path} is of version {header.version} and this mitate reads {VERSION}: update it"
        )
    problem = _inconsistency(header, maps, classes, logits)
    if problem:
        raise DataError(f"{path} is damaged: {problem}")
    kept = {name: getattr(header, name) for name in KEPT}
    return Explanation(
        maps=torch.from_numpy(maps.astype(np.float32)),
        classes=torch.from_numpy(classes.astype(np.int64)),
        logits=torch.from_numpy(logits.astype(np.float32)),
        flags=tuple(Flag(**flag.model_dump()) for flag in header.flags),
        estimate=header.estimate.read() if header.estimate else None,
        **kept,
    )


def _with_suffix(path: Path) -> Path:
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def _fit_half(maps: np.ndarray) -> bool:
    """Whether float16 keeps every map: its peak neither overflows nor nears the smallest steps."""
    finite = np.where(np.isfinite(maps), np.abs(maps), 0)
    peaks = finite.max((-2, -1), initial=0)
    return bool(np.all((peaks == 0) | ((peaks > 1e-2) & (peaks < 6e4))))


def _read(path: Path) -> tuple[Header, np.ndarray, np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
            header = Header.model_validate_json(arrays["header"].tobytes())
            maps, classes, logits = (arrays[name] for name in ("maps", "classes", "logits"))
    except UNREADABLE as exc:
        why = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(f"{path} is not a saved explanation: {why}") from exc
    return header, maps, classes, logits


def _inconsistency(
    header: Header, maps: np.ndarray, classes: np.ndarray, logits: np.ndarray
) -> str | None:
    if [maps.ndim - len(header.input_size), classes.ndim, logits.ndim] != [2, 2, 2]:
        return "its arrays have other dimensions than maps, classes and logits"
    if {array.dtype.kind for array in (maps, logits)} != {"f"} or classes.dtype.kind != "i":
        return "its arrays are not numbers of the expected kind"
    images, targets = maps.shape[:2]
    if classes.shape != (images, targets) or len(logits) != images:
        return "its maps, classes and logits are of different numbers of images"
    if len(header.names) not in (0, images) or len(header.labels) not in (0, images):
        return "its names or labels are of another number than its images"
    number = len(header.class_names)
    known = classes.size == 0 or (classes.min() >= 0 and classes.max() < number)
    if logits.shape[1] != number or not known or not all(-1 <= n < number for n in header.labels):
        return "its classes are not those of its class names"
    if not all(0 <= f.image < images and 0 <= f.target < targets for f in header.flags):
        return "its flags name maps that it does not hold"
    told = header.estimate
    if told and [len(row) for row in told.error] != [targets] * images:
        return "its estimate is of other maps than it holds"
    if told and {len(told.scored), len(told.channels)} != {images}:
        return "its estimate is of another number of images"
    return None


def as_json(explanation: Explanation) -> list[dict[str, object]]:
    """One plain object an image: name, true class, and the explained classes in order.

    A class has the ``error`` of its map where that is estimated.
    """
    told = explanation.estimate
    return [
        {
            "image": explanation.names[i] if explanation.names else str(i),
            "true": explanation.label_of(i),
            "predicted": explanation.class_names[int(explanation.predicted[i])],
            "classes": [
                {
                    "name": explanation.name_of(i, j),
                    word(explanation.task): _rounded(float(explanation.probabilities[i, j])),
                    "flag": flag.reason if (flag := explanation.flag_of(i, j)) else None,
                    **({"error": _rounded(float(told.error[i, j]))} if told else {}),
                }
                for j in range(explanation.classes.shape[1])
            ],
        }
        for i in range(len(explanation))
    ]


def _rounded(likely: float) -> float | None:
    """JSON has no NaN."""
    return round(likely, 6) if math.isfinite(likely) else None
