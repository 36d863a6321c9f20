"""``gatewise import`` and ``gatewise export``, and the other commands on an imported run."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.conftest import Gatewise, contents
from tests.interchange.conftest import text, vocabulary  # noqa: F401
from tests.interchange.rig import H, I, WordLanguageModel, write


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write(tmp_path / "model.pt", WordLanguageModel().state_dict())


def test_from_a_file_to_every_command(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    text: Path,  # noqa: F811
) -> None:
    """The model is imported, evaluated, sampled from, drawn and exported."""
    result = gatewise("import", model_file, "--from", "torch", "--vocabulary", vocabulary, "--out", "run")
    assert (result.status, result.err) == (0, "")
    assert result.out == "wrote run; next: gatewise evaluate run --data PATH\n"
    assert {path.name for path in Path("run").iterdir()} == {
        *(".lock", "README.md", "config.toml", "model.safetensors", "tokenizer.json"),
    }
    assert "imported from torch" in Path("run/README.md").read_text()
    result = gatewise("evaluate", "run", "--data", text, "--json")
    figures = json.loads(result.out)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["nll"]))
    assert figures["oov_rate"] > 0
    for split in ((), ("--split", "valid"), ("--json",)):
        gatewise("evaluate", "run", *split).check_refused(
            2, "run: this run was imported, so it has no data", "add --data PATH"
        )
    assert gatewise("generate", "run", "--prompt", "the w1", "--max-tokens", "5").status == 0
    assert gatewise("inspect", "gates", "run", "--text", "the w1 w2", "--out", "gates.png").status == 0
    gatewise("inspect", "training", "run", "--out", "training.png").check_refused(4, "no metrics")
    assert "LSTM 2×4" in gatewise("compare", "run").out
    for name in ("out.safetensors", "out.pt"):
        result = gatewise("export", "run", "--to", "torch", "--out", name)
        assert (result.status, result.err) == (0, "")
        lines = result.out.splitlines()
        assert lines[:2] == [f"wrote {name}", "largest difference of weights: 0.0e+00"]
        assert len(lines) == 6
    state = torch.load("out.pt", weights_only=True)
    assert torch.equal(state["embedding.weight"], torch.load(model_file, weights_only=True)["encoder.weight"])


def test_refusals(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """One line, the right status, and nothing written."""
    stack = write(tmp_path / "stack.pt", nn.LSTM(I, H).state_dict())
    rnn = write(tmp_path / "rnn.pt", WordLanguageModel("rnn_tanh").state_dict())
    two = write(tmp_path / "two.pt", nn.ModuleDict({"a": nn.LSTM(I, H), "b": nn.GRU(I, H)}).state_dict())
    before = contents(tmp_path)
    words = ("--vocabulary", vocabulary, "--out", "run")
    gatewise("import", model_file, "--out", "run").check_refused(2, "model.pt", "add --vocabulary FILE")
    gatewise("import", stack, *words).check_refused(3, "bare lstm stack", "gatewise.interchange.load_stack")
    gatewise("import", two, *words).check_refused(3, "'a.', 'b.'; select one with --prefix NAME")
    gatewise("import", rnn, *words).check_refused(2, "--nonlinearity tanh or --nonlinearity relu")
    gatewise("import", vocabulary, *words).check_refused(3, "not recognized", "with --from")
    gatewise("import", vocabulary, "--from", "torch", *words).check_refused(3, "neither safetensors nor a zip")
    gatewise("import", model_file, "--from", "caffe", *words).check_refused(2, "--from caffe: no such format")
    gatewise("import", tmp_path / "none", *words).check_refused(3, "no such file")
    gatewise("import", model_file, "--vocabulary", stack, "--out", "run").check_refused(3, "stack.pt")
    gatewise("import", model_file, "--vocabulary", vocabulary, "--out", tmp_path).check_refused(2, "is not empty")
    gatewise("export", "none", "--to", "torch", "--out", "a.pt").check_refused(4, "no such folder")
    assert contents(tmp_path) == before
    assert gatewise("import", model_file, *words).status == 0
    before = contents(tmp_path)
    gatewise("export", "run", "--to", "caffe", "--out", "a.pt").check_refused(2, "--to caffe: no such format")
    gatewise("export", "run", "--to", "torch", "--out", "a.h5").check_refused(2, "a.h5: expected a name that ends in")
    gatewise("export", "run", "--to", "torch", "--out", "no/a.pt").check_refused(2, "no folder")
    gatewise("export", "run", "--to", "torch", "--out", "run").check_refused(2, "a folder")
    gatewise("import", model_file, *words).check_refused(2, "run contains another run; choose another --out")
    gatewise("export", "run", "--to", "tf1", "--forget-bias", "1e39", "--out", "a").check_refused(2, "1e+39: expected")
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_only_regular_files_are_replaced(
    gatewise: Gatewise,
    model_file: Path,
    vocabulary: Path,  # noqa: F811
) -> None:
    """A pipe, a link to a device, and a folder in the place of one of two files stay as they are."""
    assert gatewise("import", model_file, "--vocabulary", vocabulary, "--out", "run").status == 0
    os.mkfifo("pipe.pt")
    Path("link.pt").symlink_to("/dev/null")
    Path("a.index").mkdir()
    for name in ("pipe.pt", "link.pt"):
        gatewise("export", "run", "--to", "torch", "--out", name).check_refused(2, f"{name}: a device or a pipe")
    gatewise("export", "run", "--to", "tf1", "--out", "a").check_refused(2, "a.index: a folder; expected the name of a")
    assert Path("pipe.pt").is_fifo()
    assert Path("link.pt").is_symlink()
    assert not Path("a.data-00000-of-00001").exists()
