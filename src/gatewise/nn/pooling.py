"""From the outputs of every step to one vector for each sequence."""

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
    """Return what of a recurrent stack's outputs a decoder sees.

    ``last``: h_n of the last layer, the state after each row's last step and, of the direction from the end, after its
    first. ``mean``: ``Σₜ yₜ / length``. ``max``: ``maxₜ yₜ``, unit by unit. A row of length 0 gives zeros (``last``:
    the state it began with).

    Args:
        kind: ``last``, ``mean`` or ``max``.
        y: the last layer's outputs.
        h_n: the states of all layers and directions at the end.
        directions: D, 1 or 2.
        lengths: the steps of each row; all T where not given.
    """
    if kind == "last":
        return torch.cat(list(h_n[-directions:]), -1)
    steps = torch.full((y.shape[1],), len(y), device="cpu") if lengths is None else lengths
    inside = (torch.arange(len(y), device="cpu")[:, None] < steps.cpu()).to(y.device)[..., None]
    if kind == "mean":
        return (y * inside).sum(0) / steps.clamp(min=1).to(y.device)[:, None]
    return torch.where(inside, y, -torch.inf).amax(0).masked_fill((steps == 0).to(y.device)[:, None], 0)
