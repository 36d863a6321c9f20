"""Processes forked from the test's own, which has imported everything, to be killed."""

import os
from collections.abc import Callable

import torch

from gatewise.errors import GatewiseError


def child(act: Callable[[], object]) -> int:
    """Fork a process that acts and ends with 0, or with the status of an error; return its number."""
    if pid := os.fork():
        return pid
    status = 99
    try:
        torch.set_num_threads(1)
        act()
        status = 0
    except GatewiseError as error:
        status = error.exit_status
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """Return a child's exit status, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
