"""The corpus that is always at hand: prose, each paragraph once, and enough of it."""

import hashlib
from pathlib import Path

import pytest

from gatewise.data.python_docs import prose_paragraphs, python_docs_corpus, split_paragraphs
from gatewise.data.text import SPLITS, TextCorpus, read_lines


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextCorpus:
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path))
    return python_docs_corpus()


def test_prose() -> None:
    for paragraph in prose_paragraphs():
        tokens = paragraph.split(" ")
        assert len(tokens) >= 8 and "\n" not in paragraph and paragraph == paragraph.lower()
        assert "" not in tokens and tokens[-1] in (".", ":", ")")
        assert sum(token[0].isalpha() for token in tokens) >= 0.6 * len(tokens)


def test_no_paragraph_comes_twice() -> None:
    paragraphs = prose_paragraphs()
    assert len(set(paragraphs)) == len(paragraphs) > 500
    assert prose_paragraphs() == paragraphs


def test_parts_depend_on_the_paragraph_alone() -> None:
    paragraphs = [f"paragraph {k}" for k in range(1000)]
    parts = split_paragraphs(paragraphs)
    assert sorted(line for lines in parts.values() for line in lines) == sorted(paragraphs)
    backwards = split_paragraphs(paragraphs[::-1])
    assert {name: set(lines) for name, lines in parts.items()} == {name: set(v) for name, v in backwards.items()}
    assert 750 <= len(parts["train"]) <= 850 and 70 <= len(parts["valid"]) <= 130 and 70 <= len(parts["test"]) <= 130


def test_parts_share_nothing(corpus: TextCorpus) -> None:
    train, valid, test = (set(read_lines(corpus.split(name))) for name in SPLITS)
    assert not train & valid and not train & test and not valid & test
    assert train | valid | test == set(prose_paragraphs())


def test_enough_tokens(corpus: TextCorpus) -> None:
    counts = {name: sum(len(line.split()) + 1 for line in read_lines(corpus.split(name))) for name in SPLITS}
    assert counts["train"] >= 30_000 and counts["valid"] >= 3_000 and counts["test"] >= 3_000


def test_written_once_and_mended(corpus: TextCorpus, tmp_path: Path) -> None:
    assert tmp_path in corpus.train.parents
    digests = {name: hashlib.sha256(corpus.split(name).read_bytes()).hexdigest() for name in SPLITS}
    times = {name: corpus.split(name).stat().st_mtime_ns for name in SPLITS}
    corpus.valid.write_text("cut sho")
    assert python_docs_corpus() == corpus
    assert {name: hashlib.sha256(corpus.split(name).read_bytes()).hexdigest() for name in SPLITS} == digests
    assert corpus.train.stat().st_mtime_ns == times["train"]
    assert sorted(path.name for path in corpus.train.parent.iterdir()) == sorted(
        f"python-docs.{name}.txt" for name in SPLITS
    )
