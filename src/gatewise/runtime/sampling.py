"""Draw tokens from logits: temperature, top-k and top-p (nucleus) sampling.

``by_definition`` says what is drawn. The other functions find the same token sooner, or say that they cannot be sure.
"""

import math
import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gatewise.errors import NotFinite, UsageError

Doubles = npt.NDArray[np.float64]


def check_sampling(
    max_tokens: int, temperature: float, top_k: int | None, top_p: float | None, seed: int | None = None
) -> None:
    """Check the sampling options.

    Raises:
        UsageError: an option is out of range; the message names the first.
    """
    if max_tokens < 1:
        raise UsageError(f"max_tokens is {max_tokens}; expected 1 or more")
    if not temperature >= 0 or math.isinf(temperature):
        raise UsageError(f"temperature is {temperature}; expected 0 (greedy) or more")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k is {top_k}; expected 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; expected a number above 0 and at most 1")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}; expected 0 to 2^63 - 1")


class Sampler:
    """Draw token ids from logits, one at a time.

    A token is drawn from ``softmax(logits / temperature)``, cut to the top k and then to the nucleus of mass p.
    Temperature 0 is the limit: the most probable token, with ties resolved to the lowest id. The nucleus is the
    smallest set of most probable tokens whose probabilities sum to at least ``top_p`` (Holtzman et al. 2020,
    arXiv 1904.09751, equation 2). Sampling inverts the cumulative distribution, in order of decreasing probability or,
    without top k and top p, of ids, at a value uniform in (0, 1].

    The uniform numbers are those of ``torch.rand(1, dtype=torch.float64)`` with a CPU generator of the same seed.

    Args:
        temperature: divides the logits.
        top_k: the number of most probable tokens to sample from; None for all.
        top_p: the probability mass of the nucleus; None for 1.
        seed: 0 to 2⁶³ − 1; None uses a new seed.
    """

    def __init__(
        self, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, seed: int | None = None
    ) -> None:
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        # Like PyTorch's, a Mersenne Twister seeded with the low 32 bits; NumPy keeps its numbers stable.
        self._words = np.random.MT19937()
        np.random.RandomState(self._words).seed((secrets.randbits(32) if seed is None else seed) & 0xFFFFFFFF)

    @property
    def whole(self) -> bool:
        """Whether it draws from all tokens."""
        return self.top_k is None and self.top_p is None

    def uniform(self) -> float:
        """Return a number uniform in [0, 1), a multiple of 2⁻⁵³."""
        high, low = self._words.random_raw(2).tolist()
        return float(((high << 32 | low) & (2**53 - 1)) * 2.0**-53)

    def draw(self, logits: npt.NDArray[np.floating]) -> int:
        """Draw a token id.

        Args:
            logits: (V,).

        Raises:
            NotFinite: the logits contain NaN, or the largest is not finite.
        """
        return draw_each([self], logits[None])[0]


def draw_each(
    samplers: Sequence[Sampler], logits: npt.NDArray[np.floating], masses: Doubles | None = None
) -> list[int]:
    """Draw a token id for each of B rows: those that ``draw`` of each sampler gives, in less time.

    Args:
        samplers: B of them.
        logits: (B, V).
        masses: (B,), which gets the sum of ``exp(logits / temperature)`` of the rows where drawing needed it.

    Raises:
        NotFinite: a row contains NaN, or its largest number is not finite. No sampler has used a number then.
        UsageError: there are not as many samplers as rows.
    """
    if logits.ndim != 2 or len(samplers) != len(logits):
        raise UsageError(f"{len(samplers)} samplers for logits {logits.shape}; expected one for each row of (B, V)")
    largest = logits.max(axis=1).astype(np.float64)
    if not np.isfinite(largest).all():
        raise NotFinite.of("the logits of the next token")
    drawn, whole, shares = [0] * len(samplers), list[int](), np.empty(len(samplers))
    for row, sampler in enumerate(samplers):
        if sampler.temperature == 0:
            drawn[row] = int(logits[row].argmax())
            continue
        shares[row] = share = 1 - sampler.uniform()
        if sampler.whole:
            whole.append(row)
        else:
            drawn[row] = _cut(sampler, logits[row], float(largest[row]), share)
    found = [-1] * len(whole)
    if len(whole) * (logits.shape[1] + 3000) > 16000:  # where it takes less time than the definition
        some = logits if len(whole) == len(logits) else logits[whole]
        temperatures = np.array([samplers[row].temperature for row in whole])
        found, sums = _whole(some, largest[whole], temperatures, shares[whole])
        if masses is not None:
            masses[whole] = sums
    for row, token in zip(whole, found, strict=True):
        sure = token >= 0
        drawn[row] = token if sure else by_definition(samplers[row], logits[row], float(largest[row]), shares[row])
    return drawn


def by_definition(sampler: Sampler, logits: npt.NDArray[np.floating], largest: float, share: float) -> int:
    """Return the token where the cumulative distribution reaches a share of its mass.

    Args:
        sampler: has the options; its temperature is not 0.
        logits: (V,).
        largest: the largest of these, finite.
        share: in (0, 1].
    """
    scaled, ids = _scaled(logits, largest, sampler.temperature), None
    if sampler.top_k is not None or sampler.top_p is not None:
        ids = np.argsort(-scaled, kind="stable")[: sampler.top_k]
        scaled = scaled[ids]
    place = _place(np.exp(scaled), sampler.top_p, share)
    return place if ids is None else int(ids[place])


def _scaled(logits: npt.NDArray[np.floating], largest: float, temperature: float) -> Doubles:
    with np.errstate(over="ignore"):  # a tiny temperature: all other tokens have probability 0
        scaled: Doubles = (logits.astype(np.float64) - largest) / temperature
    return scaled


def _place(mass: Doubles, top_p: float | None, share: float) -> int:
    """Return where the cumulative mass reaches a share; it falls where there is ``top_p``."""
    if top_p is not None:
        probabilities = mass / mass.sum()
        mass[np.cumsum(probabilities) - probabilities >= top_p] = 0
    mass = np.cumsum(mass)
    return int(np.searchsorted(mass, share * mass[-1]))


FEW = 512
"""Fewer logits than these are sorted by definition."""

NUCLEI = (64, 1024)
"""The most probable tokens among which the nucleus is looked for, before all."""

BLOCK = 128
"""Ids whose mass is added up before the place of a share is looked for."""

TOGETHER = 1 << 16
"""Numbers that are computed at a time, so that they stay in the processor's cache."""

MODERATE = 300.0
"""A largest logit up to here, over the temperature, is not subtracted before exponentials are taken."""


def _slack(count: int) -> float:
    """Return what the cumulative distributions of ``by_definition`` and of ``_whole`` may differ by.

    Both are sums of ``count`` exponentials in some order: of rounded exponents, no larger than 745 where there is mass,
    and right to 4 units in the last place. With u = 2⁻⁵³, a sum is off by less than (count + 3·745 + 8)·u of itself.
    So is the mass of which a share is looked for; of both functions, that makes less than (4·count + 9000)·u.
    """
    return (count + 4096) * 2.0**-50


def _whole(
    logits: npt.NDArray[np.floating], largest: Doubles, temperatures: Doubles, shares: Doubles
) -> tuple[list[int], Doubles]:
    """Return what ``by_definition`` does for rows without top k and top p, or −1 for those that are not certain.

    And the masses of the rows, NaN where they are out of range.
    """
    rows, count = logits.shape
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        factors = 1 / temperatures
        moderate = (np.abs(largest) * factors <= MODERATE) & (factors < 1e30)
    factors[~moderate] = 0
    with np.errstate(invalid="ignore"):  # -inf times 0
        ends = _ends(logits, factors)
        blocks = ends.shape[1]
        marks, margins = shares * ends[:, -1], _slack(count) * ends[:, -1]
        every = np.arange(rows)
        block = np.minimum((ends < marks[:, None]).sum(axis=1), blocks - 1)
        before = np.where(block > 0, ends[every, block - 1], 0)
        ids = block[:, None] * BLOCK + np.arange(BLOCK)
        inside = np.empty((rows, BLOCK))
        _masses(logits[every[:, None], np.minimum(ids, count - 1)], factors, inside)
        inside[ids >= count] = 0
        inside = np.cumsum(inside, axis=1) + before[:, None]
        place = np.minimum((inside < marks[:, None]).sum(axis=1), BLOCK - 1)
        before = np.where(place > 0, inside[every, place - 1], before)
        sure = moderate & (before + margins < marks) & (marks < inside[every, place] - margins)
    found: list[int] = np.where(sure, block * BLOCK + place, -1).tolist()
    return found, np.where(moderate, ends[:, -1], np.nan)


def masses_of(logits: npt.NDArray[np.floating]) -> Doubles:
    """Return Σ exp(logits) of each row (B,), as ``draw_each`` gives it at temperature 1; NaN where it is out of range.

    It does not depend on the other rows, to the last bit.
    """
    moderate = np.abs(logits.max(axis=1)) <= MODERATE
    if moderate.all():
        return _ends(logits, None)[:, -1]
    found = np.full(len(logits), np.nan)
    found[moderate] = _ends(logits[moderate], None)[:, -1]
    return found


def _ends(logits: npt.NDArray[np.floating], factors: Doubles | None) -> Doubles:
    """Return the cumulative masses at the end of each block (R, V / BLOCK), each row's logits times a factor."""
    rows, count = logits.shape
    blocks = -(-count // BLOCK)
    sums, buffer = np.empty((rows, blocks)), np.zeros((min(rows, max(TOGETHER // count, 1)), blocks * BLOCK))
    for first in range(0, rows, len(buffer)):
        part = logits[first : first + len(buffer)]
        mass = buffer[: len(part)]
        _masses(part, None if factors is None else factors[first : first + len(part)], mass[:, :count])
        np.einsum("rbk->rb", mass.reshape(len(part), blocks, BLOCK), out=sums[first : first + len(part)])
    return np.cumsum(sums, axis=1)


def _masses(logits: npt.NDArray[np.floating], factors: Doubles | None, to: Doubles) -> None:
    """Write the exponentials of logits (R, V), each row times a factor, (R,)."""
    to[...] = logits
    if factors is not None and (factors != 1).any():
        to *= factors[:, None]
    np.exp(to, out=to)


STRIPES = 16
"""The largest number of each of V/16 sets of ids bounds the largest of all from below."""


def _cut(sampler: Sampler, logits: npt.NDArray[np.floating], largest: float, share: float) -> int:
    """Return what ``by_definition`` does with top k or top p."""
    count, top_k, top_p = len(logits), sampler.top_k, sampler.top_p
    if count < FEW:
        return by_definition(sampler, logits, largest, share)
    if top_p is not None and top_k is None:
        total = float(np.exp(_scaled(logits, largest, sampler.temperature)).sum())
        for most in NUCLEI:
            found = _leading(sampler, logits, largest, most) if 4 * most < count else None
            if found is None:
                break
            ids, scaled = found
            mass = np.exp(scaled)
            probabilities = mass / total
            before = np.cumsum(probabilities) - probabilities
            if (np.abs(before - top_p) <= _slack(count)).any():
                break
            if cut := int((before > top_p).sum()):
                return int(ids[_place(mass[: len(mass) - cut], None, share)])
    found = _leading(sampler, logits, largest, count if top_k is None else min(top_k, count))
    if found is None:
        return by_definition(sampler, logits, largest, share)
    ids, scaled = found
    return int(ids[_place(np.exp(scaled[:top_k]), top_p, share)])


def _leading(
    sampler: Sampler, logits: npt.NDArray[np.floating], largest: float, least: int
) -> tuple[npt.NDArray[np.intp], Doubles] | None:
    """Return the ids that come first in the order of ``by_definition``, at least so many, and their scaled logits.

    None if that is not certain: different logits may be equal once scaled.
    """
    if least == len(logits):
        ids = np.arange(least)
    else:
        bounds, stripes = logits, len(logits) // STRIPES
        if 2 * least <= stripes:
            bounds = logits[: stripes * STRIPES].reshape(STRIPES, stripes).max(axis=0)
        bound = np.partition(bounds, len(bounds) - least)[len(bounds) - least]
        ids = np.flatnonzero(logits >= bound)
    if len(ids) < len(logits):
        if logits.dtype.kind != "f":
            return None
        below = float(np.nextafter(bound, -np.inf, dtype=logits.dtype))  # the others are no larger
        if not (below - largest) / sampler.temperature < (float(bound) - largest) / sampler.temperature:
            return None
    chosen = logits[ids]
    scaled = _scaled(chosen, largest, sampler.temperature)
    order = _order(chosen, scaled)
    return ids[order], scaled[order]


def _order(logits: npt.NDArray[np.floating], scaled: Doubles) -> npt.NDArray[np.intp]:
    """Return the order of falling scaled logits; equal ones in the given order."""
    if len(logits) >= FEW and logits.dtype == np.float32:
        # Integers that rise as the logits fall, above the places: NumPy sorts them several times as fast.
        bits = logits.view(np.int32)
        keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
        packed = np.invert(keys).astype(np.int64) << 32 | np.arange(len(logits))
        packed.sort()
        order: npt.NDArray[np.intp] = packed & 0xFFFFFFFF
        found = scaled[order]
        if not ((found[1:] == found[:-1]) & (order[1:] < order[:-1])).any():  # none that differ are equal once scaled
            return order
    return np.argsort(-scaled, kind="stable")
