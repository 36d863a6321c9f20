"""The lexicon: the order of its ids, lower case, and a file that the tokenizers library reads to the same ids."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gatewise.data.tokenizer_file import lexicon_json
from gatewise.errors import RunError
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.vocabulary import UNK

WORDS = st.lists(
    st.sampled_from(["a", "A", "New York", "ΣΑΣ", "İ", UNK, "<UNK>", "ß", "'s", " "])
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cn"], max_codepoint=0x2FFF), min_size=1),
    max_size=8,
)


@pytest.mark.parametrize(
    ("text", "options", "tokens"),
    [
        ("b b a c c", {}, ["b", "c", "a", UNK]),
        ("b b a c c a a d", {"min_count": 2}, ["a", "b", "c", UNK]),
        ("a <unk> <unk> b b b", {}, ["b", UNK, "a"]),
        ("a a <unk>", {"min_count": 2}, ["a", UNK]),  # rare, but kept
        ("The the dog", {}, ["The", "dog", "the", UNK]),
        ("The the dog", {"lowercase": True, "min_count": 2}, ["the", UNK]),
        ("", {}, [UNK]),
    ],
)
def test_ids_by_falling_count(text: str, options: dict[str, int], tokens: list[str]) -> None:
    lexicon = Lexicon.from_tokens(text.split(), **options)
    assert (lexicon.tokens, lexicon.unk_id, len(lexicon)) == (tokens, tokens.index(UNK), len(tokens))


def test_words_hold_spaces_and_unknown_ones_read_as_unk() -> None:
    lexicon = Lexicon.from_tokens(["New York", "dog", "dog"])
    assert lexicon.encode(["New York", "York", "Dog", "dog"]) == [1, 2, 2, 0]
    assert lexicon.encode(["New york", "Dog"]) == [2, 2]
    assert Lexicon.from_tokens(["New York", "dog", "dog"], lowercase=True).encode(["NEW york", "Dog"]) == [1, 0]


@given(known=WORDS, words=WORDS, lowercase=st.booleans())
def test_the_tokenizers_library_gives_the_same_ids(known: list[str], words: list[str], lowercase: bool) -> None:
    lexicon = Lexicon.from_tokens(known, lowercase=lowercase)
    tokenizer = Tokenizer.from_str(lexicon_json(lexicon))
    for word in known + words:
        assert tokenizer.encode(word).ids == lexicon.encode([word]), repr(word)


@pytest.mark.parametrize("lowercase", [False, True])
def test_save_and_load(tmp_path: Path, lowercase: bool) -> None:
    lexicon = Lexicon.from_tokens(["New York", "中文", "\x00", UNK, "\U0001f600", "\u2028"], lowercase=lowercase)
    path = tmp_path / "tokenizer.json"
    path.write_text(lexicon_json(lexicon), encoding="utf-8")
    again = Lexicon.load(path)
    assert (again.tokens, again.lowercase, lexicon_json(again)) == (lexicon.tokens, lowercase, lexicon_json(lexicon))


def damaged_files() -> dict[str, bytes]:
    whole = lexicon_json(Lexicon(["a", UNK]))
    gap, unknown = json.loads(whole), json.loads(whole)
    gap["model"]["vocab"]["a"] = 7
    unknown["model"]["vocab"] = {"a": 0, "b": 1}
    return {
        "empty": b"",
        "cut short": whole[: len(whole) // 2].encode(),
        "no object": b"[1, 2]",
        "no UTF-8": b"\xff\xfe",
        "a gap": json.dumps(gap).encode(),
        "no <unk>": json.dumps(unknown).encode(),
    }


@pytest.mark.parametrize("content", damaged_files().values(), ids=damaged_files().keys())
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        Lexicon.load(path)
    assert str(caught.value).startswith((f"{path}: ", f"{path}:1: ")) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file"):
        Lexicon.load(tmp_path / "tokenizer.json")
