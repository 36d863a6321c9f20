"""``gatewise bench streaming``: one step of a language model at batch size 1, against ONNX Runtime and PyTorch."""

from collections.abc import Callable
from statistics import median
from timeit import Timer
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatewise.bench.harness import agree, in_turns, line_of, ratios, row
from gatewise.bench.layers import VOCABULARY, numbered_words
from gatewise.bench.streaming_peers import Step, onnxruntime_step, pytorch_step, refuse_without_onnxruntime
from gatewise.config import ModelConfig
from gatewise.models.language_model import LanguageModel
from gatewise.runtime.model_file import STORED

SIZES = (200, 650, 1500)
SECONDS_A_TURN = 2.0
TARGETS = {"int8": ("2.5", "3.0", "3.3"), "bf16": ("1.5", "1.5", "1.5")}
"""Target speedups over ONNX Runtime's step in fp32, by the weights and the size."""
_LAYERS, _TOKEN = 2, 7
# Sums in another order, and with int8 weights activations of 16 bits; relative to the largest entry, after some steps.
_TOLERANCE, _CHECKED = 1e-4, 4


def bench_streaming(
    *, threads: int = 2, turns: int = 5, report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Check logits and states after a few steps, then time all sides in turns: two LSTM layers and the output layer.

    Our side is ``LanguageModel.stream().step``. Each side uses one thread or ``threads``, whichever is faster.
    ``memory`` is the part of our step that reading memory takes: the same threads read the same weights in the same
    turns.

    Args:
        threads: maximum number of threads per side.
        turns: number of timings of each, of about 2 seconds for the slowest side.
        report: called with a line for each finished row.

    Returns:
        ``rows``: work, weights, peer, threads of both sides, their milliseconds (median), ratio (median over the turns
        of peer / ours) and its range, the target (empty if there is none), memory, and ``gigabytes_per_second`` read.

    Raises:
        OutputsDiffer: a check failed; that size is not timed.
        UsageError: ONNX Runtime is not installed.
    """
    refuse_without_onnxruntime()
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        for H in SIZES:
            for found in _bench_size(H, threads, turns):
                rows.append(found)
                report(line_of(found))
    finally:
        torch.set_num_threads(before)
    return {"bench": "streaming", "threads": threads, "rows": rows}


class Side(NamedTuple):
    """A step on a number of threads."""

    threads: int
    step: Callable[[], object]

    def run(self, steps: int) -> float:
        """Do steps after some warm-up steps, as the side before may have used other threads; return their seconds."""
        torch.set_num_threads(self.threads)
        return Timer(self.step, lambda: [self.step() for _ in range(1 + steps // 8)]).timeit(steps)


def _bench_size(H: int, threads: int, turns: int) -> list[dict[str, Any]]:
    model, counts = drawn_model(H), sorted({1, threads})
    targets = {weights: dict(zip(SIZES, each, strict=False)).get(H, "") for weights, each in TARGETS.items()}
    streams = {weights: model.stream(weights) for weights in reversed(STORED)}
    sides: dict[str, Side] = {}
    for weights, stream in streams.items():
        _check(f"H={H}, {weights} weights", _ours(model, weights), pytorch_step(stored_as(model, weights), _TOKEN))
        sides[weights] = faster([Side(n, _ours(model, weights)) for n in counts])
        sides[f"{weights} read"] = Side(sides[weights].threads, stream.read)
    _check(f"H={H}, ONNX Runtime", onnxruntime_step(model, _TOKEN, 1), pytorch_step(model, _TOKEN))
    sides["ONNX Runtime fp32"] = faster([Side(n, onnxruntime_step(model, _TOKEN, n)) for n in counts])
    sides["PyTorch fp32"] = faster([Side(n, pytorch_step(model, _TOKEN)) for n in counts])
    _, seconds = in_turns({name: side.run for name, side in sides.items()}, turns, SECONDS_A_TURN)
    return [
        row(
            f"one step, batch 1, H={H}, {weights} weights",
            peer,
            seconds[weights],
            seconds[peer],
            targets.get(weights, "") if peer == "ONNX Runtime fp32" else "",
            weights=weights,
            ours_threads=sides[weights].threads,
            peer_threads=sides[peer].threads,
            memory=ratios(seconds[weights], seconds[f"{weights} read"])["ratio"],
            gigabytes_per_second=stream.bytes / median(seconds[f"{weights} read"]) / 1e9,
        )
        for weights, stream in streams.items()
        for peer in ("ONNX Runtime fp32", "PyTorch fp32")
    ]


def faster(sides: list[Side]) -> Side:
    """Return the faster of sides that differ in their threads."""
    return min(sides, key=lambda side: side.run(50) if len(sides) > 1 else 0.0)


def drawn_model(H: int) -> LanguageModel:
    """Return the model of size H that is timed."""
    config = ModelConfig(hidden_size=H, num_layers=_LAYERS, init_scale=0.1)
    return LanguageModel(config, numbered_words(VOCABULARY), torch.Generator().manual_seed(1)).eval()


@torch.no_grad()
def stored_as(model: LanguageModel, weights: str) -> LanguageModel:
    """Return a copy with weights rounded as they are stored."""
    rounded = LanguageModel(model.config, model.vocabulary).eval()
    for name, p in rounded.named_parameters():
        given = model.get_parameter(name)
        p.copy_(_ROUNDED[weights](given) if "weight" in name else given)
    return rounded


def _of_int8(weight: Tensor) -> Tensor:
    """Round each row to multiples of 1/127 of its largest entry."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round() * scale


_ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {"fp32": Tensor.float, "bf16": Tensor.bfloat16, "int8": _of_int8}


def _ours(model: LanguageModel, weights: str) -> Step:
    stream, state, ids = model.stream(weights), model.initial_state(), torch.tensor([_TOKEN])

    def step() -> list[Tensor]:
        nonlocal state
        logits, state = stream.step(ids, state)
        return [logits, *state]

    return step


def _check(what: str, ours: Step, expected: Step) -> None:
    for _ in range(_CHECKED):
        found, wanted = ({f"part {k}": part for k, part in enumerate(_flat(side()))} for side in (ours, expected))
        agree(found, wanted, _TOLERANCE, f"{what}, logits and states")


def _flat(parts: list[Tensor]) -> list[Tensor]:
    """Return the logits, and each layer's h and c, regardless of their grouping."""
    return [row for part in parts for row in part.reshape(-1, part.shape[-1])]
