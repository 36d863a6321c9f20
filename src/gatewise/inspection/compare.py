"""``gatewise compare``: runs beside each other, with their metrics and the settings in which they differ."""

from collections.abc import Sequence
from typing import Any

from gatewise.config.tasks import BASELINES, PERPLEXITY, TASKS
from gatewise.inspection.runs import FinishedRun, describe

_NOT_COMPARED = ("data.path", "data.train_file", "data.valid_file", "data.test_file", "runtime.threads")


def compare(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return a row for each run.

    Returns:
        Rows with the same keys, None where a run lacks the value: ``run, task, model``; ``epochs``, ``best_epoch`` and
        ``seconds`` (of training); the metric at the best evaluation, such as ``valid_accuracy``; the test metrics and
        those of the baselines, if the run is finished; where it differs, ``test_data``, the first digits of the test
        data's hash; then, if all runs have one task, each setting in which they differ, by dotted key.

    Raises:
        RunError: a run folder is damaged.
    """
    rows = [_row(run) for run in runs]
    hashes = [row.pop("data", None) for row in rows]
    if len(set(hashes)) > 1:
        for row, each in zip(rows, hashes, strict=True):
            row["test_data"] = each
    settings = [{f"{s}.{k}": v for s, part in run.config for k, v in part} for run in runs]
    for key, first in settings[0].items():
        if key in _NOT_COMPARED or len({row["task"] for row in rows}) > 1:
            continue
        if any(each[key] != first for each in settings):
            for row, each in zip(rows, settings, strict=True):
                row[key] = each[key]
    keys = dict.fromkeys(key for row in rows for key in row)
    figures = [key for key in keys if "." not in key]
    ordered = [*figures, *(key for key in keys if "." in key)]
    return [{key: row.get(key) for key in ordered} for row in rows]


def _row(run: FinishedRun) -> dict[str, Any]:
    task = run.config.task.name
    history = run.folder.read_history(task)
    row: dict[str, Any] = {"run": run.name, "task": task, "model": describe(run.config)}
    lines = history.evaluations
    if not lines:
        return {**row, "epochs": 0}
    metric, key = TASKS[task].metric, TASKS[task].evaluated
    final = history.final or {}
    known = [line for line in lines if line[key] is not None]
    best = min(known, key=lambda line: metric.to_minimize(line[key])) if known else lines[-1]
    if final:
        step = final.get("best_step")
        best = next(line for line in lines if (line["epoch"], line.get("step")) == (final["best_epoch"], step))
    row |= {"epochs": lines[-1]["epoch"], "best_epoch": best["epoch"], key: best[key]}
    row |= {name: value for name, value in final.items() if name in (f"test_{metric.name}", "test_macro_f1")}
    row |= {name: value for name, value in final.items() if name in ("test_entity_f1", "test_mae")}
    ends = (*BASELINES, f"_test_{PERPLEXITY.name}")
    row |= {name: value for name, value in final.items() if name.endswith(ends)}
    row["data"] = str(final["test_data_hash"])[:12] if "test_data_hash" in final else None
    row["seconds"] = round(sum(line["seconds"] for line in lines if isinstance(line.get("seconds"), int | float)), 1)
    return row
