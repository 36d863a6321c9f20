"""Checks of what users pass to models: texts, sentences, sequences of numbers."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gatewise.errors import DataError, UsageError
from gatewise.runtime.vocabulary import split_tokens

T = TypeVar("T")

PIXEL = 1 / 255
"""What uint8 numbers, which are pixels, are multiplied by."""


def is_missing(value: Any) -> bool:
    """Return whether a value stands for a missing one: None, NaN, NaT or NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)


def kind(data: Any) -> str:
    """Return the name of an object's type with its article, for error messages."""
    name = type(data).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def words_of(texts: Sequence[str] | Sequence[Sequence[str]], level: str) -> list[list[str]]:
    """Return the words of texts that a classifier reads.

    Args:
        texts: strings, or lists of words.
        level: how to split a string: ``word``, ``character`` or ``prose``.

    Raises:
        UsageError: a single string was given, or a text is missing or has no words.
    """
    if isinstance(texts, str):
        raise UsageError("the texts are one string; expected a list of texts, such as [text]")
    read = list[list[str]]()
    for place, text in enumerate(texts):
        if not isinstance(text, Sequence | np.ndarray):
            shown = "missing" if is_missing(text) else kind(text)
            raise UsageError(f"text {place} is {shown}; expected a string or a list of words, leave it out")
        words = list(split_tokens(text, level)) if isinstance(text, str) else list(text)
        if not words:
            raise UsageError(f"text {place} has no words; expected at least one word in each text")
        read.append(words)
    return read


def check_sentences(sentences: Sequence[Sequence[str]]) -> None:
    """Check that the sentences are lists of words.

    Raises:
        UsageError: one is a string, or all are one string.
    """
    if isinstance(sentences, str):
        raise UsageError("the sentences are one string; expected a list of lists of words, such as [['A', 'dog']]")
    for place, sentence in enumerate(sentences):
        if isinstance(sentence, str):
            raise UsageError(f"sentence {place} is a string, {sentence[:30]!r}; expected a list of words: split it")


def steps_of(sequences: Sequence[Any], name: str) -> npt.NDArray[np.int64]:
    """Return the steps of sequences (T_n, I).

    Raises:
        DataError: there is none, one is empty, or they differ in I.
    """
    shapes = [np.shape(one) for one in sequences]
    wrong = next((k for k, shape in enumerate(shapes) if len(shape) != 2 or 0 in shape), None)
    if wrong is not None or not shapes:
        found = f"[{wrong}] has shape {shapes[wrong]}" if wrong is not None else " is an empty list"
        raise DataError(f"{name}{found}; expected sequences of shape (T, I), with at least one step")
    if differ := next((k for k, shape in enumerate(shapes) if shape[1] != shapes[0][1]), None):
        raise DataError(
            f"{name}[{differ}] has {shapes[differ][1]} numbers per step, {name}[0] has {shapes[0][1]}; expected "
            "equally many"
        )
    return np.array([shape[0] for shape in shapes], np.int64)


def listed(x: Sequence[Any], read: Callable[[list[Any]], T]) -> T:
    """Return what ``read`` makes of a list of sequences (T_n, I), or (T_n,) for one number per step.

    Raises:
        UsageError: for the errors of data that ``read`` raises.
    """
    try:
        return read([np.asarray(one)[:, None] if np.ndim(one) == 1 else one for one in x])
    except DataError as problem:
        raise UsageError(str(problem)) from None


def check_sequences(shape: tuple[int, ...], inputs: int) -> None:
    """Check the shape of sequences (N, T, I).

    Raises:
        UsageError: there are none, or the shape is not (N, T, I) with at least one step.
    """
    if not shape or not shape[0]:
        raise UsageError("x is empty; expected at least one sequence")
    if len(shape) != 3 or shape[2] != inputs or shape[1] == 0:
        raise UsageError(f"x has shape {shape}; expected (N, T, {inputs}): sequences, steps, features")


def check_steps(lengths: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check the steps of each of the sequences (N, T, I).

    Raises:
        UsageError: they are not N integers from 1 to T.
    """
    if lengths.shape != shape[:1] or lengths.dtype.kind not in "iub":
        raise UsageError(f"lengths has shape {lengths.shape}, type {lengths.dtype}; expected integers ({shape[0]},)")
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= shape[1]:
        raise UsageError(
            f"lengths range from {int(lengths.min())} to {int(lengths.max())}; expected 1 to {shape[1]}, the steps of x"
        )


def not_representable(given_is_finite: bool, dtype: str) -> UsageError:
    """Return the error for numbers that are not finite, or that the model's dtype does not represent."""
    if not given_is_finite:
        return UsageError("x holds numbers that are not finite; expected finite numbers only")
    return UsageError(f"x holds numbers that {dtype} cannot represent; expected numbers like the training data")
