"""The task: the corpus named by a recipe, metrics compared with manual computations, and the run folder's contents."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import gatewise as gw
from gatewise.config import DataConfig, load_config
from gatewise.data.configured import open_corpus
from gatewise.tasks.evaluate import evaluate
from gatewise.tasks.language_modeling import LanguageModelData
from tests.conftest import TINY, real_data


def words_of(path: Path) -> list[str]:
    return [word for line in path.read_text().split("\n")[:-1] for word in [*line.split(), "<eos>"]]


def test_three_files_named_in_a_recipe_serve_as_a_folder_does(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    names = "\n".join(f'{s}_file = "{corpus}/toy.{s}.txt"' for s in ("train", "valid", "test"))
    recipe.write_text(f'[task]\nname = "language-model"\n[data]\n{names}\n')
    by_files = gw.train(recipe, out=tmp_path / "files", overrides=TINY)
    by_folder = gw.train("demo", data=corpus, out=tmp_path / "folder", overrides={**TINY, "model.dropout": 0.0})
    assert by_files.metrics["test_data_hash"] == by_folder.metrics["test_data_hash"]
    config = load_config(by_files.path / "config.toml")
    assert config.data.train_file == str(corpus / "toy.train.txt")


def test_a_relative_path_is_kept_absolute(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus.parent)
    run = gw.train("demo", data=corpus.name, out=tmp_path / "run", overrides={**TINY, "training.epochs": 1})
    monkeypatch.chdir(tmp_path)
    assert evaluate(run.path)["tokens"] == run.metrics["test_tokens"]


def test_the_unigram_figure_is_word_frequencies_with_one_added(corpus: Path) -> None:
    settings = DataConfig(path=str(corpus))
    data = LanguageModelData.read(open_corpus(settings).parts, settings)
    train, test = words_of(corpus / "toy.train.txt"), words_of(corpus / "toy.test.txt")
    counts, size = Counter(train), len({*train, "<unk>"})
    nll = [-math.log((counts[word] + 1) / (len(train) + size)) for word in test[1:]]
    assert data.unigram_perplexity("test") == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-9)


def test_validation_reads_batch_size_rows_as_the_original(corpus: Path, tiny_run: Path) -> None:
    """Recompute the best epoch's metric from the saved weights: rows of the valid text, windows, carried state."""
    model = gw.load(tiny_run)
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    best = next(line for line in lines if line.get("epoch") == lines[-1]["best_epoch"])
    tokens = torch.tensor([model.vocabulary.ids[w] for w in words_of(corpus / "toy.valid.txt")])
    length = len(tokens) // 4
    rows = tokens[: 4 * length].view(4, length).t()
    steps = (length - 1) // 5 * 5
    with torch.no_grad():
        logits, _ = model(rows[:steps], model.initial_state(4))
    nll = F.cross_entropy(logits.flatten(0, 1), rows[1 : steps + 1].flatten())
    assert best["valid_perplexity"] == pytest.approx(math.exp(float(nll)), rel=1e-5)


def test_evaluate_scores_every_token_but_the_first(corpus: Path, tiny_run: Path) -> None:
    model, tokens = gw.load(tiny_run), words_of(corpus / "toy.valid.txt")
    figures = evaluate(tiny_run, split="valid")
    ids = torch.tensor([model.vocabulary.ids[w] for w in tokens])
    with torch.no_grad():
        logits, _ = model(ids[:-1, None], model.initial_state())
    nll = float(F.cross_entropy(logits[:, 0], ids[1:]))
    assert figures["tokens"] == len(tokens) - 1
    assert figures["nll"] == pytest.approx(nll, rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(nll), rel=1e-5)


def test_the_run_folder_is_the_contracts(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    files = {"config.toml", "model.safetensors", "tokenizer.json", "metrics.jsonl", "checkpoints", "README.md"}
    assert names == files | {".lock"}
    *lines, last = (json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines())
    per_epoch = {"epoch", "train_perplexity", "valid_perplexity", "learning_rate", "tokens_per_second", "seconds"}
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(per_epoch <= line.keys() for line in lines)
    assert {"test_perplexity", "test_tokens", "best_epoch"} <= last.keys()
    assert f"{last['test_perplexity']:.2f}" in (tiny_run / "README.md").read_text()
    assert not [path for path in tiny_run.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".bin")]


def test_the_resolved_configuration_trains_the_same_model_again(tiny_run: Path, tmp_path: Path) -> None:
    again = gw.train(tiny_run / "config.toml", out=tmp_path / "again")
    assert (again.path / "model.safetensors").read_bytes() == (tiny_run / "model.safetensors").read_bytes()


def test_a_tied_run_holds_both_names_and_loads(corpus: Path, tmp_path: Path) -> None:
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides={**TINY, "model.tie_weights": True})
    weights = load_file(run.path / "model.safetensors")
    assert torch.equal(weights["decoder.weight"], weights["embedding.weight"])
    assert run.model.decoder.weight is run.model.embedding.weight
    assert evaluate(run.path)["perplexity"] == run.metrics["test_perplexity"]


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh"])
def test_other_cells_and_characters_train_too(corpus: Path, tmp_path: Path, cell: str) -> None:
    # None of them may amplify rounding errors, as the RNN of seed 1 does: its perplexities differ by ten times as much.
    quiet = {"model.dropout": 0.0, "training.learning_rate": 0.1, "training.seed": 2}
    overrides = {**TINY, **quiet, "model.cell": cell, "data.level": "character"}
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=overrides)
    assert run.metrics["test_perplexity"] < run.metrics["unigram_test_perplexity"]
    assert len(run.model.generate("the d", max_tokens=7, seed=1)) == len("the d") + 7
    halved = gw.train("demo", data=corpus, out=tmp_path / "bf16", overrides={**overrides, "training.precision": "bf16"})
    assert abs(halved.metrics["test_perplexity"] / run.metrics["test_perplexity"] - 1) < 0.01
    assert halved.metrics["test_perplexity"] != run.metrics["test_perplexity"]


def test_the_reference_engine_trains_the_same_model(corpus: Path, tmp_path: Path) -> None:
    found = []
    for engine in ("torch", "reference"):
        overrides = {**TINY, "training.epochs": 1, "runtime.engine": engine}
        run = gw.train("demo", data=corpus, out=tmp_path / engine, overrides=overrides)
        assert run.model.rnn.engine == "auto"
        found.append(run.metrics["test_perplexity"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_training_beats_the_unigram_model_on_penn_treebank_within_a_few_steps(tmp_path: Path) -> None:
    """The real corpus with the smallest recipe: everything runs, and the counts match the literature."""
    ptb = real_data("ptb")
    part = tmp_path / "ptb"
    part.mkdir()
    for split, lines in (("train", 1500), ("valid", 100), ("test", 100)):
        text = (ptb / f"ptb.{split}.txt").read_text().splitlines(keepends=True)[:lines]
        (part / f"ptb.{split}.txt").write_text("".join(text))
    overrides = {
        "data.tbptt_length": 20,
        "data.vocabulary_size": 2000,
        "model.hidden_size": 32,
        "training.epochs": 3,
        "training.max_grad_norm": 5.0,
    }
    run = gw.train("ptb-test", data=part, out=tmp_path / "run", overrides=overrides)
    assert run.metrics["test_perplexity"] < run.metrics["unigram_test_perplexity"]


def test_training_ends_after_evaluations_without_progress_and_is_finished(corpus: Path, tmp_path: Path) -> None:
    settings = {**TINY, "training.epochs": 30, "training.patience": 2, "training.learning_rate": 0.5}
    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=settings)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    values = [line["valid_perplexity"] for line in lines[:-1]]
    best = values.index(min(values))
    assert len(values) == best + 1 + 2 < 30, "two more evaluations after the best"
    assert run.metrics["best_epoch"] == best + 1
    before = (run.path / "metrics.jsonl").read_bytes()
    gw.train("demo", data=corpus, out=tmp_path / "run", overrides=settings, resume=True)
    assert (run.path / "metrics.jsonl").read_bytes() == before
    more = gw.train(
        "demo", data=corpus, out=tmp_path / "run", overrides={**settings, "training.patience": 3}, resume=True
    )
    assert len((more.path / "metrics.jsonl").read_text().splitlines()) > len(lines)
