"""The corpus that is always at hand: the language reference that every CPython carries."""

import hashlib
import os
import re

from gatewise.data.text import TextCorpus
from gatewise.data.token_cache import cache_folder

_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def python_docs_corpus() -> TextCorpus:
    """Write the English prose of ``pydoc_data.topics`` as three text files in the cache folder, and return them.

    Paragraphs are taken once each; grammar, code and tables are left out; punctuation is split from words; the text
    is lower-cased. Of ten paragraphs eight go to train, one to valid and one to test, by a hash of the paragraph, so
    that the parts do not depend on the order of the topics. The text differs a little between versions of Python.
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
    """Return the prose paragraphs of the language reference, tokens joined by spaces, without repeats."""
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
    """Deal paragraphs into train (8 of 10), valid and test by a hash of each."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for paragraph in paragraphs:
        place = int(hashlib.sha256(paragraph.encode()).hexdigest(), 16) % 10
        parts["valid" if place == 0 else "test" if place == 1 else "train"].append(paragraph)
    return parts
