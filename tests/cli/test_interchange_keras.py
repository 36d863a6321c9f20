"""``gatewise import`` and ``gatewise export`` on files of Keras."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Gatewise, contents
from tests.interchange.conftest import text, vocabulary  # noqa: F401
from tests.interchange.keras_rig import LSTM, keras_3, layer, sequential, write_legacy
from tests.interchange.rig import WORDS, H, I


def draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A language model as Keras 2 saves it."""
    V = len(WORDS)
    config = sequential(
        layer("Embedding", "e", input_dim=V, output_dim=I, mask_zero=False),
        layer("LSTM", "l", units=H, **LSTM),
        layer("Dense", "d", units=V, activation="softmax", use_bias=True),
    )
    own = [("kernel", draw(I, 4 * H)), ("recurrent_kernel", draw(H, 4 * H)), ("bias", draw(4 * H))]
    weights = {"e": [("embeddings", draw(V, I))], "l": own, "d": [("kernel", draw(H, V)), ("bias", draw(V))]}
    return write_legacy(tmp_path / "model.h5", config, weights)


def test_from_a_file_to_keras_3(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    text: Path,  # noqa: F811
) -> None:
    """Keras 2's file becomes a run, which leaves as a file that Keras 3 opens; both give the same perplexity."""
    keras_3()
    assert gatewise("import", model_file, "--vocabulary", vocabulary, "--out", "run").out.startswith("wrote run; next")
    result = gatewise("export", "run", "--to", "keras", "--out", "a.keras")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "wrote a.keras"
    assert [line.rpartition(": ")[0].removeprefix("largest difference of ") for line in lines[1:]] == [
        "outputs",
        "outputs of ragged input",
        "states of ragged input",
    ]
    assert gatewise("import", "a.keras", "--vocabulary", vocabulary, "--out", "again").status == 0
    figures = [gatewise("evaluate", run, "--data", text).out for run in ("run", "again")]
    assert "perplexity" in figures[0]
    assert figures[0] == figures[1]


def test_unverified(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without Keras, the command says how to verify the file."""
    gatewise("import", model_file, "--vocabulary", vocabulary, "--out", "run")
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "keras" else found(name, *more))
    result = gatewise("export", "run", "--to", "keras", "--out", "a.keras")
    assert result.status == 0
    assert result.out.splitlines() == [
        "wrote a.keras",
        "unverified: running the file needs Keras 3, and keras is not installed; install it and export again",
    ]


def test_backend_that_is_not_installed(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keras with ``KERAS_BACKEND=tensorflow``, without TensorFlow, raises an ImportError."""
    gatewise("import", model_file, "--vocabulary", vocabulary, "--out", "run")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr("gatewise.interchange.keras_peer.why_unverified", lambda framework: "")
    monkeypatch.setitem(sys.modules, "keras", None)
    result = gatewise("export", "run", "--to", "keras", "--out", "a.keras")
    assert (result.status, result.err) == (0, "")
    assert "unverified: running the file needs Keras, which cannot be imported with KERAS_BACKEND=tens" in result.out


def test_refusals(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """One line, the right status, and nothing written."""
    alone = write_legacy(tmp_path / "weights.h5", None, {"l": [("kernel", draw(I, 4 * H))]})
    hard = sequential(layer("LSTM", "l", units=H, **{**LSTM, "recurrent_activation": "hard_sigmoid"}))
    hard_file = write_legacy(tmp_path / "hard.h5", hard, {})
    before = contents(tmp_path)
    words = ("--vocabulary", vocabulary, "--out", "run")
    gatewise("import", model_file, "--out", "run").check_refused(2, "model.h5", "add --vocabulary FILE")
    gatewise("import", alone, *words).check_refused(3, "weights alone", "add --architecture FILE")
    gatewise("import", alone, "--architecture", alone, *words).check_refused(3, "expected what model.to_json()")
    gatewise("import", hard_file, *words).check_refused(3, "layer 'l' (LSTM) has recurrent_activation hard_sigmoid")
    gatewise("import", model_file, "--prefix", "l", *words).check_refused(2, "--prefix l: does not apply to keras")
    assert contents(tmp_path) == before
    assert gatewise("import", model_file, *words).status == 0
    before = contents(tmp_path)
    gatewise("export", "run", "--to", "keras", "--out", "a.h5").check_refused(2, "a.h5: expected a name that ends in")
    assert contents(tmp_path) == before
