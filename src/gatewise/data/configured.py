"""Opens the data that a configuration names, or other data like it; a regressor's is in ``data/regression.py``."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from gatewise.config import DataConfig
from gatewise.data.array_files import in_float32
from gatewise.data.arrays import Sequences, cut_parts, find_sequences, load_digits, read_npz
from gatewise.data.columns import AUTO
from gatewise.data.labelled import LabelledFile, find_labelled, read_labelled
from gatewise.data.moments import moments
from gatewise.data.pictures import has_pictures, only_class, read_pictures
from gatewise.data.python_docs import python_docs_corpus
from gatewise.data.sequence_files import check_holds_arrays
from gatewise.data.split_text import split_text, whole_text
from gatewise.data.splitting import sizes_as_text, sizes_of, split_rows
from gatewise.data.tagged import TOY, TaggedSentence, find_tagged, read_tagged
from gatewise.data.text import SPLITS, TextCorpus, find_split, read_lines
from gatewise.errors import DataError, UsageError
from gatewise.files import file_hash
from gatewise.runtime.level import choose_level
from gatewise.wording import option

Part = TypeVar("Part")


@dataclass(frozen=True)
class Opened(Generic[Part]):
    """Data as configured.

    Attributes:
        settings: the settings with every choice made that depends on the data.
        parts: ``train``, ``valid`` and ``test``.
        notes: what was chosen and skipped, a line each for the user.
    """

    settings: DataConfig
    parts: dict[str, Part]
    notes: list[str] = field(default_factory=list)


def check_source(settings: DataConfig, builtin: str, data: str, task: str = "this task") -> None:
    """Check that a configuration names either data or the data set that comes with a task.

    Args:
        settings: the settings.
        builtin: the name of the data set.
        data: what to give as data, for the error message.
        task: the task, for the error message.

    Raises:
        UsageError: it names neither, both, or another data set.
    """
    if bool(settings.path) == bool(settings.builtin):
        found = "both path and builtin" if settings.path else "no data"
        raise UsageError(f"data: the recipe names {found}; add {option('data', data)}")
    if settings.builtin not in ("", builtin):
        raise UsageError(f"data.builtin is {settings.builtin!r}, which {task} does not support; expected {builtin!r}")


def open_corpus(settings: DataConfig) -> Opened[Path]:
    """Locate the three texts of a language model; one text is split in order.

    Raises:
        UsageError: the configuration names no location, or more than one.
        DataError: a text is missing or too short.
    """
    files = (settings.train_file, settings.valid_file, settings.test_file)
    places = sum((bool(settings.path), any(files), bool(settings.builtin)))
    if places > 1:
        raise UsageError("data: path, the three *_file keys and builtin are mutually exclusive; keep one of them")
    notes = list[str]()
    if settings.builtin:
        corpus = python_docs_corpus()
    elif settings.path and os.path.isfile(path := Path(settings.path).expanduser()):
        sizes = settings.valid_size, settings.test_size
        corpus, lines, column, notes = split_text(path, *sizes, settings.column)
        chosen = {"valid_size": lines["valid"], "test_size": lines["test"]} | ({"column": column} if column else {})
        settings = settings.model_copy(update=chosen)
    elif settings.path:
        corpus = TextCorpus.from_folder(settings.path)
    elif all(files):
        corpus = TextCorpus(*(Path(file).expanduser() for file in files))
    else:
        what = "only some of train_file, valid_file and test_file" if any(files) else "no data"
        raise UsageError(
            f"data: the recipe names {what}; add {option('data', 'PATH')}, a text or a folder (gatewise data fetch "
            "ptb makes one), "
            "or name three files"
        )
    if settings.column == AUTO:  # the texts are in no table
        settings = settings.model_copy(update={"column": DataConfig.model_fields["column"].default})
    if settings.level == AUTO:
        level, note = choose_level(read_lines(corpus.train))
        settings, notes = settings.model_copy(update={"level": level}), [*notes, note]
    return Opened(settings, {split: corpus.split(split) for split in SPLITS}, notes)


def suffix_of(settings: DataConfig) -> str:
    """Return the extension of the file that a run was trained on, the format that it expects from a pipe."""
    path = Path(settings.path or settings.train_file).expanduser()
    if not os.path.isdir(path):
        return path.suffix
    return next((file.suffix for file in sorted(path.iterdir()) if "train" in file.name and file.is_file()), "")


def find_text(settings: DataConfig, split: str, data: str | Path | None = None) -> Path:
    """Locate a text of a language model, or in other data: a folder, or one file, which is read as a whole."""
    if data is None:
        return open_corpus(settings).parts[split]
    return whole_text(_file(data, split, find_split), settings.column)


def open_labelled(settings: DataConfig) -> Opened[LabelledFile]:
    """Read the labelled texts of a folder with a file for each split, or of one file, which is split.

    One file is split at random: with the share of each label in each split, or by whole groups of ``group_column``.

    Raises:
        UsageError: the configuration names no data.
        DataError: the data is missing or invalid.
    """
    if not settings.path:
        raise UsageError(
            f"data: the recipe names no data; add {option('data', 'PATH')}, a table or a folder with labelled texts"
        )
    path = Path(settings.path).expanduser()
    first = read_labelled(path if os.path.isfile(path) else find_labelled(path, "train"), settings)
    settings = settings.model_copy(update=first.chosen)
    if not os.path.isfile(path):
        rest = {split: read_labelled(find_labelled(path, split), settings) for split in SPLITS[1:]}
        parts = {"train": first, **rest}
        return Opened(settings, parts, [note for part in parts.values() for note in part.notes])
    sizes = sizes_of(len(first.texts), settings.valid_size, settings.test_size, str(path), unit="text")
    grouped = settings.group_column
    rows = split_rows(
        len(first.texts),
        *sizes,
        settings.split_seed,
        str(path),
        labels=[text.label for text in first.texts],
        groups=[text.group for text in first.texts] if grouped else None,
    )
    parts = {split: first.part(numbers.tolist()) for split, numbers in rows.items()}
    how = f"whole groups of {grouped!r}" if grouped else "each label in proportion"
    return Opened(with_sizes(settings, rows), parts, [*first.notes, split_note(settings, how, rows)])


def labelled_split(settings: DataConfig, split: str, data: str | Path | None = None) -> LabelledFile:
    """Read a split of labelled texts, or of other data: a folder, or one file, all of whose texts are read."""
    if data is None:
        return open_labelled(settings).parts[split]
    return read_labelled(_file(data, split, find_labelled), settings)


def with_batches(settings: DataConfig, count: int) -> DataConfig:
    """Return the settings with the batch size chosen, where it is ``auto``: at most 32, for at least 20 steps an epoch.

    Args:
        settings: the settings.
        count: the number of training examples.
    """
    return settings.model_copy(update={"batch_size": settings.batch_size or min(max(count // 20, 1), 32)})


def with_rows(settings: DataConfig, tokens: int) -> DataConfig:
    """Return the settings with a language model's rows chosen, where ``auto``: at most 20, of at least four windows.

    Args:
        settings: the settings.
        tokens: the number of tokens of the shortest of the texts that are read in rows.
    """
    rows = min(max(tokens // (4 * (settings.tbptt_length + 1)), 1), 20)
    return settings.model_copy(update={"batch_size": settings.batch_size or rows})


def with_sizes(settings: DataConfig, parts: Mapping[str, Sized]) -> DataConfig:
    """Return the settings with the sizes of the validation and test sets."""
    return settings.model_copy(update={f"{split}_size": len(parts[split]) for split in ("valid", "test")})


def split_note(settings: DataConfig, how: str, parts: Mapping[str, Sized]) -> str:
    """Return a line that says how one data set was split."""
    sizes = sizes_as_text({split: len(part) for split, part in parts.items()})
    drawn = f"with seed {settings.split_seed}, {how}" if settings.split_seed else "from its end"
    return f"one data set, split {drawn}: {sizes}"


def none_known(what: str, found: Sequence[str], known: Sequence[str]) -> str:
    """Return the error for data none of whose ``labels`` or ``tags`` a model knows, without the place."""
    there, expected = (", ".join([*map(repr, some[:5]), *(["…"] if len(some) > 5 else [])]) for some in (found, known))
    return f"none of its {what} occurs in the training data; found {there}; expected {expected}"


@dataclass(frozen=True)
class TaggedPart:
    """One split of tagged sentences.

    Attributes:
        sentences: sentences with a tag for each word.
        data_hash: SHA-256 of the file or, for a split of it, of the file and the numbers of its sentences.
        name: the file name, for error messages.
        notes: what was skipped, a line each.
    """

    sentences: Sequence[TaggedSentence]
    data_hash: str
    name: str
    notes: Sequence[str] = ()

    def part(self, rows: Sequence[int]) -> "TaggedPart":
        """Return a subset of the sentences."""
        digest = hashlib.sha256(f"{self.data_hash} {list(rows)}".encode()).hexdigest()
        return replace(self, sentences=[self.sentences[row] for row in rows], data_hash=digest)

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each sentence."""
        return [sentence.words for sentence in self.sentences]

    def numbered(self, tags: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """Return the index of each word's tag in ``tags``, sentence by sentence; -1 for a tag that is not there."""
        place = {tag: index for index, tag in enumerate(tags)}
        return [np.array([place.get(tag, -1) for tag in sentence.tags], np.int64) for sentence in self.sentences]

    def unknown(self, tags: Sequence[str], strict: bool = False, some: bool = False) -> str | None:
        """Return a note on tags that do not occur in the training data, which count as errors; None if all do.

        Raises:
            DataError: there are such tags, and ``strict`` refuses them; or no tag is known, and ``some`` asks for one.
        """
        known = set(tags)
        found = [
            (line, word, tag)
            for sentence in self.sentences
            for word, tag, line in zip(sentence.words, sentence.tags, sentence.lines, strict=True)
            if tag not in known
        ]
        if not found:
            return None
        line, word, tag = found[0]
        if some and len(found) == sum(map(len, self.words)):
            there = list(dict.fromkeys(tag for _, _, tag in found))
            raise DataError(f"{self.name}:{line}: {none_known('tags', there, tags)}")
        what = f"{self.name}:{line}: the tag {tag!r} of the word {word!r} does not occur in the training data"
        if strict:
            raise DataError(f"{what}; expected known tags only (data.strict), correct it or train on it")
        return (
            f"{what}; {len(found):,} such {'word counts as an error' if len(found) == 1 else 'words count as errors'}"
        )


def open_tagged(settings: DataConfig) -> Opened[TaggedPart]:
    """Read the tagged sentences of a folder with a file for each split, or of one file, which is split at random.

    A CoNLL-U file whose documents are marked with ``# newdoc`` is split by whole documents.

    Raises:
        UsageError: the configuration names no data, or more than one location.
        DataError: a split is missing or invalid.
    """
    check_source(settings, "toy-sentences", "PATH, a file or a folder of tagged sentences", "a tagger")
    if settings.builtin:
        lines = "\n".join("".join(f"{w}\t{t}\n" for w, t in zip(s.words, s.tags, strict=True)) for s in TOY)
        part = TaggedPart(TOY, hashlib.sha256(lines.encode()).hexdigest(), settings.builtin)
        return Opened(settings, dict.fromkeys(SPLITS, part))
    path = Path(settings.path).expanduser()
    if not os.path.isfile(path):
        parts = {split: read_tagged_part(find_tagged(path, split)) for split in SPLITS}
        return Opened(settings, parts, [line for part in parts.values() for line in part.notes])
    whole = read_tagged_part(path)
    documents = [sentence.document for sentence in whole.sentences]
    grouped = len(set(documents)) >= FEWEST_DOCUMENTS
    asked = settings.valid_size, settings.test_size
    sizes = sizes_of(len(documents), *asked, str(path), unit="sentence", hint="a blank line ends a sentence")
    rows = split_rows(len(documents), *sizes, settings.split_seed, str(path), groups=documents if grouped else None)
    note = split_note(settings, "whole documents" if grouped else "by sentence", rows)
    parts = {split: whole.part(some.tolist()) for split, some in rows.items()}
    return Opened(with_sizes(settings, rows), parts, [*whole.notes, note])


FEWEST_DOCUMENTS = 10
"""The number of documents from which one file is split by whole documents."""


def read_tagged_part(path: Path) -> TaggedPart:
    """Read all sentences of a file."""
    notes = list[str]()
    sentences = read_tagged(path, note=lambda line: notes.append(f"{path}: {line}"))
    return TaggedPart(sentences, file_hash(path), str(path), notes)


def tagged_split(settings: DataConfig, split: str, data: str | Path | None = None) -> TaggedPart:
    """Read a split of tagged sentences, or of other data: a folder, or one file, all of whose sentences are read."""
    return open_tagged(settings).parts[split] if data is None else read_tagged_part(_file(data, split, find_tagged))


def open_sequences(settings: DataConfig) -> Opened[Sequences]:
    """Read the three splits of a classifier of sequences.

    Raises:
        UsageError: the configuration names no data, or more than one location.
        DataError: a split is missing or invalid.
    """
    check_source(settings, "digits", "PATH, an .npz file or a folder")
    sizes, notes = (settings.valid_size, settings.test_size, settings.split_seed), list[str]()
    folder = Path(settings.path).expanduser()
    if settings.builtin:
        parts = load_digits(*sizes)
    elif has_pictures(folder):
        found, side, notes = read_pictures(folder, settings.image_size)
        parts = cut_parts(found, *sizes[:2], settings.path, settings.split_seed)
        settings = settings.model_copy(update={"image_size": side})
        if len(found) < len(SPLITS):
            notes.append(split_note(settings, "each class in proportion", parts))
    else:
        if os.path.isdir(folder) and not any(
            path.suffix == ".npz" or "ubyte" in path.name for path in folder.iterdir()
        ):
            if (only := only_class(folder)) is not None:
                raise DataError(
                    f"{folder}: only one class, {only!r}; expected a subfolder of pictures for each of several"
                )
            raise DataError(
                f"{folder}: nothing to classify in this folder; expected a subfolder of pictures for each class, "
                "*.train.npz, or the four IDX files"
            )
        check_holds_arrays(folder)
        parts = find_sequences(settings.path, *sizes)
        notes = [note for part in parts.values() for note in part.notes]
        if os.path.isfile(folder):
            notes.append(split_note(settings, "each class in proportion", parts))
    name = settings.path or settings.builtin
    check_resolution(parts["train"].steps, f"{name} (train): x")
    parts = {split: replace(part, x=in_float32(part.x, f"{name} ({split}): x")) for split, part in parts.items()}
    return Opened(with_sizes(settings, parts), parts, notes)


def sequences_split(settings: DataConfig, split: str, data: str | Path | None = None) -> Sequences:
    """Read a split of sequences, or of other data; other data that is not split is read as a whole."""
    if data is None:
        return open_sequences(settings).parts[split]
    path = _existing(data)
    check_holds_arrays(path)
    if os.path.isfile(path):
        whole = read_npz(path)
    elif has_pictures(path) and not (path / "train").is_dir():
        whole = read_pictures(path, settings.image_size)[0]["train"]
    else:
        return open_sequences(settings.model_copy(update={"path": str(data), "builtin": ""})).parts[split]
    check_resolution(whole.steps, f"{path}: x")
    return replace(whole, x=in_float32(whole.x, f"{path}: x"))


def check_resolution(x: npt.NDArray[Any], name: str) -> None:
    """Check that steps (…, I) remain distinguishable in float32, in which a classifier reads them unscaled.

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
    path = _existing(data)
    return path if os.path.isfile(path) else find(path, split)


def _existing(data: str | Path) -> Path:
    path = Path(data).expanduser()
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; expected data like that of the training")
    return path
