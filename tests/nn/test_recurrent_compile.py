"""Compiled without a break, forward and back; exported; with batch and time that vary."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from gatewise.engines import ENGINES
from gatewise.nn import Recurrent
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, drawn_state, parts, results, without_type_checks
from tests.tolerances import RELATIVE

bare = without_type_checks()
LSTM, LSTMState, RNNState, make_stack = bare.LSTM, bare.LSTMState, bare.RNNState, bare.make_stack


@pytest.fixture(autouse=True)
def _no_graph_of_another_test() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Compiled(nn.Module):
    """A module behind its compiled call, its parameters under their own names."""

    def __init__(self, inner: nn.Module, **options: Any) -> None:
        super().__init__()
        self.call = torch.compile(inner, fullgraph=True, **options)
        for name, parameter in inner.named_parameters():
            self.register_parameter(name, parameter)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        return self._parameters.items()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


def calls(module: Any, *given: Any) -> list[str]:
    """What a compiled graph calls."""
    found: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        found.extend(str(node.target) for node in graph.graph.nodes if node.op.startswith("call"))
        return graph

    torch.compile(module, fullgraph=True, backend=backend)(*given)
    return found


def same_compiled(module: Recurrent, x: Tensor, hx: Any = None, backend: str = "aot_eager", **kwargs: Any) -> None:
    expected = {name: t.clone() for name, t in results(module, x, hx, **kwargs).items()}
    found = results(Compiled(module, backend=backend), x, hx, **kwargs)
    assert_same(found, expected, RELATIVE[x.dtype])


COMPILED = [name for name in ENGINES if name != "reference"]


def both_ways(cell: str, engine: str) -> Recurrent:
    """A bidirectional stack, of the LSTM with two layers: what lies between them is the same for each cell."""
    return make_stack(cell, 3, 4, 2 if cell == "lstm" else 1, bidirectional=True, engine=engine)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("engine", COMPILED)
def test_forward_and_backward_in_one_graph(cell: str, lengths: bool, engine: str) -> None:
    module = both_ways(cell, engine)
    given = {"lengths": torch.tensor([5, 2, 0])} if lengths else {}
    same_compiled(module, torch.randn(5, 3, 3), drawn_state(module, 3), **given)


def test_a_pass_is_one_operator_in_the_graph() -> None:
    found = calls(LSTM(3, 4, 2), torch.randn(5, 2, 3))
    assert found.count("gatewise.layer_forward") == 2
    assert not any(name in call for call in found for name in ("matmul", "sigmoid", "autocast"))


def test_within_a_transform_the_graph_has_its_numbers() -> None:
    """There the operator would have no tangent, and could not be mapped."""
    lstm, x = LSTM(3, 4, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)

    def pushed(x: Tensor) -> tuple[Tensor, Tensor]:
        y, tangent = torch.func.jvp(lambda x: lstm(x)[0], (x,), (x.cos(),))
        return y, tangent

    def mapped(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.vmap(lambda x: lstm(x)[0], in_dims=1)(x), torch.func.grad(lambda x: lstm(x)[0].sum())(x)

    for call in (pushed, mapped):
        found = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
        for a, b in zip(found, call(x), strict=True):
            assert_same({"": a}, {"": b}, RELATIVE[torch.float64])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.slow
def test_with_inductor(cell: str, engine: str) -> None:
    module = make_stack(cell, 3, 4, 2, engine=engine)
    same_compiled(module, torch.randn(5, 3, 3), backend="inductor", lengths=torch.tensor([5, 2, 0]))


@pytest.mark.parametrize("cell", CELLS)
def test_in_eval_mode_with_dropouts_and_a_batch_first(cell: str) -> None:
    module = make_stack(cell, 3, 4, 2, batch_first=True, dropout=0.5, variational_dropout=0.3).eval()
    same_compiled(module, torch.randn(2, 5, 3))


def test_in_training_mode_with_dropouts() -> None:
    """Other draws than without compiling, so that only the mask's marks can be seen: zeros, and no break."""
    module = LSTM(3, 50, 2, dropout=0.5, variational_dropout=0.5)
    y, _ = torch.compile(module, fullgraph=True, backend="aot_eager")(torch.randn(5, 3, 3))
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert (module.weight_hh_l0.grad.abs().sum(0) > 0).any()


def test_a_projected_lstm() -> None:
    module = LSTM(3, 4, 2, proj_size=2)
    same_compiled(module, torch.randn(5, 3, 3), lengths=torch.tensor([5, 2, 0]))


@pytest.mark.parametrize("cell", CELLS)
def test_with_a_trace(cell: str) -> None:
    module, x = make_stack(cell, 3, 4, 2), torch.randn(5, 3, 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    y, _, expected = module(x, lengths=torch.tensor([5, 2, 0]), trace=CELLS[cell].traced)
    y_found, _, found = compiled(x, lengths=torch.tensor([5, 2, 0]), trace=CELLS[cell].traced)
    assert_same({"y": y_found, **found}, {"y": y, **expected}, RELATIVE[torch.float32])


@pytest.mark.parametrize("cell", CELLS)
def test_states_go_in_and_come_out_as_they_are(cell: str) -> None:
    module, x = make_stack(cell, 3, 4), torch.randn(5, 2, 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    state = module.initial_state(2)
    _, after = compiled(x, state)
    assert type(after) is (LSTMState if cell == "lstm" else RNNState)
    _, expected = module(x, state)
    assert_same(after._asdict(), expected._asdict(), RELATIVE[torch.float32])
    _, again = compiled(x, after.detach())
    assert_same(again._asdict(), module(x, expected)[1]._asdict(), RELATIVE[torch.float32])

    def step(x: Tensor, state: Any, begins: Tensor) -> Any:
        return module(x, state.reset(begins).to(torch.float32).detach())[1]

    begins = torch.tensor([True, False])
    found = torch.compile(step, fullgraph=True, backend="aot_eager")(x, after, begins)
    assert_same(found._asdict(), step(x, after, begins)._asdict(), RELATIVE[torch.float32])


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("engine", COMPILED)
def test_batch_and_time_may_vary_without_another_compilation(cell: str, engine: str) -> None:
    module = both_ways(cell, engine)
    compiled = Compiled(module, backend="aot_eager", dynamic=True)
    for T, B in ((5, 6), (7, 8), (9, 2)):  # none of them I or H: the compiler takes equal numbers for one
        x, lengths = torch.randn(T, B, 3), torch.arange(B) % (T + 1)
        expected = {name: t.clone() for name, t in results(module, x, lengths=lengths).items()}
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert_same(results(compiled, x, lengths=lengths), expected, RELATIVE[torch.float32])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("engine", COMPILED)
def test_exported_saved_and_loaded_with_batch_and_time_that_vary(cell: str, lengths: bool, engine: str) -> None:
    module = both_ways(cell, engine).eval()
    T, B = torch.export.Dim("T", min=2), torch.export.Dim("B", min=2)
    shapes: dict[str, Any] = {"input": {0: T, 1: B}}
    given: dict[str, Any] = {}
    if lengths:
        given, shapes["lengths"] = {"lengths": torch.tensor([5, 2, 0])}, {0: B}
    program = torch.export.export(module, (torch.randn(5, 3, 3),), given, dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    program = torch.export.load(file)
    assert any("gatewise" in str(node.target) for node in program.graph.nodes)
    for size in ((5, 3), (8, 4)):
        x = torch.randn(*size, 3)
        given = {"lengths": torch.tensor([size[0], 2, 0, 1][: size[1]])} if lengths else {}
        (y, after), (y_found, after_found) = module(x, **given), program.module()(x, **given)
        assert type(after_found).__name__ == type(after).__name__
        assert_same({"y": y_found}, {"y": y}, RELATIVE[torch.float32])
        assert_same({"h": parts(after_found)[0]}, {"h": parts(after)[0]}, RELATIVE[torch.float32])
