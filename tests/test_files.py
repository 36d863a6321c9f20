"""Regular files alone are opened, pipes are copied, and nothing makes us wait or takes what it claims."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from gatewise import files
from gatewise.errors import DataError, UsageError
from gatewise.files import (
    available_memory,
    check_memory,
    check_unpacked,
    copied,
    open_regular,
    read_bounded,
    size,
    spooled,
)


def test_a_regular_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        with open_regular(tmp_path / name, "text") as file:
            assert file.read() == b"text"


def test_what_is_no_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("circle").symlink_to("circle")
    Path("zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name, message in {
            "pipe": r"pipe: a pipe, which can be read only once; expected a text, write it to a file first",
            "socket": r"socket: a socket; expected a text",
            "zero": r"zero: a device; expected a text",
            "/dev/tty": r"/dev/tty: (a device|cannot read it)",
            "folder": r"folder: cannot read it \(Is a directory\); expected a text",
            "circle": r"circle: cannot read it \(Too many levels of symbolic links\)",
            "none": r"none: cannot read it \(No such file or directory\)",
            "x" * 300: r"cannot read it \(File name too long\)",
            "a\0b": r"a\\x00b: cannot read it \(embedded null",
        }.items():
            with pytest.raises(DataError, match=message):
                open_regular(Path(name), "a text")
    with pytest.raises(UsageError, match="none: cannot read it"):
        open_regular(Path("none"), "a text", UsageError)


def test_what_becomes_a_pipe_between_looking_and_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening does not wait for a writer, and a second look refuses it."""
    path, look = tmp_path / "a", os.stat
    path.write_bytes(b"text")

    def exchange(name: str) -> os.stat_result:
        found = look(name)
        path.unlink()
        os.mkfifo(path)
        return found

    monkeypatch.setattr(os, "stat", exchange)
    with pytest.raises(DataError, match="a pipe, which can be read only once"):
        open_regular(path, "a text")


def test_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345678")
    assert read_bounded(tmp_path / "a", 8, "a text") == b"12345678"
    with pytest.raises(DataError, match="a: larger than 7 bytes; expected a short text"):
        read_bounded(tmp_path / "a", 7, "a short text")


def test_claims() -> None:
    check_unpacked("a", 10, files.UNPACKED_FREELY, "unpack it")
    large = files.UNPACKED_FREELY
    check_unpacked("a", large, large * files.MOST_SWELLING, "unpack it")
    with pytest.raises(
        DataError, match=r"a: 2 MiB that claim to decompress to 4 GiB; expected at most 100 times .*unpack it"
    ):
        check_unpacked("a", 2 << 20, 4 << 30, "unpack it")


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free = available_memory()
    assert free is None or free > 1 << 20
    check_memory("a", 1)
    monkeypatch.setattr(files, "available_memory", lambda: 3000)
    check_memory("a", 3000)
    with pytest.raises(
        DataError, match="a: reading it takes 4 KiB of memory, but only 2 KiB are free; expected a file that"
    ):
        check_memory("a", 4096)
    monkeypatch.setattr(files, "available_memory", lambda: None)
    check_memory("a", 1 << 60)


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0 bytes"), (1023, "1,023 bytes"), (3 << 20, "3 MiB"), (1 << 45, "32,768 GiB")]
)
def test_sizes(count: int, written: str) -> None:
    assert size(count) == written


def test_a_file_is_not_copied(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0")):
        with spooled(path) as given:
            assert given == path


def read_wrongly(pipe: Path) -> None:
    with spooled(pipe) as path:
        raise DataError(f"{path}:1: wrong")


def test_a_pipe_is_copied(tmp_path: Path) -> None:
    """One that a shell made, whose writer may have gone, and one that somebody opens later; errors bear its name."""
    with subprocess.Popen(["printf", "one two"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.wait()
        name = Path(f"/dev/fd/{process.stdout.fileno()}")
        with spooled(name) as path:
            assert path.read_bytes() == path.read_bytes() == b"one two"
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Timer(0.1, (tmp_path / "pipe").write_bytes, [b"x" * 300_000])
    writer.start()
    with spooled(tmp_path / "pipe") as path:
        assert path.read_bytes() == b"x" * 300_000
    writer.join()
    writer = threading.Timer(0.01, (tmp_path / "pipe").write_bytes, [b"word"])
    writer.start()
    with pytest.raises(DataError) as caught:
        read_wrongly(tmp_path / "pipe")
    assert str(caught.value) == f"{tmp_path / 'pipe'}:1: wrong"
    writer.join()
    assert not path.exists()


def test_a_pipe_that_nobody_writes_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: a pipe that nothing writes to"), spooled(tmp_path / "pipe"):
        pass


def test_a_stream_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_PIPE", 3 << 20)
    with (
        open("/dev/zero", "rb") as endless,
        pytest.raises(DataError, match="standard input: more than 3 MiB"),
        copied(endless, "standard input"),
    ):
        pass
