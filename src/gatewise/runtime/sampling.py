"""Draw tokens from logits: temperature, top-k and top-p (nucleus) sampling."""

import math
import secrets

import numpy as np
import numpy.typing as npt

from gatewise.errors import NotFinite, UsageError


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
        self._words = np.random.RandomState((secrets.randbits(32) if seed is None else seed) & 0xFFFFFFFF)

    def uniform(self) -> float:
        """Return a number uniform in [0, 1), a multiple of 2⁻⁵³."""
        high, low = self._words.randint(0, 2**32, 2, np.uint32).tolist()
        return float(((high << 32 | low) & (2**53 - 1)) * 2.0**-53)

    def draw(self, logits: npt.NDArray[np.floating]) -> int:
        """Draw a token id.

        Args:
            logits: (V,).

        Raises:
            NotFinite: the logits contain NaN, or the largest is not finite.
        """
        largest = logits.max()
        if not np.isfinite(largest):
            raise NotFinite.of("the logits of the next token")
        if self.temperature == 0:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # a tiny temperature: all other tokens have probability 0
            scaled = (logits.astype(np.float64) - float(largest)) / self.temperature
        ids = None
        if self.top_k is not None or self.top_p is not None:
            ids = np.argsort(-scaled, kind="stable")[: self.top_k]
            scaled = scaled[ids]
        mass = np.exp(scaled)
        if self.top_p is not None:
            probabilities = mass / mass.sum()
            mass[np.cumsum(probabilities) - probabilities >= self.top_p] = 0
        mass = np.cumsum(mass)
        drawn = np.searchsorted(mass, (1 - self.uniform()) * mass[-1])
        return int(drawn if ids is None else ids[drawn])
