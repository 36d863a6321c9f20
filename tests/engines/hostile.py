"""Calls of every entry point to C++ with hostile tensors, and their outcomes.

A call is plain data (``Call``): hypothesis draws it, a child process creates the tensors and runs it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.eager_transforms import grad_increment_nesting
from torch._subclasses import FakeTensorMode

from gatewise.engines import ENGINES
from gatewise.engines.contract import LayerInputs, LossOptions
from gatewise.engines.layer_operator import flatten
from gatewise.engines.native import dropout, update
from gatewise.engines.native.module import product_rate
from gatewise.engines.native.stream import Stream
from gatewise.nn import LSTMState, RNNState
from gatewise.runtime.model_file import STORED
from gatewise.spec import CELLS, RecurrentSpec
from tests.nn.beside import loaded_anew, without_type_checks
from tests.tolerances import differ

nn = without_type_checks()
linear_cross_entropy = loaded_anew("gatewise.nn.loss").linear_cross_entropy


class Change(NamedTuple):
    """A change to one argument of a call."""

    argument: int  # the index of the argument, modulo their number
    kind: str
    which: int  # a dimension, a dtype


class Call(NamedTuple):
    """One call."""

    entry: str
    engine: str
    cell: str
    sizes: tuple[int, int, int, int]  # T, B, I, H; of a loss N, _, H, V
    lengths: bool
    dtype: str
    changes: tuple[Change, ...]


class _Sub(torch.Tensor):
    """A subclass that changes nothing."""


class _Wrapper(torch.Tensor):
    """A wrapper subclass without data of its own."""

    @staticmethod
    def __new__(cls, of: Tensor) -> "_Wrapper":
        wrapper = torch.Tensor._make_wrapper_subclass(cls, of.shape, dtype=of.dtype, requires_grad=of.requires_grad)
        wrapper.of = of
        return wrapper  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bare = torch.utils._pytree.tree_map_only(_Wrapper, lambda t: t.of, (args, kwargs or {}))
        return function(*bare[0], **bare[1])


_FAKES = FakeTensorMode()


def _fake(t: Tensor) -> Tensor:
    return _FAKES.from_tensor(t.detach())


def _resized(t: Tensor, by: int) -> Tensor:
    if t.is_meta or t.layout is not torch.strided or t.untyped_storage().nbytes() < t.nbytes:
        return t
    t = t.detach().clone()
    t.untyped_storage().resize_(max(t.untyped_storage().nbytes() - by, 0))
    return t


def _widened(t: Tensor, k: int) -> Tensor:
    return t.repeat_interleave(2, k % t.dim()) if t.dim() else t[None]


def _negated(t: Tensor) -> Tensor:
    return torch.complex(torch.zeros_like(t), -t).conj().imag if t.dtype in (torch.float32, torch.float64) else t


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)

SAME: dict[str, Callable[[Tensor, int], Any]] = {
    "plain": lambda t, k: t,
    "strided": lambda t, k: t.repeat_interleave(2, -1)[..., ::2] if t.dim() else t,
    "transposed": lambda t, k: t.t().contiguous().t() if t.dim() == 2 else t,
    "behind another": lambda t, k: torch.cat([t.new_zeros(3), t.flatten()])[3:].view(t.shape),
    "leaf": lambda t, k: t.detach().clone().requires_grad_() if t.is_floating_point() else t,
    "negated": lambda t, k: _negated(t),
    "subclass": lambda t, k: t.as_subclass(_Sub),
    "inference": lambda t, k: _inference(t),
}
"""Changes that preserve the values: the result must be the same."""

OTHER: dict[str, Callable[[Tensor, int], Any]] = {
    "wider": _widened,
    "narrower": lambda t, k: t.narrow(k % t.dim(), 0, max(t.shape[k % t.dim()] - 1, 0)) if t.dim() else t,
    "empty": lambda t, k: t.narrow(k % t.dim(), 0, 0) if t.dim() else t,
    "one more dimension": lambda t, k: t.unsqueeze(k % (t.dim() + 1)),
    "one dimension less": lambda t, k: t.select(k % t.dim(), 0) if t.numel() and t.dim() else t.flatten(),
    "expanded": lambda t, k: t.flatten()[:1].expand(t.shape) if t.numel() else t,
    "vast": lambda t, k: t.flatten()[:1].expand(1 << 31, 1 << 20, max(t.shape[-1:] or [1])) if t.numel() else t,
    "dtype": lambda t, k: t.detach().to(DTYPES[k % len(DTYPES)]),
    "complex": lambda t, k: t.to(torch.complex64).conj(),
    "none": lambda t, k: None,
    "list": lambda t, k: t.tolist(),
    "number": lambda t, k: 3,
}
"""Changes to the call; run on both engines."""

NO_MEMORY: dict[str, Callable[[Tensor, int], Any]] = {
    "fake": lambda t, k: _fake(t),
    "meta": lambda t, k: t.detach().to("meta"),
    "wrapper": lambda t, k: _Wrapper(t.detach()),
    "sparse": lambda t, k: t.detach().to_sparse(),
    "csr": lambda t, k: t.detach().to_sparse_csr() if t.dim() == 2 else t.detach().to_sparse(),
    "nested": lambda t, k: torch.nested.nested_tensor([t.detach().float()]),
    "quantized": lambda t, k: torch.quantize_per_tensor(t.detach().float(), 0.1, 0, torch.qint8),
    "freed": lambda t, k: _resized(t, 1 << 40),
    "a byte short": lambda t, k: _resized(t, 1),
    "zeros": lambda t, k: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "within a transform": lambda t, k: t,  # which wraps all that is made within it: see _attempt
    "uninitialized": lambda t, k: torch.nn.UninitializedParameter(),
}
"""Tensors without data in memory. PyTorch itself crashes on some of them: run on the native engine only."""

KINDS = {**SAME, **OTHER, **NO_MEMORY}


def _inference(t: Tensor) -> Tensor:
    with torch.inference_mode():
        return t.detach().clone()


def run(call: Call) -> str:
    """Create the tensors, run the call and return what is wrong with it, or how it ended."""
    _cut.clear()
    torch.manual_seed(1)
    kinds = {change.kind for change in call.changes}
    outcomes = [_attempt(call, call.engine)]
    if call.engine in ("auto", "native") and call.entry in _ON_TORCH and not kinds & NO_MEMORY.keys():
        torch.manual_seed(1)
        outcomes.append(_attempt(call, "torch"))
    for outcome in outcomes[: 1 if call.entry == "update" else 2]:  # PyTorch's own step has errors of its own
        if isinstance(outcome, Exception):
            text, kind = str(outcome), type(outcome).__name__
            if text.startswith("Please convert all Tensors to FakeTensors"):  # PyTorch's own, of an operator
                continue
            if not isinstance(outcome, ValueError | IndexError | TypeError | RuntimeError | MemoryError):
                return f"wrong: {kind}: {text}"
            if isinstance(outcome, ValueError) and "\n" in text:
                return f"wrong: more than a line: {text}"
    found = outcomes[0]
    if isinstance(found, Exception):
        if kinds <= SAME.keys() and all(call.sizes) and call.entry in _ON_TORCH[:4]:
            return f"wrong: refused: {found!r}"
        return f"refused: {found!r:.200}"
    # Two entries do not read all that they are given; of a wrapper PyTorch's own operations compute, which do not look.
    if _cut and call.entry not in ("layer_backward", "dropout") and not kinds & {"wrapper", "within a transform"}:
        return f"wrong: {_cut} was read"
    if any(_has_none(t) for t in found):
        return "has no numbers either"
    expected, most = outcomes[-1], 0.05 if call.dtype == "bfloat16" or "dtype" in kinds else 1e-3
    if isinstance(expected, Exception):
        return f"accepted, but by torch refused: {expected!r:.200}"
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or (a.numel() and not differ(a.detach(), b.detach(), least=1.0) <= most):
            return f"wrong: {a} instead of {b}"
    return "equal"


def _attempt(call: Call, engine: str) -> Any:
    try:
        if all(change.kind != "within a transform" for change in call.changes):
            results = _ENTRIES[call.entry](call, engine)
        else:
            with grad_increment_nesting():
                results = _ENTRIES[call.entry](call, engine)
    except Exception as problem:
        return problem
    return [t for t in results if isinstance(t, Tensor)]


def _has_none(t: Tensor) -> bool:
    return (
        t.is_meta
        or torch._C._functorch.is_functorch_wrapped_tensor(t)
        or type(t) not in (Tensor, torch.nn.Parameter, _Sub)
    )


_cut = list[str]()
"""The changes to arguments that removed part of their data."""


def _changed(call: Call, given: list[Any]) -> list[Any]:
    """Return the arguments after the changes; arguments that are not tensors are unchanged."""
    unreadable = set[int]()
    for argument, kind, which in call.changes:
        place = argument % len(given)
        if isinstance(given[place], Tensor) and place not in unreadable:
            if kind in NO_MEMORY:
                unreadable.add(place)
            if kind in ("freed", "a byte short") and given[place].numel():
                _cut.append(kind)
            given[place] = KINDS[kind](given[place], which)
    return given


def _pass(call: Call) -> tuple[list[Any], list[Any]]:
    """Return the ten tensors of a layer pass, and its options."""
    (T, B, I, H), dtype = call.sizes, getattr(torch, call.dtype)
    rows = len(CELLS[call.cell].gates) * H
    shapes = (T, B, I), (B, H), (B, H), (rows, I), (rows, H), (rows,), (rows,)
    # Weights as small as a layer's own: of larger ones a step enlarges what the rounding to bf16 has changed.
    made = [torch.randn(*shape).mul(0.5 / max(shape[-1], 1) ** 0.5).to(dtype) for shape in shapes]
    if call.cell != "lstm":
        made[2] = None  # type: ignore[call-overload]
    lengths = torch.tensor([(3 * b) % (T + 1) for b in range(B)], dtype=torch.int64) if call.lengths else None
    return [*made, None, None, lengths], [call.cell, False, None, False, 1, False, False, False]


def _grouped(call: Call, given: list[Any]) -> tuple[Any, ...]:
    """Return the ten tensors in the form that an operator takes."""
    x, *rest, h_mask, lengths = given
    cell = CELLS[call.cell]
    state, params = tuple(rest[: len(cell.states)]), tuple(rest[2 : 2 + len(cell.parameters)])
    return flatten(LayerInputs(x, state, params, h_mask, lengths))


def _layer(call: Call, engine: str) -> Any:
    _, _, I, H = call.sizes
    module = nn.make_stack(call.cell, I, H, engine=engine)
    given, _ = _pass(call)
    x, h, c, *weights, _, _, lengths = given
    for name, weight in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), weights, strict=True):
        setattr(module, name, torch.nn.Parameter(weight))
    x, lengths, *weights = _changed(call, [x, lengths, *weights, h[None], *([] if c is None else [c[None]])])
    weights, state = weights[:4], tuple(weights[4:])
    for name, weight in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), weights, strict=True):
        if weight is not getattr(module, name):
            delattr(module, name)
            setattr(module, name, weight)
    y, after = module(x, state if call.cell == "lstm" else state[0], lengths=lengths)
    found = [y, *((after,) if isinstance(after, Tensor) else after)]
    if y.requires_grad:
        y.sum().backward()
        found += [x.grad, *(w.grad for w in weights if isinstance(w, Tensor))]
    return found


def _forward(call: Call, engine: str) -> Any:
    given, options = _pass(call)
    options[5] = True
    changed = _grouped(call, _changed(call, given))
    y, last, *_ = torch.ops.gatewise.layer_forward(*changed, *options, _named(engine))
    return [y, *last]


def _backward(call: Call, engine: str) -> Any:
    given, options = _pass(call)
    options[5] = True
    y, last, saved, _ = torch.ops.gatewise.layer_forward(*_grouped(call, given), *options, _named(engine))
    upstream = [torch.ones_like(t) for t in (y, *last)]
    (dy, *dlast), rest = upstream, _changed(call, [*upstream, y, *last, *saved, *given])
    n = len(last)
    (dy, *dlast), (y, *last), rest = rest[: 1 + n], rest[1 + n : 2 + 2 * n], rest[2 + 2 * n :]
    kept = [t for t in rest[: len(saved)] if t is not None]  # a change to None leaves it out
    inputs = _grouped(call, rest[len(saved) :])
    return torch.ops.gatewise.layer_backward(dy, dlast, y, last, kept, True, *inputs, *options, _named(engine))


def _named(engine: str) -> str:
    return "native" if engine == "auto" else engine


def _loss_inputs(call: Call) -> list[Any]:
    N, _, H, V = call.sizes
    x, weight, bias = (torch.randn(*shape).to(getattr(torch, call.dtype)) for shape in ((N, H), (V, H), (V,)))
    return [x, weight, bias, torch.arange(N) % max(V, 1)]


def _loss(call: Call, engine: str) -> Any:
    given = _changed(call, _loss_inputs(call))
    nll = linear_cross_entropy(*given, engine=engine)
    found = [nll]
    if nll.requires_grad:
        nll.backward()
        found += [t.grad for t in given[:3] if isinstance(t, Tensor)]
    return found


def _loss_operator(call: Call, engine: str) -> Any:
    chunk = call.sizes[1] - 1
    given, options = _changed(call, _loss_inputs(call)), LossOptions(wanted=[True] * (3 - (chunk == 3)), chunk=chunk)
    return torch.ops.gatewise.linear_loss(*given, *options, "native")


def _update(call: Call, engine: str) -> Any:
    _, _, I, H = call.sizes
    parameter = torch.nn.Parameter(torch.randn(I, H))
    parameter.grad = torch.randn(I, H)
    if call.lengths and I:
        rows = torch.tensor([[I - 1, 0]])
        parameter.grad = torch.sparse_coo_tensor(rows, torch.randn(2, H), (I, H), check_invariants=False)
    kind = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)[call.sizes[0] % 3]
    optimizer = kind([parameter], lr=0.1)
    if kind is not torch.optim.SGD:
        moments = _changed(call, [torch.zeros(I, H), torch.ones(I, H)])
        step: Any = torch.tensor(float("nan" if call.sizes[1] == 4 else 3))
        optimizer.state[parameter] = {"step": step, "exp_avg": moments[0], "exp_avg_sq": moments[1]}
    if engine == "torch" and call.engine != "torch":
        optimizer.step()
        return [parameter.detach()]
    if update.why_not(optimizer):
        return []
    before = parameter.detach().clone()
    try:
        update.gradient_norm([parameter], 1)
        update.step(optimizer, 1.0, 1)
    except ValueError:
        if not torch.equal(before, parameter.detach()):
            raise AssertionError("a refused step changed the parameter") from None
        raise
    return [parameter.detach()]


def _dropout(call: Call, engine: str) -> Any:
    (like,) = _changed(call, [torch.randn(*call.sizes[:3])])
    if not isinstance(like, Tensor) or dropout.why_not(like):
        return []
    dropout.draw(like, 1 << (call.sizes[0] * 21), call.sizes[1] << 30, 2.0, 1, product=bool(call.sizes[2] % 2))
    return []


def _stream(call: Call, engine: str) -> Any:
    _, B, I, H = call.sizes
    spec = RecurrentSpec(call.cell, I, H)
    names = list(spec.parameters())
    weights = [torch.randn(shape) for shape in spec.parameters().values()]
    parts = 2 if call.cell == "lstm" else 1
    table, decoder, bias = torch.randn(5, I), torch.randn(6, H), torch.randn(6)
    ids, state = torch.arange(B) % 5, [torch.randn(1, B, H) for _ in range(parts)]
    changed = _changed(call, [*weights, table, decoder, bias, ids, *state])
    parameters = dict(zip(names, changed, strict=False))
    table, decoder, bias, ids, *state = changed[len(names) :]
    made = LSTMState if parts == 2 else RNNState
    stream = Stream(
        spec, parameters, state=made, table=table, decoder=(decoder, bias), weights=STORED[call.sizes[0] % 3]
    )
    return [stream.step(ids, tuple(state))[0]]


def _rate(call: Call, engine: str) -> Any:
    threads = (-1, 0, 1, 10**12)[call.sizes[0] % 4]
    return [] if threads == 1 else [product_rate(threads, ("fp32", "int8")[call.sizes[1] % 2])]


_ENTRIES: dict[str, Callable[[Call, str], Any]] = {
    "layer": _layer,
    "layer_forward": _forward,
    "layer_backward": _backward,
    "loss": _loss,
    "linear_loss": _loss_operator,
    "update": _update,
    "dropout": _dropout,
    "stream": _stream,
    "product_rate": _rate,
}
ENTRIES = tuple(_ENTRIES)
_ON_TORCH = ("layer", "layer_forward", "layer_backward", "loss", "update")
assert "native" in ENGINES
