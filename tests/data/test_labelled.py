"""Labelled texts from CSV, JSONL and CoNLL-U, and what is wrong with a file in one line."""

import os
from collections import Counter
from pathlib import Path

import pytest

from gatewise.data.labelled import LabelledText, find_labelled, read_labelled, read_texts
from gatewise.errors import DataError
from tests.conftest import real_data

CSV = 'id,body,label\n1,"The dog, it ate",news\n\n2,"that\nbook", mail \n'
JSONL = '{"body": "The dog, it ate", "label": "news"}\n\n{"label": 7, "body": "that book", "more": null}\n'


def read(folder: Path, name: str, raw: str | bytes) -> list[LabelledText]:
    (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return read_labelled(folder / name, "body", "label")


def test_csv(tmp_path: Path) -> None:
    expected = [LabelledText(["The", "dog,", "it", "ate"], "news", 2), LabelledText(["that", "book"], "mail", 4)]
    assert read(tmp_path, "a.csv", CSV) == expected


def test_jsonl(tmp_path: Path) -> None:
    expected = [LabelledText(["The", "dog,", "it", "ate"], "news", 1), LabelledText(["that", "book"], "7", 3)]
    assert read(tmp_path, "a.jsonl", JSONL) == expected


def test_words_are_cut_as_asked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    first = read_labelled(tmp_path / "a.csv", "body", "id", split=lambda text: text.upper().split(", "))[0]
    assert (first.words, first.label) == (["THE DOG", "IT ATE"], "1")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("text,label\na,b\n", r"a\.csv:1: no column 'body'; found 'text', 'label'; .*--set data\.column=NAME"),
        ("body,tag\na,b\n", r"a\.csv:1: no column 'label'; found 'body', 'tag'; .*--set data\.label_column=NAME"),
        ("body,body,label\na,b,c\n", r"a\.csv:1: 2 columns named 'body'; expected one"),
        ('body,label\n"a\nb",x\n ,x\n', r"a\.csv:4: no words in 'body'"),
        ("body,label\na,x\nb, \n", r"a\.csv:3: missing label in 'label'"),
        ("body,label\na,x\nb\n", r"a\.csv:3: 1 fields in this row, expected 2"),
        ("body,label\n", r"a\.csv: no texts in this file"),
        ("", r"a\.csv: the file is empty"),
        (b"body,label\na,x\n\xff,x\n", r"a\.csv:3: byte 0xff is not valid UTF-8"),
    ],
)
def test_bad_csv(tmp_path: Path, raw: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, "a.csv", raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"body": "a", "label": 1}\n{"body": "a"\n', r"a\.jsonl:2: invalid JSON \(.*\); expected one object per line"),
        ('["a", "b"]\n', r"a\.jsonl:1: \[\"a\", \"b\"\] is not a JSON object"),
        ('{"text": "a", "label": 1}\n', r"a\.jsonl:1: no key 'body'; found 'text', 'label'; .*data\.column=NAME"),
        ('{"body": "a"}\n', r"a\.jsonl:1: no key 'label'; found 'body'; .*--set data\.label_column=NAME"),
        ('{"body": 3, "label": 1}\n', r"a\.jsonl:1: the text in 'body' is 3; expected a string"),
        ('{"body": "a", "label": ["x"]}\n', r"a\.jsonl:1: the label in 'label' is \[\"x\"\]; expected a string or a"),
        ('{"body": "a", "label": true}\n', r"a\.jsonl:1: the label in 'label' is true; expected a string or a number"),
        ('{"body": "a", "label": null}\n', r"a\.jsonl:1: missing label in 'label'"),
        ('{"body": "a", "label": NaN}\n', r"a\.jsonl:1: invalid JSON \(NaN is not a JSON number\)"),
        ('{"body": "a", "label": ""}\n', r"a\.jsonl:1: missing label in 'label'"),
        ('{"body": "", "label": "x"}\n', r"a\.jsonl:1: no words in 'body'"),
        ('{"body": "\\ud800", "label": "x"}\n', r"a\.jsonl:1: invalid JSON \(.*surrogates"),
        ("[" * 100_000 + "\n", r"a\.jsonl:1: invalid JSON \(.*recursion"),
        ('{"body": "a", "label": ' + "9" * 5000 + "}\n", r"a\.jsonl:1: invalid JSON"),
        ("\n", r"a\.jsonl: no texts in this file"),
        (b'{"body": "\xff"}\n', r"a\.jsonl:1: byte 0xff is not valid UTF-8"),
    ],
)
def test_bad_jsonl(tmp_path: Path, raw: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, "a.jsonl", raw)
    assert "\n" not in str(caught.value)


def test_another_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tsv: unknown file extension '\.tsv'; expected \.csv, \.jsonl or \.conllu"):
        read(tmp_path, "a.tsv", CSV)


def test_sentence_without_genre(tmp_path: Path) -> None:
    word = "\t".join(("1", "dog", *"________")) + "\n"
    with pytest.raises(DataError, match=r"a\.conllu:4: sentence without a genre"):
        read(tmp_path, "a.conllu", f"# sent_id = email-1\n{word}\n{word}")


def test_find_labelled(tmp_path: Path) -> None:
    for name in ("a.train.csv", "a.valid.jsonl", "a-ud-train.conllu", "a-ud-test.conllu"):
        (tmp_path / name).touch()
    assert find_labelled(str(tmp_path), "train") == tmp_path / "a.train.csv"
    assert find_labelled(tmp_path, "valid") == tmp_path / "a.valid.jsonl"
    assert find_labelled(tmp_path, "test") == tmp_path / "a-ud-test.conllu"
    (tmp_path / "a-ud-test.conllu").unlink()
    with pytest.raises(DataError, match=r"no \*\.test\.csv or \*\.test\.jsonl or \*-ud-test\.conllu in this folder"):
        find_labelled(tmp_path, "test")
    (tmp_path / "b.train.csv").touch()
    with pytest.raises(DataError, match="2 files for the split train"):
        find_labelled(tmp_path, "train")


def test_texts_to_be_classified(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffThe dog\r\n it ate".encode())
    assert read_texts(path) == ["The dog", " it ate"]
    path.write_bytes(b"The dog\n \nate\n")
    with pytest.raises(DataError, match=r"a\.txt:2: empty line"):
        read_texts(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.txt: the file is empty"):
        read_texts(path)


def test_the_genres_of_the_real_treebank() -> None:
    texts = read_labelled(find_labelled(real_data("ud_en_ewt"), "valid"), "body", "label")
    assert (len(texts), sum(len(text.words) for text in texts)) == (2001, 25147)
    assert Counter(text.label for text in texts).keys() == {"answers", "email", "newsgroup", "reviews", "weblog"}
    assert texts[0].words[:4] == ["From", "the", "AP", "comes"]


def test_fields_lines_and_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes that nobody closes, a document on one line beyond any, a pipe, a device."""
    with pytest.raises(DataError, match=r"a\.csv:\d+: field of more than 131,072 characters; close its quotes"):
        read(tmp_path, "a.csv", 'body,label\n"open,news\n' + "the dog ate\n" * 20_000)
    with pytest.raises(DataError, match=r"a\.csv: lines end in CR only; expected LF or CRLF"):
        read(tmp_path, "a.csv", "body,label\rthe dog,news\r")
    monkeypatch.setattr("gatewise.data.text.LONGEST_RECORD", 1000)
    for name, text in (("a.csv", "body,label\n" + "," * 2000), ("a.jsonl", JSONL + '{"body": "' + "x" * 2000 + '"}')):
        with pytest.raises(DataError, match=rf"{name}:\d: line of more than 1,000 bytes; expected shorter lines"):
            read(tmp_path, name, text)
    (tmp_path / "a.jsonl").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"a\.jsonl:1: line of more than 1,000 bytes"):
        read_texts(tmp_path / "a.jsonl")
    for name in ("b.csv", "b.jsonl", "b.conllu"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}: a pipe, which can be read only once; expected a text file"):
            read_labelled(tmp_path / name, "body", "label")


def test_json_that_is_deep_or_has_numbers_without_end(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, '{"body": ' + "9" * 5000 + "}", '{"body": "\\ud800", "label": "a"}'):
        with pytest.raises(DataError, match=r"a\.jsonl:1: invalid JSON") as caught:
            read(tmp_path, "a.jsonl", text)
        assert len(str(caught.value).splitlines()) == 1


def test_texts_of_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"the dog\nate\n")
    os.close(write_end)
    assert read_texts(Path(f"/dev/fd/{read_end}")) == ["the dog", "ate"]
    os.close(read_end)
