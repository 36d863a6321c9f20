"""Labelled texts from CSV, JSONL and CoNLL-U, and what is wrong with a file in one line."""

import os
from collections import Counter
from pathlib import Path

import pytest

from gatewise.config import DataConfig
from gatewise.data.labelled import LabelledText, find_labelled, read_labelled, read_texts
from gatewise.errors import DataError
from tests.conftest import real_data

SETTINGS = DataConfig(column="body", label_column="label")
CSV = 'id,body,label\n1,"The dog, it ate",news\n\n2,"that\nbook", mail \n'
JSONL = '{"body": "The dog, it ate", "label": "news"}\n\n{"label": 7, "body": "that book", "more": null}\n'


def read(folder: Path, name: str, raw: str | bytes) -> list[LabelledText]:
    (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return read_labelled(folder / name, SETTINGS).texts


def test_csv(tmp_path: Path) -> None:
    expected = [LabelledText(["The", "dog,", "it", "ate"], "news", 2), LabelledText(["that", "book"], "mail", 4)]
    assert read(tmp_path, "a.csv", CSV) == expected


def test_jsonl(tmp_path: Path) -> None:
    expected = [LabelledText(["The", "dog,", "it", "ate"], "news", 1), LabelledText(["that", "book"], "7", 3)]
    assert read(tmp_path, "a.jsonl", JSONL) == expected


def test_words_are_cut_as_asked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    settings = SETTINGS.model_copy(update={"label_column": "id"})
    first = read_labelled(tmp_path / "a.csv", settings, split=lambda text: text.upper().split(", ")).texts[0]
    assert (first.words, first.label) == (["THE DOG", "IT ATE"], "1")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "text,label\na,b\n",
            r"a\.csv:1: no column 'body'; found 'text', 'label'; .*'data\.column'",
        ),
        (
            "body,tag\na,b\n",
            r"a\.csv:1: no column 'label'; found 'body', 'tag'; .*'data\.label_column'",
        ),
        ("body,body,label\na,b,c\n", r"a\.csv:1: 2 columns named 'body'; expected different names"),
        ('body,label\n"",x\n ,x\nb,\n', r"a\.csv:2: no row has both a text and a label"),
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
        (
            '{"body": "a", "label": 1}\n{"body": "a"\n',
            r"a\.jsonl:2: invalid JSON \(.*\); expected one",
        ),
        ('["a", "b"]\n', r"a\.jsonl:1: \[\"a\", \"b\"\] is not a JSON object"),
        (
            '{"text": "a", "label": 1}\n',
            r"a\.jsonl:1: no column 'body'; found 'text', 'label'; .*'data\.column'",
        ),
        (
            '{"body": "a"}\n',
            r"a\.jsonl:1: no column 'label'; found 'body'; .*'data\.label_column'",
        ),
        ('{"body": 3, "label": 1}\n', r"a\.jsonl:1: the text in 'body' is 3; expected a string"),
        ('{"body": "a", "label": ["x"]}\n', r"a\.jsonl:1: the label in 'label' is \['x'\]; expected a string, a"),
        ('{"body": "a", "label": null}\n', r"a\.jsonl:1: no row has both a text and a label"),
        ('{"body": "a", "label": NaN}\n', r"a\.jsonl:1: the number NaN is not finite"),
        ('{"body": "a", "label": "", "label": "x"}\n', r"a\.jsonl:1: duplicate key 'label'"),
        ('{"body": "", "label": "x"}\n', r"a\.jsonl:1: no row has both a text and a label"),
        ('{"body": "\\ud800", "label": "x"}\n', r"a\.jsonl:1: JSON string with a lone surrogate"),
        ("[" * 100_000 + "\n", r"a\.jsonl:1: JSON nested too deeply"),
        ('{"body": "a", "label": ' + "9" * 5000 + "}\n", r"a\.jsonl:1: an integer of 5000 digits"),
        ("\n", r"a\.jsonl: the file is empty"),
        (b'{"body": "\xff"}\n', r"a\.jsonl:1: byte 0xff is not valid UTF-8"),
    ],
)
def test_bad_jsonl(tmp_path: Path, raw: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, "a.jsonl", raw)
    assert "\n" not in str(caught.value)


def test_rows_without_text_or_label_are_counted_and_numbers_are_one_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,label\na,1\n,1\nb,1.0\nc,\nd,02\n")
    found = read_labelled(tmp_path / "a.csv", SETTINGS)
    assert [(text.words, text.label, text.line) for text in found.texts] == [
        (["a"], "1", 2),
        (["b"], "1", 4),
        (["d"], "2", 6),
    ]
    assert found.notes == [
        f"{tmp_path / 'a.csv'}: skipped 2 of 5 rows without text or label, the first in line 3",
    ]


def test_the_level_follows_from_the_texts(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"level": "auto"})
    (tmp_path / "a.csv").write_text("body,label\n今天天气很好,a\n我想退款,b\n")
    found = read_labelled(tmp_path / "a.csv", settings)
    assert found.chosen["level"] == "character" and found.texts[1].words == list("我想退款")


def test_another_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.xls: unknown file extension '\.xls'; expected \.csv, .* or \.conllu"):
        read(tmp_path, "a.xls", CSV)


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
    with pytest.raises(DataError, match=r"no \*\.test\.csv or .* or \*-ud-test\.conllu in this folder"):
        find_labelled(tmp_path, "test")
    (tmp_path / "b.train.csv").touch()
    with pytest.raises(DataError, match="2 files for the split train"):
        find_labelled(tmp_path, "train")


def test_texts_to_be_classified(tmp_path: Path) -> None:
    """Each line has its number; a table is read in the column of the training data."""
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffThe dog\r\n\r\n \n it ate".encode())
    assert read_texts(path) == [(1, "The dog"), (2, ""), (3, " "), (4, " it ate")]
    for empty in (b"", b"\n \n"):
        path.write_bytes(empty)
        with pytest.raises(DataError, match=r"a\.txt: the file contains no text"):
            read_texts(path)
    (tmp_path / "a.csv").write_text(CSV)
    assert read_texts(tmp_path / "a.csv", "body") == [(2, "The dog, it ate"), (4, "that\nbook")]
    with pytest.raises(DataError, match=r"a\.csv:1: no column 'text'; found 'id', 'body', 'label'"):
        read_texts(tmp_path / "a.csv", "text")
    (tmp_path / "a.jsonl").write_text('{"body": "a"}\n{"body": 3}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: the text in 'body' is 3; expected a string"):
        read_texts(tmp_path / "a.jsonl", "body")


def test_the_genres_of_the_real_treebank() -> None:
    texts = read_labelled(find_labelled(real_data("ud_en_ewt"), "valid"), SETTINGS).texts
    assert (len(texts), sum(len(text.words) for text in texts)) == (2001, 25147)
    assert Counter(text.label for text in texts).keys() == {"answers", "email", "newsgroup", "reviews", "weblog"}
    assert texts[0].words[:4] == ["From", "the", "AP", "comes"]


def test_fields_lines_and_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes that nobody closes, a document on one line beyond any, a pipe, a device."""
    with pytest.raises(DataError, match=r"a\.csv:\d+: invalid CSV \(unexpected end of data\); fix the quotes"):
        read(tmp_path, "a.csv", 'body,label\n"open,news\n' + "the dog ate\n" * 20_000)
    assert len(read(tmp_path, "a.csv", "body,label\n" + "dog " * 100_000 + ",news\n")[0].words) == 100_000
    with pytest.raises(DataError, match=r"a\.csv: lines end in CR only; expected LF or CRLF"):
        read(tmp_path, "a.csv", "body,label\rthe dog,news\r")
    monkeypatch.setattr("gatewise.data.text.LONGEST_RECORD", 1000)
    for name, text in (("a.csv", "body,label\n" + "," * 2000), ("a.jsonl", JSONL + '{"body": "' + "x" * 2000 + '"}')):
        with pytest.raises(DataError, match=rf"{name}:\d: line of more than 1,000 bytes; expected shorter lines"):
            read(tmp_path, name, text)
    (tmp_path / "a.txt").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"a\.txt:1: line of more than 1,000 bytes"):
        read_texts(tmp_path / "a.txt")
    for name in ("b.csv", "b.jsonl", "b.conllu"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}: a pipe, which can be read only once; expected a text file"):
            read_labelled(tmp_path / name, SETTINGS)


def test_json_that_is_deep_or_has_numbers_without_end(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, '{"body": ' + "9" * 5000 + "}", '{"body": "\\ud800", "label": "a"}'):
        with pytest.raises(DataError, match=r"a\.jsonl:1: (JSON|an integer of)") as caught:
            read(tmp_path, "a.jsonl", text)
        assert len(str(caught.value).splitlines()) == 1


def test_texts_of_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"the dog\nate\n")
    os.close(write_end)
    assert read_texts(Path(f"/dev/fd/{read_end}")) == [(1, "the dog"), (2, "ate")]
    os.close(read_end)
