"""Graphs written by hand: what is read of them, and what is one line that names the node and the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gatewise.errors import DataError, UsageError
from gatewise.interchange import load_stack, onnx_file, onnx_format, save_stack
from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights
from tests.interchange.rig import GRID, H, I, assert_equal_weights, drawn_stack
from tests.nn.beside import drawn_state, pytorchs

onnx = pytest.importorskip("onnx")
helper, from_array = onnx.helper, onnx.numpy_helper.from_array
node = helper.make_node
KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


class Written:
    """A graph of one layer, forward, as a stranger writes it; parts of it can be replaced.

    Attributes:
        nodes: its nodes, of which ``node`` is the recurrent one.
        tensors: its initializers by name.
    """

    def __init__(self, cell: str = "lstm", **attributes: Any) -> None:
        self.stack = drawn_stack(cell)
        (own,) = StackWeights.from_module(self.stack).passes
        arrays = to_layout(cell, own, LAYOUTS["onnx"][cell])
        self.tensors = {name: from_array(array[None], name) for name, array in zip("WRB", arrays, strict=True)}
        usual = {"hidden_size": H} | ({"linear_before_reset": 1} if cell == "gru" else {})
        usual |= {"activations": ["Relu"]} if cell == "rnn_relu" else {}
        given = {name: value for name, value in (usual | attributes).items() if value is not None}
        self.node = helper.make_node(KINDS[cell], ["x", "W", "R", "B"], ["Y"], name="encoder", **given)
        self.nodes, self.opset, self.functions = [self.node], 17, list[Any]()
        self.outputs = ["Y"]

    def write(self, path: Path) -> Path:
        def value(name: str) -> Any:
            return helper.make_tensor_value_info(name, 1, None)

        graph = helper.make_graph(
            self.nodes, "g", [value("x"), value("h"), value("p")], list(map(value, self.outputs)), self.tensors.values()
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], functions=self.functions)
        path.write_bytes(model.SerializeToString())
        return path


@pytest.mark.parametrize("opset", [7, 13, 14, 17, 21, 22])
@pytest.mark.parametrize("cell", KINDS)
def test_a_plain_graph(cell: str, opset: int, tmp_path: Path) -> None:
    """Neither the hidden size nor the usual activations need be written."""
    written = Written(cell, hidden_size=None)
    written.opset = opset
    assert_equal_weights(load_stack(written.write(tmp_path / "a.onnx")), written.stack)
    assert_equal_weights(load_stack((tmp_path / "a.onnx").rename(tmp_path / "a"), "onnx"), written.stack)


def test_two_nodes_for_two_directions(tmp_path: Path) -> None:
    """A forward and a reverse node whose outputs are concatenated; a second layer above them."""
    stack = drawn_stack("gru", 2, True)
    written, own = Written("gru"), StackWeights.from_module(stack).passes
    written.nodes, x = [], "x"
    for layer in range(2):
        halves = []
        for k, way in enumerate(("forward", "reverse")):
            stem = f"{way}{layer}"
            arrays = to_layout("gru", own[2 * layer + k], LAYOUTS["onnx"]["gru"])
            for name, array in zip("WRB", arrays, strict=True):
                written.tensors[f"{name}{stem}"] = from_array(array[None], f"{name}{stem}")
            names = [x, *(f"{name}{stem}" for name in "WRB")]
            written.nodes.append(
                helper.make_node("GRU", names, [f"Y{stem}"], direction=way, linear_before_reset=1, hidden_size=H)
            )
            written.nodes.append(helper.make_node("Squeeze", [f"Y{stem}", "one"], [f"y{stem}"]))
            halves.append(f"y{stem}")
        x = f"both{layer}"
        written.nodes.append(helper.make_node("Concat", halves, [x], axis=2))
    written.tensors["one"] = from_array(np.array([1]), "one")
    written.outputs = [x]
    found = load_stack(written.write(tmp_path / "a.onnx"))
    assert found.spec == stack.spec
    assert_equal_weights(found, stack)
    written.nodes[2].attribute[0].s = b"forward"  # the second direction also reads from the start
    with pytest.raises(DataError, match="GRU node 'Yreverse0': reads layer 0, not layer 1"):
        load_stack(written.write(tmp_path / "a.onnx"))


def reshaped(*changes: Callable[[list[Any]], None]) -> Written:
    """Two layers as PyTorch's exporter joins them where T and B are symbolic: by arithmetic on shapes."""
    written, numbers = Written(), {"k0": 0, "k1": 1, "k2": 2, "k3": 3, "k4": 4, "minus": -1}
    nodes = [
        node("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]),
        node("Shape", ["t"], ["s"], start=0),
        *(node("Slice", ["s", f"k{k}", f"k{k + 1}"], [f"s{k}"]) for k in range(4)),
        node("Mul", ["s2", "s3"], ["m"]),
        node("Reshape", ["m", "minus"], ["width"]),
        node("Concat", ["s0", "s1", "width"], ["shape"], axis=0),
        node("Reshape", ["t", "shape"], ["z"], name="r"),
    ]
    for change in changes:
        change(nodes)
    two_layers(*nodes, **{name: np.array([number]) for name, number in numbers.items()})(written)
    written.nodes[-1].input[1] = "R"
    return written


@pytest.mark.parametrize(
    ("place", "inputs"), [(8, ["s1", "s0", "width"]), (6, ["s1", "s3"]), (8, ["s0", "width"]), (9, ["t", "s"])]
)
def test_arithmetic_on_shapes(place: int, inputs: list[str], tmp_path: Path) -> None:
    """Read as it is, and refused where it makes other axes."""
    found = load_stack(reshaped().write(tmp_path / "a.onnx"))
    assert (found.num_layers, found.input_size, found.hidden_size) == (2, I, H)

    def change(nodes: list[Any]) -> None:
        nodes[place].input[:] = inputs

    with pytest.raises(DataError, match="LSTM node 'second': reads the output of Reshape node 'r'"):
        load_stack(reshaped(change).write(tmp_path / "b.onnx"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize(("cell", "layers", "both", "bias"), GRID)
def test_exported_by_pytorch(cell: str, layers: int, both: bool, bias: bool, state: bool, tmp_path: Path) -> None:
    """With a first state, or zeros."""
    module, given = pytorchs(cell, I, H, layers, bias=bias, bidirectional=both).eval(), [torch.randn(6, 3, I)]
    if state:
        given.append(drawn_state(module, 3))
    torch.onnx.export(
        module, tuple(given), str(tmp_path / "a.onnx"), dynamo=False, input_names=["x"], dynamic_axes={"x": [0, 1]}
    )
    assert_equal_weights(load_stack(tmp_path / "a.onnx"), module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", ["logits", "log_softmax", "view", "softmax"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_language_models_of_pytorch(batch_first: bool, last: str, tmp_path: Path) -> None:
    """Batch first, or with the logarithms of probabilities, as PyTorch's own example gives them."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Embedding(7, I), nn.Linear(H, 7)
            self.rnn = nn.LSTM(I, H, 2, batch_first=batch_first)

        def forward(self, ids: Tensor) -> Tensor:
            found: Tensor = self.decoder(self.rnn(self.encoder(ids))[0])
            found = found.view(-1, 7) if last == "view" else found
            return found if last == "logits" else found.softmax(-1) if last == "softmax" else found.log_softmax(-1)

    model = Model().eval()
    torch.onnx.export(
        model,
        (torch.zeros(6, 3, dtype=torch.long),),
        str(tmp_path / "a.onnx"),
        dynamo=False,
        input_names=["ids"],
        dynamic_axes={"ids": [0, 1]},
    )
    found = onnx_format.load_model(tmp_path / "a.onnx")
    assert_equal_weights(found.stack.to_module(), model.rnn)
    assert found.embedding is not None
    assert found.decoder_weight is not None
    assert found.decoder_bias is not None
    for own, theirs in (
        (found.embedding, model.encoder.weight),
        (found.decoder_weight, model.decoder.weight),
        (found.decoder_bias, model.decoder.bias),
    ):
        np.testing.assert_array_equal(own, theirs.detach().numpy())


def test_swapped_directions_are_another_model(tmp_path: Path) -> None:
    """Concatenated in the other order, the layer above reads other columns: refused, not read."""
    test_two_nodes_for_two_directions(tmp_path)
    model = onnx.load(tmp_path / "a.onnx")
    model.graph.node[2].attribute[0].s = b"reverse"
    concat = next(node for node in model.graph.node if node.op_type == "Concat")
    concat.input[:] = list(concat.input)[::-1]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="GRU node 'Yforward1': reads the output of Concat node 'both0'"):
        load_stack(tmp_path / "a.onnx")


def retype(name: str, change: Callable[[Any], None]) -> Callable[[Written], None]:
    return lambda written: change(written.tensors[name])


def states(*names: str) -> Callable[[Written], None]:
    return lambda written: written.node.input.extend(names)


def below(*nodes: Any, **tensors: Any) -> Callable[[Written], None]:
    """Put nodes between the input and the layer, which then reads ``z``."""

    def change(written: Written) -> None:
        written.node.input[0] = "z"
        written.nodes[:0] = nodes
        written.tensors |= {name: from_array(array, name) for name, array in tensors.items()}

    return change


def two_layers(*between: Any, **tensors: Any) -> Callable[[Written], None]:
    """Two layers with nodes between, which make ``z`` of ``Y``."""

    def change(written: Written) -> None:
        second = helper.make_node("LSTM", ["z", "R", "R", "B"], ["Y2"], name="second", hidden_size=H)
        written.nodes += [*between, second]
        written.tensors |= {name: from_array(array, name) for name, array in tensors.items()}

    return change


FLIP = {"first": -1, "last": -(2**31), "axes": 0, "back": -1}
HAND: dict[str, tuple[str, dict[str, Any], Callable[[Written], Any] | None, str]] = {
    "reset before the product": ("gru", {"linear_before_reset": 0}, None, r"GRU node 'encoder': resets before the pro"),
    "reset by default": ("gru", {"linear_before_reset": None}, None, "resets before the product"),
    "clip": ("lstm", {"clip": 3.0}, None, r"LSTM node 'encoder': clip is 3.0; expected 0.0"),
    "layout=1": ("lstm", {"layout": 1}, None, "LSTM node 'encoder': layout is 1; expected 0"),
    "input_forget": ("lstm", {"input_forget": 1}, None, "input_forget couples two gates"),
    "hard_sigmoid": (
        "lstm",
        {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
        None,
        "activations are 'hardsigmoid, tanh, tanh'; expected sigmoid, tanh, tanh",
    ),
    "another activation": ("rnn_tanh", {"activations": ["Softsign"]}, None, "activations are 'softsign'"),
    "alpha": ("rnn_tanh", {"activation_alpha": [0.5]}, None, "activation_alpha is set"),
    "peepholes": ("lstm", {}, states("", "", "", "B"), "LSTM node 'encoder': has peepholes"),
    "in reverse alone": ("lstm", {"direction": "reverse"}, None, "runs in reverse alone"),
    "no direction": ("lstm", {"direction": "up"}, None, "direction is 'up'"),
    "one array for two directions": (
        "lstm",
        {"direction": "bidirectional"},
        None,
        r"\(1, 16, 5\); expected 2 dir",
    ),
    "another hidden size": ("lstm", {"hidden_size": 5}, None, r"hidden_size is 5, but its R has shape \(1, 16, 4\)"),
    "frozen lengths": (
        "lstm",
        {},
        lambda w: (w.node.input.append("n"), w.tensors.update(n=from_array(np.array([3], np.int32), "n"))),
        "sequence_lens is a constant",
    ),
    "a static initial state": (
        "rnn_tanh",
        {},
        lambda w: (states("", "h0")(w), w.tensors.update(h0=from_array(np.ones((1, 1, H), np.float32), "h0"))),
        "its initial state is constants other than 0",
    ),
    "a computed initial state": (
        "rnn_tanh",
        {},
        lambda w: (states("", "h0")(w), w.nodes.insert(0, node("Relu", ["h"], ["h0"], name="r"))),
        "its initial state is the output of Relu node 'r'",
    ),
    "weights that are computed": (
        "lstm",
        {},
        lambda w: (w.node.input.__setitem__(1, "W2"), w.nodes.insert(0, node("Relu", ["W"], ["W2"], name="r"))),
        "its W comes from Relu node 'r'; expected an initializer",
    ),
    "an input read from its end": (
        "lstm",
        {},
        below(
            node("Slice", ["x", "first", "last", "axes", "back"], ["z"], name="flip"),
            **{name: np.array([one], np.int64) for name, one in FLIP.items()},
        ),
        "LSTM node 'encoder': .*Slice node 'flip'",
    ),
    "an input in another order": (
        "lstm",
        {},
        below(node("Reshape", ["x", "to"], ["z"], name="mixed"), to=np.array([3, 2, I], np.int64)),
        "LSTM node 'encoder': .*Reshape node 'mixed'",
    ),
    "a norm below": (
        "lstm",
        {},
        below(node("LpNormalization", ["x"], ["z"], name="norm")),
        "Normalization node 'norm'",
    ),
    "an operator of others": (
        "lstm",
        {},
        below(node("Identity", ["x"], ["z"], name="id", domain="com.example")),
        "reads the output of Identity node 'id'",
    ),
    "a second axis lost": (
        "lstm",
        {},
        two_layers(node("Squeeze", ["Y", "a"], ["z"], name="s"), a=np.array([0])),
        "LSTM node 'second': reads the output of Squeeze node 's'",
    ),
    "axes in another order": (
        "lstm",
        {},
        two_layers(
            node("Squeeze", ["Y", "a"], ["s"]),
            node("Transpose", ["s"], ["z"], perm=[1, 0, 2], name="t"),
            a=np.array([1]),
        ),
        "LSTM node 'second': reads the output of Transpose node 't'",
    ),
    "merged axes": (
        "lstm",
        {},
        two_layers(node("Reshape", ["Y", "a"], ["z"], name="r"), a=np.array([0, -1, 2 * H])),
        "LSTM node 'second': reads the output of Reshape node 'r'",
    ),
    "an unsqueezed layer": (
        "lstm",
        {},
        two_layers(node("Identity", ["Y"], ["z"])),
        "LSTM node 'second': reads the output",
    ),
    "two stacks": (
        "lstm",
        {},
        lambda w: w.nodes.append(node("LSTM", ["p", "W", "R", "B"], ["Y2"], name="other", hidden_size=H)),
        "LSTM node 'other': reads layer 0, not layer 1; expected one stack",
    ),
    "two cells": (
        "lstm",
        {},
        lambda w: w.nodes.append(node("RNN", ["Y", "W", "R", "B"], ["Y2"], name="rnn", hidden_size=H)),
        "RNN node 'rnn': a rnn_tanh above a lstm",
    ),
    "no recurrent node": (
        "lstm",
        {},
        lambda w: w.nodes.__setitem__(0, node("Relu", ["x"], ["Y"])),
        "no LSTM, GRU or RNN",
    ),
    "no R": ("lstm", {}, lambda w: w.tensors.pop("R"), "its R comes from value 'R'; expected an initializer"),
    "too short raw data": (
        "lstm",
        {},
        retype("W", lambda t: t.__setattr__("raw_data", t.raw_data[:-4])),
        "initializer 'W' claims the shape .* 320 bytes, and holds 316",
    ),
    "a claimed terabyte": (
        "lstm",
        {},
        retype("W", lambda t: t.dims.__setitem__(1, 1 << 40)),
        "initializer 'W' claims the shape",
    ),
    "a claimed product beyond 64 bits": (
        "lstm",
        {},
        retype("W", lambda t: t.dims.extend([1 << 62, 1 << 62])),
        "initializer 'W' claims the shape",
    ),
    "a negative size": ("lstm", {}, retype("W", lambda t: t.dims.__setitem__(0, -1)), "initializer 'W' has shape"),
    "float64": (
        "lstm",
        {},
        lambda w: w.tensors.update(W=from_array(np.zeros((1, 16, 5)), "W")),
        "its W has type float64",
    ),
    "strings": ("lstm", {}, retype("W", lambda t: t.__setattr__("data_type", 8)), "initializer 'W' is STRING"),
    "an unknown type": ("lstm", {}, retype("W", lambda t: t.__setattr__("data_type", 99)), "initializer 'W' is 99"),
    "NaN": (
        "lstm",
        {},
        lambda w: w.tensors.update(W=from_array(np.full((1, 16, 5), np.nan, np.float32), "W")),
        "weight_ih_l0 contains numbers that are not finite",
    ),
    "initializers of one name": (
        "lstm",
        {},
        lambda w: w.tensors.update(other=from_array(np.zeros(1, np.float32), "W")),
        "initializer 'W' has no name of its own",
    ),
    "an output that exists": (
        "lstm",
        {},
        lambda w: w.nodes.append(node("Identity", ["x"], ["Y"], name="again")),
        "Identity node 'again': its output 'Y' exists already",
    ),
    "opset 6": ("lstm", {}, lambda w: w.__setattr__("opset", 6), "opset 6; expected one from 7 to 22"),
    "opset 99": ("lstm", {}, lambda w: w.__setattr__("opset", 99), "opset 99; expected one from 7 to 22"),
    "functions": (
        "lstm",
        {},
        lambda w: w.functions.append(
            helper.make_function("d", "f", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
        ),
        "the model has functions of its own",
    ),
}


@pytest.mark.parametrize("which", HAND)
def test_what_is_no_cell_of_ours(which: str, tmp_path: Path) -> None:
    """One line, status 3."""
    cell, attributes, change, reason = HAND[which]
    written = Written(cell, **attributes)
    if change is not None:
        change(written)
    path = written.write(tmp_path / "a.onnx")
    with pytest.raises(DataError, match=rf"^{path}: .*{reason}") as caught:
        load_stack(path)
    assert caught.value.exit_status == 3
    assert "\n" not in str(caught.value)


def test_the_same_state_of_zeros(tmp_path: Path) -> None:
    """Zeros, an input, and what is only moved about are initial states as any."""
    written = Written("rnn_tanh")
    zeros = from_array(np.zeros((1, 1, H), np.float32), "h0")
    for name, nodes in (("h0", []), ("h", []), ("h1", [node("Unsqueeze", ["h", "zero"], ["h1"])])):
        written.nodes = [*nodes, written.node]
        written.tensors |= {"h0": zeros, "zero": from_array(np.array([0]), "zero")}
        written.node.input[:] = ["x", "W", "R", "B", "", name]
        assert_equal_weights(load_stack(written.write(tmp_path / "a.onnx")), written.stack)


@pytest.mark.parametrize("dtype", [10, 16])
def test_sixteen_bits(dtype: int, tmp_path: Path) -> None:
    """float16 and bfloat16 fit into float32, raw or not."""
    kind = {10: torch.float16, 16: torch.bfloat16}[dtype]
    written = Written("gru")
    written.stack.to(kind).float()
    (own,) = StackWeights.from_module(written.stack).passes
    for name, array in zip("WRB", to_layout("gru", own, LAYOUTS["onnx"]["gru"]), strict=True):
        bits = torch.from_numpy(array[None]).to(kind).view(torch.int16).numpy().view(np.uint16)
        tensor = onnx.TensorProto(name=name, data_type=dtype, dims=bits.shape)
        if name == "R":
            tensor.int32_data.extend(bits.reshape(-1).tolist())
        else:
            tensor.raw_data = bits.tobytes()
        written.tensors[name] = tensor
    assert_equal_weights(load_stack(written.write(tmp_path / "a.onnx")), written.stack)


# Numbers in another file.


def outside(path: Path, location: str, **entries: str) -> Path:
    """Write a graph whose W is in another file."""
    written = Written()
    raw = written.tensors["W"].raw_data
    tensor = onnx.TensorProto(name="W", data_type=1, dims=written.tensors["W"].dims, data_location=1)
    for key, value in {"location": location, "length": str(len(raw)), **entries}.items():
        tensor.external_data.add(key=key, value=value)
    written.tensors["W"] = tensor
    (path.parent / "data.bin").write_bytes(b"1234" + raw)
    return written.write(path)


def test_numbers_beside_the_file(tmp_path: Path) -> None:
    path = outside(tmp_path / "a.onnx", "data.bin", offset="4")
    assert_equal_weights(load_stack(path), Written().stack)


@pytest.mark.parametrize(
    ("location", "entries", "reason"),
    [
        ("../data.bin", {}, "expected a name in the same folder"),
        ("/etc/passwd", {}, "expected a name in the same folder"),
        ("sub/data.bin", {}, "expected a name in the same folder"),
        ("..", {}, "expected a name in the same folder"),
        ("", {}, "expected a name in the same folder"),
        ("data\0.bin", {}, "cannot read it"),
        ("link.bin", {}, "link.bin: a link, not a regular file"),
        ("none.bin", {}, "none.bin: no such file"),
        ("data.bin", {"offset": "5"}, "one of the two files is damaged"),
        ("data.bin", {"offset": "-4"}, "one of the two files is damaged"),
        ("data.bin", {"length": "99999999999"}, "one of the two files is damaged"),
        ("data.bin", {"offset": "x"}, "damaged place"),
    ],
)
def test_numbers_elsewhere(location: str, entries: dict[str, str], reason: str, tmp_path: Path) -> None:
    """Only a regular file beside it is read, and only what it holds."""
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=reason):
        load_stack(outside(tmp_path / "a.onnx", location, **entries))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08", b"\xff" * 99, b"\x3a" * 99])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"^.*/a.onnx: .*expected an ONNX file"):
        load_stack(tmp_path / "a.onnx")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = Written().write(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes().replace(b"encoder", b"enc\xff\xfeer"))
    with pytest.raises(DataError, match="a name in it is not UTF-8"):
        load_stack(path)


def test_options(tmp_path: Path) -> None:
    stack = drawn_stack("gru")
    with pytest.raises(UsageError, match=r"^graph=x: no such graph; expected one of sequence, step"):
        save_stack(stack, tmp_path / "a.onnx", "onnx", graph="x")
    with pytest.raises(UsageError, match=r"a\.bin: expected a name that ends in \.onnx"):
        save_stack(stack, tmp_path / "a.bin", "onnx")
    save_stack(stack, tmp_path / "a.onnx", "onnx")
    with pytest.raises(UsageError, match=r"^nonlinearity=tanh: does not apply to onnx; omit it"):
        load_stack(tmp_path / "a.onnx", nonlinearity="tanh")
    with pytest.raises(DataError, match="no such file"):
        load_stack(tmp_path / "b.onnx", "onnx")


def test_larger_than_protobuf_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Written().write(tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_file, "_LARGEST", 100)
    with pytest.raises(DataError, match="an ONNX file has at most"):
        load_stack(path)


LM = {
    "a softmax over rows": (
        [node("Softmax", ["l"], ["out"], name="p", axis=1)],
        "Softmax node 'p': not a layer of a language model",
    ),
    "a second decoder": ([node("MatMul", ["l", "D"], ["out"], name="two")], "MatMul node 'two': not a layer"),
    "a bias of the wrong shape": ([node("Add", ["l", "D"], ["out"], name="b")], "Add node 'b': not a layer"),
}


@pytest.mark.parametrize("which", LM)
def test_language_models(which: str, tmp_path: Path) -> None:
    """Everything from the ids to the logits must be understood."""
    nodes, reason = LM[which]
    written = Written()
    written.node.input[0] = "e"
    written.tensors |= {
        name: from_array(np.ones(shape, np.float32), name) for name, shape in (("E", (7, I)), ("D", (H, 7)))
    }
    written.tensors["one"] = from_array(np.array([1]), "one")
    plain = [
        node("Gather", ["E", "x"], ["e"]),
        written.node,
        node("Squeeze", ["Y", "one"], ["y"]),
        node("MatMul", ["y", "D"], ["l"], name="decoder"),
    ]
    written.nodes, written.outputs = plain, ["l"]
    found = onnx_format.load_model(written.write(tmp_path / "a.onnx"))
    assert found.embedding is not None
    assert found.decoder_weight is not None
    assert (found.embedding.shape, found.decoder_weight.shape) == ((7, I), (7, H))
    written.nodes, written.outputs = [*plain, *nodes], ["out"]
    with pytest.raises(DataError, match=reason):
        onnx_format.load_model(written.write(tmp_path / "a.onnx"))
