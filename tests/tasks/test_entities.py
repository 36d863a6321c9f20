"""Entities in tagged sentences: what each notation means, and the figures by hand."""

import pytest

from gatewise.tasks.entities import entities, entity_figures, marks_entities


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER I-PER I-LOC O", [(0, 2, "PER"), (2, 3, "LOC")]),
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("O I-PER B-PER I-PER", [(1, 2, "PER"), (2, 4, "PER")]),
        ("B-PER I-PER E-PER S-LOC", [(0, 3, "PER"), (3, 4, "LOC")]),
        ("E-PER I-PER O", [(0, 1, "PER"), (1, 2, "PER")]),
        ("B-PER L-PER U-PER U-PER", [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "PER")]),
        ("B-of-work I-of-work", [(0, 2, "of-work")]),
        ("", []),
    ],
)
def test_the_entities_of_a_sentence(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert list(entities(tags.split())) == expected


def test_the_figures_by_hand() -> None:
    """Of three people and a place, two people are found; one is cut short, and a place is found that is none."""
    own = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O", "B-PER", "I-PER"]]
    found = [["B-PER", "I-PER", "O", "O"], ["B-PER", "B-LOC", "B-PER", "O"]]
    assert entity_figures(own, found) == {
        "entity_precision": 2 / 4,
        "entity_recall": 2 / 4,
        "entity_f1": 2 / 4,
        "entities": 4,
        "entity_f1_PER": 2 / 3,
        "entities_PER": 3,
        "entity_f1_LOC": 0,
        "entities_LOC": 1,
    }
    nothing = entity_figures([["O"]], [["O"]])
    assert nothing == {"entity_precision": None, "entity_recall": None, "entity_f1": None, "entities": 0}


@pytest.mark.parametrize(
    ("tags", "marks"),
    [
        (["B-PER", "I-PER", "O"], True),
        (["O", "S-X"], True),
        (["B-PER", "I-PER"], False),
        (["O"], False),
        (["DET", "NOUN", "O"], False),
        (["O", "B-PER", "X"], False),
        (["O", "B-"], False),
    ],
)
def test_which_tags_mark_entities(tags: list[str], marks: bool) -> None:
    assert marks_entities(tags) == marks
