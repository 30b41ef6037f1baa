"""Reading, checking and splitting a data set before anything is trained on it."""

from collections.abc import Mapping
from pathlib import Path

from mitate.data.dataset import Dataset, check_dataset, read_dataset, split_dataset
from mitate.data.wording import counted
from mitate.errors import DataError, UsageError
from mitate.progress import progress

UNEVEN = 5  # times as many photos of one class as of another


class Prepared(Dataset):
    """A data set whose images were all decoded once, with some to train and some to judge on."""


def prepared(
    data: str | Path | Dataset,
    *,
    group: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    shown: bool = False,
) -> Prepared:
    """Read, check and split a data set; one that was prepared already is given back.

    Raises:
        DataError: too few classes, or nothing usable on one side of the split; UsageError: a seed
        or fraction that cannot be used.
    """
    if isinstance(data, Prepared):
        return data
    if seed < 0:
        raise UsageError(f"a seed of {seed} cannot be used: give one from 0 up")
    dataset = data if isinstance(data, Dataset) else read_dataset(data, group=group)
    named = dataset.root if isinstance(data, Dataset) else data
    with progress("checking the photos", len(dataset), shown=shown) as advance:
        checked = check_dataset(dataset, progress=lambda done, total: advance(1))
    split = split_dataset(checked, valid_fraction=valid_fraction, seed=seed)
    trained = {record.label for record in split.split("train").records}
    if len(trained) < 2:
        names = ", ".join(sorted(str(name) for name in trained))
        raise DataError(
            f"{named} has only the class {names} to train on: a classifier needs two or more"
        )
    if not split.split("valid").records:
        groups = {record.group for record in split.records if record.group is not None}
        if groups:
            are = "there is" if len(groups) == 1 else "there are"
            raise DataError(
                f"{named} leaves no image to judge the classifier on, since images of one "
                f"group stay together and {are} {counted(len(groups), 'group')}: group by "
                "something else, or leave --group out"
            )
        raise DataError(
            f"{named} leaves no image to judge the classifier on: give every class two or "
            "more images, or a larger share for validation"
        )
    return Prepared(**vars(split))


def unevenness(counts: Mapping[str, int]) -> str | None:
    """What to tell where some class has far more photos to train on than another."""
    most, least = (choose(counts, key=lambda name: counts[name]) for choose in (max, min))
    if not counts[least]:
        return f"{least} has no photo to train on: give some, or leave the class out"
    if counts[most] < UNEVEN * counts[least]:
        return None
    return (
        f"{most} has {counted(counts[most], 'photo')} to train on and {least} {counts[least]}: "
        "--balance shows every class equally often"
    )
