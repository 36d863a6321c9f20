"""Python objects that users give as data, checked: texts, words, labels, sequences of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.data.array_files import check_numbers
from gatewise.data.frames import read_frame
from gatewise.data.ragged import pad
from gatewise.errors import DataError, InputError
from gatewise.runtime.arguments import is_missing, kind


def values_of(data: Any, name: str) -> list[Any]:
    """Return the values of a list, an array or a column, in order.

    Raises:
        InputError: it is something else, such as one string.
    """
    if isinstance(data, list | tuple):
        return list(data)
    if is_array(data):
        return list(as_array(data, name).tolist())
    if not isinstance(data, str | bytes | Mapping):
        frame = read_frame(data)
        if frame is not None and len(frame) == 1:
            return next(iter(frame.values()))
    raise InputError(f"the {name} are {kind(data)}; expected a list, an array or a column")


def label_values(labels: Any) -> list[int | str | bool]:
    """Return labels as Python's own values.

    Raises:
        InputError: a label is missing, or is not an integer, a whole number, a string or a truth value.
    """
    known = list[Any]()
    for place, label in enumerate(values_of(labels, "labels")):
        label = label.item() if isinstance(label, np.generic) else label
        if is_missing(label) or label == "":
            raise InputError(f"label {place} is {label!r}; expected a label for each example, leave the example out")
        if not isinstance(label, int | str | float):
            raise InputError(f"label {place} is {kind(label)}; expected an integer or a string")
        known.append(label)
    if not known:
        raise InputError("no labels; expected some")
    if len({isinstance(label, str) for label in known}) > 1:
        raise InputError("the labels are strings and numbers; expected one kind: convert them with str")
    return known


def texts_of(data: Any) -> list[str]:
    """Return a list of texts.

    Raises:
        InputError: one is not a string, or holds a character that no text file can hold.
    """
    texts = values_of(data, "texts")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            shown = "missing" if is_missing(text) else kind(text)
            raise InputError(f"text {place} is {shown}; expected a string")
        _check_unicode(text, f"text {place}")
    if not texts:
        raise InputError("no texts; expected some")
    return list(map(str, texts))


def sentences_of(data: Any, what: str) -> list[list[str]]:
    """Return a list of lists of strings."""
    found = list[list[str]]()
    for place, sentence in enumerate(values_of(data, f"lists of {what}")):
        if isinstance(sentence, str) or not isinstance(sentence, Sequence | np.ndarray):
            raise InputError(f"sentence {place}: its {what} are {kind(sentence)}; expected a list of strings")
        if not len(sentence):
            raise InputError(f"sentence {place} has no {what}; expected some, leave empty sentences out")
        for number, one in enumerate(sentence):
            if not isinstance(one, str):
                shown = "missing" if is_missing(one) else kind(one)
                raise InputError(f"sentence {place}: {what[:-1]} {number} is {shown}; expected a string")
        found.append(list(map(str, sentence)))
    return found


def check_field(text: str, name: str) -> None:
    """Check a word or tag, which is a field of a line."""
    _check_unicode(text, name)
    if not text.strip():
        raise InputError(f"{name} is {text!r}; expected at least one character that is not white space")
    if any(letter in text for letter in "\t\n\r"):
        raise InputError(f"{name} is {text!r:.40}; expected no tab or line break in it")


def _check_unicode(text: str, name: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{name} has a null character or a surrogate; expected Unicode text")


def is_array(data: Any) -> bool:
    """Return whether an object is an array of NumPy or PyTorch, or converts to one and is no data frame."""
    return isinstance(data, np.ndarray | np.generic) or type(data).__module__.partition(".")[0] == "torch"


def as_array(data: Any, name: str) -> npt.NDArray[Any]:
    """Return numbers as an array.

    Raises:
        InputError: they cannot be one, such as rows of different lengths.
    """
    try:
        if not isinstance(data, list | tuple) and not is_array(data) and (frame := read_frame(data)) is not None:
            data = np.array(list(frame.values())).T if len(frame) > 1 else next(iter(frame.values()))
        return np.asarray(data)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"{name} cannot be read as an array of numbers ({reason:.200})") from None


def sequences(data: Any, name: str = "x") -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """Return sequences as one array (N, T, I), padded with zeros, and their lengths (N,), None if all are equal.

    Args:
        data: an array (N, T, I), or (N, T) for one number per step; or a list of N arrays (T_n, I), or (T_n,).
        name: its name in error messages.

    Raises:
        InputError: the shapes do not fit, a sequence is empty, or a number is not finite or not real.
    """
    if not isinstance(data, list | tuple) and not (isinstance(data, np.ndarray) and data.dtype == object):
        array = as_array(data, name)
        return finite_numbers(array[..., None] if array.ndim == 2 else array, name, 3), None
    parts = [as_array(part, f"{name}[{place}]") for place, part in enumerate(data)]
    parts = [part[:, None] if part.ndim == 1 else part for part in parts]
    for place, part in enumerate(parts):
        if (part.dtype == np.uint8) != (parts[0].dtype == np.uint8):
            raise InputError(
                f"{name}[{place}] has type {part.dtype} and {name}[0] {parts[0].dtype}; expected one type: uint8 is "
                "read as pixels, scaled by 1/255"
            )
    try:
        together, lengths = pad(parts, name)
    except DataError as problem:
        raise InputError(str(problem)) from None
    return finite_numbers(together, name, 3), lengths if lengths.min() < lengths.max() else None


def finite_numbers(array: npt.NDArray[Any], name: str, ndim: int) -> npt.NDArray[Any]:
    """Check that an array holds finite real numbers and has the right dimensions."""
    if array.dtype == object:
        array = np.array([float("nan") if is_missing(one) else one for one in array.flat]).reshape(array.shape)
    try:
        return check_numbers(array, name, ndim)
    except DataError as problem:
        raise InputError(str(problem)) from None
