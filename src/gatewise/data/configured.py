"""Opens the data that a configuration names, or other data like it; a regressor's is in ``data/regression.py``."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.config import DataConfig
from gatewise.data.array_files import in_float32
from gatewise.data.arrays import Sequences, find_sequences, load_digits
from gatewise.data.labelled import LabelledText, find_labelled, read_labelled
from gatewise.data.moments import moments
from gatewise.data.python_docs import python_docs_corpus
from gatewise.data.tagged import TOY, TaggedSentence, find_tagged, read_tagged
from gatewise.data.text import TextCorpus, find_split
from gatewise.errors import DataError, UsageError
from gatewise.files import file_hash
from gatewise.runtime.vocabulary import split_tokens


def open_corpus(settings: DataConfig) -> TextCorpus:
    """Locate the three texts of a language model.

    Raises:
        UsageError: the configuration names no location, or more than one.
        DataError: a text is missing.
    """
    files = (settings.train_file, settings.valid_file, settings.test_file)
    places = sum((bool(settings.path), any(files), bool(settings.builtin)))
    if places > 1:
        raise UsageError("data: path, the three *_file keys and builtin are mutually exclusive; keep one of them")
    if settings.builtin:
        return python_docs_corpus()
    if settings.path:
        return TextCorpus.from_folder(settings.path)
    if not all(files):
        what = "only some of train_file, valid_file and test_file" if any(files) else "no data"
        raise UsageError(
            f"data: the recipe names {what}; add --data FOLDER (gatewise data fetch ptb makes one), or name three files"
        )
    return TextCorpus(*(Path(file).expanduser() for file in files))


def find_text(settings: DataConfig, split: str, data: str | Path | None = None) -> Path:
    """Locate a text of a language model, or in other data: a folder, or one file."""
    return open_corpus(settings).split(split) if data is None else _file(data, split, find_split)


def open_labelled(settings: DataConfig, split: str, data: str | Path | None = None) -> tuple[Path, list[LabelledText]]:
    """Read a split of labelled texts, tokenized as configured, or of other data: a folder, or one file.

    Raises:
        UsageError: the configuration names no data.
        DataError: the split is missing or invalid.
    """
    if data is None and not settings.path:
        raise UsageError("data: the recipe names no data; add --data FOLDER with labelled texts")
    path = find_labelled(settings.path, split) if data is None else _file(data, split, find_labelled)
    tokens = partial(split_tokens, level=settings.level)
    return path, read_labelled(path, settings.column, settings.label_column, tokens)


@dataclass(frozen=True)
class TaggedPart:
    """One split of tagged sentences.

    Attributes:
        sentences: sentences with a tag for each word.
        data_hash: SHA-256 of the file.
        name: the file name, for error messages.
    """

    sentences: Sequence[TaggedSentence]
    data_hash: str
    name: str

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each sentence."""
        return [sentence.words for sentence in self.sentences]

    def numbered(self, tags: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """Return the index of each word's tag in ``tags``, sentence by sentence.

        Raises:
            DataError: a tag is not in ``tags`` (the message gives the line).
        """
        place = {tag: index for index, tag in enumerate(tags)}
        for sentence in self.sentences:
            for word, tag, line in zip(sentence.words, sentence.tags, sentence.lines, strict=True):
                if tag not in place:
                    raise DataError(
                        f"{self.name}:{line}: the tag {tag!r} of the word {word!r} does not occur in the training "
                        f"data; expected one of {', '.join(tags)}"
                    )
        return [np.array([place[tag] for tag in sentence.tags], np.int64) for sentence in self.sentences]


def open_tagged(settings: DataConfig, split: str, data: str | Path | None = None) -> TaggedPart:
    """Read a split of tagged sentences, or of other data: a folder, or one file.

    Raises:
        UsageError: the configuration names no data, or more than one location.
        DataError: the split is missing or invalid.
    """
    if data is None and bool(settings.path) == bool(settings.builtin):
        found = "no data" if not settings.path else "both path and builtin"
        raise UsageError(f"data: the recipe names {found}; add --data FOLDER with three *-ud-*.conllu or *.txt files")
    if data is not None or settings.path:
        path = find_tagged(settings.path, split) if data is None else _file(data, split, find_tagged)
        return TaggedPart(read_tagged(path), file_hash(path), str(path))
    if settings.builtin != "toy-sentences":
        raise UsageError(
            f"data.builtin is {settings.builtin!r}, which a tagger does not support; expected 'toy-sentences'"
        )
    lines = "\n".join("".join(f"{w}\t{t}\n" for w, t in zip(s.words, s.tags, strict=True)) for s in TOY)
    return TaggedPart(TOY, hashlib.sha256(lines.encode()).hexdigest(), settings.builtin)


def open_sequences(settings: DataConfig) -> dict[str, Sequences]:
    """Read the three splits of a classifier of sequences.

    Raises:
        UsageError: the configuration names no data, or more than one location.
        DataError: a split is missing or invalid.
    """
    if bool(settings.path) == bool(settings.builtin):
        found = "both path and builtin" if settings.path else "no data"
        raise UsageError(f"data: the recipe names {found}; add --data FOLDER, a folder with IDX files or *.npz")
    if settings.builtin == "digits":
        return load_digits(settings.valid_size, settings.test_size)
    if settings.builtin:
        raise UsageError(f"data.builtin is {settings.builtin!r}, which this task does not support; expected 'digits'")
    parts = find_sequences(settings.path, settings.valid_size, settings.test_size)
    check_resolution(parts["train"].x, f"{settings.path} (train): x")
    return {
        split: replace(part, x=in_float32(part.x, f"{settings.path} ({split}): x")) for split, part in parts.items()
    }


def check_resolution(x: npt.NDArray[Any], name: str) -> None:
    """Check that the inputs remain distinguishable in float32, in which a classifier reads them unscaled.

    Raises:
        DataError: a column's standard deviation is less than a hundred times its rounding error.
    """
    if x.dtype != np.float64:
        return
    flat = x.reshape(-1, x.shape[-1])
    mean, std = moments(flat)
    with np.errstate(over="ignore"):
        lost = np.abs(flat - flat.astype(np.float32)).max(0)
    for column in np.flatnonzero((std > 0) & np.isfinite(lost) & (lost > std / 100)):
        raise DataError(
            f"{name}: column {column} is {mean[column]:.10g} ± {std[column]:.3g}, which float32 cannot resolve; "
            "expected numbers near 1: subtract the mean and divide by the standard deviation"
        )


def _file(data: str | Path, split: str, find: Callable[[Path, str], Path]) -> Path:
    """Return the data itself if it is a file, else the split's file in it."""
    path = Path(data).expanduser()
    return path if os.path.isfile(path) else find(path, split)
