"""The contract, checked for every engine: the results of the reference by name, and each clause."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gatewise.engines.contract import LayerInputs, LayerOptions, work_dtype
from gatewise.engines.registry import ENGINES
from tests.engines.cases import (
    KINDS,
    NUMBERS,
    OTHERS,
    SHAPES,
    Case,
    disagreements,
    each,
    every_case,
    expected_of,
    flat,
    named,
    run,
)

EVERY = list(every_case())
PLAIN = [c for c in EVERY if c[:2] == ("lstm", "float32") and c.lengths == "none" and not c.masked]
"""What oneDNN computes on the CPU."""
QUICK = EVERY[::19] + PLAIN  # no axis of the product has a length that 19 divides: each of its values comes up

WAYS = [(False, False), (True, False), (False, True), (True, True)]
"""trace, known_shapes."""

NAMES = {
    "lstm": "y h_n c_n dx dh_0 dc_0 dweight_ih dweight_hh dbias_ih dbias_hh",
    "lstm projected": "y h_n c_n dx dh_0 dc_0 dweight_ih dweight_hh dbias_ih dbias_hh dweight_hr",
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), "y h_n dx dh_0 dweight_ih dweight_hh dbias_ih dbias_hh"),
}
"""What must be compared."""


@pytest.fixture(autouse=True)
def _unset_memory_is_nan() -> Iterator[None]:
    """What an engine allocates and does not fill shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def check(engine: str, case: Case, ways: list[tuple[bool, bool]] = WAYS) -> list[str]:
    """Compare an engine with the reference in every configuration of a pass."""
    inputs, upstream, expected = expected_of(case)
    wrong = []
    for trace, known_shapes in ways:
        wanted = {name: t for name, t in expected.items() if trace or not name.startswith("trace")}
        outputs, found = run(engine, inputs, case.options._replace(trace=trace, known_shapes=known_shapes), upstream)
        if not case.sharp:
            wanted, found = ({n: t for n, t in each.items() if not n.startswith("d")} for each in (wanted, found))
        where = f"{case}, trace={trace}, known_shapes={known_shapes}"
        wrong += [f"{where}: {text}" for text in disagreements(found, wanted, case.tolerance)]
        if known_shapes:
            options = case.options._replace(known_shapes=True)
            shapes = ENGINES[engine].saved_shapes(inputs, options)
            kept = [(tuple(t.shape), t.dtype) for t in outputs.saved]
            if kept != [(shape, work_dtype(inputs)) for shape in shapes]:
                wrong.append(f"{case}: saved is {kept}, expected {shapes}")
    return wrong


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("cell", KINDS)
def test_every_number_is_the_references(engine: str, cell: str) -> None:
    cases = [case for case in QUICK if case.cell == cell]
    for axis, values in (("numbers", NUMBERS), ("shape", SHAPES[1:]), ("lengths", ("none", "ragged", "zero"))):
        assert {getattr(case, axis) for case in cases} >= set(values)
    wrong = [text for case in cases for text in check(engine, case)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("cell", KINDS)
def test_every_number_is_the_references_over_the_whole_product(engine: str, cell: str, numbers: str) -> None:
    cases = [case for case in EVERY if (case.cell, case.numbers) == (cell, numbers)]
    wrong = [text for case in cases for text in check(engine, case, [WAYS[0], WAYS[3]])]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_each_result_has_its_name_and_a_gradient_is_there_for_each_input(engine: str, cell: str, bias: bool) -> None:
    case = Case(cell, bias=bias)
    inputs, upstream = case.draw()
    _, found = run(engine, inputs, case.options._replace(trace=False), upstream)
    names = NAMES[cell].split()
    assert set(found) == set(names if bias else [n for n in names if not n.startswith("db")])
    assert all(t.any() for t in found.values())
    for name, given in named(inputs, case.options.cell).items():
        if f"d{name}" in found:
            assert given is not None
            assert found[f"d{name}"].shape == given.shape
            assert found[f"d{name}"].dtype == given.dtype


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("lengths", ["none", "ragged"])
def test_dx_is_left_out_where_it_is_not_asked_for(engine: str, cell: str, lengths: str) -> None:
    case = Case(cell, lengths=lengths)
    inputs, upstream = case.draw()
    outputs = ENGINES[engine].forward(inputs, case.options)
    gradients = ENGINES[engine].backward(inputs, outputs, upstream[0], upstream[1:], case.options, False)
    assert gradients.x is None
    _, full = run(engine, inputs, case.options, upstream)
    assert torch.equal(gradients.params[0], full["dweight_ih"])  # type: ignore[arg-type]


def strided(tensor: Tensor) -> Tensor:
    """Return a non-contiguous tensor of the same values: every second element, last dimension first."""
    if tensor.dim() == 0:
        return tensor
    wide = torch.full((*reversed(tensor.shape), 2), 9, dtype=tensor.dtype)[..., 0]
    view = wide.permute(*reversed(range(tensor.dim())))
    return view.copy_(tensor)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("numbers", ["float64", "float32"])
@pytest.mark.parametrize("lengths", ["none", "ragged"])
@pytest.mark.parametrize("reverse", [False, True])
def test_inputs_may_be_strided_and_are_not_changed(
    engine: str, cell: str, numbers: str, lengths: str, reverse: bool
) -> None:
    case = Case(cell, numbers, (5, 3, 7, 4), reverse, lengths, masked=cell == "gru")
    inputs, upstream = case.draw()
    _, expected = run(engine, inputs, case.options._replace(trace=False), upstream)
    scattered = each(strided, inputs, lengths=True)
    assert not any(t.is_contiguous() for t in (scattered.x, *scattered.params[:2]) if t is not None)
    scattered_upstream = [*map(strided, upstream)]
    given = flat(scattered, scattered_upstream)
    before = [None if t is None else t.clone() for t in given]
    _, found = run(engine, scattered, case.options._replace(trace=False), scattered_upstream)
    assert not disagreements(found, expected, case.tolerance)
    for t, was in zip(given, before, strict=True):
        assert t is None or (was is not None and torch.equal(t.nan_to_num(7.5), was.nan_to_num(7.5)))
    assert all(t.is_contiguous() for name, t in found.items() if name == "y" or name.endswith("_n"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("numbers", ["float64", "float32"])
def test_an_upstream_gradient_may_be_one_number_seen_everywhere(engine: str, cell: str, numbers: str) -> None:
    """What ``y.sum().backward()`` hands down has strides of zero."""
    case = Case(cell, numbers)
    inputs, upstream = case.draw()
    ones = tuple(torch.ones_like(d) for d in upstream)
    _, expected = run(engine, inputs, case.options._replace(trace=False), ones)
    expanded = tuple(d.new_ones(()).expand(d.shape) for d in upstream)
    _, found = run(engine, inputs, case.options._replace(trace=False), expanded)
    assert not disagreements(found, expected, case.tolerance)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("numbers", ["float64", "float32", "bfloat16"])
def test_nothing_returned_shares_memory(engine: str, cell: str, trace: bool, save: bool, numbers: str) -> None:
    for lengths in ("none", "ragged", "zero"):
        for reverse in (False, True):
            for shape in ((5, 3, 7, 4), (1, 1, 1, 2), (0, 2, 3, 4)):
                if lengths != "none" and not shape[0]:
                    continue
                case = Case(cell, numbers, shape, reverse, lengths)
                inputs, upstream = case.draw()
                outputs = ENGINES[engine].forward(inputs, case.options._replace(save=save, trace=trace))
                assert save or not outputs.saved
                assert trace or not outputs.trace
                everything = flat(inputs, outputs, upstream)
                if save:
                    options = case.options._replace(trace=trace)
                    everything += flat(
                        ENGINES[engine].backward(inputs, outputs, upstream[0], upstream[1:], options, True)
                    )
                places = [t.untyped_storage().data_ptr() for t in everything if t is not None and t.numel()]
                assert len(places) == len(set(places)), case


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_nothing_given_is_changed(engine: str, cell: str, numbers: str) -> None:
    for lengths in ("none", "ragged"):
        for reverse in (False, True):
            case = Case(cell, numbers, (5, 3, 7, 4), reverse, lengths, masked=reverse)
            inputs, upstream = case.draw()
            outputs = ENGINES[engine].forward(inputs, case.options)
            made = flat(outputs.y, outputs.state, outputs.saved)
            after_forward = [None if t is None else t.clone() for t in made]
            ENGINES[engine].backward(inputs, outputs, upstream[0], upstream[1:], case.options, True)
            for t, was in zip(flat(inputs, upstream, made), flat(case.draw(), after_forward), strict=True):
                assert t is None or (was is not None and torch.equal(t.nan_to_num(7.5), was.nan_to_num(7.5))), case


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", ["ragged", "zero"])
def test_what_stands_past_a_length_is_not_read(engine: str, cell: str, reverse: bool, lengths: str) -> None:
    case = Case(cell, "float32", (6, 5, 4, 3), reverse, lengths)
    inputs, upstream = case.draw()
    assert inputs.x.isnan().any()
    assert upstream[0].isnan().any()
    _, found = run(engine, inputs, case.options, upstream)
    clean = inputs._replace(x=inputs.x.nan_to_num(0.0))
    _, expected = run(engine, clean, case.options, (upstream[0].nan_to_num(0.0), *upstream[1:]))
    assert all(torch.equal(found[name], t) for name, t in expected.items())
    for b, n in enumerate(inputs.lengths.tolist()):  # type: ignore[union-attr]
        assert not found["y"][n:, b].any()
        assert not found["dx"][n:, b].any()
        assert not any(t[n:, b].any() for name, t in found.items() if name.startswith("trace"))
        if n == 0:
            assert torch.equal(found["h_n"][b], inputs.state[0][b])
            assert torch.equal(found["dh_0"][b], upstream[1][b])


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (4, 0, 2, 3), (0, 0, 2, 3)])
@pytest.mark.parametrize("numbers", ["float64", "float32"])
def test_no_steps_and_no_rows_are_passes_like_others(
    engine: str, cell: str, shape: tuple[int, int, int, int], numbers: str
) -> None:
    for reverse in (False, True):
        for lengths in ("none", "zero"):
            case = Case(cell, numbers, shape, reverse, lengths)
            assert not check(engine, case)


def path_taken(inputs: LayerInputs, options: LayerOptions) -> str:
    """Say where a pass of the torch engine went: the workspace of oneDNN is a row of bytes."""
    saved = ENGINES["torch"].forward(inputs, options).saved
    return "oneDNN" if [t.dtype for t in saved] == [torch.uint8] else "loop"


def test_the_product_takes_both_ways_through_the_torch_engine() -> None:
    """A plain LSTM in float32 goes to oneDNN, everything else to the loop; each is met in the grid above."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of PyTorch has no oneDNN")
    for case in EVERY:
        if case.shape == SHAPES[1] and case.numbers.startswith("float") and case.cell != "rnn_relu":
            inputs, _ = case.draw()
            way = path_taken(inputs, case.options._replace(trace=False))
            assert way == ("oneDNN" if case in PLAIN else "loop"), case
    plain = PLAIN[0]
    inputs, _ = plain.draw()
    for change in ({"trace": True}, {"known_shapes": True}, {"products": torch.bfloat16}):
        assert path_taken(inputs, plain.options._replace(**{"trace": False, **change})) == "loop"
    with torch.backends.mkldnn.flags(enabled=False):
        assert path_taken(inputs, plain.options._replace(trace=False)) == "loop"
