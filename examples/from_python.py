"""Train on a data frame and on arrays, without any file, and cross-validate with scikit-learn."""

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_score

import gatewise as gw
from gatewise.sklearn import SequenceClassifier

draw = np.random.default_rng(1)

# A table with a row per day: the temperature follows the sun of the day before.
sun = draw.uniform(0, 10, 400)
frame = pd.DataFrame({"sun": sun, "temperature": 10 + np.roll(sun, 1)}, index=pd.date_range("2024-01-01", periods=400))
settings = {"data.target": "temperature", "data.window": 5, "model.hidden_size": 16, "training.epochs": 20}
run = gw.train("forecaster", data=frame, overrides=settings)
print(f"RMSE {run.metrics['test_rmse']:.2f} °C, persistence {run.metrics['persistence_test_rmse']:.2f} °C")
print(f"{len(run.history)} epochs, the best was {run.metrics['best_epoch']}; data kept in {run.path / 'data'}")

# Sequences (N, T, I): which of two signals rises?
rises = draw.integers(0, 2, 120)
signals = draw.normal(0, 1, (120, 20, 2))
signals[np.arange(120), :, rises] += np.linspace(0, 2, 20)
model = SequenceClassifier(hidden_size=16, epochs=10, learning_rate=0.02, random_state=1)
print(f"accuracy in 3 folds: {cross_val_score(model, signals, rises, cv=3).round(2)}")
