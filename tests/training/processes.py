"""Training in processes of its own, to be interrupted and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

ALONE = [sys.executable, "-m", "gatewise"]
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "gatewise"]


def start(words: list[str], launcher: list[str]) -> subprocess.Popen[str]:
    """Start ``gatewise train`` in a process of its own."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if launcher is PAIR else {})}
    return subprocess.Popen(
        [*launcher, "train", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(words: list[str], launcher: list[str] = ALONE) -> tuple[str, str]:
    """Run ``gatewise train`` to its end and return what it printed."""
    process = start(words, launcher)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def stop_after_a_checkpoint(
    words: list[str], run: Path, delay_s: float, number: signal.Signals, launcher: list[str] = ALONE
) -> tuple[int, str]:
    """Start, wait for a new checkpoint and then for a moment, send a signal; return the exit status and stderr."""
    before = newest(run)
    process = start(words, launcher)
    deadline = time.monotonic() + 120
    while newest(run) == before and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)
    time.sleep(delay_s)
    assert process.poll() is None, "training ended before it could be stopped; make it longer"
    if number == signal.SIGKILL:  # torchrun's workers too, which have sessions of their own
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        for pid in (process.pid, *map(int, workers)):
            os.kill(pid, number)
    else:
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
