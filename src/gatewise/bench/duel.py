"""Two programs at the same work in turns: each in a process of its own, so that each has its own peak of memory.

A contestant is a module that calls ``serve(make)``. It reads one JSON object a line on standard input and answers
with one on standard output: ``{"do": "check", "to": FILE}`` writes the tensors that must agree, ``{"do": "run",
"steps": N}`` answers the seconds that N steps took, ``{"do": "peak"}`` the peak of resident memory in bytes. Where the
work raises, the answer is ``{"failed": TRACEBACK}``.
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

SECONDS_A_TURN = 2.0  # short: a shared machine is faster and slower by turns, and neighbouring turns are compared


class Work(Protocol):
    """What a contestant does."""

    def check(self, to: Path) -> None:
        """Do one step on fixed data and write every output that must agree."""

    def run(self, steps: int) -> float:
        """Do steps; return the seconds they took."""


@dataclass
class Duel:
    """The result: steps a turn, seconds a step in each turn, and the peaks of memory in MiB."""

    steps: int = 0
    ours_seconds: list[float] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)
    ours_peak_mib: float = 0.0
    peer_peak_mib: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times faster we are: the median over the turns of peer / ours."""
        return median(p / o for o, p in zip(self.ours_seconds, self.peer_seconds, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "ratio": self.ratio}


class ContestantFailed(RuntimeError):
    """A contestant raised an error, or its process ended.

    Attributes:
        module: the contestant's.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"a contestant of the benchmark, {module}, failed: {reason}")
        self.module, self.reason = module, reason


class Contestant:
    """A contestant's process, spoken to over its pipes."""

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
        """Send one question and wait for its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ContestantFailed(self._module, f"its process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            reason = answer["failed"].strip().splitlines()[-1]
            raise ContestantFailed(self._module, reason) from RuntimeError(answer["failed"])
        return answer

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def fight(
    ours: str,
    peer: str,
    arguments: dict[str, Any],
    agree: Callable[[Path, Path], None],
    turns: int,
    environment: dict[str, str] | None = None,
) -> Duel:
    """Check that two contestants agree, then time them in turns.

    Args:
        ours: our module.
        peer: the peer's.
        arguments: given to both.
        agree: compares what the two wrote, and raises where they differ.
        turns: how often each is timed; who begins alternates.
        environment: variables for both processes, beside those of this one.
    """
    duel = Duel()
    with (
        tempfile.TemporaryDirectory() as folder,
        Contestant(ours, arguments, environment or {}) as us,
        Contestant(peer, arguments, environment or {}) as them,
    ):
        files = Path(folder, "ours.safetensors"), Path(folder, "peer.safetensors")
        for contestant, file in zip((us, them), files, strict=True):
            contestant.ask(do="check", to=str(file))
        agree(*files)
        one = max(contestant.ask(do="run", steps=2)["seconds"] / 2 for contestant in (us, them))
        steps = duel.steps = max(2, round(SECONDS_A_TURN / one))
        for turn in range(turns):
            sides = [(us, duel.ours_seconds), (them, duel.peer_seconds)]
            for contestant, taken in sides if turn % 2 == 0 else reversed(sides):
                taken.append(contestant.ask(do="run", steps=steps)["seconds"] / steps)
        duel.ours_peak_mib, duel.peer_peak_mib = (c.ask(do="peak")["bytes"] / 2**20 for c in (us, them))
    return duel


def serve(make: Callable[[dict[str, Any]], Work]) -> None:
    """Be a contestant: answer questions until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may stand among the answers
    work = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = _answer(work, json.loads(line))
        except Exception:  # whoever asked raises it again
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
    """Differentiate a cost and write it with the gradient of each parameter by name."""
    cost.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    save_file({"cost": cost.detach(), **gradients}, to)


def peak_memory() -> int:
    """Return this process's peak of resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands ru_maxrss down from the parent, so that a small child would show its parent's
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
