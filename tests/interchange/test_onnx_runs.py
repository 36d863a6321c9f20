"""Run folders to ONNX and back, and language models of other programs."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import ModelConfig
from gatewise.errors import DataError, MissingPackage, NotVerified, UsageError
from gatewise.interchange import onnx_export, onnx_format, onnx_graph, onnx_models, onnx_verify
from gatewise.interchange.runs import export_run, import_run
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor
from gatewise.models.tagger import Tagger
from gatewise.models.text_classifier import TextClassifier
from gatewise.predict.forecast import forecast
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.viterbi import viterbi
from gatewise.tasks.evaluate import evaluate
from tests.cli.conftest import Gatewise, gatewise  # noqa: F401
from tests.conftest import TINY_TAGGER
from tests.interchange.rig import WORDS, WordLanguageModel, assert_equal_weights

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def text_run(tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``ewt-genre`` on small files."""
    out = tmp_path_factory.mktemp("runs") / "text"
    overrides = {**TINY_TAGGER, "model.character_encoder": "cnn", "training.epochs": 2}
    return gw.train("ewt-genre", data=tagged, out=out, overrides=overrides).path


TASKS = {
    "language model": ("tiny_run", "corpus"),
    "scratch": ("scratch_run", "comments"),
    "tagger": ("tagger_run", "tagged"),
    "classifier": ("classifier_run", "sequences"),
    "text classifier": ("text_run", "tagged"),
    "regressor": ("regressor_run", "waves"),
}


def figures(run: Path, data: Path) -> dict[str, float]:
    """The numbers of an evaluation."""
    return {name: one for name, one in evaluate(run, data=data).items() if isinstance(one, int | float)}


@pytest.mark.parametrize("task", TASKS)
def test_there_and_back(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every bit of the weights, every part, and the same test figures."""
    run, data = (request.getfixturevalue(name) for name in TASKS[task])
    differences, reason = export_run(run, tmp_path / "a.onnx", "onnx")
    assert reason == ""
    assert differences.pop("weights") == 0
    assert len(differences) >= 1
    assert max(differences.values()) < 1e-6
    back = import_run(tmp_path / "a.onnx", tmp_path / "run")
    assert_equal_weights(gw.load(back.path), gw.load(run))
    before = RunFolder(run)
    for part, own in zip(before.parts, back.parts, strict=True):
        assert part.is_file() == own.is_file()
        assert not part.is_file() or part.read_bytes() == own.read_bytes()
    assert back.read_config().meaning() == before.read_config().meaning()
    assert str(data) not in back.config_file.read_text()
    assert figures(back.path, data) == figures(run, data)
    assert not back.metrics_file.exists()


def test_forecasts_of_an_imported_run(regressor_run: Path, waves: Path, tmp_path: Path) -> None:
    """They are those of the run, from a file; without one, the message says so."""
    export_run(regressor_run, tmp_path / "a.onnx", "onnx")
    back = import_run(tmp_path / "a.onnx", tmp_path / "run").path
    assert forecast(back, waves).values == forecast(regressor_run, waves).values
    with pytest.raises(UsageError, match=r"a run without data of its own, such as an imported one; add file$"):
        forecast(back)


def test_memory_task_there_and_back(tmp_path: Path) -> None:
    """Its data are drawn, so it needs none."""
    overrides = {"data.length": 10, "model.hidden_size": 6, "training.max_steps": 2, "logging.tensorboard": False}
    run = gw.train("memory-task", out=tmp_path / "before", overrides=overrides)
    differences, _ = export_run(run.path, tmp_path / "a.onnx", "onnx")
    assert max(differences.values()) < 1e-6
    back = import_run(tmp_path / "a.onnx", tmp_path / "run")
    assert evaluate(back.path) == evaluate(run.path)
    before = back.weights_file.read_bytes()
    with pytest.raises(UsageError, match="this run was imported, so there is no training to resume"):
        gw.train("memory-task", out=back.path, resume=True, overrides=overrides)
    assert back.weights_file.read_bytes() == before


LEXICON = Lexicon(["a", "b", "<unk>", "c"])
SCALING = {"x_mean": [1000.0, 2.0, 3.0], "x_std": [1.0, 0.1, 3.0], "y_mean": 50.0, "y_std": 7.0}
SERIES = {**SCALING, "columns": ["a", "b", "c"], "target": "b"}


def words(kind: type[nn.Module], characters: str) -> Callable[[dict[str, Any]], nn.Module]:
    about = {"character_encoder": characters, "character_embedding_size": 3, "character_hidden_size": 5}

    def make(sizes: dict[str, Any]) -> nn.Module:
        output = {"output": "crf"} if kind is Tagger and characters == "cnn" else {}
        return kind(ModelConfig(**sizes, **about, **output), LEXICON, LEXICON, ["x", "y", "z"])

    return make


MODELS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "classifier": lambda sizes: SequenceClassifier(ModelConfig(**sizes), 3, ["x", "y"]),
    "bare regressor": lambda sizes: SequenceRegressor(ModelConfig(**sizes), 3),
    "regressor": lambda sizes: SequenceRegressor(ModelConfig(**sizes), 3, Scaling(**SCALING)),
    "relative": lambda sizes: SequenceRegressor(ModelConfig(**sizes), 3, Scaling(**SERIES, relative=True), window=7),
    "horizon": lambda sizes: SequenceRegressor(
        ModelConfig(**sizes), 3, Scaling(**SERIES, relative=True, horizon=4), window=7
    ),
    **{f"tagger-{kind}": words(Tagger, kind) for kind in ("none", "lstm", "cnn")},
    **{f"text-{kind}": words(TextClassifier, kind) for kind in ("none", "lstm", "cnn")},
}


def drawn_model(make: Callable[[dict[str, Any]], nn.Module], cell: str, pooling: str, both: bool) -> nn.Module:
    """A model with weights of both signs, in eval mode."""
    sizes = {"cell": cell, "hidden_size": 6, "num_layers": 2, "pooling": pooling, "bidirectional": both}
    model, generator = make(sizes), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    ("cell", "pooling", "both"), [("lstm", "last", True), ("gru", "mean", False), ("rnn_relu", "max", True)]
)
@pytest.mark.parametrize("which", MODELS)
def test_models(which: str, cell: str, pooling: str, both: bool, tmp_path: Path) -> None:
    """With each pooling and character encoder, on ragged input with rows and spellings of length 0."""
    model = drawn_model(MODELS[which], cell, pooling, both)
    onnx_format.save_model(model, tmp_path / "a.onnx")
    found = onnx_format.differences(model, tmp_path / "a.onnx")
    assert found.pop("weights") == 0
    assert max(found.values()) < 1e-6
    assert onnx.load(tmp_path / "a.onnx").doc_string == onnx_models.INTERFACE[type(model)]
    with pytest.raises(UsageError, match=r"^graph=step: a \w+ reads whole sequences|^graph=step: the stack is bidir"):
        onnx_format.save_model(model, tmp_path / "b.onnx", graph="step")


def test_padding_of_a_classifier_does_not_count(tmp_path: Path) -> None:
    """NaN past the end of a row changes nothing, with any pooling."""
    for pooling in ("last", "mean", "max"):
        model = drawn_model(MODELS["classifier"], "lstm", pooling, True)
        onnx_format.save_model(model, tmp_path / "a.onnx")
        x = torch.randn(5, 2, 3)
        x[3:, 1] = torch.nan
        running = onnx_verify.session(tmp_path / "a.onnx")
        (found,) = running.run(None, {"x": x.numpy(), "lengths": np.array([5, 3], np.int32)})
        with torch.no_grad():
            alone = model(x[:3, 1:].transpose(0, 1)).softmax(1)
        np.testing.assert_allclose(found[1:], alone.numpy(), atol=1e-6)


@torch.no_grad()
def test_crf_from_the_outputs(tmp_path: Path) -> None:
    """The outputs of the graph are all that decoding needs."""
    model = drawn_model(MODELS["tagger-cnn"], "lstm", "last", True)
    assert isinstance(model, Tagger)
    onnx_format.save_model(model, tmp_path / "a.onnx")
    running, batch = onnx_verify.session(tmp_path / "a.onnx"), None
    lengths = torch.tensor([6, 2])
    batch = onnx_verify._sentences(model, torch.Generator().manual_seed(1), 6, 2, lengths)
    names = {"words", "forms", "spellings", "spelling_lengths", "lengths"}
    given = dict(onnx_verify._arrays({name: getattr(batch, name) for name in names}))
    scores, *parts = (one.astype(np.float64) for one in running.run(["scores", "transitions", "start", "end"], given))
    np.testing.assert_array_equal(viterbi(scores, lengths.numpy(), *parts), model.predict(batch).numpy())


# Language models of other programs.


class Exported(nn.Module):
    """PyTorch's example with the state as an input, as users export it."""

    def __init__(self, model: WordLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model.decoder(self.model.rnn(self.model.encoder(ids))[0])
        return logits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_a_language_model_of_pytorch(cell: str, bias: bool, tmp_path: Path, vocabulary: Path, text: Path) -> None:
    """It gives the perplexity that PyTorch's modules compute."""
    model = WordLanguageModel(cell, bias=bias).eval()
    ids, path = torch.zeros(4, 2, dtype=torch.long), tmp_path / "a.onnx"
    torch.onnx.export(
        Exported(model), (ids,), str(path), dynamo=False, input_names=["ids"], dynamic_axes={"ids": [0, 1]}
    )
    with pytest.raises(UsageError, match=r"whose file does not hold its words; add vocabulary=FILE"):
        import_run(path, tmp_path / "run")
    lm = gw.load(import_run(path, tmp_path / "run", vocabulary=vocabulary).path, gw.LanguageModel)
    assert_equal_weights(lm.decoder, model.decoder) if bias else None
    assert lm.vocabulary.tokens == WORDS
    known = [lm.vocabulary.eos_id, *lm.vocabulary.encode_text(text.read_text().removesuffix("\n"))]
    nll, tokens = lm.score(known)
    assert nll / tokens == pytest.approx(model.nll(known), rel=1e-6)


@pytest.mark.parametrize("graph", ["sequence", "step"])
def test_our_file_without_its_run(graph: str, tiny_run: Path, tmp_path: Path, vocabulary: Path) -> None:
    """A model saved without its run folder is a graph as any other, as long as it has time."""
    model = gw.load(tiny_run, gw.LanguageModel)
    path = tmp_path / "a.onnx"
    onnx_format.save_model(model, path, graph=graph)
    if graph == "step":
        with pytest.raises(DataError, match="not a layer of a language model"):
            onnx_format.load_model(path)
        return
    words = tmp_path / "words"
    words.write_text("\n".join(model.vocabulary.tokens))
    found = gw.load(import_run(path, tmp_path / "run", vocabulary=words).path, gw.LanguageModel)
    assert_equal_weights(found, model)


# Verification.


def test_a_difference_keeps_no_file(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Final states that are exchanged between layers and gates are found out, and the file that was there stays."""
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    right = onnx_graph.to_layout

    def wrong(*args: Any, **kwargs: Any) -> Any:
        W, R, *bias = right(*args, **kwargs)
        return (W, np.roll(R, 1, 0), *bias)

    monkeypatch.setattr(onnx_graph, "to_layout", wrong)
    with pytest.raises(NotVerified, match=r"differ by .* in onnx; expected at most 1e-05: the file is not kept"):
        export_run(tiny_run, path, "onnx")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["a.onnx"]


def test_outputs_are_compared(tiny_run: Path, tmp_path: Path) -> None:
    """Each output by itself, where the weights are the same."""
    model = gw.load(tiny_run, gw.LanguageModel)
    onnx_format.save_model(model, tmp_path / "a.onnx")
    model.rnn.register_forward_hook(lambda module, given, result: (result[0] * 1.01, result[1]))
    found = onnx_format.differences(model, tmp_path / "a.onnx")
    assert found["weights"] == 0
    assert found["logits"] > 1e-5
    assert max(found["h_n"], found["c_n"]) < 1e-6


def test_gaps() -> None:
    """NaN, another shape or another type is no agreement."""
    one = np.ones((2, 3), np.float32)
    assert onnx_verify.gap(one, one) == 0
    assert onnx_verify.gap(one * np.float32(np.nan), one) == math.inf
    assert onnx_verify.gap(one[:1], one) == math.inf
    assert onnx_verify.gap(one.astype(np.float64), one) == math.inf
    assert onnx_verify.gap(one * 110, one * 100) == pytest.approx(0.1)


def test_without_onnx_runtime(
    gatewise: Gatewise,  # noqa: F811
    tiny_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is written, and the last line says how to verify it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = gatewise("export", tiny_run, "--to", "onnx", "--out", "a.onnx")
    assert result.out.splitlines() == [
        "wrote a.onnx",
        "unverified: comparing an ONNX file with its model needs onnxruntime, which is not installed; install it and "
        "export again",
    ]
    assert Path("a.onnx").is_file()


def test_without_onnx(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its absence names the extra."""
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackage, match="needs onnx, which is not installed; it comes with the extra 'onnx'"):
        export_run(tiny_run, tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_too_large_for_one_file(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    with pytest.raises(UsageError, match=r"a.onnx: .*; an ONNX file holds at most"):
        export_run(tiny_run, tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


# What was changed since.


def resealed(path: Path, change: Callable[[Any], None]) -> None:
    """Change a file and give it a hash that is right."""
    import hashlib

    model = onnx.load(path)
    change(model)
    content = model.SerializeToString(deterministic=True)[: -onnx_export.SEAL_SIZE]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def fact(name: str, value: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(one for one in model.metadata_props if one.key == f"gatewise.run/{name}").value = value

    return change


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "another graph": (lambda model: model.graph.node[0].attribute[0].__setattr__("i", 1), "not the graph that this"),
    "a weight": (lambda model: model.graph.initializer.pop(), "no initializer"),
    "a path": (
        fact("config.toml", '[data]\npath = "/etc/passwd"\n[model]\nhidden_size = 3\n'),
        "shape|no initializer|layers|expected",
    ),
    "no TOML": (fact("config.toml", "[data"), "config.toml: invalid TOML"),
    "an unknown key": (fact("config.toml", "[data]\nno = 1\n"), "config.toml:2"),
    "a huge model": (
        fact("config.toml", "[model]\nhidden_size = 2000000000\nnum_layers = 2000000\n"),
        "sizes|layers|shape",
    ),
    "no vocabulary": (fact("tokenizer.json", "{}"), "tokenizer.json"),
    "another vocabulary": (fact("tokenizer.json", "[" * 9999), "tokenizer.json"),
}


@pytest.mark.parametrize("which", CHANGES)
def test_changed_files(which: str, tiny_run: Path, tmp_path: Path) -> None:
    """Also with a right hash, what does not fit together is one line that begins with the file's name."""
    change, reason = CHANGES[which]
    path = tmp_path / "a.onnx"
    export_run(tiny_run, path, "onnx")
    resealed(path, change)
    with pytest.raises(DataError, match=rf"^{path}.*({reason})"):
        import_run(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_changed_byte(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    export_run(tiny_run, path, "onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"changed since Gatewise wrote it|damaged"):
        import_run(path, tmp_path / "run")


def test_commands(gatewise: Gatewise, tiny_run: Path, corpus: Path, tmp_path: Path) -> None:  # noqa: F811
    """The whole way in the terminal."""
    for graph in ("sequence", "step"):
        result = gatewise("export", tiny_run, "--to", "onnx", "--graph", graph, "--out", "a.onnx")
        assert (result.status, result.err) == (0, "")
        assert result.out.splitlines()[:2] == ["wrote a.onnx", "largest difference of weights: 0.0e+00"]
        assert "largest difference of logits: " in result.out
        result = gatewise("import", "a.onnx", "--out", graph)
        assert (result.status, result.err) == (0, "")
        both = [json.loads(gatewise("evaluate", run, "--data", corpus, "--json").out) for run in (graph, tiny_run)]
        assert both[0] == both[1]
    gatewise("export", tiny_run, "--to", "onnx", "--graph", "x", "--out", "b.onnx").check_refused(
        2, "--graph x", "step"
    )
    gatewise("export", tiny_run, "--to", "torch", "--graph", "step", "--out", "b.pt").check_refused(2, "omit it")
    gatewise("import", "a.onnx", "--out", "r", "--vocabulary", "a.onnx").check_refused(2, "with its words; omit it")
    gatewise("import", "a.onnx", "--out", "r", "--prefix", "a").check_refused(2, "does not apply to onnx")
