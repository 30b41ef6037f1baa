"""Reading weights without running code, and fitting them to an architecture."""

import _compat_pickle
import hashlib
import pickletools
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
DATA = "data.pkl"  # what torch reads of a zip
FRAME_HEAD = 9  # bytes: the opcode and the length
PYTHON_3 = 3  # the first protocol of it alone
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
        ValueError: not the pickles that its head tells of, or one in a zip is too large;
        RuntimeError: not a zip that torch reads.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not begins_as_zip(head):
            file.seek(0)
            pickles = OLDER_PICKLES if is_of_older_torch(head) else 1
            names = [found for _ in range(pickles) for found in _globals_of(file)]
            return tuple(dict.fromkeys(names))
    archive, inner = _opened(path)
    contents = (BytesIO(archive.get_record(name)) for name in inner)
    return tuple(dict.fromkeys(found for one in contents for found in _globals_of(one)))


def begins_as_zip(content: bytes) -> bool:
    """Whether torch reads a file that begins so as a zip, and not as a pickle."""
    return content.startswith(ZIP)


def is_of_older_torch(content: bytes) -> bool:
    """Whether a file that begins so is read as torch's older kind: pickles one after another."""
    return OLDER in content[:HEAD]


def _opened(path: Path) -> tuple[Any, list[str]]:
    """A zip and the pickles in it, as torch's own reader finds them, which is what runs them.

    Another reader may see another archive: a zip may have two directories.
    """
    archive = torch._C.PyTorchFileReader(str(path))
    found = [name for name in archive.get_all_records() if name.lower().endswith(".pkl")]
    asked = [DATA] if DATA in map(str.lower, found) else []  # as torch asks, of whatever case
    names = list(dict.fromkeys([*asked, *found]))
    for name in names:
        size = archive.get_record_size(name)
        if size > LARGEST_PICKLE:
            raise ValueError(
                f"{name} in it unpacks to {size >> 20} MB, where a network's is under one"
            )
    return archive, names


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise WeightsError(f"{path} is not a safetensors file: {exc}") from exc


def _read_pth(path: Path) -> object:
    try:
        with path.open("rb") as file:
            is_zip = begins_as_zip(file.read(HEAD))
        if is_zip:
            _opened(path)
    except (ValueError, RuntimeError) as exc:
        raise WeightsError(f"{path} is not a file of weights: {_first_line(exc)}") from exc
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises pickle, zip, EOF and runtime errors for a bad file
        strange = [name for name in _globals_or_none(path) if not _is_plain(name)]
        if strange:
            more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
            named = ", ".join(map(printable, strange[:SHOWN]))
            raise UnsafePickleError(
                f"{path} is a pickle that would run code; it names {named}"
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


def printable(name: str) -> str:
    """A name from a file of others', without what would move a terminal's cursor."""
    return name if name.isprintable() else ascii(name)


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def _globals_or_none(path: Path) -> tuple[str, ...]:
    try:
        return pickle_globals(path)
    except Exception:  # not a pickle at all: there is nothing to name
        return ()


def _is_plain(name: str) -> bool:
    return name.startswith(("torch.", "collections.OrderedDict", "numpy.dtype")) and not any(
        part in name for part in ("torch.nn", "torch.hub", "torch.load")
    )


def _globals_of(file: BufferedReader | BytesIO) -> Iterator[str]:
    """Follow the two strings that STACK_GLOBAL takes from the stack, and the memo behind them.

    What is on the stack but no string that was pushed last is None, and so is a memo's of it.

    Raises:
        ValueError: not a pickle, or one with a frame that reaches beyond it, behind which its
        reader would go on with another.
    """
    protocol, framed, last = 0, 0, 0
    pushed: list[str | None] = []
    memo: dict[Any, str | None] = {}
    for opcode, argument, place in pickletools.genops(file):
        last = place or 0
        if opcode.name == "PROTO":
            protocol = int(argument or 0)
        elif opcode.name == "FRAME":
            framed = last + FRAME_HEAD + int(argument or 0)
        elif opcode.name in ("GLOBAL", "INST"):
            yield _imported(*str(argument).split(" ", 1), protocol=protocol)
        elif opcode.name == "STACK_GLOBAL":
            names = [name for name in pushed[-2:] if name is not None]
            yield _imported(*names, protocol=protocol) if len(names) == 2 else COMPUTED
        elif opcode.name in REGISTERED:
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
    if framed > last + 1:
        raise ValueError("a frame in it reaches beyond the pickle")


def _imported(module: str, name: str, *, protocol: int) -> str:
    """What is imported under a name; in the older protocols Python 2's names are translated."""
    if protocol < PYTHON_3 and (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    elif protocol < PYTHON_3:
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}"
