"""Parts of an audit on disk, so that one that was interrupted goes on where it stopped."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from mitate.auditing.values import Part
from mitate.files import UNREADABLE, unfinished, write_text

FORMAT, ROUNDS = "mitate audit part", "rounds.json"
CURVE, FRACTIONS = "curve ", "fractions "


def digest_of_plan(plan: Mapping[str, Any]) -> str:
    """SHA-256 of what an audit is to measure: parts are of use to an equal plan only."""
    return sha256(json.dumps(plan, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Parts:
    """The parts of one plan in a folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, plan: Mapping[str, Any]) -> None:
        """Open the folder; parts of another plan there are removed."""
        self.folder = folder
        self.plan = digest_of_plan(plan)
        self.found = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("[0-9][0-9][0-9][0-9].npz")):
                if self._plan_of(path) == self.plan:
                    self.found += 1
                elif self._plan_of(path) is not None:
                    path.unlink()

    def rounds(self, make: Callable[[], list[tuple[int, int]]]) -> list[tuple[int, int]]:
        """What was agreed on when the audit began, which the speed of a machine may enter."""
        if self.folder is None:
            return make()
        path = self.folder / ROUNDS
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["plan"] == self.plan:
                return [(int(alive), int(new)) for alive, new in kept["rounds"]]
        except UNREADABLE:
            pass
        rounds = make()
        write_text(path, json.dumps({"plan": self.plan, "rounds": rounds}) + "\n")
        return rounds

    def read(self, number: int) -> Part | None:
        """A part that is there already and whole."""
        return None if self.folder is None else self._read(self._path(number))

    def write(self, number: int, part: Part) -> None:
        """Keep a part: whole, or not at all."""
        if self.folder is None:
            return
        header = {
            "format": FORMAT,
            "plan": self.plan,
            "places": part.places,
            "contenders": part.contenders,
            "metrics": part.metrics,
            "forwards": part.forwards,
            "seconds": part.seconds,
        }
        arrays: dict[str, Any] = {
            **{f"{CURVE}{name}": curve for name, curve in part.curves.items()},
            **{f"{FRACTIONS}{name}": steps for name, steps in part.fractions.items()},
        }
        with unfinished(self._path(number)) as unready, unready.open("wb") as file:
            np.savez_compressed(
                file,
                header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
                values=part.values,
                empty=part.empty,
                **arrays,
            )

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number:04}.npz"

    def _plan_of(self, path: Path) -> str | None:
        """The plan of a part; None where a file is none."""
        try:
            with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                return str(header["plan"]) if header["format"] == FORMAT else None
        except UNREADABLE:
            return None

    def _read(self, path: Path) -> Part | None:
        """A part of this plan, or None where there is none: it will be measured again."""
        try:
            with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                if header["plan"] != self.plan:
                    return None
                names = arrays.files
                return Part(
                    places=tuple(header["places"]),
                    contenders=tuple(header["contenders"]),
                    metrics=tuple(header["metrics"]),
                    values=arrays["values"],
                    empty=arrays["empty"],
                    curves=_named(arrays, names, CURVE),
                    fractions=_named(arrays, names, FRACTIONS),
                    forwards=float(header["forwards"]),
                    seconds=float(header["seconds"]),
                )
        except UNREADABLE:
            return None


def _named(arrays: NpzFile, names: list[str], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in names if name.startswith(prefix)}
