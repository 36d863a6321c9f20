"""Each example runs as it stands and prints what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PRINTS = {
    "classify_rows": r"test accuracy [6-9]\d\.\d%(.|\n)*read as \d",
    "classify_text": r"test accuracy (9\d|100)\.\d%(.|\n)*praise +the soup was lovely\nblame +the soup was not l",
    "forecast": r"the model 0\.[12]\d, the same as now 0\.[5-9]\d",
    "language_model": r"perplexity +\d+\.\d: object an is(.|\n)*most probable next word: \S+ \(\d+%\)",
    "look_inside": r"value +(0\.\d\d +){5}0\.\d\d\n",
    "memory": r"rnn_tanh test RMSE 0\.\d+\nlstm     test RMSE 0\.\d+\n",
    "tagger": r"dog +NN +\d+%\n",
}


def test_every_example_is_tried_and_listed() -> None:
    names = {file.stem for file in EXAMPLES.glob("*.py")}
    assert names == set(PRINTS)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.py\)", listed)) == names


def run(name: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # so small that a second thread only waits
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PRINTS) - {"memory"}))
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    printed = run(name, tmp_path)
    assert re.search(PRINTS[name], printed), printed


@pytest.mark.slow
def test_the_lstm_remembers_what_the_rnn_does_not(tmp_path: Path) -> None:
    printed = run("memory", tmp_path)
    rnn, lstm = (float(error) for error in re.findall(r"RMSE (0\.\d+)", printed))
    assert lstm < rnn / 2, printed
