"""Every context × cell × engine: the numbers of PyTorch's module, or one line that refuses.

Compiled and exported graphs are in ``test_recurrent_compile.py``, processes in ``tests/training/test_distributed.py``,
``gradcheck`` in ``test_pytorch_module_cases.py``, autocast in ``test_recurrent_equals_pytorch.py``.
"""
# mypy: disable-error-code="no-untyped-call"

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from gatewise.engines import ENGINES
from gatewise.nn import LSTM, LSTMState, Recurrent, RNNState, pool
from gatewise.nn import recurrent as implementation
from gatewise.spec import CELLS
from tests.nn.beside import both, parts
from tests.nn.contexts import CONTEXTS, X, drawn, in_turn
from tests.tolerances import RELATIVE, differ

CELL = pytest.mark.parametrize("cell", CELLS)
ENGINE = pytest.mark.parametrize("engine", ENGINES)


def pair(cell: str, engine: str = "auto", **kwargs: Any) -> tuple[Recurrent, nn.Module]:
    ours, theirs = both(cell, 3, 2, dtype=torch.float64, **kwargs)
    ours.engine = engine
    return ours, theirs


@cache
def expected(name: str, cell: str) -> Any:
    """PyTorch's numbers, for all engines."""
    return CONTEXTS[name](pair(cell)[1], in_turn)


def assert_equal(found: Any, expected: Any) -> None:
    a, b = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(a) == len(b)
    assert len(a) > 0
    for one, other in zip(a, b, strict=True):
        assert type(one) is type(other)
        assert one.shape == other.shape
        assert differ(one, other, least=1.0) <= RELATIVE[torch.float64]


@CELL
@ENGINE
@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")
@pytest.mark.filterwarnings(
    "ignore:Anomaly Detection", "ignore:There is a performance drop", "ignore:RNN module weights"
)
def test_the_numbers_are_pytorchs(name: str, engine: str, cell: str) -> None:
    assert_equal(CONTEXTS[name](pair(cell, engine)[0], torch.vmap), expected(name, cell))


def jit_trace(module: nn.Module) -> Any:
    return torch.jit.trace(module, (X,))


def jit_trace_of_what_holds_it(module: nn.Module) -> Any:
    module.requires_grad_(False)
    return torch.jit.trace(lambda x: module.forward(x)[0], (X,))


def jit_script(module: nn.Module) -> Any:
    return torch.jit.script(nn.Sequential(module))


def onnx_export_by_tracing(module: nn.Module) -> Any:
    return torch.onnx.export(module, (X,), io.BytesIO(), dynamo=False)


def onnx_export(module: nn.Module) -> Any:
    """What ``torch.onnx.export`` begins with; the rest of it needs a package that is not here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        return torch.export.export(module, (X,))


def fx_symbolic_trace(module: nn.Module) -> Any:
    return torch.fx.symbolic_trace(module)


def gradients_by_inputs_of_inference_mode(module: nn.Module) -> Any:
    with torch.inference_mode():
        x = X.clone()
    return module(x)


JIT = "; use torch.export.export or torch.compile, or load its weights into PyTorch's own module$"
REFUSED: dict[Callable[[nn.Module], Any], str] = {
    jit_trace: r"^\w+ cannot be traced by torch.jit" + JIT,
    jit_trace_of_what_holds_it: r"^a gatewise layer cannot be traced by torch.jit" + JIT,
    jit_script: r"^\w+ cannot be scripted by torch.jit" + JIT,
    onnx_export_by_tracing: r"^\w+ cannot be traced by torch.jit" + JIT,
    onnx_export: r"^a gatewise layer cannot be exported to ONNX" + JIT,
    fx_symbolic_trace: r"^input is a Proxy; expected a tensor or a PackedSequence$",
    gradients_by_inputs_of_inference_mode: r"^Inference tensors cannot be saved for backward.[^\n]*$",
}


@CELL
@ENGINE
@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.__name__)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused_is_refused_in_one_line(call: Callable[[nn.Module], Any], engine: str, cell: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=REFUSED[call]):
        call(pair(cell, engine)[0])
    assert torch._C._get_tracing_state() is None


@CELL
@ENGINE
@pytest.mark.parametrize("lengths", [None, [2, 1]])
def test_on_meta_and_on_fake_tensors_the_shapes_are_those_of_the_pass(
    cell: str, engine: str, lengths: list[int] | None
) -> None:
    ours, _ = pair(cell, engine, bidirectional=True)
    names = CELLS[cell].traced
    known = [(t.shape, t.dtype, t.stride()) for t in pytree.tree_leaves(ours(X, lengths=lengths, trace=names))]

    def tried(x: Tensor, module: nn.Module) -> list[Any]:
        results = pytree.tree_leaves(module(x, lengths=lengths, trace=names))
        results[0].sum().backward()
        assert x.grad is not None
        assert x.grad.shape == X.shape
        assert all(p.grad.shape == p.shape for p in module.parameters())
        return results

    for context in ("grad", "no_grad"):
        with torch.set_grad_enabled(context == "grad"), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            x = mode.from_tensor(X)
            found = pytree.tree_leaves(ours(x, lengths=lengths, trace=names))
            assert all(isinstance(t, FakeTensor) for t in found)
            assert [(t.shape, t.dtype, t.stride()) for t in found] == known
    with FakeTensorMode() as mode:
        fakes = {name: mode.from_tensor(p) for name, p in ours.named_parameters()}
        found = torch.func.functional_call(ours, fakes, (mode.from_tensor(X),))
        assert all(isinstance(t, FakeTensor) for t in pytree.tree_leaves(found))
    found = tried(X.to("meta").requires_grad_(), ours.to("meta"))
    assert [(t.shape, t.dtype, t.stride()) for t in found] == known
    assert {t.device.type for t in found} == {"meta"}


@CELL
@ENGINE
def test_lengths_masks_and_traces_are_the_same_within_a_transform(cell: str, engine: str) -> None:
    """And a batch of lengths is mapped as any other input."""
    ours, _ = pair(cell, engine, bidirectional=True)
    names = CELLS[cell].traced
    xs, lengths = torch.stack([X, X.cos()]), torch.tensor([[2, 0], [1, 2]])

    def call(x: Tensor, n: Tensor) -> Any:
        y, after, traced = ours(x, lengths=n, trace=names)
        return y, parts(after), dict(traced)

    assert_equal(torch.vmap(call)(xs, lengths), in_turn(call)(xs, lengths))
    with torch.no_grad():
        traced = make_fx(call)(xs[0], lengths[0])
    assert_equal(traced(xs[1], lengths[1]), call(xs[1], lengths[1]))
    for bad in (torch.tensor([[2, 0], [1, 4]]), torch.tensor([[2, -1], [1, 2]])):
        with pytest.raises(ValueError, match=r"^lengths holds (4|-1); expected 0 to 2, the number of steps"):
            torch.vmap(call)(xs, bad)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_dropout_is_drawn_as_vmaps_randomness_says(engine: str) -> None:
    lstm = LSTM(3, 8, 2, dropout=0.5, variational_dropout=0.3, engine=engine)
    xs = torch.randn(2, 3, 2, 3)
    xs[1] = xs[0]

    def call(x: Tensor) -> Tensor:
        y: Tensor = lstm(x)[0]
        return y

    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(call)(xs)
    a, b = torch.vmap(call, randomness="different")(xs)
    assert not torch.equal(a, b)
    torch.manual_seed(4)
    a, b = torch.vmap(call, randomness="same")(xs)
    assert torch.equal(a, b)
    torch.manual_seed(4)
    assert differ(a, lstm(xs[0])[0], least=1.0) <= RELATIVE[torch.float32]


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_a_traced_graph_draws_its_masks_anew(engine: str) -> None:
    lstm = LSTM(3, 8, 2, dropout=0.5, variational_dropout=0.3, engine=engine)
    x = torch.randn(3, 2, 3)
    with torch.no_grad():
        graph = make_fx(lambda x: lstm(x)[0])(x)
    torch.manual_seed(4)
    found, other = graph(x), graph(x)
    torch.manual_seed(4)
    assert differ(found, lstm(x)[0], least=1.0) <= RELATIVE[torch.float32]
    assert not torch.equal(found, other)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_masks_lengths_and_pooling_are_made_where_they_belong_whatever_the_default_device(
    engine: str, kind: str
) -> None:
    lstm = LSTM(3, 2, 2, dropout=0.5, variational_dropout=0.3, engine=engine)
    x = torch.randn(2, 2, 3)

    def call(lengths: Any) -> list[Tensor]:
        torch.manual_seed(4)
        y, (h_n, _) = lstm(x, lengths=lengths)
        return [y, h_n, pool(kind, y, h_n, 1, None if lengths is None else torch.tensor(lengths, device="cpu"))]

    for lengths in (None, [1, 2]):
        expected = call(lengths)
        torch.set_default_device("meta")
        try:
            found = call(lengths)
        finally:
            torch.set_default_device(None)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@CELL
@ENGINE
def test_each_saved_tensor_is_packed_and_unpacked_once(cell: str, engine: str) -> None:
    ours, _ = pair(cell, engine)
    packed: list[Tensor] = []
    unpacked: list[int] = []

    def pack(t: Tensor) -> int:
        packed.append(t)
        return len(packed) - 1

    def unpack(k: int) -> Tensor:
        unpacked.append(k)
        return packed[k]

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y, _ = ours(X)
    (y**2).sum().backward()
    assert len(packed) > 0
    assert sorted(unpacked) == list(range(len(packed)))


def test_a_parametrized_weight_is_computed_once_a_pass() -> None:
    calls: list[int] = []

    class Counted(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            calls.append(1)
            return weight / 2

    lstm = LSTM(3, 4)
    nn.utils.parametrize.register_parametrization(lstm, "weight_hh_l0", Counted())
    calls.clear()
    lstm(torch.randn(3, 2, 3))
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [LSTMState, RNNState])
def test_a_state_is_loaded_as_weights_alone(kind: Any) -> None:
    state = kind(*(drawn(1, 2, 3) for _ in kind._fields))
    file = io.BytesIO()
    torch.save([state], file)
    file.seek(0)
    (found,) = torch.load(file, weights_only=True)
    assert type(found) is kind
    assert_equal(found, state)


@ENGINE
def test_the_plain_path_is_left_for_nothing_else(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain pass goes to its engine, so that none of the above makes training slow."""
    from gatewise.engines import layer_operator

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(layer_operator, "differentiable_forward", never)
    ours, _ = pair("lstm", engine)
    y, _ = ours(X.clone().requires_grad_())
    y.sum().backward()
    with torch.no_grad():
        ours(X)
    with pytest.raises(AssertionError):
        torch.vmap(ours)(X[None])
    assert implementation.layer is layer_operator.layer
