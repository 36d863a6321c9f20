"""Run folders from PyTorch's files and back."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gatewise as gw
from gatewise.errors import DataError, MissingPackage, NotVerified, UsageError
from gatewise.interchange import load_stack, torch_format
from gatewise.interchange.runs import export_run, import_run
from gatewise.spec import CELLS
from tests.conftest import TINY
from tests.interchange.rig import WORDS, H, I, WordLanguageModel, assert_equal_weights, trained_for_a_step, write


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_language_model(cell: str, tied: bool, suffix: str, tmp_path: Path, vocabulary: Path, text: Path) -> None:
    """A model of PyTorch's example, without biases, gives the perplexity that PyTorch's modules compute."""
    model = WordLanguageModel(cell, tied, bias=False)
    path = write(tmp_path / f"a{suffix}", model.state_dict())
    options = {"nonlinearity": cell.removeprefix("rnn_")} if cell.startswith("rnn") else {}
    run = import_run(path, tmp_path / "run", vocabulary=vocabulary, **options)
    assert run.read_config().model.tie_weights == tied
    lm = gw.load(run.path, gw.LanguageModel)
    assert lm.vocabulary.tokens == WORDS
    ids = [lm.vocabulary.eos_id, *lm.vocabulary.encode_text(text.read_text().removesuffix("\n"))]
    nll, tokens = lm.score(ids)
    assert nll / tokens == pytest.approx(model.nll(ids), rel=1e-6)
    assert lm.rnn.spec.bias
    assert not lm.decoder.bias.any()
    assert (lm.decoder.weight is lm.embedding.weight) == tied
    assert f" {sum(p.numel() for p in lm.parameters()):,} parameters, read from `{path.name}`" in (
        run.card_file.read_text()
    )


def test_another_layer_beside_the_stack(tmp_path: Path, vocabulary: Path) -> None:
    """A model whose ``rnn`` has more than the recurrent layers computes something else."""
    state = {**WordLanguageModel("lstm").state_dict(), "rnn.norm.weight": torch.ones(H)}
    with pytest.raises(DataError, match=r"rnn\.norm\.weight belongs to no layer of a language model"):
        import_run(write(tmp_path / "a.pt", state), tmp_path / "run", vocabulary=vocabulary)


@pytest.mark.parametrize("around", ["", "module.", "model.lm."])
def test_names_around_it(around: str, tmp_path: Path, vocabulary: Path) -> None:
    """Wrappers such as DataParallel put a prefix before all names; with ``prefix``, other tensors do not matter."""
    model = WordLanguageModel("gru")
    state = {f"{around}{name}": tensor for name, tensor in model.state_dict().items()}
    options: dict[str, Any] = {}
    if around == "model.lm.":
        state |= {"model.other.weight": torch.zeros(2), "head.weight_ih_l0": torch.zeros(3 * H, I)}
        options["prefix"] = "model.lm.rnn"
    run = import_run(write(tmp_path / "a.pt", state), tmp_path / "run", vocabulary=vocabulary, **options)
    lm = gw.load(run.path, gw.LanguageModel)
    assert_equal_weights(lm.rnn, model.rnn)
    assert torch.equal(lm.embedding.weight, model.encoder.weight)
    assert torch.equal(lm.decoder.weight, model.decoder.weight)
    assert torch.equal(lm.decoder.bias, model.decoder.bias)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_there_and_back(suffix: str, tiny_run: Path, tmp_path: Path) -> None:
    """A run goes to PyTorch and back with every bit of its weights."""
    exported = tmp_path / f"a{suffix}"
    differences, reason = export_run(tiny_run, exported, "torch")
    assert reason == ""
    assert differences["weights"] == 0
    assert set(differences) >= {"outputs", "states", "outputs of ragged input", "states of ragged input"}
    assert max(differences.values()) < 1e-6
    before = gw.load(tiny_run, gw.LanguageModel)
    words = tmp_path / "words"
    words.write_text("\n".join(before.vocabulary.tokens))
    after = gw.load(import_run(exported, tmp_path / "run", vocabulary=words).path, gw.LanguageModel)
    assert_equal_weights(after, before)
    assert after.generate("the", max_tokens=9, seed=1) == before.generate("the", max_tokens=9, seed=1)
    assert_equal_weights(load_stack(exported), before.rnn)


TASKS = ["tagging-toy", "digits-rows", "sunspots", "memory-task"]


@pytest.mark.parametrize("recipe", TASKS)
def test_every_task(recipe: str, tmp_path: Path) -> None:
    """The whole state_dict leaves under its own names, and its stack runs in PyTorch's module."""
    run = trained_for_a_step(recipe, tmp_path / "run")
    differences, _ = export_run(run.path, tmp_path / "a.safetensors", "torch")
    assert max(differences.values()) < 1e-6
    state, own = load_file(tmp_path / "a.safetensors"), run.model.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[name], own[name]) for name in own)


def test_a_difference_keeps_no_file(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that exchanges two gates is found out, and the file that was there stays."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    right = torch_format.write_tensors

    def wrong(path: Path, arrays: dict[str, Any], facts: Any) -> None:
        i, f, *others = np.split(arrays["rnn.weight_hh_l0"], 4)
        right(path, {**arrays, "rnn.weight_hh_l0": np.concatenate([f, i, *others])}, facts)

    monkeypatch.setattr(torch_format, "write_tensors", wrong)
    with pytest.raises(NotVerified, match=r"weights differ by .* in torch; expected at most 1e-05: the file is not"):
        export_run(tiny_run, path, "torch")
    monkeypatch.setattr(torch_format, "_gap", lambda *_: math.nan)
    with pytest.raises(NotVerified, match="differ by nan"):
        export_run(tiny_run, path, "torch")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


def test_outputs_are_compared(tiny_run: Path, tmp_path: Path) -> None:
    """Each part of the comparison finds a model that computes something else with the same weights."""
    export_run(tiny_run, tmp_path / "a.pt", "torch")
    model = gw.load(tiny_run, gw.LanguageModel)
    assert max(torch_format.differences(model, tmp_path / "a.pt").values()) < 1e-6
    model.rnn.register_forward_hook(lambda module, given, result: (result[0] * 1.01, result[1]))
    found = torch_format.differences(model, tmp_path / "a.pt")
    assert found["weights"] == 0
    assert min(found["outputs"], found["outputs of ragged input"]) > 1e-5
    assert max(found["states"], found["states of ragged input"]) < 1e-6


def test_another_framework_that_is_not_installed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written, and the reason why it is unverified comes back."""

    def missing(*_: object) -> None:
        raise MissingPackage("comparing needs torch, which is not installed")

    monkeypatch.setattr(torch_format, "differences", missing)
    assert export_run(tiny_run, tmp_path / "a.pt", "torch") == ({}, "comparing needs torch, which is not installed")
    assert (tmp_path / "a.pt").is_file()


NO_TASK = {
    "a bare stack": (nn.LSTM(I, H), "a bare lstm stack, which has no task; .* gatewise.interchange.load_stack"),
    "two directions": (WordLanguageModel(bidirectional=True), "a bidirectional stack; expected a language model"),
    "no decoder": (nn.ModuleDict({"encoder": nn.Embedding(5, I), "rnn": nn.GRU(I, H)}), "no decoder beside the stack"),
    "no embedding": (nn.ModuleDict({"rnn": nn.GRU(I, H), "decoder": nn.Linear(H, 5)}), "no embedding beside the stack"),
    "another width": (
        nn.ModuleDict({"encoder": nn.Embedding(5, I + 1), "rnn": nn.GRU(I, H), "decoder": nn.Linear(H, 5)}),
        r"the embedding has shape \(5, 6\); expected \(…, 5\), which the stack reads",
    ),
    "another number of words": (
        nn.ModuleDict({"encoder": nn.Embedding(6, I), "rnn": nn.GRU(I, H), "decoder": nn.Linear(H, 5)}),
        "6 words are read and 5 predicted",
    ),
    "another layer": (
        nn.ModuleDict({"encoder": nn.Embedding(5, I), "rnn": nn.GRU(I, H), "norm": nn.LayerNorm(H)}),
        "norm.weight belongs to no layer of a language model",
    ),
    "two embeddings": (
        nn.ModuleDict({"encoder": nn.Embedding(5, I), "embedding": nn.Embedding(5, I), "rnn": nn.GRU(I, H)}),
        "embedding.weight belongs to no layer",
    ),
    "a projection": (
        nn.ModuleDict({"encoder": nn.Embedding(5, I), "rnn": nn.LSTM(I, H, proj_size=2), "decoder": nn.Linear(2, 5)}),
        "a projection; expected a language model",
    ),
}


@pytest.mark.parametrize("which", NO_TASK)
def test_no_task(which: str, tmp_path: Path) -> None:
    """One line, and no folder."""
    model, reason = NO_TASK[which]
    path = write(tmp_path / "a.pt", model.state_dict())
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}"):
        import_run(path, tmp_path / "run", vocabulary=path)
    assert not (tmp_path / "run").exists()


def test_biases_that_do_not_fit(tmp_path: Path) -> None:
    state = WordLanguageModel().state_dict()
    for name, bias, reason in (
        ("short", torch.zeros(3), r"the decoder's bias has shape \(3,\); expected \(20,\)"),
        ("infinite", torch.full((20,), math.inf), "the decoder's bias contains numbers that are not finite"),
    ):
        path = write(tmp_path / f"{name}.pt", {**state, "decoder.bias": bias})
        with pytest.raises(DataError, match=reason):
            import_run(path, tmp_path / "run", vocabulary=path)


VOCABULARIES = {
    "too few": (WORDS[:-1], "19 lines; expected one for each word of the model, 20"),
    "too many": ([*WORDS, "more"], "more than 20 lines"),
    "twice": ([*WORDS[:-1], "the"], ":20: 'the' stands in line 2 already"),
    "two words": ([*WORDS[:-1], "the dog"], ":20: 'the dog' is not one token"),
    "an empty line": ([*WORDS[:-1], ""], ":20: '' is not one token"),
    "no end of a line": ([word.replace("<eos>", "</s>") for word in WORDS], "no line <eos>, which ends each line"),
    "no unknown word": ([word.replace("<unk>", "unk") for word in WORDS], "no line <unk>, as which other words"),
}


@pytest.mark.parametrize("which", VOCABULARIES)
def test_other_vocabularies(which: str, tmp_path: Path) -> None:
    words, reason = VOCABULARIES[which]
    path, vocabulary = write(tmp_path / "a.pt", WordLanguageModel().state_dict()), tmp_path / "words"
    vocabulary.write_text("".join(f"{word}\n" for word in words))
    with pytest.raises(DataError, match=rf"^{vocabulary}(: |:20: ){reason.removeprefix(':20: ')}"):
        import_run(path, tmp_path / "run", vocabulary=vocabulary)
    assert not (tmp_path / "run").exists()


def test_folders_that_are_in_use(tiny_run: Path, tmp_path: Path, vocabulary: Path) -> None:
    """Another run, or any other file, is left alone."""
    path = write(tmp_path / "a.pt", WordLanguageModel().state_dict())
    for out in (tiny_run, tmp_path, path):
        with pytest.raises(UsageError):
            import_run(path, out, vocabulary=vocabulary)


def test_a_full_disk_leaves_no_run(tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write(tmp_path / "a.pt", WordLanguageModel().state_dict()), tmp_path / "run"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gatewise.interchange.runs.imported_card", full)
        with pytest.raises(OSError, match="No space"):
            import_run(path, out, vocabulary=vocabulary)
    assert {one.name for one in out.iterdir()} <= {".lock"}
    import_run(path, out, vocabulary=vocabulary)  # and the folder can be used again
    assert gw.load(out).vocabulary.tokens == WORDS


def test_training_cannot_resume_an_imported_run(tmp_path: Path, vocabulary: Path, corpus: Path) -> None:
    """Its weights stay as they were imported."""
    run = import_run(
        write(tmp_path / "a.pt", WordLanguageModel().state_dict()), tmp_path / "run", vocabulary=vocabulary
    )
    before = run.weights_file.read_bytes()
    with pytest.raises(UsageError, match="this run was imported, so there is no training to resume"):
        gw.train("demo", data=corpus, out=run.path, resume=True, overrides=TINY)
    assert run.weights_file.read_bytes() == before
