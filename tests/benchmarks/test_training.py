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

from benchmarks.training import comparison, made_up, ours
from benchmarks.training.comparison import COMPARISONS, compare_training
from benchmarks.training.pytorch import Peer
from gatewise.bench.harness import OutputsDiffer, agree
from gatewise.config import load_config
from gatewise.data.tagged import read_columns
from gatewise.errors import DataError, UsageError
from gatewise.nn.dropout import dropout

SMALL: dict[str, dict[str, Any]] = {
    "mnist-rows": {"model.hidden_size": 8, "data.batch_size": 16},
    "ewt-upos": {"model.hidden_size": 8, "model.num_layers": 1},
    "ptb-test": {},
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes with eight units and little data."""
    monkeypatch.setattr(
        comparison, "load_config", lambda name, more=None: load_config(name, {**(more or {}), **SMALL[name]})
    )
    monkeypatch.setattr(made_up, "IMAGES", 60)
    monkeypatch.setattr(made_up, "HELD_BACK", 10)
    monkeypatch.setattr(made_up, "SENTENCES", 70)
    monkeypatch.setattr(comparison, "SECONDS_A_TURN", 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "tokens", "a_step"),
    [("mnist-rows", "images", 16), ("ewt-upos", "words", 547.2), ("ptb-test", "words", 0)],
)
def test_both_are_timed_in_turns(small: None, recipe: str, tokens: str, a_step: float) -> None:
    result = compare_training(recipe, threads=1, turns=3)
    ratios = sorted(p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True))
    assert (len(ratios), result["ratio"]) == (3, ratios[1])
    assert result["ratio_range"] == [ratios[0], ratios[2]]
    data = load_config(recipe).data
    for side in ("ours", "peer"):
        rate = result[f"{side.replace('peer', 'pytorch')}_{tokens}_per_second"]
        expected = a_step or data.batch_size * data.tbptt_length
        assert rate * median(result[f"{side}_seconds"]) == pytest.approx(expected)
        assert 50 < result[f"{side}_peak_mib"] < 5000


def in_process(monkeypatch: pytest.MonkeyPatch, recipe: str, use: Callable[[Any, Peer], None], **keys: Any) -> None:
    """Create both runners in this process, and return them instead of timing them."""

    class Here:
        peak_mib = 1.0

        def __init__(self, make: Callable[[Any], Any], arguments: dict[str, Any]) -> None:
            assert make in (ours.make, COMPARISONS[load_config(recipe).task.name].peer)
            self.work = make(arguments)

        def __enter__(self) -> "Here":
            sides.append(self.work)
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, steps: int) -> float:
            return 1.0

        def ask(self, method: str, file: Path) -> None:
            save_file({"cost": torch.ones(())}, file)

    sides: list[Any] = []
    monkeypatch.setitem(SMALL, recipe, {**SMALL[recipe], **keys})
    monkeypatch.setattr(comparison, "Runner", Here)
    monkeypatch.setattr(comparison, "in_turns", lambda *_: (use(*sides), (1, {"ours": [1.0], "pytorch": [1.0]}))[1])
    compare_training(recipe, threads=torch.get_num_threads())
    assert len(sides) == 2


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("mnist-rows", {}),
        ("ewt-upos", {}),
        ("ewt-upos", {"model.character_encoder": "cnn"}),
        ("ewt-upos", {"model.num_layers": 2}),
        ("ptb-test", {}),
    ],
)
def test_cost_and_every_gradient_agree(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, keys: dict[str, Any]
) -> None:
    files = tmp_path / "ours", tmp_path / "peer"

    def check(ours: Any, peer: Peer) -> None:
        for side, file in zip((ours, peer), files, strict=True):
            side.check(file)
        agree(load_file(files[0]), load_file(files[1]), 1e-4)
        assert set(load_file(files[0])) == {"cost", *dict(peer.model.named_parameters())}

    in_process(monkeypatch, name, check, **keys)


@pytest.mark.parametrize("name", ["mnist-rows", "ewt-upos"])
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
            agree(load_file(tmp_path / "ours"), load_file(tmp_path / "peer"), 1e-4)

    in_process(monkeypatch, "mnist-rows", check)


@pytest.mark.parametrize("name", ["mnist-rows", "ewt-upos"])
def test_data_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        compare_training(name, tmp_path)


def test_a_model_without_characters_is_refused(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="LSTMs that read characters"):
        in_process(monkeypatch, "ewt-upos", lambda *_: None, **{"model.character_encoder": "none"})


def test_a_recipe_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="LSTMs trained by SGD"):
        compare_training("demo")
    with pytest.raises(UsageError, match="sunspots: a regressor; expected one of language-model, classifier, tagger"):
        compare_training("sunspots")


def test_made_up_sentences_are_distributed_as_those_of_the_treebank(tmp_path: Path) -> None:
    (tmp_path / "made.txt").write_text(made_up.sentences(12_544), encoding="utf-8")
    sentences = read_columns(tmp_path / "made.txt")
    lengths = np.array([len(s.words) for s in sentences])
    words = [word for s in sentences for word in s.words]
    assert len(sentences) == 12_544
    assert abs(lengths.mean() - 16.3) < 2
    assert abs(np.mean([len(word) for word in words]) - 4.06) < 0.5
    assert 15_000 < len(set(words)) < 20_000
