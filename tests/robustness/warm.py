"""Children forked from one warm process: each runs one command, with a time limit and a memory limit. Linux only.

Starting Python and importing torch takes seconds, a fork a hundredth of one. Nothing here may run a tensor operation
in the parent, and no thread may be started there: a child of fork has only the thread that forked.
"""

import os
import sys

if "numpy" not in sys.modules:  # whose pool of threads, and torch's, would not survive the fork
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import gc
import importlib
import pkgutil
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

HARNESS_FAILED = 99
"""The exit status of a child whose own code, not the command, went wrong."""
MIB = 1 << 20
_ALSO = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.pyplot",
    "PIL.Image",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "torch._dynamo",
)
"""What commands import when they first need it."""


@dataclass(frozen=True)
class Job:
    """What a child does.

    Attributes:
        name: of the case.
        folder: made for the child, which runs in it; its output goes beside it, to ``FOLDER.out`` and ``FOLDER.err``.
        prepare: runs first, without limits.
        words: of the command line.
        enter: runs right before the command, within the limits.
        seconds: after which the child is killed.
        memory: bytes of address space beyond what the warm process has.
    """

    name: str
    folder: Path
    words: list[str]
    prepare: Callable[[], None] = lambda: None
    enter: Callable[[], None] = lambda: None
    seconds: float = 60.0
    memory: int = 1024 * MIB


@dataclass
class Ended:
    """How a child ended.

    Attributes:
        status: its exit status; below 0 the signal that ended it.
        hung: whether it was killed when its time was over.
        out: what the command printed.
        err: what it said.
        seconds: how long it took.
        peak: the most memory that it held, in bytes.
    """

    status: int
    hung: bool
    out: str
    err: str
    seconds: float
    peak: int


T = TypeVar("T")
Script = Generator[Job, Ended | None, T]
"""What runs one job after the other, told how each ended, and returns its finding."""


def warm_up() -> None:
    """Import all that a command may import, so that children need not."""
    if sys.platform != "linux":
        sys.exit("this needs Linux: pidfd_open, /proc and limits of memory")
    import torch

    torch.set_num_threads(1)
    # Lower-case modules import each other when they are first used.
    for package in ("artifact", "cli", "config", "data", "inspection", "models", "scratch", "tasks", "training"):
        found = importlib.import_module(f"gatewise.{package}")
        for module in pkgutil.iter_modules(found.__path__, f"{found.__name__}."):
            importlib.import_module(module.name)
    for module_name in _ALSO:
        importlib.import_module(module_name)
    sys.argv = ["gatewise"]
    os.environ["COLUMNS"] = "100"
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "GATEWISE_MIRROR", "RUST_BACKTRACE"):
        os.environ.pop(name, None)
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, all of the parent's memory


def run_scripts(scripts: Iterable[Script[T]], at_a_time: int) -> Iterator[T]:
    """Run scripts, so many children at a time; yield what they return, as they end."""
    waiting, running = iter(scripts), dict[int, _Running]()
    poll = select.poll()

    def go_on(script: Script[T], ended: Ended | None) -> Iterator[T]:
        try:
            child = _start(script.send(ended), script)
        except StopIteration as done:
            yield done.value
        else:
            running[child.descriptor] = child
            poll.register(child.descriptor, select.POLLIN)

    try:
        while True:
            while len(running) < at_a_time and (script := next(waiting, None)) is not None:
                yield from go_on(script, None)
            if not running:
                return
            soonest = min(child.deadline for child in running.values())
            for descriptor, _ in poll.poll(max(0.0, soonest - time.monotonic()) * 1000 + 1):
                child = running.pop(descriptor)
                poll.unregister(descriptor)
                yield from go_on(child.script, child.collect())
            for child in running.values():
                if time.monotonic() > child.deadline and not child.hung:
                    child.hung = True
                    os.kill(child.pid, signal.SIGKILL)
    finally:
        for child in running.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def run_child(job: Job) -> Ended:
    """Run one job."""

    def script() -> Script[Ended]:
        return (yield job)

    return next(run_scripts([script()], 1))


@dataclass
class _Running:
    job: Job
    script: Any
    pid: int
    descriptor: int
    began: float = field(default_factory=time.monotonic)
    hung: bool = False

    @property
    def deadline(self) -> float:
        return self.began + self.job.seconds + (30 if self.hung else 0)

    def collect(self) -> Ended:
        """Wait for the child's end and read what it left."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.descriptor)
        texts = []
        for end in ("out", "err"):
            path = _beside(self.job.folder, end)
            texts.append(path.read_bytes().decode("utf-8", "backslashreplace"))
            path.unlink()
        code = os.waitstatus_to_exitcode(status)
        if code == HARNESS_FAILED:
            raise RuntimeError(f"{self.job.name}: the harness itself failed:\n{texts[1]}")
        return Ended(code, self.hung, *texts, time.monotonic() - self.began, usage.ru_maxrss * 1024)


def _beside(folder: Path, end: str) -> Path:
    return folder.with_name(f"{folder.name}.{end}")


def _start(job: Job, script: Any) -> _Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        status = HARNESS_FAILED
        try:
            status = _child(job)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return _Running(job, script, pid, os.pidfd_open(pid))


def _child(job: Job) -> int:
    for number, end in enumerate(("out", "err"), 1):
        descriptor = os.open(_beside(job.folder, end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # Streams of their own: those of the parent may be a test runner's.
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(job.folder)
    job.prepare()
    from gatewise.cli.main import run

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + job.memory,) * 2)
    job.enter()
    try:
        run(job.words)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # as Python itself would end: a panic of a library in Rust is no Exception
        traceback.print_exc()
        status = 1
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()
