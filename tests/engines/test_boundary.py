"""Invalid tensors at every entry point to C++: a one-line error before any address is taken or memory written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gatewise.engines
from gatewise.engines import ENGINES
from gatewise.engines.boundary import addresses, changeable, new, readable
from gatewise.engines.contract import LayerInputs, LayerOptions, LossInputs, LossOptions
from gatewise.engines.layer_operator import flatten
from gatewise.engines.native import loss, module, update
from gatewise.engines.native.stream import Stream
from gatewise.nn import LSTMState
from gatewise.spec import RecurrentSpec
from tests.nn.beside import loaded_anew, without_type_checks

pytestmark = pytest.mark.skipif("native" not in ENGINES, reason=f"engine native: {module.why_not_built()}")

modules = without_type_checks()
cross_entropy = loaded_anew("gatewise.nn.loss").linear_cross_entropy


def refused(call: Callable[[], Any], text: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_address_is_taken_elsewhere() -> None:
    folder = Path(gatewise.engines.__file__).parent
    assert [path.name for path in folder.rglob("*.py") if "data_ptr" in path.read_text(encoding="utf-8")] == [
        "boundary.py"
    ]


def test_what_lies_ready_is_read_where_it_lies_and_what_does_not_is_copied() -> None:
    t = torch.arange(12.0).view(3, 4)
    assert readable("t", t, torch.float32, 3, 4) is t
    for other in (t.t(), t.double(), t[:, ::2], torch.complex(t * 0, -t).conj().imag, t[0, 0].expand(3, 4)):
        found = readable("t", other, torch.float32, *other.shape)
        assert found.is_contiguous() and not found.is_neg() and torch.equal(found, other.float())
    assert changeable("t", t, torch.float32, 3, 4) is t
    refused(
        lambda: changeable("m", t.t(), torch.float32, 4, 3),
        "m has strides (1, 4); expected a contiguous tensor of shape (4, 3)",
    )
    refused(lambda: changeable("m", t, torch.float64, 3, 4), "m is torch.float32; expected torch.float64")


def cut(t: Tensor, size: int) -> Tensor:
    t.untyped_storage().resize_(size)
    return t


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.zeros(4, 3), "t has shape (4, 3); expected (3, 4)"),
        (lambda: torch.zeros(3, 4, device="meta"), "t is on meta; expected the CPU"),
        (lambda: torch.zeros(3, 4).to_sparse(), "t is torch.sparse_coo; expected a dense tensor"),
        (lambda: cut(torch.zeros(3, 4), 0), "t needs 48 bytes for its shape (3, 4), but its storage has 0"),
        (lambda: cut(torch.zeros(3, 4), 47), "its storage has 47"),
        (lambda: cut(torch.zeros(4, 4)[1:], 63), "t needs 64 bytes for its shape (3, 4), but its storage has 63"),
        (lambda: cut(torch.zeros(4, 3).t(), 44), "t needs 48 bytes for its shape (3, 4), but its storage has 44"),
        (lambda: [[0.0] * 4] * 3, "t is list; expected a tensor of shape (3, 4)"),
    ],
)
def test_what_has_not_its_numbers_in_memory_is_refused(make: Callable[[], Any], text: str) -> None:
    refused(lambda: readable("t", make(), torch.float32, 3, 4), text)


def test_what_pytorch_wraps_is_refused() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        fake = torch.zeros(3, 4)
        refused(lambda: addresses(new(torch.float32, 3)), "a FakeTensor of shape (3,) has no memory")
    zeros = torch._efficientzerotensor((3, 4))
    refused(lambda: addresses(readable("t", zeros, torch.float32, 3, 4)), "a Tensor of shape (3, 4) has no memory")
    refused(lambda: readable("t", fake, torch.float32, 3, 4), "t is a FakeTensor, which has no memory")
    del mode

    def within(t: Tensor) -> Tensor:
        refused(lambda: readable("t", t, torch.float32, 3, 4), "t is a tensor within a torch.func transform")
        return t.sum()

    torch.func.grad(within)(torch.zeros(3, 4))
    torch.func.vmap(within)(torch.zeros(2, 3, 4))
    with torch.device("meta"):  # the default device is only for the user's tensors
        assert new(torch.float32, 3).device.type == "cpu"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_weight_that_was_replaced_is_named_on_each_engine(engine: str) -> None:
    x = torch.randn(7, 2, 3)
    gru = modules.GRU(3, 4, engine=engine)
    gru.weight_hh_l0 = nn.Parameter(torch.randn(5, 4))
    refused(lambda: gru(x), "weight_hh has shape (5, 4); expected (12, 4)")
    with torch.no_grad():
        refused(lambda: gru(x), "weight_hh has shape (5, 4); expected (12, 4)")
    for which, width in (("weight_ih", 5), ("bias_ih", 0), ("bias_hh", 0)):
        lstm = modules.LSTM(3, 4, engine=engine)
        shape = (16, width) if width else (15,)
        setattr(lstm, f"{which}_l0", nn.Parameter(torch.randn(shape)))
        refused(lambda: lstm(x), f"{which} has shape {shape}; expected {(16, 3) if width else (16,)}")  # noqa: B023
    lstm = modules.LSTM(3, 4, engine=engine)
    lstm.bias_hh_l0 = None
    refused(lambda: lstm(x), "bias_hh_l0 is None; expected a tensor; or make the module with bias=False")


PLACES = ("x", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "h_mask", "lengths")


def operator_inputs(**changed: Any) -> list[Any]:
    """Return the tensors of an LSTM pass with T=4, B=3, I=2, H=5, no projection or mask, some of them changed."""
    shapes = [(4, 3, 2), (3, 5), (3, 5), (20, 2), (20, 5), (20,), (20,)]
    made: dict[str, Any] = dict(zip(PLACES, map(torch.randn, shapes), strict=False))
    made |= {"weight_hr": None, "h_mask": None, "lengths": torch.tensor([4, 0, 2]), **changed}
    x, h_0, c_0, *params, h_mask, lengths = (made[name] for name in PLACES)
    return [*flatten(LayerInputs(x, (h_0, c_0), tuple(params), h_mask, lengths))]


OPTIONS = (False, None, False, 2, True, False, False)
"""All but the cell and the engine."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (9, torch.tensor([4, 0]), "lengths has shape (2,); expected (3,)"),
        (9, torch.tensor([[4], [0], [2]]), "lengths has shape (3, 1); expected (3,)"),
        (9, torch.tensor([4, 0, 2]).int(), "lengths is torch.int32; expected torch.int64: call .long()"),
        (9, torch.tensor([True, False, True]), "lengths is torch.bool; expected torch.int64: call .long()"),
        (9, torch.tensor([4, 0, 5]), "lengths holds 5; expected 0 to 4"),
        (9, torch.tensor([4, 0, -1]), "lengths holds -1; expected 0 to 4"),
        (0, torch.randn(4, 3), "x has shape (4, 3), h_0 (3, 5); expected (T, B, I) and (B, H)"),
        (0, torch.randn(4, 2, 2), "h_0 has shape (3, 5); expected (2, 5)"),
        (2, torch.randn(3, 6), "weight_ih has shape (20, 2); expected (24, 2)"),
        (4, torch.randn(20, 4), "weight_hh has shape (20, 4); expected (20, 5)"),
        (6, None, "bias_hh is missing; expected a tensor, or no biases at all: make the module with bias=False"),
        (5, torch.randn(19), "bias_ih has shape (19,); expected (20,)"),
        (7, torch.randn(4, 5), "weight_hr has shape (4, 5); expected (5, 5)"),
        (8, torch.randn(3, 4), "h_mask has shape (3, 4); expected (3, 5)"),
    ],
)
def test_an_operator_called_by_itself_checks_the_same(engine: str, place: int, value: Any, text: str) -> None:
    y, last, saved, _ = torch.ops.gatewise.layer_forward(*operator_inputs(), "lstm", *OPTIONS, engine)
    given = operator_inputs(**{PLACES[place]: value})
    refused(lambda: torch.ops.gatewise.layer_forward(*given, "lstm", *OPTIONS, engine), text)
    up = torch.ones_like(y), last, y, last, saved, True
    refused(lambda: torch.ops.gatewise.layer_backward(*up, *given, "lstm", *OPTIONS, engine), text)


@pytest.mark.parametrize(
    ("k", "text"),
    [
        (0, "weight_ih is None; expected a tensor of shape (20, 2)"),
        (1, "weight_hh is None; expected a tensor of shape (20, 5)"),
        (2, "bias_ih is missing; expected both biases, or neither"),
        (3, "bias_hh is missing; expected both biases, or neither"),
    ],
)
def test_the_engine_called_by_itself_takes_no_address_of_nothing(k: int, text: str) -> None:
    x, h, c, *params = (torch.randn(shape) for shape in ((4, 3, 2), (3, 5), (3, 5), (20, 2), (20, 5), (20,), (20,)))
    given = [*params, None]
    given[k] = None
    inputs, options = LayerInputs(x, (h, c), tuple(given), None, None), LayerOptions("lstm", save=True)
    refused(lambda: ENGINES["native"].forward(inputs, options), text)


def test_an_operator_knows_its_cells_and_engines() -> None:
    given, forward = operator_inputs(), torch.ops.gatewise.layer_forward
    refused(lambda: forward(*given, "qrnn", *OPTIONS, "native"), "cell is 'qrnn'; expected one of lstm, gru")
    refused(
        lambda: forward(*given, "gru", *OPTIONS, "native"),
        "got 2 states and 5 parameters for gru; expected h_0 and weight_ih, weight_hh, bias_ih, bias_hh",
    )
    refused(lambda: forward(*given, "lstm", *OPTIONS, "auto"), "engine 'auto' is not available; expected one of")
    refused(
        lambda: forward(given[0].half(), *given[1:], "lstm", *OPTIONS, "native"),
        "engine 'native' cannot run this: the tensors are float16, float32",
    )
    # If one tensor is on meta, PyTorch treats all as meta: the outputs would be uninitialized.
    refused(lambda: forward(given[0].to("meta"), *given[1:], "lstm", *OPTIONS, "native"), "tensors are on cpu, meta")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 0, 2])])  # without, torch keeps oneDNN's bytes
def test_what_a_forward_pass_saved_must_be_there(engine: str, lengths: Tensor | None) -> None:
    given = operator_inputs(lengths=lengths)
    y, last, saved, _ = torch.ops.gatewise.layer_forward(*given, "lstm", *OPTIONS, engine)
    h_n, c_n = last

    def backward(kept: list[Tensor], dy: Tensor, *up: Tensor) -> Any:
        how = *given, "lstm", *OPTIONS, engine
        return torch.ops.gatewise.layer_backward(dy, [*up], y, last, kept, True, *how)

    expected = backward(saved, y, h_n, c_n)
    apart = [torch.stack([t, torch.full_like(t, 77)], -1)[..., 0] for t in saved]  # not contiguous
    for d, of in zip(backward(apart, y, h_n, c_n), expected, strict=True):
        torch.testing.assert_close(d, of)
    if saved:  # if one tensor is on meta, PyTorch treats all as meta
        refused(lambda: backward([saved[0].to("meta"), *saved[1:]], y, h_n, c_n), "tensors are on cpu, meta")
    refused(lambda: backward(saved, y[1:], h_n, c_n), "dy has shape (3, 3, 5); expected (4, 3, 5)")
    refused(lambda: backward(saved, y, h_n, c_n[:0]), "dc_n has shape (0, 5); expected (3, 5)")
    if saved:
        refused(lambda: backward([], y, h_n, c_n), "saved holds 0 tensors; expected the")
        refused(lambda: backward([saved[0][:-1], *saved[1:]], y, h_n, c_n), "saved[0] has shape")
    if len(saved) == 2:
        refused(lambda: backward([saved[0].double(), saved[1]], y, h_n, c_n), "torch.float64; expected")


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight": torch.randn(9, 1)}, "x has shape (6, 4), weight (9, 1); expected (N, H) and (V, H)"),
        ({"targets": torch.zeros(5).long()}, "targets has shape (5,); expected (6,)"),
        ({"targets": torch.zeros(7).long()}, "targets has shape (7,); expected (6,)"),
        ({"targets": torch.zeros(6, 1).long()}, "targets has shape (6, 1); expected (6,)"),
        ({"targets": torch.zeros(6)}, "targets is torch.float32; expected integers: call .long()"),
        ({"targets": torch.zeros(6).bool()}, "targets is torch.bool; expected integers: call .long()"),
        ({"bias": torch.randn(8)}, "bias has shape (8,); expected (9,)"),
        ({"bias": None}, "bias is None; expected a tensor"),
        ({"weight": torch.randn(0, 4), "bias": torch.randn(0)}, "weight has shape (0, 4); expected a row"),
        ({"x": torch.randn(4)}, "x has shape (4,), weight (9, 4); expected (N, H) and (V, H)"),
    ],
)
def test_the_loss_reads_what_fits_alone(engine: str, change: dict[str, Any], text: str) -> None:
    given: dict[str, Any] = {
        "x": torch.randn(6, 4, requires_grad=True),
        "weight": torch.randn(9, 4),
        "bias": torch.randn(9),
        "targets": torch.zeros(6).long(),
    }
    refused(lambda: cross_entropy(**{**given, **change}, engine=engine), text)
    if change.get("bias", 0) is not None:
        operator = torch.ops.gatewise.linear_loss
        refused(lambda: operator(*{**given, **change}.values(), *LossOptions(), engine), text)
    refused(
        lambda: torch.ops.gatewise.linear_loss(*given.values(), *LossOptions(wanted=[True]), engine),
        "wanted holds 1 flags; expected 3",
    )


@pytest.mark.parametrize("sizes", [(0, 4, 9), (6, 0, 9), (0, 0, 0), (6, 4, 1)])
def test_sizes_of_zero_are_sizes(sizes: tuple[int, int, int]) -> None:
    N, H, V = sizes
    found = []
    for engine in ("native", "torch"):
        torch.manual_seed(0)
        leaves = [torch.randn(shape, requires_grad=True) for shape in ((N, H), (V, H), (V,))]
        nll = cross_entropy(*leaves, torch.zeros(N).long(), engine=engine)
        nll.backward()
        found.append([nll.detach(), *(t.grad for t in leaves)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_an_engine_that_was_named_computes_or_says_why_not() -> None:
    half = torch.randn(6, 4).half()
    refused(
        lambda: cross_entropy(half, half, torch.zeros(6).half(), torch.zeros(6).long(), engine="native"),
        "engine 'native' cannot run this: the tensors are float16; use engine='auto' or 'torch'",
    )
    refused(
        lambda: modules.LSTM(3, 4, proj_size=2, engine="native"),
        "cannot run this: an output projection is not supported",
    )
    x, mixed = torch.randn(5, 2, 3), modules.GRU(3, 4, engine="native")
    with torch.autocast("cpu", torch.float16):
        refused(lambda: mixed(x), "cannot run this: products in float16 are not supported")
        mixed.engine = "auto"
        assert mixed(x)[0].dtype == torch.float32


def adam(state: dict[str, Any] | None = None) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    p = nn.Parameter(torch.randn(4, 4))
    p.grad = torch.randn(4, 4)
    optimizer = torch.optim.Adam([p], lr=0.1)
    kept = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4, 4), "exp_avg_sq": torch.ones(4, 4)}
    optimizer.state[p] = {**kept, **(state or {})}
    return p, optimizer


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"exp_avg": torch.zeros(2, 4)}, "exp_avg has shape (2, 4); expected (4, 4)"),
        ({"exp_avg_sq": torch.ones(1)}, "exp_avg_sq has shape (1,); expected (4, 4)"),
        ({"exp_avg": torch.zeros(4, 4).t()}, "exp_avg has strides (1, 4)"),
        ({"exp_avg": torch.zeros(4, 4).double()}, "exp_avg is torch.float64; expected torch.float32"),
        (
            {"exp_avg": cut(torch.zeros(4, 4), 32)},
            "exp_avg needs 64 bytes for its shape (4, 4), but its storage has 32",
        ),
        ({"exp_avg": None}, "exp_avg is None; expected a tensor"),
        ({"step": torch.tensor([3.0])}, "the optimizer's step is tensor([3.]); expected a tensor of one integer"),
        ({"step": torch.tensor(float("nan"))}, "the optimizer's step is tensor(nan)"),
        ({"step": 3}, "the optimizer's step is 3"),
    ],
)
def test_an_update_writes_what_fits_alone(state: dict[str, Any], text: str) -> None:
    p, optimizer = adam(state)
    before = p.detach().clone()
    refused(lambda: update.step(optimizer, 1.0, 2), text)
    assert torch.equal(p, before)
    good, second = adam()
    second.add_param_group({"params": [p]})
    second.state[p] = optimizer.state[p]
    second.param_groups[0]["params"].append(second.param_groups.pop()["params"][0])
    unchanged = good.detach().clone()
    refused(lambda: update.step(second, 1.0, 2), text)  # the other one's step was not counted either
    assert torch.equal(good, unchanged) and float(second.state[good]["step"]) == 3


def test_memory_that_an_update_would_write_twice_is_refused() -> None:
    text = "share memory; expected separate memory for each"
    p, optimizer = adam()
    optimizer.state[p]["exp_avg_sq"] = optimizer.state[p]["exp_avg"]
    refused(lambda: update.step(optimizer, 1.0, 2), text)
    whole = torch.randn(6, 4)
    for views in ((whole[:4], whole[2:]), (whole, whole.view(24)), (whole, whole[5:])):
        two = [nn.Parameter(view) for view in views]
        for each in two:
            each.grad = torch.ones_like(each)
        refused(lambda: update.step(torch.optim.SGD(two), 1.0, 2), text)  # noqa: B023
    apart = [nn.Parameter(whole[:3]), nn.Parameter(whole[3:])]
    gradient = torch.ones(3, 4)
    for each in apart:
        each.grad = gradient  # only read, so sharing is allowed
    update.step(torch.optim.SGD(apart), 1.0, 2)


@pytest.mark.parametrize("rows", [[0, 4], [-1, 2], [2, 2], [3, 1]])
def test_rows_of_a_sparse_gradient_are_the_parameters(rows: list[int]) -> None:
    p = nn.Parameter(torch.randn(4, 3))
    p.grad = torch.sparse_coo_tensor(
        torch.tensor([rows]), torch.ones(2, 3), (4, 3), is_coalesced=True, check_invariants=False
    )
    for call in (
        lambda: update.gradient_norm([p], 2),
        lambda: update.step(torch.optim.SGD([p], lr=0.1), 1.0, 2),
    ):
        refused(call, "a sparse gradient names row")


def test_a_stream_is_made_of_what_fits_alone() -> None:
    spec = RecurrentSpec("lstm", 3, 4)
    good: dict[str, Any] = {name: torch.randn(shape) for name, shape in spec.parameters().items()}

    def make(changed: dict[str, Any] | None = None, **options: Any) -> Any:
        return Stream(spec, {**good, **(changed or {})}, state=LSTMState, **options)

    make()
    refused(lambda: make({"weight_hh_l0": torch.randn(16, 3)}), "weight_hh_l0 has shape (16, 3); expected (16, 4)")
    refused(lambda: make({"bias_hh_l0": torch.randn(16).double()}), "bias_hh_l0 is float64; expected float32")
    refused(lambda: make({"bias_hh_l0": None}), "bias_hh_l0 is None; expected a tensor")
    refused(lambda: make({"weight_ih_l1": torch.randn(16, 4)}), "parameters differ from the stack's in weight_ih_l1")
    refused(lambda: make(table=torch.randn(5, 2)), "table has shape (5, 2); expected (5, 3)")
    refused(lambda: make(table=torch.randn(0, 3)), "table has no rows")
    refused(lambda: make(decoder=(torch.randn(5, 3), None)), "the decoder's weight has shape (5, 3); expected (5, 4)")
    refused(lambda: make(decoder=(torch.randn(5, 4), torch.randn(4))), "the decoder's bias has shape (4,)")


def test_other_arguments_have_their_ranges() -> None:
    refused(lambda: module.product_rate(0), "threads is 0; expected 1 to 4096")
    refused(lambda: module.product_rate(10**9), "threads is 1000000000; expected 1 to 4096")
    refused(lambda: module.product_rate(1, "int8"), "precision is 'int8'; expected 'fp32', 'high' or 'bf16'")
    draw = gatewise.engines.native.dropout.draw
    refused(lambda: draw(torch.empty(3), 1 << 63, 0, 2.0, 1), "seed is 9223372036854775808; expected")
    refused(lambda: draw(torch.empty(3), 0, 1 << 31, 2.0, 1), "kept is 2147483648; expected")


def test_sizes_that_cannot_be_counted_are_refused() -> None:
    huge = torch.zeros(1, 1, 1).expand(1 << 40, 1 << 20, 0)  # no memory at all, as I is 0
    weights = [torch.zeros(0, 0), torch.zeros(0, 0), None, None]
    inputs = flatten(LayerInputs(huge, (torch.zeros(1, 0).expand(1 << 20, 0),), tuple(weights), None, None))
    refused(
        lambda: torch.ops.gatewise.layer_forward(*inputs, "gru", *OPTIONS, "native"), "product that does not overflow"
    )
    x = torch.zeros(1, 1).expand(1 << 40, 1 << 22)
    targets = torch.zeros(1, dtype=torch.int64).expand(1 << 40)
    with pytest.raises((RuntimeError, MemoryError)):  # PyTorch's allocator, which copies it
        loss.compute(LossInputs(x, torch.zeros(1, 1 << 22), torch.zeros(1), targets), LossOptions(wanted=(False,) * 3))
