"""Two processes as one, over gloo on this machine."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gatewise.errors import UsageError
from gatewise.training.distributed import Group
from tests.training.processes import FORKED, FORKED_PAIR, PAIR, assert_same_end, finish, start, stop_after_a_checkpoint


def words(corpus: Path, out: Path, *settings: str) -> list[str]:
    toy = ["data.batch_size=4", "data.tbptt_length=5", "model.hidden_size=8", "training.learning_rate=0.01"]
    return ["demo", "--data", str(corpus), "--out", str(out), *(x for s in (*toy, *settings) for x in ("--set", s))]


def epochs(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_give_the_single_ones_losses_and_one_report(corpus: Path, tmp_path: Path) -> None:
    settings = ("model.dropout=0.0", "training.epochs=2")
    finish(words(corpus, tmp_path / "one", *settings), FORKED)
    out, err = finish(words(corpus, tmp_path / "two", *settings), PAIR)
    assert out.count("test perplexity") == 1
    assert err.count("in 2 processes") == 1
    for one, two in zip(epochs(tmp_path / "one"), epochs(tmp_path / "two"), strict=True):
        for name in ("train_perplexity", "valid_perplexity", "test_perplexity"):
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=1e-5), name


@pytest.mark.slow
def test_two_processes_resume_exactly_and_one_process_goes_on_and_says_what_differs(
    corpus: Path, tmp_path: Path
) -> None:
    settings = (
        "model.dropout=0.3",
        "training.epochs=8",
        "training.checkpoint_every=0.05",
        "logging.tensorboard=false",
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(words(corpus, whole, *settings), FORKED_PAIR)
    stop_after_a_checkpoint(words(corpus, cut, *settings), cut, 0.1, signal.SIGTERM, PAIR)
    stop_after_a_checkpoint(["--out", str(cut), "--resume"], cut, 0.1, signal.SIGKILL, FORKED_PAIR)
    shutil.copytree(cut, tmp_path / "other")
    finish(["--out", str(cut), "--resume"], FORKED_PAIR)
    assert_same_end(whole, cut)
    for a, b in zip(epochs(whole), epochs(cut), strict=True):
        assert a.get("train_perplexity") == b.get("train_perplexity")

    _, err = finish(["--out", str(tmp_path / "other"), "--resume"], FORKED)
    assert "the checkpoint was saved with 2 processes, this run has 1" in err
    gone_on = re.search(r"resuming in epoch (\d+) after step", err)
    assert gone_on
    *lines, alone = zip(epochs(whole), epochs(tmp_path / "other"), strict=True)
    for a, b in lines[: int(gone_on[1]) - 1]:
        assert a["train_perplexity"] == b["train_perplexity"]
    assert alone[1]["test_perplexity"] == pytest.approx(alone[0]["test_perplexity"], rel=0.1)  # other masks of dropout


def test_a_batch_that_the_processes_do_not_divide_is_refused(corpus: Path, tmp_path: Path) -> None:
    process = start(words(corpus, tmp_path / "run", "data.batch_size=5"), FORKED_PAIR)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "gatewise: batch_size is 5 for 2 processes; expected a multiple of 2" in err
    assert not (tmp_path / "run").exists()


def test_each_process_owns_its_share_of_the_rows() -> None:
    groups = [Group(rank, 4, torch.device("cpu")) for rank in range(4)]
    assert [list(range(20))[group.rows(20)] for group in groups] == [
        list(range(5 * rank, 5 * rank + 5)) for rank in range(4)
    ]
    with pytest.raises(UsageError, match="expected a multiple of 4"):
        groups[0].rows(6)
    with pytest.raises(UsageError, match="expected a multiple of 4"):
        groups[0].rows(3)
