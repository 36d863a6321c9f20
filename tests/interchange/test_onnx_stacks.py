"""Bare stacks as ONNX graphs: on ONNX Runtime, on the reference evaluator, and read back."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gatewise.errors import UsageError
from gatewise.interchange import load_stack, save_stack
from gatewise.nn import Recurrent
from gatewise.spec import CELLS
from tests.interchange.rig import GRID, H, I, assert_equal_weights, drawn_stack
from tests.nn.beside import parts

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
NEAR = 1e-5
STEPS = [1, 2, 17, 200]
ROWS = [1, 2, 7]


def session(stack: Recurrent, path: Path, graph: str = "sequence") -> Any:
    """Write a stack and open it as a user of ONNX Runtime does, in one thread."""
    save_stack(stack, path / f"{graph}.onnx", "onnx", graph=graph)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path / f"{graph}.onnx", options, providers=["CPUExecutionProvider"])


def drawn(stack: Recurrent, T: int, B: int, seed: int = 4) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Draw x and a state that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    state = tuple(torch.randn(part.shape, generator=generator) for part in parts(stack.initial_state(B)))
    return torch.randn(T, B, stack.input_size, generator=generator), state


def feed(x: Tensor, state: tuple[Tensor, ...], lengths: list[int] | None = None) -> dict[str, Any]:
    given = {f"{part}_0": one.numpy() for part, one in zip("hc", state, strict=False)}
    if lengths is not None:
        given["lengths"] = np.array(lengths, np.int32)
    return {"x": x.numpy(), **given}


@torch.no_grad()
def ours(stack: Recurrent, x: Tensor, state: tuple[Tensor, ...], lengths: list[int] | None = None) -> list[Any]:
    y, after = stack(x, state if len(state) > 1 else state[0], lengths=lengths)
    return [y.numpy(), *(part.numpy() for part in parts(after))]


def assert_near(found: list[Any], expected: list[Any], tolerance: float = NEAR) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("cell", "layers", "both", "bias"), GRID)
def test_grid(cell: str, layers: int, both: bool, bias: bool, tmp_path: Path) -> None:
    """All T and B in one graph; lengths from 0 to T, whose padding is NaN; the states are not zero."""
    stack = drawn_stack(cell, layers, both, bias)
    running = session(stack, tmp_path)
    for T, B in itertools.product(STEPS, ROWS):
        x, state = drawn(stack, T, B)
        for lengths in ([T] * B, [T, 0, 1, T // 2, T - 1, 0, T][:B], [0] * B):
            padded = x.clone()
            for row, length in enumerate(lengths):
                padded[length:, row] = torch.nan
            assert_near(running.run(None, feed(padded, state, lengths)), ours(stack, x, state, lengths))


@pytest.mark.parametrize("graph", ["sequence", "step"])
@pytest.mark.parametrize(("cell", "layers", "both", "bias"), GRID)
def test_there_and_back(cell: str, layers: int, both: bool, bias: bool, graph: str, tmp_path: Path) -> None:
    """Every bit of the weights, and whether there are biases."""
    stack = drawn_stack(cell, layers, both, bias)
    if graph == "step" and both:
        with pytest.raises(UsageError, match=r"^graph=step: the stack is bidirectional .* use graph=sequence"):
            save_stack(stack, tmp_path / "a.onnx", "onnx", graph=graph)
        assert not list(tmp_path.iterdir())
        return
    save_stack(stack, tmp_path / "a.onnx", "onnx", graph=graph)
    found = load_stack(tmp_path / "a.onnx")
    assert found.spec == stack.spec
    assert not found.training
    assert_equal_weights(found, stack)


@pytest.mark.parametrize(("cell", "both"), [("lstm", False), ("lstm", True), ("gru", False), ("rnn_tanh", False)])
def test_reference_evaluator(cell: str, both: bool, tmp_path: Path) -> None:
    """ONNX's own evaluator ignores lengths, so they are full; it has no relu, and two directions of an LSTM alone."""
    from onnx.reference import ReferenceEvaluator

    stack = drawn_stack(cell, 2, both)
    save_stack(stack, tmp_path / "a.onnx", "onnx")
    x, state = drawn(stack, 5, 3)
    evaluator = ReferenceEvaluator(str(tmp_path / "a.onnx"))
    assert_near(evaluator.run(None, feed(x, state, [5] * 3)), ours(stack, x, state))


@pytest.mark.parametrize("cell", CELLS)
def test_chunks(cell: str, tmp_path: Path) -> None:
    """A sequence in pieces of 1, 16 and 3 steps, whose state is passed on, is the whole sequence."""
    stack = drawn_stack(cell, 2)
    running = session(stack, tmp_path)
    x, state = drawn(stack, 20, 3)
    whole = running.run(None, feed(x, state, [20] * 3))
    pieces = []
    for piece in x.split([1, 16, 3]):
        y, *after = running.run(None, feed(piece, state, [len(piece)] * 3))
        state = tuple(map(torch.from_numpy, after))
        pieces.append(y)
    assert_near([np.concatenate(pieces), *after], whole, 1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_steps(cell: str, tmp_path: Path) -> None:
    """The step graph, called 1,000 times, is the sequence graph."""
    stack = drawn_stack(cell, 2)
    whole, step = session(stack, tmp_path), session(stack, tmp_path, "step")
    x, state = drawn(stack, 1000, 2)
    y, *final = whole.run(None, feed(x, state, [1000] * 2))
    now, found = feed(x[0], state), []
    for one in x.numpy():
        out, *after = step.run(None, {**now, "x": one})
        now |= {f"{part}_0": value for part, value in zip("hc", after, strict=False)}
        found.append(out)
    assert_near([np.stack(found), *after], [y, *final], 1e-4)


def test_interface(tmp_path: Path) -> None:
    """Names, types and symbolic axes; opset 17, IR 8."""
    save_stack(drawn_stack("lstm", 2, True), tmp_path / "a.onnx", "onnx")
    save_stack(drawn_stack("gru"), tmp_path / "b.onnx", "onnx", graph="step")
    model, step = onnx.load(tmp_path / "a.onnx"), onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(one.domain, one.version) for one in model.opset_import]) == (8, [("", 17)])

    def shown(values: Any) -> dict[str, Any]:
        kinds = {one.name: one.type.tensor_type for one in values}
        return {
            name: (kind.elem_type, *(axis.dim_param or axis.dim_value for axis in kind.shape.dim))
            for name, kind in kinds.items()
        }

    assert shown(model.graph.input) == {
        "x": (1, "T", "B", I),
        "lengths": (6, "B"),
        "h_0": (1, 4, "B", H),
        "c_0": (1, 4, "B", H),
    }
    assert shown(model.graph.output) == {"y": (1, "T", "B", 2 * H), "h_n": (1, 4, "B", H), "c_n": (1, 4, "B", H)}
    assert shown(step.graph.input) == {"x": (1, "B", I), "h_0": (1, 1, "B", H)}
    assert shown(step.graph.output) == {"y": (1, "B", H), "h_n": (1, 1, "B", H)}


# Public reports, by their symptom.


def test_gru_without_linear_before_reset_is_wrong_by_a_tenth(tmp_path: Path) -> None:
    """onnxscript#2852: without the attribute, the graph is another cell."""
    stack = drawn_stack("gru")
    save_stack(stack, tmp_path / "a.onnx", "onnx")
    model = onnx.load(tmp_path / "a.onnx")
    (node,) = (one for one in model.graph.node if one.op_type == "GRU")
    (attribute,) = (one for one in node.attribute if one.name == "linear_before_reset")
    assert attribute.i == 1
    attribute.i = 0
    x, state = drawn(stack, 6, 3)
    wrong = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    gap = np.abs(wrong.run(None, feed(x, state, [6] * 3))[0] - ours(stack, x, state)[0]).max()
    assert gap > 0.01


@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_graph_runs_any_number_of_steps(cell: str, tmp_path: Path) -> None:
    """pytorch#191855: T is not frozen, nor (onnxruntime#19270, onnx#3182) is B."""
    stack = drawn_stack(cell, 2, True)
    running = session(stack, tmp_path)
    for T, B in ((3, 2), (50, 1), (1, 9)):
        x, state = drawn(stack, T, B)
        assert_near(running.run(None, feed(x, state, [T] * B)), ours(stack, x, state))


def test_initial_state_differs_by_row(tmp_path: Path) -> None:
    """torch-mlir PR#4741: the first state is an input with a row for each row of the batch, not a constant."""
    stack = drawn_stack("gru")
    running = session(stack, tmp_path)
    x, _ = drawn(stack, 1, 1)
    state = torch.randn(1, 4, H, generator=torch.Generator().manual_seed(9))
    y, _ = running.run(None, feed(x.expand(1, 4, I), (state,), [1] * 4))
    assert len(np.unique(y[0].round(4), axis=0)) == 4
    assert_near([y], ours(stack, x.expand(1, 4, I), (state,))[:1])


def test_packed_sequences_and_lengths_that_change(tmp_path: Path) -> None:
    """onnxruntime#11830 and #10768: lengths are an input, in any order, and another batch may have others."""
    stack = drawn_stack("lstm", 2, True)
    running = session(stack, tmp_path)
    x, state = drawn(stack, 6, 4)
    for lengths in ([2, 6, 1, 3], [6, 6, 6, 6], [1, 2, 3, 4]):
        assert_near(running.run(None, feed(x, state, lengths)), ours(stack, x, state, lengths))


def test_the_backward_pass_is_in_the_order_of_time(tmp_path: Path) -> None:
    """onnxruntime#4187: its output at step 0 is its final state, and padding does not move it."""
    running = session(drawn_stack("lstm", 1, True), tmp_path)
    x, state = drawn(drawn_stack("lstm", 1, True), 6, 2)
    y, h_n, _ = running.run(None, feed(x, state, [6, 4]))
    np.testing.assert_array_equal(y[0, :, H:], h_n[1])
    np.testing.assert_array_equal(y[[5, 3], [0, 1], :H], h_n[0])


def test_masked_steps_are_zero_and_do_not_repeat(tmp_path: Path) -> None:
    """onnxruntime#12492: Keras repeats the last output past the end of a row."""
    stack = drawn_stack("lstm")
    x, state = drawn(stack, 6, 2)
    y, *_ = session(stack, tmp_path).run(None, feed(x, state, [2, 0]))
    assert not y[2:, 0].any()
    assert not y[:, 1].any()


def test_gru_without_bias_from_three_rows_on(tmp_path: Path) -> None:
    """onnxruntime PR#3797."""
    stack = drawn_stack("gru", bias=False)
    running = session(stack, tmp_path)
    for B in (2, 3, 16):
        x, state = drawn(stack, 6, B)
        assert_near(running.run(None, feed(x, state, [6] * B)), ours(stack, x, state))


def test_ir_version_is_not_too_new(tmp_path: Path) -> None:
    """onnxruntime#20559: the installed package may write a newer one than runtimes in use can read, 8 of 2022."""
    assert onnx.helper.make_model(onnx.GraphProto()).ir_version > 8
    for graph in ("sequence", "step"):
        session(drawn_stack("rnn_tanh"), tmp_path, graph)
        assert onnx.load(tmp_path / f"{graph}.onnx").ir_version == 8


@pytest.mark.parametrize("cell", CELLS)
def test_batch_first_layout_is_not_written(cell: str, tmp_path: Path) -> None:
    """opencv#26456: other programs refuse layout=1, or compute as if it were 0; test_onnx_refusals.py reads such."""
    save_stack(drawn_stack(cell), tmp_path / "a.onnx", "onnx")
    (node,) = (one for one in onnx.load(tmp_path / "a.onnx").graph.node if one.op_type in ("LSTM", "GRU", "RNN"))
    assert all(one.name != "layout" for one in node.attribute)


def test_projected_lstm_is_refused(tmp_path: Path) -> None:
    """icefall PR#621: the node has no projection."""
    with pytest.raises(UsageError, match=r"^a projection \(proj_size 2\): the node LSTM of ONNX has none"):
        save_stack(drawn_stack("lstm", proj_size=2), tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_rows_of_length_0_keep_their_state(tmp_path: Path) -> None:
    """The standard leaves it undefined, and ONNX Runtime gives zeros."""
    stack = drawn_stack("lstm", 2, True)
    x, state = drawn(stack, 4, 3)
    _, *after = session(stack, tmp_path).run(None, feed(x, state, [0, 4, 0]))
    for before, found in zip(state, after, strict=True):
        np.testing.assert_array_equal(found[:, [0, 2]], before.numpy()[:, [0, 2]])
