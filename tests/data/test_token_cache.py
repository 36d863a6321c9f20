"""The cache of token ids: the right ids, made once, made anew where it is damaged."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gatewise.data import token_cache
from gatewise.data.text import read_lines
from gatewise.data.token_cache import cache_folder, file_hash, tokenize_file
from gatewise.data.vocabulary import EOS, UNK, Vocabulary
from gatewise.errors import DataError

WORDS = Vocabulary(["the", EOS, "dog", "ate", UNK])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfthe dog ate\r\n\nthe cat <unk>\nate")
    return path


def encoded(path: Path, vocabulary: Vocabulary) -> list[int]:
    return [index for line in read_lines(path) for index in vocabulary.encode_line(line)]


def entries(cache: Path) -> dict[str, tuple[int, int]]:
    """Return each file of the cache with what changes when it is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (cache / "tokens").iterdir()}


def test_ids(text: Path) -> None:
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) == [0, 2, 3, 1, 1, 0, 4, 4, 1, 3, 1]
    assert (found.unknown, found.oov_rate) == (1, 1 / 11)  # a written <unk> is no unknown word
    assert found.data_hash == file_hash(text) == hashlib.sha256(text.read_bytes()).hexdigest()


def test_ids_lie_on_disk_and_cannot_be_changed(text: Path, cache: Path) -> None:
    ids = tokenize_file(text, WORDS).ids
    assert isinstance(ids, np.memmap)
    assert Path(str(ids.filename)).parent == cache / "tokens"
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_cache_is_used_again(text: Path, cache: Path) -> None:
    first = tokenize_file(text, WORDS)
    before = entries(cache)
    again = tokenize_file(text, WORDS)
    assert entries(cache) == before and len(before) == 2
    assert again.ids.tolist() == first.ids.tolist()
    assert (again.unknown, again.data_hash) == (first.unknown, first.data_hash)


def test_same_content_elsewhere_uses_the_cache(text: Path, cache: Path, tmp_path: Path) -> None:
    tokenize_file(text, WORDS)
    before = entries(cache)
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    tokenize_file(copy, WORDS)
    assert entries(cache) == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def garble(path: Path) -> None:
    path.write_bytes(b"[\xff]")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (".bin", truncate),
        (".bin", lengthen),
        (".bin", Path.unlink),
        (".json", truncate),
        (".json", garble),
        (".json", Path.unlink),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("{}")),
        (".json", lambda path: path.write_text('{"tokens": "many", "unknown": 0}')),
    ],
)
def test_damaged_cache_is_made_anew(text: Path, cache: Path, kind: str, damage: Callable[[Path], object]) -> None:
    tokenize_file(text, WORDS)
    damage(next((cache / "tokens").glob(f"*{kind}")))
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) and found.unknown == 1
    assert {Path(name).suffix for name in entries(cache)} == {".bin", ".json"}


def test_other_vocabulary_level_or_text_gets_its_own_entry(text: Path, cache: Path) -> None:
    characters = Vocabulary(WORDS.tokens, "character")
    reordered = Vocabulary(["dog", EOS, "the", "ate", UNK])
    for vocabulary in (WORDS, characters, reordered, WORDS):
        assert tokenize_file(text, vocabulary).ids.tolist() == encoded(text, vocabulary)
    assert len(entries(cache)) == 6
    text.write_text("dog\n")
    assert tokenize_file(text, WORDS).ids.tolist() == [2, 1]
    assert len(entries(cache)) == 8


@pytest.mark.parametrize(("size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_ids_take_as_little_room_as_they_can(tmp_path: Path, size: int, dtype: type) -> None:
    vocabulary = Vocabulary([EOS, UNK, *map(str, range(size - 2))])
    path = tmp_path / "text.txt"
    path.write_text(f"{size - 3} 0\n")
    ids = tokenize_file(path, vocabulary).ids
    assert ids.dtype == dtype and ids.tolist() == [size - 1, 2, 0]


def test_large_text_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "_CHUNK", 8)
    path = tmp_path / "text.txt"
    path.write_text("the dog ate a cat\n" * 9 + "\n" * 20 + "dog " * 30)
    found = tokenize_file(path, WORDS)
    assert found.ids.tolist() == encoded(path, WORDS)
    assert (len(found.ids), found.unknown) == (9 * 6 + 20 + 31, 18)
    assert found.data_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.touch()
    for _ in range(2):  # not made yet, then from the cache
        with pytest.raises(DataError, match=r"text\.txt: the file is empty"):
            tokenize_file(path, WORDS)


def test_bad_text_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"the dog\nate \xff\n")
    with pytest.raises(DataError, match=r"text\.txt:2: "):
        tokenize_file(path, WORDS)
    assert entries(cache) == {}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot read it"):
        tokenize_file(tmp_path / "none.txt", WORDS)


def test_place_of_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.setenv("GATEWISE_CACHE", "~/kept")
    assert cache_folder() == Path.home() / "kept"
    monkeypatch.delenv("GATEWISE_CACHE")
    assert cache_folder().is_absolute() and "gatewise" in cache_folder().parts
