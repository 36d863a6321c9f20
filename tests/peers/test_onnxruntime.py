"""ONNX Runtime's LSTM, GRU and RNN with our weights compute what we compute: outputs and last states."""

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.interchange.layouts import LAYOUTS, to_layout
from gatewise.interchange.stack import StackWeights
from gatewise.nn import Recurrent, make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts
from tests.tolerances import RELATIVE

onnx = pytest.importorskip("onnx", reason="ONNX is a peer: pip install --group peers")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is a peer: pip install --group peers")

T, B, I, H = 6, 3, 5, 4


def graph(module: Recurrent) -> bytes:
    """One node of the standard: X, sequence_lens and the states go in, Y and the states come out."""
    spec, passes = module.spec, StackWeights.from_module(module).passes
    arrays = [to_layout(spec.cell, own, LAYOUTS["onnx"][spec.cell]) for own in passes]
    weights = {name: np.stack(parts) for name, parts in zip("WRB", zip(*arrays, strict=True), strict=True)}
    kind, attributes = {"lstm": ("LSTM", {}), "gru": ("GRU", {"linear_before_reset": 1})}.get(
        spec.cell, ("RNN", {"activations": [spec.cell.removeprefix("rnn_").title()] * spec.num_directions})
    )
    states = ["h", "c"] if spec.cell == "lstm" else ["h"]
    node = onnx.helper.make_node(
        kind,
        ["X", "W", "R", "B", "lengths", *(f"{s}_0" for s in states)],
        ["Y", *(f"{s}_n" for s in states)],
        hidden_size=H,
        direction="bidirectional" if spec.bidirectional else "forward",
        **attributes,
    )
    real, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    made = onnx.helper.make_graph(
        [node],
        "pass",
        [
            onnx.helper.make_tensor_value_info("X", real, ["T", "B", I]),
            onnx.helper.make_tensor_value_info("lengths", whole, ["B"]),
            *(onnx.helper.make_tensor_value_info(f"{s}_0", real, [spec.num_directions, "B", H]) for s in states),
        ],
        [
            onnx.helper.make_tensor_value_info("Y", real, ["T", spec.num_directions, "B", H]),
            *(onnx.helper.make_tensor_value_info(f"{s}_n", real, [spec.num_directions, "B", H]) for s in states),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [[6, 6, 6], [4, 6, 1], [0, 6, 2]])
@torch.no_grad()
def test_outputs_and_states(cell: str, bidirectional: bool, lengths: list[int]) -> None:
    torch.manual_seed(4)
    module = make_stack(cell, I, H, bidirectional=bidirectional)
    x, state = torch.randn(T, B, I), drawn_state(module, B)
    if 0 in lengths:  # ONNX Runtime gives a row without steps a state of zeros, not the one it had
        state = tuple(torch.zeros_like(p) for p in parts(state)) if cell == "lstm" else torch.zeros_like(state)
    session = runtime.InferenceSession(graph(module), providers=["CPUExecutionProvider"])
    given: dict[str, Any] = {"X": x.numpy(), "lengths": np.array(lengths, np.int32)}
    given |= {f"{s}_0": p.numpy() for s, p in zip("hc", parts(state), strict=False)}
    Y, *after = (torch.from_numpy(array) for array in session.run(None, given))
    y, found = module(x, state, lengths=lengths)
    assert_same({"y": y}, {"y": Y.transpose(1, 2).flatten(2)}, RELATIVE[torch.float32])
    for a, b in zip(parts(found), after, strict=True):
        assert_same({"state": a}, {"state": b}, RELATIVE[torch.float32])
