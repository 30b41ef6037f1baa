"""The program `mitate`: its commands, and how errors become one line and an exit code.

0 done · 1 failed · 2 wrong usage · 3 finished but some images failed · 4 a threshold was missed ·
130 interrupted
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

from cyclopts import App, CycloptsError

from mitate.errors import MitateError, MitateWarning, UsageError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
TRACEBACK = "--traceback"

app = App(
    name="mitate",
    help="See where an image classifier looks, and whether that is the right place.",
    help_epilogue=(
        "A classifier REF is a folder that mitate wrote, timm:NAME, timm:NAME@WEIGHTS or "
        "torchvision:NAME@WEIGHTS. Any command takes --traceback to show where an error came from."
    ),
    version_flags=["--version"],
    result_action="return_value",
)
COMMANDS = {
    "demo": "The main job from end to end, offline: draw paddy leaves, train, look, report.",
    "train": "Train a classifier on photos sorted by class, or several and compare them.",
    "explain": "Draw where the classifier looks on each photo for its most probable classes.",
    "report": "Write one HTML file: scores, confusions, galleries of right and wrong with their maps.",
    "layers": "List the layers that a map can be made at, and which one `auto` takes.",
    "methods": "List the map methods: family, what each needs, cost in forwards, and who published it.",
    "convert": "Turn a fastai export or a pickled module into a classifier folder, the safe way.",
    "doctor": "Print versions, devices, what is missing and how to get it.",
}
for command, summary in COMMANDS.items():
    # Named by path, so that a command's module is imported only when it is run.
    app.command(f"mitate.cli.{command}:{command}", name=command, help=summary, sort_key=len(COMMANDS))


def main() -> NoReturn:
    """Run the program and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the program; give the exit code."""
    traceback = TRACEBACK in arguments
    warnings.showwarning = _show_warning
    if not traceback:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MitateWarning)
    try:
        code = app([word for word in arguments if word != TRACEBACK], exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        return _told("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CycloptsError as exc:
        return _told(f"error: {exc}", WRONG_USAGE)
    except (MitateError, OSError) as exc:
        if traceback:
            raise
        return _told(f"error: {exc}", WRONG_USAGE if isinstance(exc, UsageError) else FAILED)
    except Exception as exc:
        if traceback:
            raise
        fault = f"{type(exc).__name__}: {exc}".splitlines()[0]
        return _told(f"error: {fault} (a fault of mitate; {TRACEBACK} shows where)", FAILED)
    return int(code or 0)


def _told(words: str, code: int) -> int:
    print(" ".join(words.split()), file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    place = "" if issubclass(category, MitateWarning) else f" ({filename}:{lineno})"
    print(f"note: {' '.join(str(message).split())}{place}", file=sys.stderr)
