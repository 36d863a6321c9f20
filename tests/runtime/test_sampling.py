"""Sampling a token: its support, its frequencies, and reproducibility by seed."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from gatewise.errors import NotFinite, UsageError
from gatewise.runtime.sampling import Sampler, check_sampling

PROBABILITIES = [0.1, 0.4, 0.05, 0.3, 0.15]  # from most to least probable: 1, 3, 4, 0, 2
LOGITS = torch.tensor(PROBABILITIES).log() + 7.0


def draw(
    logits: torch.Tensor = LOGITS,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    draws: int = 500,
    seed: int = 1,
) -> list[int]:
    sampler = Sampler(temperature, top_k, top_p, seed)
    return [sampler.draw(logits.float().numpy()) for _ in range(draws)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((0, 1.0, None, None), "max_tokens is 0"),
        ((-3, 1.0, None, None), "max_tokens is -3"),
        ((1, -0.1, None, None), "temperature is -0.1"),
        ((1, math.nan, None, None), "temperature is nan"),
        ((1, math.inf, None, None), "temperature is inf"),
        ((1, 1.0, 0, None), "top_k is 0"),
        ((1, 1.0, -1, None), "top_k is -1"),
        ((1, 1.0, None, 0.0), "top_p is 0.0"),
        ((1, 1.0, None, 1.01), "top_p is 1.01"),
        ((1, 1.0, None, -0.5), "top_p is -0.5"),
        ((1, 1.0, None, math.nan), "top_p is nan"),
    ],
)
def test_option_out_of_range(options: tuple[int, float, int | None, float | None], named: str) -> None:
    with pytest.raises(UsageError, match=rf"^{named}; expected"):
        check_sampling(*options)


@pytest.mark.parametrize("options", [(1, 0.0, None, None), (1, 1e-300, 1, 1.0), (10**6, 100.0, 10**6, 1e-9)])
def test_option_at_the_edge(options: tuple[int, float, int | None, float | None]) -> None:
    check_sampling(*options)


def test_temperature_0_takes_the_first_of_the_most_probable() -> None:
    assert set(draw(temperature=0, draws=5)) == {1}
    assert set(draw(torch.tensor([1.0, 3.0, 2.0, 3.0, 3.0]), temperature=0, draws=5)) == {1}


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-300, 5e-324])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_tiny_temperature_is_greedy(temperature: float, scale: float) -> None:
    assert set(draw(LOGITS * scale, temperature, draws=20)) == {1}
    assert set(draw(-LOGITS * scale, temperature, 3, 0.9, draws=20)) == {2}


@pytest.mark.parametrize(
    ("top_k", "kept"),
    [(1, {1}), (2, {1, 3}), (3, {1, 3, 4}), (4, {0, 1, 3, 4}), (5, {0, 1, 2, 3, 4}), (99, {0, 1, 2, 3, 4})],
)
def test_top_k_keeps_exactly_k(top_k: int, kept: set[int]) -> None:
    assert set(draw(top_k=top_k)) == kept


def test_top_k_among_equals_keeps_the_lowest_ids() -> None:
    assert set(draw(torch.zeros(3000), top_k=3)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-9, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.69, {1, 3}),
        (0.71, {1, 3, 4}),
        (0.84, {1, 3, 4}),
        (0.86, {0, 1, 3, 4}),
        (0.96, {0, 1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p: float, kept: set[int]) -> None:
    assert set(draw(top_p=top_p)) == kept


def test_top_p_reached_exactly() -> None:
    assert set(draw(torch.zeros(4), top_p=0.5)) == {0, 1}


def test_top_p_is_of_what_top_k_leaves() -> None:
    # Of 0.4, 0.3, 0.15 the first two have 0.82 of the mass.
    assert set(draw(top_k=3, top_p=0.8)) == {1, 3}
    assert set(draw(top_k=3, top_p=0.84)) == {1, 3, 4}


def test_top_p_is_of_the_tempered_probabilities() -> None:
    assert set(draw(temperature=0.25, top_p=0.7)) == {1}  # 0.4^4 of the sum of fourth powers is 0.745


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.5, None, None), (3.0, None, None), (1.0, 3, None), (2.0, 4, 0.8)],
)
def test_frequencies(temperature: float, top_k: int | None, top_p: float | None) -> None:
    draws = 2000
    counts = Counter(draw(temperature=temperature, top_k=top_k, top_p=top_p, draws=draws))
    weight = {token: p ** (1 / temperature) for token, p in enumerate(PROBABILITIES) if counts[token]}
    if top_k is None and top_p is None:
        assert len(weight) == 5
    for token, w in weight.items():
        p = w / sum(weight.values())
        assert abs(counts[token] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws), "four standard deviations"


def test_seed_gives_the_draw_again() -> None:
    assert draw(seed=5, draws=50) == draw(seed=5, draws=50)
    assert draw(seed=5, draws=50) != draw(seed=6, draws=50)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_not_finite_is_no_token(bad: float, temperature: float) -> None:
    for options in ((None, None), (3, None), (None, 0.5)):
        with pytest.raises(NotFinite, match=r"^the logits of the next token are not finite"):
            draw(torch.tensor([1.0, bad, 2.0]), temperature, *options, draws=1)


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53])
def test_the_least_and_the_greatest_draw_fall_on_possible_tokens(edge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sampler, "uniform", lambda _: edge)
    possible = torch.tensor([-math.inf, -math.inf, 1.0, 0.5, 1.0, -math.inf, -math.inf])
    assert draw(possible, draws=1) == ([4] if edge == 0 else [2])
    assert draw(possible, top_k=6, draws=1) == ([3] if edge == 0 else [2])


def test_global_generators_are_left_alone() -> None:
    state, words = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    draw(draws=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state(legacy=False)["state"]["key"] == words).all()


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32 + 7, 2**63 - 1])
def test_uniform_numbers_are_those_of_a_torch_generator(seed: int) -> None:
    sampler, generator = Sampler(seed=seed), torch.Generator().manual_seed(seed)
    for _ in range(700):  # the twister starts over after 624 words
        assert sampler.uniform() == torch.rand(1, dtype=torch.float64, generator=generator).item()


def test_no_seed_is_a_new_one() -> None:
    assert Sampler().uniform() != Sampler().uniform()


def test_impossible_tokens_and_half_precision() -> None:
    logits = torch.tensor([-math.inf, 1.0, -math.inf, 1.0])
    assert set(draw(logits)) == set(draw(logits.bfloat16())) == {1, 3}
