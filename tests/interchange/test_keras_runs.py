"""Run folders from Keras' files and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.errors import DataError, MissingPackage, NotVerified, UsageError
from gatewise.interchange import keras_format, keras_writer
from gatewise.interchange.runs import export_run, import_run
from gatewise.tasks.evaluate import evaluate
from tests.interchange.keras_rig import keras_3
from tests.interchange.rig import WORDS, H, I, T, assert_equal_weights, trained_for_a_step
from tests.tolerances import RELATIVE

keras = keras_3()
L = keras.layers
N = 4


def save(path: Path, *layers: Any) -> Any:
    """Save a sequential model with random weights."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(list(layers))
    model.set_weights([np.random.default_rng(k).normal(size=w.shape) * 0.5 for k, w in enumerate(model.get_weights())])
    model.save(path)
    return model


def numbers(given: Any) -> Any:
    return keras.ops.convert_to_numpy(given)


@pytest.mark.parametrize("activation", ["softmax", "linear"])
@pytest.mark.parametrize("cell", [L.LSTM, L.GRU, L.SimpleRNN])
def test_language_model(cell: Any, activation: str, tmp_path: Path, vocabulary: Path) -> None:
    """With mask_zero and dropout; its scores are those of Keras, as probabilities or as logits."""
    model = save(
        tmp_path / "a.keras",
        L.Input((None,), dtype="int32"),
        L.Embedding(len(WORDS), I, mask_zero=True),
        cell(H, return_sequences=True),
        L.Dropout(0.3),
        cell(H, return_sequences=True, dropout=0.2, recurrent_dropout=0.1),
        L.Dense(len(WORDS), activation=activation),
    )
    run = import_run(tmp_path / "a.keras", tmp_path / "run", vocabulary=vocabulary)
    lm = gw.load(run.path, gw.LanguageModel)
    ids = torch.randint(1, len(WORDS), (T, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, _ = lm(ids, lm.initial_state(2))
    theirs = torch.tensor(numbers(model(ids.T.numpy())))
    found = logits.softmax(-1) if activation == "softmax" else logits
    torch.testing.assert_close(found.transpose(0, 1), theirs, atol=1e-5, rtol=1e-5)
    assert export_run(run.path, tmp_path / "b.keras", "keras")[1] == ""
    again = import_run(tmp_path / "b.keras", tmp_path / "again", vocabulary=vocabulary)
    assert_equal_weights(gw.load(again.path), lm)


@pytest.mark.parametrize("head", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_classifier(bidirectional: bool, head: str, tmp_path: Path) -> None:
    """Of ragged rows, for which Keras needs a mask: probabilities agree with those of ``Masking``."""
    own = [L.LSTM(H, return_sequences=True), L.LSTM(H, return_sequences=head != "last", dropout=0.1)]
    pooling = {"mean": [L.GlobalAveragePooling1D()], "max": [L.GlobalMaxPooling1D()]}.get(head, [])
    layers = [L.Bidirectional(one) for one in own] if bidirectional else own
    model = save(
        tmp_path / "a.keras", L.Input((None, I)), L.Masking(), *layers, *pooling, L.Dense(3, activation="softmax")
    )
    run = import_run(tmp_path / "a.keras", tmp_path / "run")
    found = gw.load(run.path, gw.SequenceClassifier)
    assert found.labels == [0, 1, 2]
    assert found.config.pooling == head
    x, lengths = np.random.default_rng(2).normal(size=(N, T, I)).astype(np.float32), np.array([T, 2, 1, 5])
    if head == "max":
        lengths[:] = T
    x[np.arange(T) >= lengths[:, None]] = 0
    np.testing.assert_allclose(found.predict_proba(x, lengths=lengths), numbers(model(x)), atol=1e-5)
    assert "labels.json" in run.card_file.read_text()
    if head == "max":
        with pytest.raises(UsageError, match="pooling is max"):
            export_run(run.path, tmp_path / "b.keras", "keras")
        return
    gaps, reason = export_run(run.path, tmp_path / "b.keras", "keras")
    assert (reason, set(gaps)) == ("", {"outputs", "outputs of ragged input", "states of ragged input"})
    assert_equal_weights(gw.load(import_run(tmp_path / "b.keras", tmp_path / "again").path), found)


def test_evaluation_of_a_classifier(tmp_path: Path) -> None:
    """On arrays whose labels are the predictions of Keras, it makes no mistake; on others, Keras' number of them."""
    model = save(tmp_path / "a.keras", L.Input((None, I)), L.GRU(H), L.Dense(3, activation="softmax"))
    run = import_run(tmp_path / "a.keras", tmp_path / "run")
    x = np.random.default_rng(2).normal(size=(30, T, I)).astype(np.float32) * 3
    p = numbers(model(x))
    np.savez(tmp_path / "data.npz", x=x, y=p.argmax(1))
    figures = evaluate(run.path, data=tmp_path / "data.npz")
    assert figures["accuracy"] == 1
    assert len(np.unique(p.argmax(1))) == 3
    y = np.arange(30) % 3
    np.savez(tmp_path / "data.npz", x=x, y=y)
    assert evaluate(run.path, data=tmp_path / "data.npz")["accuracy"] == (p.argmax(1) == y).mean()


def test_regressor(tmp_path: Path) -> None:
    """One number for each sequence; normalization before, and units after."""
    model = save(
        tmp_path / "a.keras",
        L.Input((None, I)),
        L.Normalization(mean=[1.0, -20.0, 3.0, 0.0, 0.5], variance=[4.0, 100.0, 0.25, 1.0, 9.0]),
        L.SimpleRNN(H, activation="relu"),
        L.Dense(1),
        L.Rescaling(30.0, offset=-7.0),
    )
    run = import_run(tmp_path / "a.keras", tmp_path / "run")
    found = gw.load(run.path, gw.SequenceRegressor)
    assert (found.scaling.x_std, found.scaling.y_std) == ([2.0, 10.0, 0.5, 1.0, 3.0], 30.0)
    x = np.random.default_rng(2).normal(size=(N, T, I)).astype(np.float32)
    np.testing.assert_allclose(found.predict(x), numbers(model(x))[:, 0], rtol=1e-5)
    np.savez(tmp_path / "data.npz", x=x, y=found.predict(x))
    assert evaluate(run.path, data=tmp_path / "data.npz")["rmse"] < 1e-5
    export_run(run.path, tmp_path / "b.keras", "keras")
    again = gw.load(import_run(tmp_path / "b.keras", tmp_path / "again").path, gw.SequenceRegressor)
    assert again.scaling == found.scaling
    assert_equal_weights(again, found)


def test_a_constant_feature(tmp_path: Path) -> None:
    """Keras divides by 1e-7 where the variance is smaller."""
    variance = [1.0, 1e-16, 0.0, 4.0, 1.0]
    save(
        tmp_path / "a.keras",
        L.Input((None, I)),
        L.Normalization(mean=[0.0] * I, variance=variance),
        L.LSTM(H),
        L.Dense(1),
    )
    found = gw.load(import_run(tmp_path / "a.keras", tmp_path / "run").path, gw.SequenceRegressor)
    assert found.scaling.x_std == [1.0, 1e-7, 1e-7, 2.0, 1.0]


@pytest.mark.parametrize("recipe", ["digits-rows", "sunspots", "memory-task"])
def test_trained_runs(recipe: str, tmp_path: Path) -> None:
    """A run of each task that Keras can hold opens there and agrees."""
    run = trained_for_a_step(recipe, tmp_path / "run")
    gaps, reason = export_run(run.path, tmp_path / "a.keras", "keras")
    assert reason == ""
    assert 0 < max(gaps.values()) < RELATIVE[torch.float32]


def test_a_difference_keeps_no_file(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that exchanges two gates is found out, and the file that was there stays."""
    path = tmp_path / "a.keras"
    path.write_bytes(b"before")
    right = keras_writer.to_layout

    def wrong(cell: str, *given: Any) -> Any:
        kernel, recurrent, bias = right(cell, *given)
        i, f, *others = np.split(recurrent, 4, 1)
        return kernel, np.concatenate([f, i, *others], 1), bias

    monkeypatch.setattr(keras_writer, "to_layout", wrong)
    with pytest.raises(NotVerified, match=r"differ by .* in keras; expected at most 1e-05: the file is not kept"):
        export_run(tiny_run, path, "keras")
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["a.keras"]


def test_without_keras(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written, and the reason why it is unverified comes back."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = "running the file needs Keras 3, and keras is not installed"
    assert export_run(tiny_run, tmp_path / "a.keras", "keras") == ({}, reason)
    assert keras.saving.load_model(tmp_path / "a.keras").layers


def test_without_h5py(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for call in (
        lambda: export_run(tiny_run, tmp_path / "a.keras", "keras"),
        lambda: keras_format.load_stack(tmp_path / "a.h5"),
    ):
        with pytest.raises(MissingPackage, match="h5py, which is not installed; it comes with the extra 'keras'"):
            call()


def test_runs_that_keras_cannot_hold(tmp_path: Path, tiny_run: Path) -> None:
    overrides = {"training.max_steps": 1, "model.hidden_size": 8, "logging.tensorboard": False}
    run = gw.train("tagging-toy", out=tmp_path / "tags", overrides=overrides)
    with pytest.raises(UsageError, match="a Tagger, for which Keras has no layers; expected a language model"):
        export_run(run.path, tmp_path / "a.keras", "keras")
    with pytest.raises(UsageError, match=r"a\.h5: expected a name that ends in \.keras"):
        export_run(tiny_run, tmp_path / "a.h5", "keras")
    assert {one.name for one in tmp_path.iterdir()} == {"tags"}


NO_TASK = {
    "a text classifier": ([L.Embedding(9, I), L.LSTM(H), L.Dense(9, "softmax")], "one vector for each text"),
    "a tagger": ([L.Embedding(9, I), L.LSTM(H, return_sequences=True), L.Dense(4)], "9 words are read and 4 predicted"),
    "numbers at each step": ([L.LSTM(H, return_sequences=True), L.Dense(4)], "no embedding beside the stack"),
    "logits": ([L.LSTM(H), L.Dense(4)], "4 outputs, linear, for each sequence of numbers; expected a classifier"),
    "one class": ([L.LSTM(H), L.Dense(1, "softmax")], "1 outputs, softmax, for each sequence"),
    "a classifier of scaled numbers": (
        [L.Normalization(mean=[0.0] * I, variance=[2.0] * I), L.LSTM(H), L.Dense(4, "softmax")],
        "4 outputs, softmax, after rescaled numbers for each sequence",
    ),
}


@pytest.mark.parametrize("which", NO_TASK)
def test_no_task(which: str, tmp_path: Path, vocabulary: Path) -> None:
    """One line, and no folder."""
    layers, reason = NO_TASK[which]
    embeds = isinstance(layers[0], L.Embedding)
    path = tmp_path / "a.keras"
    save(path, L.Input((None,), dtype="int32") if embeds else L.Input((None, I)), *layers)
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}"):
        import_run(path, tmp_path / "run", vocabulary=vocabulary)
    assert not (tmp_path / "run").exists()


def test_words_of_numbers(tmp_path: Path, vocabulary: Path) -> None:
    save(tmp_path / "a.keras", L.Input((None, I)), L.LSTM(H), L.Dense(1))
    with pytest.raises(UsageError, match="holds a regressor of numbers, not words; omit it"):
        import_run(tmp_path / "a.keras", tmp_path / "run", vocabulary=vocabulary)
