"""What is shown while training runs: a line every tenth where the output is no terminal, a bar where it is."""

import io
import os
import re
import threading
import time

import pytest
from rich.console import Console

from gatewise.training.progress import EpochProgress, Unbreakable, console_of, heartbeat, note, unbreakable


def show(total: int, done: int = 0, *, terminal: bool = False) -> str:
    text = io.StringIO()
    progress = EpochProgress(Console(file=text, force_terminal=terminal, width=100), "epoch 2/9", total, done)
    for step in range(done + 1, total + 1):
        progress.update(step, f"perplexity {step}.00")
    progress.close()
    return text.getvalue()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.training.progress.SECONDS_BETWEEN", 0)


def test_short_epochs_leave_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.training.progress.SECONDS_BETWEEN", 60)
    assert show(100) == ""


@pytest.mark.parametrize("total", [10, 37, 1000])
def test_a_plain_line_comes_every_tenth(total: int) -> None:
    lines = show(total).splitlines()
    assert [int(re.search(r"(\d+)%", line)[1]) for line in lines] == list(range(10, 101, 10))  # type: ignore[index]
    assert all(re.fullmatch(r"epoch 2/9 +\d+%  perplexity \d+\.00  0:00:0\d left", line) for line in lines)


def test_a_resumed_epoch_goes_on_counting_where_it_was() -> None:
    assert [line.split()[2] for line in show(100, done=70).splitlines()] == ["80%", "90%", "100%"]


def test_an_epoch_of_three_steps_has_three_lines() -> None:
    assert len(show(3).splitlines()) == 3


def test_a_terminal_gets_a_bar_with_the_same_figures() -> None:
    assert "perplexity 50.00" in show(50, terminal=True)


def test_a_slow_epoch_has_a_line_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of 1,000 steps of 4 seconds: a tenth takes 400 seconds."""
    text, clock = io.StringIO(), [0.0]
    monkeypatch.setattr("gatewise.training.progress.time.monotonic", lambda: clock[0])
    progress = EpochProgress(Console(file=text, width=100), "epoch 1/1", 1000)
    shown = []
    for step in range(1, 101):
        clock[0] = 4.0 * step
        before = text.tell()
        progress.update(step, "loss 1")
        shown += [clock[0]] if text.tell() > before else []
    assert all(later - earlier <= 34 for earlier, later in zip([0.0, *shown], shown, strict=False))
    assert len(shown) <= 14 and "epoch 1/1    0%  loss 1" in text.getvalue()


def test_a_heartbeat_goes_on_while_something_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.training.progress.SECONDS_WITHOUT", 0.01)
    text = io.StringIO()
    with heartbeat(Console(file=text, width=100), "evaluating"):
        until = time.monotonic() + 5
        while text.getvalue().count("evaluating, 0:00:00 so far") < 3 and time.monotonic() < until:
            time.sleep(0.005)
    ended = text.getvalue()
    assert ended.count("evaluating, 0:00:00 so far") >= 3
    time.sleep(0.05)
    assert text.getvalue() == ended, "it ends with what it reports on"
    before = threading.active_count()
    with heartbeat(None, "evaluating"):
        assert threading.active_count() == before


def test_no_console_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    EpochProgress(None, "epoch 1/1", 10).update(5, "x")
    note(None, "x")
    assert capsys.readouterr() == ("", "")


def test_what_a_stream_cannot_write_is_escaped_or_dropped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    print("run 第一 ok", file=Unbreakable(stream), flush=True)
    assert raw.getvalue() == b"run \\u7b2c\\u4e00 ok\n"
    stream.close()
    print("more", file=Unbreakable(stream), flush=True)


def test_a_console_is_unbreakable_within_the_block_alone() -> None:
    """Rich ends the program on a broken pipe; it does again, after the block."""
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w", buffering=1)
    console = Console(file=pipe)
    with unbreakable(console):
        note(console, "said to nobody")
    assert console.file is pipe
    with pytest.raises(BrokenPipeError):
        pipe.close()


class Stream(io.StringIO):
    """A terminal, or what stands for one."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_where_progress_is_shown(
    progress: bool | None, terminal: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(terminal)
    monkeypatch.setattr("sys.stderr", stream)
    note(console_of(progress), "a line")
    assert stream.getvalue() == ("a line\n" if shown else "")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_place_to_show_progress(stream: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed if stream else None)
    assert console_of(None) is None


def test_a_console_is_taken_as_it_is() -> None:
    console = Console(file=io.StringIO())
    assert console_of(console) is console


@pytest.mark.parametrize(("progress", "shown"), [(None, True), (True, True), (False, False)])
def test_a_notebook_gets_plain_lines(
    progress: bool | None, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    note(console_of(progress), "a line")
    assert capsys.readouterr().out == ("a line\n" if shown else "")
