"""The columns that a model adds to the rows it reads, for each task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.errors import GatewiseError, NotFinite, RunError
from gatewise.runtime.prose import split_as_written
from gatewise.runtime.scored_rows import NUMBERS, TEXT, WORDS, BadRow, arrow

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Outputs:
    """What a task adds.

    Attributes:
        reads: what the model reads of each row: ``TEXT``, ``WORDS`` or ``NUMBERS``.
        types: the type of each column by its name.
        of: from the rows, none of which is empty, to the columns.
        skips_empty: whether a row without words or steps gets nulls, as a missing one does.
    """

    reads: str
    types: dict[str, "pa.DataType"]
    of: Callable[[list[Any]], Sequence[Any]]
    skips_empty: bool

    def columns(self, rows: Sequence[Any]) -> list["pa.Array"]:
        """Return the columns for rows, null for those that are None or, if they are skipped, empty.

        Raises:
            BadRow: the model cannot read a row.
        """
        pa = arrow()
        there = [place for place, row in enumerate(rows) if not self._is_skipped(row)]
        dense = self._of([rows[place] for place in there], there)
        indices = np.full(len(rows), -1, np.int64)
        indices[there] = np.arange(len(there))
        taken = pa.array(indices, mask=indices < 0)
        return [_as_array(values, kind).take(taken) for values, kind in zip(dense, self.types.values(), strict=True)]

    def _is_skipped(self, row: Any) -> bool:
        if row is None or not self.skips_empty:
            return row is None
        return not row.strip() if isinstance(row, str) else len(row) == 0

    def _of(self, rows: list[Any], places: Sequence[int]) -> Sequence[Any]:
        if not rows:
            return [[] for _ in self.types]
        try:
            return self.of(rows)
        except GatewiseError:
            for place, row in zip(places, rows, strict=True):  # which one was it?
                try:
                    self.of([row])
                except GatewiseError as problem:
                    raise BadRow(place, str(problem)) from None
            raise


def outputs_of(model: Any) -> Outputs:
    """Return what a runtime model adds to each row.

    Raises:
        RunError: its task has no scores.
    """
    pa = arrow()
    real, string, count = pa.float64(), pa.string(), pa.int64()
    if model.task == "language-model":
        types = {"nll": real, "tokens": count, "perplexity": real}
        return Outputs(TEXT, types, lambda rows: _texts_scored(model, rows), False)
    if model.task == "tagger":
        types = {"words": pa.list_(string), "tags": pa.list_(string)}
        return Outputs(WORDS, types, lambda rows: _sentences_tagged(model, rows), False)
    if model.task in ("classifier", "text-classifier"):
        label = string if isinstance(model.labels[0], str) else count
        types = {"label": label, "probability": pa.float32(), "probabilities": pa.list_(pa.float32())}
        reads = NUMBERS if model.task == "classifier" else WORDS
        return Outputs(reads, types, lambda rows: _classified(model, rows), True)
    if model.task == "regressor":
        types = {"prediction": real if model.horizon == 1 else pa.list_(real)}
        return Outputs(NUMBERS, types, lambda rows: [model.predict(rows)], True)
    raise RunError(f"the task {model.task!r:.100} has no scores; expected a model that reads texts or sequences")


def _texts_scored(model: Any, texts: Sequence[str]) -> Sequence[Any]:
    """Return nll, tokens and perplexity of each text; a text of several sentences has the sum over them."""
    read = [model.vocabulary.sequences(text) for text in texts]
    starts = np.cumsum([0, *map(len, read[:-1])])  # each text has a sequence
    ids = [one for text in read for one in text]
    nll = np.add.reduceat(model.score_each(ids), starts)
    tokens = np.add.reduceat([len(one) - 1 for one in ids], starts)
    with np.errstate(over="ignore"):
        perplexity = np.exp(nll / tokens)
    if not np.isfinite(perplexity).all():
        raise NotFinite.of("the probabilities of this text")
    return nll, tokens, perplexity


def _sentences_tagged(model: Any, sentences: Sequence[str | list[str]]) -> Sequence[Any]:
    words = [split_as_written(one) if isinstance(one, str) else one for one in sentences]
    return words, model.tag(words)


def _classified(model: Any, rows: Sequence[Any]) -> Sequence[Any]:
    p = np.asarray(model.predict_proba(rows))
    best = p.argmax(1)
    return [model.labels[place] for place in best.tolist()], p[np.arange(len(p)), best], p


def _as_array(values: Any, kind: "pa.DataType") -> "pa.Array":
    """Return values, a row of a matrix or a list for each element of a list column, as an array of Arrow."""
    pa = arrow()
    if isinstance(values, np.ndarray) and values.ndim == 2:
        ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
        flat = np.ascontiguousarray(values).reshape(-1)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat, type=kind.value_type))
    return pa.array(values, type=kind)
