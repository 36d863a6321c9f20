"""``gatewise bench streaming``: one step of a language model at batch size 1, against ONNX Runtime and PyTorch."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gatewise.bench.language_model import VOCABULARY
from gatewise.bench.streaming_peers import Step, onnxruntime_step, pytorch_step, refuse_without_onnxruntime
from gatewise.bench.training import OutputsDiffer
from gatewise.config import ModelConfig
from gatewise.models.language_model import LanguageModel
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary

SIZES = (200, 650, 1500)
TARGET = 1.5
"""Target speedup over ONNX Runtime's step, with bf16 weights."""
_LAYERS, _TOKEN = 2, 7
# fp32 sums in another order; relative to the largest entry, after a few steps.
_TOLERANCE, _CHECKED = 1e-4, 4
_SECONDS_A_TURN = 0.4


def bench_streaming(
    *, threads: int = 2, turns: int = 5, report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Check logits and states after a few steps, then time all sides in turns: two LSTM layers and the output layer.

    Our side is ``LanguageModel.stream().step``. Each side uses one thread or ``threads``, whichever is faster.
    ``share`` is the part of our step that reading memory takes: the same threads read the same weights in the same
    turns.

    Args:
        threads: maximum number of threads per side.
        turns: number of timings of each, of about 0.4 seconds.
        report: called with a line for each finished row.

    Returns:
        ``rows``: work, weights, H, peer, threads of both sides, their microseconds (median), ratio (median over the
        turns of peer / ours) and its range, the target (empty if there is none), share, and ``gigabytes_per_second``
        read.

    Raises:
        OutputsDiffer: a check failed; that size is not timed.
        UsageError: ONNX Runtime is not installed.
    """
    refuse_without_onnxruntime()
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        for H in SIZES:
            for row in _bench_size(H, threads, turns):
                rows.append(row)
                report(line_of(row))
    finally:
        torch.set_num_threads(before)
    return {"bench": "streaming", "threads": threads, "rows": rows, "torch": torch.__version__}


def line_of(row: dict[str, Any]) -> str:
    """Format one row as a line of text."""
    low, high = row["ratio_range"]
    return (
        f"H={row['H']:<6}{row['weights']:<6}{row['ours_us']:>9,.0f} us{row['against']:>20}{row['peer_us']:>9,.0f} us"
        f"{row['ratio']:>8.2f} ({low:.2f} to {high:.2f}; target {row['target'] or 'none'})"
        f"{row['share']:>7.0%} of {row['gigabytes_per_second']:.0f} GB/s"
    )


def _bench_size(H: int, threads: int, turns: int) -> list[dict[str, Any]]:
    model, counts = _model(H), sorted({1, threads})
    streams = {weights: model.stream(weights) for weights in ("bf16", "fp32")}
    sides: dict[str, tuple[int, Callable[[], object]]] = {}
    for weights, stream in streams.items():
        _check(f"H={H}, {weights} weights", _ours(model, weights), pytorch_step(_stored(model, weights), _TOKEN))
        sides[weights] = _faster([(n, _ours(model, weights)) for n in counts])
        sides[f"{weights} read"] = sides[weights][0], stream.read
    _check(f"H={H}, ONNX Runtime", onnxruntime_step(model, _TOKEN, 1), pytorch_step(model, _TOKEN))
    sides["ONNX Runtime fp32"] = _faster([(n, onnxruntime_step(model, _TOKEN, n)) for n in counts])
    sides["PyTorch fp32"] = _faster([(n, pytorch_step(model, _TOKEN)) for n in counts])
    seconds = _in_turns(sides, turns)
    rows = []
    for weights, stream in streams.items():
        for peer in ("ONNX Runtime fp32", "PyTorch fp32"):
            ratios = [p / o for o, p in zip(seconds[weights], seconds[peer], strict=True)]
            shares = [r / o for o, r in zip(seconds[weights], seconds[f"{weights} read"], strict=True)]
            rows.append(
                {
                    "work": f"one step, batch 1, H={H}, {weights} weights",
                    "weights": weights,
                    "H": H,
                    "against": peer,
                    "ours_threads": sides[weights][0],
                    "peer_threads": sides[peer][0],
                    "ours_us": 1e6 * median(seconds[weights]),
                    "peer_us": 1e6 * median(seconds[peer]),
                    "ratio": median(ratios),
                    "ratio_range": [min(ratios), max(ratios)],
                    "target": f"{TARGET}" if (weights, peer) == ("bf16", "ONNX Runtime fp32") else "",
                    "share": median(shares),
                    "gigabytes_per_second": stream.bytes / median(seconds[f"{weights} read"]) / 1e9,
                }
            )
    return rows


def _model(H: int) -> LanguageModel:
    words = Vocabulary([EOS, UNK, *(f"w{k}" for k in range(VOCABULARY - 2))])
    config = ModelConfig(hidden_size=H, num_layers=_LAYERS, init_scale=0.1)
    return LanguageModel(config, words, torch.Generator().manual_seed(1)).eval()


@torch.no_grad()
def _stored(model: LanguageModel, weights: str) -> LanguageModel:
    """Return the model itself, or a copy with weights rounded to bfloat16."""
    if weights == "fp32":
        return model
    rounded = LanguageModel(model.config, model.vocabulary).eval()
    for name, p in rounded.named_parameters():
        given = model.get_parameter(name)
        p.copy_(given.bfloat16() if "weight" in name else given)
    return rounded


def _ours(model: LanguageModel, weights: str) -> Step:
    stream, state, ids = model.stream(weights), model.initial_state(), torch.tensor([_TOKEN])

    def step() -> list[Tensor]:
        nonlocal state
        logits, state = stream.step(ids, state)
        return [logits, *state]

    return step


def _check(what: str, ours: Step, expected: Step) -> None:
    for _ in range(_CHECKED):
        found, wanted = ours(), expected()
        for k, (a, b) in enumerate(zip(_flat(found), _flat(wanted), strict=True)):
            gap = float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
            if not gap <= _TOLERANCE:
                raise OutputsDiffer(
                    f"{what}: part {k} of logits and states differs by {gap:.2e} of its largest entry; expected at "
                    f"most {_TOLERANCE}; nothing is timed"
                )


def _flat(parts: list[Tensor]) -> list[Tensor]:
    """Return the logits, and each layer's h and c, regardless of their grouping."""
    return [row for part in parts for row in part.reshape(-1, part.shape[-1])]


def _in_turns(sides: dict[str, tuple[int, Callable[[], object]]], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each side's step, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name, side in sides.items() if turn % 2 == 0 else reversed(sides.items()):
            seconds[name].append(_time(side))
    return seconds


def _faster(sides: list[tuple[int, Step]]) -> tuple[int, Callable[[], object]]:
    return min(sides, key=_time)


def _time(side: tuple[int, Callable[[], object]]) -> float:
    """Return the seconds per step, after some warm-up steps."""
    threads, step = side
    torch.set_num_threads(threads)
    steps, began = 0, time.perf_counter()
    while steps < 2 or time.perf_counter() - began < _SECONDS_A_TURN / 8:
        step()
        steps += 1
    steps, began = 7 * steps, time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps
