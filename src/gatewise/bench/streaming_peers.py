"""The peers of ``gatewise bench streaming``: the same language model in PyTorch's modules and as an ONNX graph."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.errors import UsageError
from gatewise.models.language_model import LanguageModel

Step = Callable[[], list[Tensor]]
"""Reads the token once more, carrying the state; returns logits, h and c."""


def pytorch_step(model: LanguageModel, token: int) -> Step:
    """Create the program of ``nn.Embedding``, ``nn.LSTM`` and ``nn.Linear`` with a model's weights."""
    V, E, H = len(model.vocabulary), model.rnn.input_size, model.rnn.hidden_size
    embedding, lstm, decoder = nn.Embedding(V, E), nn.LSTM(E, H, model.rnn.num_layers), nn.Linear(H, V)
    for own, given in ((embedding, model.embedding), (lstm, model.rnn), (decoder, model.decoder)):
        own.load_state_dict(given.state_dict())
    state, ids = tuple(model.initial_state()), torch.tensor([[token]])

    def step() -> list[Tensor]:
        nonlocal state
        with torch.inference_mode():
            y, state = lstm(embedding(ids), state)
            return [decoder(y[0]), *state]

    return step


def refuse_without_onnxruntime() -> None:
    """Check at once that the peers are installed, rather than fail after minutes of other measurements.

    Raises:
        UsageError: ONNX Runtime, or a package needed to write its graphs, is not installed.
    """
    for name in ("onnxruntime", "onnx"):
        if find_spec(name) is None:
            raise UsageError(f"{name} is not installed; expected the peers: pip install --group peers")


def onnxruntime_step(model: LanguageModel, token: int, threads: int) -> Step:
    """Create an ONNX Runtime session of Gather, one LSTM per layer and Gemm; its buffers are bound once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(_graph(model), options, providers=["CPUExecutionProvider"])
    L, H, V = model.rnn.num_layers, model.rnn.hidden_size, len(model.vocabulary)
    parts = [f"{part}{layer}" for part in "hc" for layer in range(L)]

    def memory(array: Any) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu")

    # Two sets of states, used alternately as input and output.
    states = [{name: memory(np.zeros((1, 1, H), np.float32)) for name in parts} for _ in range(2)]
    ids, logits, bindings = memory(np.array([[token]])), memory(np.zeros((1, V), np.float32)), []
    for before, after in (states, states[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("ids", ids)
        binding.bind_ortvalue_output("logits", logits)
        for name in parts:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"{name}_n", after[name])
        bindings.append((binding, after))
    views = [{name: torch.from_numpy(value.numpy()) for name, value in after.items()} for _, after in bindings]
    seen, turn = torch.from_numpy(logits.numpy()), 0

    def step() -> list[Tensor]:
        nonlocal turn
        session.run_with_iobinding(bindings[turn][0])
        after, turn = views[turn], 1 - turn
        return [seen, *(after[name] for name in parts)]

    return step


def _graph(model: LanguageModel) -> bytes:
    import onnx
    from onnx import helper, numpy_helper

    L, H, V = model.rnn.num_layers, model.rnn.hidden_size, len(model.vocabulary)

    def stored(name: str, tensor: Tensor) -> str:
        weights.append(numpy_helper.from_array(tensor.detach().numpy(), name))
        return name

    def reordered(name: str) -> Tensor:
        i, f, g, o = model.rnn.get_parameter(name).detach().chunk(4)
        return torch.cat([i, o, f, g])

    weights: list[Any] = []
    nodes = [helper.make_node("Gather", [stored("embedding", model.embedding.weight), "ids"], ["x0"])]
    for k in range(L):
        both = torch.cat([reordered(f"bias_ih_l{k}"), reordered(f"bias_hh_l{k}")])
        given = [
            f"x{k}",
            stored(f"W{k}", reordered(f"weight_ih_l{k}")[None]),
            stored(f"R{k}", reordered(f"weight_hh_l{k}")[None]),
            stored(f"B{k}", both[None]),
            "",
            f"h{k}",
            f"c{k}",
        ]
        nodes.append(helper.make_node("LSTM", given, ["", f"h{k}_n", f"c{k}_n"], hidden_size=H))
        nodes.append(helper.make_node("Identity", [f"h{k}_n"], [f"x{k + 1}"]))  # (1, 1, H): one step is the sequence
    nodes.append(helper.make_node("Squeeze", [f"x{L}", stored("axis", torch.tensor([0]))], ["top"]))
    decoder = [stored("V", model.decoder.weight), stored("b", model.decoder.bias)]
    nodes.append(helper.make_node("Gemm", ["top", *decoder], ["logits"], transB=1))
    real, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    states = [f"{part}{k}" for part in "hc" for k in range(L)]
    graph = helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info("ids", whole, [1, 1]),
            *(helper.make_tensor_value_info(name, real, [1, 1, H]) for name in states),
        ],
        [
            helper.make_tensor_value_info("logits", real, [1, V]),
            *(helper.make_tensor_value_info(f"{name}_n", real, [1, 1, H]) for name in states),
        ],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())
