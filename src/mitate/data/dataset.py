"""The one reader of data sets that serves every command; the front door of this room."""

from pathlib import Path

from mitate.data.checking import check_dataset
from mitate.data.folders import read_folders
from mitate.data.records import SPLITS, Dataset, Record
from mitate.data.splitting import split_dataset
from mitate.data.tables import read_listed, table_in
from mitate.data.wording import some_of
from mitate.errors import DataError

__all__ = ["SPLITS", "Dataset", "Record", "check_dataset", "read_dataset", "split_dataset"]


def read_dataset(source: str | Path, *, group: str | None = None, labelled: bool = True) -> Dataset:
    """Reads a folder of class folders, or a CSV with the columns path and label.

    Args:
        source: The folder (an index.csv in it is read first) or the CSV. Class folders may
            lie in train, valid and test folders; a CSV may have columns split and mask, and
            its paths are relative to its folder.
        group: The CSV's column whose values keep images on one side of every split.
        labelled: Whether a CSV has to have the column label.

    Raises:
        DataError: There is nothing there that can be used as a data set.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"{source} does not exist: give a folder of class folders or a CSV file.")
    table = table_in(source)
    if table is not None:
        return _with_class_notices(read_listed(table, group=group, labelled=labelled))
    if group is not None:
        raise DataError(
            f"{source} has no index.csv to take the group {group} from: groups are told by a"
            " column of a CSV with path and label."
        )
    return _with_class_notices(read_folders(source))


def _with_class_notices(dataset: Dataset) -> Dataset:
    """Tells classes whose names differ in case only: they are usually meant to be one."""
    spellings: dict[str, list[str]] = {}
    for name in dataset.class_names:
        spellings.setdefault(name.casefold(), []).append(name)
    alike = [" and ".join(names) for names in spellings.values() if len(names) > 1]
    if not alike:
        return dataset
    return dataset.with_notices(
        f"Class names that differ in case only are taken as different classes: {some_of(alike)}."
    )
