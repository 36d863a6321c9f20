"""Files that are no model, and a library that is not there: one line each, and never a crash."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gatewise import runtime
from gatewise.artifact.sealed import write_sealed
from gatewise.errors import GatewiseError, NotFinite, RunError, UsageError
from gatewise.runtime import library
from gatewise.runtime.model_file import STORED, read_file, read_tensors, stored_run
from gatewise.runtime.run_reader import RunReader
from tests.conftest import unseal
from tests.runtime.rig import CASES, drawn_run, inputs_of

KINDS = ["lm lstm", "tagger both lstm crf", "text max lstm", "classifier mean", "regressor horizon"]


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[..., Path]:
    """A model file of a case, with a changed description and changed tensors, sealed anew."""

    def write(
        which: str,
        weights: str = "fp32",
        about: dict[str, Any] | None = None,
        tensors: Callable[[dict[str, Any]], object] = lambda tensors: None,
    ) -> Path:
        run = RunReader.existing(drawn_run(tmp_path / which.replace(" ", "-"), CASES[which]))
        own, arrays = stored_run(run, weights)
        arrays = dict(arrays)
        tensors(arrays)
        facts = {key: value for key, value in {**own, **(about or {})}.items() if value != "MISSING"}
        write_sealed(tmp_path / "m.gatewise", arrays, {"runtime": facts})
        return tmp_path / "m.gatewise"

    return write


def refused(path: Path, status: int = 4) -> str:
    """Load what must be refused in one line that names the file."""
    with pytest.raises(GatewiseError) as caught:
        runtime.load(path)
    assert caught.value.exit_status == status
    line = str(caught.value)
    assert line.startswith(str(path)) and "\n" not in line
    return line


@pytest.mark.parametrize("which", KINDS)
def test_any_changed_bit_is_found(which: str, file_of: Callable[..., Path]) -> None:
    path, rng = file_of(which), np.random.default_rng(1)
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path)
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path)


WRONG: list[tuple[str, dict[str, Any]]] = [
    *(("lm lstm", {key: "MISSING"}) for key in ("task", "model", "weights", "cell", "level", "tokens", "version")),
    ("lm lstm", {"version": 2}),
    ("lm lstm", {"version": "1"}),
    ("lm lstm", {"task": "tagger"}),
    ("lm lstm", {"task": "regressor"}),
    ("lm lstm", {"cell": "elman"}),
    ("lm lstm", {"cell": "gru"}),
    ("lm lstm", {"weights": "int8"}),
    ("lm lstm", {"weights": 8}),
    ("lm lstm", {"hidden_size": 0}),
    ("lm lstm", {"hidden_size": 7}),
    ("lm lstm", {"hidden_size": 2**40}),
    ("lm lstm", {"hidden_size": -6}),
    ("lm lstm", {"hidden_size": "6"}),
    ("lm lstm", {"num_layers": 1}),
    ("lm lstm", {"num_layers": 2**31 - 1}),
    ("lm lstm", {"bidirectional": True}),
    ("lm lstm", {"tied": True}),
    ("lm lstm", {"one_hot": True}),
    ("lm lstm", {"crf": True}),
    ("lm lstm", {"start": True}),
    ("lm lstm", {"start": 1}),
    ("lm lstm", {"tokens": []}),
    ("lm lstm", {"tokens": ["a"] * 11}),
    ("lm lstm", {"tokens": [1, 2]}),
    ("lm lstm", {"tokens": "text"}),
    ("tagger both lstm crf", {"labels": ["NN"]}),
    ("tagger both lstm crf", {"labels": ["NN", "V", 3]}),
    ("tagger both lstm crf", {"labels": "MISSING"}),
    ("tagger both lstm crf", {"characters": "MISSING"}),
    ("tagger both lstm crf", {"characters": ["a"]}),
    ("tagger both lstm crf", {"character_encoder": "none"}),
    ("tagger both lstm crf", {"character_hidden_size": 0}),
    ("tagger both lstm crf", {"crf": False}),
    ("tagger both lstm crf", {"lowercase": "MISSING"}),
    ("text max lstm", {"pooling": "sum"}),
    ("classifier mean", {"inputs": 4}),
    ("classifier mean", {"inputs": 0}),
    ("classifier mean", {"labels": [1, 2, 3]}),
    ("classifier mean", {"labels": [1.5, 2, 3, 4]}),
    ("regressor horizon", {"scaling": "MISSING"}),
    ("regressor horizon", {"scaling": []}),
    ("regressor horizon", {"scaling": {"horizon": 3}}),
    ("regressor horizon", {"scaling": {"x_mean": [1, 2, 3], "x_std": [1, 0, 3], "horizon": 4, "columns": ["a"]}}),
    ("regressor horizon", {"scaling": {"x_mean": [1, 2], "x_std": [1, 2], "horizon": 4}}),
    ("regressor horizon", {"window": -1}),
    ("regressor horizon", {"window": "5"}),
]


@pytest.mark.parametrize(("which", "about"), WRONG, ids=str)
def test_descriptions_that_do_not_fit(which: str, about: dict[str, Any], file_of: Callable[..., Path]) -> None:
    refused(file_of(which, about=about))


@pytest.mark.parametrize("weights", STORED)
def test_tensors_that_do_not_fit(weights: str, file_of: Callable[..., Path]) -> None:
    def spoil(tensors: dict[str, Any], name: str, value: float) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(-1)[0] = value

    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda t: t.pop("rnn.bias_ih_l0"),
        lambda t: t.update(more=t["rnn.bias_ih_l0"]),
        lambda t: t.update({"rnn.bias_ih_l0": t["rnn.bias_ih_l0"][1:]}),
        lambda t: t.update({"rnn.bias_ih_l0": t["rnn.bias_ih_l0"].astype("f8")}),
        lambda t: t.update({"decoder.weight": t["decoder.weight"].T}),
        lambda t: spoil(t, "rnn.bias_ih_l0", np.nan),
        lambda t: spoil(t, "decoder.bias", np.inf),
    ]
    if weights == "fp32":
        changes += [lambda t: spoil(t, "decoder.weight", np.nan), lambda t: spoil(t, "embedding.weight", -np.inf)]
    if weights == "int8":
        changes += [
            lambda t: spoil(t, "decoder.weight.largest", np.nan),
            lambda t: spoil(t, "decoder.weight.largest", np.inf),
            lambda t: t.pop("decoder.weight.largest"),
            lambda t: t.update({"decoder.weight.largest": t["decoder.weight.largest"][1:]}),
        ]
    for change in changes:
        refused(file_of("lm lstm", weights, tensors=change))


def test_what_the_library_is_given_directly(file_of: Callable[..., Path]) -> None:
    """Without the checks of Python: the library refuses the same, and more."""
    for which, about in WRONG:
        content = file_of(which, about=about).read_bytes()
        try:
            opened = library.NativeModel(content, 1)
        except RunError:
            continue
        assert opened.info.hidden == 6, about  # what it does not need may be missing
    for content in (b"\0", b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}"):
        with pytest.raises(RunError):
            library.NativeModel(content, 1)


def test_files_that_are_none(tmp_path: Path, file_of: Callable[..., Path]) -> None:
    run = drawn_run(tmp_path / "run", CASES["lm lstm"])
    assert "does not describe a model" in refused(run / "model.safetensors")
    assert "no such folder" in refused(tmp_path / "none")
    assert "no config.toml" in refused(tmp_path)
    path = file_of("lm lstm", "bf16")
    assert runtime.load(path, "bf16").weights == "bf16"
    with pytest.raises(UsageError, match="holds bf16; omit it"):
        runtime.load(path, "fp32")
    with pytest.raises(UsageError, match="expected one of fp32, bf16, int8"):
        runtime.load(run, "int4")
    for threads in (0, -1, 5000, 1.5, None):
        with pytest.raises(UsageError, match="expected 1 to 4096"):
            runtime.load(run, threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("which", "old", "new", "said"),
    [
        ("lm lstm", "\nhidden_size = 6\n", "\nhidden_size = 7\n", "but the weights were trained with 6"),
        ("lm lstm", "\nhidden_size = 6\n", '\nhidden_size = "6"\n', "expected a positive integer"),
        ("lm lstm", "num_layers = 2", "num_layers = 2000000000", "num_layers"),
        ("lm lstm", 'cell = "lstm"', 'cell = "elman"', "expected one of lstm, gru"),
        ("lm lstm", "one_hot = false", "one_hot = 1", "expected true or false"),
        ("lm lstm", 'name = "language-model"', 'name = "tagger"', "trained with 'language-model'"),
        ("tagger", 'output = "softmax"', 'output = "crf"', "trained with 'softmax'"),
        ("regressor horizon", "horizon = 4", "horizon = 3", "data.horizon"),
        ("regressor horizon", "window = 5", 'window = "auto"', "data.window is 'auto'"),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_runs_that_were_edited(which: str, old: str, new: str, said: str, sealed: bool, tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "run", CASES[which])
    if not sealed:
        unseal(run)
        runtime.load(run)
    text = (run / "config.toml").read_text()
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new))
    with pytest.raises(RunError) as caught:
        runtime.load(run)
    assert str(run) in str(caught.value) and (said in str(caught.value) or not sealed)


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    import safetensors.torch

    run = drawn_run(tmp_path / "run", CASES["lm gru tied characters"])
    tensors = safetensors.torch.load_file(run / "model.safetensors")
    tensors["decoder.weight"] += 1
    safetensors.torch.save_file(tensors, run / "model.safetensors")
    with pytest.raises(RunError, match="holds two different matrices; set it to false"):
        runtime.load(run)


USES: dict[str, Callable[[Any], object]] = {
    "lm lstm": lambda model: model.generate("the", temperature=0),
    "lm gru tied characters": lambda model: model.perplexity(["the"]),
    "scratch": lambda model: model.next_tokens(),
    "tagger both lstm crf": lambda model: (model.tag([["the", "dog"]]), model.tag_probabilities([["the", "dog"]])),
    "text max lstm": lambda model: model.predict(["the dog"]),
    "classifier mean": lambda model: model.predict_proba_over_time(np.ones((1, 5, 3))),
    "regressor horizon": lambda model: model.predict(np.ones((1, 5, 3)) * [1000, 2, -3]),
}


@pytest.mark.parametrize("which", USES)
def test_outputs_that_are_not_finite(which: str, file_of: Callable[..., Path]) -> None:
    """The weights are: of two outputs, one overflows whatever the sign of what they read."""

    def large(tensors: dict[str, Any]) -> None:
        name = "embedding.weight" if which == "lm gru tied characters" else "decoder.weight"
        tensors[name] = np.full_like(tensors[name], 3e38)
        tensors[name][::2] *= -1
        tensors["decoder.bias"] = np.full_like(tensors["decoder.bias"], 3.4e38)

    model = runtime.load(file_of(which, tensors=large))
    with pytest.raises(NotFinite, match="are not finite"):
        USES[which](model)


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "run", CASES["classifier mean"])
    library.library.cache_clear()
    try:
        for found, said in (
            (None, "needs Gatewise's own library, but it was not built"),
            (SimpleNamespace(origin=str(run / "config.toml")), "cannot be loaded"),
            (SimpleNamespace(origin="libm.so.6"), "gw_version"),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(library.importlib.util, "find_spec", lambda name, found=found: found)
                with pytest.raises(UsageError) as caught:
                    runtime.load(run)
                assert said in str(caught.value)
        assert runtime.load(run).predict(inputs_of(CASES["classifier mean"], 2)[None]).shape == (1,)
    finally:
        library.library.cache_clear()


def test_addresses_are_those_of_the_memory_that_is_meant() -> None:
    right = np.zeros((2, 3))
    assert library.address(right, np.float64, (2, 3)) == right.ctypes.data
    for wrong in (
        right[:1],
        right.astype("f4"),
        right.T,
        np.zeros((2, 6))[:, ::2],
        right.astype(">f8"),
        [[0.0] * 3] * 2,
    ):
        with pytest.raises(ValueError, match="an array is"):
            library.address(wrong, np.float64, (2, 3))  # type: ignore[arg-type]


def test_inputs_of_another_task_never_reach_the_library(file_of: Callable[..., Path]) -> None:
    language = runtime.load(file_of("lm lstm"))
    tagger = runtime.load(file_of("tagger"))
    ids, words = language._inputs([1, 2]), tagger._inputs(["a", "b"])
    state = language.initial_state()
    for call, said in (
        (lambda: language._native.step(words, [state._handle, state._handle]), "an array is"),
        (lambda: language._native.run(np.array([2]), words), "an array is"),
        (lambda: language._native.run(np.array([3]), ids), "expected equally many"),
        (lambda: language._native.run(np.array([2], np.int32), ids), "an array is int32"),
        (lambda: language._native.run(np.array([4, -2]), ids), "expected equally many"),
        (lambda: tagger._native.tag(np.array([2]), ids), "an array is"),
        (lambda: tagger._native.tag_probabilities(np.array([2]), ids), "an array is"),
        (lambda: tagger._native.tag_probabilities(np.array([3]), words), "expected equally many"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_memory_stays_flat(file_of: Callable[..., Path]) -> None:
    """States and models that are dropped are freed, and large input is read in batches."""
    import resource

    path = file_of("classifier mean")
    x = np.zeros((20_000, 10, 3), np.uint8)

    def once() -> None:
        model = runtime.load(path)
        model.predict_proba(x)
        for _ in range(2000):
            model.initial_state()

    once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        once()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_reading_a_file_changes_nothing(file_of: Callable[..., Path]) -> None:
    path = file_of("tagger both lstm crf", "int8")
    before = path.read_bytes()
    assert read_file(path).content == before and json.dumps(read_file(path).about)
    assert set(read_tensors(path)) >= {"crf.transitions", "embedding.weight"}
    assert path.read_bytes() == before and threading.active_count() >= 1
