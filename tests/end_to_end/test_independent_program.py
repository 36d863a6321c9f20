"""A run's test metric, recomputed by a program that does not use Gatewise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gatewise as gw
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY

PROGRAM = Path(__file__).with_name("independent_program.py")


@pytest.mark.parametrize("layers", [1, 3])
def test_plain_pytorch_finds_the_same_perplexity(corpus: Path, tmp_path: Path, layers: int) -> None:
    overrides = {**TINY, "model.num_layers": layers, "model.embedding_size": 7, "data.vocabulary_size": 9}
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=overrides)
    ours = evaluate(run.path)
    command = [sys.executable, str(PROGRAM), str(run.path), str(corpus / "toy.test.txt")]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert theirs["tokens"] == ours["tokens"] == run.metrics["test_tokens"]
    assert ours["oov_rate"] > 0
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)
    assert run.metrics["test_perplexity"] == pytest.approx(ours["perplexity"], rel=1e-9)
