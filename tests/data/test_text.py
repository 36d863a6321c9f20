"""Text files: found in a folder, read line by line whatever their ends, refused with their place."""

from pathlib import Path

import pytest

from gatewise.data.text import SPLITS, TextCorpus, find_split, read_lines
from gatewise.errors import DataError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a b\nc\n", ["a b", "c"]),
        (b"a b\nc", ["a b", "c"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\r\nb", ["a", "b"]),
        (b"\n\na\n\n", ["", "", "a", ""]),
        (b"\r\n\r\n", ["", ""]),
        (b"a\rb\n", ["a\rb"]),
        (b"a \xef\xbb\xbf\n\xef\xbb\xbfb\n", ["a \ufeff", "\ufeffb"]),
        ("a\x85b\u2028c\x0bd\n中文".encode(), ["a\x85b\u2028c\x0bd", "中文"]),
        (b"", []),
    ],
)
def test_lines(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert list(read_lines(path)) == lines


def test_bad_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("fine\nauch schön\n".encode() + b"caf\xe9 here\n")
    lines = read_lines(path)
    assert [next(lines), next(lines)] == ["fine", "auch schön"]
    with pytest.raises(DataError) as caught:
        next(lines)
    assert str(caught.value).startswith(f"{path}:3: byte 0xe9 ")


def test_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            list(read_lines(path))


def test_corpus_in_a_folder(tmp_path: Path) -> None:
    for name in SPLITS:
        (tmp_path / f"toy.{name}.txt").touch()
    (tmp_path / "toy.train.txt.bak").touch()
    (tmp_path / "README.txt").touch()
    for folder in (tmp_path, str(tmp_path)):
        found = TextCorpus.from_folder(folder)
        assert [found.split(name) for name in SPLITS] == [tmp_path / f"toy.{name}.txt" for name in SPLITS]


def test_bare_names(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").touch()
    assert find_split(tmp_path, "valid") == tmp_path / "valid.txt"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder"):
        TextCorpus.from_folder(tmp_path / "none")


def test_file_where_a_folder_should_be(tmp_path: Path) -> None:
    path = tmp_path / "toy.train.txt"
    path.touch()
    with pytest.raises(DataError, match=r"toy\.train\.txt: a file, where a folder"):
        TextCorpus.from_folder(path)


@pytest.mark.parametrize("missing", SPLITS)
def test_missing_split(tmp_path: Path, missing: str) -> None:
    for name in SPLITS:
        if name != missing:
            (tmp_path / f"toy.{name}.txt").touch()
    with pytest.raises(DataError, match=rf"no \*\.{missing}\.txt"):
        TextCorpus.from_folder(tmp_path)


def test_two_files_for_one_split(tmp_path: Path) -> None:
    for name in ("a.train.txt", "b.train.txt", "a.valid.txt", "a.test.txt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"2 files for the split train \(a\.train\.txt, b\.train\.txt\)"):
        TextCorpus.from_folder(tmp_path)
