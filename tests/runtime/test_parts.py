"""The files beside the weights: each fault is one line that names the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from gatewise.errors import RunError
from gatewise.runtime.parts import Labels, Scaling, read_scaling

LABELS: dict[str, Any] = {"labels": ["a", "b"], "input_size": 2, "steps": 3, "seen_words": ["x", "y", "x"]}
SCALING: dict[str, Any] = {
    "input_size": 2,
    "x_mean": [0, 1.5],
    "x_std": [1, 2.0],
    "y_mean": -1,
    "y_std": 0.5,
    "columns": ["wind", "level"],
    "target": "level",
}
NAN, INFINITE, HUGE = float("nan"), float("inf"), 10**400


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(LABELS))
    assert Labels.read(path, "input_size") == Labels(("a", "b"), 2, 3, frozenset("xy"))
    path.write_text('{"labels": [3, 8]}')
    assert Labels.read(path) == Labels((3, 8))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"labels": "ab"},
        {"labels": []},
        {"labels": ["a"]},
        {"labels": ["a", "a"]},
        {"labels": ["a", None]},
        {"labels": ["a", 1]},
        {"labels": [True, False]},
        {"labels": [1, 1.5]},
        {"labels": [[1], [2]]},
        {"labels": [1, 2**63]},
        {"labels": [1, HUGE]},
        {"input_size": 0},
        {"input_size": -1},
        {"input_size": True},
        {"input_size": 2.0},
        {"input_size": None},
        {"input_size": "2"},
        {"input_size": 2**40},
        {"steps": 0},
        {"steps": NAN},
        {"seen_words": {"x": 1}},
        {"seen_words": ["x", None]},
        {"more": 1},
    ],
    ids=str,
)
def test_labels_that_are_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**LABELS, **change}))
    with pytest.raises(RunError) as caught:
        Labels.read(path, "input_size")
    check_line(path, caught.value)


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_lack(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({key: value for key, value in LABELS.items() if key != name}))
    with pytest.raises(RunError, match=f"missing key '{name}'"):
        Labels.read(path, *LABELS)


def test_scaling(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    path.write_text(json.dumps(SCALING))
    assert read_scaling(path) == (2, Scaling([0.0, 1.5], [1.0, 2.0], -1.0, 0.5, ["wind", "level"], "level"))
    path.write_text('{"input_size": 3, "x_mean": [], "x_std": []}')
    assert read_scaling(path) == (3, Scaling())
    known = Scaling([0.0] * 3, [1.0] * 3, 0.0, 1.0, ["wind", "level"], "level", ["wind"], 4, "1 hour", relative=True)
    for size, scaling in ((3, known), (2, Scaling([0.0] * 2, [1.0] * 2, columns=["wind", "level"], target="level"))):
        path.write_text(json.dumps({"input_size": size, **scaling.as_json()}))
        assert read_scaling(path) == (size, scaling)
        assert ("horizon" in path.read_text()) == (scaling.horizon > 1), "what is as usual is left out"


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 3},
        {"input_size": 1.0},
        {"input_size": None},
        {"x_mean": [0]},
        {"x_mean": []},
        {"x_mean": [0, NAN]},
        {"x_mean": [0, INFINITE]},
        {"x_mean": [0, "1"]},
        {"x_mean": [0, None]},
        {"x_mean": [0, True]},
        {"x_mean": 1.5},
        {"x_mean": [0, HUGE]},
        {"x_std": [1, 0]},
        {"x_std": [1, -2]},
        {"x_std": [1, NAN]},
        {"x_std": [1, [2]]},
        {"y_mean": None},
        {"y_mean": INFINITE},
        {"y_std": 0},
        {"y_std": -0.5},
        {"y_std": "0.5"},
        {"columns": ["wind"]},
        {"columns": ["wind", "wind"]},
        {"columns": ["wind", 2]},
        {"columns": "wl"},
        {"columns": []},
        {"target": "rain"},
        {"target": None},
        {"known": ["wind"]},
        {"known": "wind", "input_size": 3, "x_mean": [0] * 3, "x_std": [1] * 3},
        {"known": ["level"], "input_size": 3, "x_mean": [0] * 3, "x_std": [1] * 3},
        {"known": ["rain"], "input_size": 3, "x_mean": [0] * 3, "x_std": [1] * 3},
        {"horizon": 0},
        {"horizon": 2.0},
        {"horizon": None},
        {"horizon": 3, "columns": [], "target": ""},
        {"pace": 3600},
        {"relative": 1},
        {"relative": True, "columns": [], "target": ""},
        {"unit": 1},
    ],
    ids=str,
)
def test_scaling_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "scaling.json"
    path.write_text(json.dumps({**SCALING, **change}))
    with pytest.raises(RunError) as caught:
        read_scaling(path)
    check_line(path, caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"labels"', "{}"])
def test_no_object(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    for read in (Labels.read, read_scaling):
        with pytest.raises(RunError) as caught:
            read(path)
        check_line(path, caught.value)


def check_line(path: Path, error: RunError) -> None:
    assert str(error).startswith(f"{path}: ") and "train again" in str(error)
    assert "\n" not in str(error) and len(str(error)) < 500
