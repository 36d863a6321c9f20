"""The best sequence of tags, against every sequence; ties; rows of any length in any order."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.runtime.viterbi import viterbi


def score(tags: tuple[int, ...], e: np.ndarray, transitions: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    along = sum(transitions[a, b] for a, b in itertools.pairwise(tags))
    return float(start[tags[0]] + sum(e[t, tag] for t, tag in enumerate(tags)) + along + end[tags[-1]])


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), C=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_best_of_every_sequence_and_the_first_of_equals(lengths: list[int], C: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Small integers, so that sums are exact and ties frequent.
    e = rng.integers(-2, 3, (max(lengths) + 1, len(lengths), C)).astype(np.float32)
    transitions, start, end = (rng.integers(-2, 3, shape).astype(np.float32) for shape in ((C, C), (C,), (C,)))
    for row, length in enumerate(lengths):
        e[length:, row] = np.nan  # never read
    path = viterbi(e, np.array(lengths), transitions, start, end)
    assert path.dtype == np.int64 and path.shape == e.shape[:2]
    for row, length in enumerate(lengths):
        assert not path[length:, row].any()
        if length:
            scores = e[:, row], transitions, start, end
            # Ties go to the lowest tag, from the last one back.
            every = sorted(itertools.product(range(C), repeat=length), key=lambda tags: tags[::-1])
            assert tuple(path[:length, row]) == max(every, key=lambda tags: score(tags, *scores))


@pytest.mark.parametrize("B", [0, 3])
def test_no_steps_and_no_rows(B: int) -> None:
    none = viterbi(np.zeros((0, B, 2)), np.zeros(B, int), np.zeros((2, 2)), np.zeros(2), np.zeros(2))
    assert none.shape == (0, B)
