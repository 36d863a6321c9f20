"""Entities in tagged sentences: the spans of ``B-``, ``I-`` and related tags, and how many of them are found."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_TAG = re.compile(r"O|[BIESLUM]-.+", re.DOTALL)
_SINGLE, _LAST = ("B", "S", "U"), ("E", "L", "S", "U")

Span = tuple[int, int, str]
"""First word, the word after the last one, and the type."""


def marks_entities(tags: Sequence[str]) -> bool:
    """Return whether tags mark entities: ``O``, and ``B-TYPE``, ``I-TYPE`` or those of BIOES and BILOU."""
    return "O" in tags and len(tags) > 1 and all(map(_TAG.fullmatch, tags))


def entities(tags: Sequence[str]) -> Iterator[Span]:
    """Yield the entities of a sentence.

    As in the evaluation of CoNLL-2000 (Tjong Kim Sang and Buchholz 2000), an entity also begins with an inside tag that
    continues none, so that any sequence of tags has a meaning, and IOB1, IOB2, BIOES and BILOU are read alike.
    """
    start, kind, before = -1, "", "O"
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if start >= 0 and (mark in ("O", *_SINGLE) or name != kind or before in _LAST):
            yield start, place, kind
            start = -1
        if start < 0 and mark != "O":
            start, kind = place, name
        before = mark


def entity_figures(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, float | int | None]:
    """Compare the entities of sentences; one counts as found if its words and its type agree.

    ``precision = correct / found``, ``recall = correct / expected``, ``F1 = 2 correct / (found + expected)``; None
    where the denominator is zero.

    Args:
        expected: the tags of each sentence.
        found: the predicted tags of each sentence.

    Returns:
        ``entity_precision, entity_recall, entity_f1, entities`` (expected), then ``entity_f1_TYPE`` and
        ``entities_TYPE`` for each type, the most frequent first.
    """
    right, there, given = Counter[str](), Counter[str](), Counter[str]()
    for own, predicted in zip(expected, found, strict=True):
        one, other = set(entities(own)), set(entities(predicted))
        for counter, spans in ((right, one & other), (there, one), (given, other)):
            counter.update(kind for _, _, kind in spans)
    correct, wanted, answered = right.total(), there.total(), given.total()
    figures: dict[str, float | int | None] = {
        "entity_precision": correct / answered if answered else None,
        "entity_recall": correct / wanted if wanted else None,
        "entity_f1": 2 * correct / (wanted + answered) if wanted + answered else None,
        "entities": wanted,
    }
    for kind in sorted({*there, *given}, key=lambda kind: (-there[kind], kind)):
        figures[f"entity_f1_{kind}"] = 2 * right[kind] / (there[kind] + given[kind])
        figures[f"entities_{kind}"] = there[kind]
    return figures
