"""What a server's process takes, and what its metrics say."""

import os
from pathlib import Path


def memory(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process took."""
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def number(metrics: str, name: str) -> float:
    """Return a number in the text of ``/metrics``."""
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
