"""LSTM, GRU and RNN layers against PyTorch's modules, as ``gatewise bench native`` times them."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from timeit import timeit
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatewise.bench.harness import TOLERANCE, agree, in_turns, line_of, row
from gatewise.config import ModelConfig
from gatewise.engines import engine_named, why_not
from gatewise.models.language_model import LanguageModel
from gatewise.nn import GRU, LSTM, RNN, linear_cross_entropy
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary
from gatewise.spec import CELLS

EVALUATED, PROMPT = (20, 20, 200), (1000, 1, 200)
PLAIN = ((20, 20, 200), (35, 20, 256), (35, 20, 650), (100, 32, 256))
RAGGED = ((100, 32, 256), (500, 32, 256))
SECONDS_A_TURN = 1.5
VOCABULARY = 10_000

Run = Callable[[], list[Tensor]]
"""Does the work once; returns the tensors that must agree."""


@dataclass(frozen=True)
class Round:
    """One row of the table: two programs with the same work."""

    work: str
    cell: str
    shape: tuple[int, int, int]
    ours: dict[str, Run]
    """Programs by precision; the fastest is measured."""
    peer: dict[str, Run]
    target: str
    against: str = ""
    """The other program, if it is not PyTorch's module."""


def bench_layers(
    engine: str = "auto",
    threads: int = 0,
    turns: int = 5,
    report: Callable[[str], None] = lambda line: None,
    rates: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Check outputs and every gradient, then time both in turns; the input size equals the hidden size.

    *plain*: forward and backward of one layer over a full batch. *ragged*: the same with lengths drawn uniformly from 1
    to T, ``lengths=`` against ``pack_padded_sequence`` and back (the rows are sorted, which is PyTorch's fastest case).
    For these, the native engine and PyTorch are each tried in fp32 and bf16 and measured in the faster one. *traced*:
    our forward pass that returns every gate and state, against our plain one. *threads*: ours with all threads against
    one. *loss*: our loss over a vocabulary of 10,000 without gradients, against forward and backward, for each
    available engine. *prompt*: a two-layer language model samples one word after T words, against reading the same
    words with all their logits.

    Args:
        engine: our engine.
        threads: PyTorch's threads; 0 uses its default.
        turns: number of timings of each, of about 1.5 seconds.
        report: called with a line for each finished row.
        rates: the machine's matrix products in GFLOP/s by precision, for the share that plain passes reach.

    Returns:
        The rows: work, what it is compared with, the milliseconds of both sides (median), their ratio (median over the
        turns of peer / ours; of *traced* the inverse, traced / plain) and its range, the target, and the precision of
        both sides; of plain passes, ``share``.

    Raises:
        OutputsDiffer: a check failed; that row is not timed.
    """
    if threads:
        torch.set_num_threads(threads)
    rows = []
    for comparison in _rounds(engine_named(engine).name, torch.get_num_threads()):
        precision, peer_precision = _fastest(comparison.ours), _fastest(comparison.peer)
        _check(comparison, precision, peer_precision)
        programs = {"ours": comparison.ours[precision], "peer": comparison.peer[peer_precision]}
        sides = {name: lambda steps, run=run: timeit(run, number=steps) for name, run in programs.items()}
        _, seconds = in_turns(sides, turns, SECONDS_A_TURN)
        T, B, H = comparison.shape
        work, against = f"{comparison.work} {comparison.cell} T={T} B={B} H={H}", comparison.against
        if not against:
            work, against = f"{work}, {precision}", f"PyTorch {peer_precision}"
        found = row(work, against, seconds["ours"], seconds["peer"], comparison.target)
        if rates and comparison.work == "plain":
            gates = len(CELLS[comparison.cell.lower().replace("rnn", "rnn_tanh")].gates)
            operations = 3 * 2 * 2 * gates * T * B * H**2
            found["share"] = operations / found["ours_ms"] / 1e6 / rates[precision]
        rows.append({**found, "precision": precision, "peer_precision": peer_precision})
        report(line_of(found))
    return rows


def numbered_words(size: int) -> Vocabulary:
    """Return a vocabulary of a given size, with numbered words."""
    return Vocabulary([EOS, UNK, *(f"w{k}" for k in range(size - 2))])


TARGETS = {
    "native, AMX": {"plain LSTM": "2 or more", "plain": "5 or more", "ragged": "8 or more", "traced": "1.12 or less"},
    "native": {"plain LSTM": "1.2 or more", "plain": "1.5 or more", "ragged": "5 or more", "traced": "1.12 or less"},
    "torch": {"plain LSTM": "0.97 or more", "plain": "0.97 or more", "ragged": "2 or more", "traced": "2.2 or less"},
}
"""Target ratios of each engine, of the native one with AMX and without."""


def _rounds(engine: str, threads: int) -> Iterator[Round]:
    target = TARGETS.get(
        "native, AMX" if engine_named(engine).fast_high(torch.device("cpu")) else engine, TARGETS["torch"]
    )
    cells = ((LSTM, nn.LSTM), (GRU, nn.GRU), (RNN, nn.RNN))
    for shape in PLAIN:
        for own, theirs in cells:
            aim = target["plain LSTM" if own is LSTM else "plain"]
            yield _against_pytorch("plain", engine, own, theirs, shape, None, aim)
    for T, B, H in RAGGED:
        lengths = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(1)).sort(descending=True)[0]
        for own, theirs in cells:
            yield _against_pytorch("ragged", engine, own, theirs, (T, B, H), lengths, target["ragged"])
    for shape in PLAIN:
        for own in (LSTM, GRU):
            yield _traced(engine, own, shape, target["traced"])
    for name in ("native", "torch"):
        if why_not(name) is None:
            yield _loss(name, EVALUATED)
    yield _prompt(engine, PROMPT)
    if threads > 1 and engine == "native":
        for shape in PLAIN:
            yield _on_threads(engine, shape, threads)


def _against_pytorch(
    work: str, engine: str, own: Any, theirs: Any, shape: tuple[int, int, int], lengths: Tensor | None, target: str
) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    a, b = own(H, H, engine=engine), theirs(H, H)
    b.load_state_dict(a.state_dict())
    x, dy = torch.randn(T, B, H), torch.randn(T, B, H)
    if lengths is not None:
        dy = dy * (torch.arange(T)[:, None] < lengths)[..., None]

    def pass_of(module: nn.Module, x: Tensor) -> Tensor:
        if module is a:
            y: Tensor = module(x, lengths=lengths)[0]
        elif lengths is None:
            y = module(x)[0]
        else:
            y = pad_packed_sequence(module(pack_padded_sequence(x, lengths))[0], total_length=T)[0]
        return y

    def step(module: nn.Module, precision: str = "fp32") -> Run:
        if precision == "bf16 module":
            module = copy.deepcopy(module).bfloat16()
        dtype = next(module.parameters()).dtype
        at, upstream = x.detach().to(dtype).requires_grad_(), dy.to(dtype)

        def forward() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return pass_of(module, at)

        return lambda: _step(module, at, upstream, forward)

    ours = {precision: step(a, precision) for precision in (("fp32", "bf16") if engine == "native" else ("fp32",))}
    peers = ("fp32", "bf16", "bf16 module") if engine == "native" else ("fp32",)
    return Round(work, own.__name__, shape, ours, {peer: step(b, peer) for peer in peers}, target)


def _step(module: nn.Module, x: Tensor, dy: Tensor, run: Callable[[], Tensor]) -> list[Tensor]:
    """Run forward and backward; return the output and every gradient."""
    x.grad = None
    module.zero_grad()
    y = run()
    torch.autograd.backward(y, dy)
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def _on_threads(engine: str, shape: tuple[int, int, int], threads: int) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    module, x, dy = LSTM(H, H, engine=engine), torch.randn(T, B, H, requires_grad=True), torch.randn(T, B, H)

    def run(count: int) -> list[Tensor]:
        torch.set_num_threads(count)
        try:
            return _step(module, x, dy, lambda: module(x)[0])
        finally:
            torch.set_num_threads(threads)

    ours, peer = {"fp32": lambda: run(threads)}, {"fp32": lambda: run(1)}
    target = "1.7 or more" if H == 200 else "1.8 or more"
    return Round("threads", "LSTM", shape, ours, peer, target, "ours, one thread")


def _traced(engine: str, own: Any, shape: tuple[int, int, int], target: str) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    module, x = own(H, H, engine=engine), torch.randn(T, B, H)
    names = ("i", "f", "g", "o", "c", "h") if own is LSTM else ("r", "z", "n", "h")

    def run(trace: tuple[str, ...]) -> list[Tensor]:
        with torch.no_grad():
            return [module(x, trace=trace)[0]]

    plain, traced = {"fp32": lambda: run(())}, {"fp32": lambda: run(names)}
    return Round("traced", own.__name__, shape, plain, traced, target, "ours, plain")


def _loss(engine: str, shape: tuple[int, int, int]) -> Round:
    T, B, H = shape
    torch.manual_seed(1)
    x, weight = (torch.randn(n, H, requires_grad=True) for n in (T * B, VOCABULARY))
    bias, targets = torch.zeros(VOCABULARY, requires_grad=True), torch.randint(VOCABULARY, (T * B,))

    def run(gradients: bool) -> list[Tensor]:
        for t in (x, weight, bias):
            t.grad = None
        with torch.set_grad_enabled(gradients):
            nll = linear_cross_entropy(x, weight, bias, targets, engine=engine)
        if gradients:
            torch.autograd.backward(nll)
        return [nll.detach()]

    ours, peer = {"fp32": lambda: run(False)}, {"fp32": lambda: run(True)}
    return Round("loss", engine, shape, ours, peer, "2 or more", "ours, with gradients")


def _prompt(engine: str, shape: tuple[int, int, int]) -> Round:
    T, _, H = shape
    words = numbered_words(VOCABULARY)
    config = ModelConfig(hidden_size=H, num_layers=2, init_scale=0.1)
    model = LanguageModel(config, words, torch.Generator().manual_seed(1), engine).eval()
    ids = torch.randint(2, VOCABULARY, (T,), generator=torch.Generator().manual_seed(2)).tolist()
    prompt, read = words.decode(ids), torch.tensor([words.eos_id, *ids])[:, None]

    def draw() -> list[Tensor]:
        *_, word = model.generate(prompt, max_tokens=1, temperature=0).split()
        return [torch.tensor(words.ids[word])]

    def with_all_logits() -> list[Tensor]:
        with torch.no_grad():
            return [model(read, model.initial_state())[0][-1, 0].argmax()]

    ours, peer = {"fp32": draw}, {"fp32": with_all_logits}
    return Round("prompt", "LSTM", shape, ours, peer, "1.5 or more", "ours, with all logits")


def _fastest(sides: dict[str, Run]) -> str:
    """Return the precision in which a side is fastest, ignoring those that it does not support here.

    A precision whose first pass takes over five times as long as another's is not run again, as it may take minutes.
    """
    seconds: dict[str, float] = {}
    for precision, run in sides.items():
        try:
            seconds[precision] = timeit(run, number=1)
        except RuntimeError:  # raised by PyTorch for unsupported precisions
            if precision == "fp32":
                raise
    if len(seconds) > 1:
        near = [precision for precision in seconds if seconds[precision] <= 5 * min(seconds.values())]
        seconds = {precision: timeit(sides[precision], number=3) for precision in near}
    return min(seconds, key=lambda precision: seconds[precision])


def _check(comparison: Round, precision: str, peer_precision: str) -> None:
    sides = comparison.ours[precision](), comparison.peer[peer_precision]()
    ours, peer = ({f"output or gradient {k}": tensor for k, tensor in enumerate(side)} for side in sides)
    tolerance = max(TOLERANCE[precision], TOLERANCE[peer_precision])
    agree(ours, peer, tolerance, f"{comparison.work} {comparison.cell} {comparison.shape}")
