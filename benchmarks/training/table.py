"""The table of training steps: every recipe in each of our precisions, against PyTorch at its best."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.training.comparison import COMPARISONS, compare_training
from benchmarks.training.made_up import VOCABULARY
from gatewise.bench.harness import RunnerFailed, line_of, row
from gatewise.bench.native import product_rates
from gatewise.config import Config, load_config
from gatewise.training.precision import has_fast_high

PEER_PRECISIONS = ("fp32", "bf16", "bf16 module")
TARGETS: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "ptb-small": {"bf16": (3.5, 1.9), "high": (2.3, None), "fp32": (1.5, 1.4)},
    "ptb-medium": {"bf16": (3.5, 1.4), "high": (2.5, None), "fp32": (1.4, 1.3)},
    "ptb-large": {"bf16": (4.3, 1.9), "high": (3.0, None), "fp32": (1.5, 1.4)},
    "mnist-rows": {"bf16": (2.3, 1.8), "fp32": (None, None)},
    "ewt-upos": {"bf16": (None, None), "fp32": (None, None)},
}
"""Target speedups over PyTorch's training step, with AMX and without: bf16 against its fastest precision, the others
against its fp32. Without AMX, ``high`` is fp32 and is not measured."""
FOLDERS = {"mnist-rows": "mnist", "ewt-upos": "ud_en_ewt"}
"""Where a recipe's data is in a folder of corpora; a language model's data is always synthetic."""
_MEMORY = "0.7 or less"
_PEERS = {how.peer for how in COMPARISONS.values()}

Report = Callable[[str], None]


def bench_training(
    data: Path | None = None,
    *,
    recipes: Sequence[str] = tuple(TARGETS),
    threads: int = 2,
    turns: int = 7,
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Measure every row; each checks cost and gradients before it times them.

    Args:
        data: the folder with the corpora ``mnist`` and ``ud_en_ewt``; defaults to synthetic data.
        recipes: recipes of language models, classifiers and taggers, in order of size within a task.
        threads: threads per program.
        turns: number of timings of each side.
        report: called with a line for each finished row.

    Returns:
        ``rows``: work, what it is compared with, ratio, its range, target, tokens per second and peak memory of both
        sides, and ``share``, that of the machine's own rate of matrix products at our precision (not of a tagger);
        ``product_rates``: those rates, in GFLOP/s.

    Raises:
        OutputsDiffer: a check failed.
    """
    rates, with_amx = product_rates(threads), has_fast_high()
    rows: list[dict[str, Any]] = []
    tried: dict[str, Sequence[str]] = {}
    for recipe in recipes:
        config = load_config(recipe)
        folder = data / FOLDERS[recipe] if data and recipe in FOLDERS else None
        bench = partial(compare_training, recipe, folder, threads=threads)
        before = tried.get(config.task.name, PEER_PRECISIONS)
        peers = tried[config.task.name] = _worth_trying(bench, recipe, before, report) if len(before) > 1 else before
        for precision, targets in TARGETS.get(recipe, {"fp32": (None, None)}).items():
            if precision == "high" and not with_amx:
                continue
            target = targets[0 if with_amx else 1] or ""
            peer = peers[0] if precision == "bf16" else "fp32"
            result = bench(precision=precision, peer_precision=peer, turns=turns)
            ours, theirs = result["ours_seconds"], result["peer_seconds"]
            found = row(f"{recipe}, training step, {precision}", f"PyTorch {peer}", ours, theirs, f"{target}")
            found |= {key: value for key, value in result.items() if key.endswith(("_per_second", "_peak_mib"))}
            if config.task.name != "tagger":
                found["share"] = _operations(config) / min(ours) / 1e9 / rates[precision]
            rows.append(found)
            report(line_of(found))
            if (recipe, precision) == ("ptb-large", "fp32"):
                memory = result["ours_peak_mib"] / result["peer_peak_mib"]
                compared = {"work": f"{recipe}, peak memory", "against": f"PyTorch {peer}", "ratio": memory}
                rows.append({**compared, "ratio_range": [memory, memory], "target": _MEMORY})
                report(line_of(rows[-1]))
    return {"bench": "training", "threads": threads, "product_rates": rates, "rows": rows}


def _worth_trying(bench: Callable[..., dict[str, Any]], recipe: str, tried: Sequence[str], report: Report) -> list[str]:
    """Return the precisions in which PyTorch trains a recipe, the fastest first.

    Precisions that are not supported on this processor are left out, and so are those that take more than twice the
    fastest's time: on a larger recipe, a step in one of them takes minutes.
    """
    seconds: dict[str, float] = {}
    for peer in tried:
        try:
            result = bench(peer_precision=peer, turns=1)
        except RunnerFailed as error:
            if peer == "fp32" or error.runner not in _PEERS:
                raise
            report(f"{recipe}: PyTorch does not train in {peer} here: {error.reason}")
        else:
            seconds[peer] = min(result["peer_seconds"])
            report(f"{recipe}: PyTorch in {peer} takes {seconds[peer]:.3f} s per step")
    fastest_first = sorted(seconds, key=lambda peer: seconds[peer])
    return [peer for peer in fastest_first if seconds[peer] <= 2 * seconds[fastest_first[0]]]


def _operations(config: Config) -> float:
    """Count the floating-point operations of a step's matrix products: one forward, two backward."""
    H, B, layers = config.model.hidden_size, config.data.batch_size, config.model.num_layers
    if config.task.name == "language-model":
        tokens, inputs, decoder = B * config.data.tbptt_length, config.model.embedding_size or H, H * VOCABULARY
    else:
        tokens, inputs, decoder = 28 * B, 28, 0  # images of 28 rows of 28 numbers
    return 6.0 * tokens * (4 * H * (inputs + H) + (layers - 1) * 4 * H * 2 * H + decoder)
