"""The reference against PyTorch's modules in float64: outputs, last states, and autograd's gradients."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatewise.reference import Array
from gatewise.spec import CELLS, RecurrentSpec
from tests.reference.rig import Case, Problem, make
from tests.tolerances import RELATIVE, differ


def module_of(spec: RecurrentSpec) -> torch.nn.RNNBase:
    options = {"num_layers": spec.num_layers, "bias": spec.bias, "bidirectional": spec.bidirectional}
    sizes = (spec.input_size, spec.hidden_size)
    if spec.cell == "lstm":
        return torch.nn.LSTM(*sizes, **options, proj_size=spec.proj_size).double()
    if spec.cell == "gru":
        return torch.nn.GRU(*sizes, **options).double()
    return torch.nn.RNN(*sizes, **options, nonlinearity=spec.cell.removeprefix("rnn_")).double()


def run_pytorch(problem: Problem) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Return y and the last states, and every gradient by name."""
    case, tensors = problem.case, {name: torch.tensor(a).requires_grad_() for name, a in problem.arrays.items()}
    module = module_of(case.spec)
    x, states = tensors["x"], tuple(tensors[name] for name in ("h_0", "c_0") if name in tensors)
    read = x if case.lengths is None else pack_padded_sequence(x, torch.tensor(case.lengths), enforce_sorted=False)
    weights = {name: t for name, t in tensors.items() if name in case.spec.parameters()}
    out, state_n = torch.func.functional_call(module, weights, (read, states if len(states) > 1 else states[0]))
    y = out if case.lengths is None else pad_packed_sequence(out, total_length=case.T)[0]
    results = (y, *(state_n if len(states) > 1 else (state_n,)))
    upstream = [torch.tensor(d) for d in (problem.dy, *problem.dstate_n)]
    gradients = torch.autograd.grad(results, list(tensors.values()), upstream)
    return results, dict(zip(tensors, gradients, strict=True))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    cell, hidden_size = draw(st.sampled_from(list(CELLS))), draw(st.integers(1, 5))
    spec = RecurrentSpec(
        cell,
        input_size=draw(st.integers(1, 4)),
        hidden_size=hidden_size,
        num_layers=draw(st.integers(1, 3)),
        bias=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        proj_size=draw(st.integers(0, hidden_size - 1)) if cell == "lstm" else 0,
    )
    T, B = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    ragged = st.lists(st.integers(1, T), min_size=B, max_size=B).map(tuple)
    return Case(spec, T, B, draw(st.none() | ragged))


def assert_equal(found: Array, expected: torch.Tensor, name: str) -> None:
    assert found.shape == tuple(expected.shape), name
    assert differ(torch.tensor(found), expected) < RELATIVE[torch.float64], name


@settings(deadline=None, max_examples=60)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_outputs_states_and_gradients_are_pytorchs(case: Case, seed: int) -> None:
    problem = make(case, seed)
    results, gradients = run_pytorch(problem)
    y, state_n, _ = problem.forward()
    for name, found, expected in zip(("y", "h_n", "c_n"), (y, *state_n), results, strict=False):
        assert_equal(found, expected, name)
    ours = problem.gradients()
    assert ours.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert_equal(ours[name], expected, f"d{name}")
