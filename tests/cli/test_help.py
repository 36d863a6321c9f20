"""Snapshots of the help of every command, so that interface changes show up in reviews."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gatewise.cli.main import app
from tests.cli.conftest import Gatewise

FOLDER = Path(__file__).parent / "help"


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield a command and its subcommands, each as the words after ``gatewise``."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


COMMANDS = {"-".join(("gatewise", *words)): words for words in walk(typer.main.get_command(app))}


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, gatewise: Gatewise) -> None:
    """The words of the help match the snapshot; the layout depends on the version of Typer."""
    result = gatewise(*COMMANDS[name], "--help")
    assert (result.status, result.err) == (0, "")
    command = " ".join(["gatewise", *COMMANDS[name], "--help"])
    assert result.out.split() == (FOLDER / f"{name}.txt").read_text(encoding="utf-8").split(), (
        f"the help has changed; where that is meant, renew it with: COLUMNS=100 {command} > tests/cli/help/{name}.txt"
    )


def test_no_help_of_a_command_that_is_gone() -> None:
    """Each snapshot belongs to a command."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(COMMANDS)
