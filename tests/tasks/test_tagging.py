"""Tagging: the run folder's contents, metrics compared with manual computations, and data that does not fit."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import load_config
from gatewise.data.tagged import TOY, read_tagged
from gatewise.errors import DataError
from gatewise.models.tagger import Tagger
from gatewise.tasks.evaluate import evaluate
from gatewise.tasks.tagging import TaggerTask, Tagging
from gatewise.training import batches
from gatewise.training.distributed import Group
from tests.conftest import TINY_TAGGER, write_tagged


def write_columns(folder: Path, **texts: str) -> Path:
    """Write two-column files, replacing the default texts by the given ones."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        (folder / f"my.{split}.txt").write_text(texts.get(split, "the DET\ndog NN\n\nread V\n"), encoding="utf-8")
    return folder


def test_a_run_folder_of_a_tagger(tagger_run: Path, tagged: Path) -> None:
    metrics = [json.loads(line) for line in (tagger_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in metrics[:-1]] == [1, 2, 3]
    assert {"train_loss", "valid_accuracy", "learning_rate", "tokens_per_second", "seconds"} <= set(metrics[0])
    assert {"test_accuracy", "test_accuracy_unseen", "test_tokens", "best_epoch"} <= set(metrics[-1])
    assert metrics[-1]["test_tokens"] == 4 + 2 + 2
    facts = json.loads((tagger_run / "labels.json").read_text(encoding="utf-8"))
    assert facts["labels"] == ["DET", "NN", "V"]
    assert {"New York", "The", "the"} <= set(facts["seen_words"])
    assert (tagger_run / "figures" / "confusion.csv").is_file()
    card = (tagger_run / "README.md").read_text()
    assert f"{100 * metrics[-1]['test_accuracy']:.2f}%" in card and "gatewise tag" in card
    names = load_file(tagger_run / "model.safetensors").keys()
    assert {"embedding.weight", "characters.embedding.weight", "rnn.weight_ih_l0_reverse", "decoder.bias"} <= set(names)


def test_accuracy_is_counted_by_hand(tagger_run: Path, tagged: Path) -> None:
    model = gw.load(tagger_run)
    assert isinstance(model, Tagger) and not model.training
    sentences = read_tagged(tagged / "toy-ud-test.conllu")
    found = model.tag([sentence.words for sentence in sentences])
    pairs = [
        (word, tag, given)
        for s, row in zip(sentences, found, strict=True)
        for word, tag, given in zip(s.words, s.tags, row, strict=True)
    ]
    figures = evaluate(tagger_run)
    assert (figures["task"], figures["split"], figures["tokens"]) == ("tagger", "test", len(pairs))
    assert figures["accuracy"] == pytest.approx(sum(tag == given for _, tag, given in pairs) / len(pairs))
    ((_, right, given),) = [pair for pair in pairs if pair[0] == "xyzzy"]
    assert figures["accuracy_unseen"] == float(right == given)
    assert figures["oov_rate"] == 1 / len(pairs)
    counts = Counter(given for _, _, given in pairs)
    for tag in ("DET", "NN", "V"):
        hits = sum(right == given == tag for _, right, given in pairs)
        assert figures[f"recall_{tag}"] == pytest.approx(hits / sum(right == tag for _, right, _ in pairs))
        assert figures[f"precision_{tag}"] == (pytest.approx(hits / counts[tag]) if counts[tag] else None)
    assert all(not isinstance(value, dict | list) for value in figures.values())  # one flat object


def test_evaluation_gives_the_last_lines_figure_and_reads_other_data(tagger_run: Path, tagged: Path) -> None:
    last = json.loads((tagger_run / "metrics.jsonl").read_text().splitlines()[-1])
    by_folder, by_file = evaluate(tagger_run, data=tagged), evaluate(tagger_run, data=tagged / "toy-ud-test.conllu")
    assert by_folder["accuracy"] == by_file["accuracy"] == last["test_accuracy"]
    assert by_file["data_hash"] == last["test_data_hash"]
    assert evaluate(tagger_run, split="valid")["tokens"] == 5 + 4 + 4


def test_words_unseen_are_those_not_written_so_in_training(tagged: Path, tmp_path: Path) -> None:
    """Regardless of the lookup, which is in lower case and excludes rare words from the vocabulary."""
    overrides = {**TINY_TAGGER, "data.lowercase": True, "data.min_count": 100}
    run = gw.train("ewt-upos", data=tagged, out=tmp_path / "run", overrides=overrides)
    (tmp_path / "new.txt").write_text("BOOK NN\nread V\n\nxyzzy NN\n")
    figures = evaluate(run.path, data=tmp_path / "new.txt")
    found = run.model.tag([["BOOK", "read"], ["xyzzy"]])
    assert figures["accuracy_unseen"] == ((found[0][0] == "NN") + (found[1][0] == "NN")) / 2
    assert figures["oov_rate"] == 1.0


def test_training_twice_gives_equal_weights_and_another_seed_others(tagged: Path, tmp_path: Path) -> None:
    runs = [
        gw.train("ewt-upos", data=tagged, out=tmp_path / name, overrides=TINY_TAGGER, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (load_file(run.path / "model.safetensors") for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["rnn.weight_hh_l0"], c["rnn.weight_hh_l0"])


@pytest.mark.parametrize("encoder", ["none", "cnn", "lstm"])
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_every_kind_of_tagger_trains_and_is_loaded_again(
    encoder: str, output: str, tagged: Path, tmp_path: Path
) -> None:
    kind = {"model.character_encoder": encoder, "model.output": output, "model.cell": "gru", "training.epochs": 1}
    run = gw.train("ewt-upos", data=tagged, out=tmp_path / "run", overrides={**TINY_TAGGER, **kind})
    assert evaluate(run.path)["accuracy"] == run.metrics["test_accuracy"]


def test_a_batchs_cost_is_the_mean_over_its_words_whatever_the_processes(tagged: Path, tmp_path: Path) -> None:
    """The mean of the costs of two processes' shares equals the cost of one process."""
    still = {"data.batch_size": 7, "model.dropout": 0.0, "model.word_dropout": 0.0}
    config = load_config("ewt-upos", {**TINY_TAGGER, **still, "data.path": str(tagged)})
    task, run, cpu = TaggerTask(config), RunFolder(tmp_path), torch.device("cpu")
    torch.manual_seed(0)
    model = task.make_model()
    alone, *shares = (task.workload(model, run, Group(0, 1, cpu)) for _ in range(3))
    for rank, work in enumerate(shares):
        work.group = Group(rank, 2, cpu)
    for step in range(alone.steps_per_epoch):
        whole = float(alone.cost(alone.inputs(step))[0].detach())
        assert alone.tokens_in(step) == sum(len(task.targets["train"][row]) for row in alone.chosen(step))
        parts = [float(work.cost(work.inputs(step))[0].detach()) for work in shares]
        assert sum(parts) / 2 == pytest.approx(whole, rel=1e-5)


def test_the_baseline_is_each_words_commonest_tag(tmp_path: Path) -> None:
    train = "the DET\nthe NN\nthe DET\ndog NN\nread V\nbook NN\n"
    data = write_columns(tmp_path / "data", train=train, test="the NN\nthe DET\ndog NN\nnew NN\nnew V\n")
    run = gw.train("ewt-upos", data=data, out=tmp_path / "run", overrides={**TINY_TAGGER, "training.epochs": 1})
    assert run.metrics["commonest_tag_test_accuracy"] == 3 / 5


@pytest.mark.slow
def test_the_toy_is_learnt_by_heart(tmp_path: Path) -> None:
    run = gw.train("tagging-toy", out=tmp_path / "run", overrides={"logging.tensorboard": False})
    assert run.model.tag([sentence.words for sentence in TOY]) == [sentence.tags for sentence in TOY]
    assert run.metrics["test_accuracy"] == 1.0
    assert run.metrics["test_accuracy_unseen"] is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"train": "the DET\ndog DET\n"}, "my.train.txt: only 1 distinct tag (DET); expected at least 2"),
        ({"test": ""}, "my.test.txt: no sentences in this file"),
        ({"train": "a\tDET\nthe\tDET\tx\n"}, "my.train.txt:2: 3 columns, expected 2"),
    ],
)
def test_data_that_does_not_fit(texts: dict[str, str], said: str, tmp_path: Path) -> None:
    data = write_columns(tmp_path / "data", **texts)
    with pytest.raises(DataError) as caught:
        gw.train("ewt-upos", data=data, out=tmp_path / "run", overrides=TINY_TAGGER)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_tag_that_training_did_not_have_is_an_error_of_the_model(tmp_path: Path) -> None:
    data = write_columns(tmp_path / "data", valid="the DET\n\ndog ADJ\n", test="the DET\ndog X\n")
    with (tmp_path / "log").open("w") as log:
        console = Console(record=True, width=1000, file=log)
        run = gw.train("ewt-upos", data=data, out=tmp_path / "run", overrides=TINY_TAGGER, progress=console)
    told = console.export_text()
    assert "my.valid.txt:3: the tag 'ADJ' of the word 'dog' does not occur in the training data; 1 such word" in told
    assert "my.test.txt:2: the tag 'X' of the word 'dog'" in told
    assert run.metrics["test_accuracy"] <= 0.5 and run.metrics["test_tokens"] == 2


def test_a_run_is_gone_on_with_exactly(tagged: Path, tmp_path: Path) -> None:
    whole = gw.train("ewt-upos", data=tagged, out=tmp_path / "whole", overrides=TINY_TAGGER)
    gw.train("ewt-upos", data=tagged, out=tmp_path / "part", overrides={**TINY_TAGGER, "training.epochs": 1})
    more = gw.train("ewt-upos", data=tagged, out=tmp_path / "part", overrides=TINY_TAGGER, resume=True)
    a, b = (load_file(run.path / "model.safetensors") for run in (whole, more))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_other_data_of_the_same_shape_is_another_run(tmp_path: Path) -> None:
    data = write_tagged(tmp_path / "data")
    gw.train("ewt-upos", data=data, out=tmp_path / "run", overrides={**TINY_TAGGER, "training.epochs": 1})
    file = data / "toy-ud-train.conllu"
    file.write_text(file.read_text().replace("apple", "grape"))
    with pytest.raises(DataError):
        gw.train("ewt-upos", data=data, out=tmp_path / "run", overrides=TINY_TAGGER, resume=True)


def test_each_process_reads_its_own_share_of_the_validation_part(tagged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "DistributedDataParallel", lambda model: model)
    task = TaggerTask(load_config("ewt-upos", {**TINY_TAGGER, "data.path": str(tagged)}))
    model, summed, read = task.make_model(), [], []
    model.rnn.register_forward_pre_hook(lambda module, given: read.append(given[0].shape[1]))

    class Process(Group):
        def sum(self, *values: float) -> list[float]:
            summed.append(values)
            return [1.0, 1.0]

    for rank, size in ((0, 1), (0, 2), (1, 2), (3, 4)):
        Tagging(task, model, RunFolder("no-run"), Process(rank, size, torch.device("cpu"))).validate()
    assert read == [3, 2, 1]  # sentences; the last of four processes has none
    whole, first, second, none = summed
    assert [a + b for a, b in zip(first, second, strict=True)] == list(whole)
    assert none == (0, 0)
