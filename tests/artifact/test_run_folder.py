"""A run folder: what is missing or wrong inside is one line that names the file."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from gatewise.artifact.run_folder import RunFolder
from gatewise.config import load_config
from gatewise.errors import RunError

SHAPES = {"decoder.weight": (3, 2), "decoder.bias": (3,)}


def weights() -> dict[str, npt.NDArray[np.float32]]:
    return {"decoder.weight": np.arange(6, dtype=np.float32).reshape(3, 2), "decoder.bias": np.ones(3, np.float32)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.write_config(load_config("ptb-test"))
    save_file(weights(), run.weights_file, {"epoch": "3"})
    return run


def complaint(run: RunFolder) -> str:
    """Return the one line that the weights are refused with."""
    with pytest.raises(RunError) as caught:
        run.read_weights(SHAPES)
    assert str(caught.value).startswith(f"{run.weights_file}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_existing(run: RunFolder) -> None:
    assert RunFolder.existing(run.path).path == RunFolder.existing(str(run.path)).path == run.path


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none: no such folder; expected a run folder"):
        RunFolder.existing(tmp_path / "none")


def test_file_instead_of_a_folder(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"config\.toml: a file; expected a run folder"):
        RunFolder.existing(run.config_file)


def test_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.toml in this folder"):
        RunFolder.existing(tmp_path)


def test_config_round_trip(run: RunFolder) -> None:
    assert run.read_config() == load_config("ptb-test")


@pytest.mark.parametrize(
    ("content", "line"), [(b"[model\n", 1), (b"[model]\nhidden_size = 0\n", 2), (b"[model]\nhidden = 3\n", 2)]
)
def test_wrong_config(run: RunFolder, content: bytes, line: int) -> None:
    run.config_file.write_bytes(content)
    with pytest.raises(RunError) as caught:
        run.read_config()
    assert str(caught.value).startswith(f"{run.config_file}:{line}: ")


def test_config_that_is_no_text(run: RunFolder) -> None:
    run.config_file.write_bytes(b"\x80\x00")
    with pytest.raises(RunError, match="UTF-8"):
        run.read_config()


def test_weights_of_another_program(run: RunFolder) -> None:
    found, facts = run.read_weights(SHAPES)
    assert set(found) == set(SHAPES) and facts == {}
    for name, array in weights().items():
        assert np.array_equal(found[name], array) and found[name].dtype == np.float32


def test_weights_and_facts(run: RunFolder) -> None:
    run.labels_file.write_text("{}")
    run.write_weights(weights(), {"epoch": 3, "note": 'a "中文"'})
    found, facts = run.read_weights(SHAPES)
    assert all(np.array_equal(found[name], array) for name, array in weights().items())
    assert (facts["format"], facts["epoch"], facts["note"]) == (1, 3, 'a "中文"')
    assert facts["files"] == {"labels.json": hashlib.sha256(b"{}").hexdigest()}


def test_equal_weights_give_equal_files(run: RunFolder) -> None:
    run.write_weights(weights(), {"epoch": 3})
    first = run.weights_file.read_bytes()
    run.write_weights(dict(reversed(weights().items())), {"epoch": 3})
    assert run.weights_file.read_bytes() == first


def test_every_flipped_bit_is_noticed(run: RunFolder) -> None:
    run.write_weights(weights(), {"epoch": 3})
    whole = run.weights_file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        run.weights_file.write_bytes(damaged)
        with pytest.raises(RunError) as caught:
            run.read_weights(SHAPES)
        assert str(caught.value).startswith(f"{run.weights_file}: ") and "\n" not in str(caught.value), bit


def test_parts_that_training_wrote_anew_are_sealed_again(run: RunFolder) -> None:
    run.labels_file.write_text("{}")
    run.write_weights(weights(), {"epoch": 3})
    sealed = run.weights_file.read_bytes()
    assert run.reseal_weights(SHAPES, write=True)["epoch"] == 3
    assert run.weights_file.read_bytes() == sealed
    run.labels_file.write_text("{ }")
    assert "labels.json" in refused(run)
    run.reseal_weights(SHAPES, write=False)
    assert "labels.json" in refused(run)
    run.reseal_weights(SHAPES, write=True)
    assert run.read_weights(SHAPES)[1]["epoch"] == 3


def refused(run: RunFolder) -> str:
    with pytest.raises(RunError) as caught:
        run.read_weights(SHAPES)
    return str(caught.value)


def test_no_weights_yet(run: RunFolder) -> None:
    run.weights_file.unlink()
    assert "no such file" in complaint(run)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_weights(run: RunFolder, keep: int) -> None:
    run.weights_file.write_bytes(run.weights_file.read_bytes()[:keep])
    assert "damaged or truncated" in complaint(run)


@pytest.mark.parametrize("content", [b"\xff" * 100, b"\x02" + b"\0" * 7 + b"{]", b"PK\x03\x04" + b"\0" * 50])
def test_no_safetensors_file(run: RunFolder, content: bytes) -> None:
    run.weights_file.write_bytes(content)
    assert "damaged or truncated" in complaint(run)


def test_other_shape(run: RunFolder) -> None:
    save_file(weights() | {"decoder.weight": np.zeros((2, 3), np.float32)}, run.weights_file)
    assert "decoder.weight has shape (2, 3); expected (3, 2)" in complaint(run)


def test_missing_weight(run: RunFolder) -> None:
    save_file({"decoder.weight": weights()["decoder.weight"]}, run.weights_file)
    assert "missing decoder.bias; expected shape (3,)" in complaint(run)


def test_extra_weight(run: RunFolder) -> None:
    save_file(weights() | {"rnn.bias": np.ones(2, np.float32)}, run.weights_file)
    assert "unexpected 'rnn.bias'; config.toml" in complaint(run)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_other_type_of_number(run: RunFolder, dtype: torch.dtype) -> None:
    tensors = {"decoder.weight": torch.ones(3, 2), "decoder.bias": torch.ones(3, dtype=dtype)}
    safetensors.torch.save_file(tensors, run.weights_file)
    assert "decoder.bias" in complaint(run)


def test_metrics_round_trip(run: RunFolder) -> None:
    assert run.read_metrics() == []
    lines = [{"epoch": 1, "valid_perplexity": 123.456}, {"best_epoch": 1, "note": "a\u2028b\n中文"}]
    run.write_metrics(lines)
    assert run.read_metrics() == lines
    assert run.metrics_file.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize("line", [b"{", b"epoch 2", b"", b"3", b"null", b"[]", b'[["epoch", 2]]', b'""'])
def test_metrics_line_that_is_no_object(run: RunFolder, line: bytes) -> None:
    run.metrics_file.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
    with pytest.raises(RunError) as caught:
        run.read_metrics()
    assert str(caught.value).startswith(f"{run.metrics_file}:2: ")
