"""The program `mitate`: its commands, and how errors become one line and an exit code.

0 done · 1 failed · 2 wrong usage · 3 finished but some images failed · 4 a threshold was missed ·
130 interrupted
"""

import sys
import traceback
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn, TextIO

from cyclopts import App, CycloptsError, MissingArgumentError

from mitate.allocation import keeping_memory
from mitate.cli.streams import be_patient
from mitate.errors import MitateError, MitateWarning, UsageError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
TRACEBACK = "--traceback"
FULL = "the memory is full: give a smaller --batch-size, or --device cpu where a GPU's is"
EMPTY = "an argument is empty, as a variable without a value is: fill it; this folder is ."

app = App(
    name="mitate",
    help="See where an image classifier looks, and whether that is the right place.",
    help_epilogue=(
        "A classifier REF is a folder that mitate wrote, timm:NAME, timm:NAME@WEIGHTS, "
        "torchvision:NAME@WEIGHTS or hf:ORG/NAME. Any command takes --traceback to show where an "
        "error came from."
    ),
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # it would exit without a word
)
COMMANDS = {
    "demo": "The main job from end to end, offline: draw paddy leaves, train, look, report.",
    "train": "Train a classifier on photos sorted by class, or several and compare them.",
    "explain": "Draw where the classifier looks on each photo for its most probable classes.",
    "report": "Write one HTML file: scores, confusions, galleries of right and wrong with maps.",
    "audit": "Tell which map is true of the classifier, and whether it looks at the right place.",
    "compare": "Set two classifiers side by side: accuracy, every metric, where reasons moved.",
    "masks": "Make a mask of each photo's map, as PNG and COCO, to be corrected and trained with.",
    "layers": "List the layers that a map can be made at, and which one `auto` takes.",
    "methods": "List the map methods: family, needs, cost in forwards, and who published each.",
    "convert": "Turn a fastai export or a pickled module into a classifier folder, the safe way.",
    "doctor": "Print versions, devices, what is missing and how to get it.",
}
for place, (command, summary) in enumerate(COMMANDS.items()):
    # Named by path, so that a command's module is imported only when it is run.
    app.command(f"mitate.cli.{command}:{command}", name=command, help=summary, sort_key=place)


def main() -> NoReturn:
    """Run the program and exit."""
    be_patient()
    with keeping_memory():  # the process is the program's own: from beginning to end
        sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the program; give the exit code."""
    words = [word for word in arguments if word != TRACEBACK]
    shown = len(words) < len(arguments)
    with warnings.catch_warnings():
        _filter_warnings(shown)
        try:
            if any(not word and before != "--title" for before, word in pairwise(["", *words])):
                raise UsageError(EMPTY)
            code = int(app(words, exit_on_error=False, print_error=False) or 0)
            sys.stdout.flush()  # a full disk is told here, and not at the very end
        except (Exception, KeyboardInterrupt) as exc:
            if shown:
                traceback.print_exc()
            told, code = _judged(exc)
            print(" ".join(told.split()), file=sys.stderr)
    return code


def _judged(exc: BaseException) -> tuple[str, int]:
    """What is said of an error, in one line, and the exit code."""
    match exc:
        case KeyboardInterrupt():
            return f"interrupted {exc}".strip(), INTERRUPTED
        case MissingArgumentError(keyword=None, argument=left_out) if (
            left_out and exc.command_chain
        ):
            command = " ".join(exc.command_chain)
            told = f"error: {command} needs {left_out.name}: mitate {command} --help shows how"
            return told, WRONG_USAGE
        case UsageError() | CycloptsError():
            return f"error: {exc}", WRONG_USAGE
        case MitateError():
            return f"error: {exc}", FAILED
        case RuntimeError() | MemoryError() if _is_out_of_memory(exc):
            return f"error: {FULL}", FAILED
        case OSError(filename=str(place), strerror=str(why)):
            return f"error: {place}: {why}: check the path, its rights and the disk", FAILED
        case OSError(strerror=str(why)):
            return f"error: {why}: check the disk, and where the output goes", FAILED
    fault = f"{type(exc).__name__}: {exc}".splitlines()[0]
    return f"error: {fault} (a fault of mitate; {TRACEBACK} shows where)", FAILED


def _is_out_of_memory(exc: BaseException) -> bool:
    from mitate.models.mode import is_out_of_memory

    return is_out_of_memory(exc)


def _filter_warnings(all_of_them: bool) -> None:
    """Show mitate's own warnings, once each, and those of libraries only where asked for."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("default" if all_of_them else "ignore")
    warnings.simplefilter("once", MitateWarning)


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
