"""The benchmark: it times only what agrees, and both programs do the same work."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gatewise.bench import duel
from gatewise.bench.language_model import OutputsDiffer, _agree, bench_language_model
from gatewise.errors import UsageError


@pytest.mark.slow
def test_both_programs_agree_and_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "SECONDS_A_TURN", 0.05)
    result = bench_language_model("ptb-test", turns=3)
    assert len(result["ours_seconds"]) == len(result["peer_seconds"]) == 3
    ratios = sorted(p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True))
    assert result["ratio"] == ratios[1]
    assert 50 < result["ours_peak_mib"] < 5000
    assert 50 < result["peer_peak_mib"] < 5000


def write(path: Path, **changes: float) -> Path:
    tensors = {"cost": torch.tensor(5.0), "rnn.weight_hh_l0": torch.ones(4, 4)}
    for name, value in changes.items():
        tensors[name.replace("__", ".")].view(-1)[0] += value
    save_file(tensors, path)
    return path


def test_nothing_is_timed_where_outputs_differ(tmp_path: Path) -> None:
    peer = write(tmp_path / "peer")
    _agree(write(tmp_path / "same", rnn__weight_hh_l0=1e-5), peer)
    with pytest.raises(OutputsDiffer, match=r"rnn\.weight_hh_l0 differs by"):
        _agree(write(tmp_path / "gradient", rnn__weight_hh_l0=1e-3), peer)
    with pytest.raises(OutputsDiffer, match="cost differs by"):
        _agree(write(tmp_path / "cost", cost=float("nan")), peer)
    save_file({"cost": torch.tensor(5.0)}, tmp_path / "missing")
    with pytest.raises(OutputsDiffer, match=r"only one program has rnn\.weight_hh_l0"):
        _agree(tmp_path / "missing", peer)


def test_a_recipe_that_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="LSTMs trained by SGD"):
        bench_language_model("demo")
