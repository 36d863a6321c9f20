"""Runs cut off where it matters: before an evaluation, in it, in the last scoring; gone on with, they end the same."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gatewise as gw
import gatewise.tasks.train
from gatewise.errors import Interrupted
from gatewise.scratch import ScratchModel
from gatewise.tasks import classification
from gatewise.tasks.classification import Classification
from tests.conftest import TINY_CLASSIFIER, TINY_SCRATCH
from tests.training.processes import assert_same_end

SMALL = {
    **TINY_CLASSIFIER,
    "data.batch_size": 30,  # three steps an epoch
    "model.hidden_size": 3,
    "runtime.threads": 1,
    "training.checkpoint_every": 0,
    "training.eval_every": 0,
}
LENGTHS = {
    "epochs": {"training.max_steps": 0, "training.epochs": 2},
    "epochs, evaluated within": {"training.max_steps": 0, "training.epochs": 2, "training.eval_every": 2},
    "steps": {"training.max_steps": 4},
    "whole epochs of steps": {"training.max_steps": 6},
    "steps, evaluated": {"training.max_steps": 4, "training.eval_every": 3},
    "cosine": {"training.max_steps": 4, "training.schedule": "cosine", "training.eval_every": 2},
    "plateau": {
        "training.max_steps": 6,
        "training.schedule": "plateau",
        "training.lr_decay": 0.5,
        "training.plateau_patience": 1,
        "training.eval_every": 1,
        "training.learning_rate": 0.5,
    },
    "steps, averaged": {"training.max_steps": 4, "training.average_decay": 0.9, "model.dropout": 0.3},
}


FOUR = {"training.max_steps": 4, "training.eval_every": 2, "training.checkpoint_every": 30}


class Killed(BaseException):
    """Stands for a kill: nothing of the run goes on after it."""


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine fails in these tests, so that nothing need wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(sequences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that nothing disturbed."""
    return train(sequences, tmp_path_factory.mktemp("whole") / "run", **FOUR).path


def train(sequences: Path, out: Path, **settings: Any) -> gw.Run:
    return gw.train("mnist-rows", data=sequences, out=out, overrides={**SMALL, **settings})


def cut(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, act: Callable[[], None]) -> None:
    """Act when a function is called for the nth time, before it does anything."""
    honest, calls = getattr(owner, name), iter(range(10**6))

    def run(*arguments: Any) -> Any:
        if next(calls) == call:
            act()
        return honest(*arguments)

    monkeypatch.setattr(owner, name, run)


def kill() -> None:
    raise Killed


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in found]


def assert_same_run(whole: Path, other: Path) -> None:
    assert_same_end(whole, other)
    assert lines(whole) == lines(other)
    assert not list(other.rglob("*.part"))


@pytest.mark.parametrize("settings", LENGTHS.values(), ids=LENGTHS)
def test_killed_before_any_evaluation_and_before_the_last_scoring(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """With a checkpoint after each step, the newest one is that of the step before the evaluation."""
    undisturbed = train(sequences, tmp_path / "whole", **settings).path
    for call in range(len(lines(undisturbed)) - 1):
        out = tmp_path / str(call)
        with monkeypatch.context() as here:
            cut(here, Classification, "validate", call, kill)
            with pytest.raises(Killed):
                train(sequences, out, **settings)
        gw.train(out=out, resume=True)
        assert_same_run(undisturbed, out)
    with monkeypatch.context() as here:
        cut(here, classification, "evaluate_part", 0, kill)
        with pytest.raises(Killed):
            train(sequences, tmp_path / "last", **settings)
    gw.train(out=tmp_path / "last", resume=True)
    assert_same_run(undisturbed, tmp_path / "last")


def test_more_steps_are_asked_of_a_finished_run(sequences: Path, whole: Path, tmp_path: Path) -> None:
    """Its evaluation at the old end stays; then it is the longer run's, step by step."""
    train(sequences, tmp_path / "short", **{**FOUR, "training.max_steps": 2})
    gw.train(out=tmp_path / "short", resume=True, overrides={"training.max_steps": 4})
    assert_same_run(whole, tmp_path / "short")


MOMENTS = {
    "reading": (
        gatewise.tasks.train,
        "read_task",
        0,
        "no checkpoint has been saved yet; start again in the same way",
    ),
    "step": (
        Classification,
        "cost",
        3,
        "interrupted in epoch 2, step 1 of 3; saved; resume with: gatewise.train",
    ),
    "evaluation": (Classification, "validate", 0, "before the evaluation after step 2; saved; resume with"),
    "last evaluation": (Classification, "validate", 1, "before the evaluation after step 4; saved; resume with"),
    "writing": (Classification, "save_best", 0, "interrupted after the evaluation of step 2; saved; resume with"),
    "scoring": (classification, "evaluate_part", 0, "interrupted; the last good checkpoint is kept in .*; resume with"),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [*((moment, signal.SIGTERM) for moment in MOMENTS), ("step", signal.SIGINT), ("scoring", signal.SIGHUP)],
)
def test_a_signal_ends_a_run_at_any_moment_and_nothing_is_lost(
    sequences: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    number: signal.Signals,
) -> None:
    out, before = tmp_path / "cut", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    owner, name, call, said = MOMENTS[moment]
    with monkeypatch.context() as here:
        cut(here, owner, name, call, lambda: signal.raise_signal(number))
        with pytest.raises(Interrupted, match=said):
            train(sequences, out, **FOUR)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert not list(out.rglob("*.part"))
    if moment == "reading":
        assert not out.exists()
        return
    gw.train(out=out, resume=True)
    assert_same_run(whole, out)


@pytest.mark.parametrize("moment", ["step", "nll"])
def test_a_signal_ends_a_scratch_run_in_its_last_epoch(
    comments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def run(out: Path) -> gw.Run:
        return gw.train("comments-scratch", data=comments, out=out, overrides=TINY_SCRATCH)

    undisturbed = run(tmp_path / "whole")
    with monkeypatch.context() as here:
        cut(here, ScratchModel, moment, 2 if moment == "nll" else 17, lambda: signal.raise_signal(signal.SIGHUP))
        with pytest.raises(Interrupted, match=r"saved; resume with: gatewise\.train"):
            run(tmp_path / "cut")
    gw.train(out=tmp_path / "cut", resume=True)
    assert_same_run(undisturbed.path, tmp_path / "cut")


def test_a_second_signal_acts_at_once_but_a_second_hangup_is_the_first_one_again(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(number: signal.Signals) -> Callable[[], None]:
        return lambda: [signal.raise_signal(number) for _ in range(2)] and None

    for number, said in (
        (signal.SIGTERM, "interrupted; the last good checkpoint"),
        (signal.SIGHUP, "interrupted in epoch 2, st"),
    ):
        with monkeypatch.context() as here:
            cut(here, Classification, "cost", 3, twice(number))
            with pytest.raises(Interrupted, match=said):
                train(sequences, tmp_path / number.name, **FOUR)


def test_an_ignored_hangup_stays_ignored(sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for owner, name in ((Classification, "cost"), (Classification, "validate"), (classification, "evaluate_part")):
            cut(monkeypatch, owner, name, 0, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert train(sequences, tmp_path / "run", **{"training.max_steps": 3}).metrics["test_tokens"] == 30
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
