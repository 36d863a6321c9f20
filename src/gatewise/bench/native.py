"""``gatewise bench native``: the native engine's layers, loss and single steps against their peers, in one command."""

from collections.abc import Callable
from typing import Any

import torch

from gatewise.bench.layers import bench_layers
from gatewise.bench.streaming import bench_streaming
from gatewise.bench.streaming_peers import refuse_without_onnxruntime
from gatewise.engines.native.module import product_rate, why_not_built
from gatewise.errors import UsageError


def bench_native(
    *, threads: int = 2, turns: int = 7, report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure every row; each checks its outputs before it times them.

    Args:
        threads: threads per side.
        turns: number of timings of each side.
        report: called with a line for each finished row.

    Returns:
        ``rows``: those of ``bench_layers`` and ``bench_streaming``; ``share`` of a plain pass is that of the machine's
        own rate of matrix products at our precision; ``product_rates``: those rates, in GFLOP/s.

    Raises:
        OutputsDiffer: a check failed.
        UsageError: the native engine was not built, or ONNX Runtime is not installed.
    """
    refuse_without_onnxruntime()
    rates = product_rates(threads)
    rows = bench_layers("native", threads, turns, report, rates)
    rows += bench_streaming(threads=threads, turns=turns, report=report)["rows"]
    return {"bench": "native", "threads": threads, "product_rates": rates, "rows": rows}


def product_rates(threads: int) -> dict[str, float]:
    """Set PyTorch's threads, and measure the machine's rate of matrix products at each precision, in GFLOP/s.

    Raises:
        UsageError: the native engine was not built.
    """
    if reason := why_not_built():
        raise UsageError(f"the native engine is not available: {reason}")
    torch.set_num_threads(threads)
    return {precision: product_rate(threads, precision) for precision in ("fp32", "high", "bf16")}
