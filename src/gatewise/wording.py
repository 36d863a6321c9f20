"""How messages name what a user sets: as arguments of Python, or as options of the command line.

The library writes each message once, with these functions. They answer in Python's terms, and within
``on_command_line``, in which the ``gatewise`` command runs, in its own.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_commanded = [False]
"""Whether the process runs a command; not a context variable, which the threads of a command would not inherit."""


_finished = ContextVar("_finished", default=False)
"""Whether data is read for a finished run, whose settings no longer change."""


@contextmanager
def for_finished_run() -> Iterator[None]:
    """Within the block, ``selecting`` asks for data like the run's own instead of another setting."""
    before = _finished.set(True)
    try:
        yield
    finally:
        _finished.reset(before)


@contextmanager
def on_command_line() -> Iterator[None]:
    """Name options instead of arguments within the block."""
    before, _commanded[0] = _commanded[0], True
    try:
        yield
    finally:
        _commanded[0] = before


def option(name: str, value: Any = None, flag: str = "") -> str:
    """Return an argument that is an option of a command: ``out`` or ``--out``; ``steps=5`` or ``--steps 5``.

    The value True belongs to a switch: ``resume=True`` or ``--resume``. ``flag`` is the option's name if it differs:
    ``from`` is no name in Python.
    """
    if not _commanded[0]:
        return name if value is None else f"{name}={value}"
    flag = f"--{(flag or name).replace('_', '-')}"
    return flag if value is None or value is True else f"{flag} {value}"


def argument(name: str) -> str:
    """Return an argument that a command takes by its place: ``file`` or ``FILE``."""
    return name.upper() if _commanded[0] else name


def setting(key: str = "", value: Any = None) -> str:
    """Return how to set a dotted key: ``overrides={'data.column': 'NAME'}`` or ``--set data.column=NAME``.

    Without a key, return what takes all settings: ``overrides`` or ``--set``.
    """
    if not _commanded[0]:
        return f"overrides={{{key!r}: {value!r}}}" if key else "overrides"
    text = value if isinstance(value, str) else shlex.quote(json.dumps(value))
    return f"--set {key}={text}" if key else "--set"


def selecting(key: str, value: Any) -> str:
    """Return the advice on a column that is missing: how to select another one or, for a finished run, to rename it."""
    if _finished.get():
        return "expected the column that the run was trained on; rename it"
    return f"select one with {setting(key, value)}"


def train_again(out: str) -> str:
    """Return the call that resumes a run: ``gatewise.train(out='runs/a', resume=True)`` or the command."""
    if _commanded[0]:
        return f"gatewise train --out {shlex.quote(out)} --resume"
    return f"gatewise.train(out={out!r}, resume=True)"
