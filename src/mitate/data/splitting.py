"""Train, valid and test: given splits kept, the rest split by class with groups kept whole."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mitate.data.copies import content_keys
from mitate.data.records import SPLITS, Dataset, Record
from mitate.data.stratifying import Draw
from mitate.data.wording import counted, some_of
from mitate.errors import DataError, UsageError

Unit = tuple[int, ...]
"""Indices of records that must stay on one side: a group, with copies of its pictures."""


def split_dataset(dataset: Dataset, *, valid_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Gives every record a split: the given one, or train or valid, stratified by class.

    Images of one group, and copies of one file, stay on one side. A training image that is
    also in a held-out split is left out. Without any valid image, some of train are set aside.

    Args:
        dataset: What `read_dataset` gave.
        valid_fraction: The share of each class that goes to valid, where none is given.
        seed: Decides which; the same seed gives the same split.

    Raises:
        DataError: Nothing is left to train on.
        UsageError: The fraction is not between 0 and 1.
    """
    if not 0 < valid_fraction < 1:
        raise UsageError(f"valid_fraction is {valid_fraction}: give a number between 0 and 1.")
    dataset = _without_unlabelled(dataset)
    given = len(dataset.split("train").records)
    keys = content_keys([record.path for record in dataset.records])
    dataset, keys = _without_copies(dataset, keys)
    dataset = _open_train(dataset)
    splits = _assign(dataset.records, keys, valid_fraction, np.random.default_rng(seed))
    dataset = dataset.with_records(
        replace(record, split=split) for record, split in zip(dataset.records, splits, strict=True)
    )
    if "train" not in splits and given:
        raise DataError(
            f"{dataset.root} has no images to train on: all {counted(given, 'training image')} are "
            "copies of images that are held out. Give others, or no split: mitate sets some aside."
        )
    if "train" not in splits:
        raise DataError(f"{dataset.root} has no images to train on: give some the split train.")
    return dataset.with_notices(*_class_notices(dataset))


def _without_unlabelled(dataset: Dataset) -> Dataset:
    bare = [record.path for record in dataset.records if record.label is None]
    if not bare:
        return dataset
    kept = dataset.with_records(r for r in dataset.records if r.label is not None)
    return kept.with_notices(
        f"{counted(len(bare), 'image')} without a label left out: {dataset.name_some(bare)}."
    )


def _without_copies(
    dataset: Dataset, keys: Sequence[str | None]
) -> tuple[Dataset, list[str | None]]:
    """Keeps of the copies across given splits the most held-out one: test, valid, train."""
    same = _alike(keys)
    doomed = {i for copies in same for i in copies if _is_spoiled(dataset.records, i, copies)}
    notices = _label_notices(dataset, same)
    if doomed:
        paths = [dataset.records[i].path for i in sorted(doomed)]
        notices.append(
            f"{counted(len(doomed), 'image')} left out, since the same file is also in a held-out"
            f" split: {dataset.name_some(paths)}."
        )
    kept = [i for i in range(len(dataset)) if i not in doomed]
    pruned = dataset.with_records(dataset.records[i] for i in kept)
    return pruned.with_notices(*notices), [keys[i] for i in kept]


def _is_spoiled(records: Sequence[Record], index: int, copies: Unit) -> bool:
    split = records[index].split
    return split is not None and split != _most_held_out(records[i].split for i in copies)


def _most_held_out(splits: Iterable[str | None]) -> str | None:
    given = [split for split in splits if split is not None]
    return max(given, key=SPLITS.index, default=None)


def _label_notices(dataset: Dataset, same: Iterable[Unit]) -> list[str]:
    torn = [copies for copies in same if len({dataset.records[i].label for i in copies}) > 1]
    if not torn:
        return []
    paths = [dataset.records[i].path for copies in torn for i in copies]
    pictures = counted(len(torn), "picture")
    return [f"{pictures} with the same file under several classes: {dataset.name_some(paths)}."]


def _open_train(dataset: Dataset) -> Dataset:
    """Where all is split and nothing is valid, the train images are split anew."""
    given = {record.split for record in dataset.records}
    if "train" not in given or given & {"valid", None}:
        return dataset
    opened = (replace(r, split=None) if r.split == "train" else r for r in dataset.records)
    return dataset.with_records(opened).with_notices(
        "No valid images are given: some of the train images are set aside for it."
    )


def _assign(
    records: Sequence[Record],
    keys: Sequence[str | None],
    valid_fraction: float,
    rng: np.random.Generator,
) -> list[str]:
    groups = [record.group for record in records]
    splits = [record.split for record in records]
    units = _joined(len(records), _alike(groups), _alike(keys))
    for unit in [*_alike(groups), *units]:  # a group's own split before that of its copies
        side = _most_held_out(splits[i] for i in unit)
        for i in unit:
            splits[i] = splits[i] or side
    free = [unit for unit in units if splits[unit[0]] is None]
    by_class = [Counter(str(records[i].label) for i in unit) for unit in free]
    valid = Draw(by_class).draw(valid_fraction, rng)
    held_out = {i for number in valid for i in free[number]}
    return [split or ("valid" if i in held_out else "train") for i, split in enumerate(splits)]


def _alike(keys: Sequence[str | None]) -> list[Unit]:
    """The indices that share a key."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            members[key].append(index)
    return [tuple(indices) for indices in members.values()]


def _joined(size: int, *partitions: Iterable[Unit]) -> list[Unit]:
    """All indices in units such that sets which share an index lie in one (union-find)."""
    parent = list(range(size))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for together in (indices for partition in partitions for indices in partition):
        for index in together:
            parent[root(index)] = root(together[0])
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(size):
        members[root(index)].append(index)
    return [tuple(indices) for indices in members.values()]


def _class_notices(dataset: Dataset) -> list[str]:
    by_split = {split: Counter(n) for split, n in dataset.counts().items()}
    train, valid, test = (by_split.get(split, Counter()) for split in SPLITS)
    names = dataset.class_names
    total = train + valid + test
    told = {
        "with a single image, which stays in train and cannot be judged": [
            name for name in names if total[name] == 1 and train[name]
        ],
        "in valid or test and not in train, which cannot be learned": [
            name for name in names if not train[name]
        ],
        "in train and not in valid, which cannot be judged": [
            name for name in names if train[name] > 1 and not valid[name]
        ],
    }
    notices = [
        f"{counted(len(classes), 'class')} {how}: {some_of(classes)}."
        for how, classes in told.items()
        if classes
    ]
    if len(names) == 1:
        notices.append(f"There is only the class {names[0]}: a classifier needs two or more.")
    return notices
