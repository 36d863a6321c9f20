"""Events in unattended runs: closed streams, a full disk, unexpected errors, and losses that are not finite."""

import errno
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
import gatewise.tasks.evaluate
import gatewise.tasks.train
from gatewise.artifact import atomic
from gatewise.cli.main import run as command_line
from gatewise.errors import TrainingStopped
from gatewise.inspection.runs import open_runs
from gatewise.inspection.training import draw_training, measure_training
from gatewise.tasks import regression
from gatewise.tasks.regression import Regression
from tests.artifact.children import child, wait
from tests.cli.conftest import Gatewise, contents
from tests.conftest import TINY_REGRESSOR, TINY_SCRATCH

SCRATCH = [word for key, value in TINY_SCRATCH.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def reader_gone(descriptor: int) -> None:
    """``gatewise … | head``, after head has exited."""
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(reading)


def disk_full(descriptor: int) -> None:
    """``gatewise … > log`` on a full disk."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)


def closed(descriptor: int) -> None:
    """``gatewise … 2>&-``."""
    os.close(descriptor)


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("become", [reader_gone, disk_full, closed])
def test_training_goes_on_when_nobody_can_be_told(
    become: Callable[[int], None], stream: str, comments: Path, tmp_path: Path
) -> None:
    """The run is finished, with status 0."""
    out = tmp_path / "run"

    def act() -> None:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            if stream in (name, "both"):
                become(descriptor)
                setattr(sys, name, None if become is closed else open(descriptor, "w", closefd=False))  # noqa: SIM115
        with pytest.raises(SystemExit) as left:
            command_line(["train", "comments-scratch", "--data", str(comments), "--out", str(out), *SCRATCH])
        assert left.value.code == 0
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.fstat(descriptor)  # no other file has taken the descriptor
            getattr(sys, name).flush()  # as the interpreter does at exit

    assert wait(child(act)) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("become", [reader_gone, disk_full, closed])
def test_an_error_keeps_its_status_when_nobody_can_be_told(become: Callable[[int], None], tmp_path: Path) -> None:
    def act() -> None:
        become(2)
        sys.stderr = None if become is closed else open(2, "w", closefd=False)  # type: ignore[assignment]  # noqa: SIM115
        with pytest.raises(SystemExit) as left:
            command_line(["evaluate", str(tmp_path / "none")])
        assert left.value.code == 4

    assert wait(child(act)) == 0


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("by a bug")


def test_the_traceback_of_an_unforeseen_error_is_kept_in_a_file(
    gatewise: Gatewise, comments: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's folder during training, otherwise in the cache; if nothing is writable, --debug is suggested."""
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gatewise_tasks("evaluate"), "evaluate", broken)
    before = contents(tiny_run)
    result = gatewise("evaluate", tiny_run)
    result.check_refused(1, "unforeseen: ZeroDivisionError: by a bug; the traceback is in ")
    kept = Path(result.err.strip().partition("the traceback is in ")[2])
    assert kept.parent == tmp_path / "cache" / "tracebacks"
    assert "Traceback (most recent call last)" in kept.read_text()
    assert kept.read_text().endswith("ZeroDivisionError: by a bug\n")
    assert contents(tiny_run) == before

    with monkeypatch.context() as here:
        here.setattr("gatewise.training.sentences.SentenceTrainer._step", broken)
        result = gatewise("train", "comments-scratch", "--data", comments, "--out", tmp_path / "run", *SCRATCH)
    result.check_refused(1, f"the traceback is in {tmp_path / 'run' / 'traceback.txt'}", progress=True)
    assert "in _step" not in result.err
    assert (tmp_path / "run" / "traceback.txt").read_text().endswith("ZeroDivisionError: by a bug\n")
    assert gatewise("train", "--out", tmp_path / "run", "--resume").status == 0

    monkeypatch.setattr(os, "fsync", full)
    gatewise("evaluate", tiny_run).check_refused(1, "by a bug; run again with --debug for the traceback")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_any_command_as_ctrl_c_does(
    name: str, gatewise: Gatewise, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, before = getattr(signal, name), signal.getsignal(getattr(signal, name))
    monkeypatch.setattr(gatewise_tasks("evaluate"), "evaluate", lambda *_, **__: signal.raise_signal(number))
    result = gatewise("evaluate", tiny_run)
    assert (result.status, result.out, result.err.strip()) == (130, "", "gatewise: interrupted")
    assert signal.getsignal(number) == before


def gatewise_tasks(name: str) -> Any:
    return getattr(gatewise.tasks, name)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_claims_a_checkpoint_only_where_there_is_one(
    comments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full from the kth write on, for each k: the message on the checkpoint is true, and resuming completes the run."""
    said = set[tuple[bool, ...]]()
    for k in range(2, 40):
        out, left = tmp_path / str(k), iter(range(k))

        def flush(descriptor: int, left: Any = left) -> None:
            if next(left, None) is None:
                full()

        with monkeypatch.context() as here:
            here.setattr(atomic.os, "fsync", flush)
            try:
                gw.train("comments-scratch", data=comments, out=out, overrides=TINY_SCRATCH)
            except TrainingStopped as stopped:
                line = str(stopped)
            else:
                break  # everything was written
        assert ("the last good checkpoint is kept in" in line) == any((out / "checkpoints").glob("step-*")), line
        assert ("resume with: gatewise.train" in line) == (out / "config.toml").exists(), line
        said.add(tuple(words in line for words in ("is kept in", "resume with", "start again")))
    assert k > 20
    assert said == {(False, False, True), (False, True, False), (True, True, False)}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "README.md"])
def test_a_folder_where_a_file_of_the_run_belongs_ends_training_in_one_line(
    name: str, gatewise: Gatewise, comments: Path, tmp_path: Path
) -> None:
    """The error names the obstacle and how to resume; resuming completes the run."""
    for out in ("whole", "run"):
        assert gatewise("train", "comments-scratch", "--data", comments, "--out", out, *SCRATCH).status == 0
    more = ("--set", "training.epochs=5")
    assert gatewise("train", "--out", "whole", "--resume", *more).status == 0
    path = tmp_path / "run" / name
    path.unlink()
    path.mkdir()
    result = gatewise("train", "--out", "run", "--resume", *more)
    result.check_refused(
        4, f"run/{name}: is a folder; expected a file of the run: move it elsewhere, then ", progress=True
    )
    path.rmdir()
    assert gatewise("train", "--out", "run", "--resume", *more).status == 0
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("ask", [lambda: torch.empty(10**15), lambda: np.empty(10**15), lambda: bytearray(10**15)])
def test_want_of_memory_is_one_line(
    ask: Callable[[], object], gatewise: Gatewise, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is not a bug in the program, so no traceback is saved."""
    monkeypatch.setattr(gatewise_tasks("evaluate"), "evaluate", lambda *_, **__: ask())
    gatewise("evaluate", tiny_run).check_refused(1, "not enough memory", "a smaller model.hidden_size")


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_run_that_ends_with_no_finite_figure_says_so(
    bad: float, gatewise: Gatewise, waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and status 1, now and when resumed; nothing is lost, and the curves can be drawn."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Regression, "validate", lambda self: ({"valid_rmse": bad}, bad))
    monkeypatch.setattr(regression, "scores", lambda model, part: {"rmse": bad, "mae": bad})
    settings = {**TINY_REGRESSOR, "data.columns": ["level"], "training.epochs": 2}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    out = tmp_path / "run"
    for again in (["sunspots", "--data", waves, *words], ["--resume"]):
        result = gatewise("train", *again, "--out", out)
        result.check_refused(1, f"test_rmse is {bad}: the model is of no use", progress=True)
    last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["valid_rmse"] for line in last] == [None] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_training(measure_training(open_runs([out], "training")), Figure())


def test_a_better_evaluation_after_one_that_was_no_number_is_kept(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the run was interrupted, and without infinity and NaN in the checkpoint."""
    figures = {"training.epochs": 3, **{k: v for k, v in TINY_REGRESSOR.items() if k != "training.epochs"}}
    for bad in (float("nan"), float("inf")):
        values = iter([bad, bad, 4.0, 3.0, bad, bad])  # of the last weights and of their average
        with monkeypatch.context() as here:
            here.setattr(Regression, "validate", lambda self, values=values: ({"valid_rmse": 1.0}, next(values)))
            overrides = {**figures, "data.columns": ["level"]}
            run = gw.train("sunspots", data=waves, out=tmp_path / str(bad), overrides=overrides)
        assert run.metrics["best_epoch"] == 2


def forbid_writing_below(folder: Path) -> None:
    """Make every change below a folder fail as on a read-only file system; applies to the whole process."""
    root = str(folder.resolve())
    names = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        elif event in names:
            path, writes = arguments[0], True
        else:
            return
        if writes and isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(root):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    sys.addaudithook(audit)


@pytest.mark.parametrize("name", ["tiny_run", "scratch_run", "classifier_run", "regressor_run", "tagger_run"])
def test_a_run_that_can_only_be_read_is_evaluated(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It can also be used, and drawn to another location."""
    run: Path = request.getfixturevalue(name)
    before = contents(run)
    texts = {"tiny_run": ["generate", str(run), "--max-tokens", "3"], "scratch_run": ["generate", str(run)]}
    (tmp_path / "in.txt").write_text("the dog\n")
    texts["tagger_run"] = ["tag", str(run), str(tmp_path / "in.txt")]
    texts["regressor_run"] = ["forecast", str(run), "--steps", "1"]
    commands = [["evaluate", str(run), "--json"], *filter(None, [texts.get(name)])]
    commands.append(["inspect", "training", str(run), "--out", str(tmp_path / "training.svg")])

    def act() -> None:
        forbid_writing_below(run)
        with pytest.raises(OSError, match="Read-only file system"):
            (run / "x").touch()
        for words in commands:
            with pytest.raises(SystemExit) as left:
                command_line(words)
            assert left.value.code == 0, words

    assert wait(child(act)) == 0
    assert contents(run) == before
    assert (tmp_path / "training.svg").is_file()
