"""Tagged sentences from CoNLL-U and from two columns, and what is wrong with a file in one line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewise.data.tagged import (
    TOY,
    TaggedSentence,
    find_tagged,
    genre,
    read_columns,
    read_conllu,
    read_tagged,
    replace_tags,
)
from gatewise.errors import DataError
from tests.conftest import real_data


def line(index: str, form: str, tag: str) -> str:
    return "\t".join((index, form, form.lower(), tag, "_", "_", "0", "root", "_", "SpaceAfter=No")) + "\n"


CONLLU = (
    "# newdoc id = email-1\n# sent_id = email-1-0001\n# text = I'm in New York.\n"
    + line("1-2", "I'm", "_")
    + line("1", "I", "PRON")
    + line("2", "'m", "AUX")
    + line("3", "in", "ADP")
    + line("4", "New York", "PROPN")
    + line("4.1", "gone", "VERB")
    + line("5", ".", "PUNCT")
    + "\n# sent_id = weblog-7\n"
    + line("1", "_", "SYM")
)
"""Two sentences; the second one's blank line is missing, as at the end of many files."""


def write(folder: Path, text: str | bytes, name: str = "a.conllu") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_conllu(tmp_path: Path) -> None:
    words, tags = ["I", "'m", "in", "New York", "."], ["PRON", "AUX", "ADP", "PROPN", "PUNCT"]
    first = TaggedSentence(words, tags, "email-1-0001", [5, 6, 7, 8, 10], "document 1")
    second = TaggedSentence(["_"], ["SYM"], "weblog-7", [13], "document 1")
    assert read_conllu(write(tmp_path, CONLLU)) == [first, second]
    assert [genre(sentence.sentence_id) for sentence in read_tagged(tmp_path / "a.conllu")] == ["email", "weblog"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n\n\n# a comment alone\n\n",
        lambda text: text.replace("# sent_id = ", "#sent_id="),
    ],
)
def test_what_is_endured(tmp_path: Path, change: Callable[[str], str]) -> None:
    """A byte order mark, either end of line, blank lines, a comment without sentence, a comment without spaces."""
    expected = read_conllu(write(tmp_path, CONLLU))
    assert read_conllu(write(tmp_path, change(CONLLU), "b.conllu")) == expected


def test_a_sent_id_is_that_of_its_sentence(tmp_path: Path) -> None:
    """A sentence without the comment has no id, whatever the one before has."""
    text = "# sent_id = a-1\n" + line("1", "x", "X") + "\n" + line("1", "y", "X")
    assert [sentence.sentence_id for sentence in read_conllu(write(tmp_path, text))] == ["a-1", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tdog\tNN\n", r"a\.conllu:1: 3 columns, expected 10"),
        (line("1", "dog", "NN") + "dog NN\n", r"a\.conllu:2: 1 columns, expected 10"),
        (line("1", "dog", "NN").replace("\n", "\t_\n"), r"a\.conllu:1: 11 columns, expected 10"),
        ("# x\n" + line("1", "dog", "_"), r"a\.conllu:2: no tag for the word 'dog'; expected one in column 4"),
        (line("1", "dog", ""), r"a\.conllu:1: no tag for the word 'dog'"),
        (line("1", " ", "NN"), r"a\.conllu:1: no word in column 2"),
        (line("1", "dog", "NN") + line("1", "cat", "NN"), r"a\.conllu:2: word ID '1', expected 2; .*blank line"),
        (line("one", "dog", "NN"), r"a\.conllu:1: word ID 'one', expected 1"),
        (line("9" * 5000, "dog", "NN"), r"a\.conllu:1: word ID '9+…9+', expected 1"),
        ("", r"a\.conllu: no sentences in this file; expected lines of ten tab-separated columns"),
        ("# sent_id = x\n\n" + line("1-2", "I'm", "_"), r"a\.conllu: no sentences in this file"),
        (line("1", "dog", "NN").encode() + b"2\tcaf\xe9\n", r"a\.conllu:2: byte 0xe9 is not valid UTF-8"),
    ],
)
def test_bad_conllu(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_conllu(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_text_without_tags(tmp_path: Path) -> None:
    """A text to be tagged may have ``_`` for its tags; an empty column is wrong all the same."""
    path = write(tmp_path, line("1", "dog", "_"))
    assert read_tagged(path, tagged=False) == [TaggedSentence(["dog"], ["_"], "", [1])]
    with pytest.raises(DataError, match="no tag"):
        read_conllu(write(tmp_path, line("1", "dog", "")), tagged=False)


def test_columns(tmp_path: Path) -> None:
    """Tabs keep a word's spaces; without a tab the last white space separates."""
    path = write(tmp_path, "New York\tNNP\n  is   VBZ \n \nNew York NNP\r\n", "a.train.txt")
    expected = [
        TaggedSentence(["New York", "is"], ["NNP", "VBZ"], "", [1, 2]),
        TaggedSentence(["New York"], ["NNP"], "", [4]),
    ]
    assert read_columns(path) == read_tagged(path) == expected


def test_the_toy_sentences_in_two_columns(tmp_path: Path) -> None:
    text = "\n\n".join("\n".join(map("\t".join, zip(s.words, s.tags, strict=True))) for s in TOY)
    assert read_columns(write(tmp_path, text, "toy.train.txt")) == TOY
    assert [(" ".join(s.words), " ".join(s.tags)) for s in TOY] == [
        ("The dog ate the apple", "DET NN V DET NN"),
        ("Everybody read that book", "NN V DET NN"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the\tDET\ndog\n", r"a\.txt:2: no tag for the word 'dog'"),
        ("dog\t\n", r"a\.txt:1: no tag for the word 'dog'"),
        ("the\tDET\n\tNN\n", r"a\.txt:2: no word before the tag 'NN'"),
        ("dog\tNN\ndog\tdog\tNN\n", r"a\.txt:2: 3 columns, expected 2"),
        (" \n\n", r"a\.txt: no sentences in this file; expected one word and its tag per line"),
        (b"the DET\n\xff NN\n", r"a\.txt:2: byte 0xff is not valid UTF-8"),
    ],
)
def test_bad_columns(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_columns(write(tmp_path, text, "a.txt"))


@pytest.mark.parametrize("header", ["word\ttag\n", "token label\n\n", "FORM\tUPOS\n"])
def test_a_header_is_skipped_with_a_note(tmp_path: Path, header: str) -> None:
    notes: list[str] = []
    path = write(tmp_path, f"{header}Ada\tB-PER\nsleeps\tO\n\nhello\tO\n", "a.txt")
    found = read_tagged(path, note=notes.append)
    assert [(one.words, one.tags) for one in found] == [(["Ada", "sleeps"], ["B-PER", "O"]), (["hello"], ["O"])]
    assert found[0].lines == [header.count("\n") + 1, header.count("\n") + 2]
    assert notes == [f"line 1, {header.split()[0]!r} and {header.split()[1]!r}, is a header"]


@pytest.mark.parametrize("first", ["word\tNN", "dog\ttag", "word\tPOS"])
def test_a_word_and_its_tag_are_no_header(tmp_path: Path, first: str) -> None:
    """Both names are usual ones, and no other word has the tag."""
    path = write(tmp_path, f"{first}\nthe\tDET\n's\tPOS\n", "a.txt")
    assert [one.words for one in read_tagged(path)] == [[first.split()[0], "the", "'s"]]


def test_columns_without_tags(tmp_path: Path) -> None:
    path = write(tmp_path, "the\nbig dog\tNN\n", "a.txt")
    assert read_tagged(path, tagged=False) == [TaggedSentence(["the", "big dog"], ["_", "NN"], "", [1, 2])]


@pytest.mark.parametrize("change", [str, lambda text: "\ufeff" + text[text.index("1-2") :].replace("\n", "\r\n")])
def test_replaced_tags_leave_every_other_byte(tmp_path: Path, change: Callable[[str], str]) -> None:
    """Comments, tokens, empty nodes, line ends and a byte order mark stay; the new tags read back."""
    path = write(tmp_path, change(CONLLU))
    read = read_conllu(path)
    assert "".join(replace_tags(path, [sentence.tags for sentence in read])).encode() == path.read_bytes()
    new = [[f"T{k}" for k in range(len(sentence.words))] for sentence in read]
    changed = write(tmp_path, "".join(replace_tags(path, iter(new))), "b.conllu")
    assert [sentence.tags for sentence in read_conllu(changed)] == new
    assert re.sub(r"\tT\d\t", "\t", changed.read_text("utf-8")) == re.sub(
        r"\t(PRON|AUX|ADP|PROPN|PUNCT|SYM)\t", "\t", path.read_text("utf-8")
    )


def test_first_word_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + line("1", "dog", "_"))
    assert "".join(replace_tags(path, [["NN"]])) == "\ufeff" + line("1", "dog", "NN")


@pytest.mark.parametrize(("tags", "message"), [([["A"] * 5], "fewer"), ([["A"] * 5, ["B", "C"]], "more")])
def test_tags_that_do_not_match_in_number(tmp_path: Path, tags: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(replace_tags(write(tmp_path, CONLLU), tags))


def test_find_tagged(tmp_path: Path) -> None:
    """The names of Universal Dependencies go before the plain ones."""
    for name in ("a.train.txt", "a.valid.txt", "en-ud-train.conllu", "en-ud-dev.conllu"):
        write(tmp_path, "", name)
    assert find_tagged(str(tmp_path), "train") == tmp_path / "en-ud-train.conllu"
    assert find_tagged(tmp_path, "valid") == tmp_path / "en-ud-dev.conllu"
    with pytest.raises(DataError, match=r"no \*-ud-test\.conllu or \*\.test\.txt or .* in this folder; expected the"):
        find_tagged(tmp_path, "test")
    write(tmp_path, "", "de-ud-dev.conllu")
    with pytest.raises(DataError, match=r"2 files for the split valid \(de-ud-dev\.conllu, en-ud-dev\.conllu\)"):
        find_tagged(tmp_path, "valid")
    (tmp_path / "en-ud-train.conllu").unlink()
    assert find_tagged(tmp_path, "train") == tmp_path / "a.train.txt"
    with pytest.raises(
        DataError, match=r"no such folder; expected one with \*-ud-train\.conllu, \*-ud-dev\.conllu and"
    ):
        find_tagged(tmp_path / "none", "train")
    with pytest.raises(DataError, match="a file; expected a folder with"):
        find_tagged(tmp_path / "a.train.txt", "train")


@pytest.mark.parametrize(
    ("split", "sentences", "words"), [("train", 12544, 204577), ("valid", 2001, 25147), ("test", 2077, 25094)]
)
def test_the_real_treebank(split: str, sentences: int, words: int) -> None:
    path = find_tagged(real_data("ud_en_ewt"), split)
    read = read_tagged(path)
    assert (len(read), sum(len(sentence.words) for sentence in read)) == (sentences, words)
    assert len({tag for sentence in read for tag in sentence.tags}) == 17
    assert {genre(sentence.sentence_id) for sentence in read} == {"answers", "email", "newsgroup", "reviews", "weblog"}
    assert "".join(replace_tags(path, (sentence.tags for sentence in read))) == path.read_text("utf-8")


@pytest.mark.parametrize("name", ["a.conllu", "a.txt"])
def test_a_sentence_without_end(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewise.data.tagged.LONGEST_SENTENCE", 3)
    rows = [line(str(k), "dog", "NN") if name == "a.conllu" else "dog NN\n" for k in range(1, 5)]
    (tmp_path / name).write_text("".join(rows[:3]) + "\n" + "".join(rows[:3]))
    assert [len(sentence.words) for sentence in read_tagged(tmp_path / name)] == [3, 3]
    (tmp_path / name).write_text("".join(rows))
    with pytest.raises(DataError, match=rf"{name}:4: sentence of more than 3 words; expected a blank line after"):
        read_tagged(tmp_path / name)
