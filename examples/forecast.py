"""Forecast the next value of a noisy wave, read from a CSV file, and compare with persistence ("no change")."""

import math
import random
from pathlib import Path

import gatewise as gw

draw = random.Random(1)
wave = [10 + 3 * math.sin(step / 5) + draw.gauss(0, 0.2) for step in range(400)]
Path("wave.csv").write_text("level\n" + "".join(f"{value:.3f}\n" for value in wave), encoding="utf-8")

run = gw.train(
    "sunspots",
    data="wave.csv",
    overrides={"data.columns": ["level"], "data.window": 20, "data.test_size": 60, "training.max_steps": 300},
)
same = math.sqrt(sum((b - a) ** 2 for a, b in zip(wave[-61:-1], wave[-60:], strict=True)) / 60)
print(f"RMSE of the last 60 values: model {run.metrics['test_rmse']:.2f}, persistence {same:.2f}, noise 0.20")
