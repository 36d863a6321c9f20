"""Runs the command line inside the test process, as a separate process takes seconds to import torch."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewise.cli.main import run
from tests.conftest import TINY

TINY_OPTIONS = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
"""``TINY`` as command-line options."""


@dataclass(frozen=True)
class Result:
    """The result of a command: its exit status and the text of both streams."""

    status: int
    out: str
    err: str

    def check_refused(self, status: int, *fragments: str, progress: bool = False) -> None:
        """Check the status, an empty stdout, and a single clear line on stderr (after progress, if work had begun)."""
        assert self.status == status, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        if not progress:
            assert len(lines) == 1, self.err
        assert [line.startswith("gatewise: ") for line in lines] == [False] * (len(lines) - 1) + [True], self.err
        assert "Traceback" not in self.err
        for fragment in fragments:
            assert fragment in lines[-1]


class Gatewise:
    """Calls the command line and captures its output."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str | Path) -> Result:
        """Run ``gatewise ARGUMENTS``."""
        self._capture.readouterr()
        with pytest.raises(SystemExit) as left:
            run([str(argument) for argument in arguments])
        captured = self._capture.readouterr()
        assert isinstance(left.value.code, int)
        return Result(left.value.code, captured.out, captured.err)


@pytest.fixture
def gatewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Gatewise:
    """The ``gatewise`` command, called in the empty folder ``tmp_path`` on a terminal of 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gatewise"])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # otherwise Typer shows python -m pytest
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "GATEWISE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return Gatewise(capfd)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder: each file's bytes by its path, None for a folder, a pipe or a device."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
