"""Pooling of the outputs of all steps into one vector per sequence."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pool(
    kind: str,
    y: Float[Tensor, "T B K"],
    h_n: Float[Tensor, "P B H"],
    directions: int,
    lengths: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B K"]:
    """Pool the outputs of a recurrent stack over time.

    ``last``: h_n of the last layer, the state after the last step of each row, or after its first step for the reverse
    direction. ``mean``: ``Σₜ yₜ / length``. ``max``: ``maxₜ yₜ``, elementwise. A row of length 0 gives zeros (``last``:
    the initial state).

    Args:
        kind: ``last``, ``mean`` or ``max``.
        y: the outputs of the last layer.
        h_n: the final states of all layers and directions.
        directions: D, 1 or 2.
        lengths: the steps of each row; T by default.
    """
    if kind == "last":
        return torch.cat(list(h_n[-directions:]), -1)
    steps = torch.full((y.shape[1],), len(y), device="cpu") if lengths is None else lengths
    inside = (torch.arange(len(y), device="cpu")[:, None] < steps.cpu()).to(y.device)[..., None]
    if kind == "mean":
        return (y * inside).sum(0) / steps.clamp(min=1).to(y.device)[:, None]
    return torch.where(inside, y, -torch.inf).amax(0).masked_fill((steps == 0).to(y.device)[:, None], 0)
