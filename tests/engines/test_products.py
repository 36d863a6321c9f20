"""The products of the native engine, for every compute type, with sizes below, at and above the block sizes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gatewise.engines.contract import LayerInputs, LayerOptions
from gatewise.engines.registry import ENGINES
from gatewise.spec import CELLS
from tests.engines.cases import disagreements, each, run
from tests.tolerances import HIGH, RELATIVE

if "native" not in ENGINES:
    pytest.skip("the native engine was not built", allow_module_level=True)

from gatewise.engines.native.module import instructions

TOLERANCE = {
    "highest": RELATIVE[torch.float32],
    "high": HIGH,
    "bfloat16": RELATIVE[torch.bfloat16],
}

# Steps, rows, inputs, units. Rows: in one tile, two, three, and more than a step takes at once. Terms of x and of h',
# and of every cell's du: more than a block has, and no even number of them for each block; of dW there are T times B.
# The last two: few rows and more than a thousand columns, whose terms are parted; and rows enough for blocks of them.
SIZES = [
    *((2, 1, 800, 33), (3, 17, 5, 31), (2, 7, 33, 387), (2, 35, 64, 32), (2, 49, 1, 65), (7, 128, 31, 16)),
    (1, 20, 600, 260),
    pytest.param((6, 128, 700, 257), marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def _unset_memory_is_nan_and_precision_is_put_back() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    before, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.set_float32_matmul_precision(before)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def draw(cell: str, size: tuple[int, int, int, int], ragged: bool) -> tuple[LayerInputs, tuple[Tensor, ...]]:
    """Return inputs in float32 with all 24 bits in use, and upstream gradients."""
    T, B, I, H = size
    generator = torch.Generator().manual_seed(B + H)
    spec, rows = CELLS[cell], len(CELLS[cell].gates) * H
    none = [None] * (len(spec.parameters) - 4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs = LayerInputs(
        normal(T, B, I),
        tuple(normal(B, H) for _ in spec.states),
        (normal(rows, I) * I**-0.5 * 0.7, normal(rows, H) * H**-0.5 * 0.7, normal(rows), normal(rows), *none),
        (torch.rand(B, H, generator=generator) < 0.7) * 1.25 if ragged else None,
        torch.arange(B) % (T + 1) if ragged else None,
    )
    return inputs, (normal(T, B, H), *(normal(B, H) for _ in spec.states))


def found(numbers: str, inputs: LayerInputs, options: LayerOptions, upstream: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Run the native engine with a given compute type."""
    torch.set_float32_matmul_precision("high" if numbers == "high" else "highest")
    products = torch.bfloat16 if numbers == "bfloat16" else None
    return run("native", inputs, options._replace(products=products), upstream)[1]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("numbers", TOLERANCE)
def test_every_number_is_the_references_and_that_of_any_number_of_threads(
    cell: str, size: tuple[int, int, int, int], numbers: str
) -> None:
    ragged = size[1] % 2 == 1
    inputs, upstream = draw(cell, size, ragged)
    options = LayerOptions(cell, ragged, save=True, trace=False)
    wide = each(lambda t: t.double(), inputs)
    _, expected = run("reference", wide, options, [d.double() for d in upstream])
    torch.set_num_threads(1)
    alone = found(numbers, inputs, options, upstream)
    wrong = disagreements(alone, {name: t.float() for name, t in expected.items()}, TOLERANCE[numbers])
    assert not wrong, "\n".join(wrong)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert all(torch.equal(t, alone[name]) for name, t in found(numbers, inputs, options, upstream).items())


def test_high_is_float32_where_there_are_no_tiles_and_close_to_it_where_there_are() -> None:
    inputs, upstream = draw("lstm", (3, 20, 33, 70), False)
    options = LayerOptions("lstm", save=True, trace=False)
    exact, high, coarse = (found(numbers, inputs, options, upstream) for numbers in TOLERANCE)
    if instructions()[0] == "amx":
        for name in exact:
            gap, of_bfloat16 = ((a[name] - exact[name]).norm() for a in (high, coarse))
            assert 0 < gap < of_bfloat16 / 50
    else:
        assert all(torch.equal(high[name], t) for name, t in exact.items())


@pytest.mark.parametrize("numbers", TOLERANCE)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_so_in_its_row(numbers: str, bad: float) -> None:
    """In x of step 1, row 3, and in h_0 of row 18. On tiles an infinite factor is NaN in high."""
    inputs, upstream = draw("rnn_relu", (3, 20, 33, 35), False)
    options = LayerOptions("rnn_relu", save=True, trace=False)
    clean = found(numbers, inputs, options, upstream)["y"]
    inputs.x[1, 3, 5] = bad
    inputs.state[0][18, 34] = bad
    y = found(numbers, inputs, options, upstream)["y"]
    touched = torch.zeros(3, 20, dtype=torch.bool)
    touched[1:, 3] = touched[:, 18] = True
    assert torch.equal(y[~touched], clean[~touched])
    assert not y[touched].isfinite().all(-1).any()
    if bad != bad:
        assert y[touched].isnan().all()


@pytest.mark.parametrize("numbers", TOLERANCE)
def test_what_is_not_finite_in_a_weight_comes_out_in_its_unit(numbers: str) -> None:
    inputs, upstream = draw("rnn_relu", (1, 20, 33, 35), False)
    options = LayerOptions("rnn_relu", save=True, trace=False)
    clean = found(numbers, inputs, options, upstream)["y"]
    w_ih, w_hh, *_ = inputs.params
    w_hh[34, 3] = w_ih[7, 32] = torch.nan  # type: ignore[index]
    y = found(numbers, inputs, options, upstream)["y"]
    touched = torch.zeros(35, dtype=torch.bool)
    touched[[7, 34]] = True
    assert torch.equal(y[..., ~touched], clean[..., ~touched])
    assert y[..., touched].isnan().all()
