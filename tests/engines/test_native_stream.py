"""Streaming: the results of the reference for any size, number of rows and number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from gatewise.engines.native.module import why_not_built
from gatewise.engines.native.stream import Stream, why_not
from gatewise.nn import Recurrent, make_stack
from gatewise.nn.recurrent import State
from gatewise.nn.state import LSTMState, RNNState
from gatewise.runtime.model_file import STORED
from gatewise.spec import CELLS, RecurrentSpec
from tests.tolerances import RELATIVE, differ

pytestmark = pytest.mark.skipif(why_not_built() is not None, reason="the native engine was not built")

# I, H, L, V: smaller than a vector, of no round size, of more terms than are read at once, just more than a block.
SIZES = [(1, 1, 1, 1), (5, 7, 2, 11), (70, 33, 3, 65), (4, 129, 2, 130)]


class Drawn:
    """A stack with a table and a decoder, its weights drawn."""

    def __init__(self, cell: str, size: tuple[int, int, int, int], bias: bool = True) -> None:
        I, H, L, V = size
        torch.manual_seed(I + H)
        self.stack: Recurrent = make_stack(cell, I, H, L, bias=bias, engine="reference")
        self.table, self.weight, self.bias = torch.randn(V, I), torch.randn(V, H) / H**0.5, torch.randn(V)

    def state(self, B: int) -> State:
        return self.stack.initial_state(B)._each(lambda part: torch.randn(part.shape) / 2)

    def stream(self, weights: str = "fp32", **options: object) -> Stream[State]:
        kind = LSTMState if self.stack.spec.cell == "lstm" else RNNState
        with_table = {"table": self.table, "decoder": (self.weight, self.bias)}
        parameters = dict(self.stack.named_parameters())
        how = {**with_table, "threads": torch.get_num_threads(), **options}
        return Stream(self.stack.spec, parameters, state=kind, weights=weights, **how)

    @torch.no_grad()
    def expected(self, x: Tensor, state: State) -> list[Tensor]:
        x = self.table[x] if x.dtype == torch.int64 else x
        y, after = self.stack(x[None], state)
        return [y[0] @ self.weight.T + self.bias, *after]

    @torch.no_grad()
    def rounded(self) -> "Drawn":
        for p in (self.table, self.weight, *(p for n, p in self.stack.named_parameters() if "weight" in n)):
            p.copy_(p.bfloat16())
        return self


def assert_same(found: tuple[Tensor, State], expected: list[Tensor]) -> None:
    for a, b in zip([found[0], *found[1]], expected, strict=True):
        assert a.shape == b.shape
        assert differ(a, b) < RELATIVE[torch.float32]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_steps_give_the_references_logits_and_states(cell: str, size: tuple[int, int, int, int], bias: bool) -> None:
    drawn = Drawn(cell, size, bias)
    stream, state = drawn.stream(), drawn.state(2)
    for t in range(3):
        ids = torch.tensor([t % size[3], size[3] - 1])
        found, expected = stream.step(ids, state), drawn.expected(ids, state)
        assert_same(found, expected)
        state = found[1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_bf16_weights_are_the_weights_rounded(cell: str, size: tuple[int, int, int, int]) -> None:
    drawn, ids = Drawn(cell, size), torch.zeros(3, dtype=torch.int64)
    narrow, state = drawn.stream("bf16"), drawn.state(3)
    found, unrounded = narrow.step(ids, state), drawn.expected(ids, state)
    assert_same(found, drawn.rounded().expected(ids, state))
    assert narrow.bytes * 2 == drawn.stream().bytes
    assert any(differ(a, b) > 1e-4 for a, b in zip([found[0], *found[1]], unrounded, strict=True)), "not rounded at all"


@pytest.mark.parametrize("weights", STORED)
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_does_not_depend_on_the_others(cell: str, weights: str) -> None:
    drawn = Drawn(cell, (70, 33, 3, 65))
    stream, whole, ids = drawn.stream(weights), drawn.state(37), torch.arange(37)
    logits, after = stream.step(ids, whole)
    for B in (1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 17):
        part, part_after = stream.step(ids[:B], whole._each(lambda p, B=B: p[:, :B]))
        assert torch.equal(part, logits[:B])
        for a, b in zip(part_after, after, strict=True):
            assert torch.equal(a, b[:, :B])


@pytest.mark.parametrize("weights", STORED)
def test_equal_bits_for_any_number_of_threads(weights: str) -> None:
    drawn = Drawn("lstm", (400, 600, 2, 8000) if weights == "int8" else (200, 300, 2, 4000))
    state, ids, threads = drawn.state(1), torch.tensor([3]), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3, 8):
            torch.set_num_threads(n)
            stream = drawn.stream(weights)
            assert stream.bytes > (4 if weights == "bf16" else 8) * 2**19  # so that all of them take part
            results.append(stream.step(ids, state))
    finally:
        torch.set_num_threads(threads)
    for logits, after in results[1:]:
        assert torch.equal(logits, results[0][0])
        assert all(map(torch.equal, after, results[0][1]))


def test_vectors_go_in_and_without_a_decoder_h_comes_out() -> None:
    drawn = Drawn("gru", (5, 7, 2, 11))
    stream, state, x = drawn.stream(table=None, decoder=None), drawn.state(4), torch.randn(5, 4).T
    h, after = stream.step(x, state)
    _, expected = drawn.expected(x, state)
    assert differ(after.h, expected) < RELATIVE[torch.float32]
    assert torch.equal(h, after.h[-1])
    h.zero_()
    assert after.h[-1].any(), "they share memory"


def test_one_hot_ids_pick_columns() -> None:
    for weights in ("fp32", "bf16"):
        drawn = Drawn("lstm", (11, 7, 2, 5))
        stream, state = drawn.stream(weights, table=None, one_hot=True), drawn.state(2)
        drawn = drawn if weights == "fp32" else drawn.rounded()
        assert_same(stream.step(torch.tensor([10, 0]), state), drawn.expected(torch.eye(11)[[10, 0]], state))


def test_a_state_is_a_value_and_may_have_gaps() -> None:
    drawn = Drawn("lstm", (5, 7, 2, 11))
    stream, ids = drawn.stream(), torch.tensor([1, 2, 3])
    gaps = drawn.state(3)._each(lambda p: p.repeat_interleave(2, -1)[..., ::2])
    before = gaps._each(Tensor.clone)
    first, second = stream.step(ids, gaps), stream.step(ids.repeat_interleave(2)[::2], before)
    assert not gaps.h.is_contiguous()
    assert all(map(torch.equal, gaps, before))
    assert torch.equal(first[0], second[0])
    assert first[1].h.data_ptr() not in (gaps.h.data_ptr(), first[1].c.data_ptr())


def test_weights_are_a_snapshot() -> None:
    drawn = Drawn("lstm", (5, 7, 2, 11))
    stream, state, ids = drawn.stream(), drawn.state(1), torch.tensor([4])
    logits, after = stream.step(ids, state)
    with torch.no_grad():
        for p in (drawn.table, drawn.weight, drawn.bias, *drawn.stack.parameters()):
            p.data.zero_()
    again, after_again = stream.step(ids, state)
    assert torch.equal(logits, again)
    assert all(map(torch.equal, after, after_again))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_not_finite_comes_out_so(cell: str, bad: float) -> None:
    drawn, ids = Drawn(cell, (5, 7, 2, 11)), torch.tensor([0, 1])
    state = drawn.state(2)
    state.h[1, 0, 3] = bad
    (logits, after), expected = drawn.stream().step(ids, state), drawn.expected(ids, state)
    for a, b in zip([logits, *after], expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
    assert torch.isfinite(logits[1]).all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, -1])  # of a NaN: its 16 lower bits are none, some, all
@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_a_nan_among_the_weights_stays_in_its_row(weights: str, bits: int) -> None:
    drawn = Drawn("lstm", (5, 7, 1, 40))
    for row in range(40):
        weight = drawn.weight.clone()
        weight[row, 3] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
        logits, _ = drawn.stream(weights, decoder=(weight, drawn.bias)).step(torch.tensor([1]), drawn.state(1))
        assert logits[0].isnan().nonzero().flatten().tolist() == [row]


Array = npt.NDArray[np.float64]


def integers(x: Array, most: int) -> tuple[Array, Array]:
    """Return the integers of each row, and the rows' scales."""
    x = x.astype(np.float32)
    scale = np.maximum(np.abs(x).max(1, keepdims=True, initial=0), np.float32(2.0**-100)) / np.float32(most)
    return np.rint(x / scale).astype(np.float64), scale.astype(np.float64)


def int8_product(w: Array, x: Array) -> Array:
    """Return W x for each row of x as int8 weights give it: integers to 127 and to 32767, multiplied exactly."""
    (q, s), (p, t) = integers(w, 127), integers(x, 32767)
    return (p @ q.T) * t * s.T


def int8_layer(drawn: Drawn, layer: int, product: Array, before: list[Array]) -> list[Array]:
    """Return the new state of a layer from W_ih x and its state before, by the equations."""
    get = {name: p.detach().double().numpy() for name, p in drawn.stack.named_parameters()}
    a, u = product, int8_product(get[f"weight_hh_l{layer}"], before[0])
    if f"bias_ih_l{layer}" in get:
        a, u = a + get[f"bias_ih_l{layer}"], u + get[f"bias_hh_l{layer}"]
    cell = drawn.stack.spec.cell
    if cell.startswith("rnn"):
        return [np.tanh(a + u) if cell == "rnn_tanh" else np.maximum(a + u, 0)]
    a, u = (np.split(part, 4 if cell == "lstm" else 3, axis=1) for part in (a, u))
    i, f = (1 / (1 + np.exp(-a[k] - u[k])) for k in range(2))
    if cell == "gru":
        return [(1 - f) * np.tanh(a[2] + i * u[2]) + f * before[0]]
    c = f * before[1] + i * np.tanh(a[2] + u[2])
    return [np.tanh(c) / (1 + np.exp(-a[3] - u[3])), c]


EXACT = 2e-6
"""Of the largest entry: what is left is float32 in gates and sums; one unit of 16 bits is 15 times as much."""


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_int8_steps_are_the_quantized_equations(cell: str, size: tuple[int, int, int, int], one_hot: bool) -> None:
    """Layer by layer, each from the h found below: a rounding of it that differs must not hide others."""
    I, _, L, V = size
    drawn = Drawn(cell, size)
    for row in (drawn.weight[V // 2], drawn.stack.weight_hh_l0.data[0], drawn.table[0]):
        row.zero_()
    stream = drawn.stream("int8", **({"table": None, "one_hot": True} if one_hot else {}))
    state, ids = drawn.state(3), torch.tensor([0, (I if one_hot else V) - 1, 0])
    logits, after = stream.step(ids, state)
    before, found = ([part.double().numpy() for part in each] for each in (state, after))
    w_ih = [drawn.stack.get_parameter(f"weight_ih_l{k}").detach().double().numpy() for k in range(L)]
    q, s = integers(w_ih[0].T if one_hot else drawn.table.double().numpy(), 127)
    read = (q * s)[ids]
    for k in range(L):
        below = found[0][k - 1] if k else read
        product = read if one_hot and not k else int8_product(w_ih[k], below)
        expected = int8_layer(drawn, k, product, [part[k] for part in before])
        for a, b in zip([part[k] for part in found], expected, strict=True):
            assert differ(torch.from_numpy(a), torch.from_numpy(b)) < EXACT
    expected_logits = int8_product(drawn.weight.double().numpy(), found[0][-1]) + drawn.bias.double().numpy()
    assert differ(logits, torch.from_numpy(expected_logits)) < EXACT
    assert torch.equal(logits[:, V // 2], drawn.bias[V // 2].expand(3))


def test_int8_weights_take_a_quarter_of_the_memory() -> None:
    drawn = Drawn("lstm", (200, 200, 2, 1000))
    assert 0.25 < drawn.stream("int8").bytes / drawn.stream().bytes < 0.26


def relu_units(w: Tensor, x: Tensor) -> Tensor:
    """Return max(W x, 0) as one step of an RNN gives it with int8 weights."""
    spec, rows = RecurrentSpec("rnn_relu", w.shape[1], w.shape[0], bias=False), len(x)
    stream = Stream(
        spec,
        {"weight_ih_l0": w, "weight_hh_l0": torch.zeros(len(w), len(w))},
        state=RNNState,
        weights="int8",
    )
    return stream.step(x, (torch.zeros(1, rows, len(w)),))[0]


@pytest.mark.parametrize("K", [1, 2, 511, 512, 513, 517, 5001])
def test_int8_sums_of_the_largest_terms_do_not_overflow(K: int) -> None:
    found = relu_units(torch.tensor([[3.0], [-3.0]]).expand(2, K), torch.tensor([[0.5], [-0.5]]).expand(2, K))
    assert torch.allclose(found, torch.eye(2) * 1.5 * K, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 2, 13])
def test_int8_products_of_many_terms_read_every_weight(rows: int) -> None:
    w, x = torch.randn(70, 1301), torch.randn(rows, 1301)
    expected = np.maximum(int8_product(w.double().numpy(), x.double().numpy()), 0)
    assert differ(relu_units(w, x), torch.from_numpy(expected)) < EXACT


@pytest.mark.parametrize("size", [1e-28, 1e-20, 1e20, 1e30])
def test_int8_scales_follow_sizes_far_from_one(size: float) -> None:
    w, x = torch.rand(5, 40), torch.rand(3, 40)
    assert differ(relu_units(w / size, x * size), x @ w.T) < 0.02
    assert torch.equal(relu_units(w, torch.zeros(3, 40)), torch.zeros(3, 5))
    assert torch.equal(relu_units(w * 0, x), torch.zeros(3, 5))
    assert torch.equal(relu_units(w, x * 1e-40), torch.zeros(3, 5)), "numbers below the least scale"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("cell", CELLS)
def test_with_int8_a_vector_that_is_not_finite_makes_its_row_nan(cell: str, bad: float) -> None:
    drawn, ids = Drawn(cell, (5, 7, 2, 11)), torch.tensor([0, 1])
    stream, state, given = drawn.stream("int8"), drawn.state(2), drawn.state(2)
    given.h.copy_(state.h)
    if len(state) == 2:
        given[1].copy_(state[1])
    given.h[1, 0, 3] = bad
    (logits, after), (right, right_after) = stream.step(ids, given), stream.step(ids, state)
    assert logits[0].isnan().all() and after.h[1, 0].isnan().all()
    assert torch.equal(logits[1], right[1])
    for a, b in zip(after, right_after, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1, 1], b[1, 1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1", "table", "decoder"])
def test_int8_weights_must_be_finite(name: str, bad: float) -> None:
    drawn = Drawn("gru", (5, 7, 2, 11))
    tensor = {"table": drawn.table, "decoder": drawn.weight}.get(name)
    tensor = drawn.stack.get_parameter(name).data if tensor is None else tensor
    tensor[-1, -1] = bad
    what = {"decoder": "the decoder's weight"}.get(name, name)
    for options in ({}, {"table": None, "one_hot": True}):
        if options and name == "table":
            continue
        with pytest.raises(ValueError, match=f"^{what} holds a number that is not finite, which int8 .* bf16 weights$"):
            drawn.stream("int8", **options)
    drawn.stream("bf16")


def test_int8_leaves_the_biases_as_they_are() -> None:
    drawn = Drawn("lstm", (5, 7, 1, 11))
    drawn.bias[4] = float("inf")
    logits, _ = drawn.stream("int8").step(torch.tensor([1]), drawn.state(1))
    assert logits.isinf().nonzero().tolist() == [[0, 4]]


def test_several_threads_of_python_may_use_one_stream() -> None:
    drawn = Drawn("lstm", (20, 40, 2, 50))
    stream, states = drawn.stream(), [drawn.state(1) for _ in range(8)]
    alone = [stream.step(torch.tensor([k]), state)[0] for k, state in enumerate(states)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            together = pool.map(lambda k: stream.step(torch.tensor([k]), states[k])[0], range(8))
            assert all(map(torch.equal, alone, together))


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    drawn = Drawn("lstm", (5, 7, 2, 11))
    stream, state, ids = drawn.stream(), drawn.state(2), torch.tensor([1, 2])
    for x, given, words in [
        (ids.float(), state, "the input is float32 of shape (2,); expected int64 of shape (B,)"),
        (ids[None], state, "the input is int64 of shape (1, 2); expected int64 of shape (B,)"),
        (ids[:1], state, "expected 2 float32 tensors of shape (2, 1, 7)"),
        (ids, state[:1], "the state is float32 of shape (2, 2, 7); expected 2 float32 tensors of shape (2, 2, 7)"),
        (ids, state.to(torch.float64), "the state is float64 of shape (2, 2, 7)"),
    ]:
        with pytest.raises(ValueError, match=r"^the (input|state) is ") as caught:
            stream.step(x, given)
        assert words in str(caught.value)
    for token in (-1, 11, 2**40):
        with pytest.raises(IndexError, match=f"^token id {token} is outside the vocabulary; expected 0 to 10$"):
            stream.step(torch.tensor([0, token]), state)
    with pytest.raises(ValueError, match=r"^weights is 'int4'; expected one of fp32, bf16, int8$"):
        drawn.stream("int4")
    with pytest.raises(ValueError, match="it is bidirectional, but a step sees past inputs only"):
        Stream(RecurrentSpec("gru", 2, 3, bidirectional=True), {"weight_hh_l0": torch.zeros(9, 3)}, state=RNNState)


def test_why_a_stack_cannot_be_streamed() -> None:
    cpu, spec = torch.device("cpu"), RecurrentSpec("lstm", 2, 3)
    assert why_not(spec, cpu, torch.float32) is None
    assert "cuda" in str(why_not(spec, torch.device("cuda"), torch.float32))
    assert "float64" in str(why_not(spec, cpu, torch.float64))
    assert "projection" in str(why_not(RecurrentSpec("lstm", 2, 3, proj_size=1), cpu, torch.float32))


def test_a_step_makes_float32_on_the_cpu_whatever_the_defaults_are() -> None:
    drawn = Drawn("lstm", (5, 7, 2, 11))
    stream, state, ids = drawn.stream(), drawn.state(3), torch.tensor([1, 4, 0])
    expected = drawn.expected(ids, state)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = stream.step(ids, state)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert_same(found, expected)
