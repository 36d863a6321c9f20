"""``gatewise tag``: every input and output format, and refused input."""

import io
import json
import sys
from pathlib import Path

import pytest

import gatewise as gw
from gatewise.data.tagged import read_conllu
from tests.cli.conftest import Gatewise, contents
from tests.conftest import TINY_TAGGER, unseal

TEXT = "The dog ate the apple\n\n  Everybody\tread  a/b xyzzy \nIt"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Four lines, one of them empty, the last without a line end."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Make standard input provide these bytes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def tags_of(run: Path, text: str) -> list[list[str]]:
    """The tags predicted by the model itself."""
    found: list[list[str]] = gw.load(run).tag([line.split() for line in text.split("\n")])
    return found


def test_one_line_out_for_each_line_in(gatewise: Gatewise, tagger_run: Path, text: Path) -> None:
    result = gatewise("tag", tagger_run, text, "--pretokenized")
    assert (result.status, result.err) == (0, "")
    lines = result.out.split("\n")
    assert len(lines) == 5 and lines[1] == lines[4] == ""
    for line, words, tags in zip(lines, TEXT.split("\n"), tags_of(tagger_run, TEXT), strict=False):
        assert [pair.rpartition("/")[::2] for pair in line.split(" ") if pair] == list(
            zip(words.split(), tags, strict=True)
        )


def test_raw_text_is_split_at_punctuation_and_keeps_its_case(
    gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    raw = "The dog, it ate!\n\nDon’t wait... (U.S. only) 3.50\n"
    (tmp_path / "raw.txt").write_text(raw, encoding="utf-8")
    found = json.loads(gatewise("tag", tagger_run, "raw.txt", "--format", "json").out)["sentences"]
    assert [sentence["words"] for sentence in found] == [
        ["The", "dog", ",", "it", "ate", "!"],
        [],
        ["Don’t", "wait", "...", "(", "U.S.", "only", ")", "3.50"],
    ]
    lines = gatewise("tag", tagger_run, "raw.txt").out.split("\n")
    assert len(lines) == 4 and lines[1] == "", "one line for each, empty ones included"
    (tmp_path / "raw.txt").write_text("今天天气很好。\n我们 去公园\n", encoding="utf-8")
    chinese = gatewise("tag", tagger_run, "raw.txt", "--format", "json")
    assert [s["words"] for s in json.loads(chinese.out)["sentences"]] == [list("今天天气很好。"), list("我们去公园")]
    assert "each character is tagged" in chinese.err
    apart = gatewise("tag", tagger_run, "raw.txt", "--format", "json", "--pretokenized")
    assert json.loads(apart.out)["sentences"][1]["words"] == ["我们", "去公园"] and apart.err == ""


@pytest.mark.parametrize("form", ["text", "conllu", "json"])
def test_standard_input_is_read_as_a_file_is(
    form: str, gatewise: Gatewise, tagger_run: Path, text: Path, tagged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (text, tagged / "toy-ud-test.conllu"):
        by_file = gatewise("tag", tagger_run, path, "--format", form)
        give(monkeypatch, path.read_bytes())
        by_input = gatewise("tag", tagger_run, "--format", form)
        assert (by_file.status, by_file.err) == (0, "")
        assert by_input == by_file


def test_conllu_keeps_all_but_the_tags(gatewise: Gatewise, tagger_run: Path, tagged: Path, tmp_path: Path) -> None:
    source = tagged / "toy-ud-test.conllu"
    blank = tmp_path / "blank.conllu"
    blank.write_text("".join(f"{x}\n" for x in source.read_text().splitlines()).replace("\tNN\t", "\t_\t"))
    result = gatewise("tag", tagger_run, blank, "--format", "conllu")
    assert result.status == 0
    (tmp_path / "out.conllu").write_text(result.out)
    before, after = read_conllu(source), read_conllu(tmp_path / "out.conllu")
    assert [s.words for s in after] == [s.words for s in before]
    assert [s.tags for s in after] == gw.load(tagger_run).tag([s.words for s in before])
    for old, new in zip(source.read_text().splitlines(), result.out.splitlines(), strict=True):
        assert [c for k, c in enumerate(old.split("\t")) if k != 3] == [
            c for k, c in enumerate(new.split("\t")) if k != 3
        ]


def test_conllu_as_text_is_a_sentence_a_line(gatewise: Gatewise, tagger_run: Path, tagged: Path) -> None:
    result = gatewise("tag", tagger_run, tagged / "toy-ud-test.conllu")
    words = [s.words for s in read_conllu(tagged / "toy-ud-test.conllu")]
    tags = gw.load(tagger_run).tag(words)
    assert result.out == "".join(
        " ".join(f"{w}/{t}" for w, t in zip(*pair, strict=True)) + "\n" for pair in zip(words, tags, strict=True)
    )
    assert "New York/" in result.out


def test_text_becomes_conllu(gatewise: Gatewise, tagger_run: Path, text: Path, tmp_path: Path) -> None:
    result = gatewise("tag", tagger_run, text, "--format", "conllu", "--pretokenized")
    (tmp_path / "out.conllu").write_text(result.out)
    found = read_conllu(tmp_path / "out.conllu")
    assert [s.words for s in found] == [line.split() for line in TEXT.split("\n") if line.strip()]
    assert [s.tags for s in found] == [tags for tags in tags_of(tagger_run, TEXT) if tags]


def test_json_is_one_object(gatewise: Gatewise, tagger_run: Path, text: Path) -> None:
    found = json.loads(gatewise("tag", tagger_run, text, "--format", "json", "--pretokenized").out)
    assert [s["words"] for s in found["sentences"]] == [line.split() for line in TEXT.split("\n")]
    assert [s["tags"] for s in found["sentences"]] == tags_of(tagger_run, TEXT)
    model = gw.load(tagger_run)
    for sentence, expected in zip(
        found["sentences"], model.tag_probabilities([s["words"] for s in found["sentences"]]), strict=True
    ):
        assert [[p[tag] for tag in model.tags] for p in sentence["probabilities"]] == expected.tolist()


TAGGED_LINES = "its tags are not used"
WORD_LINES = "read as one word per line"


@pytest.mark.parametrize(
    ("content", "said", "words"),
    [
        ("The\tDET\ndog\tNN\n\nIt\tNN\n", TAGGED_LINES, [["The", "dog"], ["It"]]),
        ("The DET\ndog NN\n\nNew York NN\n", TAGGED_LINES, [["The", "dog"], ["New York"]]),
        ("word tag\nThe DET\ndog NN\n\nIt NN\n", TAGGED_LINES, [["The", "dog"], ["It"]]),
        ("-DOCSTART- -X- O NN\n\nThe a b DET\ndog a b NN\n\nIt a b NN\n", TAGGED_LINES, [["The", "dog"], ["It"]]),
        ("The\ndog\n\nIt\n", WORD_LINES, [["The", "dog"], ["It"]]),
        ("今天\n天气\n\n我们\n", WORD_LINES, [["今天", "天气"], ["我们"]]),
        ("The\ndog\nIt\n", "", [["The"], ["dog"], ["It"]]),
        ("The\n\ndog\n", "", [["The"], [], ["dog"]]),
        (
            "今天天气很好我们去\n公园散步吧\n\n我们走\n",
            "each character",
            [list("今天天气很好我们去"), list("公园散步吧"), [], list("我们走")],
        ),
        ("it read\nhe ate\n", "", [["it", "read"], ["he", "ate"]]),
        ("The dog ate NN\nIt read the book\n", "", [["The", "dog", "ate", "NN"], ["It", "read", "the", "book"]]),
        ("1\tThe dog ate\n2\tIt read\n", "", [["1", "The", "dog", "ate"], ["2", "It", "read"]]),
    ],
)
def test_a_word_per_line_is_told_from_a_sentence(
    content: str, said: str, words: list[list[str]], gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    result = gatewise("tag", tagger_run, "a.txt", "--format", "json")
    assert [one["words"] for one in json.loads(result.out)["sentences"]] == words
    assert said in result.err and bool(said) == bool(result.err)
    assert ("is a header" in result.err) == content.startswith("word tag")


def test_a_full_stop_may_end_a_sentence_and_be_a_tag(tmp_path: Path) -> None:
    from gatewise.predict.tag import _word_per_line

    (tmp_path / "a.txt").write_text("It read .\nHe ate .\n")
    assert _word_per_line(tmp_path / "a.txt", ["NN", "."]) is None


def test_nothing_in_nothing_out(gatewise: Gatewise, tagger_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"")
    result = gatewise("tag", tagger_run)
    assert (result.status, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("missing.txt", None, ["missing.txt: cannot read it", "expected a text file"]),
        ("empty.txt", b"", ["empty.txt: the file is empty", "expected one sentence per line"]),
        ("text.txt", b"the dog\ncaf\xe9\n", ["text.txt:2: byte 0xe9 is not valid UTF-8", "convert the file"]),
        ("a.conllu", b"1\tThe\t_\n", ["a.conllu:1: 3 columns, expected 10"]),
        ("a.conllu", b"", ["a.conllu: no sentences in this file", "ten tab-separated columns"]),
        ("a.txt", b"1" + b"\tx" * 9 + b"\n2\tx\n", ["a.txt:2: 2 columns, expected 10"]),
    ],
)
def test_files_that_are_refused(
    name: str, content: bytes | None, fragments: list[str], gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = contents(tmp_path)
    gatewise("tag", tagger_run, tmp_path / name).check_refused(3, *fragments)
    assert contents(tmp_path) == before


def test_what_is_wrong_with_standard_input_is_told_by_that_name(
    gatewise: Gatewise, tagger_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, b"the dog\ncaf\xe9\n")
    gatewise("tag", tagger_run).check_refused(3, "gatewise: standard input:2: byte 0xe9 is not valid UTF-8")


@pytest.mark.parametrize("command", [["generate", "RUN"], ["classify", "RUN", "TEXT"]])
def test_a_tagger_given_to_another_command(
    command: list[str], gatewise: Gatewise, tagger_run: Path, text: Path
) -> None:
    words = [{"RUN": str(tagger_run), "TEXT": str(text)}.get(word, word) for word in command]
    gatewise(*words).check_refused(2, "a Tagger; expected")


def test_another_model_given_to_tag(gatewise: Gatewise, tiny_run: Path, text: Path) -> None:
    gatewise("tag", tiny_run, text).check_refused(2, "a language-model run", "expected one that holds a Tagger")


def test_evaluation_prints_a_line_for_each_tag(gatewise: Gatewise, tagger_run: Path) -> None:
    result = gatewise("evaluate", tagger_run)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("test accuracy ") and "of words not seen in training " in lines[0]
    assert lines[1].startswith("baseline: accuracy ") and lines[1].endswith(" (always the most frequent tag)")
    assert lines[2].split() == ["precision", "recall", "F1", "words"]
    assert [line.split()[0] for line in lines[3:6]] == ["NN", "V", "DET"]
    assert lines[6] == f"confusion matrix: {tagger_run / 'figures' / 'confusion.png'}"
    figures = json.loads(gatewise("evaluate", tagger_run, "--json").out)
    assert {"task", "split", "accuracy", "accuracy_unseen", "tokens", "oov_rate", "data_hash"} <= set(figures)


def test_an_unknown_tag_at_evaluation_is_an_error_of_the_model(
    gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("the DET\n\ndog WRONG\n")
    figures = json.loads(gatewise("evaluate", tagger_run, "--data", tmp_path / "new.txt", "--json").out)
    assert figures["tokens"] == 2 and figures["accuracy"] <= 0.5 and figures["tokens_DET"] == 1


def test_data_without_a_known_tag_is_refused(gatewise: Gatewise, tagger_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("\n".join(f"dog T{k}" for k in range(6)))
    gatewise("evaluate", tagger_run, "--data", "new.txt").check_refused(
        3, "new.txt:1: none of its tags occurs in the training data; found 'T0', 'T1', 'T2', 'T3', 'T4', …; expected '"
    )


def test_training_from_the_command_line(gatewise: Gatewise, tagged: Path, tmp_path: Path) -> None:
    settings = [word for key, value in TINY_TAGGER.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    result = gatewise("train", "ewt-upos", "--data", tagged, "--out", tmp_path / "run", *settings)
    assert result.status == 0, result.err
    assert result.out.startswith("test accuracy ") and "(each word's most frequent tag)" in result.out


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("labels.json", b"{}", ["labels.json: missing key 'labels'"]),
        ("labels.json", b'{"labels": ["A", "B"]}', ["labels.json: missing key 'seen_words'"]),
        (
            "labels.json",
            b'{"labels": ["A", "B"], "seen_words": []}',
            ["decoder.weight has shape (3, 16)", "expected (2, 16)"],
        ),
        ("labels.json", b'{"labels": [1, 2], "seen_words": []}', ["labels.json: 'labels' are numbers", "names"]),
        ("characters.json", b"{", ["characters.json: invalid JSON"]),
        ("tokenizer.json", None, ["tokenizer.json: no such file", "train again"]),
    ],
)
def test_a_damaged_run(
    name: str, content: bytes | None, fragments: list[str], gatewise: Gatewise, tagger_run: Path, tmp_path: Path
) -> None:
    import shutil

    run = Path(shutil.copytree(tagger_run, tmp_path / "run"))
    unseal(run)
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    for words in (["evaluate", run], ["tag", run, tmp_path]):
        gatewise(*words).check_refused(4, *fragments)
