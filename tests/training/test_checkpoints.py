"""Checkpoints on disk: whole or not at all, the newest two kept, a damaged one passed over."""

import errno
import os
from pathlib import Path

import pytest
import torch

import gatewise as gw
from gatewise.artifact import atomic
from gatewise.errors import TrainingStopped
from gatewise.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from tests.conftest import TINY


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"step": step, "best": None}, {"model.a": torch.full((3,), float(step))})


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 20, 300):
        save_checkpoint(tmp_path / "c", checkpoint(step))
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [
        "step-0000000020.safetensors",
        "step-0000000300.safetensors",
    ]
    newest, passed_over = load_newest(tmp_path / "c")
    assert newest is not None
    assert newest.progress == {"step": 300, "best": None}
    assert newest.tensors["model.a"].tolist() == [300.0] * 3
    assert passed_over == []


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_one_is_passed_over_and_said(tmp_path: Path, keep: int) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step))
    newest = tmp_path / "step-0000000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:keep])
    found, passed_over = load_newest(tmp_path)
    assert found is not None
    assert found.progress["step"] == 1
    assert len(passed_over) == 1
    assert str(newest) in passed_over[0]
    assert "passed over for the one before it" in passed_over[0]


def test_what_a_killed_writer_left_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".step-0000000009.safetensors.77.part").write_bytes(b"half")
    assert load_newest(tmp_path) == (None, [])


def test_a_full_disk_leaves_the_last_good_checkpoint_and_resume_ends_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {**TINY, "training.epochs": 3, "model.dropout": 0.2, "training.checkpoint_every": 0}
    whole = gw.train("demo", data=corpus, out=tmp_path / "whole", overrides=overrides)

    flush, left = os.fsync, iter(range(100))

    def full(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(TrainingStopped, match=r"No space left.*last good checkpoint is kept.*--resume"):
        gw.train("demo", data=corpus, out=tmp_path / "cut", overrides=overrides)
    monkeypatch.undo()
    os.environ.setdefault("GATEWISE_CACHE", str(tmp_path / "cache"))
    kept, passed_over = load_newest(tmp_path / "cut" / "checkpoints")
    assert kept is not None
    assert passed_over == []
    assert 0 < kept.progress["step"] < 153
    assert not list((tmp_path / "cut").rglob("*.part"))
    gw.train(out=tmp_path / "cut", resume=True)
    same = (tmp_path / "cut" / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    assert same


def test_a_truncated_checkpoint_of_a_run_is_replaced_by_the_one_before(corpus: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "training.epochs": 2, "model.dropout": 0.2}
    whole = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=overrides)
    wanted = (whole.path / "model.safetensors").read_bytes()
    newest = max((whole.path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    again = gw.train(out=whole.path, resume=True)
    assert (again.path / "model.safetensors").read_bytes() == wanted
    assert again.metrics == whole.metrics
