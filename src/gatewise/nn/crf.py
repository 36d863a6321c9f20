"""The linear-chain conditional random field: likelihood, best sequence and marginals of tags."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gatewise.runtime.viterbi import viterbi


class CRF(nn.Module):
    """Score whole sequences of tags (Lafferty, McCallum and Pereira 2001; Lample et al. 2016, arXiv 1603.01360, 2.2).

    ``s(y) = start[y₁] + Σₜ emissions[t, yₜ] + Σₜ transitions[yₜ₋₁, yₜ] + end[y_T]``,
    ``p(y) = exp s(y) / Σ_y' exp s(y')``.

    All computation is in float64, whatever the dtype of the emissions: the result is a small difference of large sums
    over a sentence. Values past the length of a row are never read.

    Args:
        num_tags: C, the number of tags.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        self.start = nn.Parameter(torch.empty(num_tags))
        self.end = nn.Parameter(torch.empty(num_tags))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set all parameters to zero: all sequences of tags are equally likely."""
        for parameter in self.parameters():
            parameter.zero_()

    def nll(
        self, emissions: Float[Tensor, "T B C"], tags: Int[Tensor, "T B"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Return ``−log p(tags)`` of each row, in nats.

        ``log Σ exp s = logsumexp_c (αₙ + end)`` with ``α₁ = start + e₁`` and
        ``αₜ[c] = eₜ[c] + logsumexp_c' (αₜ₋₁[c'] + transitions[c', c])``.

        Args:
            emissions: the scores of each tag at each step.
            tags: ids of the tags.
            lengths: the steps of each row, 0 to T; a row without steps costs 0.
        """
        if not len(emissions):
            return emissions.sum((0, 2))
        inside = _inside(emissions, lengths)
        e = _cut(emissions, inside)
        alphas = self._alphas(e, inside, self.start.double(), self.transitions.double())
        log_z = torch.logsumexp(alphas[-1] + self.end.double(), 1)
        tags = tags.where(inside, 0)
        score = e.gather(2, tags[..., None])[..., 0].sum(0) + self.start.double()[tags[0]]
        score = score + (self.transitions.double()[tags[:-1], tags[1:]] * inside[1:]).sum(0)
        score = score + self.end.double()[_last(tags, lengths)]
        return torch.where(inside[0], log_z - score, 0).to(emissions.dtype)

    @torch.no_grad()
    def decode(self, emissions: Float[Tensor, "T B C"], lengths: Int[Tensor, " B"]) -> Int[Tensor, "T B"]:
        """Return the best sequence of tags for each row (Viterbi 1967), int64, 0 past its length.

        ``runtime.viterbi`` computes it, on the CPU.
        """
        scores = (given.double().numpy(force=True) for given in (emissions, self.transitions, self.start, self.end))
        path = viterbi(next(scores), lengths.numpy(force=True), *scores)
        return torch.from_numpy(path).to(emissions.device)

    def marginals(self, emissions: Float[Tensor, "T B C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "T B C"]:
        """Return the marginal probability of each tag at each step; 0 past the length of a row.

        ``p(yₜ = c) = softmax_c (αₜ + βₜ)`` where ``βₜ``, over all later steps, is the α of the row read from its end.
        """
        if not len(emissions):
            return emissions
        inside = _inside(emissions, lengths)
        e = _cut(emissions, inside)
        time = torch.arange(len(e), device=e.device)[:, None]
        turned = torch.where(inside, lengths.to(e.device) - 1 - time, time)[..., None].expand_as(e)
        alphas = self._alphas(e, inside, self.start.double(), self.transitions.double())
        betas = self._alphas(e.gather(0, turned), inside, self.end.double(), self.transitions.double().t())
        p = torch.softmax(torch.stack(alphas) + torch.stack(betas).gather(0, turned) - e, 2)
        return torch.where(inside[..., None], p, 0).to(emissions.dtype)

    def _alphas(self, e: Tensor, inside: Tensor, start: Tensor, transitions: Tensor) -> list[Tensor]:
        """Return α of each step, (B, C); it stays constant past the length of a row."""
        alphas = [start + e[0]]
        for t in range(1, len(e)):
            score = torch.logsumexp(alphas[-1][:, :, None] + transitions, 1) + e[t]
            alphas.append(torch.where(inside[t, :, None], score, alphas[-1]))
        return alphas


def _inside(emissions: Tensor, lengths: Tensor) -> Tensor:
    """Return whether each step (T, B) is within the length of its row."""
    steps = torch.arange(len(emissions), device=emissions.device)
    return steps[:, None] < lengths.to(emissions.device)


def _cut(emissions: Tensor, inside: Tensor) -> Tensor:
    """Set values past the length of each row to zero, so that they contribute to no gradient."""
    return torch.where(inside[..., None], emissions, 0).double()


def _last(tags: Tensor, lengths: Tensor) -> Tensor:
    """Return the last tag of each row, or the first tag of an empty row."""
    return tags.gather(0, (lengths.to(tags.device) - 1).clamp(min=0)[None])[0]
