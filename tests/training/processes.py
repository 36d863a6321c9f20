"""Training in processes of its own, to be interrupted and killed.

A command that is started imports torch, which takes seconds; one that is forked has it from the test's own process.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo  # which training imports; a child finds it there
from safetensors.torch import load_file

import gatewise.tasks.train  # noqa: F401  (likewise)
from gatewise.cli.main import run

ALONE = [sys.executable, "-m", "gatewise"]
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "gatewise"]
FORKED = ["forked"]
FORKED_PAIR = ["forked", "forked"]


class Forked:
    """``gatewise train`` in one or two children of this process, with as much of a ``Popen`` as the tests need."""

    def __init__(self, words: list[str], count: int) -> None:
        self.returncode: int | None = None
        self._streams = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        environment = {"OMP_NUM_THREADS": "1"}
        if count > 1:  # as torchrun sets it
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            environment |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.pids = [self._fork(words, {**environment, "RANK": str(k), "LOCAL_RANK": str(k)}) for k in range(count)]

    def _fork(self, words: list[str], environment: dict[str, str]) -> int:
        if pid := os.fork():
            return pid
        status: object = 99
        try:
            signal.alarm(300)  # a child that hangs ends
            os.environ |= environment
            torch.set_num_threads(1)
            for number, stream in enumerate(self._streams, 1):
                os.dup2(stream.fileno(), number)
            sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
            run(["train", *words])
        except SystemExit as left:
            status = left.code
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 98)

    def poll(self) -> int | None:
        """Return the first child's exit status once all have ended."""
        if self.returncode is None and os.waitid(os.P_PID, self.pids[-1], os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.communicate()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the children and return what they printed."""
        if self.returncode is None:
            self.returncode, *_ = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        for stream in self._streams:
            stream.seek(0)
        return self._streams[0].read(), self._streams[1].read()

    def send_signal(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for pid in self.pids:
            os.kill(pid, number)


def start(words: list[str], launcher: list[str]) -> "subprocess.Popen[str] | Forked":
    """Start ``gatewise train`` in a process of its own."""
    if launcher in (FORKED, FORKED_PAIR):
        return Forked(words, len(launcher))
    return subprocess.Popen(
        [*launcher, "train", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(words: list[str], launcher: list[str] = ALONE) -> tuple[str, str]:
    """Run ``gatewise train`` to its end and return what it printed."""
    process = start(words, launcher)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def stop_after_a_checkpoint(
    words: list[str], out: Path, delay_s: float, number: signal.Signals, launcher: list[str] = ALONE
) -> tuple[int | None, str]:
    """Start, wait for a new checkpoint and then for a moment, send a signal; return the exit status and stderr."""
    before = newest(out)
    process = start(words, launcher)
    deadline = time.monotonic() + 120
    while newest(out) == before and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)
    time.sleep(delay_s)
    assert process.poll() is None, "training ended before it could be stopped; make it longer"
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def newest(run: Path) -> str:
    """Return the name of the newest checkpoint, or nothing."""
    return max((path.name for path in (run / "checkpoints").glob("step-*")), default="")


def assert_same_end(a: Path, b: Path) -> None:
    """Two runs ended with equal bits: the best weights, and everything in the last checkpoint."""
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert newest(a) == newest(b)
    ours, theirs = (load_file(run / "checkpoints" / newest(run)) for run in (a, b))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.equal(theirs[name]), name
