"""mitate convert."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mitate.cli.tables import tell
from mitate.data.wording import counted
from mitate.files import check_folder


def convert(
    source: Path,
    out: Path,
    /,
    *,
    trust_pickle: Annotated[str | None, Parameter(name="--trust-pickle")] = None,
    classes: Annotated[
        tuple[str, ...], Parameter(name="--class", negative=(), show_default=False)
    ] = (),
) -> int:
    """Turn a fastai export or a pickled module into a classifier folder, the safe way.

    A pickle runs code when it is read. Without --trust-pickle nothing is read: the command prints
    what the pickle would import and its SHA-256. With it, exactly that file is read, in a
    subprocess.

    Args:
        source: the .pkl file.
        out: the folder to write.
        trust_pickle: the SHA-256 of the file that you trust.
        classes: a class name, repeated in order, for a pickled module that has none.
    """
    from mitate.models.pickles import convert as convert_pickle

    check_folder(out)
    classifier = convert_pickle(source, out, trust=trust_pickle, classes=classes)
    classes_told = counted(len(classifier.class_names), "class")
    tell(f"{out}: a classifier of {classes_told}; try mitate layers {out}")
    return 0
