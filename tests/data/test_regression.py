"""What is settled when the data of a regressor is opened."""

from pathlib import Path

import numpy as np
import pytest

from gatewise.config import DataConfig
from gatewise.data.regression import open_parts

MONTHS = np.arange(144)
SEASON = 1 + 0.2 * np.sin(MONTHS * np.pi / 6)


def opened(folder: Path, values: np.ndarray, **settings: object) -> DataConfig:
    """Open monthly values, and return the settings with every choice made."""
    dates = np.datetime64("1949-01") + np.arange(len(values))
    lines = [f"{date},{value:.3f}" for date, value in zip(dates, values, strict=True)]
    (folder / "sales.csv").write_text("\n".join(["month,sales", *lines, ""]))
    usual = {"window": "auto", "season": "auto", "relative": "auto"}
    chosen = DataConfig.model_validate({"path": str(folder / "sales.csv"), **usual, **settings})
    return open_parts(chosen)[1].settings


@pytest.mark.parametrize("horizon", [1, 3, 12])
def test_a_trend_is_seen_at_every_horizon(tmp_path: Path, horizon: int) -> None:
    """The steps of the training targets count once each, however many windows predict them."""
    assert opened(tmp_path, 120 * 1.008**MONTHS * SEASON, horizon=horizon).relative is True
    assert opened(tmp_path, 300 * SEASON, horizon=horizon).relative is False
