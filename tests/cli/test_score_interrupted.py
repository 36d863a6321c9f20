"""``gatewise score`` that is killed or interrupted, or whose disk is full: run again, it ends with equal bytes."""

import errno
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gatewise.artifact.lock import HOLDER
from gatewise.predict.score import score
from tests.artifact.children import child, wait
from tests.child import in_child
from tests.cli.conftest import Gatewise, contents
from tests.robustness.crash_points import CrashPoints

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children with limits need Linux")


def write_texts(path: Path, groups: int, rows: int, words: int = 6) -> Path:
    draw = np.random.default_rng(5)
    vocabulary = np.array(["the", "dog", "ate", "book", "unseen"])
    texts = [" ".join(draw.choice(vocabulary, words)) for _ in range(groups * rows)]
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path, row_group_size=rows)
    return path


def scores(out: Path) -> dict[str, bytes | None]:
    """What a folder holds, without the lock, which stays, and the name of a process that was killed."""
    return {name: content for name, content in contents(out).items() if name not in (".lock", HOLDER)}


@pytest.mark.slow
def test_killed_wherever_it_touches_the_disk(tiny_run: Path, tmp_path: Path) -> None:
    """By a kill or a power cut in turns, at every other moment."""
    file = write_texts(tmp_path / "in.parquet", 2, 3)
    whole = tmp_path / "whole"
    watch = CrashPoints(whole, log=tmp_path / "moments")
    assert wait(child(lambda: (watch.start(), score(tiny_run, [file], whole)))) == 0
    moments = (tmp_path / "moments").read_text().splitlines()
    assert [line for line in moments if line.startswith("os.rename .000000-00000")] != []
    for at in range(1, len(moments) + 1, 2):
        out = tmp_path / f"out-{at}"
        crash = CrashPoints(out, at, random.Random(at) if at // 2 % 2 else None)
        assert (
            wait(child(lambda crash=crash, out=out: (crash.start(), score(tiny_run, [file], out)))) == -signal.SIGKILL
        )
        score(tiny_run, [file], out)
        assert scores(out) == scores(whole), moments[at - 1]


@pytest.mark.slow
def test_killed_at_random_times(tiny_run: Path, tmp_path: Path) -> None:
    file, whole, out = write_texts(tmp_path / "in.parquet", 60, 200), tmp_path / "whole", tmp_path / "out"
    began = time.monotonic()
    assert wait(child(lambda: score(tiny_run, [file], whole))) == 0
    seconds, rng, ends, kept = time.monotonic() - began, random.Random(7), [], []
    for _ in range(12):
        pid = child(lambda: score(tiny_run, [file], out))
        time.sleep(rng.uniform(0, seconds / 4))
        os.kill(pid, signal.SIGKILL)
        ends.append(wait(pid))
        kept.append(len(list(out.glob("[0-9]*"))) if out.exists() else 0)
    assert -signal.SIGKILL in ends
    assert kept == sorted(kept) and kept[-1] > 0
    assert score(tiny_run, [file], out).kept == kept[-1]
    assert scores(out) == scores(whole)


def test_interrupted_it_leaves_no_parts(tiny_run: Path, tmp_path: Path) -> None:
    """Ctrl-C: status 130, and the fragment in progress is gone."""
    from gatewise.cli.main import run

    file, out = write_texts(tmp_path / "in.parquet", 400, 20), tmp_path / "out"

    def act() -> None:
        try:
            run(["score", str(tiny_run), str(file), "--out", str(out)])
        except SystemExit as left:
            os._exit(int(str(left.code)))

    pid = child(act)
    until = time.monotonic() + 60
    while not list(out.glob("[0-9]*")) and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(pid, signal.SIGINT)
    assert wait(pid) == 130
    assert [name for name in contents(out) if "part" in name or name == HOLDER] == []
    assert 0 < len(list(out.glob("[0-9]*"))) < 400


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_full(gatewise: Gatewise, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_texts(tmp_path / "in.parquet", 3, 20)
    assert gatewise("score", tiny_run, file, "--out", "whole").status == 0
    words = ["score", str(tiny_run), str(file), "--out", "out"]
    from gatewise.predict import score as module

    kept, written = module.written_atomically, []

    def written_atomically(path: Path) -> object:
        written.append(path)
        if len(written) == 2:
            monkeypatch.setattr(os, "fsync", full)
        return kept(path)

    monkeypatch.setattr(module, "written_atomically", written_atomically)
    gatewise(*words).check_refused(1, "out/000000-000001.parquet: No space left on device (the disk is full); nothing")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert sorted(scores(tmp_path / "out")) == ["000000-000000.parquet", "_gatewise.json"]
    assert gatewise(*words).status == 0
    assert scores(tmp_path / "out") == scores(tmp_path / "whole")


def test_a_file_that_cannot_grow(tiny_run: Path, tmp_path: Path) -> None:
    """The writer of Parquet fails in the middle of a fragment, from its own code."""
    file, out = write_texts(tmp_path / "in.parquet", 1, 20_000), tmp_path / "out"
    said = in_child(lambda: score(tiny_run, [file], out), largest_file=20_000)
    assert said.startswith("OSError: [Errno 27] File too large"), said
    assert sorted(scores(out)) == ["_gatewise.json"]
