"""Small files read with care: what is not as it should be is one line, and nothing is waited for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatewise.errors import DataError
from gatewise.reading import parse_json, read_json, read_text


def test_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeff中文\r\n".encode())
    assert read_text(tmp_path / "a", 11, "text", DataError) == "中文\r\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; expected text"),
        (Path.mkdir, "a folder, not a regular file; expected text"),
        (os.mkfifo, "a named pipe, not a regular file; expected text"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file; expected text"),
        (lambda path: path.symlink_to(path), r"cannot read it \(.*\); expected text"),
        (lambda path: path.write_bytes(b"x" * 11), "larger than 10 bytes; expected text"),
        (lambda path: (path.touch(), os.truncate(path, 1 << 33)), "larger than 10 bytes; expected text"),
    ],
    ids=["missing", "folder", "pipe", "device", "loop", "large", "sparse"],
)
def test_what_is_no_small_file(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(DataError, match=f"^{tmp_path}/a: {message}$"):
        read_text(tmp_path / "a", 10, "text", DataError)


def test_no_utf8_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\nb\n\xff")
    with pytest.raises(DataError, match="a:3: invalid UTF-8; expected text"):
        read_text(tmp_path / "a", 10, "text", DataError)


def test_json(tmp_path: Path) -> None:
    text = '{"a": [1, -2.5, null, true, "\\ud83d\\ude00\\u0000"], "": {}}'
    (tmp_path / "a").write_text(text)
    expected: Any = {"a": [1, -2.5, None, True, "\U0001f600\0"], "": {}}
    assert read_json(tmp_path / "a", 100, "JSON", DataError) == parse_json(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid JSON"),
        ("{", "invalid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
        ("[NaN]", "the number NaN is not finite"),
        ("[-Infinity]", "the number -Infinity is not finite"),
        ("[1e999]", "the number 1e999 is not finite"),
        ("9" * 100_000, "an integer of 100000 digits"),
        ('["\\ud800"]', "a lone surrogate"),
        ('{"\\udfff": 1}', "a lone surrogate"),
    ],
    ids=range(11),
)
def test_json_that_means_nothing(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
    (tmp_path / "a").write_text(text)
    with pytest.raises(DataError, match=f"^{tmp_path}/a: .*{message}.*; expected JSON$"):
        read_json(tmp_path / "a", 1 << 20, "JSON", DataError)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(ValueError, match=r"^invalid UTF-8$"):
        parse_json(b'{"\xff": 1}')


def test_infinities_are_read_where_they_are_asked_for() -> None:
    assert parse_json("[Infinity, 1e999]", infinite=True) == [float("inf")] * 2
