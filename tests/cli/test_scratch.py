"""comments-scratch on the command line: its metrics, its text output, its bad input."""

import json
from pathlib import Path

import pytest

from gatewise.bench import comments_scratch
from tests.cli.conftest import Gatewise
from tests.conftest import TINY_SCRATCH

OPTIONS = [word for key, value in TINY_SCRATCH.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def test_from_a_csv_file_to_text(gatewise: Gatewise, comments: Path) -> None:
    result = gatewise("train", "comments-scratch", "--data", comments, "--out", "run", *OPTIONS)
    assert result.status == 0, result.err
    assert "nats per token over 49 tokens (epoch 3 was best; out of vocabulary" in result.out
    assert "no other text was scored" in result.out
    assert "test" not in result.out.partition("a sample of text")[0]
    assert "6 sentences, 49 words to train on, vocabulary 20" in result.err
    assert "epoch 3/3  train loss" in result.err
    result = gatewise("evaluate", "run")
    assert result.out.startswith("train perplexity ")
    assert "this is what the run was trained on" in result.out
    figures = json.loads(gatewise("evaluate", "run", "--json").out)
    assert (figures["split"], figures["tokens"]) == ("train", 49)
    gatewise("evaluate", "run", "--split", "test").check_refused(3, "give one with --data OTHER.csv")
    result = gatewise("generate", "run", "--prompt", "The DOG xyz", "--seed", "1")
    assert result.status == 0
    assert result.out.startswith("The DOG xyz ")
    assert "not in the vocabulary, read as <unk>: 'xyz'" in result.err
    result = gatewise("train", "--out", "run", "--resume")
    assert result.status == 0, result.err
    assert "this run is finished (3 epochs); nothing is changed" in result.err


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"text\na\n", ["bad.csv:1: no column 'body'; found 'text'"]),
        (b'body\n"a\n', ["bad.csv:2: invalid CSV"]),
        (b"body\na,b\n", ["bad.csv:2: 2 fields in this row"]),
        (b"", ["bad.csv: the file is empty"]),
        (b"body\n\xff\n", ["bad.csv:2: byte 0xff is not valid UTF-8"]),
    ],
)
def test_bad_data(gatewise: Gatewise, raw: bytes, words: list[str]) -> None:
    Path("bad.csv").write_bytes(raw)
    gatewise("train", "comments-scratch", "--data", "bad.csv", "--out", "run").check_refused(3, *words)
    assert not Path("run").exists()


def test_another_column(gatewise: Gatewise, comments: Path) -> None:
    Path("other.csv").write_text("text\nThe dog.\nThe cat.\n")
    words = ["--set", "data.column=text", *OPTIONS]
    assert gatewise("train", "comments-scratch", "--data", "other.csv", "--out", "run", *words).status == 0
    gatewise("evaluate", "run", "--data", comments).check_refused(3, "no column 'text'; found 'id', 'body'")


def test_missing_data_and_options_that_do_not_fit(gatewise: Gatewise, comments: Path) -> None:
    gatewise("train", "comments-scratch").check_refused(2, "add --data FILE.csv")
    gatewise("train", "comments-scratch", "--data", "none.csv").check_refused(3, "none.csv: no such")
    train = ("train", "comments-scratch", "--data", comments, "--out", "run", "--set")
    gatewise(*train, "model.dropout=0.5").check_refused(
        2, "model.dropout is 0.5; a scratch-language-model does not read it"
    )
    assert not Path("run").exists()


def test_a_damaged_run(gatewise: Gatewise, scratch_run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(scratch_run, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    gatewise("evaluate", "cut").check_refused(4, "damaged or truncated")
    gatewise("generate", "cut").check_refused(4, "damaged or truncated")
    shutil.copy(scratch_run / "model.safetensors", weights)
    (tmp_path / "cut" / "tokenizer.json").unlink()
    gatewise("evaluate", "cut").check_refused(
        4, "tokenizer.json: no such file; expected the file as written by training"
    )
    gatewise("generate", "cut").check_refused(
        4, "tokenizer.json: no such file; expected the file as written by training"
    )


def test_bench(gatewise: Gatewise, monkeypatch: pytest.MonkeyPatch) -> None:
    gatewise("bench", "comments-scratch").check_refused(2, "--data is missing")
    gatewise("bench", "comments-scratch", "--losses", "--faults").check_refused(2, "--data is missing")
    monkeypatch.setattr(comments_scratch, "check_faults", lambda: {"ours": {}, "outer": {"rnn.weight_hh_l0": 0.5}})
    result = gatewise("bench", "comments-scratch", "--faults", "--out", "kept.json")
    assert result.status == 0, result.err
    assert "outer     rnn.weight_hh_l0 0.5" in result.out
    kept = json.loads(Path("kept.json").read_text())
    assert kept["faults"] == {"ours": {}, "outer": {"rnn.weight_hh_l0": 0.5}}
    assert kept["command"] == "gatewise bench comments-scratch --faults"
    assert {"machine", "date"} <= set(kept)
