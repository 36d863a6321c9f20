"""Checkpoints on disk: whole or not at all, the newest two kept, a damaged one passed over."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

import gatewise as gw
from gatewise.artifact import atomic
from gatewise.artifact.run_folder import RunFolder
from gatewise.errors import RunError, TrainingStopped, UsageError
from gatewise.runtime import sealed
from gatewise.training.checkpoints import Checkpoint, load_newest, save_checkpoint, set_aside
from tests.cli.conftest import contents
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


def test_a_folder_in_an_old_ones_place_stays(tmp_path: Path) -> None:
    (tmp_path / "step-0000000001.safetensors").mkdir()
    for step in (2, 3):
        save_checkpoint(tmp_path, checkpoint(step))
    assert len(list(tmp_path.iterdir())) == 3


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
    assert "skipped, using the previous one" in passed_over[0]


def test_what_a_killed_writer_left_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".step-0000000009.safetensors.77.part").write_bytes(b"half")
    assert load_newest(tmp_path) == (None, [])


@pytest.mark.parametrize("name", ["model.a", "optimizer.0.exp_avg"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_with_numbers_that_are_not_finite_is_passed_over(tmp_path: Path, name: str, bad: float) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    damaged = checkpoint(2)
    damaged.tensors[name] = torch.tensor([1.0, bad])
    save_checkpoint(tmp_path, damaged)
    found, passed_over = load_newest(tmp_path)
    assert found is not None and found.progress["step"] == 1
    assert f"{name} contains numbers that are not finite" in passed_over[0]


def test_moments_and_generators_that_none_can_have_are_passed_over(tmp_path: Path) -> None:
    for step, (name, tensor) in enumerate(
        [
            ("model.b", torch.zeros(1)),
            ("optimizer.0.exp_avg_sq", torch.tensor([-1.0])),
            ("optimizer.0.step", torch.tensor(0.0)),
            ("optimizer.0.step", torch.tensor(99.0)),
            ("optimizer.0.step", torch.tensor([])),
            ("generator.cpu.0", torch.zeros(5056, dtype=torch.uint8)),
            ("generator.cpu.0", torch.full((5056,), 255, dtype=torch.uint8)),
            ("generator.cpu.0", torch.zeros(7, dtype=torch.uint8)),
        ],
        1,
    ):
        one = checkpoint(step)
        one.tensors[name] = tensor
        (tmp_path / f"{step}").mkdir()
        save_checkpoint(tmp_path / f"{step}", one)
        found, passed_over = load_newest(tmp_path / f"{step}")
        assert (found is not None) == (step == 1 or (name.endswith("step") and not tensor.numel())), name
        assert len(passed_over) == (found is None)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step))
    newest = tmp_path / "step-0000000002.safetensors"
    whole = newest.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        newest.write_bytes(damaged)
        found, passed_over = load_newest(tmp_path)
        assert found is not None and found.progress["step"] == 1, bit
        assert len(passed_over) == 1 and "\n" not in passed_over[0]


def test_one_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"progress": json.dumps({"step": 7, "best": float("inf")})}
    save_file({"model.a": torch.ones(2)}, tmp_path / "step-0000000007.safetensors", old)
    found, passed_over = load_newest(tmp_path)
    assert found is not None and found.progress == {"step": 7, "best": float("inf")} and passed_over == []


@pytest.mark.parametrize("progress", ["{", "[]", "{}", '{"step": "7"}', '{"step": 8}', '{"step": 7, "step": 7}'])
def test_progress_that_is_none_is_passed_over(tmp_path: Path, progress: str) -> None:
    save_file({"model.a": torch.ones(2)}, tmp_path / "step-0000000007.safetensors", {"progress": progress})
    found, passed_over = load_newest(tmp_path)
    assert found is None and len(passed_over) == 1


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.touch])
def test_what_is_no_file_is_passed_over(tmp_path: Path, make: Callable[[Path], object]) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    make(tmp_path / "step-0000000002.safetensors")
    found, passed_over = load_newest(tmp_path)
    assert found is not None and found.progress["step"] == 1 and len(passed_over) == 1


def test_one_of_a_newer_format_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    monkeypatch.setattr(sealed, "FORMAT", 2)
    save_checkpoint(tmp_path, checkpoint(2))
    monkeypatch.undo()
    with pytest.raises(
        RunError, match=r"step-0000000002\.safetensors: format 2, written by a newer .* upgrade Gatewise"
    ):
        load_newest(tmp_path)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(RunError, match="checkpoints: cannot read it"):
        load_newest(tmp_path / "checkpoints")


def test_damaged_ones_are_neither_counted_nor_lost(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step))
    newest = tmp_path / "step-0000000003.safetensors"
    newest.write_bytes(b"damaged")
    save_checkpoint(tmp_path, checkpoint(2))  # of a run that went on from the one before, and has not said so yet
    assert len(list(tmp_path.iterdir())) == 2
    found, _ = load_newest(tmp_path)
    assert found is not None and found.progress["step"] == 2 and found.passed_over == (newest,)
    (tmp_path / "step-0000000003.safetensors.damaged").write_bytes(b"another")
    set_aside(found.passed_over)
    assert (tmp_path / "step-0000000003.safetensors.damaged1").read_bytes() == b"damaged"
    assert (tmp_path / "step-0000000003.safetensors.damaged").read_bytes() == b"another"
    for step in (3, 4):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "step-0000000003.safetensors",
        "step-0000000004.safetensors",
    ]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed_and_the_run_goes_on_from_the_one_before(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**TINY, "model.dropout": 0.2, "training.optimizer": "adam", "training.learning_rate": 0.01}
    whole = gw.train("demo", data=corpus, out=tmp_path / "whole", overrides=overrides)
    gw.train("demo", data=corpus, out=tmp_path / "run", overrides={**overrides, "training.epochs": 1})
    run = RunFolder(tmp_path / "run")
    (run.path / "metrics.jsonl").unlink()  # not finished, as after a kill
    *_, newest = sorted(run.checkpoints.iterdir())
    first = run.checkpoints / "step-0000000000.safetensors"
    assert not first.exists()
    flip(newest)
    before = contents(run.path)
    with pytest.raises(RunError, match=r"none of the 1 checkpoints can be resumed: restore one, or rename"):
        gw.train(out=run.path, resume=True, overrides={"training.epochs": 2})
    assert contents(run.path) == before

    shutil.rmtree(run.path)
    gw.train(
        "demo", data=corpus, out=run.path, overrides={**overrides, "training.epochs": 1, "training.checkpoint_every": 0}
    )
    (run.path / "metrics.jsonl").unlink()
    older, newest = sorted(run.checkpoints.iterdir())
    flip(newest)
    damaged = newest.read_bytes()
    console = Console(stderr=True, width=1000)
    gw.train(out=run.path, resume=True, overrides={"training.epochs": 2}, progress=console)
    told = capsys.readouterr().err
    assert f"{newest}: damaged or truncated (its SHA-256 does not match the one stored in it)" in told
    assert f"resuming in epoch 1 after step {int(older.stem[5:])} of" in told
    assert newest.with_name(f"{newest.name}.damaged").read_bytes() == damaged
    assert run.weights_file.read_bytes() == (whole.path / "model.safetensors").read_bytes()


def test_another_configuration_is_told_before_the_shapes(corpus: Path, tmp_path: Path) -> None:
    gw.train("demo", data=corpus, out=tmp_path / "run", overrides={**TINY, "training.epochs": 1})
    with pytest.raises(UsageError, match=r"started with model\.hidden_size = 8, now it is 9"):
        gw.train(out=tmp_path / "run", resume=True, overrides={"model.hidden_size": 9})


def test_metrics_of_another_run_are_not_taken_for_an_end(corpus: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        overrides = {**TINY, "training.epochs": seed, "training.seed": seed}
        gw.train("demo", data=corpus, out=tmp_path / f"{seed}", overrides=overrides)
    shutil.copy(tmp_path / "2" / "metrics.jsonl", tmp_path / "1" / "metrics.jsonl")
    with pytest.raises(RunError, match=r"metrics\.jsonl:1: contradicts this run's checkpoints"):
        gw.train(out=tmp_path / "1", resume=True)


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
    with pytest.raises(TrainingStopped, match=r"No space left.*last good checkpoint is kept.*resume=True"):
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
