"""Read 8x8 digits row by row, and show the model's prediction after each row."""

import numpy as np
from sklearn.datasets import load_digits

import gatewise as gw

run = gw.train("digits-rows", overrides={"training.epochs": 12})
print(f"test accuracy {run.metrics['test_accuracy']:.1%}")

digits = gw.load(run.path)
images, labels = load_digits().images[-4:], load_digits().target[-4:]
x = np.float32(images / 16)  # (4, 8, 8): images, rows, numbers in 0..1
for image, label, verdict, over_time in zip(
    images, labels, digits.predict(x), np.asarray(digits.predict_proba_over_time(x)), strict=True
):
    print(f"\na {label}, read as {verdict}")
    for row, shares in zip(image, over_time, strict=True):
        best = shares.argmax()
        print("  " + "".join(" .:oO@"[int(pixel / 16 * 5)] for pixel in row), f"  {best} ({shares[best]:.0%})")
