"""The loop's arithmetic: cost, clipping, schedule, and what becomes of a step that is not finite."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import TrainingConfig
from gatewise.engines import ENGINES
from gatewise.errors import TrainingStopped
from gatewise.tasks.language_modeling import LanguageModelling
from gatewise.training.checkpoints import load_newest
from gatewise.training.update import make_optimizer
from tests.conftest import TINY


def train(corpus: Path, out: Path, **overrides: Any) -> list[dict[str, Any]]:
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    gw.train("demo", data=corpus, out=out, overrides={**TINY, **keys})
    return RunFolder(out).read_metrics()


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_each_optimizer_steps_as_pytorchs(kind: str) -> None:
    ours, x = torch.nn.Linear(2, 1), torch.tensor([[1.0, -2.0]])
    theirs = deepcopy(ours)
    settings = TrainingConfig(optimizer=kind.lower(), learning_rate=0.1, weight_decay=0.5)  # type: ignore[arg-type]
    peer = getattr(torch.optim, kind)(theirs.parameters(), lr=0.1, weight_decay=0.5)
    for model, optimizer in ((ours, make_optimizer(settings, ours)), (theirs, peer)):
        before = model.weight.detach().clone()
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        assert not torch.isclose(model.weight, before).any()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.05])
def test_two_epochs_equal_the_same_steps_by_hand(corpus: Path, tmp_path: Path, max_grad_norm: float) -> None:
    """The cost is the sum over the window of the mean over the batch, clipped by the global norm, then plain SGD.

    The state is carried from window to window, and reset when the second epoch begins.
    """
    overrides = {
        **TINY,
        "training.learning_rate": 0.05,
        "training.max_grad_norm": max_grad_norm,
        "model.dropout": 0.0,
        "data.batch_size": 8,
        "data.tbptt_length": 40,
    }
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=overrides)
    assert run.metrics["best_epoch"] == 2
    words = [w for line in (corpus / "toy.train.txt").read_text().split("\n")[:-1] for w in [*line.split(), "<eos>"]]
    vocabulary = run.model.vocabulary
    tokens = torch.tensor([vocabulary.ids[word] for word in words])
    length = len(tokens) // 8
    rows = tokens[: 8 * length].view(8, length).t()
    windows = (length - 1) // 40
    assert windows == 3

    torch.manual_seed(1)
    model = gw.LanguageModel(run.model.config, vocabulary)
    for metrics in RunFolder(run.path).read_metrics()[:2]:
        state = tuple(torch.zeros(1, 8, 8) for _ in range(2))
        total = 0.0
        for k in range(windows):
            x, y = rows[40 * k : 40 * k + 40], rows[40 * k + 1 : 40 * k + 41]
            logits, state = model(x, state)
            state = tuple(part.detach() for part in state)
            cost = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()) * 40
            model.zero_grad()
            cost.backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
            factor = min(1.0, max_grad_norm / norm) if max_grad_norm else 1.0
            assert not max_grad_norm or factor < 1  # else the test would show nothing
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.05 * factor * parameter.grad
            total += float(cost.detach())
        assert metrics["train_perplexity"] == pytest.approx(math.exp(total / (windows * 40)), rel=1e-5)
    for (name, a), b in zip(run.model.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), name


def test_the_weights_kept_and_tested_are_those_of_the_best_epoch(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = gw.train("demo", data=corpus, out=tmp_path / "two", overrides=TINY)
    figures = iter([5.0, 3.0, 4.0, 3.0])
    monkeypatch.setattr(LanguageModelling, "validate", lambda self: ({"valid_perplexity": 0.0}, next(figures)))
    four = gw.train("demo", data=corpus, out=tmp_path / "four", overrides={**TINY, "training.epochs": 4})
    assert four.metrics["best_epoch"] == 2
    assert four.metrics["test_perplexity"] == two.metrics["test_perplexity"]
    assert (four.path / "model.safetensors").read_bytes() == (two.path / "model.safetensors").read_bytes()


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: set[int]) -> None:
    """Make the cost of some calls NaN."""
    honest, calls = LanguageModelling.cost, iter(range(10**6))

    def cost(self: LanguageModelling, inputs: Any) -> tuple[torch.Tensor, float]:
        value, units = honest(self, inputs)
        return (value * float("nan") if next(calls) in bad_steps else value), units

    monkeypatch.setattr(LanguageModelling, "cost", cost)


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {3, 4, 20})
    metrics = train(corpus, tmp_path / "run", training__epochs=1)
    assert metrics[0]["skipped_steps"] == 3
    assert math.isfinite(metrics[0]["train_perplexity"])
    assert all(bool(p.isfinite().all()) for p in gw.load(tmp_path / "run").parameters())


def test_several_in_a_row_stop_training_and_keep_the_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, set(range(60, 10**6)))
    with pytest.raises(TrainingStopped, match="5 consecutive steps were not finite"):
        train(corpus, tmp_path / "run", training__epochs=3, training__max_bad_steps=5)
    checkpoint, damaged = load_newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert not damaged
    assert checkpoint.progress["step"] == 51  # the end of the first epoch
    assert all(bool(t.isfinite().all()) for name, t in checkpoint.tensors.items() if name.startswith("model."))


def test_the_carried_state_is_not_taken_from_a_skipped_step(corpus: Path, tmp_path: Path) -> None:
    from tests.training.rig import make_trainer

    trainer = make_trainer(corpus, tmp_path)
    trainer.workload.begin_epoch(1)
    before = trainer.workload.carried()
    honest = trainer.workload.cost
    trainer.workload.cost = lambda inputs: (honest(inputs)[0] * float("inf"), 1.0)  # type: ignore[method-assign]
    from gatewise.training.interrupt import InterruptGuard

    weights = [p.detach().clone() for p in trainer.making.parameters]
    trainer.step(InterruptGuard())
    assert all(torch.equal(before[k], t) for k, t in trainer.workload.carried().items())
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.making.parameters, strict=True))


def test_bf16_trains_to_nearly_the_same_figure(corpus: Path, tmp_path: Path) -> None:
    full = train(corpus, tmp_path / "fp32", training__epochs=1)[0]["valid_perplexity"]
    reduced = train(corpus, tmp_path / "bf16", training__epochs=1, training__precision="bf16")[0]["valid_perplexity"]
    assert reduced != full
    assert reduced == pytest.approx(full, rel=0.02)
    assert all(p.dtype == torch.float32 for p in gw.load(tmp_path / "bf16").parameters())


@pytest.mark.skipif("native" not in ENGINES, reason="the native engine was not built")
def test_high_is_asked_for_in_both_passes_of_a_step_and_trains_to_the_same_figure(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def watched(name: str) -> Callable[..., Any]:
        run = getattr(ENGINES["native"], name)

        def call(*arguments: Any) -> Any:
            seen.add((name, torch.get_float32_matmul_precision()))
            return run(*arguments)

        return call

    for name in ("forward", "backward"):
        monkeypatch.setattr(ENGINES["native"], name, watched(name))
    settings = {"training__epochs": 1, "runtime__engine": "native"}
    full = train(corpus, tmp_path / "fp32", **settings)[0]["valid_perplexity"]
    assert seen == {("forward", "highest"), ("backward", "highest")}
    seen.clear()
    high = train(corpus, tmp_path / "high", **settings, training__precision="high")[0]["valid_perplexity"]
    assert seen == {("forward", "high"), ("backward", "high"), ("forward", "highest")}  # the last of an evaluation
    assert high == pytest.approx(full, rel=1e-3)
    assert torch.get_float32_matmul_precision() == "highest"


def test_seeds_decide_the_result(corpus: Path, tmp_path: Path) -> None:
    a, b, c = (
        train(corpus, tmp_path / name, training__epochs=1, training__seed=seed)[0]["valid_perplexity"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert a == b
    assert a != c


def test_tensorboard_gets_the_curves(corpus: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(corpus, tmp_path / "run", logging__tensorboard=True, training__average_decay=0.9)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"train/loss", "epoch/valid_perplexity", "epoch/train_perplexity", "epoch/learning_rate"} <= set(
        events.Tags()["scalars"]
    )
    assert len(events.Scalars("epoch/valid_perplexity")) == 2
