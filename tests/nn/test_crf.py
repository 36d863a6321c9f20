"""The CRF against enumeration of all sequences of tags; gradients, ragged batches and edge cases."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gatewise.nn.crf import CRF
from tests.tolerances import RELATIVE, differ

TIGHT = RELATIVE[torch.float64]


def make(C: int, seed: int = 1) -> CRF:
    crf = CRF(C).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(generator=generator)
    return crf


def draw(T: int, B: int, C: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, B, C, generator=generator, dtype=torch.float64) * 2, torch.randint(
        C, (T, B), generator=generator
    )


def score(crf: CRF, emissions: Tensor, tags: tuple[int, ...]) -> Tensor:
    """The definition, of one row (T, C)."""
    total = crf.start[tags[0]] + crf.end[tags[-1]] + emissions[range(len(tags)), list(tags)].sum()
    return total + sum((crf.transitions[a, b] for a, b in itertools.pairwise(tags)), torch.zeros(()))


def all_scores(crf: CRF, emissions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of every sequence of tags of one row."""
    T, C = emissions.shape
    return {tags: score(crf, emissions, tags) for tags in itertools.product(range(C), repeat=T)}


CASES = [(1, 1, [1]), (1, 3, [1, 1]), (4, 1, [2, 4]), (5, 3, [2, 5, 1, 4]), (4, 4, [4, 4]), (5, 2, [0, 5, 0, 3])]
SHAPES = pytest.mark.parametrize(("T", "C", "lengths"), CASES)


@SHAPES
def test_nll_is_the_share_of_every_sequence(T: int, C: int, lengths: list[int]) -> None:
    crf, (emissions, tags) = make(C), draw(T, len(lengths), C)
    found = crf.nll(emissions, tags, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        expected = torch.zeros(())
        if length:
            scores = all_scores(crf, emissions[:length, row])
            gold = scores[tuple(tags[:length, row].tolist())]
            expected = torch.logsumexp(torch.stack(list(scores.values())), 0) - gold
        assert differ(found[row], expected, least=1.0) < TIGHT


@SHAPES
def test_decode_is_the_best_of_every_sequence(T: int, C: int, lengths: list[int]) -> None:
    crf, (emissions, _) = make(C), draw(T, len(lengths), C)
    path = crf.decode(emissions, torch.tensor(lengths))
    assert path.shape == (T, len(lengths)) and path.dtype == torch.int64
    for row, length in enumerate(lengths):
        assert not path[length:, row].any()
        if length:
            scores = all_scores(crf, emissions[:length, row])
            assert tuple(path[:length, row].tolist()) == max(scores, key=lambda tags: float(scores[tags].detach()))


@SHAPES
def test_marginals_are_sums_over_sequences(T: int, C: int, lengths: list[int]) -> None:
    crf, (emissions, _) = make(C), draw(T, len(lengths), C)
    found = crf.marginals(emissions, torch.tensor(lengths))
    expected = torch.zeros_like(emissions)
    for row, length in enumerate(lengths):
        if length:
            scores = all_scores(crf, emissions[:length, row])
            z = torch.logsumexp(torch.stack(list(scores.values())), 0)
            for tags, s in scores.items():
                for t, tag in enumerate(tags):
                    expected[t, row, tag] += float((s - z).exp().detach())
    assert differ(found, expected) < TIGHT


@pytest.mark.parametrize("kind", ["nll", "marginals"])
def test_gradients_against_central_differences(kind: str) -> None:
    crf, (emissions, tags) = make(3), draw(4, 4, 3)
    lengths = torch.tensor([2, 4, 0, 1])

    def run(emissions: Tensor, *weights: Tensor) -> Tensor:
        given = dict(zip(("transitions", "start", "end"), weights, strict=True))
        rest = (emissions, tags, lengths) if kind == "nll" else (emissions, lengths)
        return torch.func.functional_call(Named(crf, kind), {f"crf.{k}": v for k, v in given.items()}, rest)

    weights = [p.detach().clone().requires_grad_() for p in (crf.transitions, crf.start, crf.end)]
    assert torch.autograd.gradcheck(run, (emissions.requires_grad_(), *weights))


class Named(torch.nn.Module):
    """A method of a CRF as a module's call."""

    def __init__(self, crf: CRF, method: str) -> None:
        super().__init__()
        self.crf, self.method = crf, method

    def forward(self, *given: Tensor) -> Tensor:
        result: Tensor = getattr(self.crf, self.method)(*given)
        return result


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5), C=st.integers(1, 4), more=st.integers(0, 2))
def test_padding_and_order_of_the_rows_change_nothing(lengths: list[int], C: int, more: int) -> None:
    """Each row alone, without padding, gives what it gives in the batch, whose padding is NaN."""
    T, crf = max(lengths) + more, make(C)
    emissions, tags = draw(T, len(lengths), C)
    for row, length in enumerate(lengths):
        emissions[length:, row] = math.nan
        tags[length:, row] = -100
    emissions.requires_grad_()
    given_lengths = torch.tensor(lengths)
    nll = crf.nll(emissions, tags, given_lengths)
    path, p = crf.decode(emissions, given_lengths), crf.marginals(emissions, given_lengths)
    (gradient,) = torch.autograd.grad(nll.sum() + p.square().sum(), emissions)
    for row, n in enumerate(lengths):
        own, one = emissions.detach()[:n, row : row + 1].requires_grad_(), torch.tensor([n])
        own_nll, own_p = crf.nll(own, tags[:n, row : row + 1], one), crf.marginals(own, one)
        (own_gradient,) = torch.autograd.grad(own_nll.sum() + own_p.square().sum(), own)
        assert torch.equal(path[:n, row : row + 1], crf.decode(own, one))
        for found, expected, least in (
            (nll[row], own_nll[0], 1.0),
            (p[:n, row : row + 1], own_p, 1.0),
            (gradient[:n, row : row + 1], own_gradient, 1.0),
        ):
            assert not expected.numel() or differ(found, expected, least) < TIGHT
        assert not gradient[n:, row].any() and not p[n:, row].any()


@pytest.mark.slow
@torch.no_grad()
def test_a_sentence_of_10_000_words_keeps_its_marginals_in_fp32() -> None:
    """Scores add up to tens of thousands, where float32 knows no hundredths."""
    crf, (emissions, tags) = make(5).float(), draw(10_000, 1, 5)
    emissions, lengths = emissions.float().double(), torch.tensor([10_000])
    full, single = crf.marginals(emissions, lengths), crf.marginals(emissions.float(), lengths)
    assert single.dtype == torch.float32
    assert differ(single, full) < RELATIVE[torch.float32]
    assert float((full.sum(2) - 1).abs().max()) < TIGHT
    assert (
        differ(crf.nll(emissions.float(), tags, lengths), crf.nll(emissions, tags, lengths)) < RELATIVE[torch.float32]
    )


def test_impossible_transitions_are_never_taken() -> None:
    crf, (emissions, _) = make(3), draw(6, 2, 3)
    with torch.no_grad():
        crf.transitions[1, 2] = -math.inf
    lengths = torch.tensor([6, 4])
    path, p = crf.decode(emissions, lengths), crf.marginals(emissions, lengths)
    assert not any((a, b) == (1, 2) for row in path.t().tolist() for a, b in itertools.pairwise(row))
    assert p.isfinite().all()
    assert differ(p.sum(2)[:4], torch.ones(4, 2)) < TIGHT


def test_under_autocast_nothing_is_rounded() -> None:
    crf, (emissions, tags) = make(4).float(), draw(5, 3, 4)
    lengths, e = torch.tensor([5, 2, 4]), emissions.float()
    expected = crf.nll(e, tags, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(crf.nll(e, tags, lengths), expected)
