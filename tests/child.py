"""A call in a child process with little memory or disk, so that what takes too much fails and the machine does not."""

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path


def in_child(call: Callable[[], object], megabytes: int = 0, largest_file: int = 0, seconds: int = 20) -> str:
    """Fork, limit, call, and return ``returned``, or the error's class and message; a signal is an error of the test.

    Args:
        call: what the child does.
        megabytes: of address space, beside what this process has.
        largest_file: bytes that one file may have.
        seconds: until the child is killed.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(seconds)
            if megabytes:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + (megabytes << 20)
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            if largest_file:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            call()
            told = "returned"
        except Exception as problem:
            told = f"{type(problem).__name__}: {problem}"
            if not type(problem).__module__.startswith("gatewise"):
                told += f"\n{traceback.format_exc()}"
        os.write(write, told.encode("utf-8", "backslashreplace")[:4096])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status), f"the child ended by signal {os.WTERMSIG(status)}"
    return told
