"""``gatewise export --to runtime``: every task and storage, verified, staged, refused where it does not apply."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise import runtime
from gatewise.errors import DataError, NotVerified, UsageError
from gatewise.interchange import load_stack, runtime_format, save_stack
from gatewise.interchange.runs import export_run, import_run
from gatewise.runtime.model_file import STORED, stored_run
from tests.cli.conftest import Gatewise, gatewise  # noqa: F401
from tests.interchange.rig import drawn_stack
from tests.runtime.rig import CASES, drawn_run

TRAINED = ["tiny_run", "scratch_run", "tagger_run", "classifier_run", "regressor_run"]


@pytest.mark.parametrize("weights", [None, *STORED])
@pytest.mark.parametrize("name", TRAINED)
def test_runs_are_written_and_verified(
    name: str, weights: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run, out = request.getfixturevalue(name), tmp_path / "model.gatewise"
    differences, reason = export_run(run, out, "runtime", weights=weights)
    assert reason == "" and [path.name for path in tmp_path.iterdir()] == [out.name]
    assert runtime.load(out).weights == (weights or "fp32")
    assert differences["outputs"] < (1e-4 if weights == "int8" else 2e-6)
    if weights in (None, "fp32"):
        assert differences["weights"] == 0 and len(differences) == 2
    else:
        assert 0 < differences["weights"] < 0.01 and len(differences) == 3


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("which", CASES)
def test_drawn_models_of_every_kind(which: str, weights: str, tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "run", CASES[which])
    differences, _ = export_run(run, tmp_path / "m.gatewise", "runtime", weights=weights)
    assert differences["outputs"] < (2e-6 if weights != "int8" else 1e-3)


def test_a_file_that_computes_something_else_is_not_kept(
    tagger_run: Path, classifier_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wrong in what is read back, or only in what the runtime makes of it."""

    def spoiled(name: str, change: float) -> None:
        def stored(run: Any, weights: str) -> tuple[Any, dict[str, Any]]:
            about, tensors = stored_run(run, weights)
            return about, {**tensors, name: (tensors[name] + change).astype(tensors[name].dtype)}

        monkeypatch.setattr(runtime_format, "stored_run", stored)

    for weights in STORED:
        spoiled("decoder.bias", 0.1)
        with pytest.raises(NotVerified, match="weights differ by"):
            export_run(tagger_run, tmp_path / "a.gatewise", "runtime", weights=weights)
    monkeypatch.undo()
    original = runtime.SequenceClassifier.predict_proba
    monkeypatch.setattr(runtime.SequenceClassifier, "predict_proba", lambda self, x: original(self, x) * 1.01)
    for weights in STORED:
        with pytest.raises(NotVerified, match="outputs differ by"):
            export_run(classifier_run, tmp_path / "a.gatewise", "runtime", weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_or_replaced_as_a_whole(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gatewise"
    out.write_bytes(b"before")
    with pytest.raises(UsageError, match="weights=int4: no such storage"):
        export_run(tiny_run, out, "runtime", weights="int4")
    assert out.read_bytes() == b"before"
    export_run(tiny_run, out, "runtime")
    first = out.read_bytes()
    export_run(tiny_run, out, "runtime")
    assert out.read_bytes() == first
    with pytest.raises(UsageError, match="graph=step: does not apply to runtime"):
        export_run(tiny_run, out, "runtime", graph="step")
    with pytest.raises(UsageError, match="weights=int8: does not apply to torch"):
        export_run(tiny_run, tmp_path / "a.pt", "torch", weights="int8")


def test_the_memory_task(tmp_path: Path) -> None:
    overrides = {"data.length": 10, "model.hidden_size": 6, "training.max_steps": 2, "logging.tensorboard": False}
    run = gw.train("memory-task", out=tmp_path / "run", overrides=overrides)
    export_run(run.path, tmp_path / "m.gatewise", "runtime")
    x = np.random.default_rng(1).standard_normal((4, 10, 2)).astype(np.float32)
    expected = gw.load(run.path).predict(x)
    assert np.abs(runtime.load(tmp_path / "m.gatewise").predict(x) - expected).max() <= 2e-6 * np.abs(expected).max()


def test_it_is_not_imported(tiny_run: Path, tmp_path: Path) -> None:
    export_run(tiny_run, tmp_path / "m.gatewise", "runtime")
    (tmp_path / "m.gatewise").rename(tmp_path / "other.safetensors")
    for framework in (None, "runtime"):
        for call in (import_run, lambda path, out, framework: load_stack(path, framework)):
            with pytest.raises(DataError, match=r"other.safetensors: a model file of gatewise.runtime, which"):
                call(tmp_path / "other.safetensors", tmp_path / "run", framework)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="holds a whole model"):
        save_stack(drawn_stack("gru"), tmp_path / "a.gatewise", "runtime")
    assert not runtime_format.recognises(tiny_run / "model.safetensors")
    assert not runtime_format.recognises(tmp_path / "none") and not runtime_format.recognises(tmp_path)


def test_without_the_library_it_is_written_unverified(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise UsageError("gatewise.runtime needs Gatewise's own library, but it was not built")

    monkeypatch.setattr(runtime_format, "library", missing)
    differences, reason = export_run(tiny_run, tmp_path / "m.gatewise", "runtime")
    assert differences == {} and "was not built" in reason
    assert (tmp_path / "m.gatewise").stat().st_size > 1000


def test_the_command(tiny_run: Path, gatewise: Gatewise, tmp_path: Path) -> None:  # noqa: F811
    done = gatewise("export", tiny_run, "--to", "runtime", "--weights", "int8", "--out", tmp_path / "m.gatewise")
    lines = done.out.splitlines()
    assert done.status == 0 and lines[0] == f"wrote {tmp_path / 'm.gatewise'}"
    assert [line.partition(":")[0].removeprefix("largest difference of ") for line in lines[1:]] == [
        "weights",
        "outputs",
        "outputs from those of unrounded weights",
    ]
    wrong = ("--out", tmp_path / "n.gatewise")
    gatewise("export", tiny_run, "--to", "runtime", "--weights", "8", *wrong).check_refused(2, "--weights 8: no such")
    gatewise("export", tiny_run, "--to", "torch", "--weights", "int8", *wrong).check_refused(2, "does not apply")
    gatewise("import", tmp_path / "m.gatewise", "--out", tmp_path / "run").check_refused(3, "a model file of")


def test_the_weights_of_a_model_on_another_device_or_in_training_do_not_matter(tiny_run: Path, tmp_path: Path) -> None:
    model: nn.Module = gw.load(tiny_run).train()
    export_run(tiny_run, tmp_path / "m.gatewise", "runtime")
    assert runtime_format.differences(model, tmp_path / "m.gatewise")["outputs"] < 2e-6
    assert model.training
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    assert runtime_format.differences(model, tmp_path / "m.gatewise")["weights"] > 0
