"""Classify the sentences of CSV files into two classes."""

import csv
import random
from pathlib import Path

import gatewise as gw

PRAISE, BLAME = ["good", "great", "lovely", "fresh"], ["bad", "awful", "bland", "cold"]
draw = random.Random(1)


def sentence() -> tuple[str, str]:
    """Draw a sentence and its label; "not" inverts the label, so word order matters."""
    word, turned = draw.choice(PRAISE + BLAME), draw.random() < 0.5
    label = "praise" if (word in PRAISE) != turned else "blame"
    return f"the {draw.choice(['soup', 'bread', 'coffee'])} was {'not ' if turned else ''}{word}", label


folder = Path("reviews")
folder.mkdir(exist_ok=True)
for part, count in (("train", 400), ("valid", 60), ("test", 60)):
    with (folder / f"reviews.{part}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *(sentence() for _ in range(count))])

small = {
    "model.character_encoder": "none",
    "model.embedding_size": 16,
    "model.hidden_size": 16,
    "model.dropout": 0.0,
    "model.word_dropout": 0.0,
    "training.learning_rate": 0.02,
    "training.epochs": 15,
    "training.lr_decay": 1.0,
    "training.average_decay": 0.0,
}
run = gw.train("ewt-genre", data=folder, overrides=small)
print(
    f"test accuracy {run.metrics['test_accuracy']:.1%}; logistic regression on word counts, which ignore order: "
    f"{run.metrics['logistic_regression_test_accuracy']:.1%}"
)

model = gw.load(run.path)
texts = ["the soup was lovely", "the soup was not lovely", "the bread was not cold"]
for text, label in zip(texts, model.predict(texts), strict=True):
    print(f"{label:7} {text}")
