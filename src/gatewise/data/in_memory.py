"""Data given in Python, as files of the kinds that a run reads: the run folder keeps what a model was trained on."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gatewise.config import DataConfig
from gatewise.config.tasks import TaskName
from gatewise.data.columns import AUTO
from gatewise.data.frames import Columns, read_frame
from gatewise.data.objects import (
    as_array,
    check_field,
    finite_numbers,
    is_array,
    label_values,
    sentences_of,
    sequences,
    texts_of,
)
from gatewise.data.text import SPLITS
from gatewise.errors import DataError, InputError
from gatewise.runtime.arguments import kind

TEXT, LABEL, VALUE = "text", "label", "value"
"""The columns of tables made from lists and arrays, unless the settings name them."""


@dataclass(frozen=True)
class Files:
    """Data as files.

    Attributes:
        content: the bytes of each file by its name: one file, or one for each split.
        settings: the settings that say how they are read, by dotted key.
    """

    content: Mapping[str, bytes]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the only file; empty for a file per split, which are read as a folder."""
        return next((name for name in self.content if name.startswith("data.")), "")


class Written(NamedTuple):
    """One data set as a file.

    Attributes:
        suffix: the ending of the file's name.
        content: its bytes.
        settings: the settings that say how it is read, by dotted key.
    """

    suffix: str
    content: bytes
    settings: Mapping[str, Any] = {}


def is_path(data: Any) -> bool:
    """Return whether data is given as the path of files, rather than in memory."""
    return isinstance(data, str | os.PathLike)


@contextmanager
def about_data(path: Path) -> Iterator[None]:
    """Turn errors of the file of data from memory into ``InputError``: of ``data``, and of rows counted from 0."""
    try:
        yield
    except InputError:
        raise
    except DataError as problem:
        message = str(problem).replace(str(path.resolve()), "data").replace(str(path), "data")
        if path.suffix == ".jsonl":
            message = re.sub(r"\bdata:([0-9]+):", lambda line: f"data: row {int(line[1]) - 1}:", message)
        raise InputError(message) from None


def as_files(data: Any, task: TaskName, settings: DataConfig) -> Files:
    """Return data given in Python as the files that a task reads.

    Args:
        data: for a language-model, a list of texts; for a text-classifier, texts and their labels; for a tagger, lists
            of words and lists of their tags; for a classifier, sequences x and labels y (N,), where x is an array
            (N, T, I), or (N, T) for one number per step, or a list of arrays (T_n, I) of different lengths; for a
            regressor, the same with numbers y, or a series: numbers (N,) or (N, K), a row per time step. Pairs are
            tuples. Texts and series may also be a data frame, whose columns the settings name. A mapping with the keys
            ``train``, ``valid`` and ``test`` has one of these for each split.
        task: the task.
        settings: the settings of the run.

    Raises:
        InputError: the data is of another kind or shape, or holds a value that the task cannot read.
        MissingPackage: the data is a data frame, and narwhals is not installed.
    """
    if task not in _WRITERS:
        raise InputError(f"data is {kind(data)}; a {task} does not read data from memory: {_INSTEAD[task]}")
    write = _WRITERS[task]
    if not isinstance(data, Mapping):
        suffix, content, chosen = write(data, settings)
        return Files({f"data{suffix}": content}, chosen)
    if "train" not in data or not set(data) <= set(SPLITS):
        found = ", ".join(map(repr, data)) or "no keys"
        raise InputError(f"data is a mapping with {found}; expected the keys 'train', 'valid' and 'test'")
    if task in ("language-model", "text-classifier", "tagger") and len(data) < len(SPLITS):
        missing = next(split for split in SPLITS if split not in data)
        raise InputError(f"data has no {missing!r}; expected all three splits, or one data set, which is split")
    parts = dict[str, Written]()
    for split in (split for split in SPLITS if split in data):
        try:
            parts[split] = write(data[split], settings)
        except InputError as problem:
            raise InputError(f"{split}: {problem}") from None
    suffix, _, chosen = parts["train"]
    if suffix == ".jsonl" and task != "text-classifier":
        what = (
            "a series is split by time: give it as a whole" if task == "regressor" else "give each as a list of texts"
        )
        raise InputError(f"data is a mapping of tables; {what}")
    return Files({_name(split, suffix): part.content for split, part in parts.items()}, chosen)


def _name(split: str, suffix: str) -> str:
    """Return the name of a split's file in its folder."""
    if suffix == ".conllu":
        return f"data-ud-{'dev' if split == 'valid' else split}.conllu"
    return f"{split}{suffix}"


FILE_NAMES = {f"{name}{suffix}" for name in ("data", *SPLITS) for suffix in (".jsonl", ".npz", ".txt", ".conllu")} | {
    _name(split, ".conllu") for split in SPLITS
}
"""The names of all files that ``as_files`` makes."""


def _language_model(data: Any, settings: DataConfig) -> Written:
    if not isinstance(data, list | tuple | np.ndarray):
        frame = _frame(data, "a list of texts, or a data frame")
        if len(frame) > 1:
            return Written(".jsonl", _json_lines(_with_text(frame)))
        data = next(iter(frame.values()))
    lines = [line for text in texts_of(data) for line in text.splitlines() or [""]]
    return Written(".txt", "".join(f"{line}\n" for line in lines).encode())


def _text_classifier(data: Any, settings: DataConfig) -> Written:
    if not isinstance(data, tuple):
        expected = "a data frame, or a tuple of texts and labels"
        return Written(".jsonl", _json_lines(_with_text(_frame(data, expected))))
    texts, labels = _pair(data, "texts", "labels")
    words, marks = texts_of(texts), [str(label) for label in label_values(labels)]
    _check_count(len(words), "texts", len(marks), "labels")
    text = TEXT if settings.column == AUTO else settings.column
    label = LABEL if settings.label_column == AUTO else settings.label_column
    return Written(
        ".jsonl", _json_lines({text: words, label: marks}), {"data.column": text, "data.label_column": label}
    )


def _tagger(data: Any, settings: DataConfig) -> Written:
    if not isinstance(data, tuple):
        raise InputError(f"data is {kind(data)}; expected a tuple: a list of words and a list of tags per sentence")
    words_of, tags_of = _pair(data, "words", "tags")
    sentences, tags = sentences_of(words_of, "words"), sentences_of(tags_of, "tags")
    _check_count(len(sentences), "sentences", len(tags), "lists of tags")
    lines = list[str]()
    for place, (words, own) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(own):
            raise InputError(f"sentence {place} has {len(words)} words and {len(own)} tags; expected a tag per word")
        for number, (word, tag) in enumerate(zip(words, own, strict=True)):
            where = f"{number} of sentence {place}"
            check_field(word, f"word {where}")
            check_field(tag, f"tag {where}")
            if tag == "_":
                raise InputError(f"tag {where} is '_', which stands for no tag in CoNLL-U; use another name")
            lines.append(f"{number + 1}\t{word}\t_\t{tag}" + "\t_" * 6)
        lines.append("")
    return Written(".conllu", "".join(f"{line}\n" for line in lines).encode())


def _classifier(data: Any, settings: DataConfig) -> Written:
    if not isinstance(data, tuple):
        raise InputError(f"data is {kind(data)}; expected a tuple (x, y): sequences (N, T, I) and their labels (N,)")
    x, y = _pair(data, "x", "y")
    labels = np.array(label_values(y))
    if labels.dtype.kind not in "biuU":
        raise InputError(f"y has type {labels.dtype}; expected labels: integers or strings, such as y.astype(int)")
    return _arrays(x, labels)


def _regressor(data: Any, settings: DataConfig) -> Written:
    if isinstance(data, tuple):
        x, y = _pair(data, "x", "y")
        return _arrays(x, finite_numbers(as_array(y, "y"), "y", 1))
    if isinstance(data, list) or is_array(data):
        values = as_array(data, "data")
        if values.ndim not in (1, 2):
            raise InputError(f"data has shape {values.shape}; expected a series (N,) or (N, K), or a tuple (x, y)")
        lacking = np.isnan(values) if settings.fill and values.dtype.kind == "f" else np.zeros(values.shape, bool)
        values = finite_numbers(np.where(lacking, 0, values) if lacking.any() else values, "data", values.ndim)
        columns = [VALUE] if values.ndim == 1 else [f"column{place + 1}" for place in range(values.shape[1])]
        columns = settings.columns if len(settings.columns) == len(columns) else columns
        rows = values.astype(object)
        rows[lacking] = None
        frame: Columns = dict(zip(columns, rows.reshape(len(values), -1).T.tolist(), strict=True))
        return Written(".jsonl", _json_lines(frame), {"data.columns": columns})
    frame = _frame(data, "a series, a data frame, or a tuple (x, y)")
    frame = {name: [int(v) if isinstance(v, bool) else v for v in values] for name, values in frame.items()}
    numeric = settings.columns or [name for name, values in frame.items() if _is_numeric(values)]
    for name in () if settings.fill or settings.known else numeric:
        if (row := next((row for row, value in enumerate(frame.get(name, ())) if value is None), None)) is not None:
            raise InputError(
                f"data: no number in row {row} of column {name!r}; expected one, set data.fill, or drop the row"
            )
    return Written(".jsonl", _json_lines(frame))


_WRITERS: dict[TaskName, Callable[[Any, DataConfig], Written]] = {
    "language-model": _language_model,
    "text-classifier": _text_classifier,
    "tagger": _tagger,
    "classifier": _classifier,
    "regressor": _regressor,
}
_INSTEAD: dict[TaskName, str] = {
    "scratch-language-model": "give the path of a CSV file",
    "memory-task": "it draws its own, omit data",
}


def _frame(data: Any, expected: str) -> Columns:
    """Return a data frame as columns.

    Raises:
        InputError: it is none, or has no rows.
    """
    frame = None if isinstance(data, list | tuple | np.ndarray) else read_frame(data)
    if frame is None:
        raise InputError(f"data is {kind(data)}; expected {expected}")
    if not frame or not len(next(iter(frame.values()))):
        raise InputError(f"data is {kind(data)} without {'rows' if frame else 'columns'}; expected some")
    return frame


def _with_text(frame: Columns) -> Columns:
    """Return the columns with truth values as text, as labels are written."""
    return {name: [str(v) if isinstance(v, bool) else v for v in values] for name, values in frame.items()}


def _json_lines(frame: Columns) -> bytes:
    rows = (dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True))
    try:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    except UnicodeEncodeError as problem:
        raise InputError(f"data: {problem.object[problem.start]!r} in a text; expected Unicode characters") from None


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def _pair(data: tuple[Any, ...], first: str, second: str) -> tuple[Any, Any]:
    if len(data) != 2:
        raise InputError(f"data is a tuple of {len(data)}; expected two: {first} and {second}")
    return data[0], data[1]


def _check_count(count: int, what: str, others: int, of: str) -> None:
    if count != others:
        raise InputError(f"{count:,} {what} and {others:,} {of}; expected as many of both")
    if not count:
        raise InputError(f"no {what}; expected some")


def _arrays(x: Any, y: npt.NDArray[Any]) -> Written:
    """Return sequences and their answers as an ``.npz`` file: x, y and, if they differ, lengths."""
    together, lengths = sequences(x)
    _check_count(len(together), "sequences in x", len(y), "answers in y")
    content = io.BytesIO()
    arrays = {"x": np.ascontiguousarray(together), "y": y} | ({} if lengths is None else {"lengths": lengths})
    np.savez(content, **arrays)  # type: ignore[arg-type]  # in mypy's eyes, a name could be allow_pickle
    return Written(".npz", content.getvalue())
