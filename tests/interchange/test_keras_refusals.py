"""What a file of Keras may not hold: one line that names the layer and the reason."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from gatewise.errors import DataError, GatewiseError, UsageError
from gatewise.interchange import load_stack, save_stack
from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights
from tests.interchange.keras_rig import LSTM, h5py, layer, sequential, write_legacy
from tests.interchange.rig import H, I, assert_equal_weights, drawn_stack
from tests.interchange.test_damaged_files import FILES, damaged

ARRAYS = [
    (name, array)
    for name, array in zip(
        ("kernel", "recurrent_kernel", "bias"),
        to_layout("lstm", StackWeights.from_module(drawn_stack("lstm")).passes[0], LAYOUTS["keras"]["lstm"]),
        strict=True,
    )
]
SECOND = [(name, np.zeros(shape, "f4")) for name, shape in (("k", (H, 4 * H)), ("r", (H, 4 * H)), ("b", (4 * H,)))]


def lstm(name: str = "a", kind: str = "LSTM", **changes: Any) -> dict[str, Any]:
    return layer(kind, name, **{**LSTM, "units": H, **changes})


def functional(node: Any, output: Any = ("a", 0, 0), more: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    first = {**layer("InputLayer", "in"), "name": "in", "inbound_nodes": []}
    layers = [first, {**lstm(), "name": "a", "inbound_nodes": node}, *more]
    return {"class_name": "Functional", "config": {"layers": layers, "output_layers": [list(output)]}}


CONFIGS: dict[str, tuple[Any, str]] = {
    "hard_sigmoid": (
        sequential(lstm(recurrent_activation="hard_sigmoid")),
        r"layer 'a' \(LSTM\) has recurrent_activation hard_sigmoid; expected sigmoid",
    ),
    "another activation": (sequential(lstm(activation="relu")), "has activation relu; expected tanh"),
    "a function": (
        sequential(lstm(activation={"class_name": "function", "config": "f"})),
        "has activation its own function; expected tanh",
    ),
    "no activation": (
        sequential(layer("LSTM", "a", units=H, activation="tanh", use_bias=True, return_sequences=True)),
        "has recurrent_activation missing; expected sigmoid",
    ),
    "reset_after": (
        sequential(lstm(kind="GRU", reset_after=False)),
        r"layer 'a' \(GRU\) has reset_after false: its gate resets before the product, which is another cell",
    ),
    "a GRU of Keras 2.2, whose configuration does not name it": (sequential(lstm(kind="GRU")), "has reset_after false"),
    "go_backwards": (sequential(lstm(go_backwards=True)), "has go_backwards; expected a layer that reads from the"),
    "merge_mode": (
        sequential(layer("Bidirectional", "b", merge_mode="sum", layer=lstm())),
        r"layer 'b' \(Bidirectional\) has merge_mode 'sum'; expected concat",
    ),
    "two directions that differ": (
        sequential(
            layer(
                *("Bidirectional", "b"),
                merge_mode="concat",
                layer=lstm(),
                backward_layer=lstm(use_bias=False, go_backwards=True),
            )
        ),
        "layer 'b' .* has two directions that differ",
    ),
    "another width": (
        sequential(lstm(), lstm("c", units=H + 1)),
        "layer 'c' .* has another width or other directions than layer 'a'",
    ),
    "another cell": (sequential(lstm(), lstm("c", "SimpleRNN")), "layer 'c' .* is another cell than layer 'a'"),
    "a state in the middle": (
        sequential(lstm(return_sequences=False), lstm("c")),
        "layer 'c' .* follows a layer that does not give a sequence",
    ),
    "Lambda": (sequential(lstm(), layer("Lambda", "f", function="x")), r"layer 'f' \(Lambda\) has no counterpart"),
    "Lambda in front": (sequential(layer("Lambda", "f"), lstm()), r"layer 'f' \(Lambda\) has no counterpart"),
    "a custom layer": (
        sequential({**lstm(), "registered_name": "mine>LSTM"}),
        r"layer 'a' \(LSTM\) is a custom layer \('mine>LSTM'\), which is not read",
    ),
    "a class of the user": (
        sequential({**lstm(), "module": "__main__", "registered_name": "LSTM"}),
        "layer 'a' .* is a custom layer",
    ),
    "another layer": (sequential(layer("ConvLSTM1D", "c")), r"layer 'c' \(ConvLSTM1D\) has no counterpart"),
    "no recurrent layer": (sequential(layer("Masking", "m")), "layer 'm' .* is the last layer, and none is recurrent"),
    "units": (sequential(lstm(units=True)), "has units True; expected a positive integer"),
    "more units": (sequential(lstm(units=2**31)), "has units 2147483648; expected a positive integer"),
    "use_bias": (sequential(lstm(use_bias="yes")), "has use_bias 'yes'; expected true or false"),
    "no bias": (sequential(lstm(use_bias=False)), "layer 'a' has 3 arrays; its configuration asks for 2"),
    "more of them": (
        sequential(lstm(units=2 * H)),
        r"layer 'a' has an array of shape \(5, 16\); its configuration asks for \(…, 32\)",
    ),
    "another name": (sequential(lstm("b")), "layer 'b' has no weights in the file"),
    "no layers": (sequential(), "a model without layers"),
    "a subclass of Model": ({"class_name": "Mine", "config": {}}, "a model of the class 'Mine'; expected Sequential"),
    "no class": ({"config": {}}, "has a layer without a class"),
    "a list": ([1], "has a layer without a class"),
    "an initial state": (
        functional([[["in", 0, 0, {}], ["s", 0, 0, {}]]]),
        "layer 'a' .* reads several inputs; expected a chain",
    ),
    "an initial state by name": (
        functional([[["in", 0, 0, {"initial_state": [["s", 0, 0]]}]]]),
        "layer 'a' .* reads several inputs",
    ),
    "a state": (functional([[["in", 0, 1, {}]]]), "layer 'a' .* reads the state or another output of a layer"),
    "a state as output": (functional([[["in", 0, 0, {}]]], ("a", 0, 1)), "a model with several outputs"),
    "called twice": (functional([[["in", 0, 0, {}]], [["a", 0, 0, {}]]]), "layer 'a' .* is called more than once"),
    "its own output": (functional([[["a", 0, 0, {}]]]), "a graph in which 'a' is missing or reads its own output"),
    "a missing input": (functional([[["x", 0, 0, {}]]]), "a graph in which 'x' is missing"),
    "another branch": (
        functional([[["in", 0, 0, {}]]], more=({**lstm("c"), "name": "c", "inbound_nodes": []},)),
        "layer 'c' .* is not between the input and the output",
    ),
    "a mask in a circle": (
        functional(
            [{"args": [{"config": {"keras_history": ["in", 0, 0]}}], "kwargs": {"mask": ["m", 0, 0]}}],
            more=({**layer("Any", "m"), "name": "m", "inbound_nodes": [[["m", 0, 0, {}]]]},),
        ),
        "layer 'a' .* has a mask of its own",
    ),
}


@pytest.mark.parametrize("which", CONFIGS)
def test_configurations(which: str, tmp_path: Path) -> None:
    config, reason = CONFIGS[which]
    path = write_legacy(tmp_path / "a.h5", config, {"a": ARRAYS, "c": SECOND})
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}") as problem:
        load_stack(path)
    assert problem.value.exit_status == 3


def external(file: Any) -> None:
    del file["model_weights/a/kernel"]
    file["model_weights/a/kernel"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(file: Any) -> None:
    del file["model_weights/a"]
    file["model_weights/a"] = h5py.SoftLink("/model_weights/a")


def virtual(file: Any) -> None:
    del file["model_weights/a/kernel"]
    layout = h5py.VirtualLayout((I, 4 * H), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (I, 4 * H), "f4")
    file["model_weights/a"].create_virtual_dataset("kernel", layout)


def replaced(**options: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file["model_weights/a/kernel"]
        file["model_weights/a"].create_dataset("kernel", **{"shape": (I, 4 * H), "dtype": "f4", **options})

    return change


def without(name: str) -> Callable[[Any], None]:
    return lambda file: file.__delitem__(f"model_weights/a/{name}")


def unnamed(file: Any) -> None:
    del file["model_weights/a"].attrs["weight_names"]


def not_finite(file: Any) -> None:
    file["model_weights/a/bias"][1] = np.nan


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "an external link": (external, "'kernel' is a ExternalLink, which is not followed"),
    "a soft link": (soft, "'a' is a SoftLink, which is not followed"),
    "a virtual dataset": (virtual, "layer 'a' has an array that is compressed, cut off, or in another file"),
    "numbers in another file": (
        replaced(external=[("/etc/passwd", 0, 320)]),
        "layer 'a' has an array that is compressed, cut off, or in another file",
    ),
    "compressed": (replaced(chunks=(I, 4 * H), compression="gzip"), "has an array that is compressed"),
    "a bomb": (
        replaced(shape=(2**28, 4 * H), chunks=(2**10, 4 * H), compression="gzip"),
        "has an array that is compressed",
    ),
    "never written": (replaced(), "has an array that is compressed, cut off"),
    "float64": (replaced(dtype="f8", data=np.zeros((I, 4 * H))), "layer 'a' has an array of float64; expected float32"),
    "integers": (
        replaced(dtype="i4", data=np.zeros((I, 4 * H), int)),
        "layer 'a' has an array of int32; expected float32",
    ),
    "text": (replaced(dtype=h5py.string_dtype()), "layer 'a' has an array of object; expected float32"),
    "a vector": (replaced(shape=(I * 4 * H,)), r"has an array of shape \(80,\); its configuration asks for \(…, 16\)"),
    "a missing array": (without("kernel"), "layer 'a' has no 'kernel' in the file"),
    "no names": (unnamed, "layer 'a' has no attribute weight_names"),
    "a number that is not finite": (not_finite, "bias_ih_l0 contains numbers that are not finite"),
}


@pytest.mark.parametrize("which", CHANGES)
def test_weights(which: str, tmp_path: Path) -> None:
    change, reason = CHANGES[which]
    path = write_legacy(tmp_path / "a.h5", sequential(lstm()), {"a": ARRAYS})
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}"):
        load_stack(path)


def repacked(path: Path, **changes: bytes | None) -> Path:
    """Write the entries of a file again, some of them changed, added or left out."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries |= {name.replace("__", "."): content for name, content in changes.items()}  # type: ignore[misc]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            if content is not None:
                archive.writestr(name, content)
    return path


ENTRIES: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no weights": ({"model__weights__h5": None}, "a zip with not config.json and model.weights.h5"),
    "pickled weights": (
        {"model__weights__h5": None, "model__weights__npz": b""},
        "a zip with model.weights.npz, which is not read, config.json",
    ),
    "a duplicate key": ({"config__json": b'{"a": 1, "a": 2}'}, "config.json: duplicate key 'a'"),
    "deep": ({"config__json": b"[" * 100_000}, "config.json: JSON nested too deeply"),
    "a bomb": ({"model__weights__h5": b"\0" * (300 << 20)}, "claim to decompress to 300 MiB"),
    "a large configuration": ({"config__json": b" " * (65 << 20)}, "config.json is larger than"),
    "no HDF5": ({"model__weights__h5": b"abc"}, "h5py cannot read it"),
}


@pytest.mark.parametrize("which", ENTRIES)
def test_archives(which: str, tmp_path: Path) -> None:
    changes, reason = ENTRIES[which]
    path = tmp_path / "a.keras"
    save_stack(drawn_stack("lstm"), path, "keras")
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}"):
        load_stack(repacked(path, **changes), "keras")


def test_not_of_keras(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="neither a zip nor HDF5; expected a model as Keras saves it"):
        load_stack(path, "keras")
    with pytest.raises(DataError, match="no such file"):
        load_stack(tmp_path / "none.h5", "keras")
    with pytest.raises(UsageError, match="prefix=x: does not apply to keras"):
        load_stack(path, "keras", prefix="x")
    with pytest.raises(UsageError, match="projections, which Keras does not have"):
        save_stack(drawn_stack("lstm", proj_size=2), tmp_path / "a.keras", "keras")
    assert not (tmp_path / "a.keras").exists()


def test_a_text_that_claims_gigabytes(tmp_path: Path) -> None:
    """HDF5 would allocate them before it looks for the text."""
    path = write_legacy(tmp_path / "a.h5", sequential(lstm()), {"a": ARRAYS})
    with h5py.File(path, "a") as file:
        text = file.attrs["model_config"]
        file.attrs["model_config"] = text.decode() if isinstance(text, bytes) else text
    load_stack(path)
    content = path.read_bytes()
    length = len(text).to_bytes(4, "little")
    assert content.count(length) >= 1
    path.write_bytes(content.replace(length, b"\xf0\xff\xff\xff"))
    with pytest.raises(DataError, match=r"model_config claims 4,294,967,280 bytes, more than the file holds"):
        load_stack(path)


@pytest.mark.parametrize("kind", ["legacy", "repacked"])
def test_damage_without_checksums(kind: str, tmp_path: Path) -> None:
    """HDF5 has none: what is read may be another model, but never more than the file holds; no crash, no hang."""
    path, rng, refused = tmp_path / ("a.h5" if kind == "legacy" else "a.keras"), Random(9), list[int]()
    stack = drawn_stack("lstm", 2)
    if kind == "legacy":
        write_legacy(path, sequential(lstm()), {"a": ARRAYS})
        content = path.read_bytes()
    else:
        save_stack(stack, path, "keras")
        with zipfile.ZipFile(path) as archive:
            content = archive.read("model.weights.h5")
    for _ in range(FILES):
        changed = damaged(content, rng)
        if kind == "legacy":
            path.write_bytes(changed)
        else:
            repacked(path, model__weights__h5=changed)
        try:
            found = load_stack(path, "keras")
        except GatewiseError as problem:
            refused.append(problem.exit_status)
        else:
            assert sum(p.numel() for p in found.parameters()) * 4 <= len(content) + 8 * H * 4
    assert set(refused) == {3}
    assert len(refused) > FILES * 0.3


def test_damaged_configurations(tmp_path: Path) -> None:
    """Whole archives whose configuration has other values: an error of ours, or a stack of the file's own weights."""
    path, rng, refused = tmp_path / "a.keras", Random(10), 0
    stack = drawn_stack("gru", 2, True)
    save_stack(stack, path, "keras")
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    for _ in range(FILES):
        words = config.split(" ")
        at = rng.randrange(len(words))
        words[at] = rng.choice(["null", "-1,", "[],", "{},", "1e9,", '"x",', "true,", words[rng.randrange(len(words))]])
        try:
            found = load_stack(repacked(path, config__json=" ".join(words).encode()), "keras")
        except DataError:
            refused += 1
        else:
            assert_equal_weights(found, stack)
    assert refused > FILES * 0.5
