"""Text is split and encoded as the ``tokenizers`` library does from the same file: corpora, Chinese, random strings."""

import os
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.normalizers import Replace

from gatewise.data.tagged import read_conllu
from gatewise.data.text import SPLITS, TextCorpus, read_lines
from gatewise.data.tokenizer_file import lexicon_json, vocabulary_json
from gatewise.runtime.characters import as_classed, lower
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.prose import split_as_written, split_words
from gatewise.runtime.vocabulary import Vocabulary, split_tokens
from tests.conftest import REPOSITORY, real_data

LEVELS = ["word", "character", "prose"]
STRINGS = int(os.environ.get("GATEWISE_RANDOM_STRINGS", "5000"))
"""How many random strings are tried; the complete test has 100,000."""

STRIKING = [*"ab.,'-@:/_+<>\"12 ²½İıΣςſKß’‘“”\u0301\r\t\x0b\x1c\x85\u2028\u200d"]
STRIKING += ["https://", "Mr.", "inc.", "İNC.", "u.s.", "...", "1.5", "A@b.c", "ΑΣ "]


@cache
def assigned() -> dict[str, list[str]]:
    """All characters but the line feed that are assigned both to this Python and to ``tokenizers``, by category."""
    whole = "".join(map(chr, [*range(10), *range(11, 0xD800), *range(0xE000, 0x110000)]))
    categories: dict[str, list[str]] = {}
    for letter in Replace(Regex(r"\p{Cn}"), "").normalize_str(whole):
        if (category := unicodedata.category(letter)) != "Cn":
            categories.setdefault(category, []).append(letter)
    return categories


def random_strings(count: int) -> list[str]:
    """Return strings of 1 to 24 pieces: a character of a random category, or one that the rules treat specially."""
    draw = random.Random(0)
    categories = [assigned()[name] for name in sorted(assigned())]
    return [
        "".join(
            draw.choice(STRIKING) if draw.random() < 0.5 else draw.choice(draw.choice(categories))
            for _ in range(draw.randint(1, 24))
        )
        for _ in range(count)
    ]


def assert_equal_ids(lines: Sequence[str], level: str) -> None:
    """Compare the ids of lines, all of whose tokens are in the vocabulary, so that equal ids mean equal tokens."""
    vocabulary = Vocabulary.from_lines(lines, level)
    tokenizer = Tokenizer.from_str(vocabulary_json(vocabulary))
    for line, expected in zip(lines, tokenizer.encode_batch_fast(lines), strict=True):
        assert vocabulary.encode_line(line) == expected.ids, ascii(line)


def assert_equal_words(words: Iterable[str], lowercase: bool) -> None:
    """The same for words that are already split."""
    words = sorted(set(words))
    lexicon = Lexicon.from_tokens(words, lowercase=lowercase)
    encoded = Tokenizer.from_str(lexicon_json(lexicon)).encode_batch_fast(words)
    for word, index, expected in zip(words, lexicon.encode(words), encoded, strict=True):
        assert [index] == expected.ids, ascii(word)


@pytest.mark.parametrize("level", LEVELS)
def test_random_strings(level: str) -> None:
    assert_equal_ids(random_strings(STRINGS), level)


@pytest.mark.parametrize("lowercase", [False, True])
def test_random_words(lowercase: bool) -> None:
    assert_equal_words(random_strings(STRINGS), lowercase)


@pytest.mark.parametrize("level", LEVELS)
def test_every_character(level: str) -> None:
    """Alone, between letters, between digits, three times, in an abbreviation, before a title."""
    letters = [letter for category in assigned().values() for letter in category]
    step = max(1, 100_000 // STRINGS)
    chosen = letters[::step] + STRIKING
    assert_equal_ids([f"{c} a{c}b 1{c}2 {c}{c}{c} a.{c}. {c}mr. x@{c}.{c}" for c in chosen], level)


def test_words_as_written_have_the_boundaries_of_prose() -> None:
    for text in random_strings(STRINGS):
        quoted = [lower(word).translate(str.maketrans("‘’“”", "''\"\"")) for word in split_as_written(text)]
        assert quoted == split_words(text), ascii(text)


def test_classes_keep_what_is_different_different() -> None:
    marks = "".join(assigned()["No"])
    assert len(set(as_classed(marks))) == len(marks) == len(as_classed(marks * 2)) // 2
    assert not re.search(r"[\w\s]", as_classed(marks + "\x1c"))


@pytest.mark.parametrize(("level", "splits"), [("word", SPLITS), ("character", ["test"]), ("prose", ["test"])])
def test_penn_treebank(level: str, splits: Sequence[str]) -> None:
    corpus = TextCorpus.from_folder(real_data("ptb"))
    assert_equal_ids([line for split in splits for line in read_lines(corpus.split(split))], level)


def test_web_treebank() -> None:
    """Its words and characters as a tagger reads them, its text as prose."""
    folder = real_data("ud_en_ewt")
    sentences = [sentence for path in sorted(folder.glob("*.conllu")) for sentence in read_conllu(path)]
    words = {word for sentence in sentences for word in sentence.words}
    assert len(words) > 20_000
    assert_equal_words(words, lowercase=True)
    assert_equal_words(words, lowercase=False)
    assert_equal_words({letter for word in words for letter in word}, lowercase=False)
    texts = [text for path in sorted(folder.glob("*.conllu")) for text in re.findall("# text = (.*)", path.read_text())]
    assert_equal_ids(texts, "prose")


@pytest.mark.parametrize("level", LEVELS)
def test_chinese(level: str) -> None:
    """The documentation in Chinese, and with ideographic space and marks as white space and punctuation."""
    pages = sorted((REPOSITORY / "docs").rglob("*.zh.md"))
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").split("\n")]
    assert sum(unicodedata.category(letter) == "Lo" for line in lines for letter in line) > 10_000
    assert_equal_ids(
        [*lines, "循环\u3000神经网络，长短期记忆。《词元》——２０２６年！", "ｈｔｔｐ：／／ Ｍｒ． 々〇〆 𠀀𪚥"], level
    )


@pytest.mark.parametrize("level", LEVELS)
def test_line_ends(level: str) -> None:
    """A line ends in LF or CRLF; a carriage return elsewhere belongs to the line."""
    vocabulary = Vocabulary.from_lines(["a b", "c\rd"], level)
    tokenizer = Tokenizer.from_str(vocabulary_json(vocabulary))
    lines = ["a b", "", "c\rd", "\rb", "b"]
    ids = [index for line in lines for index in tokenizer.encode(line).ids]
    assert vocabulary.encode_text("\n".join(lines)) == vocabulary.encode_text("\r\n".join(lines)) == ids
    assert vocabulary.unknown_tokens("a\r\nb\r\n") == vocabulary.unknown_tokens("a\nb\n") == []
    assert next(iter(split_tokens("\ufeffa", level))) != "a"  # a byte order mark is no white space
