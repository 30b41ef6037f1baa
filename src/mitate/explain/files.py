"""Explanations on disk: an .npz of native-grid maps with a JSON header, and no pickle."""

import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from mitate.errors import DataError
from mitate.explain.explanation import FORMAT, VERSION, Explanation, Flag


class FlagFile(BaseModel):
    """A flag as it stands in the header."""

    image: int
    target: int
    kind: str
    reason: str


class Header(BaseModel):
    """The JSON header of a saved explanation."""

    model_config = ConfigDict(frozen=True)

    format: str = FORMAT
    version: int = VERSION
    class_names: tuple[str, ...]
    method: str
    layer: str
    input_size: tuple[int, int]
    flags: tuple[FlagFile, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    options: dict[str, bool | int | float | str | None] = {}
    seed: int = 0
    cost: float = 0.0


def save(explanation: Explanation, path: Path, *, half: bool) -> Path:
    """Write an explanation; float16 maps, or float32 where ``half`` is off or would overflow."""
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    header = Header(
        flags=tuple(FlagFile(**asdict(flag)) for flag in explanation.flags),
        **{
            name: getattr(explanation, name)
            for name in Header.model_fields
            if name not in ("format", "version", "flags")
        },
    )
    maps = explanation.maps.detach().float().cpu().numpy()
    largest = float(np.abs(maps, where=np.isfinite(maps), out=np.zeros_like(maps)).max(initial=0))
    fits = half and (largest == 0 or 1e-2 < largest < 6e4)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                header=np.frombuffer(header.model_dump_json().encode(), dtype=np.uint8),
                maps=maps.astype(np.float16) if fits else maps,
                classes=explanation.classes.cpu().numpy(),
                logits=explanation.logits.detach().float().cpu().numpy(),
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: Path) -> Explanation:
    """Read a saved explanation; its pictures are not in the file.

    Raises:
        DataError: the file is no explanation, or of a newer version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = Header.model_validate_json(arrays["header"].tobytes())
            maps, classes, logits = (arrays[name] for name in ("maps", "classes", "logits"))
    except (OSError, ValueError, KeyError, ValidationError, zipfile.BadZipFile) as exc:
        raise DataError(f"{path} is not a saved explanation: {str(exc).splitlines()[0]}") from exc
    if header.format != FORMAT or header.version > VERSION:
        raise DataError(f"{path} is of version {header.version}, this mitate reads {VERSION}")
    stored = {name: getattr(header, name) for name in Header.model_fields}
    flags = tuple(Flag(**flag.model_dump()) for flag in header.flags)
    kept = {k: v for k, v in stored.items() if k not in ("format", "version", "flags")}
    return Explanation(
        maps=torch.from_numpy(maps.astype(np.float32)),
        classes=torch.from_numpy(classes.astype(np.int64)),
        logits=torch.from_numpy(logits),
        flags=flags,
        **kept,
    )


def as_json(explanation: Explanation) -> list[dict[str, object]]:
    """One plain object an image: name, true class, and the explained classes in order."""
    return [
        {
            "image": explanation.names[i] if explanation.names else str(i),
            "true": explanation.label_of(i),
            "predicted": explanation.class_names[int(explanation.predicted[i])],
            "classes": [
                {
                    "name": explanation.name_of(i, j),
                    "probability": round(float(explanation.probabilities[i, j]), 6),
                    "flag": flag.reason if (flag := explanation.flag_of(i, j)) else None,
                }
                for j in range(explanation.classes.shape[1])
            ],
        }
        for i in range(len(explanation))
    ]


