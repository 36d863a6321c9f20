"""Splitting one data set into train, valid and test."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError

Rows = npt.NDArray[np.int64]

SHARE = 10
"""Without a given size, validation and test get one of this many examples each."""


def sizes_of(
    count: int,
    valid_size: int,
    test_size: int,
    name: str,
    needed: Sequence[str] = ("valid", "test"),
    unit: str = "example",
    hint: str = "",
) -> tuple[int, int]:
    """Return the sizes of the validation and test sets to split off, a tenth of the data where they are 0.

    Args:
        count: the number of examples.
        valid_size: the size of the validation set, or 0.
        test_size: the size of the test set, or 0.
        name: name of the data in error messages.
        needed: the sets to split off; the size of the other is 0.
        unit: what an example is, in the singular, for error messages.
        hint: how examples are told apart, for error messages.

    Raises:
        DataError: nothing is left to train on.
    """
    asked = {"valid": valid_size, "test": test_size}
    sizes = {split: (asked[split] or max(count // SHARE, 1)) if split in needed else 0 for split in asked}
    if needed and sum(sizes.values()) >= count:
        found = f"{max(count, 0):,} {unit}{'' if count == 1 else 's'}"
        if given := " and ".join(f"data.{split}_size is {asked[split]:,}" for split in needed if asked[split]):
            raise DataError(f"{name}: {given}, of {found}; expected fewer, so that some are left to train on")
        sets = ", ".join(("train", *needed[:-1])) + f" and {needed[-1]}"
        raise DataError(
            f"{name}: {found}{hint and f' ({hint})'}; expected at least {len(needed) + 1}, one for each of {sets}"
        )
    return sizes["valid"], sizes["test"]


def sizes_as_text(sizes: Mapping[str, int]) -> str:
    """Return the sizes of splits for a note, such as ``80 for train, 10 for valid, 10 for test``."""
    return ", ".join(f"{size:,} for {split}" for split, size in sizes.items())


def split_rows(
    count: int,
    valid: int,
    test: int,
    seed: int,
    name: str,
    *,
    labels: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Rows]:
    """Return the rows of each split, in ascending order.

    Args:
        count: N, the number of examples.
        valid: the size of the validation set.
        test: the size of the test set; N - valid - test examples are for training.
        seed: draws the rows at random; 0 takes them from the end, the test set last.
        name: name of the data in error messages.
        labels: (N,), keep the share of each label in each split drawn at random.
        groups: (N,), keep all examples of a group in one split, whose size is then approximate; labels are ignored.

    Raises:
        DataError: there are too few groups.
    """
    draw = np.random.default_rng(seed)
    if groups is not None:
        part = _whole_groups(groups, valid, test, draw if seed else None)
    else:
        order = draw.permutation(count) if labels is None else _stratified(labels, draw)
        order = order if seed else np.arange(count)[::-1]
        part = np.zeros(count, np.int64)
        part[order[:test]], part[order[test : test + valid]] = 2, 1
    rows = {split: np.flatnonzero(part == place) for place, split in enumerate(("train", "valid", "test"))}
    if groups is not None and not all(len(one) for one in rows.values()):
        raise DataError(
            f"{name}: {len(set(groups))} groups, which leave a split empty; expected more groups, or smaller "
            "data.valid_size and data.test_size"
        )
    return rows


def _stratified(labels: Sequence[Hashable], draw: np.random.Generator) -> Rows:
    """Return an order of which every prefix has about the share of each label that the whole has."""
    rows_of: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    place = np.empty(len(labels))
    for rows in rows_of.values():
        # Evenly spaced in random order: the k-th of n rows of a label is at (k + 1/2) / n.
        place[draw.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(place + 1e-9 * draw.random(len(labels)), kind="stable")


def _whole_groups(groups: Sequence[Hashable], valid: int, test: int, draw: np.random.Generator | None) -> Rows:
    """Return the split of each row: 0 train, 1 valid, 2 test; without a generator, from the end."""
    names = list(dict.fromkeys(groups))
    number = {name: place for place, name in enumerate(names)}
    of = np.array([number[name] for name in groups])
    counts, part = np.bincount(of), np.zeros(len(names), np.int64)
    order = np.arange(len(names))[::-1] if draw is None else draw.permutation(len(names))
    for place, wanted in ((2, test), (1, valid)):
        taken = 0
        for group in order:
            if part[group] == 0 and taken < wanted:
                part[group], taken = place, taken + counts[group]
    rows: Rows = part[of]
    return rows
