"""A corpus without a download: the language reference that ships with CPython."""

import hashlib
import os
import re

from gatewise.data.text import TextCorpus
from gatewise.data.token_cache import cache_folder

_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def python_docs_corpus() -> TextCorpus:
    """Extract the English prose of ``pydoc_data.topics`` to three text files in the cache folder, and return them.

    Duplicate paragraphs, grammar, code and tables are dropped; punctuation is split from words; the text is
    lower-cased. A hash of each paragraph assigns 80% to train, 10% to valid and 10% to test, so the split does not
    depend on the order of the topics. The text differs slightly between Python versions.
    """
    parts = split_paragraphs(prose_paragraphs())
    text = {name: "".join(line + "\n" for line in lines) for name, lines in parts.items()}
    digest = hashlib.sha256("\0".join(text.values()).encode()).hexdigest()[:16]
    folder = cache_folder() / "corpora" / f"python-docs-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in text.items():
        target = folder / f"python-docs.{name}.txt"
        if not target.is_file() or target.read_text(encoding="utf-8") != content:
            beside = target.with_suffix(f".{os.getpid()}.part")
            beside.write_text(content, encoding="utf-8", newline="\n")
            os.replace(beside, target)
    return TextCorpus.from_folder(folder)


def prose_paragraphs() -> list[str]:
    """Return the prose paragraphs of the language reference, tokens joined by spaces, without duplicates."""
    from pydoc_data import topics

    seen: dict[str, None] = {}
    for topic in sorted(topics.topics):
        for block in re.split(r"\n\s*\n", topics.topics[topic]):
            text = re.sub(r"^(?:[*+-]|\d+\.)\s+", "", " ".join(block.split()))
            if not (text[:1].isupper() and text.endswith((".", ":", ")"))):
                continue  # a heading, grammar, code or a table
            tokens = _TOKEN.findall(text.lower())
            words = sum(token[0].isalpha() for token in tokens)
            if len(tokens) >= 8 and words >= 0.6 * len(tokens):
                seen.setdefault(" ".join(tokens))
    return list(seen)


def split_paragraphs(paragraphs: list[str]) -> dict[str, list[str]]:
    """Split paragraphs into train (80%), valid and test (10% each) by their hashes."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for paragraph in paragraphs:
        place = int(hashlib.sha256(paragraph.encode()).hexdigest(), 16) % 10
        parts["valid" if place == 0 else "test" if place == 1 else "train"].append(paragraph)
    return parts
