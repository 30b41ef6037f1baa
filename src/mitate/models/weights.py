"""Reading weights without running code, and fitting them to an architecture."""

import hashlib
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mitate.errors import UnsafePickleError, WeightsError
from mitate.tensors import digest_of

SHOWN = 4
ZIP = b"PK\x03\x04"  # what torch goes by, wherever else a zip may be in the file
OLDER = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")  # in the head of its older files
HEAD = 64  # bytes
OLDER_PICKLES = 5  # magic number, version, system, what was saved, and keys of the raw numbers
LARGEST_PICKLE = 1 << 26  # bytes; of a large network it is some hundred thousand
REMEMBERING = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")
REGISTERED = ("EXT1", "EXT2", "EXT4")  # numbers in a registry of names
COMPUTED = "(a name that it computes)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file or a ``.pth`` that holds nothing but tensors.

    Raises:
        WeightsError: no such file, or not a file of weights.
        UnsafePickleError: a pickle that names anything but tensors; the names are listed.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _state_dict(_read_pth(path), path)


def load_into(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights strictly.

    Raises:
        WeightsError: names or shapes that do not fit, with examples of each.
    """
    problems = list(_misfits(network, weights))
    if problems:
        raise WeightsError(
            f"{source} does not fit {type(network).__name__}: {'; '.join(problems)}. "
            "Name the architecture that these weights were made for"
        )
    network.load_state_dict(dict(weights), strict=True)


def digest_of_network(network: nn.Module) -> str:
    """SHA-256 of a network's weights and buffers with their names."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(f"{name} {digest_of(value)}\n".encode())
    return found.hexdigest()


def pickle_globals(path: Path) -> tuple[str, ...]:
    """Names that a pickle (or torch's zip of one) would import; read without running it.

    They are a help to judge a file by, and no proof: what is imported may import more.

    Raises:
        ValueError: not the pickles that its head tells of, or one in a zip is too large.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not begins_as_zip(head):
            file.seek(0)
            pickles = OLDER_PICKLES if is_of_older_torch(head) else 1
            names = [found for _ in range(pickles) for found in _globals_of(file, pickles == 1)]
            return tuple(dict.fromkeys(names))
    with zipfile.ZipFile(path) as archive:
        inner = _pickles_in(archive)
        names = [found for one in inner for found in _globals_of(BytesIO(archive.read(one)))]
    return tuple(dict.fromkeys(names))


def begins_as_zip(content: bytes) -> bool:
    """Whether torch reads a file that begins so as a zip, and not as a pickle."""
    return content.startswith(ZIP)


def is_of_older_torch(content: bytes) -> bool:
    """Whether a file that begins so is read as torch's older kind: pickles one after another."""
    return OLDER in content[:HEAD]


def _pickles_in(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    found = [one for one in archive.infolist() if one.filename.lower().endswith(".pkl")]
    for one in found:
        if one.file_size > LARGEST_PICKLE:
            raise ValueError(
                f"{one.filename} in it unpacks to {one.file_size >> 20} MB, where a network's is "
                "under one"
            )
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise WeightsError(f"{path} is not a safetensors file: {exc}") from exc


def _read_pth(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _pickles_in(archive)
    except (ValueError, zipfile.BadZipFile) as exc:
        raise WeightsError(f"{path} is not a file of weights: {exc}") from exc
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises pickle, zip, EOF and runtime errors for a bad file
        strange = [name for name in _globals_or_none(path) if not _is_plain(name)]
        if strange:
            more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
            raise UnsafePickleError(
                f"{path} is a pickle that would run code; it names {', '.join(strange[:SHOWN])}"
                f"{more}. If you trust where it comes from: mitate convert {path.name} OUT "
                "--trust-pickle SHA256"
            ) from exc
        raise WeightsError(f"{path} is not a file of weights that torch can read") from exc


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model", "state_dict_ema", "model_ema"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not loaded:
        raise WeightsError(f"{path} holds no state dict (names and tensors)")
    odd = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if odd:
        raise WeightsError(f"{path} holds more than tensors: {', '.join(odd[:SHOWN])}")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def _misfits(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[str]:
    own = network.state_dict()
    missing = [name for name in own if name not in weights]
    strange = [name for name in weights if name not in own]
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    for word, names in (("missing", missing), ("not of this network", strange), ("shape", shapes)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"{word}: {', '.join(names[:SHOWN])}{more}"


def _globals_or_none(path: Path) -> tuple[str, ...]:
    try:
        return pickle_globals(path)
    except Exception:  # not a pickle at all: there is nothing to name
        return ()


def _is_plain(name: str) -> bool:
    return name.startswith(("torch.", "collections.OrderedDict", "numpy.dtype")) and not any(
        part in name for part in ("torch.nn", "torch.hub", "torch.load")
    )


def _globals_of(file: BufferedReader | BytesIO, alone: bool = True) -> Iterator[str]:
    """Follow the two strings that STACK_GLOBAL takes from the stack, and the memo behind them.

    What is on the stack but no string that was pushed last is None, and so is a memo's of it. A
    pickle that is not ``alone`` may not come in frames: a frame can reach beyond its pickle, and
    pickle's own reader goes on behind the one or behind the other.
    """
    pushed: list[str | None] = []
    memo: dict[Any, str | None] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            names = [name for name in pushed[-2:] if name is not None]
            yield ".".join(names) if len(names) == 2 else COMPUTED
        elif opcode.name in REGISTERED or (opcode.name == "FRAME" and not alone):
            yield COMPUTED
        if opcode.name in REMEMBERING:
            index = len(memo) if opcode.name == "MEMOIZE" else argument
            memo[index] = pushed[-1] if pushed else None
        elif "GET" in opcode.name:
            pushed.append(memo.get(argument))
        elif isinstance(argument, str) and "UNICODE" in opcode.name:
            pushed.append(argument)
        elif opcode.name != "FRAME":
            pushed.clear()
