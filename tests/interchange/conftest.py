"""A language model as PyTorch's example has it, and the files around it."""

from pathlib import Path

import pytest

from tests.interchange.rig import WORDS


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """The words of the model, one a line."""
    path = tmp_path / "vocabulary.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text with known words and one that is not."""
    path = tmp_path / "text.txt"
    path.write_text("the w1 w2\nw3 the zzz\n" * 20, encoding="utf-8")
    return path
