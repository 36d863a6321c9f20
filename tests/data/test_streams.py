"""Contiguous rows and their windows, against the generator that comes with the paper, written out again."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.data.streams import TokenStream
from gatewise.errors import DataError

Ids = npt.NDArray[np.uint16]
Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def original_generator(ids: Ids, batch_size: int, num_steps: int) -> Iterator[Batch]:
    """The published generator step by step, but with time first."""
    batch_len = len(ids) // batch_size
    data = np.zeros((batch_size, batch_len), dtype=np.int64)
    for i in range(batch_size):
        data[i] = ids[batch_len * i : batch_len * (i + 1)]
    for i in range((batch_len - 1) // num_steps):
        x = data[:, i * num_steps : (i + 1) * num_steps]
        y = data[:, i * num_steps + 1 : (i + 1) * num_steps + 1]
        yield x.T, y.T


def count_up(length: int) -> Ids:
    return np.arange(length, dtype=np.uint16)


def test_rows_are_contiguous_and_the_target_one_ahead() -> None:
    stream = TokenStream(count_up(23), batch_size=2, tbptt_length=3)
    assert (len(stream), stream.batch_size, stream.tbptt_length) == (3, 2, 3)
    for k, (inputs, targets) in enumerate(stream):
        assert inputs.T.tolist() == [[3 * k, 3 * k + 1, 3 * k + 2], [11 + 3 * k, 12 + 3 * k, 13 + 3 * k]]
        assert np.array_equal(targets, inputs + 1)


def test_arrays_are_ready_for_use() -> None:
    for array in TokenStream(count_up(23), 2, 3)[1]:
        assert array.shape == (3, 2) and array.dtype == np.int64 and array.flags.c_contiguous


def test_a_window_goes_on_where_the_last_one_stopped() -> None:
    windows = list(TokenStream(count_up(100), batch_size=3, tbptt_length=4))
    for (_, targets), (inputs, _) in itertools.pairwise(windows):
        assert np.array_equal(targets[-1], inputs[0])
    rows = np.concatenate([inputs for inputs, _ in windows]).T
    assert rows.tolist() == [list(range(33 * b, 33 * b + 32)) for b in range(3)]


@given(length=st.integers(0, 400), batch_size=st.integers(1, 12), tbptt_length=st.integers(1, 40))
def test_same_windows_as_the_original(length: int, batch_size: int, tbptt_length: int) -> None:
    expected = list(original_generator(count_up(length), batch_size, tbptt_length))
    if not expected:
        assert length < batch_size * (tbptt_length + 1)
        with pytest.raises(DataError):
            TokenStream(count_up(length), batch_size, tbptt_length)
        return
    stream = TokenStream(count_up(length), batch_size, tbptt_length)
    assert len(stream) == len(expected) == (length // batch_size - 1) // tbptt_length
    for (inputs, targets), (x, y) in zip(stream, expected, strict=True):
        assert np.array_equal(inputs, x) and np.array_equal(targets, y)


@given(batch_size=st.integers(1, 9), data=st.data())
def test_shares_put_together_are_the_whole(batch_size: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, batch_size - 1)))) if batch_size > 1 else []
    shares = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, batch_size], strict=True)]
    whole = TokenStream(count_up(131), batch_size, 5)
    parts = [TokenStream(count_up(131), batch_size, 5, rows) for rows in shares]
    assert [part.batch_size for part in parts] == [rows.stop - rows.start for rows in shares]
    for k in range(len(whole)):
        for side in (0, 1):
            assert np.array_equal(np.concatenate([part[k][side] for part in parts], axis=1), whole[k][side])


@pytest.mark.parametrize("length", [0, 1, 3, 19])
def test_too_short_a_text(length: int) -> None:
    with pytest.raises(DataError) as caught:
        TokenStream(count_up(length), batch_size=4, tbptt_length=4, name="toy.valid.txt")
    assert str(caught.value).startswith(f"toy.valid.txt: {length} tokens ") and " = 20;" in str(caught.value)
    assert len(TokenStream(count_up(20), batch_size=4, tbptt_length=4)) == 1


def test_no_window_there() -> None:
    stream = TokenStream(count_up(23), 2, 3)
    for window in (-1, 3):
        with pytest.raises(IndexError):
            stream[window]


def test_the_text_is_not_read_as_a_whole() -> None:
    ids = count_up(23)
    stream = TokenStream(ids, 2, 3)
    ids[0] = 77
    assert stream[0][0][0, 0] == 77
