"""Runs two programs on the same work in turns, each in its own process, so that peak memory is measured separately.

A runner is a module that calls ``serve(make)``. It reads one JSON object per line from standard input and answers each
with one on standard output: ``{"do": "check", "to": FILE}`` writes the tensors that must agree, ``{"do": "run",
"steps": N}`` answers the time of N steps in seconds, ``{"do": "peak"}`` the peak resident memory in bytes. If the work
raises an exception, the answer is ``{"failed": TRACEBACK}``.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn

SECONDS_A_TURN = 2.0  # short: the speed of a shared machine varies, and neighbouring turns are compared


class Work(Protocol):
    """The work of a runner."""

    def check(self, to: Path) -> None:
        """Do one step on fixed data and write every output that must agree."""

    def run(self, steps: int) -> float:
        """Do steps; return the seconds taken."""


@dataclass
class Comparison:
    """The result: steps per turn, seconds per step in each turn, and peak memory in MiB."""

    steps: int = 0
    ours_seconds: list[float] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)
    ours_peak_mib: float = 0.0
    peer_peak_mib: float = 0.0

    @property
    def ratio(self) -> float:
        """The speedup over the peer: the median over the turns of peer / ours."""
        return median(p / o for o, p in zip(self.ours_seconds, self.peer_seconds, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {**asdict(self), "ratio": self.ratio}


class RunnerFailed(RuntimeError):
    """A runner raised an exception, or its process ended.

    Attributes:
        module: the runner's module.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"a benchmark runner, {module}, failed: {reason}")
        self.module, self.reason = module, reason


class Runner:
    """A runner's process, controlled through its pipes."""

    def __init__(self, module: str, arguments: dict[str, Any], environment: dict[str, str]) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RunnerFailed(self._module, f"its process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            reason = answer["failed"].strip().splitlines()[-1]
            raise RunnerFailed(self._module, reason) from RuntimeError(answer["failed"])
        return answer

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def compare_in_turns(
    ours: str,
    peer: str,
    arguments: dict[str, Any],
    agree: Callable[[Path, Path], None],
    turns: int,
    environment: dict[str, str] | None = None,
) -> Comparison:
    """Check that two runners agree, then time them in turns.

    Args:
        ours: our runner's module.
        peer: the peer's module.
        arguments: passed to both.
        agree: compares the files that the two wrote, and raises if they differ.
        turns: number of timings of each; the order alternates.
        environment: additional environment variables for both processes.
    """
    comparison = Comparison()
    with (
        tempfile.TemporaryDirectory() as folder,
        Runner(ours, arguments, environment or {}) as us,
        Runner(peer, arguments, environment or {}) as them,
    ):
        files = Path(folder, "ours.safetensors"), Path(folder, "peer.safetensors")
        for runner, file in zip((us, them), files, strict=True):
            runner.ask(do="check", to=str(file))
        agree(*files)
        one = max(runner.ask(do="run", steps=2)["seconds"] / 2 for runner in (us, them))
        steps = comparison.steps = max(2, round(SECONDS_A_TURN / one))
        for turn in range(turns):
            sides = [(us, comparison.ours_seconds), (them, comparison.peer_seconds)]
            for runner, taken in sides if turn % 2 == 0 else reversed(sides):
                taken.append(runner.ask(do="run", steps=steps)["seconds"] / steps)
        comparison.ours_peak_mib, comparison.peer_peak_mib = (c.ask(do="peak")["bytes"] / 2**20 for c in (us, them))
    return comparison


def serve(make: Callable[[dict[str, Any]], Work]) -> None:
    """Act as a runner: answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep library output away from the answers
    work = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = _answer(work, json.loads(line))
        except Exception:  # the parent process raises it again
            answer = {"failed": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(work: Work, question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "check":
        work.check(Path(question["to"]))
        return {}
    if question["do"] == "run":
        return {"seconds": work.run(question["steps"])}
    return {"bytes": peak_memory()}


def write_cost_and_gradients(model: nn.Module, cost: torch.Tensor, to: Path) -> None:
    """Backpropagate from a cost, and write it with the gradient of each parameter by name."""
    cost.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    save_file({"cost": cost.detach(), **gradients}, to)


def peak_memory() -> int:
    """Return this process's peak resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux ru_maxrss is inherited, so a small child process would report its parent's peak
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
