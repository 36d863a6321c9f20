"""``metrics.jsonl``: lines that follow each other, of the task's figures, with the best among them."""

import json
from pathlib import Path
from typing import Any

import pytest

from gatewise.artifact.history import History
from gatewise.errors import RunError

LINES: list[dict[str, Any]] = [
    {"epoch": 1, "valid_perplexity": 9.5, "seconds": 0.1},
    {"epoch": 2, "valid_perplexity": None, "seconds": 0.1},
    {
        "test_perplexity": 9.0,
        "test_tokens": 10,
        "test_oov_rate": 0,
        "test_data_hash": "ab",
        "unigram_test_perplexity": 20.5,
        "best_epoch": 1,
    },
]
STEPS = [{"epoch": 1, "step": 10}, {"epoch": 1, "step": 20}, {"epoch": 3, "step": 30}]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_finished_run(tmp_path: Path) -> None:
    history = History.read(write(tmp_path / "m", LINES), "language-model")
    assert (history.evaluations, history.final, history.lines) == (LINES[:2], LINES[2], LINES)


def test_a_run_on_its_way(tmp_path: Path) -> None:
    assert History.read(tmp_path / "none") == History((), None)
    assert History.read(write(tmp_path / "m", STEPS)).lines == STEPS
    # Epochs were counted, then steps, then epochs again: what may change where a run is gone on with.
    mixed = [{"epoch": 1}, {"epoch": 2, "step": 15}, {"epoch": 2}, {"epoch": 3}]
    assert History.read(write(tmp_path / "m", mixed)).lines == mixed


def test_an_empty_file(tmp_path: Path) -> None:
    assert History.read(write(tmp_path / "m", [])) == History([], None)


def test_a_last_line_without_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "m", LINES)
    path.write_text(path.read_text().rstrip("\n"))
    assert History.read(path).final == LINES[2]


def final(**change: Any) -> dict[str, Any]:
    return {key: value for key, value in {**LINES[2], **change}.items() if value is not ...}


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([[1]], 1),
        ([None], 1),
        ([{"epoch": 0}], 1),
        ([{"epoch": True}], 1),
        ([{"epoch": 1.0}], 1),
        ([{"epoch": None}], 1),
        ([{}], 1),
        ([{"epoch": 1, "step": 0}], 1),
        ([{"epoch": 1, "step": "3"}], 1),
        ([{"epoch": 1, "figures": [1]}], 1),
        ([{"epoch": 1, "good": True}], 1),
        ([LINES[0], LINES[0]], 2),
        ([LINES[1], LINES[0]], 2),
        ([STEPS[1], STEPS[0]], 2),
        ([{"epoch": 2, "step": 10}, {"epoch": 1, "step": 20}], 2),
        ([LINES[2]], 1),
        ([LINES[1], LINES[2]], 2),
        ([*STEPS, {"best_epoch": 1, "best_step": 30}], 4),
        ([*LINES, LINES[2]], 4),
        ([*LINES, {"epoch": 3, "valid_perplexity": 1}], 4),
    ],
    ids=str,
)
def test_lines_that_no_run_has(tmp_path: Path, lines: list[Any], number: int) -> None:
    path = write(tmp_path / "m", lines)
    with pytest.raises(RunError) as caught:
        History.read(path)
    assert str(caught.value).startswith(f"{path}:{number}: ") and "restore the file" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "lines", "number"),
    [
        ("tagger", LINES, 1),
        ("language-model", [{"epoch": 1, "valid_perplexity": "9"}], 1),
        ("scratch-language-model", LINES, 1),
        ("regressor", [{"epoch": 1, "valid_rmse": None}, final()], 2),
        ("language-model", [*LINES[:2], final(test_perplexity=None)], 3),
        ("language-model", [*LINES[:2], final(test_perplexity=...)], 3),
        ("language-model", [*LINES[:2], final(test_perplexity="9")], 3),
        ("language-model", [*LINES[:2], final(test_tokens=1.5)], 3),
        ("language-model", [*LINES[:2], final(test_tokens=-1)], 3),
        ("language-model", [*LINES[:2], final(test_data_hash=3)], 3),
        ("language-model", [*LINES[:2], final(simple_test_rmse="3")], 3),
        ("language-model", [*LINES[:2], final(test_data_hash=...)], 3),
    ],
)
def test_figures_of_another_task_or_none(tmp_path: Path, task: str, lines: list[Any], number: int) -> None:
    path = write(tmp_path / "m", lines)
    with pytest.raises(RunError) as caught:
        History.read(path, task)
    assert str(caught.value).startswith(f"{path}:{number}: ")


def test_of_a_tagger_that_met_no_unseen_word(tmp_path: Path) -> None:
    last = dict.fromkeys(("test_accuracy", "test_oov_rate", "commonest_tag_test_accuracy"), 0.5)
    last |= {"test_accuracy_unseen": None, "test_tokens": 3, "test_data_hash": "ab", "best_epoch": 1}
    path = write(tmp_path / "m", [{"epoch": 1, "valid_accuracy": 0.5}, last])
    assert History.read(path, "tagger").final == last
