"""Sequences of different lengths: padded to one array, with the steps of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError
from gatewise.files import check_memory
from gatewise.runtime.arguments import steps_of

Lengths = npt.NDArray[np.int64]
HOW_TO_SAVE = "np.savez('FILE.npz', x=np.concatenate(sequences), y=labels, lengths=[len(s) for s in sequences])"
"""How sequences of different lengths are saved, for error messages."""


def check_lengths(lengths: npt.NDArray[Any], name: str) -> Lengths:
    """Check the steps of N sequences and return them as int64.

    Raises:
        DataError: they are not positive integers, (N,).
    """
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
        raise DataError(
            f"{name} has shape {lengths.shape} and type {lengths.dtype}; expected the number of steps of each "
            "sequence, integers (N,)"
        )
    if lengths.min() < 1 or lengths.max() >= 2**31:
        place = int(np.flatnonzero((lengths < 1) | (lengths >= 2**31))[0])
        raise DataError(f"{name}[{place}] is {lengths[place]}; expected at least one step, and fewer than 2³¹")
    return lengths.astype(np.int64)


def padded(x: npt.NDArray[Any], lengths: Lengths, name: str) -> npt.NDArray[Any]:
    """Return sequences as one array (N, T, I), with T the longest length and zeros after the end of each.

    Args:
        x: one after the other, (Σ lengths, I), or (Σ lengths,) for one number per step; or already padded, with
            anything after the end of each, (N, T, I), or (N, T) for one number per step.
        lengths: (N,) steps of each sequence.
        name: where x comes from, for error messages.

    Raises:
        DataError: the lengths do not fit x, or the sequences do not fit in memory.
    """
    count, longest, total = len(lengths), int(lengths.max()), int(lengths.sum())
    concatenated, shape = x.ndim in (1, 2) and len(x) == total, x.shape
    x = x[..., None] if x.ndim == (1 if concatenated else 2) else x
    if not concatenated and (x.ndim != 3 or len(x) != count or longest > x.shape[1]):
        raise DataError(
            f"{name} has shape {shape}, which does not fit {count:,} lengths of up to {longest:,} steps, {total:,} in "
            f"all; expected ({total}, I), the sequences one after the other, or ({count}, {longest}, I)"
        )
    check_memory(name.rpartition(": ")[0] or name, count * longest * (1 + x.shape[-1] * x.itemsize))
    inside = np.arange(longest) < lengths[:, None]
    if not concatenated:
        return np.where(inside[..., None], x[:, :longest], x.dtype.type(0))
    out = np.zeros((count, longest, x.shape[-1]), x.dtype)
    out[inside] = x
    return out


def pad(sequences: Sequence[npt.NDArray[Any]], name: str) -> tuple[npt.NDArray[Any], Lengths]:
    """Return N sequences (T_n, I) as one array (N, T, I), with zeros after the end of each, and their steps.

    Raises:
        DataError: there is none, one is empty, or they differ in I.
    """
    lengths = steps_of(sequences, name)
    return padded(np.concatenate([np.asarray(one) for one in sequences]), lengths, name), lengths
