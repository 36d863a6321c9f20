"""Drawing for many rows at once gives, to the last bit, what the definition gives row by row."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gatewise.errors import NotFinite, UsageError
from gatewise.runtime import sampling
from gatewise.runtime.sampling import Sampler, draw_each

EDGES = (0.0, 2.0**-53, 0.5, 1 - 2.0**-53)
"""The least and the greatest uniform numbers, and one that falls on boundaries of equal masses."""


def definition(options: dict[str, Any], logits: Any, uniform: float) -> int:
    """Sort everything, add up everything, in order."""
    temperature, top_k, top_p = options.get("temperature", 1.0), options.get("top_k"), options.get("top_p")
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    ids = np.arange(len(logits))
    if top_k is not None or top_p is not None:
        ids = np.argsort(-scaled, kind="stable")[:top_k]
    mass = np.exp(scaled[ids])
    if top_p is not None:
        probabilities = mass / mass.sum()
        mass[np.cumsum(probabilities) - probabilities >= top_p] = 0
    mass = np.cumsum(mass)
    return int(ids[np.searchsorted(mass, (1 - uniform) * mass[-1])])


def uniforms(seed: int, count: int) -> list[float]:
    """Those of PyTorch's generator: the low 53 bits of two words, the first of which is the high one."""
    words = np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, (count, 2), np.uint32).tolist()
    return [((high << 32 | low) & (2**53 - 1)) * 2.0**-53 for high, low in words]


KINDS = ("normal", "few values", "impossible", "equal", "near zero", "huge", "peaked", "half precision", "doubles")


def logits_of(kind: str, rows: int, count: int, seed: int) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(seed)
    x = draw.normal(0, 3, (rows, count))
    match kind:
        case "few values":
            x = np.round(x)
        case "impossible":
            x[draw.random(x.shape) < 0.7] = -math.inf
            x[:, draw.integers(count)] = 1.0
        case "equal":
            x[:] = draw.normal()
        case "near zero":  # different logits, which are equal once the largest is subtracted
            x = x * 1e-30
            x[:, draw.integers(count)] = 4.0
        case "huge":
            x = x * 1e37
        case "peaked":
            x[np.arange(rows), draw.integers(0, count, rows)] = 60.0
        case "half precision":
            return x.astype(np.float16)
        case "doubles":
            return x
    return x.astype(np.float32)


TEMPERATURES = st.sampled_from([0.0, 5e-324, 1e-30, 1e-3, 0.1, 0.7, 1.0, 1.3, 40.0, 1e30, 1e300]) | st.floats(0.05, 5)
OPTIONS = st.fixed_dictionaries(
    {"temperature": TEMPERATURES},
    optional={
        "top_k": st.sampled_from([1, 2, 40, 300, 2999, 10**6]) | st.integers(1, 60),
        "top_p": st.sampled_from([1e-13, 0.25, 0.5, 1 - 1e-13, 1.0]) | st.floats(0.01, 0.999),
    },
)
COUNTS = st.sampled_from([1, 2, 11, 127, 128, 129, 511, 600, 3000, 16001])


@settings(max_examples=300, deadline=None)
@given(st.lists(OPTIONS, min_size=1, max_size=9), COUNTS, st.sampled_from(KINDS), st.integers(0, 2**40))
def test_many_rows_are_drawn_as_each_alone(options: list[Any], count: int, kind: str, seed: int) -> None:
    event(kind)
    samplers, alone = ([Sampler(**each, seed=seed + k) for k, each in enumerate(options)] for _ in range(2))
    for again in range(3):
        logits = logits_of(kind, len(options), count, seed + again)
        before = logits.copy()
        used = [0 if each["temperature"] == 0 else again for each in options]
        expected = [
            definition(each, row, uniforms(seed + k, 3)[used[k]])
            for k, (each, row) in enumerate(zip(options, logits, strict=True))
        ]
        assert draw_each(samplers, logits) == expected
        assert [sampler.draw(row) for sampler, row in zip(alone, logits, strict=True)] == expected
        assert np.array_equal(logits, before)
    after = [sampler.uniform() for sampler in samplers]
    assert after == [uniforms(seed + k, 4)[0 if each["temperature"] == 0 else 3] for k, each in enumerate(options)]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 7}, {"top_p": 0.5}, {"top_p": 1.0}], ids=str)
@pytest.mark.parametrize("uniform", EDGES)
def test_draws_at_a_boundary(options: dict[str, Any], uniform: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sampler, "uniform", lambda _: uniform)
    for kind in KINDS:
        for count in (4, 64, 512, 4096, 20000):
            logits = logits_of(kind, 6, count, count)
            expected = [definition(options, row, uniform) for row in logits]
            assert draw_each([Sampler(**options) for _ in logits], logits) == expected, (kind, count)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_draws_next_to_the_boundary_of_two_tokens(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sums in another order may fall on the other side."""
    row = logits_of("normal", 1, 20_000, 1)[0]
    mass = np.cumsum(np.exp((row.astype(np.float64) - float(row.max())) / temperature))
    for place in range(50, 20_000, 190):
        nearest = round((1 - mass[place] / mass[-1]) * 2**53)
        shares = [(nearest + step) * 2.0**-53 for step in (-200, -20, -2, -1, 0, 1, 2, 20, 200)]
        left = iter(shares)
        monkeypatch.setattr(Sampler, "uniform", lambda _, left=left: next(left))
        expected = [definition({"temperature": temperature}, row, uniform) for uniform in shares]
        assert len(set(expected)) > 1
        assert draw_each([Sampler(temperature) for _ in shares], np.stack([row] * len(shares))) == expected


def test_nuclei_that_end_next_to_the_boundary_of_two_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    row = logits_of("normal", 1, 5000, 1)[0]
    falling = np.exp(np.sort(row.astype(np.float64) - float(row.max()))[::-1])
    reached = np.cumsum(falling / falling.sum())
    for place in range(0, 1000, 9):
        for step in (-8, -1, 0, 1, 8):
            # The last of the nucleus is drawn.
            top_p = float(reached[place]) + step * 2.0**-53
            for uniform in (0.0, 2.0**-53):
                monkeypatch.setattr(Sampler, "uniform", lambda _, uniform=uniform: uniform)
                assert Sampler(top_p=top_p).draw(row) == definition({"top_p": top_p}, row, uniform)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8}, {"top_k": 40}, {"top_p": 0.6}], ids=str)
def test_what_is_certain_is_not_looked_up_by_definition(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = logits_of("normal", 64, 10_000, 1)
    samplers = [Sampler(**options, seed=seed) for seed in range(64)]
    expected = [definition(options, row, uniforms(seed, 1)[0]) for seed, row in enumerate(logits)]
    monkeypatch.delattr(sampling, "by_definition")
    assert draw_each(samplers, logits) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
def test_a_row_that_is_not_finite_costs_no_number(bad: float, options: dict[str, Any]) -> None:
    logits = logits_of("normal", 8, 100, 1)
    logits[5] = bad
    samplers = [Sampler(**options, seed=seed) for seed in range(8)]
    with pytest.raises(NotFinite) as caught:
        draw_each(samplers, logits)
    assert str(caught.value) == str(NotFinite.of("the logits of the next token"))
    assert [sampler.uniform() for sampler in samplers] == [uniforms(seed, 1)[0] for seed in range(8)]


def test_a_sampler_for_each_row() -> None:
    logits = logits_of("normal", 3, 20, 1)
    assert draw_each([], logits[:0]) == []
    for samplers, rows in (([Sampler()] * 2, logits), ([Sampler()] * 4, logits), ([Sampler()] * 20, logits[0])):
        with pytest.raises(UsageError, match="expected one for each row"):
            draw_each(samplers, rows)
    one, other = Sampler(seed=1), Sampler(seed=1)
    assert draw_each([one] * 3, logits) == [other.draw(row) for row in logits]


def test_masses() -> None:
    logits = np.random.RandomState(0).standard_normal((7, 5000)).astype(np.float32)
    samplers = [
        Sampler(t, k, None, 1) for t, k in [(1, None), (0.5, None), (0, None), (1, 5), (1, None), (1, None), (2, None)]
    ]
    masses = np.full(7, np.nan)
    draw_each(samplers, logits, masses)
    known = [0, 1, 4, 5, 6]
    temperatures = np.array([[samplers[row].temperature] for row in known])
    np.testing.assert_allclose(masses[known], np.exp(logits[known] / temperatures).sum(1), rtol=1e-12)
    assert np.isnan(masses[[2, 3]]).all()
