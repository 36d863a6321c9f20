"""Comparisons of training steps: only what agrees is timed, and both sides do the same work."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gatewise.bench import rows, rows_pytorch, runners, tagger, tagger_pytorch, training, training_ours
from gatewise.bench.training import OutputsDiffer, agree
from gatewise.bench.training_pytorch import Peer
from gatewise.data.tagged import read_columns
from gatewise.errors import DataError, UsageError
from gatewise.nn.dropout import dropout

SMALL: dict[str, dict[str, Any]] = {
    "rows": {"model.hidden_size": 8, "data.batch_size": 16},
    "tagger": {"model.hidden_size": 8, "model.num_layers": 1},
}
BENCHES: dict[str, Callable[..., dict[str, Any]]] = {"rows": rows.bench_rows, "tagger": tagger.bench_tagger}
PEERS: dict[str, type[Peer]] = {"rows": rows_pytorch.RowsPeer, "tagger": tagger_pytorch.TaggerPeer}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes with eight units and little data."""
    for module, keys in ((rows, SMALL["rows"]), (tagger, SMALL["tagger"])):
        honest = module.load_config
        monkeypatch.setattr(module, "load_config", lambda name, more, h=honest, k=keys: h(name, {**more, **k}))
    monkeypatch.setattr(rows, "_IMAGES", 60)
    monkeypatch.setattr(rows, "_HELD_BACK", 10)
    monkeypatch.setattr(tagger, "SENTENCES", 70)
    monkeypatch.setattr(runners, "SECONDS_A_TURN", 0.05)


def write(path: Path, **changes: float) -> Path:
    tensors = {"cost": torch.tensor(5.0), "rnn.weight_hh_l0": torch.ones(4, 4)}
    for name, value in changes.items():
        tensors[name.replace("__", ".")].view(-1)[0] += value
    save_file(tensors, path)
    return path


def test_nothing_is_timed_where_outputs_differ(tmp_path: Path) -> None:
    peer = write(tmp_path / "peer")
    agree(write(tmp_path / "same", rnn__weight_hh_l0=1e-5), peer, 1e-4)
    with pytest.raises(OutputsDiffer, match=r"rnn\.weight_hh_l0 differs by"):
        agree(write(tmp_path / "gradient", rnn__weight_hh_l0=1e-3), peer, 1e-4)
    with pytest.raises(OutputsDiffer, match="cost differs by"):
        agree(write(tmp_path / "cost", cost=float("nan")), peer, 1e-4)
    save_file({"cost": torch.tensor(5.0)}, tmp_path / "missing")
    with pytest.raises(OutputsDiffer, match=r"only one program has rnn\.weight_hh_l0"):
        agree(tmp_path / "missing", peer, 1e-4)


RUNNER = """
import os
from gatewise.bench.runners import serve

class Work:
    def check(self, to):
        raise ValueError("no such weight")
    def run(self, steps):
        os._exit(3)

serve(lambda arguments: Work())
"""


def test_a_runners_error_comes_with_its_module_and_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "runner_that_fails.py").write_text(RUNNER)
    with runners.Runner("runner_that_fails", {}, {"PYTHONPATH": str(tmp_path)}) as runner:
        with pytest.raises(runners.RunnerFailed, match="_that_fails, failed: ValueError: no such weight") as e:
            runner.ask(do="check", to="")
        assert e.value.module == "runner_that_fails"
        assert "in check" in str(e.value.__cause__)  # the full traceback
        with pytest.raises(runners.RunnerFailed, match="its process ended with status 3"):
            runner.ask(do="run", steps=1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tokens", "a_step"), [("rows", "images", 16), ("tagger", "words", 547.2)])
def test_both_are_timed_in_turns(small: None, name: str, tokens: str, a_step: float) -> None:
    result = BENCHES[name](threads=1, turns=3)
    ratios = sorted(p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True))
    assert (len(ratios), result["ratio"], result["bench"]) == (3, ratios[1], name)
    for side in ("ours", "peer"):
        rate = result[f"{side.replace('peer', 'pytorch')}_{tokens}_per_second"]
        assert rate * median(result[f"{side}_seconds"]) == pytest.approx(a_step)
    assert 50 < result["peer_peak_mib"] < 5000


def in_process(monkeypatch: pytest.MonkeyPatch, name: str, use: Callable[[Any, Peer], None], **keys: Any) -> None:
    """Create both runners in this process, and return them instead of timing them."""

    def compare_in_turns(ours: str, peer: str, arguments: dict[str, Any], *_: Any) -> runners.Comparison:
        assert (ours, peer) == ("gatewise.bench.training_ours", f"gatewise.bench.{name}_pytorch")
        use(training_ours.make(arguments), PEERS[name](arguments))
        return runners.Comparison(1, [1.0], [1.0])

    small = dict(SMALL[name])
    SMALL[name].update(keys)
    monkeypatch.setattr(training, "compare_in_turns", compare_in_turns)
    try:
        BENCHES[name](threads=torch.get_num_threads())
    finally:
        SMALL[name].clear()
        SMALL[name].update(small)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("rows", {}),
        ("tagger", {}),
        ("tagger", {"model.character_encoder": "cnn"}),
        ("tagger", {"model.num_layers": 2}),
    ],
)
def test_cost_and_every_gradient_agree(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, keys: dict[str, Any]
) -> None:
    files = tmp_path / "ours", tmp_path / "peer"

    def check(ours: Any, peer: Peer) -> None:
        for side, file in zip((ours, peer), files, strict=True):
            side.check(file)
        agree(*files, 1e-4)
        assert set(load_file(files[0])) == {"cost", *dict(peer.model.named_parameters())}

    in_process(monkeypatch, name, check, **keys)


@pytest.mark.parametrize("name", ["rows", "tagger"])
def test_both_sides_read_the_same_batches_and_end_with_the_same_weights(
    small: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def train(ours: Any, peer: Peer) -> None:
        steps = ours.work.steps_per_epoch + 1  # wraps around
        for side in (ours, peer):
            torch.manual_seed(3)
            side.run(steps)
        for (key, a), b in zip(ours.work.model.named_parameters(), peer.model.parameters(), strict=True):
            assert float((a - b).abs().max()) < 1e-4, key

    # The same masks are drawn for the peer; masks between nn.LSTM's layers cannot be set this way.
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, training, inplace: dropout(x, p, training))
    in_process(monkeypatch, name, train, **{"model.num_layers": 1})


def test_a_wrong_gradient_is_not_timed(small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(ours: Any, peer: Peer) -> None:
        parameter: Tensor = peer.model.get_parameter("rnn.weight_hh_l0")
        parameter.register_hook(lambda gradient: 1.01 * gradient)
        ours.check(tmp_path / "ours")
        peer.check(tmp_path / "peer")
        with pytest.raises(OutputsDiffer, match=r"rnn\.weight_hh_l0 differs by"):
            agree(tmp_path / "ours", tmp_path / "peer", 1e-4)

    in_process(monkeypatch, "rows", check)


@pytest.mark.parametrize("name", ["rows", "tagger"])
def test_data_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        BENCHES[name](tmp_path)


def test_a_model_without_characters_is_refused(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="LSTMs that read characters"):
        in_process(monkeypatch, "tagger", lambda *_: None, **{"model.character_encoder": "none"})


def test_made_up_sentences_are_distributed_as_those_of_the_treebank(tmp_path: Path) -> None:
    (tmp_path / "made.txt").write_text(tagger.made_up_sentences(12_544), encoding="utf-8")
    sentences = read_columns(tmp_path / "made.txt")
    lengths = np.array([len(s.words) for s in sentences])
    words = [word for s in sentences for word in s.words]
    assert len(sentences) == 12_544
    assert abs(lengths.mean() - 16.3) < 2
    assert abs(np.mean([len(word) for word in words]) - 4.06) < 0.5
    assert 15_000 < len(set(words)) < 20_000
