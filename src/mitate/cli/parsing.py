"""Words of the command line that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from mitate.errors import UsageError

Out = Annotated[Path, Parameter(name=["--out", "-o"])]
Methods = Annotated[
    tuple[str, ...], Parameter(name=["--method", "-m"], negative=(), show_default=", ".join)
]
Options = Annotated[tuple[str, ...], Parameter(name="--option", negative=(), show_default=False)]
Fusion = Literal["max", "mean", "product"]
Flag = Annotated[bool, Parameter(negative=())]
Device = Annotated[str, Parameter(name="--device")]
Json = Annotated[bool, Parameter(name="--json", negative=())]


def size_of(text: str) -> tuple[int, int]:
    """Height and width of ``224`` or ``128x256`` (height x width).

    Raises:
        UsageError: anything else.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"size {text!r}: write one number, or height x width such as 128x256")
    return int(parts[0]), int(parts[-1])


def check_masks_for(masks: Path | None, **values: int | None) -> None:
    """Refuse values of masks without the masks that have them.

    Raises:
        UsageError: one was given.
    """
    for name, value in values.items():
        if value is not None and masks is None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} {value} is of masks: name them with --masks")


def options_of(settings: tuple[str, ...]) -> dict[str, Any]:
    """Method options of words such as ``channel_softmax=true``.

    Raises:
        UsageError: a word without an equals sign.
    """
    options: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"option {setting!r}: write NAME=VALUE, such as sigma=0.3")
        options[name.strip().replace("-", "_")] = _value(value.strip())
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
