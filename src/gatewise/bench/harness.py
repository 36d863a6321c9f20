"""The timing harness of all benchmarks: outputs are compared first, then all sides are timed in turns.

A side is a function that does a number of steps and returns their seconds: ``timeit.Timer(step).timeit`` in this
process, or ``Runner(make, arguments).run`` in a process of its own, whose peak memory is then its own too.
"""

import multiprocessing
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from gatewise.errors import GatewiseError, UsageError

TOLERANCE = {"fp32": 1e-4, "high": 1e-3, "bf16": 6e-2, "bf16 module": 6e-2}
"""Relative to the largest entry of each tensor; the summation order differs, and some factors have fewer bits."""

Side = Callable[[int], float]
"""Does a number of steps; returns the seconds taken."""


class OutputsDiffer(GatewiseError):
    """The sides do not compute the same result; nothing is timed."""


def agree(ours: Mapping[str, Any], peer: Mapping[str, Any], tolerance: float, what: str = "") -> None:
    """Compare arrays or tensors by name.

    Args:
        ours: our outputs.
        peer: the peer's.
        tolerance: relative to the largest entry of the peer's.
        what: what is compared, for the message.

    Raises:
        OutputsDiffer: they differ.
    """
    about = f"{what}: " if what else ""
    if set(ours) != set(peer):
        raise OutputsDiffer(f"{about}only one side has {', '.join(sorted(set(ours) ^ set(peer)))}; nothing is timed")
    for name in sorted(ours):
        a, b = (torch.as_tensor(side[name]).detach().double() for side in (ours, peer))
        gap = float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
        if not gap <= tolerance:
            raise OutputsDiffer(
                f"{about}{name} differs by {gap:.2e} of its largest entry; expected at most {tolerance}; "
                "nothing is timed"
            )


def in_turns(
    sides: Mapping[str, Side], turns: int, seconds: float = 2.0, *, steps: int | None = None
) -> tuple[int, dict[str, list[float]]]:
    """Time sides in turns, in alternating order: the speed of a shared machine varies, and neighbours are compared.

    Args:
        sides: the sides by name.
        turns: number of timings of each.
        seconds: duration of a timing, for the slowest side.
        steps: the steps of a timing; by default as many as fit into ``seconds``, found by a warm-up.

    Returns:
        The steps of a timing, and the seconds per step of each side, turn by turn.
    """
    if steps is None:
        steps = max(2, round(seconds / max(run(2) / 2 for run in sides.values())))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in sides if turn % 2 == 0 else reversed(list(sides)):
            taken[name].append(sides[name](steps) / steps)
    return steps, taken


def ratios(ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
    """Return ``ratio``, the median over the turns of peer / ours, and ``ratio_range``, its smallest and largest."""
    each = [p / o for o, p in zip(ours, peer, strict=True)]
    return {"ratio": median(each), "ratio_range": [min(each), max(each)]}


def row(
    work: str, against: str, ours: Sequence[float], peer: Sequence[float], target: str = "", **more: Any
) -> dict[str, Any]:
    """Return a row of a table: the work, the peer, the medians in milliseconds, the ratio and its target, and more."""
    medians = {"ours_ms": 1e3 * median(ours), "peer_ms": 1e3 * median(peer)}
    return {"work": work, "against": against, **medians, **ratios(ours, peer), "target": target, **more}


def line_of(row: Mapping[str, Any]) -> str:
    """Format a row as a line of text."""
    low, high = row["ratio_range"]
    times = f"{row['ours_ms']:>11.3f} ms{row['peer_ms']:>11.3f} ms" if "ours_ms" in row else " " * 28
    parts = {"share": "of the machine's products", "memory": "of it reading memory"}
    shares = "".join(f", {row[key]:.0%} {text}" for key, text in parts.items() if key in row)
    return (
        f"{row['work']:<42}{row['against']:<26}{times}{row['ratio']:>8.2f} "
        f"({low:.2f} to {high:.2f}; target {row['target'] or 'none'}){shares}"
    )


def circumstances(command: str) -> dict[str, str]:
    """Return what belongs to every result: the command, the machine, the date and the versions of the libraries."""
    date = datetime.now(timezone.utc).date().isoformat()
    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    return {"command": command, "machine": processor_name(), "date": date, **versions}


def processor_name() -> str:
    """Return the processor's name, as far as the system reports it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Work(Protocol):
    """The work of a runner; other methods answer ``Runner.ask``."""

    def run(self, steps: int) -> float:
        """Do steps; return the seconds taken."""


class RunnerFailed(RuntimeError):
    """A runner raised an exception, or its process ended.

    Attributes:
        runner: the function that made the runner's work.
        reason: the exception's last line, or the status of the process.
    """

    def __init__(self, runner: Callable[..., Any], reason: str) -> None:
        super().__init__(f"a benchmark runner, {runner.__module__}, failed: {reason}")
        self.runner, self.reason = runner, reason


class Runner:
    """A process of its own that does a side's work.

    Args:
        make: makes the work; it and its arguments are sent to the process.
        arguments: the arguments of ``make``.
        environment: additional environment variables of the process.

    Raises:
        UsageError: this is Windows, which does not report peak memory as Linux and macOS do.
    """

    def __init__(
        self, make: Callable[[Any], Work], arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        if os.name == "nt":
            raise UsageError("benchmarks measure peak memory as reported by Linux and macOS; run them there")
        self._make, start = make, multiprocessing.get_context("spawn")
        self._pipe, theirs = start.Pipe()
        self._process = start.Process(target=_serve, args=(theirs,), daemon=True)
        before = dict(os.environ)
        try:
            os.environ.update(environment or {})
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()
        self._pipe.send((make, arguments))

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the work, or ``peak_memory``.

        Raises:
            RunnerFailed: it raised an exception, which is the cause, or the process ended.
        """
        try:
            self._pipe.send((method, arguments))
            failed, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RunnerFailed(self._make, f"its process ended with status {self._process.exitcode}") from None
        if failed:
            raise RunnerFailed(self._make, answer.strip().splitlines()[-1]) from RuntimeError(answer)
        return answer

    def run(self, steps: int) -> float:
        """Do steps; return the seconds taken."""
        return float(self.ask("run", steps))

    @property
    def peak_mib(self) -> float:
        """The peak resident memory of the process in MiB."""
        return float(self.ask("peak_memory")) / 2**20

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """Make the work, then answer requests until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process gets it too, and ends this one
    work: Any = None
    make, given = pipe.recv()
    while True:
        method, arguments = pipe.recv()
        try:
            if work is None:
                work = make(given)
                del given  # not part of the work's memory
            answer = False, peak_memory() if method == "peak_memory" else getattr(work, method)(*arguments)
        except Exception:  # the parent process raises it again
            answer = True, traceback.format_exc()
        pipe.send(answer)


def peak_memory() -> int:
    """Return this process's peak resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux ru_maxrss is inherited, so a small child process would report its parent's peak
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
