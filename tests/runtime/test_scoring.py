"""``Scorer``: every task, every kind of table, as other processes get it."""

import math
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import gatewise as gw
from gatewise import runtime
from gatewise.errors import InputError, RunError
from gatewise.runtime.generation import SCORE_WINDOW
from gatewise.runtime.model_file import read_run
from gatewise.runtime.scoring import ROWS, Scorer
from tests.conftest import TINY_REGRESSOR
from tests.runtime.scored import SENTENCES, TEXTS, sequences_of, text_run

__all__ = ["text_run"]


def test_language_model(tiny_run: Path) -> None:
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    found = Scorer(tiny_run)(table)
    assert found.column_names == ["id", "text", "nll", "tokens", "perplexity"]
    assert found.select(["id", "text"]) == table
    model = runtime.load(tiny_run)
    for text, nll, tokens, perplexity in zip(
        *(found[name].to_pylist() for name in found.column_names[1:]), strict=True
    ):
        if text is None:
            assert (nll, tokens, perplexity) == (None, None, None)
        else:
            assert tokens == len(model.vocabulary.encode_text(text))
            assert perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-12)
            assert perplexity == pytest.approx(model.perplexity([text]), rel=1e-6)


def test_a_text_of_sentences_has_their_sum(scratch_run: Path) -> None:
    scorer = Scorer(scratch_run)
    both, one, two = scorer(pa.table({"text": ["The dog ate. The book!", "The dog ate.", "The book!"]}))[
        "nll"
    ].to_pylist()
    assert both == pytest.approx(one + two)


def test_tagger(tagger_run: Path) -> None:
    table = pa.table({"text": SENTENCES})
    found = Scorer(tagger_run)(table)
    words = [["The", "dog", "ate", "the", "apple", "!"], None, [], ["Everybody", ",", "the", "book"]]
    assert found["words"].to_pylist() == words
    model = runtime.load(tagger_run)
    assert found["tags"].to_pylist() == [None if one is None else model.tag([one])[0] for one in words]
    lists = Scorer(tagger_run)(pa.table({"tokens": words}))
    assert lists.select(["words", "tags"]) == found.select(["words", "tags"])


def test_text_classifier(text_run: Path) -> None:
    texts = ["good soup", None, " ", "a bad day"]
    found = Scorer(text_run)(pa.table({"text": texts}))
    p = np.asarray(runtime.load(text_run).predict_proba(["good soup", "a bad day"]))
    labels = runtime.load(text_run).labels
    for row, own in zip((0, 3), p, strict=True):
        assert found["label"][row].as_py() == labels[own.argmax()]
        assert found["probability"][row].as_py() == pytest.approx(own.max(), rel=1e-6)
        assert found["probabilities"][row].as_py() == pytest.approx(own.tolist(), rel=1e-6)
    for row in (1, 2):
        assert [found[name][row].as_py() for name in ("label", "probability", "probabilities")] == [None] * 3


@pytest.mark.parametrize("kind", [pa.list_(pa.list_(pa.float32())), pa.large_list(pa.list_(pa.float64(), 4))])
def test_classifier(classifier_run: Path, kind: pa.DataType) -> None:
    rows = sequences_of(4)
    found = Scorer(classifier_run)(pa.table({"x": pa.array(rows, kind)}))
    model = runtime.load(classifier_run)
    for row, label, probability, probabilities in zip(
        *(found[name].to_pylist() for name in found.column_names), strict=True
    ):
        if not row:
            assert (label, probability, probabilities) == (None, None, None)
            continue
        p = model.predict_proba([np.array(row)])[0]
        assert label == model.labels[p.argmax()]
        assert probabilities == pytest.approx(p.tolist(), rel=1e-5)
        assert probability == max(probabilities)


def test_regressor(regressor_run: Path) -> None:
    model, window = runtime.load(regressor_run), np.linspace(8, 12, 8)
    expected = model.predict([window])[0]
    for rows in ([window.tolist()], [window[:, None].tolist()]):
        assert Scorer(regressor_run)(pa.table({"x": rows}))["prediction"].to_pylist() == [expected]


def test_several_predictions_are_a_list(waves: Path, tmp_path: Path) -> None:
    overrides = {**TINY_REGRESSOR, "training.epochs": 1, "data.horizon": 3, "data.columns": ["level"]}
    run = gw.train("sunspots", data=waves, out=tmp_path / "run", overrides=overrides).path
    windows = [np.linspace(8, 12, 8).tolist(), None, np.linspace(12, 8, 8).tolist()]
    found = Scorer(run)(pa.table({"x": windows}))["prediction"].to_pylist()
    assert found[1] is None
    assert [found[0], found[2]] == runtime.load(run).predict([np.array(windows[0]), np.array(windows[2])]).tolist()
    assert len(found[0]) == 3


def test_weights_and_model_files(tiny_run: Path, tmp_path: Path) -> None:
    table = pa.table({"text": ["the dog ate the apple"]})
    found = Scorer(tiny_run, weights="int8")(table)["nll"][0].as_py()
    exact = Scorer(tiny_run)(table)["nll"][0].as_py()
    assert found != exact and found == pytest.approx(exact, rel=0.01)
    (tmp_path / "model.gatewise").write_bytes(read_run(tiny_run, "int8").content)
    assert Scorer(tmp_path / "model.gatewise")(table)["nll"][0].as_py() == found


def test_rows_do_not_depend_on_their_table(tiny_run: Path, classifier_run: Path) -> None:
    """More rows than are read at a time, in several chunks, with nulls, sliced; equal to each alone."""
    draw = np.random.default_rng(3)
    words = ["the", "dog", "ate", "book", "unseen"]
    long = " ".join(draw.choice(words, 2 * SCORE_WINDOW + 5))
    texts = [long, " ".join(draw.choice(words, SCORE_WINDOW)), long] + [
        None if k % 97 == 5 else " ".join(draw.choice(words, int(draw.integers(1, 5)))) for k in range(ROWS + 40)
    ]
    rows = [row for k in range(60) for row in sequences_of(4, seed=k)]
    for run, name, values, kind in (
        (tiny_run, "text", texts, pa.string()),
        (classifier_run, "x", rows, pa.list_(pa.list_(pa.float32()))),
    ):
        scorer, table = Scorer(run), pa.table({name: pa.chunked_array([values[:3], values[3:]], kind)})
        whole = scorer(table)
        for start, end in ((0, 1), (2, 7), (len(values) - 30, len(values))):
            assert scorer(table.slice(start, end - start)).equals(whole.slice(start, end - start)), (start, end)
        parts = [scorer(batch) for batch in table.to_batches(max_chunksize=100)]
        assert pa.Table.from_batches(parts).equals(whole)


def test_other_kinds_of_tables(classifier_run: Path, tiny_run: Path, text_run: Path) -> None:
    for run, name, values in (
        (tiny_run, "text", TEXTS),
        (text_run, "text", ["good soup", None, "bad"]),
        (classifier_run, "x", sequences_of(4)),
    ):
        scorer = Scorer(run)
        table = pa.table({"id": range(len(values)), name: values})
        expected = scorer(table).to_pylist()
        frame = scorer(pd.DataFrame({"id": range(len(values)), name: pd.Series(values, dtype=object)}))
        assert list(frame.columns) == list(expected[0])
        lists = scorer({"id": list(range(len(values))), name: values})
        objects = np.empty(len(values), object)
        for k, value in enumerate(values):
            objects[k] = np.array(value) if isinstance(value, list) else value
        arrays = scorer({"id": np.arange(len(values)), name: objects})
        for found in (frame.to_dict("list"), lists, arrays):
            assert set(found) == set(expected[0])
            for new in scorer.names:
                for one, row in zip(found[new], expected, strict=True):
                    missing = one is None or (np.ndim(one) == 0 and not isinstance(one, str) and one != one)
                    assert (None if missing else np.asarray(one).tolist()) == row[new]
        batches: Iterator[Any] = scorer(iter(table.to_batches(max_chunksize=2)))
        assert isinstance(batches, Iterator)
        assert pa.Table.from_batches(batches).to_pylist() == expected


def test_arrays_of_one_shape_are_columns_of_one_shape(classifier_run: Path) -> None:
    x = np.random.default_rng(1).normal(size=(5, 6, 4)).astype(np.float32)
    found = Scorer(classifier_run)({"x": x})
    assert found["x"] is x
    assert found["probabilities"].shape == (5, 3) and found["probabilities"].dtype == np.float32
    assert np.array_equal(found["probability"], found["probabilities"].max(1))
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    assert np.array_equal(Scorer(classifier_run)(pa.table({"x": tensor}))["probability"], found["probability"])


def test_pickled_it_opens_the_model_where_it_is(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    opened, load = [], runtime.load
    monkeypatch.setattr(runtime, "load", lambda *args, **named: opened.append((args, named)) or load(*args, **named))
    scorer = Scorer(run)
    before = scorer(pa.table({"text": ["the dog"]}))
    raw = pickle.dumps(scorer)
    assert len(raw) < 1000
    for _ in range(3):  # the tasks of one process
        assert pickle.loads(raw)(pa.table({"text": ["the dog"]})) == before
    assert opened == [((str(run),), {"weights": None, "threads": 1})]
    if hasattr(os, "fork"):
        reading, writing = os.pipe()
        if not (child := os.fork()):
            scorer(pa.table({"text": ["the dog"]}))
            os.write(writing, bytes([len(opened)]))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"\x02"
    os.utime(run / "model.safetensors", (1, 1))  # trained anew
    pickle.loads(raw)(pa.table({"text": ["the dog"]}))
    assert len(opened) == 2


def test_the_schema_is_known_before_the_rows(tiny_run: Path, tagger_run: Path) -> None:
    for run in (tiny_run, tagger_run):
        table = pa.table({"id": [1], "text": ["the dog"]})
        assert Scorer(run).schema(table.schema) == Scorer(run)(table).schema
        assert Scorer(run)(table.slice(0, 0)).schema == Scorer(run).schema(table.schema)


def test_prefix(tiny_run: Path) -> None:
    table = pa.table({"text": ["the"], "nll": ["mine"]})
    with pytest.raises(InputError, match="there is a column 'nll' already; expected other names, set prefix=NAME_ for"):
        Scorer(tiny_run)(table)
    assert Scorer(tiny_run, prefix="new_")(table).column_names[2:] == ["new_nll", "new_tokens", "new_perplexity"]


NAMED = "name one with column"


@pytest.mark.parametrize(
    ("columns", "column", "said"),
    [
        ({"a": ["x"], "b": ["y"]}, None, f"several columns hold strings; found 'a', 'b'; {NAMED}"),
        ({"a": [1]}, None, f"no column holds strings, which the model reads; found 'a'; {NAMED}"),
        ({"a": ["x"]}, "b", f"no column 'b'; found 'a'; {NAMED}"),
        ({}, None, f"no column holds strings, which the model reads; found no columns; {NAMED}"),
        ({"a": [1]}, "a", "the column 'a' holds int64; the model reads strings"),
        ({"a": [["x"]]}, "a", "the column 'a' holds list<.*string>; the model reads strings"),
    ],
)
def test_wrong_columns(tiny_run: Path, columns: dict[str, Any], column: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scorer(tiny_run, column)(pa.table(columns))


def test_two_columns_of_one_name(tiny_run: Path) -> None:
    with pytest.raises(InputError, match="2 columns named 'a'; expected different names"):
        Scorer(tiny_run)(pa.table([["x"], ["y"]], names=["a", "a"]))


GOOD = [[0.0] * 4]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD, None, [[1.0, None, 0.0, 0.0]]], "row 2: a null in the list; expected numbers only"),
        ([GOOD, [[0.0] * 4, None]], "row 1: a null in the list"),
        ([None, GOOD, [[0.0] * 4, [0.0] * 3]], "row 2: steps of 3 to 4 numbers; expected the same count in each"),
        ([GOOD, [[0.0] * 3]], r"row 1: .*expected \(N, T, 4\)"),
        ([GOOD] * ROWS + [[[math.nan] * 4]], f"row {ROWS}: .*not finite"),
    ],
)
def test_wrong_rows(classifier_run: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scorer(classifier_run)(pa.table({"x": rows}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[["a"]]], "row 0: <U1 values of shape"),
        ([GOOD, [[1.0], [2.0, 3.0]]], r"row 1: \[\[1.0\], \[2.0, 3.0\]\]; expected lists of numbers"),
        ([GOOD, 7], "row 1: int64 values of shape"),
    ],
)
def test_wrong_values(classifier_run: Path, values: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scorer(classifier_run, "x")({"x": values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["the", 7], r"row 1: 7 \(int\); expected strings"),
        (["the", ["dog", 7]], r"row 1: .*\(list\); expected strings or lists of strings"),
    ],
)
def test_wrong_texts(tagger_run: Path, values: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scorer(tagger_run)({"text": values})


def test_what_is_no_table(tiny_run: Path) -> None:
    with pytest.raises(InputError, match="data is a list; expected a Table or RecordBatch of Arrow"):
        Scorer(tiny_run)(["the dog"])


def test_no_run(tmp_path: Path) -> None:
    scorer = Scorer(tmp_path / "none")
    with pytest.raises(RunError, match="no such folder"):
        scorer(pa.table({"text": ["a"]}))
