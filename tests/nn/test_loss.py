"""The fused loss against finite differences and PyTorch's own loss, and edge cases."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gatewise.engines import ENGINES, why_not
from gatewise.engines.contract import LossInputs, LossOptions
from gatewise.engines.native import loss as native_loss
from gatewise.engines.torch import loss as torch_loss
from gatewise.nn import linear_cross_entropy as of_engine
from tests.nn.beside import loaded_anew
from tests.tolerances import FINITE_DIFFERENCES, RELATIVE, differ

NOT_NATIVE = why_not("native")
native_only = pytest.mark.skipif(NOT_NATIVE is not None, reason=str(NOT_NATIVE))


@pytest.fixture(params=["torch", pytest.param("native", marks=native_only)])
def engine(request: pytest.FixtureRequest) -> str:
    """Each test runs on each engine that takes it."""
    name: str = request.param
    return name


@pytest.fixture
def linear_cross_entropy(engine: str) -> Callable[..., torch.Tensor]:
    return partial(of_engine, engine=engine)


def in_chunks_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_loss, "CHUNK_ROWS", rows)
    monkeypatch.setattr(native_loss, "CHUNK_ROWS", rows)


def make(n: int, h: int, v: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(n * 100 + v)
    shapes = {"x": (n, h), "weight": (v, h), "bias": (v,)}
    return {k: torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for k, s in shapes.items()}


def targets_for(n: int, v: int) -> torch.Tensor:
    return torch.randint(v, (n,), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_each_gradient_against_central_differences(
    linear_cross_entropy: Callable[..., torch.Tensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chunks_of(3, monkeypatch)  # 7 rows in three chunks, the last one short
    inputs, targets = make(7, 4, 5, torch.float64), targets_for(7, 5)
    linear_cross_entropy(**inputs, targets=targets, scale=0.5).mul(0.37).backward()
    found = inputs[name].grad
    assert found is not None
    expected, step = torch.zeros_like(found), 1e-6
    with torch.no_grad():
        for index in range(expected.numel()):
            sides = []
            for sign in (1, -1):
                moved = {k: t.clone() for k, t in inputs.items()}
                moved[name].view(-1)[index] += sign * step
                sides.append(float(linear_cross_entropy(**moved, targets=targets)) * 0.5 * 0.37)
            expected.view(-1)[index] = (sides[0] - sides[1]) / (2 * step)
    assert differ(found, expected) < FINITE_DIFFERENCES


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "h", "v"), [(1, 1, 2), (1, 63, 7), (256, 8, 10), (257, 8, 10), (700, 5, 31)])
def test_equals_pytorchs_loss_and_gradients(
    linear_cross_entropy: Callable[..., torch.Tensor],
    n: int,
    h: int,
    v: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_chunks_of(256, monkeypatch)
    ours, peer, targets = make(n, h, v, dtype), make(n, h, v, dtype), targets_for(n, v)
    a = linear_cross_entropy(**ours, targets=targets)
    b = F.cross_entropy(F.linear(peer["x"], peer["weight"], peer["bias"]), targets, reduction="sum")
    a.backward()
    b.backward()
    assert differ(a.detach(), b.detach()) < RELATIVE[dtype]
    for name in ours:
        assert differ(ours[name].grad, peer[name].grad) < RELATIVE[dtype], name


def test_without_gradients_the_value_is_the_same(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    inputs, targets = make(300, 6, 9, torch.float64), targets_for(300, 9)
    with torch.no_grad():
        alone = linear_cross_entropy(**inputs, targets=targets)
    assert alone == linear_cross_entropy(**inputs, targets=targets).detach()


def test_a_frozen_decoder_still_passes_its_gradient_on(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    inputs, targets = make(5, 3, 4, torch.float64), targets_for(5, 4)
    full = torch.autograd.grad(linear_cross_entropy(**inputs, targets=targets), inputs["x"])[0]
    frozen = {k: t.detach().requires_grad_(k == "x") for k, t in inputs.items()}
    linear_cross_entropy(**frozen, targets=targets).backward()
    assert torch.equal(frozen["x"].grad, full)  # type: ignore[arg-type]


def test_huge_logits_do_not_overflow(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    x = torch.tensor([[1e4]], requires_grad=True)
    nll = linear_cross_entropy(x, torch.tensor([[1.0], [-1.0]]), torch.zeros(2), torch.tensor([1]))
    nll.backward()
    assert nll.item() == pytest.approx(2e4)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(2.0)


def test_hugely_negative_logits_do_not_underflow(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    x = torch.tensor([[1.0]], requires_grad=True)
    nll = linear_cross_entropy(x, torch.tensor([[-1e4], [-2e4]]), torch.zeros(2), torch.tensor([1]))
    nll.backward()
    assert nll.item() == pytest.approx(1e4)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(1e4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out_as_such(linear_cross_entropy: Callable[..., torch.Tensor], bad: float) -> None:
    inputs, targets = make(4, 3, 5, torch.float32), targets_for(4, 5)
    with torch.no_grad():
        inputs["x"][2, 1] = bad
    assert not torch.isfinite(linear_cross_entropy(**inputs, targets=targets))


def test_the_graph_may_be_kept_for_another_backward(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    """Whose numbers are the same, though a graph that is not kept hands its gradients over and scales them in place."""
    inputs, targets = make(4, 3, 5, torch.float32), targets_for(4, 5)
    nll, leaves = linear_cross_entropy(**inputs, targets=targets), list(inputs.values())
    first = torch.autograd.grad(nll * 3, leaves, retain_graph=True)
    second = torch.autograd.grad(nll * 3, leaves, retain_graph=True)
    last = torch.autograd.grad(nll, leaves)
    for a, b, c in zip(first, second, last, strict=True):
        assert torch.equal(a, b)
        assert differ(a, 3 * c) < RELATIVE[torch.float32]
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        nll.backward()


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_gradients_are_handed_over_not_copied(
    linear_cross_entropy: Callable[..., torch.Tensor], engine: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    honest = ENGINES[engine].loss

    def spy(*arguments: Any) -> Any:
        nll, *gradients = honest(*arguments)
        made.extend(g.data_ptr() for g in gradients if g is not None)
        return nll, *gradients

    monkeypatch.setattr(ENGINES[engine], "loss", spy)
    inputs = make(4, 3, 5, torch.float32)
    (linear_cross_entropy(**inputs, targets=targets_for(4, 5)) * factor).backward()
    assert [t.grad.data_ptr() for t in inputs.values() if t.grad is not None] == made
    assert len(made) == 3


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_where_no_gradient_is_recorded_none_is_computed(
    linear_cross_entropy: Callable[..., torch.Tensor], engine: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No buffer is made for one, and none is asked of the engine."""
    asked: list[Any] = []
    honest = ENGINES[engine].loss

    def spy(inputs: LossInputs, options: LossOptions) -> Any:
        asked.append(list(options.wanted))
        return honest(inputs, options)

    class NoBuffers(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func not in (torch.empty_like, torch.zeros_like)
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(ENGINES[engine], "loss", spy)
    inputs, targets = make(4, 3, 5, torch.float64), targets_for(4, 5)
    expected = linear_cross_entropy(**inputs, targets=targets).detach()
    asked.clear()
    with context(), NoBuffers() if engine == "torch" else nullcontext():
        assert torch.equal(linear_cross_entropy(**inputs, targets=targets), expected)
    assert asked == [[False, False, False]]
    with pytest.raises(AssertionError), NoBuffers():
        of_engine(**inputs, targets=targets, engine="torch")


def test_under_autocast_the_softmax_stays_in_fp32(
    linear_cross_entropy: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chunks_of(30, monkeypatch)
    inputs, targets = make(64, 16, 50, torch.float32), targets_for(64, 50)
    full = linear_cross_entropy(**inputs, targets=targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = linear_cross_entropy(**inputs, targets=targets)
    assert reduced.dtype == torch.float32
    assert reduced != full  # the products really were rounded
    assert differ(reduced.detach(), full.detach()) < RELATIVE[torch.bfloat16]
    full_grads = torch.autograd.grad(full, list(inputs.values()))
    for a, b in zip(torch.autograd.grad(reduced, list(inputs.values())), full_grads, strict=True):
        assert a.dtype == torch.float32
        assert differ(a, b) < RELATIVE[torch.bfloat16]


SIZES = [(1, 1, 2), (37, 13, 50), (701, 200, 10007), (701, 1, 2), (1, 200, 10007), (37, 200, 50)]


def value_and_gradients(
    inputs: dict[str, torch.Tensor], targets: torch.Tensor, engine: str, scale: float = 0.05
) -> list[torch.Tensor]:
    leaves = {k: t.detach().clone().requires_grad_() for k, t in inputs.items()}
    value = of_engine(**leaves, targets=targets, scale=scale, engine=engine)
    value.backward()
    return [value.detach(), *(leaves[name].grad for name in ("x", "weight", "bias"))]  # type: ignore[list-item]


@native_only
@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16 factors", "bfloat16"])
@pytest.mark.parametrize(("n", "h", "v"), SIZES)
def test_native_equals_torch(n: int, h: int, v: int, kind: str) -> None:
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(kind, torch.float32)
    inputs = {k: t.to(dtype) for k, t in make(n, h, v, torch.float64).items()}
    inputs["weight"] = inputs["weight"] / h**0.5
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bfloat16 factors"):
        found = value_and_gradients(inputs, targets_for(n, v), "native")
    wide = {k: t.to(torch.promote_types(dtype, torch.float32)) for k, t in inputs.items()}
    expected = value_and_gradients(wide, targets_for(n, v), "torch")
    tolerance = RELATIVE[torch.bfloat16 if "bfloat16" in kind else dtype]
    assert found[0].dtype == torch.promote_types(dtype, torch.float32)
    for name, a, b in zip(("nll", "dx", "dweight", "dbias"), found, expected, strict=True):
        assert name == "nll" or a.dtype == dtype
        assert differ(a, b) < tolerance, name


@native_only
@pytest.mark.parametrize("kind", ["float32", "bfloat16 factors"])
@pytest.mark.parametrize("rows", [2000, 100])
def test_native_equals_torch_in_one_chunk_of_many_rows_and_in_many_chunks(
    rows: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chunks_of(rows, monkeypatch)
    inputs, targets = make(1700, 5, 70, torch.float32), targets_for(1700, 70)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bfloat16 factors"):
        found = value_and_gradients(inputs, targets, "native")
    tolerance = RELATIVE[torch.bfloat16 if "bfloat16" in kind else torch.float32]
    for a, b in zip(found, value_and_gradients(inputs, targets, "torch"), strict=True):
        assert differ(a, b) < tolerance


@native_only
@pytest.mark.parametrize("high", [False, True])
def test_native_equals_torch_where_the_first_classes_say_nothing_of_the_others(high: bool) -> None:
    """exp(z − reference) overflows: the reference is the largest of the first 32 logits."""
    inputs, targets = make(70, 5, 100, torch.float32), targets_for(70, 100)
    with torch.no_grad():
        inputs["bias"][:32] -= 100
    torch.set_float32_matmul_precision("high" if high else "highest")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not high):
            found = value_and_gradients(inputs, targets, "native")
    finally:
        torch.set_float32_matmul_precision("highest")
    for a, b in zip(found, value_and_gradients(inputs, targets, "torch"), strict=True):
        assert a.isfinite().all()
        assert differ(a, b) < RELATIVE[torch.bfloat16]


@native_only
@pytest.mark.parametrize("factors", [torch.float32, torch.bfloat16])
def test_native_gives_equal_bits_for_any_number_of_threads(factors: torch.dtype) -> None:
    inputs, targets, threads = make(701, 13, 1009, torch.float32), targets_for(701, 1009), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=factors == torch.bfloat16):
                results.append(value_and_gradients(inputs, targets, "native"))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_a_class_of_minus_infinity_has_no_part_and_as_target_an_infinite_loss(
    linear_cross_entropy: Callable[..., torch.Tensor],
) -> None:
    inputs = make(5, 3, 70, torch.float32)
    with torch.no_grad():
        inputs["bias"][[2, 69]] = -torch.inf
    linear_cross_entropy(**inputs, targets=torch.tensor([0, 1, 3, 4, 5])).backward()
    assert inputs["bias"].grad is not None
    assert inputs["weight"].grad is not None
    assert not inputs["bias"].grad[[2, 69]].any()
    assert not inputs["weight"].grad[[2, 69]].any()
    assert inputs["bias"].grad.isfinite().all()
    assert linear_cross_entropy(**inputs, targets=torch.tensor([0, 1, 2, 4, 5])) == torch.inf


def test_of_no_rows_loss_and_gradients_are_zero(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    inputs = make(0, 3, 5, torch.float32)
    nll = linear_cross_entropy(**inputs, targets=torch.empty(0, dtype=torch.int64))
    nll.backward()
    assert nll == 0
    for t in inputs.values():
        assert t.grad is not None
        assert not t.grad.any()


@pytest.mark.parametrize("target", [-1, 5])
def test_a_target_that_is_no_class_is_an_error(linear_cross_entropy: Callable[..., torch.Tensor], target: int) -> None:
    inputs = make(2, 3, 5, torch.float32)
    with pytest.raises((IndexError, RuntimeError), match=r"targets holds|index .*out of bounds"):
        linear_cross_entropy(**inputs, targets=torch.tensor([0, target]))


def test_inputs_may_be_strided(linear_cross_entropy: Callable[..., torch.Tensor]) -> None:
    inputs, targets = make(7, 4, 5, torch.float64), targets_for(7, 5)
    strided = {k: t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for k, t in inputs.items()}
    expected, found = (linear_cross_entropy(**given, targets=targets) for given in (inputs, strided))
    assert differ(found, expected) < RELATIVE[torch.float64]


@native_only
def test_auto_takes_the_native_engine_and_leaves_it_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, honest = [], ENGINES["native"].loss

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ENGINES["native"], "loss", counted)
    inputs, targets = make(3, 4, 5, torch.float32), targets_for(3, 5)
    half = {k: t.half() for k, t in inputs.items()}
    for name, given, expected in (("auto", inputs, 1), ("torch", inputs, 1), ("native", inputs, 2), ("auto", half, 2)):
        of_engine(**given, targets=targets, engine=name)
        assert len(calls) == expected
    with pytest.raises(ValueError, match="engine 'cuda' is not available: there is no such engine"):
        of_engine(**inputs, targets=targets, engine="cuda")


@native_only
@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
def test_native_computes_the_wanted_gradients_alone(wanted: str) -> None:
    inputs, targets = make(37, 4, 5, torch.float32), targets_for(37, 5)
    full = dict(zip(("nll", "x", "weight", "bias"), value_and_gradients(inputs, targets, "native", 1.0), strict=True))
    alone = {k: t.detach().requires_grad_(k == wanted) for k, t in inputs.items()}
    of_engine(**alone, targets=targets, engine="native").backward()
    assert torch.equal(alone[wanted].grad, full[wanted])  # type: ignore[arg-type]
    assert all(alone[k].grad is None for k in alone if k != wanted)


@native_only
def test_more_chunks_need_no_more_memory() -> None:
    script = """
import resource, torch
from gatewise.engines.contract import LossInputs, LossOptions
from gatewise.engines.native.loss import compute
torch.set_num_threads(2)
x, weight, bias, targets = torch.randn(40_000, 512), torch.randn(101, 512), torch.randn(101), torch.zeros(40_000).long()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
compute(LossInputs(x, weight, bias, targets), LossOptions(threads=2))
print(peak() - before)
"""  # sizes at which the pieces of scratch of one chunk do not fit those of the one before
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    assert int(result.stdout) * unit < 1.5 * 40_000 * 512 * 4  # dx, and half as much


@native_only
def test_native_refuses_chunks_of_no_rows() -> None:
    x, weight, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    with pytest.raises(ValueError, match="chunk is -1; expected 1 or more rows"):
        native_loss.compute(LossInputs(x, weight, bias, torch.zeros(3).long()), LossOptions(chunk=-1))


@native_only
def test_native_compiles_into_one_graph() -> None:
    bare = loaded_anew("gatewise.nn.loss").linear_cross_entropy
    torch._dynamo.reset()
    compiled = torch.compile(partial(bare, engine="native", scale=0.5), fullgraph=True, backend="aot_eager")
    inputs, targets = make(37, 4, 5, torch.float32), targets_for(37, 5)
    expected = value_and_gradients(inputs, targets, "native", 0.5)
    nll = compiled(**inputs, targets=targets)
    (nll * 2).backward()
    assert torch.equal(nll.detach(), expected[0])
    for name, d in zip(("x", "weight", "bias"), expected[1:], strict=True):
        assert torch.equal(inputs[name].grad, 2 * d), name  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(compiled(**inputs, targets=targets), expected[0])
    torch.library.opcheck(
        torch.ops.gatewise.linear_loss,
        (*inputs.values(), targets, *LossOptions(0.5, wanted=[True] * 3, chunk=8), "native"),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
