"""Data given in Python becomes the files that a run reads; what cannot is one line in Python's terms."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import DataConfig
from gatewise.config.tasks import TASKS, TaskName
from gatewise.data.arrays import find_sequences, read_npz
from gatewise.data.in_memory import FILE_NAMES, Files, as_files, is_path
from gatewise.data.tagged import find_tagged, read_tagged
from gatewise.errors import InputError

X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
Y = np.array([0, 1, 0, 1])
SPLITS = {"train": (X, Y), "valid": (X[:2], Y[:2]), "test": (X[2:], Y[2:])}


def files(data: Any, task: TaskName, **settings: Any) -> Files:
    return as_files(data, task, DataConfig(**settings))


def only(data: Any, task: TaskName, **settings: Any) -> str:
    """The text of the only file."""
    found = files(data, task, **settings)
    return found.content[found.name].decode()


def written(data: Any, task: TaskName, folder: Path) -> Path:
    found = files(data, task)
    for name, content in found.content.items():
        (folder / name).write_bytes(content)
    return folder / found.name


def rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_a_path() -> None:
    assert is_path("a")
    assert is_path(Path("a"))
    assert not any(map(is_path, (["a"], X, {}, None, b"a")))


def test_texts_of_a_language_model() -> None:
    assert only(["the dog", "", "two\nlines"], "language-model") == "the dog\n\ntwo\nlines\n"
    assert only(np.array(["a", "b"]), "language-model") == "a\nb\n"
    found = files({split: [split] for split in ("test", "valid", "train")}, "language-model")
    assert dict(found.content) == {"train.txt": b"train\n", "valid.txt": b"valid\n", "test.txt": b"test\n"}
    assert found.name == ""


def test_labelled_texts() -> None:
    found = files((["a b", "c"], np.array([1, 0])), "text-classifier", column="auto", label_column="auto")
    assert found.settings == {"data.column": "text", "data.label_column": "label"}
    assert rows(found.content["data.jsonl"].decode()) == [{"text": "a b", "label": "1"}, {"text": "c", "label": "0"}]
    own = {"column": "review", "label_column": "good"}
    assert rows(only((["a"], [True]), "text-classifier", **own)) == [{"review": "a", "good": "True"}]


def test_tagged_sentences_keep_every_word(tmp_path: Path) -> None:
    words = [["New York", "#1", "-DOCSTART-", "a\u2028b"], ["猫", " a "]]
    tags = [["NOUN", "NUM", "X", "X"], ["N", "D"]]
    read = read_tagged(written((words, tags), "tagger", tmp_path))
    assert [(one.words, one.tags) for one in read] == list(zip(words, tags, strict=True))
    parts = dict.fromkeys(("train", "valid", "test"), (words, tags))
    written(parts, "tagger", tmp_path)
    assert all(len(read_tagged(find_tagged(tmp_path, split))) == 2 for split in parts)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f4", "f8", ">f8", "?"])
def test_arrays_are_read_as_from_npz(tmp_path: Path, dtype: str) -> None:
    x = X.astype(dtype)
    read = read_npz(written((x, Y), "classifier", tmp_path))
    np.savez(tmp_path / "own.npz", x=x, y=Y)
    assert read.data_hash == read_npz(tmp_path / "own.npz").data_hash
    assert read.scale == (1 / 255 if dtype == "u1" else 1)


def test_arrays_in_splits(tmp_path: Path) -> None:
    folder = written(SPLITS, "classifier", tmp_path)
    parts = find_sequences(folder, 0, 0)
    assert [len(parts[split]) for split in SPLITS] == [4, 2, 2]
    assert files({"train": (X, Y)}, "classifier").name == ""


def test_equal_data_gives_equal_bytes() -> None:
    assert files((X, Y), "classifier") == files((X.copy(), Y.tolist()), "classifier")
    assert files((X, Y), "classifier") == files((np.asfortranarray(X), Y), "classifier")
    assert files((X, Y), "classifier") != files((X + 1, Y), "classifier")


def test_rows_of_numbers_are_sequences_of_one_number_per_step() -> None:
    assert files((X[..., 0], Y), "classifier") == files((X[..., :1], Y), "classifier")
    pd = pytest.importorskip("pandas")
    assert files((pd.DataFrame(X[..., 0].astype(float)), Y), "classifier") == files(
        (X[..., :1].astype(float), Y), "classifier"
    )
    with pytest.raises(InputError, match="data: inf in row 0 of column 'a'"):
        files((pd.DataFrame({"a": [np.inf, 1], "b": [1, 2]}), Y[:2]), "classifier")


def test_labels_may_be_names(tmp_path: Path) -> None:
    read = read_npz(written((X, ["b", "a", "b", "a"]), "classifier", tmp_path))
    assert read.y.tolist() == ["b", "a", "b", "a"]


def test_ragged_sequences_are_padded_with_their_lengths() -> None:
    found = files(([X[0], X[1][:1], X[2]], ["a", "b", "a"]), "classifier")
    with np.load(io.BytesIO(found.content["data.npz"])) as arrays:
        assert set(arrays) == {"x", "y", "lengths"}
        assert arrays["lengths"].tolist() == [3, 1, 3]
        np.testing.assert_array_equal(arrays["x"][1], [X[1][0], [0, 0], [0, 0]])
    equal = files((list(X), Y), "classifier")
    assert equal == files((X, Y), "classifier")


def test_series() -> None:
    found = files([1, 2.5], "regressor")
    assert found.settings == {"data.columns": ["value"]}
    assert rows(found.content["data.jsonl"].decode()) == [{"value": 1.0}, {"value": 2.5}]
    table = files(np.array([[1, 2], [3, 4]]), "regressor")
    assert table.settings == {"data.columns": ["column1", "column2"]}
    assert rows(table.content["data.jsonl"].decode())[1] == {"column1": 3, "column2": 4}
    assert "data.npz" in files((X, [0.5, 1, 2, 3]), "regressor").content
    named = files(np.array([[1, 2], [3, 4]]), "regressor", columns=["sun", "rain"])
    assert rows(named.content["data.jsonl"].decode())[1] == {"sun": 3, "rain": 4}


def test_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", None], "good": [True, False]})
    assert rows(only(frame, "text-classifier"))[0] == {"text": "a", "good": "True"}
    assert only(frame["text"].dropna(), "language-model") == "a\n"
    assert rows(only(frame, "language-model"))[1] == {"text": None, "good": "False"}
    series = pd.DataFrame({"level": [1.0, 2.0], "open": [True, False], "note": ["x", None]})
    assert rows(only(series, "regressor"))[0] == {"level": 1.0, "open": 1, "note": "x"}
    labelled = files((frame["text"].fillna("b"), pd.Series(["x", "y"], dtype="category")), "text-classifier")
    assert rows(labelled.content["data.jsonl"].decode())[1] == {"body": "b", "label": "y"}
    with pytest.raises(InputError, match="data: no number in row 1 of column 'level'"):
        files(pd.DataFrame({"level": [1.0, None], "x": [1, 2]}), "regressor", columns=["level"])
    assert "data.jsonl" in files(pd.DataFrame({"a": [1.0, None], "x": [1, 2]}), "regressor", columns=["x"]).content
    with pytest.raises(InputError, match="data is a DataFrame without rows"):
        files(frame.iloc[:0], "text-classifier")
    with pytest.raises(InputError, match=r"train: text 1 is missing; expected a string"):
        files({split: (frame["text"], ["a", "b"]) for split in SPLITS}, "text-classifier")


BAD: list[tuple[TaskName, Any, str]] = [
    ("classifier", 5, r"data is an int; expected a tuple \(x, y\)"),
    ("classifier", (X,), "data is a tuple of 1; expected two: x and y"),
    ("classifier", (X, Y[:3]), "4 sequences in x and 3 answers in y"),
    ("classifier", (X[:, 0, 0], Y), r"x has shape \(4,\); expected \(N, T, I\)"),
    ("classifier", (X[None], Y), r"x has shape \(1, 4, 3, 2\); expected \(N, T, I\)"),
    ("classifier", (X * np.nan, Y), r"x\[0, 0, 0\] is nan; expected finite numbers"),
    ("classifier", (X * 1j, Y), "x has type complex64; expected integers or real numbers"),
    ("classifier", (np.full(X.shape, "a"), Y), "x has type <U1; expected integers or real numbers"),
    ("classifier", (np.full(X.shape, None), Y), r"x\[0\]\[0, 0\] is nan|x\[0, 0, 0\] is nan"),
    ("classifier", ([X[0], X[1][0]], Y[:2]), r"x\[1\] has 1 numbers per step, x\[0\] has 2; expected equally many"),
    ("classifier", ([X[0], X[1][:, :1]], Y[:2]), r"x\[1\] has 1 numbers per step, x\[0\] has 2"),
    ("classifier", ([X[0], X[1].astype("u1")], Y[:2]), r"x\[1\] has type uint8 and x\[0\] float32"),
    ("classifier", ([], [0]), "x is an empty list"),
    ("classifier", (X[:0], []), "no labels; expected some"),
    ("classifier", (X, Y / 2), "y has type float64; expected labels: integers or strings"),
    ("classifier", (X, [0, 1, None, 1]), "label 2 is None; expected a label for each example"),
    ("classifier", (X, ["a", "b", "", "b"]), "label 2 is ''"),
    ("classifier", (X, [0, "a", 1, 0]), "the labels are strings and numbers"),
    ("classifier", (X, [[0], 1, 1, 0]), "label 0 is a list; expected an integer or a string"),
    ("classifier", (X, "abab"), "the labels are a str; expected a list"),
    ("classifier", {"train": (X, Y), "dev": (X, Y)}, "data is a mapping with 'train', 'dev'"),
    ("classifier", {"valid": (X, Y)}, "expected the keys 'train', 'valid' and 'test'"),
    ("classifier", {"train": (X, Y), "test": 3}, "test: data is an int"),
    ("regressor", (X, ["a"] * 4), "y has type <U1"),
    ("regressor", [1.0, np.nan], r"data\[1\] is nan"),
    ("regressor", [1.0, None], r"data\[1\] is nan"),
    ("regressor", X, r"data has shape \(4, 3, 2\); expected a series"),
    ("regressor", [[1, 2], [3]], "data cannot be read as an array of numbers"),
    ("regressor", {"train": [1.0], "valid": [1.0]}, "a series is split by time"),
    ("text-classifier", ["a", "b"], "data is a list; expected a data frame, or a tuple of texts and labels"),
    ("text-classifier", ("ab", "xy"), "the texts are a str"),
    ("text-classifier", ([], []), "no texts"),
    ("text-classifier", (["a", 3], ["x", "y"]), "text 1 is an int; expected a string"),
    ("text-classifier", (["a", "b"], ["x"]), "2 texts and 1 labels"),
    ("text-classifier", (["a\0"], ["x"]), "text 0 has a null character or a surrogate"),
    ("text-classifier", (["a\ud800"], ["x"]), "text 0 has a null character or a surrogate"),
    ("text-classifier", {"train": (["a"], ["x"])}, "data has no 'valid'; expected all three splits"),
    ("tagger", (["a b"], ["X"]), "sentence 0: its words are a str"),
    ("tagger", ([["a", "b"]], [["X"]]), "sentence 0 has 2 words and 1 tags"),
    ("tagger", ([["a"], []], [["X"], []]), "sentence 1 has no words"),
    ("tagger", ([["a", None]], [["X", "Y"]]), "sentence 0: word 1 is missing"),
    ("tagger", ([["a\tb"]], [["X"]]), r"word 0 of sentence 0 is 'a\\tb'; expected no tab or line break"),
    ("tagger", ([["a"]], [[" "]]), "tag 0 of sentence 0 is ' '; expected at least one character"),
    ("tagger", ([["a"]], [["_"]]), "tag 0 of sentence 0 is '_', which stands for no tag"),
    ("tagger", [["a"]], "data is a list; expected a tuple"),
    ("language-model", [1], "text 0 is an int"),
    ("language-model", [], "no texts"),
    ("memory-task", [1], "a memory-task does not read data from memory: it draws its own"),
    ("scratch-language-model", ["a"], "give the path of a CSV file"),
]


@pytest.mark.parametrize(("task", "data", "message"), BAD)
def test_bad_data_is_one_line(task: TaskName, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        files(data, task)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


def test_every_task_says_what_it_reads() -> None:
    for task in TASKS:
        with pytest.raises(InputError, match="data is an object"):
            files(object(), task)


def test_a_run_folder_knows_every_name(tmp_path: Path) -> None:
    """What a killed process has written does not keep the next run out; other files do."""
    run = RunFolder(tmp_path)
    run.data.mkdir()
    (run.data / "..from-memory.7.part").touch()
    run.check_free(resume=False)
    (run.data / ".from-memory").touch()
    for name in FILE_NAMES:
        (run.data / name).touch()
        (run.data / f".{name}.7.part").touch()
    run.check_free(resume=False)
    run.discard_data()
    assert not run.data.exists()
