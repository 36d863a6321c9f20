"""Models as users of Keras 3 build them, and the public reports about them."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gatewise.errors import DataError
from gatewise.interchange import load_stack, save_stack
from gatewise.interchange.keras_format import load_model
from gatewise.nn import GRU, LSTM
from tests.interchange.keras_rig import h5py, keras_3
from tests.interchange.rig import B, H, I, T, drawn_stack
from tests.interchange.test_keras_refusals import repacked

keras = keras_3()
L = keras.layers


def drawn(model: Any) -> Any:
    """Give a model random weights of both signs."""
    model.set_weights([np.random.default_rng(k).normal(size=w.shape) * 0.5 for k, w in enumerate(model.get_weights())])
    return model


def numbers(given: Any) -> torch.Tensor:
    return torch.tensor(keras.ops.convert_to_numpy(given))


def rows(seed: int = 1) -> tuple[torch.Tensor, list[int]]:
    """Numbers (T, B, I) with zeros after the end of each row, and the steps of each."""
    x, lengths = torch.randn(T, B, I, generator=torch.Generator().manual_seed(seed)), [4, 6, 1]
    return x * (torch.arange(T)[:, None] < torch.tensor(lengths))[..., None], lengths


@torch.no_grad()
def test_masked_steps_repeat_the_last_output(tmp_path: Path) -> None:
    """Onnxruntime#12492: Keras repeats the last output at masked steps; ours, and what we write, give zeros there."""
    x, lengths = rows()
    theirs = drawn(keras.Sequential([L.Input((None, I)), L.Masking(), L.LSTM(H, return_sequences=True)]))
    theirs.save(tmp_path / "a.keras")
    y = numbers(theirs(x.transpose(0, 1).numpy())).transpose(0, 1)
    assert torch.equal(y[4:, 0], y[3:4, 0].expand(2, -1))
    stack = load_stack(tmp_path / "a.keras")
    ours, _ = stack(x, lengths=lengths)
    inside = (torch.arange(T)[:, None] < torch.tensor(lengths))[..., None]
    torch.testing.assert_close(ours, y * inside, atol=1e-5, rtol=1e-5)
    save_stack(stack, tmp_path / "b.keras", "keras")
    mask = inside[..., 0].T.numpy()
    written = keras.saving.load_model(tmp_path / "b.keras")
    torch.testing.assert_close(
        numbers(written(x.transpose(0, 1).numpy(), mask=mask)).transpose(0, 1), ours, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_gru_from_torch_to_keras(tmp_path: Path) -> None:
    """keras#15915: copied weights gave other results; its gates have another order, and two biases."""
    torch.manual_seed(1)
    peer = nn.GRU(80, 64, 2, batch_first=True)
    save_stack(GRU.from_torch(peer), tmp_path / "a.keras", "keras")
    x = torch.randn(1, 10, 80)
    found = numbers(keras.saving.load_model(tmp_path / "a.keras")(x.numpy()))
    torch.testing.assert_close(found, peer(x)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_variables_are_found_by_the_order_of_layers(cell: str, tmp_path: Path) -> None:
    """keras#20322: names of the user, and counters that other models have moved on, are not those in the file."""
    kind = {"lstm": L.LSTM, "gru": L.GRU}[cell]
    kind(1), kind(1)
    names = ["z", f"{cell}_1", cell]
    own = [L.Bidirectional(kind(H, return_sequences=True), name=name) for name in names]
    model = drawn(keras.Sequential([L.Input((None, I)), L.Dropout(0.1, name="lstm_cell"), *own]))
    model.save(tmp_path / "a.keras")
    x = torch.randn(T, B, I)
    found, _ = load_stack(tmp_path / "a.keras")(x)
    expected = numbers(model(x.transpose(0, 1).numpy())).transpose(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_variables_are_never_drawn_anew(tmp_path: Path) -> None:
    """keras#19615: lstm_cell expected 3 variables, but received 0; such a file is refused, and the layer named."""
    path = tmp_path / "a.keras"
    save_stack(drawn_stack("lstm", 2, True), path, "keras")
    for place, reason in (
        ("layers/bidirectional_1/backward_layer/cell/vars/2", "has 2 arrays in .*/vars; its configuration asks for 3"),
        ("layers/bidirectional_1/backward_layer/cell", "has no 'backward_layer/cell/vars' in the file"),
        ("layers/bidirectional_1", "has no weights: layers/bidirectional_1 is missing in model.weights.h5"),
        ("layers", "has no weights: layers/bidirectional is missing"),
    ):
        (tmp_path / "weights.h5").write_bytes(entry(path))
        with h5py.File(tmp_path / "weights.h5", "a") as file:
            del file[place]
        repacked(path, model__weights__h5=(tmp_path / "weights.h5").read_bytes())
        with pytest.raises(DataError, match=rf"layer 'bidirectional(_1)?' {reason}"):
            load_stack(path)


def entry(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("model.weights.h5")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@torch.no_grad()
def test_functional_model(suffix: str, masked: bool, tmp_path: Path) -> None:
    """With Embedding and mask_zero, whose mask is a node of its own, and a layer that also returns its states."""
    given = keras.Input((None,), dtype="int32")
    x = L.Embedding(9, I, mask_zero=masked)(given)
    x = L.LSTM(H, return_sequences=True, stateful=False, unroll=False)(x)
    x, _, _ = L.LSTM(H, return_sequences=True, return_state=True, use_bias=True)(L.Dropout(0.5)(x))
    model = drawn(keras.Model(given, L.TimeDistributed(L.Dense(9, activation="softmax"))(x)))
    model.save(tmp_path / f"a{suffix}")
    found = load_model(tmp_path / f"a{suffix}")
    ids = torch.randint(1, 9, (B, T), generator=torch.Generator().manual_seed(1))
    assert found.embedding is not None
    assert found.decoder_weight is not None
    assert found.decoder_bias is not None
    y, _ = found.stack.to_module()(torch.from_numpy(found.embedding)[ids].transpose(0, 1))
    logits = y @ torch.from_numpy(found.decoder_weight).T + torch.from_numpy(found.decoder_bias)
    expected = numbers(model(ids.numpy())).transpose(0, 1)
    torch.testing.assert_close(logits.softmax(-1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("merged", [False, True])
@torch.no_grad()
def test_masking_in_a_functional_model(merged: bool, tmp_path: Path) -> None:
    """The mask passes ``NotEqual`` and ``Any``; each value of return_sequences in the last layer."""
    given = keras.Input((None, I))
    x = L.Bidirectional(L.GRU(H, return_sequences=True))(L.Masking()(given))
    model = drawn(keras.Model(given, L.Bidirectional(L.GRU(H, return_sequences=not merged))(x)))
    model.save(tmp_path / "a.keras")
    found = load_model(tmp_path / "a.keras")
    assert found.per_step == (not merged)
    x, lengths = rows(2)
    y, h_n = found.stack.to_module()(x, lengths=lengths)
    expected = numbers(model(x.transpose(0, 1).numpy()))
    ours = torch.cat(list(h_n[-2:]), -1) if merged else y.transpose(0, 1)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_graphs_that_are_no_chain(tmp_path: Path) -> None:
    """Initial states, two branches, states as output, one layer twice, a layer that reads from the end."""
    given = keras.Input((None, I))
    y, h, c = L.LSTM(H, return_state=True, return_sequences=True, name="first")(given)
    shared = L.LSTM(I, return_sequences=True, name="shared")
    models = {
        "layer 'second' .* is called with 'initial_state', which cannot be followed": L.LSTM(H, name="second")(
            y, initial_state=[h, c]
        ),
        "a model with several outputs": [y, h],
        r"layer 'add' \(Add\) reads several inputs": L.Add(name="add")([y, y]),
        "layer 'dense.*' .* reads 'shared', which is called more than once": L.Dense(2)(shared(shared(given))),
        "or whose output is a state or a layer that is called twice": shared(shared(given)),
        r"layer 'back' \(LSTM\) has go_backwards": L.LSTM(H, go_backwards=True, name="back")(given),
        r"\(RepeatVector\) has no counterpart": L.LSTM(H, name="state")(L.RepeatVector(2)(L.LSTM(H)(given))),
    }
    for reason, outputs in models.items():
        keras.Model(given, outputs).save(tmp_path / "a.keras")
        with pytest.raises(DataError, match=reason):
            load_stack(tmp_path / "a.keras")


def test_units_that_forget(tmp_path: Path) -> None:
    """``unit_forget_bias`` acts at initialization alone: the ones are in the file, and are read once."""
    keras.Sequential([L.Input((None, I)), L.LSTM(H, unit_forget_bias=True)]).save(tmp_path / "a.keras")
    stack = load_stack(tmp_path / "a.keras")
    assert isinstance(stack, LSTM)
    assert (stack.bias_ih_l0 + stack.bias_hh_l0).tolist() == [0] * H + [1] * H + [0] * 2 * H
