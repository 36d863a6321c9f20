"""Taking a run folder: one process at a time, and what killed ones left behind does not stand in the way."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gatewise as gw
from gatewise.artifact import lock
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import UsageError
from tests.artifact.children import child, wait
from tests.conftest import TINY_SCRATCH
from tests.training.processes import assert_same_end

LEFT_OVER = {".lock", ".holder", "..holder.7.part", ".gatewise-probe", ".config.toml.7.part", "traceback.txt"}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def train(comments: Path, out: Path, resume: bool = False) -> gw.Run:
    return gw.train("comments-scratch", data=comments, out=out, overrides=TINY_SCRATCH, resume=resume)


def test_a_folder_is_one_processs_until_it_dies(tmp_path: Path) -> None:
    """The kernel lets go, whatever the process was doing."""
    run = RunFolder(tmp_path / "run")

    def hold() -> None:
        with run.claim(resume=False):
            (tmp_path / "held").touch()
            time.sleep(60)

    pid = child(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.005)
    said = f"run is in use: process {pid} on .* is training there; wait until it ends, or choose another out"
    for attempt in (lambda: run.check_free(resume=True), lambda: run.claim(resume=True).__enter__()):
        with pytest.raises(UsageError, match=said):
            attempt()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert names(run.path) == {".lock", ".holder"}
    run.check_free(resume=False)
    with run.claim(resume=False):
        assert (run.path / ".holder").read_text().startswith(f"process {os.getpid()} on ")
    assert names(run.path) == {".lock"}


def test_two_runs_in_one_folder_the_second_is_refused(comments: Path, tmp_path: Path) -> None:
    """Both began while the folder was empty: the lock decides, or, once the first has ended, what it left there."""
    out, begin = tmp_path / "run", tmp_path / "begin"

    def race() -> None:
        while not begin.exists():
            time.sleep(0.001)
        train(comments, out)

    pids = [child(race) for _ in range(3)]
    begin.touch()
    assert sorted(wait(pid) for pid in pids) == [0, UsageError.exit_status, UsageError.exit_status]
    train(comments, tmp_path / "alone")
    assert_same_end(tmp_path / "alone", out)


@pytest.mark.parametrize(
    "left", [{name} for name in sorted(LEFT_OVER)] + [LEFT_OVER], ids=lambda left: "+".join(sorted(left))
)
def test_what_a_killed_process_left_counts_as_empty_and_is_swept(left: set[str], tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in left:
        (tmp_path / name).write_text("x")
    run.check_free(resume=False)
    with run.claim(resume=False):
        pass
    assert names(tmp_path) == {".lock"} | (left & {"traceback.txt"})


@pytest.mark.parametrize(
    "name", [".notes.7.part", ".config.toml.part", "config.toml.7.part", ".config.toml.x.part", ".x"]
)
def test_what_is_not_ours_is_neither_overlooked_nor_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match="is not empty and contains no run"):
        RunFolder(tmp_path).check_free(resume=False)
    (tmp_path / "config.toml").write_text("")
    with RunFolder(tmp_path).claim(resume=True):
        pass
    assert names(tmp_path) == {".lock", "config.toml", name}


def test_parts_of_checkpoints_and_figures_are_swept(tmp_path: Path) -> None:
    for name in ("config.toml", "checkpoints/.step-0000000003.safetensors.9.part", "figures/.confusion.png.9.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with RunFolder(tmp_path).claim(resume=True):
        pass
    assert names(tmp_path) == {".lock", "config.toml", "checkpoints", "figures"}


def test_killed_at_any_write_of_claiming_the_folder_is_taken_again(comments: Path, tmp_path: Path) -> None:
    """Killed at each fsync, rename and removal up to the first checkpoint, a run begins anew and ends the same."""
    train(comments, tmp_path / "whole")
    for k in range(15):
        out = tmp_path / str(k)
        pid = child(lambda out=out, k=k: killed_at(k, lambda: train(comments, out)))
        assert wait(pid) == -signal.SIGKILL
        train(comments, out, resume=(out / "config.toml").exists())
        assert_same_end(tmp_path / "whole", out)
        assert names(out) == names(tmp_path / "whole")


def killed_at(k: int, act: Callable[[], object]) -> None:
    """Act, and be killed at the kth call that changes the disk."""
    calls = iter(range(10**6))
    for name in ("fsync", "replace", "unlink", "mkdir"):
        honest = getattr(os, name)

        def call(*arguments: object, honest: Callable[..., None] = honest, **options: object) -> None:
            if next(calls) == k:
                os.kill(os.getpid(), signal.SIGKILL)
            honest(*arguments, **options)

        setattr(os, name, call)
    act()


def test_where_the_file_system_has_no_locks_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.FileLock, "acquire", fail)
    with RunFolder(tmp_path).claim(resume=False) as has_locks:
        assert not has_locks
    assert names(tmp_path) == set()
