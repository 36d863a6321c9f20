"""What type checkers, and so editors, infer of the public functions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("mypy", reason="mypy is a development tool: pip install --group dev")

PROGRAM = """\
from pathlib import Path
import torch
from torch.nn.utils.rnn import PackedSequence
import gatewise as gw
from gatewise.nn import GRU, LSTM, RNN, LSTMState, RNNState

x, lengths = torch.zeros(5, 3, 4), [5, 2, 0]
packed: PackedSequence
state: LSTMState
bare: RNNState
reveal_type(gw.load("run"))  # Any
reveal_type(gw.load(Path("run"), gw.Tagger))  # gatewise.models.tagger.Tagger
reveal_type(gw.load("run", gw.LanguageModel, device="cpu").generate(max_tokens=3))  # str
reveal_type(gw.train("demo"))  # gatewise.tasks.run.Run
reveal_type(gw.Run("run").history)  # list[dict[str, Any]]
reveal_type(LSTM(4, 6)(x))  # tuple[Tensor, LSTMState]
reveal_type(LSTM(4, 6)(x, (x, x), lengths=lengths)[1].c)  # Tensor
reveal_type(LSTM(4, 6)(x, state, trace=["f"]))  # tuple[Tensor, LSTMState, Mapping[str, Tensor]]
reveal_type(LSTM(4, 6)(packed, trace=("f",)))  # tuple[PackedSequence, LSTMState, Mapping[str, Tensor]]
reveal_type(LSTM(4, 6)(packed))  # tuple[PackedSequence, LSTMState]
reveal_type(GRU(4, 6)(x, x))  # tuple[Tensor, Tensor]
reveal_type(RNN(4, 6)(x, bare, lengths=lengths))  # tuple[Tensor, RNNState]
reveal_type(GRU(4, 6)(packed))  # tuple[PackedSequence, Tensor]
reveal_type(GRU(4, 6)(x, trace=["z"]))  # tuple[Tensor, Tensor, Mapping[str, Tensor]]
LSTM(4, 6)(packed, lengths=lengths)  # error: No overload variant
LSTM(4, 6)(x, x)  # error: No overload variant
gw.load("run", 3)  # error: No overload variant
"""
HOMES = r"(torch\._tensor\.|torch\.nn\.utils\.rnn\.|gatewise\.nn\.state\.|builtins\.|typing\.|collections\.abc\.)"


@pytest.mark.slow
def test_what_editors_complete(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    where = ["--config-file", str(REPOSITORY / "pyproject.toml"), "--cache-dir", str(REPOSITORY / ".mypy_cache")]
    done = subprocess.run(  # what is analysed here, `make check` need not analyse again
        [sys.executable, "-m", "mypy", *where, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = dict[int, str]()
    for line in done.stdout.splitlines():
        if match := re.match(r"program\.py:(\d+): (?:note: Revealed type is \"(.*)\"|(error: .*))", line):
            text = re.sub(HOMES, "", match[2] or match[3])
            found[int(match[1])] = re.sub(r"tuple\[[^\[\]]*, fallback=(\w+)\]", r"\1", text)  # a NamedTuple
    expected = {
        number: line.partition("  # ")[2] for number, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line
    }
    assert found.keys() == expected.keys(), done.stdout + done.stderr
    assert {number: text for number, text in found.items() if not text.startswith(expected[number])} == {}
