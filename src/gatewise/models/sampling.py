"""Draw one token from logits: temperature, top-k and top-p (nucleus) sampling."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gatewise.errors import UsageError
from gatewise.models.finite import check_finite


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


def sample(
    logits: Float[Tensor, " V"],
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> int:
    """Sample a token id from ``softmax(logits / temperature)``, cut to the top k and then to the nucleus of mass p.

    Temperature 0 is the limit: the most probable token, with ties resolved to the lowest id. The nucleus is the
    smallest set of most probable tokens whose probabilities sum to at least ``top_p`` (Holtzman et al. 2020,
    arXiv 1904.09751, equation 2). Sampling inverts the cumulative distribution, in order of decreasing probability or,
    without top k and top p, of ids, at a value uniform in (0, 1].

    Raises:
        NotFinite: the logits contain NaN, or the largest is not finite.
    """
    check_finite(logits.max(), "the logits of the next token")
    if temperature == 0:
        return int(logits.argmax())
    scaled = (logits.double() - logits.max()) / temperature
    cut = top_k is not None or top_p is not None
    ordered, ids = scaled.sort(descending=True, stable=True) if cut else (scaled, None)
    if ids is not None and top_k is not None:
        ordered, ids = ordered[:top_k], ids[:top_k]
    probabilities = ordered.softmax(0)
    if top_p is not None:
        before = probabilities.cumsum(0) - probabilities
        probabilities = probabilities * (before < top_p)
    mass = probabilities.cumsum(0)
    share = 1 - torch.rand(1, dtype=mass.dtype, device=mass.device, generator=generator)
    drawn = torch.searchsorted(mass, share * mass[-1])
    return int(drawn if ids is None else ids[drawn])
