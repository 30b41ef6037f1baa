"""What the search for wrong reasons found, on disk: so that it is not looked for twice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from PIL import Image

from mitate.auditing.intervals import Interval
from mitate.auditing.reasons.confusion import ConfusedPair
from mitate.auditing.reasons.groups import Group, Reasons
from mitate.auditing.reasons.patterns import Pattern
from mitate.auditing.reasons.places import Place
from mitate.auditing.reasons.spots import Spot
from mitate.files import UNREADABLE, unfinished

KINDS = {
    kind.__name__: kind for kind in (ConfusedPair, Group, Interval, Pattern, Place, Reasons, Spot)
}
HEADER = "header"
Found = tuple[Reasons, tuple[ConfusedPair, ...]]


def keep(path: Path, plan: str, reasons: Reasons, pairs: Sequence[ConfusedPair]) -> None:
    """Write what was found by a plan, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    header = {"plan": plan, "found": _packed((reasons, tuple(pairs)), arrays)}
    arrays[HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(path) as unready, unready.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def kept(path: Path, plan: str) -> Found | None:
    """What was found by the same plan; None where there is nothing whole of it."""
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
            header = json.loads(arrays[HEADER].tobytes())
            if header["plan"] != plan:
                return None
            found: Found = _unpacked(header["found"], arrays)
            return found
    except UNREADABLE:
        return None


def _packed(thing: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Plain data for JSON; arrays and pictures go beside it."""
    if isinstance(thing, np.generic):
        return thing.item()
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, np.ndarray | Image.Image):
        kind = "array" if isinstance(thing, np.ndarray) else "picture"
        name = f"{kind} {len(arrays)}"
        arrays[name] = np.asarray(thing)
        return {kind: name}
    if isinstance(thing, Mapping):
        return {"mapping": [[name, _packed(value, arrays)] for name, value in thing.items()]}
    if is_dataclass(thing):
        told = {one.name: _packed(getattr(thing, one.name), arrays) for one in fields(thing)}
        return {"kind": type(thing).__name__, "fields": told}
    return [_packed(one, arrays) for one in thing]


def _unpacked(packed: Any, arrays: Any) -> Any:
    if isinstance(packed, list):
        return tuple(_unpacked(one, arrays) for one in packed)
    if not isinstance(packed, dict):
        return packed
    if "array" in packed:
        return arrays[packed["array"]]
    if "picture" in packed:
        return Image.fromarray(arrays[packed["picture"]])
    if "mapping" in packed:
        return {name: _unpacked(value, arrays) for name, value in packed["mapping"]}
    told = {name: _unpacked(value, arrays) for name, value in packed["fields"].items()}
    return KINDS[packed["kind"]](**told)
