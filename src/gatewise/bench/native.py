"""``gatewise bench native``: all comparisons of the native engine with its peers, in one command."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gatewise.bench.language_model import VOCABULARY, bench_language_model
from gatewise.bench.recurrent import bench_recurrent
from gatewise.bench.rows import RECIPE as ROWS_RECIPE
from gatewise.bench.rows import bench_rows
from gatewise.bench.runners import RunnerFailed
from gatewise.bench.streaming import bench_streaming
from gatewise.bench.streaming_peers import refuse_without_onnxruntime
from gatewise.bench.tagger import RECIPE as TAGGER_RECIPE
from gatewise.bench.tagger import bench_tagger
from gatewise.config import Config, load_config
from gatewise.engines.native.module import product_rate

PEER_PRECISIONS = ("fp32", "bf16", "bf16 module")
TARGETS = {
    "ptb-small": {"bf16": 3.0, "high": 1.5, "fp32": 1.4},
    "ptb-medium": {"bf16": 4.5, "high": 3.0, "fp32": 1.3},
    "ptb-large": {"bf16": 5.0, "high": 3.5, "fp32": 1.5},
}
"""Target speedups over PyTorch's training step: bf16 against its fastest precision, the others against its fp32."""
_PEER = "_pytorch"  # suffix of the peers' modules
_TASKS, _MEMORY = 2.5, 0.7


def bench_native(
    data: Path | None = None, *, threads: int = 2, turns: int = 7, report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure every row; each checks its outputs before it times them.

    Args:
        data: the folder with the corpora ``mnist`` and ``ud_en_ewt``; defaults to synthetic data.
        threads: threads per program.
        turns: number of timings of each side.
        report: called with a line for each finished row.

    Returns:
        ``rows``: work, what it is compared with, ratio, its range, target (if any), and, for matrix products, the share
        of the machine's own rate at our precision that ours reached; ``product_rates``: those rates, in GFLOP/s.

    Raises:
        OutputsDiffer: a check failed.
        UsageError: ONNX Runtime is not installed.
    """
    refuse_without_onnxruntime()
    torch.set_num_threads(threads)
    rates = {precision: product_rate(threads, precision) for precision in ("fp32", "high", "bf16")}
    rows: list[dict[str, Any]] = []

    def add(work: str, against: str, ratio: float, between: list[float], target: str, **others: Any) -> None:
        row = {"work": work, "against": against, "ratio": ratio, "ratio_range": between, "target": target, **others}
        rows.append(row)
        share = f"  {row['share']:.0%} of the machine's products" if "share" in row else ""
        low, high = between
        report(f"{work:<38}{against:<26}{ratio:>7.2f} ({low:.2f} to {high:.2f}; target {target or 'none'}){share}")

    def add_comparison(work: str, against: str, result: dict[str, Any], target: str, **others: Any) -> None:
        ratios = [p / o for o, p in zip(result["ours_seconds"], result["peer_seconds"], strict=True)]
        add(work, against, result["ratio"], [min(ratios), max(ratios)], target, **others)

    tried: Sequence[str] = PEER_PRECISIONS
    for recipe, targets in TARGETS.items():  # in order of size
        if len(tried) > 1:
            tried = _worth_trying(partial(bench_language_model, recipe, threads=threads), recipe, tried, report)
        for precision, target in targets.items():
            peer = tried[0] if precision == "bf16" else "fp32"
            result = bench_language_model(
                recipe, precision=precision, peer_precision=peer, threads=threads, turns=turns
            )
            share = _language_model_operations(recipe) / min(result["ours_seconds"]) / 1e9 / rates[precision]
            add_comparison(f"{recipe}, training step, {precision}", f"PyTorch {peer}", result, f"{target}", share=share)
            if recipe == "ptb-large" and precision == "fp32":
                memory = result["ours_peak_mib"] / result["peer_peak_mib"]
                add(f"{recipe}, peak memory", f"PyTorch {peer}", memory, [memory, memory], f"{_MEMORY} or less")
    for row in bench_recurrent("native", threads, turns):
        other = {
            "traced": "ours, plain",
            "threads": "ours, one thread",
            "loss": "ours, with gradients",
            "prompt": "ours, with all logits",
        }.get(row["work"])
        against = other or f"PyTorch {row['peer_precision']}"
        machine: dict[str, float] = {}
        if row["work"] == "plain":
            gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[row["cell"]]
            operations = 3 * 2 * 2 * gates * row["T"] * row["B"] * row["H"] ** 2
            machine = {"share": operations / row["ours_ms"] / 1e6 / rates[row["precision"]]}
        shape = f"T={row['T']} B={row['B']} H={row['H']}"
        if not other:
            shape += f", {row['precision']}"
        add(f"{row['work']} {row['cell']} {shape}", against, row["ratio"], row["ratio_range"], row["target"], **machine)
    for row in bench_streaming(threads=threads, turns=turns)["rows"]:
        add(row["work"], row["against"], row["ratio"], row["ratio_range"], row["target"], memory=row["share"])
    tasks: dict[str, Callable[..., dict[str, Any]]] = {
        ROWS_RECIPE: partial(bench_rows, data and data / "mnist", threads=threads),
        TAGGER_RECIPE: partial(bench_tagger, data and data / "ud_en_ewt", threads=threads),
    }
    for recipe, bench in tasks.items():
        fastest = _worth_trying(bench, recipe, PEER_PRECISIONS, report)[0]
        for precision, peer in (("bf16", fastest), ("fp32", "fp32")):
            result = bench(precision=precision, peer_precision=peer, turns=turns)
            machine = {}
            if recipe == ROWS_RECIPE:
                machine["share"] = _rows_operations() / min(result["ours_seconds"]) / 1e9 / rates[precision]
            add_comparison(f"{recipe}, training step, {precision}", f"PyTorch {peer}", result, f"{_TASKS}", **machine)
    return {"bench": "native", "threads": threads, "product_rates": rates, "rows": rows, "torch": torch.__version__}


def _worth_trying(
    bench: Callable[..., dict[str, Any]], recipe: str, precisions: Sequence[str], report: Callable[[str], None]
) -> list[str]:
    """Return the precisions in which PyTorch trains a recipe, the fastest first.

    Precisions that are not supported on this processor are left out, and so are those that take more than twice the
    fastest's time: on a larger recipe, a step in one of them takes minutes.
    """
    seconds: dict[str, float] = {}
    for peer in precisions:
        try:
            result = bench(peer_precision=peer, turns=1)
        except RunnerFailed as error:
            if peer == "fp32" or not error.module.endswith(_PEER):
                raise
            report(f"{recipe}: PyTorch does not train in {peer} here: {error.reason}")
        else:
            seconds[peer] = min(result["peer_seconds"])
            report(f"{recipe}: PyTorch in {peer} takes {seconds[peer]:.3f} s per step")
    fastest_first = sorted(seconds, key=lambda peer: seconds[peer])
    return [peer for peer in fastest_first if seconds[peer] <= 2 * seconds[fastest_first[0]]]


def _language_model_operations(recipe: str) -> float:
    """Count the floating-point operations of a step's matrix products: one forward, two backward."""
    config = load_config(recipe)
    words, H = config.data.batch_size * config.data.tbptt_length, config.model.hidden_size
    return 6.0 * words * (_layer_weights(config, config.model.embedding_size or H) + H * VOCABULARY)


def _rows_operations() -> float:
    """Count the floating-point operations of ``mnist-rows``, whose images have 28 rows of 28 numbers."""
    config = load_config(ROWS_RECIPE)
    return 6.0 * config.data.batch_size * 28 * _layer_weights(config, 28)


def _layer_weights(config: Config, inputs: int) -> int:
    """Count the numbers in W_ih and W_hh of all layers, for one direction."""
    H = config.model.hidden_size
    return 4 * H * (inputs + H) + (config.model.num_layers - 1) * 4 * H * 2 * H
