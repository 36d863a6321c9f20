"""Messages name arguments in Python, and options on the command line; nothing but ``wording`` writes an option."""

import ast
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatewise as gw
from gatewise.wording import argument, on_command_line, option, setting, train_again
from tests.conftest import REPOSITORY

SOURCES = REPOSITORY / "src" / "gatewise"
COMMANDS = {"wording.py", "artifact/card.py", "data/corpora.py"}
"""Files that write whole commands: for the model card, and for what to do after a download."""


def test_in_python() -> None:
    assert option("out") == "out"
    assert option("max_tokens", 5) == "max_tokens=5"
    assert option("resume", True) == "resume=True"
    assert argument("file") == "file"
    assert setting() == "overrides"
    assert setting("data.column", "NAME") == "overrides={'data.column': 'NAME'}"
    assert setting("data.columns", ["NAME"]) == "overrides={'data.columns': ['NAME']}"
    assert train_again("runs/a b") == "gatewise.train(out='runs/a b', resume=True)"


def test_on_the_command_line_and_in_its_threads() -> None:
    found = list[str]()
    with on_command_line():
        assert option("out") == "--out"
        assert option("max_tokens", 5) == "--max-tokens 5"
        assert option("resume", True) == "--resume"
        assert argument("file") == "FILE"
        assert setting() == "--set"
        assert setting("data.column", "NAME") == "--set data.column=NAME"
        assert setting("data.columns", ["NAME"]) == """--set data.columns='["NAME"]'"""
        assert train_again("runs/a b") == "gatewise train --out 'runs/a b' --resume"
        thread = threading.Thread(target=lambda: found.append(option("to")))
        thread.start()
        thread.join()
    assert found == ["--to"]
    assert option("out") == "out"


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every string of a module that is not a docstring, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def files() -> list[Path]:
    every = sorted(SOURCES.rglob("*.py"))
    return [path for path in every if path.relative_to(SOURCES).parts[0] not in ("cli", "bench")]


def test_no_other_module_writes_an_option() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{line}: {text}"
        for path in files()
        if path.relative_to(SOURCES).as_posix() not in COMMANDS
        for line, text in strings(path)
        if any(text[place + 2 : place + 3].islower() for place in range(len(text)) if text[place : place + 2] == "--")
    ]
    assert found == []


def test_every_name_is_put_in() -> None:
    """A string without its f would show the call."""
    for path in files():
        assert not [text for _, text in strings(path) if "{option(" in text or "{setting(" in text], path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "resume=True requires out: the folder of the run to resume"),
        ({"overrides": {"epochs": 1}}, r"expected SECTION\.KEY, such as overrides=\{'training\.epochs': 1\}"),
        ({"overrides": {"training.epochs": "x"}}, r"^overrides: training\.epochs is 'x'"),
        ({"recipe": "tagger"}, "the recipe names no data; add data=PATH, a file or a folder of tagged sentences"),
    ],
)
def test_errors_in_python(options: dict[str, object], message: str) -> None:
    with pytest.raises(gw.UsageError, match=message):
        gw.train(**options)  # type: ignore[arg-type]


def test_a_folder_in_use_in_python(tiny_run: Path) -> None:
    with pytest.raises(
        gw.UsageError, match="contains another run; add resume=True to continue it, or choose another out"
    ):
        gw.train("demo", out=tiny_run)
