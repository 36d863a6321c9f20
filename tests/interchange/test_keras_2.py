"""Files of Keras 2, written with h5py in its layout: ``.h5`` and the first ``.keras``."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.errors import DataError
from gatewise.interchange import load_stack
from gatewise.interchange.keras_format import load_model
from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights
from gatewise.nn import Recurrent
from tests.interchange.keras_rig import LSTM, h5py, layer, sequential, write_legacy
from tests.interchange.rig import H, I, assert_alike, assert_equal_weights, drawn_stack

GRU = {**LSTM, "reset_after": True}


def test_other_packages_are_imported_late() -> None:
    """Neither h5py nor Keras comes with the module of the format."""
    program = "import sys, gatewise.interchange.keras_format; print({'h5py', 'keras'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"


def stored(stack: Recurrent) -> list[list[np.ndarray[Any, Any]]]:
    """The arrays of each layer and direction as Keras has them."""
    cell = stack.spec.cell
    return [list(to_layout(cell, one, LAYOUTS["keras"][cell])) for one in StackWeights.from_module(stack).passes]


def named(name: str, *passes: list[np.ndarray[Any, Any]]) -> list[tuple[str, np.ndarray[Any, Any]]]:
    ways = [""] if len(passes) == 1 else ["forward_", "backward_"]
    kinds = ("kernel:0", "recurrent_kernel:0", "bias:0")
    return [
        (f"{name}/{way}{kind}", array)
        for way, own in zip(ways, passes, strict=True)
        for kind, array in zip(kinds, own, strict=False)
    ]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("pieces", [0, 2, 3])
def test_weight_names_in_pieces(pieces: int, listed: bool, tmp_path: Path) -> None:
    """``weight_names0``, ``weight_names1`` …: their order is that of the arrays, whatever HDF5's own order is."""
    stack = drawn_stack("lstm", 2)
    one, two = stored(stack)
    config = sequential(
        layer("LSTM", "z", units=H, batch_input_shape=[None, None, I], **LSTM),
        layer("Dropout", "d", rate=0.2),
        layer("LSTM", "a", units=H, **LSTM),
        listed=listed,
    )
    path = write_legacy(tmp_path / "a.h5", config, {"z": named("z", one), "d": [], "a": named("a", two)}, pieces)
    assert_alike(load_stack(path), stack)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
def test_bidirectional_of_keras_2_2(cell: str, tmp_path: Path) -> None:
    """Its configuration has one layer; the arrays of both directions stand in one list."""
    stack = drawn_stack(cell, 1, True)
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(cell, "SimpleRNN")
    options = {**GRU, "activation": "relu"} if cell == "rnn_relu" else GRU
    inner = layer(kind, "inner", units=H, **options)
    config = sequential(layer("Bidirectional", "both", merge_mode="concat", layer=inner))
    path = write_legacy(tmp_path / "a.h5", config, {"both": named("both", *stored(stack))})
    assert_alike(load_stack(path), stack)


def test_go_backwards_within_bidirectional(tmp_path: Path) -> None:
    """A second layer of its own reads from the end, as our reverse direction does."""
    stack = drawn_stack("lstm", 1, True)
    backward = layer("LSTM", "back", units=H, **{**LSTM, "go_backwards": True})
    both = layer("Bidirectional", "both", merge_mode="concat", layer=layer("LSTM", "f", units=H, **LSTM))
    both["config"]["backward_layer"] = backward
    weights = {"both": named("both", *stored(stack))}
    assert_alike(load_stack(write_legacy(tmp_path / "a.h5", sequential(both), weights)), stack)
    backward["config"]["go_backwards"] = False
    with pytest.raises(DataError, match=r"layer 'back' \(LSTM\) has go_backwards"):
        load_stack(write_legacy(tmp_path / "b.h5", sequential(both), weights))


def cudnn(own: list[np.ndarray[Any, Any]], gates: int, stack: Recurrent) -> list[np.ndarray[Any, Any]]:
    """What ``CuDNNLSTM`` and ``CuDNNGRU`` store: cuDNN's matrices of each gate (H, I), seen as (I, H), and 2·G·H."""
    kernels = [
        np.concatenate([block.T.ravel().reshape(block.shape) for block in np.split(kernel, gates, 1)], 1)
        for kernel in own[:2]
    ]
    if gates == 3:
        return [*kernels, own[2].ravel()]
    weights = StackWeights.from_module(stack).passes[0]
    return [*kernels, np.concatenate([weights.bias_ih, weights.bias_hh])]  # type: ignore[list-item]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_cudnn_layers(cell: str, tmp_path: Path) -> None:
    """The kernel of each gate in cuDNN's layout; both biases, one after the other."""
    stack = drawn_stack(cell)
    gates, kind = {"lstm": (4, "CuDNNLSTM"), "gru": (3, "CuDNNGRU")}[cell]
    arrays = cudnn(stored(stack)[0], gates, stack)
    assert [array.shape for array in arrays] == [(I, gates * H), (H, gates * H), (2 * gates * H,)]
    config = sequential(layer(kind, "fast", units=H, return_sequences=True, stateful=False, go_backwards=False))
    assert_alike(load_stack(write_legacy(tmp_path / "a.h5", config, {"fast": named("fast", arrays)})), stack)


def test_functional_model_of_keras_2(tmp_path: Path) -> None:
    """With a TimeDistributed decoder and a softmax of its own; the layers are followed, whatever their order."""
    stack = drawn_stack("gru")
    table, kernel = np.random.default_rng(1).normal(size=(9, I)), np.random.default_rng(2).normal(size=(H, 9))
    dense = layer("Dense", "inner", units=9, activation="linear", use_bias=False)
    chain = [
        layer("InputLayer", "in", batch_input_shape=[None, None], dtype="int32"),
        layer("Embedding", "words", input_dim=9, output_dim=I, mask_zero=True),
        layer("GRU", "rnn", units=H, **GRU),
        layer("TimeDistributed", "each", layer=dense),
        layer("Activation", "p", activation="softmax"),
    ]
    for one, before in zip(chain, [None, *chain], strict=False):
        one["name"] = one["config"]["name"]
        one["inbound_nodes"] = [] if before is None else [[[before["name"], 0, 0, {}]]]
    config = {"class_name": "Model", "config": {"name": "m", "layers": chain[::-1], "output_layers": [["p", 0, 0]]}}
    weights = {
        "words": [("words/embeddings:0", table.astype("f4"))],
        "rnn": named("rnn", stored(stack)[0]),
        "each": [("each/kernel:0", kernel.astype("f4"))],
    }
    found = load_model(write_legacy(tmp_path / "a.h5", config, weights))
    assert_alike(found.stack.to_module(), stack)
    assert (found.per_step, found.output, found.decoder_bias) == (True, "softmax", None)
    np.testing.assert_array_equal(found.embedding, table.astype("f4"))
    np.testing.assert_array_equal(found.decoder_weight, kernel.T.astype("f4"))


def test_weights_alone(tmp_path: Path) -> None:
    """``save_weights`` writes no architecture; the file says so, and reads with it."""
    stack = drawn_stack("lstm")
    config = sequential(layer("LSTM", "a", units=H, **LSTM))
    path = write_legacy(tmp_path / "a.h5", None, {"a": named("a", *stored(stack))})
    with pytest.raises(DataError, match=r"weights alone, .* add architecture=FILE, a file with what model.to_json"):
        load_stack(path)
    (tmp_path / "a.json").write_text(json.dumps(config))
    assert_alike(load_stack(path, architecture=tmp_path / "a.json"), stack)


def numbered(path: Path, config: Any, groups: dict[str, list[np.ndarray[Any, Any]]], bits: str = "f4") -> Path:
    """Write ``.keras`` with arrays of some groups."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for group, arrays in groups.items():
            for k, array in enumerate(arrays):
                where = f"{group}/{k}"
                if bits == "bfloat16":
                    half = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16)
                    file.create_dataset(where, data=half.view("V2"))
                    file[where].attrs["dtype"] = "bfloat16"
                else:
                    file.create_dataset(where, data=array.astype(bits))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


@pytest.mark.parametrize("root", ["layers", "_layer_checkpoint_dependencies"])
@pytest.mark.parametrize("bits", ["f4", "f2", "bfloat16"])
def test_the_first_keras_files(root: str, bits: str, tmp_path: Path) -> None:
    """Those until 2.13 have another root; bfloat16 is two bytes with a flag."""
    stack = drawn_stack("lstm")
    arrays = stored(stack)[0]
    if bits == "bfloat16":
        arrays = [(a.view(np.uint32) & 0xFFFF0000).view(np.float32) for a in map(np.ascontiguousarray, arrays)]
    else:
        arrays = [array.astype(bits).astype("f4") for array in arrays]
    config = sequential(layer("LSTM", "mine", units=H, **LSTM))
    found = load_stack(numbered(tmp_path / "a.keras", config, {f"{root}/lstm/cell/vars": arrays}, bits))
    assert not torch.equal(found.weight_ih_l0, stack.weight_ih_l0) or bits == "f4"
    again = numbered(tmp_path / "b.keras", config, {f"{root}/lstm/cell/vars": arrays})
    assert_equal_weights(found, load_stack(again))
    assert torch.allclose(found.weight_ih_l0, stack.weight_ih_l0, atol=1e-2)
