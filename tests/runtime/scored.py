"""Models and tables for the tests of scoring."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import gatewise as gw

TEXTS = ["the dog ate the apple", None, "", "it read that unseen book\nthe company said it", "the " * 70]
SENTENCES = ["The dog ate the apple!", None, "", "Everybody, the book"]
REVIEWS = {"review": ["good soup", "bad soup", "a good day", "a bad day"] * 20, "stars": ["yes", "no"] * 40}
TINY_TEXT = {
    "model.embedding_size": 4,
    "model.hidden_size": 6,
    "model.character_embedding_size": 2,
    "model.character_hidden_size": 2,
    "training.epochs": 2,
    "logging.tensorboard": False,
}


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished text classifier."""
    frame = pa.table(REVIEWS)
    out = tmp_path_factory.mktemp("runs") / "text"
    return gw.train("text-classifier", data=frame, out=out, overrides=TINY_TEXT).path


def sequences_of(width: int, count: int = 7, seed: int = 1) -> list[Any]:
    """Rows of 1 to ``count`` steps of ``width`` numbers as nested lists, with a missing and an empty one."""
    draw = np.random.default_rng(seed)
    rows: list[Any] = [draw.normal(size=(steps, width)).round(3).tolist() for steps in range(1, count + 1)]
    return [*rows[:2], None, [], *rows[2:]]
