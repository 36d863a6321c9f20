"""Metrics of the commands on real data, recomputed with a few lines of Python that do not use Gatewise."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import real_data


def gatewise(*arguments: str | Path) -> str:
    """Run the command in a separate process; return its output."""
    command = [sys.executable, "-m", "gatewise", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def options(**keys: Any) -> list[str]:
    pairs = {key.replace("__", "."): value for key, value in keys.items()}
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def upos(text: str) -> list[tuple[str, str]]:
    """Return form and UPOS of each word of a CoNLL-U text: rows of ten columns with an integer in the first."""
    columns = [line.split("\t") for line in text.splitlines() if line[:1].isdigit()]
    return [(row[1], row[3]) for row in columns if row[0].isdigit()]


@pytest.mark.slow
def test_the_tags_of_ewt(tmp_path: Path) -> None:
    data = real_data("ud_en_ewt")
    for part, count in (("train", 1500), ("dev", 150), ("test", 300)):
        text = (data / f"en_ewt-ud-{part}.conllu").read_text(encoding="utf-8")
        (tmp_path / f"small-ud-{part}.conllu").write_text("\n\n".join(text.split("\n\n")[:count]) + "\n\n", "utf-8")
    small = options(model__hidden_size=64, model__num_layers=1, model__character_hidden_size=32, training__epochs=3)
    run, test = tmp_path / "run", tmp_path / "small-ud-test.conllu"
    gatewise("train", "ewt-upos", "--data", tmp_path, "--out", run, *small)
    gold, found = upos(test.read_text("utf-8")), upos(gatewise("tag", run, test, "--format", "conllu"))
    assert [word for word, _ in gold] == [word for word, _ in found]
    right = [a == b for (_, a), (_, b) in zip(gold, found, strict=True)]
    seen = {word for word, _ in upos((tmp_path / "small-ud-train.conllu").read_text("utf-8"))}
    unseen = [ok for ok, (word, _) in zip(right, gold, strict=True) if word not in seen]
    figures = json.loads(gatewise("evaluate", run, "--json"))
    assert figures["tokens"] == len(gold) > 1500
    assert figures["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-12)
    assert figures["accuracy_unseen"] == pytest.approx(sum(unseen) / len(unseen), abs=1e-12)
    assert 0.5 < figures["accuracy"] < 0.99
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_accuracy"] == figures["accuracy"]


@pytest.mark.slow
def test_the_labels_of_mnist(tmp_path: Path) -> None:
    data, run = real_data("mnist"), tmp_path / "run"
    small = options(model__hidden_size=64, model__dropout=0.1, training__max_steps=80, training__eval_every=80)
    small += options(training__learning_rate=0.005, data__valid_size=100)
    gatewise("train", "mnist-rows", "--data", data, "--out", run, *small)
    labels = gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    found = json.loads(gatewise("classify", run, data / "t10k-images-idx3-ubyte.gz", "--json"))["predictions"]
    assert len(found) == len(labels) == 10_000
    right = sum(one["label"] == label for one, label in zip(found, labels, strict=True)) / 10_000
    figures = json.loads(gatewise("evaluate", run, "--json"))
    assert figures["accuracy"] == pytest.approx(right, abs=1e-12)
    assert 0.7 < right < 0.99
    assert all(max(one["probabilities"], key=one["probabilities"].get) == str(one["label"]) for one in found)
