"""Sequences as the library reads them, in batches: all that a batch takes is made when it is read."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gatewise.errors import UsageError
from gatewise.runtime.arguments import PIXEL, check_sequences, check_steps, listed, steps_of
from gatewise.runtime.library import Inputs, words


class Sequences(Protocol):
    """N sequences.

    Attributes:
        lengths: (N,) int64, the steps of each.
    """

    lengths: npt.NDArray[np.int64]

    def batch(self, rows: Sequence[int]) -> Inputs:
        """Return the inputs of some sequences, one after the other."""


class Words:
    """Sentences or texts as lists of words."""

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        self._sentences = sentences
        self.lengths = np.array([len(sentence) for sentence in sentences], np.int64)

    def batch(self, rows: Sequence[int]) -> Inputs:
        """Return the words of some of them."""
        return words(chain.from_iterable(self._sentences[row] for row in rows))


class Numbers:
    """Sequences of numbers.

    Args:
        x: (N, T, I), or a list of N arrays (T_n, I), or (T_n,) for one number per step; uint8 numbers are pixels.
        lengths: (N,) steps of each in an array; T by default.
        inputs: I.

    Raises:
        UsageError: x is empty or has another shape, or the lengths do not fit.
    """

    def __init__(self, x: Any, lengths: Any, inputs: int) -> None:
        self._parts: Any
        if isinstance(x, list | tuple):
            parts, self.lengths = listed(x, lambda each: ([np.asarray(one) for one in each], steps_of(each, "x")))
            check_sequences((len(parts), int(self.lengths.max()), parts[0].shape[1]), inputs)
            self._parts, dtype = parts, np.result_type(*parts)
        else:
            given = np.asarray(x)
            check_sequences(given.shape, inputs)
            self._parts, dtype = given, given.dtype
            self.lengths = np.full(len(given), given.shape[1], np.int64)
            if lengths is not None:
                check_steps(np.asarray(lengths), given.shape)
                self.lengths = np.asarray(lengths).astype(np.int64)
        self._dtype = dtype

    def batch(self, rows: Sequence[int]) -> Inputs:
        """Return the numbers of some of them."""
        return as_numbers(
            np.concatenate([self._parts[row][: self.lengths[row]] for row in rows]).astype(self._dtype, copy=False)
        )


def as_numbers(x: npt.NDArray[Any]) -> Inputs:
    """Return numbers (n, I) as the library reads them; uint8 numbers are pixels, and are scaled by 1/255.

    Raises:
        UsageError: they are no numbers.
    """
    if x.dtype == np.uint8:
        x = x.astype(np.float32) * np.float32(PIXEL)
    if x.dtype.kind not in "biuf":
        raise UsageError(f"x has type {x.dtype}; expected numbers")
    return Inputs(np.ascontiguousarray(x, np.float64))


def as_steps(x: Any, inputs: int) -> Inputs:
    """Return inputs of single steps, (n, I).

    Raises:
        UsageError: they have another shape, or are no numbers.
    """
    given = np.asarray(x)
    if given.ndim != 2 or given.shape[1] != inputs:
        raise UsageError(f"the inputs have shape {given.shape}; expected (rows, {inputs})")
    return as_numbers(given)
