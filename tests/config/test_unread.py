"""A key that means nothing to a task is refused, not passed over."""

import pytest

from gatewise.config import load_config
from gatewise.config.schema import Config, For


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        ("demo", "data.max_sentences", 3),
        ("demo", "training.lr_decay_on_rise", 0.5),
        ("demo", "model.bidirectional", True),
        ("comments-scratch", "training.max_steps", 5),
        ("mnist-rows", "data.tbptt_length", 7),
        ("mnist-rows", "model.output", "crf"),
    ],
)
def test_a_changed_key_that_the_task_does_not_read_is_named(recipe: str, key: str, value: object) -> None:
    config = load_config(recipe, {key: value})
    assert str(config.unread()).startswith(f"{key} is {value!r}; a {config.task.name} does not read it")
    assert load_config(recipe).unread() is None


def test_every_mark_names_tasks_that_there_are() -> None:
    tasks = set(Config.model_fields["task"].annotation.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]
    marks = [
        (section, name, mark.tasks)
        for section, part in Config()
        for name, field in type(part).model_fields.items()
        for mark in field.metadata
        if isinstance(mark, For)
    ]
    assert len(marks) > 30
    assert all(set(named) < tasks for _, _, named in marks)
