"""Each example runs as it stands and prints what it promises."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PRINTS = {
    "classify_rows": r"test accuracy [6-9]\d\.\d%(.|\n)*read as \d",
    "classify_text": r"test accuracy (9\d|100)\.\d%(.|\n)*praise +the soup was lovely\nblame +the soup was not l",
    "forecast": r"model 0\.[12]\d, persistence 0\.[5-9]\d",
    "from_python": r"RMSE 0\.\d\d °C, persistence [3-5]\.\d\d °C\n.*\naccuracy in 3 folds: \[(0\.[89]\d? ?|1\. *){3}\]",
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


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_promises(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has imported torch already."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capfd.readouterr().out
    assert re.search(PRINTS[name], printed), printed
    if name == "memory":  # the LSTM remembers what the RNN does not
        rnn, lstm = (float(error) for error in re.findall(r"RMSE (0\.\d+)", printed))
        assert lstm < rnn / 2, printed


@pytest.mark.slow
def test_an_example_is_a_program_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "tagger.py")], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS["tagger"], done.stdout), done.stdout
