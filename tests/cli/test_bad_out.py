"""An --out that is taken, and a --resume that does not match: no existing file may be modified."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import TINY_OPTIONS, Gatewise, contents


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def data(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the corpus."""
    return Path(shutil.copytree(corpus, tmp_path / "data"))


def test_out_holds_another_run(gatewise: Gatewise, corpus: Path, run: Path, tmp_path: Path) -> None:
    """A run is never overwritten."""
    before = contents(tmp_path)
    result = gatewise("train", "--data", corpus, "--out", run, *TINY_OPTIONS)
    result.check_refused(2, f"{run} contains another run", "add --resume", "choose another --out")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("options", [[], ["--resume"]], ids=["train", "resume"])
def test_out_holds_other_files(options: list[str], gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """A folder with other files is refused as a run folder."""
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("text")
    before = contents(tmp_path)
    result = gatewise("train", "--data", corpus, "--out", out, *TINY_OPTIONS, *options)
    result.check_refused(2, f"{out} is not empty and contains no run", "choose a new or empty folder")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("below", ["", "deeper/run"], ids=["a file", "below a file"])
def test_out_cannot_be_a_folder(below: str, gatewise: Gatewise, corpus: Path, tmp_path: Path) -> None:
    """An --out that is a file, or is below one, is status 2, and the file is unchanged."""
    (tmp_path / "file").write_text("text")
    before = contents(tmp_path)
    result = gatewise("train", "--data", corpus, "--out", tmp_path / "file" / below, *TINY_OPTIONS)
    result.check_refused(2, str(tmp_path / "file" / below), "Not a directory", "choose another --out")
    assert contents(tmp_path) == before


def test_taken_out_is_told_before_data_is_read(gatewise: Gatewise, data: Path, run: Path, tmp_path: Path) -> None:
    """A taken folder is reported before a corpus is read."""
    (data / "toy.train.txt").write_bytes(b"\xff\n")
    before = contents(tmp_path)
    gatewise("train", "--data", data, "--out", run, *TINY_OPTIONS).check_refused(2, f"{run} contains another run")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "before_and_now"),
    [
        (["--set", "model.hidden_size=9"], "model.hidden_size = 8, now it is 9"),
        (["--set", "model.hidden_size=900000"], "model.hidden_size = 8, now it is 900000"),
        (["--set", "training.learning_rate=0.5"], "training.learning_rate = 1.0, now it is 0.5"),
        (["--seed", "7"], "training.seed = 1, now it is 7"),
    ],
    ids=["size", "size beyond all memory", "learning rate", "seed"],
)
def test_resume_with_another_configuration(
    options: list[str], before_and_now: str, gatewise: Gatewise, run: Path, tmp_path: Path
) -> None:
    """A difference that changes the result is status 2, with both values."""
    before = contents(tmp_path)
    result = gatewise("train", "--out", run, "--resume", *options)
    result.check_refused(2, before_and_now, "resume it with the same configuration, or choose another --out")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_resume_with_other_data(split: str, gatewise: Gatewise, data: Path, run: Path, tmp_path: Path) -> None:
    """A different text in any split is status 3, even if the vocabulary is the same."""
    lines = (data / f"toy.{split}.txt").read_text().splitlines(keepends=True)
    (data / f"toy.{split}.txt").write_text("".join(lines[::-1]))
    before = contents(tmp_path)
    result = gatewise("train", "--data", data, "--out", run, "--resume", *TINY_OPTIONS)
    result.check_refused(
        3,
        f"the {split} text is not the one this run was started with",
        "SHA-256",
        "give the same data, or another --out",
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"no JSON\n", "invalid JSON"), (b"[1]\n", "not a JSON object"), (b"\xff\n", "invalid UTF-8")],
    ids=["text", "a list", "invalid UTF-8"],
)
def test_resume_with_damaged_metrics(line: bytes, found: str, gatewise: Gatewise, run: Path, tmp_path: Path) -> None:
    """A line of metrics.jsonl that is not a JSON object gives status 4, with file and line."""
    good = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([good[0], line, *good[1:]]))
    before = contents(tmp_path)
    gatewise("train", "--out", run, "--resume").check_refused(4, "metrics.jsonl:2: ", found, "restore the file")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_finished_run_without_checkpoints_is_kept(
    damage: str, gatewise: Gatewise, corpus: Path, run: Path, tmp_path: Path
) -> None:
    """--resume does not overwrite a finished run whose checkpoints were deleted or damaged."""
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.unlink() if damage == "removed" else checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    before = contents(tmp_path)
    result = gatewise("train", "--data", corpus, "--out", run, "--resume", *TINY_OPTIONS)
    assert contents(tmp_path) == before
    assert result.status == 0
    assert "finished" in result.err


@pytest.mark.parametrize(
    ("setting", "status", "said"),
    [
        ("training.learning_rate=0.5", 2, "this run was started with training.learning_rate = 1.0, now it is 0.5"),
        (
            "training.epochs=3",
            4,
            "this finished run has no checkpoint left, so it cannot be extended from 2 epochs to 3",
        ),
    ],
)
def test_finished_run_without_checkpoints_is_still_compared(
    setting: str, status: int, said: str, gatewise: Gatewise, run: Path, tmp_path: Path
) -> None:
    """Without checkpoints, config.toml identifies the run; it cannot be extended by more epochs."""
    shutil.rmtree(run / "checkpoints")
    before = contents(tmp_path)
    gatewise("train", "--out", run, "--resume", "--set", setting).check_refused(status, said)
    assert contents(tmp_path) == before
