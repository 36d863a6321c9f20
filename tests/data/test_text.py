"""Text files: found in a folder, read line by line whatever their ends, refused with their place."""

import os
from pathlib import Path

import pytest

from gatewise.data.text import SPLITS, TextCorpus, find_split, read_lines
from gatewise.errors import DataError
from tests.child import in_child


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


@pytest.mark.parametrize("name", ["val", "dev", "validation"])
def test_other_names_of_the_validation_text(tmp_path: Path, name: str) -> None:
    for split in ("train", name, "test"):
        (tmp_path / f"a.{split}.txt").touch()
    assert find_split(tmp_path, "valid") == tmp_path / f"a.{name}.txt"
    (tmp_path / "valid.txt").touch()
    with pytest.raises(DataError, match=rf"2 files for the split valid \(a\.{name}\.txt, valid\.txt\); expected one"):
        find_split(tmp_path, "valid")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder"):
        TextCorpus.from_folder(tmp_path / "none")


def test_file_where_a_folder_should_be(tmp_path: Path) -> None:
    path = tmp_path / "toy.train.txt"
    path.touch()
    with pytest.raises(DataError, match=r"toy\.train\.txt: a file; expected a folder"):
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


@pytest.mark.parametrize("kept", [False, True])
def test_a_sparse_file_is_one_line_too_long(tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    os.truncate(path, 1 << 32)
    monkeypatch.setattr("gatewise.data.text.LONGEST_LINE", 1 << 21)
    monkeypatch.setattr("gatewise.data.text.LONGEST_RECORD", 1 << 20)
    found = in_child(lambda: list(read_lines(path, kept=kept)), megabytes=20)
    assert found.startswith(f"DataError: {path}:1: line of more than {1 if kept else 2} MiB; expected shorter lines")


def test_the_longest_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is counted with it; what is kept has a limit of its own, and the memory there is."""
    path = tmp_path / "a.txt"
    monkeypatch.setattr("gatewise.data.text.LONGEST_LINE", 6)
    path.write_bytes(b"a\n12345\n123456")
    assert list(read_lines(path)) == ["a", "12345", "123456"]
    path.write_bytes(b"a\n123456\n")
    with pytest.raises(DataError, match=r"a\.txt:2: line of more than 6 bytes"):
        list(read_lines(path))
    assert list(read_lines(path, kept=True)) == ["a", "123456"]
    monkeypatch.setattr("gatewise.files.available_memory", lambda: 8)
    with pytest.raises(DataError, match=r"a\.txt: reading it takes 9 bytes of memory, but only 8 bytes are free"):
        list(read_lines(path, kept=True))


def test_text8_is_read() -> None:
    """A corpus that people use, 100 MB of it, is a single line."""
    from gatewise.files import LONGEST_LINE

    assert LONGEST_LINE > 100_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the dog".encode("utf-16"), r"a\.txt:1: byte 0xff is not valid UTF-8"),
        (b"a\n" + "the dog\n".encode("utf-16-le"), r"a\.txt:2: null byte, perhaps UTF-16; expected UTF-8 text"),
        (b"fine\n\0\n", r"a\.txt:2: null byte"),
        (b"the\rdog\rate", r"a\.txt: lines end in CR only; expected LF or CRLF, convert the file"),
        (b"the\rdog\r", r"a\.txt: lines end in CR only"),
        (b"a\n\xed\xa0\x80\n", r"a\.txt:2: byte 0xed is not valid UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_lines(tmp_path / "a.txt"))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.train.txt")
    with pytest.raises(DataError, match=r"a\.train\.txt: a pipe, which can be read only once; expected a text file"):
        next(read_lines(find_split(tmp_path, "train")))
    with pytest.raises(DataError, match="/dev/zero: a device; expected a text file"):
        next(read_lines(Path("/dev/zero")))
    for path in (Path("x" * 300), Path("a\0b"), tmp_path / "a.train.txt" / "b"):
        with pytest.raises(DataError, match="no such folder"):
            find_split(path, "train")
