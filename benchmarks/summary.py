"""Saves the metrics of finished runs as one JSON file: ``python -m benchmarks.summary OUT.json RUN...``.

For several runs (seeds), each metric is a list in the order of the runs, and ``METRIC_mean`` is its mean; for one run,
each is as in the last line of its ``metrics.jsonl``. The runs' metrics are copied next to the JSON file, as
``OUT-seedN.jsonl``.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from gatewise.artifact.run_folder import RunFolder
from gatewise.bench.harness import circumstances

SAME = ("test_tokens", "test_data_hash", "test_oov_rate")
"""Metrics of the data, which are the same for every seed."""


def summarise(runs: list[RunFolder]) -> dict[str, Any]:
    """Return the metrics of one run, or of several with their means."""
    finals = [run.read_metrics()[-1] for run in runs]
    configs = [run.read_config() for run in runs]
    lines = [run.read_metrics()[:-1] for run in runs]
    minutes = [sum(line["seconds"] for line in part) / 60 for part in lines]
    seeds = [config.training.seed for config in configs]
    known = {**circumstances(" ".join(["python -m benchmarks.summary", *sys.argv[1:]])), "task": configs[0].task.name}
    if len(runs) == 1:
        return {**known, "seed": seeds[0], "training_minutes": round(minutes[0], 2), **finals[0]}
    figures: dict[str, Any] = {**known, "seeds": seeds, "training_minutes": [round(m, 2) for m in minutes]}
    for key, first in finals[0].items():
        if key in SAME or not isinstance(first, int | float):
            figures[key] = first
        else:
            figures[key] = [final[key] for final in finals]
            if not key.startswith("best_"):
                figures[f"{key}_mean"] = sum(figures[key]) / len(runs)
    return figures


def main() -> None:
    """Read the runs; write the summary and the metrics."""
    out, runs = Path(sys.argv[1]), [RunFolder.existing(path) for path in sys.argv[2:]]
    out.write_text(json.dumps(summarise(runs), indent=2) + "\n", encoding="utf-8")
    for run in runs:
        shutil.copy(run.metrics_file, out.with_name(f"{out.stem}-seed{run.read_config().training.seed}.jsonl"))


if __name__ == "__main__":
    main()
