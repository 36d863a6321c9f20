"""Writing a file: the old one or the new one, never a part of either."""

import errno
import os
import stat
from pathlib import Path

import pytest

from gatewise.artifact.atomic import write_atomically


@pytest.mark.parametrize(
    ("content", "found"),
    [("中文\r\n", "中文\r\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b""), ([b"a", memoryview(b"bc")], b"abc")],
)
def test_new_file(tmp_path: Path, content: str | bytes | list[bytes | memoryview], found: bytes) -> None:
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == found
    assert os.listdir(tmp_path) == ["file"]


def test_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("the old one, which is longer")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def fail_with_full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("there", [True, False])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, there: bool) -> None:
    path = tmp_path / "file"
    if there:
        path.write_text("old")
    monkeypatch.setattr(os, step, fail_with_full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"file": "old"} if there else {})


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "old"}


def test_content_is_flushed_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def note_replace(old: Path, new: Path) -> None:
        calls.append(f"replace with {old.read_text()}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(tmp_path / "file", "new")
    assert calls == ["fsync file", "replace with new", "fsync folder"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", "new")
