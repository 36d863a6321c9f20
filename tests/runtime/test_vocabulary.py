"""Vocabulary: the order of its ids, what is unknown, and a file that the tokenizers library reads to the same ids."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gatewise.data.comments import read_sentences
from gatewise.data.text import SPLITS, TextCorpus, read_lines
from gatewise.data.token_cache import tokenize_file
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.errors import RunError
from gatewise.runtime.vocabulary import BOS, EOS, UNK, Vocabulary
from tests.conftest import real_data

LEVELS = ["word", "character"]
LINES = st.lists(
    st.text(st.sampled_from("ab<>eosunk \t\r\x1c\x1f\x85\xa0\u2028\u200b\u3000"))
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))
    | st.lists(st.sampled_from(["a", "b", "ab", EOS, UNK])).map(" ".join),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        (["b b b", "a a c c"], ["b", EOS, "a", "c", UNK]),  # <eos> stands twice and sorts before a
        (["z", "y", "x"], [EOS, "x", "y", "z", UNK]),
        (["<unk> a <unk>", "<unk> b b"], [UNK, EOS, "b", "a"]),
        (["<unk> a", "b b <eos>"], [EOS, "b", UNK, "a"]),  # a written <eos> counts as one
        (["", "", "a"], [EOS, "a", UNK]),
        (["a  b\ta\u2028b\x1ca"], ["a", "b", EOS, UNK]),
        (["Z a é"], [EOS, "Z", "a", "é", UNK]),
    ],
)
def test_order_of_words(lines: list[str], tokens: list[str]) -> None:
    vocabulary = Vocabulary.from_lines(lines)
    assert vocabulary.tokens == tokens
    assert (tokens[vocabulary.eos_id], tokens[vocabulary.unk_id], len(vocabulary)) == (EOS, UNK, len(tokens))


def test_order_of_characters() -> None:
    assert Vocabulary.from_lines(["ab b", "b"], "character").tokens == ["b", EOS, " ", "a", UNK]


@pytest.mark.parametrize(
    ("lines", "size", "tokens"),
    [
        (["a a a a b b b c"] * 2, 4, ["a", "b", EOS, UNK]),  # <unk> is counted though it does not stand there
        (["a a a a b b b c"] * 2, 5, ["a", "b", EOS, "c", UNK]),
        (["a a a a b b b c"] * 2, 50, ["a", "b", EOS, "c", UNK]),
        (["a a a <unk> <unk> b"], 3, ["a", UNK, EOS]),
        (["a a a b b c c <unk>"], 3, ["a", EOS, UNK]),  # rare, but kept
        (["a a a b b b c c c <unk> <unk>"], 3, ["a", UNK, EOS]),  # both rare: still by falling count
        (["a a b b"], 2, [EOS, UNK]),
        (["a a b b"], 1, [EOS, UNK]),
    ],
)
def test_largest_size(lines: list[str], size: int, tokens: list[str]) -> None:
    assert Vocabulary.from_lines(lines, max_size=size).tokens == tokens


def test_encode_and_decode_words() -> None:
    vocabulary = Vocabulary(["b", EOS, "a", UNK])
    assert vocabulary.encode_line(" a  b\tnew a ") == [2, 0, 3, 2, 1]
    assert vocabulary.encode_line("") == [1]
    assert vocabulary.encode_text("a b\r\n\nnew") == [2, 0, 1, 1, 3, 1]
    assert vocabulary.decode([2, 0, 1, 1, 3, 1]) == "a b\n\n<unk>\n"
    assert vocabulary.unknown_tokens("a new <unk>\nold b") == ["new", "old"]


def test_encode_and_decode_characters() -> None:
    vocabulary = Vocabulary(["b", EOS, "a", " ", UNK], "character")
    assert vocabulary.encode_line("a b?") == [2, 3, 0, 4, 1]
    assert vocabulary.decode([2, 3, 0, 1, 2]) == "a b\na"
    assert vocabulary.unknown_tokens("a?\nb!") == ["?", "!"]


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None)
@given(lines=LINES)
def test_decode_undoes_encode(level: str, lines: list[str]) -> None:
    vocabulary = Vocabulary.from_lines(lines, level)
    separated = [line if level == "character" else " ".join(line.split()) for line in lines]
    if not any(EOS in line.split() for line in lines) or level == "character":
        ids = [index for line in lines for index in vocabulary.encode_line(line)]
        assert vocabulary.decode(ids) == "".join(line + "\n" for line in separated)


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None)
@given(known=LINES, lines=LINES)
def test_the_tokenizers_library_gives_the_same_ids(level: str, known: list[str], lines: list[str]) -> None:
    vocabulary = Vocabulary.from_lines(known, level)
    tokenizer = Tokenizer.from_str(vocabulary_json(vocabulary))
    for line in known + lines:
        assert tokenizer.encode(line).ids == vocabulary.encode_line(line), repr(line)


@pytest.mark.parametrize("level", LEVELS)
def test_save_and_load(tmp_path: Path, level: str) -> None:
    vocabulary = Vocabulary.from_lines(["b b b 中文 é", "a \x00 <unk> \U0001f600"], level)
    path = tmp_path / "tokenizer.json"
    path.write_text(vocabulary_json(vocabulary), encoding="utf-8")
    again = Vocabulary.load(path, level)
    assert (again.tokens, again.level, vocabulary_json(again)) == (
        vocabulary.tokens,
        level,
        vocabulary_json(vocabulary),
    )


def damaged_files() -> dict[str, bytes]:
    whole = vocabulary_json(Vocabulary(["a", EOS, UNK]))
    gap = json.loads(whole)
    gap["model"]["vocab"]["a"] = 7
    unknown = json.loads(whole)
    unknown["model"]["vocab"] = {"a": 0, EOS: 1}

    def changed(**change: object) -> bytes:
        return json.dumps({**json.loads(whole), **change}).encode()

    def with_vocab(vocab: object) -> bytes:
        return changed(model={"type": "WordLevel", "unk_token": UNK, "vocab": vocab})

    return {
        "an id twice": with_vocab({"a": 0, EOS: 1, UNK: 1}),
        "an id below 0": with_vocab({"a": -1, EOS: 0, UNK: 1}),
        "an id that is true": with_vocab({"a": 0, EOS: True, UNK: 2}),
        "an id with a fraction": with_vocab({"a": 0, EOS: 1.0, UNK: 2}),
        "an id of words": with_vocab({"a": "0", EOS: 1, UNK: 2}),
        "an id without end": with_vocab({"a": 10**300, EOS: 1, UNK: 2}),
        "no ids": with_vocab({}),
        "a list": with_vocab(["a", EOS, UNK]),
        "half a character": with_vocab({"\ud800": 0, EOS: 1, UNK: 2}),
        "of another kind": changed(model={"type": "BPE", "vocab": {"a": 0, EOS: 1, UNK: 2}, "merges": []}),
        "no model": changed(model=None),
        "tokens added": changed(added_tokens=[{"id": 3, "content": "new"}]),
        "nothing added": changed(added_tokens=[None]),
        "a key twice": whole.replace('"version"', '"model": 1, "version"', 1).encode(),
        "deep": b'{"model": ' + b"[" * 100_000,
        "empty": b"",
        "cut short": whole[: len(whole) // 2].encode(),
        "no object": b"[1, 2]",
        "another object": b'{"tokens": 3}',
        "no UTF-8": b"\xff\xfe",
        "a gap": json.dumps(gap).encode(),
        "no <unk>": json.dumps(unknown).encode(),
    }


@pytest.mark.parametrize("content", damaged_files().values(), ids=damaged_files().keys())
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        Vocabulary.load(path, "word")
    assert str(caught.value).startswith((f"{path}: ", f"{path}:1: ")) and "\n" not in str(caught.value)


def test_another_level_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for level in (*LEVELS, "prose"):
        path.write_text(vocabulary_json(Vocabulary(["a", EOS, UNK], level)))
        for other in (*LEVELS, "prose"):
            if other == level:
                assert Vocabulary.load(path, other).level == level
            else:
                with pytest.raises(
                    RunError, match=rf"tokenizer\.json: a vocabulary of .*config.toml is '{other}'; set it to"
                ):
                    Vocabulary.load(path, other)


def test_tokens_that_were_added_where_they_stand(tmp_path: Path) -> None:
    """What the tokenizers library writes for a vocabulary whose special tokens were named to it."""
    tokenizer = Tokenizer.from_str(vocabulary_json(Vocabulary(["a", EOS, UNK])))
    tokenizer.add_special_tokens([EOS, UNK])
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    assert Vocabulary.load(tmp_path / "tokenizer.json", "word").tokens == ["a", EOS, UNK]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file"):
        Vocabulary.load(tmp_path / "tokenizer.json", "word")


def test_penn_treebank() -> None:
    corpus = TextCorpus.from_folder(real_data("ptb"))
    vocabulary = Vocabulary.from_lines(read_lines(corpus.train))
    assert len(vocabulary) == 10_000
    assert vocabulary.tokens[:6] == ["the", UNK, EOS, "N", "of", "to"]
    assert Vocabulary.from_lines(read_lines(corpus.train), max_size=10_000).tokens == vocabulary.tokens
    texts = {name: tokenize_file(corpus.split(name), vocabulary) for name in SPLITS}
    assert {name: len(text.ids) for name, text in texts.items()} == {"train": 929_589, "valid": 73_760, "test": 82_430}
    assert all(text.unknown == 0 for text in texts.values())
    assert (texts["train"].ids.min(), texts["train"].ids.max()) == (0, 9_999)


def test_a_start_token_is_kept_and_puts_each_sentence_behind_it(tmp_path: Path) -> None:
    vocabulary = Vocabulary.from_lines(["The dog!", "A dog"], "prose", start=True)
    assert vocabulary.tokens == [BOS, EOS, "dog", "!", "a", "the", UNK]  # <bos> and <eos> are counted alike
    assert vocabulary.sequences("The dog? A CAT!\nDog") == [[0, 5, 2, 6, 1], [0, 4, 6, 3, 1], [0, 2, 1]]
    assert vocabulary.sequences("") == [[0, 1]]
    (tmp_path / "tokenizer.json").write_text(vocabulary_json(vocabulary))
    loaded = Vocabulary.load(tmp_path / "tokenizer.json", "prose")
    assert (loaded.bos_id, loaded.tokens) == (0, vocabulary.tokens)
    assert Tokenizer.from_str(vocabulary_json(vocabulary)).encode("The dog").ids == [0, 5, 2, 1]


def test_the_start_token_is_no_word_of_the_text(tmp_path: Path) -> None:
    """A text with <bos> written in it gives a vocabulary without a start token, and loading keeps it so."""
    vocabulary = Vocabulary.from_lines(["<bos> a", "<bos> b"])
    (tmp_path / "tokenizer.json").write_text(vocabulary_json(vocabulary))
    loaded = Vocabulary.load(tmp_path / "tokenizer.json", "word")
    assert vocabulary.bos_id is None
    assert loaded.bos_id is None
    assert loaded.sequences("a\nb") == [[loaded.eos_id, *loaded.encode_text("a\nb")]]


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_a_maximum_size_keeps_the_special_tokens(size: int) -> None:
    vocabulary = Vocabulary.from_lines(["a a a b", "a a b c"], "prose", size, start=True)
    assert len(vocabulary) == max(size, 3)
    assert {BOS, EOS, UNK} <= set(vocabulary.tokens)


def test_prose_is_read_alike_by_the_tokenizers_library() -> None:
    """On real comments, quotes, addresses and all."""
    texts = read_sentences(real_data("comments") / "comments.csv", "body")
    vocabulary = Vocabulary.from_lines(texts, "prose", 8000, start=True)
    tokenizer = Tokenizer.from_str(vocabulary_json(vocabulary))
    for text in texts[::5]:
        assert tokenizer.encode(text).ids == [vocabulary.bos_id, *vocabulary.encode_line(text)], text
