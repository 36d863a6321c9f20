"""The benchmarks of ``gatewise.runtime``: what they compare before they time, and which figures miss a target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import runtime_quality, runtime_speed
from gatewise.bench.harness import OutputsDiffer
from gatewise.bench.streaming import drawn_model
from gatewise.engines import why_not

pytestmark = pytest.mark.skipif(why_not("native") is not None, reason="the native engine was not built")


def test_the_answers_of_every_task(tiny_run: Path, tagger_run: Path, classifier_run: Path) -> None:
    lines: list[str] = []
    rows = runtime_quality.measure([tiny_run, tagger_run, classifier_run], 3, lines.append)["rows"]
    assert len(lines) == len(rows) == 26
    found = {(row["task"], row["what"]): row for row in rows}
    assert found["tagger", "tags of 8 words, best paths"]["value"] == 1
    assert found["classifier", "fp32: accuracy, in percent"]["value"] == 100
    assert 0 < found["language-model", "int8: pass 2 against pass 1, which starts from zeros"]["value"] < 0.1
    assert all(
        row["met"] for row in rows if "size of the model file" not in row["what"]
    )  # mostly words, in so small ones


def test_a_miss_is_a_miss() -> None:
    assert not runtime_quality.at_most("a", 2e-6, 1e-6).met and not runtime_quality.at_most("a", np.nan, 1.0).met
    assert not runtime_quality.equal("a", False).met


def test_steps_and_sessions_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is a peer: pip install --group peers")
    pytest.importorskip("onnx", reason="ONNX is a peer: pip install --group peers")
    monkeypatch.setattr(runtime_speed, "SECONDS_A_TURN", 0.001)
    runtime_speed.write_run(model := drawn_model(6), tmp_path)
    rows = runtime_speed.single_steps(model, tmp_path, 1, 1) + runtime_speed.sessions(tmp_path, 6, 1)
    assert [row["against"] for row in rows] == ["ONNX Runtime fp32", "PyTorch fp32"] * 3 + ["one at a time"] * 3


def test_nothing_is_timed_where_logits_differ() -> None:
    ours: Any = iter([np.ones(3), np.ones(3), np.ones(3) * 1.01, np.ones(3)])
    with pytest.raises(OutputsDiffer, match="logits differs by"):
        runtime_speed.check("all", ours.__next__, lambda: np.ones(3), 1e-3)
