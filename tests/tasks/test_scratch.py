"""The scratch language model's task: configuration, run folder, evaluation, and the model in torch."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import gatewise as gw
from gatewise.data.comments import read_sentences
from gatewise.engines import why_not
from gatewise.errors import DataError, UsageError
from gatewise.tasks.evaluate import evaluate
from tests.conftest import TINY_SCRATCH, write_comments


def last_line(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def test_the_run_folder(scratch_run: Path) -> None:
    weights = load_file(scratch_run / "model.safetensors")
    assert {name: w.shape for name, w in weights.items()} == {
        "rnn.weight_ih_l0": (24, 20),
        "rnn.weight_hh_l0": (24, 6),
        "rnn.bias_ih_l0": (24,),
        "rnn.bias_hh_l0": (24,),
        "decoder.weight": (20, 6),
        "decoder.bias": (20,),
    }
    assert not weights["rnn.bias_hh_l0"].any()
    *epochs, final = [json.loads(line) for line in (scratch_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert set(epochs[0]) == {"epoch", "train_loss", "learning_rate", "tokens_per_second", "seconds"}
    assert epochs[2]["train_loss"] < epochs[0]["train_loss"] < math.log(20)
    assert final["best_epoch"] == 3
    assert (final["train_sentences"], final["train_tokens"]) == (6, 49)
    assert 0 < final["train_oov_rate"] < 0.5
    assert 1 < final["unigram_train_loss"] < math.log(20)
    card = (scratch_run / "README.md").read_text()
    assert f"{final['train_loss']:.4f}" in card
    assert "test perplexity" not in card


def test_torch_finds_the_same_loss(scratch_run: Path, comments: Path) -> None:
    """The model in torch, compared with plain torch without Gatewise: one-hot vectors, nn.LSTM, nn.Linear."""
    texts, expected = read_sentences(comments, "body"), last_line(scratch_run)["train_loss"]
    model = gw.load(scratch_run)
    assert not hasattr(model, "embedding")
    assert math.log(model.perplexity(texts)) == pytest.approx(expected, rel=1e-5)
    assert math.log(model.perplexity([" ".join(texts[:2]), *texts[2:]])) == pytest.approx(expected, rel=1e-5)

    weights = {name: torch.from_numpy(w) for name, w in load_file(scratch_run / "model.safetensors").items()}
    lstm, linear = torch.nn.LSTM(20, 6), torch.nn.Linear(6, 20)
    lstm.load_state_dict({name.removeprefix("rnn."): w for name, w in weights.items() if name.startswith("rnn.")})
    linear.load_state_dict({name.removeprefix("decoder."): w for name, w in weights.items() if "decoder" in name})
    nll, tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor(model.vocabulary.sequences(text)[0])
        logits = linear(lstm(torch.nn.functional.one_hot(ids[:-1], 20).float())[0])
        nll += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        tokens += len(ids) - 1
    assert nll / tokens == pytest.approx(expected, rel=1e-5)


def test_evaluate_calls_training_sentences_so(scratch_run: Path, comments: Path, tmp_path: Path) -> None:
    own = evaluate(scratch_run)
    assert list(own) == ["task", "split", "perplexity", "nll", "tokens", "oov_rate", "data_hash"]
    assert (own["task"], own["split"], own["tokens"]) == ("scratch-language-model", "train", 49)
    assert own["nll"] == pytest.approx(last_line(scratch_run)["train_loss"], rel=1e-6)
    assert own["perplexity"] == pytest.approx(math.exp(own["nll"]))
    assert evaluate(scratch_run, split="train") == own
    assert evaluate(scratch_run, data=comments)["split"] == "train"
    other = tmp_path / "other.csv"
    other.write_text("body\nThe dog read the zebra.\n")
    scored = evaluate(scratch_run, data=other)
    assert (scored["split"], scored["tokens"]) == ("test", 7)
    assert evaluate(scratch_run, data=other, split="valid")["split"] == "valid"
    model = gw.load(scratch_run)
    assert scored["nll"] == pytest.approx(math.log(model.perplexity(["The dog read the zebra."])), rel=1e-5)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_no_training_figure_is_called_a_test_figure(scratch_run: Path, comments: Path, split: str) -> None:
    with pytest.raises(DataError, match=rf"trained without a {split} text; give one with data=OTHER\.csv"):
        evaluate(scratch_run, split=split)
    with pytest.raises(DataError, match="the file that this run was trained on, so it is no"):
        evaluate(scratch_run, data=comments, split=split)


def test_another_text_is_not_called_the_training_text(scratch_run: Path, tmp_path: Path) -> None:
    other = write_comments(tmp_path / "other.csv", repeats=2)
    with pytest.raises(DataError, match="not the file that this run was trained on"):
        evaluate(scratch_run, data=other, split="train")


def test_max_sentences_takes_the_first_and_the_vocabulary_of_all(comments: Path, tmp_path: Path) -> None:
    overrides = {**TINY_SCRATCH, "data.max_sentences": 2}
    few = gw.train("comments-scratch", data=comments, out=tmp_path / "few", overrides=overrides)
    assert (few.metrics["train_sentences"], few.metrics["train_tokens"]) == (2, 13)
    assert len(few.model.vocabulary) == 20
    assert evaluate(few.path)["tokens"] == 13


def test_generated_sentences(scratch_run: Path) -> None:
    model = gw.load(scratch_run)
    with torch.no_grad():
        model.decoder.bias[model.vocabulary.bos_id] = 50.0  # the start token is never sampled, however probable
        text = model.generate("Who? The dog", max_tokens=30, seed=1)
        assert text.startswith("Who? The dog")
        assert "<bos>" not in text
        assert text == model.generate("Who? The dog", max_tokens=30, seed=1)
        model.decoder.bias[model.vocabulary.eos_id] = 50.0
        assert model.generate(max_tokens=3) == "\n\n\n"


def test_after_the_end_a_sentence_starts_afresh(scratch_run: Path) -> None:
    """Greedy text after an end token equals the greedy text without a prompt."""
    model = gw.load(scratch_run)
    seen: list[tuple[int, bool]] = []

    def spied(honest: Callable[..., object]) -> Callable[..., object]:
        def step(ids: torch.Tensor, state: tuple[torch.Tensor, ...]) -> object:
            seen.append((int(ids[0]), not any(part.any() for part in state)))
            return honest(ids, state)

        return step

    stream = model.stream() if why_not("native") is None else model
    stream.step = spied(stream.step)  # type: ignore[method-assign]
    model.stream = lambda: stream  # type: ignore[method-assign, assignment, return-value]
    model.generate(max_tokens=200, seed=3)
    assert (model.vocabulary.bos_id, True) in seen
    assert all(fresh == (word == model.vocabulary.bos_id) for word, fresh in seen)
    assert model.vocabulary.eos_id not in {word for word, _ in seen}


def test_only_the_prompts_last_sentence_is_read(scratch_run: Path) -> None:
    model = gw.load(scratch_run)
    a, b = (model.generate(prompt, max_tokens=10, seed=5) for prompt in ("Book. The dog", "The dog"))
    assert a.removeprefix("Book. ") == b


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.cell": "gru"}, "model.cell is 'gru'; a scratch-language-model supports only 'lstm'"),
        ({"model.dropout": 0.5}, "model.dropout is 0.5"),
        ({"model.one_hot": False}, "model.one_hot is False"),
        ({"model.init_scale": 0.1}, "model.init_scale is 0.1"),
        ({"data.batch_size": 20}, "data.batch_size is 20"),
        ({"data.tbptt_length": 20}, "data.tbptt_length is 20"),
        ({"data.level": "word"}, "data.level is 'word'"),
        ({"training.optimizer": "adam"}, "training.optimizer is 'adam'"),
        ({"training.max_grad_norm": 5.0}, "training.max_grad_norm is 5.0"),
        ({"training.precision": "bf16"}, "training.precision is 'bf16'"),
        ({"runtime.threads": 1}, "runtime.threads is 1; a scratch-language-model does not read it"),
        ({"runtime.device": "cuda"}, "NumPy runs on the cpu"),
    ],
)
def test_what_does_not_fit_is_refused(comments: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gw.train("comments-scratch", data=comments, out=tmp_path / "run", overrides=change)
    assert not (tmp_path / "run").exists()


def test_no_data_and_several_processes_are_refused(
    comments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"the recipe names no data; add data=FILE\.csv"):
        gw.train("comments-scratch", out=tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start it without torchrun"):
        gw.train("comments-scratch", data=comments, out=tmp_path / "run")


@pytest.mark.parametrize(
    "change", [{"training.lr_decay_on_rise": 0.5}, {"data.max_sentences": 3}, {"model.init_scale": 0.0}]
)
def test_its_keys_are_refused_elsewhere(corpus: Path, tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        gw.train("demo", data=corpus, out=tmp_path / "run", overrides=change)


def test_resume_of_a_finished_run_and_of_another_text(scratch_run: Path, comments: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in scratch_run.iterdir() if path.is_file()}
    again = gw.train("comments-scratch", data=comments, out=scratch_run, resume=True, overrides=TINY_SCRATCH)
    assert again.metrics == last_line(scratch_run)
    with pytest.raises(UsageError, match=r"data\.max_sentences = 0, now it is 3"):
        gw.train(out=scratch_run, resume=True, overrides={"data.max_sentences": 3})
    other = write_comments(tmp_path / "other.csv", repeats=2)
    with pytest.raises(DataError, match="the train text is not the one this run was started with"):
        gw.train(out=scratch_run, data=other, resume=True)
    assert before == {path.name: path.read_bytes() for path in scratch_run.iterdir() if path.is_file()}


def test_one_hot_in_an_ordinary_language_model(corpus: Path, tmp_path: Path) -> None:
    from tests.conftest import TINY

    run = gw.train("demo", data=corpus, out=tmp_path / "run", overrides={**TINY, "model.one_hot": True})
    assert "embedding.weight" not in load_file(run.path / "model.safetensors")
    assert np.isfinite(run.metrics["test_perplexity"])
    with pytest.raises(UsageError, match="one_hot uses no embedding"):
        gw.train("demo", data=corpus, out=tmp_path / "no", overrides={"model.one_hot": True, "model.tie_weights": True})
