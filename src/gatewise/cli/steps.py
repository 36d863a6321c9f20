"""The table of a forecaster's errors by step of the horizon, beside its baselines and the coverage of its intervals."""

from collections.abc import Mapping
from typing import Any

_COLUMNS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "persistence_rmse": "persistence",
    "seasonal_naive_rmse": "seasonal naive",
    "coverage_90": "in 90% interval",
}
"""The metrics shown, and their headings; the baselines are root mean squared errors."""
_MOST = 8
"""The largest number of steps shown."""


def step_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the table of a series' evaluation, nothing for other evaluations; of many steps, evenly spaced ones."""
    names = [name for name in _COLUMNS if name in figures]
    if "persistence_rmse" not in names:
        return []
    steps = [int(key.removeprefix("rmse_step_")) for key in figures if key.startswith("rmse_step_")]
    if len(steps) > _MOST:
        steps = [steps[round(k * (len(steps) - 1) / (_MOST - 1))] for k in range(_MOST)]
    rows = [["step", *(_COLUMNS[name] for name in names)]]
    rows += [[str(step), *(_shown(name, figures.get(f"{name}_step_{step}")) for name in names)] for step in steps]
    rows += [["all" if steps else "1", *(_shown(name, figures[name]) for name in names)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(field.rjust(width) for field, width in zip(row, widths, strict=True)) for row in rows]
    filled = figures.get("filled_steps")
    return table + ([f"steps with filled values: {filled:,}; read, but not scored"] if filled else [])


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if name.startswith("coverage") else f"{value:.4g}"
