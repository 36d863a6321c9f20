"""Text from elsewhere on a terminal and in one line, and errors that are such lines whatever they are made of."""

import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.errors import DataError, GatewiseError, RunError
from gatewise.printable import LONGEST_CELL, LONGEST_LINE, cell, for_terminal, one_line

ANYTHING = st.text(st.characters(categories=["C", "Z", "L", "P", "S", "N"]))
JOINERS = "\u200c\u200d"


@given(ANYTHING)
def test_nothing_commands_a_terminal(text: str) -> None:
    shown = for_terminal(text)
    for letter in shown:
        kind = unicodedata.category(letter)
        assert kind not in ("Cc", "Cs", "Zl", "Zp") or letter in "\n\t"
        assert unicodedata.bidirectional(letter) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert for_terminal(shown) == shown
    shown.encode()


@given(ANYTHING)
def test_one_line_is_one_short_line(text: str) -> None:
    for shown, longest in ((one_line(text), LONGEST_LINE), (cell(text), LONGEST_CELL)):
        assert len(shown.splitlines()) <= 1
        assert len(shown) <= longest
        assert not set(JOINERS) & set(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain café 中文 שלום", "plain café 中文 שלום"),
        ("a\x1b[31mred\x07", "a\\x1b[31mred\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\u2066\u2069\u061c\u200e", "\\u2066\\u2069\\u061c\\u200e"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\ufeffa\u200bb\xadc\U000e0041", "\\ufeffa\\u200bb\\xadc\\U000e0041"),
        ("caf\udce9.txt", "caf\\udce9.txt"),
        ("a\rb\x00", "a\\rb\\x00"),
    ],
)
def test_what_is_written_out(text: str, shown: str) -> None:
    assert for_terminal(text) == one_line(text) == cell(text) == shown


def test_lines_tabs_and_joiners() -> None:
    """A terminal may have them; an error, whose lines are counted and whose words are compared, may not."""
    text = "می\u200cخواهم\t👩\u200d🔬\n"
    assert for_terminal(text) == text
    assert one_line(text) == "می\\u200cخواهم\\t👩\\u200d🔬\\n"


def test_beginning_and_end_of_what_is_too_long() -> None:
    shown = one_line(f"data.csv:3: the label {'x' * 5000!r}; expected a string, fix this line")
    assert shown.startswith("data.csv:3: the label 'xxx") and shown.endswith("xxx'; expected a string, fix this line")
    assert len(shown) < 400
    shown = one_line("data.csv:1: found " + "'a', " * 5000 + "; name one with --set")
    assert shown.startswith("data.csv:1: found 'a'") and shown.endswith("; name one with --set")
    path = "/" + "/".join(["folder"] * 40)
    assert one_line(path) == path


def test_every_error_is_one_line() -> None:
    for kind in (GatewiseError, DataError, RunError):
        error = kind("a\nb\x1b[2J" + "x" * 10_000)
        assert str(error) == error.args[0] == one_line(str(error))
        assert str(error).startswith("a\\nb\\x1b[2Jxx")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(DataError(f"{DataError('a' + chr(10))} (more)")) == "a\\n (more)"
