"""The guarantees of the native engine beyond the contract: all sizes, thread counts, instruction sets and processes.

The contract itself is held against it in ``test_engines.py``, like against every engine.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import product
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gatewise.engines import ENGINES, engine_for, layer
from gatewise.engines.contract import LayerInputs, LayerOptions
from gatewise.engines.native import module
from gatewise.spec import CELLS
from tests.conftest import REPOSITORY
from tests.engines.cases import NUMBERS, Case, each, named, run
from tests.engines.emulated import NO_PLUGINS, OF_KERNELS, PRODUCTS, QUIET
from tests.engines.test_engines import check
from tests.engines.test_operators import clean, differentiable
from tests.engines.test_second_derivatives import with_named

pytestmark = pytest.mark.skipif("native" not in ENGINES, reason=f"engine native: {module.why_not_built()}")

SHAPES = [(3, 50, 70, 37), (2, 128, 33, 65), (7, 1, 129, 130), (40, 33, 5, 17)]
"""T, B, I, H that no vector, tile, block or number of threads divides."""

SHARED = [(3, 50, 170, 137), (37, 1, 229, 230), (2, 128, 133, 65), (40, 33, 45, 37)]
"""The same, with work enough in a pass of any cell for several threads."""

WAYS = [(False, "none", False, True), (True, "ragged", True, False), (False, "ragged", False, True)]
"""reverse, lengths, masked, bias."""


@pytest.fixture(autouse=True)
def _unset_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _the_number_of_threads_is_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@cache
def nothing_but_nan(numbers: str) -> tuple[LayerInputs, LayerOptions, tuple[Tensor, ...]]:
    """Arguments of a pass with more numbers in each place of the scratch than another here has in all."""
    case = Case("lstm", numbers, (2, 129, 131, 151), masked=True)
    inputs, upstream = case.draw()
    spoilt = each(lambda t: torch.full_like(t, torch.nan), inputs)
    return spoilt, case.options, upstream


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_number_is_the_references_at_sizes_that_nothing_divides(
    cell: str, shape: tuple[int, int, int, int]
) -> None:
    wrong = []
    for numbers in NUMBERS:
        for way in WAYS:
            run("native", *nothing_but_nan(numbers))  # what is then read unwritten from the scratch is NaN
            wrong += check("native", Case(cell, numbers, shape, *way), [(way[0], False)])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_any_number_of_threads_gives_the_same_bits(cell: str, numbers: str) -> None:
    for shape, way in zip(SHARED, (*WAYS, WAYS[1]), strict=True):
        case = Case(cell, numbers, shape, *way)
        inputs, upstream = case.draw()
        torch.set_num_threads(1)
        _, expected = run("native", inputs, case.options, upstream)
        for threads in (2, 3, 5):
            torch.set_num_threads(threads)
            _, found = run("native", inputs, case.options, upstream)
            different = [name for name, t in expected.items() if not torch.equal(found[name], t)]
            assert not different, (case, threads)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("numbers", ["float32", "bfloat16 products"])
def test_a_pass_in_blocks_of_steps_gives_the_bits_of_one_block(cell: str, numbers: str) -> None:
    """Without gates to keep, 16 MB are computed at a time; a tenth of the rows are fewer."""
    T, B, H = 6, 20_000, 96 // len(CELLS[cell].gates)  # two blocks; rows cost less than units
    inputs, _ = Case(cell, numbers, (T, B, 5, H), lengths="ragged").draw()
    options = LayerOptions(cell, products=NUMBERS[numbers][1])
    parts = [slice(k, B, 10) for k in range(10)]
    alone = [
        ENGINES["native"].forward(
            inputs._replace(
                x=inputs.x[:, part], state=tuple(s[part] for s in inputs.state), lengths=inputs.lengths[part]
            ),
            options,
        )
        for part in parts
    ]
    for threads in (2, 3):
        found = ENGINES["native"].forward(inputs, options._replace(threads=threads))
        for part, expected in zip(parts, alone, strict=True):
            assert torch.equal(found.y[:, part], expected.y)
            assert all(torch.equal(f[part], e) for f, e in zip(found.state, expected.state, strict=True))


SPOILT = {"x": (1, 2, 3), "h_0": (2, 5), "weight_hh": (3, 1), "bias_ih": (6,)}
"""Where one number of a pass of T=4, B=6, I=5, H=11 is not finite."""


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_nan_and_infinity_come_out_where_they_come_out_of_the_torch_engine(
    cell: str, value: float, spoilt: str
) -> None:
    for numbers, reverse, lengths in product(("float64", "float32"), (False, True), ("none", "ragged")):
        case = Case(cell, numbers, (4, 6, 5, 11), reverse, lengths)
        inputs, upstream = case.draw()
        named(inputs, cell)[spoilt][SPOILT[spoilt]] = value  # type: ignore[index]
        _, expected = run("torch", inputs, case.options, upstream)
        _, found = run("native", inputs, case.options, upstream)
        assert value == value or expected["y"].isnan().any()
        for name, t in expected.items():
            assert torch.equal(torch.isfinite(found[name]), torch.isfinite(t)), (case, name)
            if value != value:
                assert torch.equal(torch.isnan(found[name]), torch.isnan(t)), (case, name)
            else:  # torch.lerp makes ∞ − 0·∞ of a GRU's state that stays ∞
                assert torch.equal(found[name][t.isinf()], t[t.isinf()]), (case, name)


def test_gates_are_right_over_all_floats() -> None:
    """σ and tanh of every 4,099th float, against float64: an LSTM's first step where all but x is zero."""
    bits = torch.arange(-(2**31), 2**31, 4099, dtype=torch.int64).to(torch.int32)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 0.625, -0.625, 87.5, -87.5, 88.5, -88.5, -104])
    x = torch.cat([bits.view(torch.float32), special])
    N = len(x)
    zero = torch.zeros(N, 1)
    params = torch.ones(4, 1), torch.zeros(4, 1), None, None, None
    inputs = LayerInputs(x.view(1, N, 1), (zero, zero), params, None, None)
    trace = ENGINES["native"].forward(inputs, LayerOptions("lstm", trace=True)).trace[0].view(N, 4)
    for k, function in ((0, torch.sigmoid), (1, torch.sigmoid), (2, torch.tanh), (3, torch.sigmoid)):
        found, true = trace[:, k].double(), function(x.double())
        assert torch.equal(found.isnan(), x.isnan())
        known = ~x.isnan()
        gap = (found - true)[known].abs()
        # The smallest normal number: below it a float has fewer digits.
        allowed = 4e-7 * true[known].abs() + 1.2e-38
        assert (gap <= allowed).all(), (
            x[known][gap > allowed],
            found[known][gap > allowed],
            true[known][gap > allowed],
        )
    assert torch.equal(trace[:, 2][x.abs() > 20], x.sign()[x.abs() > 20])


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_can_be_differentiated_again(cell: str) -> None:
    case = Case(cell, "float64", (3, 3, 2, 2), lengths="ragged", masked=True)
    inputs, upstream = clean(case)
    leaves = differentiable(inputs)
    given = {name: t for name, t in named(leaves, cell).items() if t is not None}

    def outputs(*tensors: Tensor) -> list[Tensor]:
        changed = with_named(inputs, case, dict(zip(given, tensors, strict=True)))
        found = layer(changed, case.options._replace(trace=False), "native")
        return [found.y, *found.state]

    ups = [d.requires_grad_() for d in upstream]
    assert torch.autograd.gradgradcheck(outputs, [*given.values()], ups, fast_mode=True)


def test_what_it_does_not_compute_is_refused_and_left_to_torch_by_auto() -> None:
    for case, dtype in ((Case("lstm projected", "float32"), torch.float32), (Case("gru", "float32"), torch.float16)):
        inputs, upstream = case.draw()
        inputs, upstream = each(partial(Tensor.to, dtype=dtype), inputs), [d.to(dtype) for d in upstream]
        why_not = methodcaller("why_not_layer", inputs, case.options)
        reason, device = why_not(ENGINES["native"]), torch.device("cpu")
        assert reason and engine_for("auto", device, why_not).name == "torch"
        line = re.escape(f"engine 'native' cannot run this: {reason}; use engine='auto' or 'torch'")
        with pytest.raises(ValueError, match=f"^{line}$"):
            engine_for("native", device, why_not)
        with pytest.raises(ValueError, match=f"^{line}$"):
            ENGINES["native"].forward(inputs, case.options)
        outputs, _ = run("torch", inputs, case.options, upstream)
        with pytest.raises(ValueError, match=f"^{line}$"):
            ENGINES["native"].backward(inputs, outputs, upstream[0], upstream[1:], case.options, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"products": torch.float32}, None),
        ({"products": torch.bfloat16}, None),
        ({"products": torch.float16}, "products in float16 are not supported"),
        ({"dtype": torch.float16}, "the tensors are float16"),
        ({"h_0": torch.float64}, "the tensors are float32, float64"),
        ({"device": "meta"}, "the tensors are on meta"),
    ],
)
def test_why_a_pass_goes_to_the_torch_engine_is_said_in_words(change: dict[str, Any], reason: str | None) -> None:
    case = Case("gru", "float32")
    inputs, _ = case.draw()
    to = {key: change[key] for key in ("dtype", "device") if key in change}
    inputs = each(lambda t: t.to(**to), inputs)
    if "h_0" in change:
        inputs = inputs._replace(state=(inputs.state[0].to(change["h_0"]),))
    options = case.options._replace(products=change.get("products"))
    assert ENGINES["native"].why_not_layer(inputs, options) == reason


LARGE = Case("lstm", "float32", (60, 64, 256, 256))
"""Some tenths of a second, forward and back."""


def test_other_python_threads_go_on_during_a_pass() -> None:
    inputs, upstream = LARGE.draw()
    torch.set_num_threads(1)
    stamps, done = list[float](), threading.Event()

    def beside() -> None:
        while not done.wait(0.001):
            stamps.append(time.perf_counter())

    thread = threading.Thread(target=beside)
    outputs = ENGINES["native"].forward(inputs, LARGE.options)  # memory and code are there from here on
    thread.start()
    begin = time.perf_counter()
    ENGINES["native"].forward(inputs, LARGE.options)
    middle = time.perf_counter()
    ENGINES["native"].backward(inputs, outputs, upstream[0], upstream[1:], LARGE.options, True)
    end = time.perf_counter()
    done.set()
    thread.join()
    # Within the middle half of each pass: what Python does before and after it lets other threads in too.
    for a, b in ((begin, middle), (middle, end)):
        assert any(a + (b - a) / 4 < stamp < b - (b - a) / 4 for stamp in stamps), (a, b, len(stamps))


def test_two_python_threads_at_once_get_what_each_asked_for() -> None:
    cases = [Case("lstm", "float32", (12, 20, 40, 64)), Case("gru", "float64", (9, 7, 30, 50), True, "ragged")]
    torch.set_num_threads(2)
    given = [(inputs, case.options, upstream) for case in cases for inputs, upstream in [case.draw()]]
    expected = [run("native", *one)[1] for one in given]
    wrong = list[str]()

    def repeat(k: int) -> None:
        for _ in range(20):
            found = run("native", *given[k])[1]
            wrong.extend(f"{cases[k]}: {name}" for name, t in expected[k].items() if not torch.equal(found[name], t))

    threads = [threading.Thread(target=repeat, args=(k,)) for k in (0, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


PROGRAM = """
import os, signal, sys
import torch
from tests.engines.cases import Case, run
case = Case("rnn_tanh", "float32", (20, 9, 180, 180), True, "ragged", True)  # below the sizes that PyTorch shares out
inputs, upstream = case.draw()
def results():
    return run("native", inputs, case.options, upstream)[1]
"""


def run_program(text: str, **environment: str) -> str:
    """Run ``PROGRAM`` and then the text in its own process; return its output."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + text],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


FORK = """
child = os.fork()
if child == 0:
    signal.alarm(30)  # a child that waits for threads which it does not have fails too
    found = results()
    torch.set_num_threads(2)
    again = results()
    same = [torch.equal(found[name], t) and torch.equal(again[name], t) for name, t in expected.items()]
    os._exit(0 if all(same) else 1)
print("status", os.waitpid(child, 0)[1])
now = results()
print("parent", all(torch.equal(now[name], t) for name, t in expected.items()))
"""


@pytest.mark.parametrize("used", ["the engine", "PyTorch", "nothing"])
def test_a_child_process_computes_the_same(used: str) -> None:
    """After fork, whose threads are left behind: those that the engine used, or PyTorch."""
    before = {
        "the engine": "torch.set_num_threads(3); expected = results()",
        "PyTorch": "torch.set_num_threads(1); expected = results()\n"
        "torch.set_num_threads(3); torch.ones(10_000_000).add_(1).sum()",
        "nothing": "torch.set_num_threads(1); expected = results(); torch.set_num_threads(3)",
    }[used]
    assert run_program(f"{before}\n{FORK}").split("\n")[:2] == ["status 0", "parent True"]


def test_a_fork_before_the_first_pass_leaves_pytorchs_threads_alone() -> None:
    """PyTorch's threads were at work, ours never: the child's first pass must not wait for them."""
    program = (
        "torch.set_num_threads(3); torch.ones(10_000_000).add_(1).sum()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    found = results()\n"
        "    os._exit(0 if all(t.isfinite().all() for t in found.values()) else 1)\n"
        "print('status', os.waitpid(child, 0)[1])\n"
    )
    assert run_program(program) == "status 0\n"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_it_takes_as_many_threads_as_pytorch_is_told_to() -> None:
    program = (
        "def count():\n"
        "    results()\n"
        "    return len(os.listdir('/proc/self/task'))\n"
        "torch.set_num_threads(1); one = count()\n"
        "for threads in (2, 4, 3):\n"
        "    torch.set_num_threads(threads)\n"
        "    print(count() - one)\n"
    )
    first, second, third = map(int, run_program(program).split())
    assert (first, second) == (1, 3)
    assert third in (2, 3)  # a thread that is not used any more may stay


def test_the_instruction_set_is_the_best_or_the_one_that_was_asked_for() -> None:
    chosen, every = module.instructions()
    assert every[0] == "portable"
    assert chosen == (os.environ.get("GATEWISE_INSTRUCTIONS") or every[-1])


INSTRUCTION_SETS = module.instructions()[1] if "native" in ENGINES else []


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_instruction_set_passes_what_the_best_one_passes(instructions: str) -> None:
    """Run this file and the tests of the contract, of streams and of products in a process with it selected."""
    if instructions == module.instructions()[0]:
        pytest.skip("it is the instruction set in use: this run is that process")
    files = [f"tests/engines/test_{name}.py" for name in ("engines", "native_engine", "native_stream")]
    if instructions.startswith("avx512"):  # what test_emulated.py runs on those that the processor lacks
        files += PRODUCTS
    # Processes and threads do not depend on the instruction set.
    apart = "test_every_instruction_set or child or fork or other_python or two_python or it_takes"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, "-k", f"{OF_KERNELS} and not ({apart})", *files],
        cwd=REPOSITORY,
        env={**os.environ, **NO_PLUGINS, "GATEWISE_INSTRUCTIONS": instructions},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert "passed" in ran.stdout
