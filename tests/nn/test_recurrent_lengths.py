"""Rows of unequal length: each runs as if alone, whatever its padding; and windows with carried state."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatewise.nn import make_stack
from gatewise.spec import CELLS
from tests.nn.beside import assert_same, both, drawn_state, parts, results
from tests.tolerances import RELATIVE

TIGHT = RELATIVE[torch.float64]


class Ragged(NamedTuple):
    """A stack and a batch of rows of unequal length."""

    cell: str
    options: dict[str, Any]
    T: int
    lengths: list[int]
    seed: int

    def make(self) -> tuple[torch.nn.Module, Tensor, Any]:
        torch.manual_seed(self.seed)
        module = make_stack(self.cell, 3, 4, dtype=torch.float64, **self.options)
        x = torch.randn(self.T, len(self.lengths), 3, dtype=torch.float64)
        return module, x, drawn_state(module, len(self.lengths))


@st.composite
def ragged(draw: st.DrawFn, least: int = 0) -> Ragged:
    cell, T = draw(st.sampled_from(list(CELLS))), draw(st.integers(1, 6))
    options = {"num_layers": draw(st.integers(1, 2)), "bidirectional": draw(st.booleans())}
    if cell == "lstm" and draw(st.booleans()):
        options["proj_size"] = 2
    return Ragged(
        cell, options, T, draw(st.lists(st.integers(least, T), min_size=1, max_size=5)), draw(st.integers(0, 9))
    )


def padding(r: Ragged) -> Tensor:
    """(T, B) true past the ends."""
    return torch.arange(r.T)[:, None] >= torch.tensor(r.lengths)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ragged())
def test_each_row_is_run_as_if_alone(r: Ragged) -> None:
    module, x, state = r.make()
    y, after = module(x, state, lengths=r.lengths)
    for b, n in enumerate(r.lengths):
        own = [part[:, b : b + 1] for part in parts(state)]
        if n:
            y_row, after_row = module(x[:n, b : b + 1], own if len(own) > 1 else own[0])
            assert_same({"y": y[:n, b : b + 1]}, {"y": y_row}, TIGHT)
        else:
            after_row = own
        for found, expected in zip(parts(after), parts(after_row), strict=True):
            assert_same({"state": found[:, b : b + 1]}, {"state": expected}, TIGHT)
        assert not y[n:, b].any()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(ragged(least=1), st.booleans())
def test_lengths_are_pytorchs_packed_sequence(r: Ragged, batch_first: bool) -> None:
    """Outputs, states and every gradient; PyTorch knows no row of length zero."""
    options = {**r.options, "batch_first": batch_first, "dtype": torch.float64}
    ours, theirs = both(r.cell, 3, 4, **options, seed=r.seed)
    _, x, state = r.make()
    x = x.transpose(0, 1) if batch_first else x
    found = results(ours, x, state, lengths=r.lengths)

    class Packs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = theirs

        def forward(self, x: Tensor, hx: Any) -> Any:
            packed = pack_padded_sequence(x, torch.tensor(r.lengths), batch_first, enforce_sorted=False)
            y, after = self.inner(packed, hx)
            return pad_packed_sequence(y, batch_first, total_length=r.T)[0], after

    expected = {name.replace("dinner.", "d"): t for name, t in results(Packs(), x, state).items()}
    assert_same(found, expected, TIGHT)
    past = padding(r).T if batch_first else padding(r)
    assert not found["dx"][past].any()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ragged(), st.sampled_from([torch.nan, torch.inf, 1e300]))
def test_what_stands_past_the_end_changes_nothing(r: Ragged, filler: float) -> None:
    module, x, state = r.make()
    expected = results(module, x.masked_fill(padding(r)[..., None], 0), state, lengths=r.lengths)
    found = results(module, x.masked_fill(padding(r)[..., None], filler), state, lengths=r.lengths)
    assert all(torch.equal(found[name], t) for name, t in expected.items())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ragged(), st.randoms(use_true_random=False))
def test_permuting_the_batch_permutes_the_results(r: Ragged, random: Any) -> None:
    module, x, state = r.make()
    order = list(range(len(r.lengths)))
    random.shuffle(order)
    y, after = module(x, state, lengths=r.lengths)
    moved = [part[:, order] for part in parts(state)]
    lengths = [r.lengths[b] for b in order]
    y_moved, after_moved = module(x[:, order], moved if len(moved) > 1 else moved[0], lengths=lengths)
    assert_same({"y": y_moved}, {"y": y[:, order]}, TIGHT)
    for a, b in zip(parts(after_moved), parts(after), strict=True):
        assert_same({"state": a}, {"state": b[:, order]}, TIGHT)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ragged(), st.data())
def test_windows_with_carried_state_are_the_whole(r: Ragged, data: st.DataObject) -> None:
    """Outputs, the last state, and every gradient through the carried state. One direction: the other reads ahead."""
    r = r._replace(options={**r.options, "bidirectional": False})
    module, x, state = r.make()
    cut = data.draw(st.integers(1, r.T))
    whole = results(module, x, state, lengths=r.lengths)

    class Windows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor, hx: Any) -> Any:
            pieces, done = [], 0
            for window in x.split(cut):
                left = [min(max(n - done, 0), len(window)) for n in r.lengths]
                y, hx = self.inner(window, hx, lengths=left)
                pieces.append(y)
                done += len(window)
            return torch.cat(pieces), hx

    found = {name.replace("dinner.", "d"): t.clone() for name, t in results(Windows(), x, state).items()}
    assert_same(found, whole, TIGHT)


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_may_be_a_list_a_tuple_or_a_tensor_of_whole_numbers(cell: str) -> None:
    module = make_stack(cell, 3, 4, bidirectional=True)
    x, lengths = torch.randn(5, 3, 3), [2, 5, 0]
    expected = module(x, lengths=lengths)
    kinds = [torch.uint8, torch.int16, torch.int32, torch.int64]
    for given_lengths in (tuple(lengths), *(torch.tensor(lengths, dtype=kind) for kind in kinds)):
        y, _ = module(x, lengths=given_lengths)
        assert torch.equal(y, expected[0])
    full = module(x, lengths=[5, 5, 5])
    assert_same({"y": full[0]}, {"y": module(x)[0]}, RELATIVE[torch.float32])
    kept = torch.tensor(lengths)
    module(x, lengths=kept)
    assert kept.tolist() == lengths


@pytest.mark.parametrize("cell", CELLS)
def test_no_rows_and_no_steps(cell: str) -> None:
    module = make_stack(cell, 3, 4, 2, bidirectional=True)
    y, state = module(torch.zeros(5, 0, 3), lengths=[])
    assert y.shape == (5, 0, 8)
    assert parts(state)[0].shape == (4, 0, 4)
    before = drawn_state(module, 2)
    y, state = module(torch.zeros(0, 2, 3), before)
    assert y.shape == (0, 2, 8)
    assert all(torch.equal(a, b) for a, b in zip(parts(state), parts(before), strict=True))
