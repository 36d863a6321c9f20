"""What a token is follows from the text."""

import pytest

from gatewise.runtime.level import choose_level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("The dog ate it, all of it! Why?", "prose"),
        ("the dog ate it , all of it ! why ?", "word"),
        ("no punctuation at all", "word"),
        ("今天天气很好，我们去公园吧。", "character"),
        ("今天 天气 很 好 ， 我们 去 公园 吧 。", "word"),
        ("きょうはとてもいい天気です", "character"),
        ("Он ушёл, но вернулся.", "prose"),
        ("", "word"),
    ],
)
def test_level(text: str, level: str) -> None:
    assert choose_level([text])[0] == level
