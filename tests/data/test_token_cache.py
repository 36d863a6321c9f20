"""The cache of token ids: the right ids, made once, made anew where it is damaged."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gatewise.data import token_cache
from gatewise.data.text import read_lines
from gatewise.data.token_cache import cache_folder, tokenize_file
from gatewise.errors import DataError
from gatewise.files import file_hash
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary

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


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def become(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what puts something else in a file's place."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def link_elsewhere(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_text("mine")
    become(lambda place: place.symlink_to(path.parent.parent / "elsewhere"))(path)


def forge(path: Path) -> None:
    """Put ids into the cache that the vocabulary does not have, and their right hash."""
    content = np.array([0, 2, 3, 1, 1, 0, 4, 4, 1, 3, 5], np.uint16).tobytes()
    path.write_bytes(content)
    facts = {"tokens": 11, "unknown": 1, "sha256": hashlib.sha256(content).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (".bin", truncate),
        (".bin", lengthen),
        (".bin", Path.unlink),
        (".bin", zero),
        (".bin", flip),
        (".bin", forge),
        (".bin", become(os.mkfifo)),
        (".bin", link_elsewhere),
        (".json", become(os.mkfifo)),
        (".json", link_elsewhere),
        (".json", become(lambda path: path.symlink_to("/dev/zero"))),
        (".json", lambda path: path.write_text("[" * 100_000)),
        (".json", lambda path: path.write_text('{"tokens": 11, "unknown": 1}')),
        (".json", lambda path: path.write_text(path.read_text().replace('"unknown": 1', '"unknown": 12'))),
        (".json", lambda path: path.write_text(path.read_text().replace('"unknown": 1', '"unknown": -1'))),
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


@pytest.mark.parametrize("kind", [".bin", ".json"])
def test_a_folder_in_the_place_of_a_file(text: Path, cache: Path, kind: str) -> None:
    tokenize_file(text, WORDS)
    become(Path.mkdir)(next((cache / "tokens").glob(f"*{kind}")))
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) and found.unknown == 1
    assert found.not_kept is not None and "set GATEWISE_CACHE to a writable folder" in found.not_kept
    assert not list((cache / "tokens").glob("*.part"))


def test_a_cache_that_cannot_be_made_costs_nothing_but_time(text: Path, cache: Path) -> None:
    cache.write_text("a file")
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) and found.unknown == 1
    assert found.ids.dtype == np.uint16 and not found.ids.flags.writeable
    assert found.not_kept is not None and "\n" not in found.not_kept
    assert str(cache) in found.not_kept and "GATEWISE_CACHE" in found.not_kept
    assert cache.read_text() == "a file"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk(text: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) and found.unknown == 1
    assert found.not_kept is not None and "No space left on device" in found.not_kept
    assert entries(cache) == {}


def test_files_are_flushed_before_they_are_put_in_their_place(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync, replace = list[str](), os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(Path(b).suffix), replace(a, b)))
    tokenize_file(text, WORDS)
    assert calls == ["fsync", ".bin", "fsync", ".json"]


def test_two_at_once(text: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, others = os.replace, iter([True])

    def with_another_between(a: str, b: Path) -> None:
        if next(others, False):
            assert tokenize_file(text, WORDS).ids.tolist() == encoded(text, WORDS)
        replace(a, b)

    monkeypatch.setattr(os, "replace", with_another_between)
    found = tokenize_file(text, WORDS)
    assert found.ids.tolist() == encoded(text, WORDS) and found.not_kept is None
    assert len(entries(cache)) == 2


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
