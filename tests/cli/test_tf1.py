"""``gatewise import`` and ``gatewise export`` with checkpoints of TensorFlow 1."""

import json
from pathlib import Path

import numpy as np
import pytest

from gatewise.interchange.tensor_bundle import read_bundle
from tests.cli.conftest import Gatewise, contents
from tests.interchange.test_tf1 import FIXTURES, TRUTH

WORDS = FIXTURES / "large.train.txt"


def test_from_tensorflow_and_back(gatewise: Gatewise, tmp_path: Path) -> None:
    """``evaluate`` prints TensorFlow's perplexity."""
    options = ("--forget-bias", "0", "--vocabulary", WORDS, "--out", "run")
    result = gatewise("import", FIXTURES / "large", *options)
    assert (result.status, result.err) == (0, "")
    result = gatewise("evaluate", "run", "--data", FIXTURES / "large.test.txt")
    assert f"test perplexity {TRUTH['large']['perplexity']:.2f} " in result.out
    result = gatewise("evaluate", "run", "--data", FIXTURES / "large.test.txt", "--json")
    assert json.loads(result.out)["perplexity"] == pytest.approx(TRUTH["large"]["perplexity"], rel=1e-6)
    result = gatewise("export", "run", "--to", "tf1", "--forget-bias", "1", "--out", "model.ckpt")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("wrote model.ckpt\n")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "model.ckpt.index", "model.ckpt.data-00000-of-00001"}
    bias = "Model/RNN/multi_rnn_cell/cell_1/{}lstm_cell/bias"
    gap = read_bundle(FIXTURES / "large")[bias.format("basic_")] - read_bundle(Path("model.ckpt"))[bias.format("")]
    np.testing.assert_allclose(gap, np.repeat([0, 0, 1, 0], 20), atol=1e-6)
    result = gatewise("import", "model.ckpt.index", "--forget-bias", "1", "--vocabulary", WORDS, "--out", "again")
    assert result.status == 0
    again = json.loads(gatewise("evaluate", "again", "--data", FIXTURES / "large.test.txt", "--json").out)
    assert again["perplexity"] == pytest.approx(TRUTH["large"]["perplexity"], rel=1e-6)


def test_refusals(gatewise: Gatewise, tmp_path: Path) -> None:
    """One line, the right status, and nothing written."""
    words = ("--vocabulary", WORDS, "--out", "run")
    bias = ("--forget-bias", "0")
    before = contents(tmp_path)
    large = FIXTURES / "large"
    why = "--forget-bias is missing; a checkpoint does not contain it, since the program's cells add it at run time"
    gatewise("import", large, *words).check_refused(2, why, "1.0 by BasicLSTMCell's default, 0.0 in the PTB tutorial")
    gatewise("import", large, "--forget-bias", "inf", *words).check_refused(2, "--forget-bias inf: expected a finite")
    gatewise("import", FIXTURES / "cudnn", "--forget-bias", "1", *words).check_refused(2, "expected --forget-bias 0")
    gatewise("import", large, "--nonlinearity", "relu", *words).check_refused(2, "does not apply to tf1")
    for name in ("peepholes", "gru", "widths", "projection", "v1", "dtypes", "truth.json"):
        gatewise("import", FIXTURES / name, "--from", "tf1", *bias, *words).check_refused(3, f"{name}: ")
    gatewise("import", FIXTURES, *bias, *words, "--from", "tf1").check_refused(3, "a folder", "such as")
    gatewise("import", "none", *bias, *words, "--from", "tf1").check_refused(3, "none: no such file")
    gatewise("import", FIXTURES / "cudnn", *bias, *words).check_refused(3, "with 200 different words", "with 20,")
    assert contents(tmp_path) == before
