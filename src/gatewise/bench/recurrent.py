"""``gatewise bench recurrent``: our LSTM and GRU against PyTorch's modules, layer for layer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatewise.bench.training import OutputsDiffer
from gatewise.nn import GRU, LSTM

PLAIN = ((20, 20, 200), (35, 20, 650), (100, 32, 256))
RAGGED = ((100, 32, 256), (500, 32, 256))
# fp32 sums of the same numbers in another order: of the largest entry.
_TOLERANCE = 1e-4
_SECONDS_A_TURN = 1.5


@dataclass(frozen=True)
class Round:
    """One row of the table: two programs at the same work."""

    work: str
    cell: str
    shape: tuple[int, int, int]
    ours: Callable[[], list[Tensor]]
    """Does the work once; returns what must agree."""
    peer: Callable[[], list[Tensor]]
    target: str


def bench_recurrent(threads: int = 0, turns: int = 5, report: Callable[[str], None] = lambda line: None) -> list[Any]:
    """Check outputs and every gradient, then time both in turns; input size = hidden size, float32.

    *plain*: forward and backward of one layer over a full batch. *ragged*: the same with lengths drawn uniform in 1 to
    T, ``lengths=`` against ``pack_padded_sequence`` and back (the rows sorted beforehand, which PyTorch likes best).
    *traced*: a forward pass of ours that returns every gate and state, against our plain one.

    Args:
        threads: PyTorch's threads; its own choice where 0.
        turns: how often each is timed, for about 1.5 seconds.
        report: given a line on each finished row.

    Returns:
        For each row: work, cell, T, B, H, milliseconds of both sides (median), their ratio (median over the turns of
        peer / ours; of *traced* the other way round, traced / plain), its smallest and largest, and the target.

    Raises:
        OutputsDiffer: the check failed; that row is not timed.
    """
    if threads:
        torch.set_num_threads(threads)
    rows = []
    for duel in _rounds():
        _check(duel)
        ours, peer = _in_turns(duel, turns)
        pairs = list(zip(ours, peer, strict=True))
        ratios = [p / o for o, p in pairs]
        T, B, H = duel.shape
        row = {
            "work": duel.work,
            "cell": duel.cell,
            "T": T,
            "B": B,
            "H": H,
            "ours_ms": 1e3 * median(ours),
            "peer_ms": 1e3 * median(peer),
            "ratio": median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "target": duel.target,
        }
        rows.append(row)
        report(line_of(row))
    return rows


def line_of(row: dict[str, Any]) -> str:
    """Return one row as a line of text."""
    low, high = row["ratio_range"]
    shape = f"T={row['T']} B={row['B']} H={row['H']}"
    return (
        f"{row['work']:<8}{row['cell']:<6}{shape:<20}{row['ours_ms']:>10.2f} ms{row['peer_ms']:>10.2f} ms"
        f"{row['ratio']:>8.3f} ({low:.3f} to {high:.3f}; target {row['target']})"
    )


def _rounds() -> Iterator[Round]:
    for T, B, H in PLAIN:
        yield _against_pytorch("plain", LSTM, nn.LSTM, (T, B, H), None, "0.97 or more")
        yield _against_pytorch("plain", GRU, nn.GRU, (T, B, H), None, "0.97 or more")
    for T, B, H in RAGGED:
        lengths = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(1)).sort(descending=True)[0]
        yield _against_pytorch("ragged", LSTM, nn.LSTM, (T, B, H), lengths, "2 or more")
        yield _against_pytorch("ragged", GRU, nn.GRU, (T, B, H), lengths, "2 or more")
    for T, B, H in PLAIN:
        yield _traced(LSTM, (T, B, H))
        yield _traced(GRU, (T, B, H))


def _against_pytorch(
    work: str, own: Any, theirs: Any, shape: tuple[int, int, int], lengths: Tensor | None, target: str
) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    a, b = own(H, H, engine="torch"), theirs(H, H)
    b.load_state_dict(a.state_dict())
    x, dy = torch.randn(T, B, H, requires_grad=True), torch.randn(T, B, H)
    if lengths is not None:
        dy = dy * (torch.arange(T)[:, None] < lengths)[..., None]

    def step(module: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
        x.grad = None
        module.zero_grad()
        y = run()
        torch.autograd.backward(y, dy)
        assert x.grad is not None
        return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]

    def packed() -> Tensor:
        assert lengths is not None
        y, _ = b(pack_padded_sequence(x, lengths))
        return pad_packed_sequence(y, total_length=T)[0]

    return Round(
        work,
        own.__name__,
        shape,
        lambda: step(a, lambda: a(x, lengths=lengths)[0]),
        lambda: step(b, (lambda: b(x)[0]) if lengths is None else packed),
        target,
    )


def _traced(own: Any, shape: tuple[int, int, int]) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    module, x = own(H, H, engine="torch"), torch.randn(T, B, H)
    names = ("i", "f", "g", "o", "c", "h") if own is LSTM else ("r", "z", "n", "h")

    def run(trace: tuple[str, ...]) -> list[Tensor]:
        with torch.no_grad():
            return [module(x, trace=trace)[0]]

    return Round("traced", own.__name__, shape, lambda: run(()), lambda: run(names), "2.2 or less")


def _check(duel: Round) -> None:
    for k, (ours, peer) in enumerate(zip(duel.ours(), duel.peer(), strict=True)):
        gap = float((ours - peer).abs().max() / peer.abs().max().clamp(min=1e-12))
        if not gap <= _TOLERANCE:
            raise OutputsDiffer(
                f"{duel.work} {duel.cell} {duel.shape}: output or gradient {k} differs by {gap:.2e} of its largest "
                f"entry; expected at most {_TOLERANCE}; nothing is timed"
            )


def _in_turns(duel: Round, turns: int) -> tuple[list[float], list[float]]:
    """Return seconds a pass of both sides, turn by turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    once = max(_time(duel.ours, 2), _time(duel.peer, 2))
    passes = max(1, round(_SECONDS_A_TURN / once))
    for _ in range(turns):
        for side, run in zip(seconds, (duel.ours, duel.peer), strict=True):
            side.append(_time(run, passes))
    return seconds


def _time(run: Callable[[], list[Tensor]], passes: int) -> float:
    began = time.perf_counter()
    for _ in range(passes):
        run()
    return (time.perf_counter() - began) / passes
