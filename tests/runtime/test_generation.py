"""The loop that continues a text, with a model whose logits are given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gatewise.errors import NotFinite
from gatewise.runtime.generation import generate, most_probable, perplexity
from gatewise.runtime.vocabulary import BOS, EOS, UNK, Vocabulary

GREEDY: dict[str, Any] = {"temperature": 0.0, "top_k": None, "top_p": None, "seed": None}


class Script:
    """A model that wants to say some words, one after the other, and <bos> even more; it notes what happens."""

    def __init__(self, vocabulary: Vocabulary, words: Sequence[str]) -> None:
        self.vocabulary, self.words, self.seen = vocabulary, list(words), list[str]()

    def read(self, ids: Sequence[int]) -> None:
        self.seen += [f"({self.vocabulary.tokens[index]})" for index in ids]

    def step(self, last: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
        self.seen.append(self.vocabulary.tokens[last])
        logits = np.zeros(len(self.vocabulary), np.float32)
        logits[self.vocabulary.ids[self.words.pop(0)]] = 1
        if self.vocabulary.bos_id is not None:
            logits[self.vocabulary.bos_id] = 2
        return logits

    def restart(self) -> None:
        self.seen.append("restart")


def said(prompt: str | None, words: str, *, start: bool, continues: bool = False) -> tuple[str, str]:
    """What is generated, and what the model saw."""
    vocabulary = Vocabulary(["a", "b", "c", EOS, UNK, BOS], "prose" if start else "word", start)
    script = Script(vocabulary, words.split())
    text = generate(vocabulary, prompt, lambda: script, max_tokens=len(words.split()), continues=continues, **GREEDY)
    return text, " ".join(script.seen)


def test_a_text_goes_on_over_the_ends_of_lines() -> None:
    assert said(None, "a <eos> b c", start=False) == ("a\nb c", "<eos> a <eos> b")
    assert said("c a", "b <eos> c", start=False) == ("c a b\nc", "(<eos>) (c) a b <eos>")
    assert said("c\na", "<eos> b", start=False) == ("c\na\nb", "(<eos>) (c) (<eos>) a <eos>")


def test_sentences_start_anew_and_their_start_is_never_said() -> None:
    assert said(None, "a <eos> b <eos>", start=True) == ("a\nb\n", "<bos> a restart <bos> b restart")
    assert said("a b! c", "b <eos>", start=True) == ("a b! c b\n", "(<bos>) c b restart")


def test_a_state_goes_on_without_a_start_and_reads_all_that_is_said() -> None:
    assert said("c a", "b c", start=False, continues=True) == ("c a b c", "(c) a b (c)")
    assert said("c", "b <eos>", start=False, continues=True) == ("c b\n", "c b (<eos>)")
    assert said(None, "a b", start=False, continues=True) == ("a b", "<eos> a (b)")
    assert said("c a", "b <eos>", start=True, continues=True) == ("c a b\n", "(c) a b restart")
    assert said("c! a", "b c", start=True, continues=True) == ("c! a b c", "restart (<bos>) a b (c)")


def test_the_most_probable_tokens_come_first_and_of_equal_ones_the_lowest_id() -> None:
    vocabulary = Vocabulary(["a", EOS, UNK, "b"])
    assert most_probable(vocabulary, np.array([0.2, 0.3, 0.2, 0.3]), 3) == [(EOS, 0.3), ("b", 0.3), ("a", 0.2)]
    with pytest.raises(NotFinite, match="the probabilities of the next token are not finite"):
        most_probable(vocabulary, np.array([0.2, np.nan, 0.2, 0.3]), 3)


def test_the_perplexity_is_that_of_all_scored_tokens() -> None:
    vocabulary = Vocabulary(["a", EOS, UNK, "b"])
    read = list[list[int]]()

    def nll_of(rows: Sequence[Sequence[int]]) -> float:
        read.extend(map(list, rows))
        return sum(2.0 * (len(row) - 1) for row in rows)

    assert perplexity(vocabulary, ["a b", "b", "a x b"], nll_of) == pytest.approx(np.exp(2))
    assert sorted(read) == sorted([[1, 0, 3, 1], [1, 3, 1], [1, 0, 2, 3, 1]])
    with pytest.raises(NotFinite, match="the probabilities of these texts"):
        perplexity(vocabulary, ["a"], lambda rows: 1e6)
