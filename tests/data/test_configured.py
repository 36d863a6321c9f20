"""Data that a configuration names: named once, found by split, and replaced by other data."""

from pathlib import Path

import pytest

from gatewise.config import DataConfig
from gatewise.data.configured import (
    find_text,
    labelled_split,
    open_corpus,
    open_labelled,
    open_sequences,
    open_tagged,
    sequences_split,
    tagged_split,
)
from gatewise.errors import DataError, UsageError


def test_a_corpus_is_named_once_and_wholly() -> None:
    with pytest.raises(UsageError, match="no data; add data=PATH"):
        open_corpus(DataConfig())
    with pytest.raises(UsageError, match="only some of"):
        open_corpus(DataConfig(train_file="a"))
    with pytest.raises(UsageError, match="are mutually exclusive"):
        open_corpus(DataConfig(path="a", builtin="python-docs"))


def test_data_is_named_once_and_for_taggers() -> None:
    with pytest.raises(UsageError, match="no data; add data=PATH"):
        open_tagged(DataConfig())
    with pytest.raises(UsageError, match="both path and builtin"):
        open_tagged(DataConfig(path="a", builtin="toy-sentences"))
    with pytest.raises(UsageError, match="which a tagger does not support; expected 'toy-sentences'"):
        open_tagged(DataConfig(builtin="digits"))


def test_a_text_is_found_by_its_split_or_in_other_data(corpus: Path, tmp_path: Path) -> None:
    settings = DataConfig(path=str(corpus))
    assert find_text(settings, "valid") == corpus / "toy.valid.txt"
    assert find_text(settings, "test", corpus / "toy.train.txt") == corpus / "toy.train.txt"
    (tmp_path / "other.test.txt").write_text("a b\n")
    assert find_text(settings, "test", tmp_path) == tmp_path / "other.test.txt"


def test_a_single_file_is_evaluated_but_never_all_three_splits(tmp_path: Path) -> None:
    file = tmp_path / "a.test.csv"
    file.write_text("body,label\nTwo words,x\n")
    found = labelled_split(DataConfig(), "valid", file)
    (text,) = found.texts
    assert (found.path, text.words, text.label) == (file, ["Two", "words"], "x")
    assert labelled_split(DataConfig(), "test", tmp_path).path == file
    with pytest.raises(DataError, match=r"a\.test\.csv: 1 text; expected at least 3, one for each"):
        open_labelled(DataConfig(path=str(file)))
    with pytest.raises(UsageError, match="no data; add data=PATH"):
        open_labelled(DataConfig())


def test_one_file_of_labelled_texts_is_split_and_every_choice_is_recorded(tmp_path: Path) -> None:
    rows = [(f"text number {k}", "a" if k < 30 else "b", f"user{k % 6}") for k in range(40)]
    file = tmp_path / "reviews.csv"
    file.write_text("id,review,stars,user\n" + "".join(f"{k},{text},{s},{u}\n" for k, (text, s, u) in enumerate(rows)))
    settings = DataConfig(path=str(file), column="auto", label_column="auto")
    opened = open_labelled(settings)
    chosen = opened.settings
    assert (chosen.column, chosen.label_column, chosen.valid_size, chosen.test_size) == ("review", "stars", 4, 4)
    assert {split: sum(text.label == "b" for text in part.texts) for split, part in opened.parts.items()} == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }
    lines = sorted(text.line for part in opened.parts.values() for text in part.texts)
    assert lines == list(range(2, 42)), "each row in one split"
    assert opened.notes == [
        "text from column 'review', label from column 'stars'; not used: 'id', 'user'",
        "one data set, split with seed 1, each label in proportion: 32 for train, 4 for valid, 4 for test",
    ]
    again = open_labelled(chosen).parts
    assert {split: part.data_hash for split, part in again.items()} == {
        split: part.data_hash for split, part in opened.parts.items()
    }
    assert len({part.data_hash for part in again.values()}) == 3
    other = open_labelled(chosen.model_copy(update={"split_seed": 2})).parts
    assert [text.line for text in other["test"].texts] != [text.line for text in again["test"].texts]
    grouped = open_labelled(settings.model_copy(update={"group_column": "user"}))
    users = [{text.group for text in part.texts} for part in grouped.parts.values()]
    assert sum(map(len, users)) == 6 and all(users)


def test_sequences_are_named_once_and_for_classifiers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data; add data=PATH"):
        open_sequences(DataConfig())
    with pytest.raises(UsageError, match="both path and builtin"):
        open_sequences(DataConfig(path="a", builtin="digits"))
    with pytest.raises(DataError, match=r"nothing to classify in this folder; expected a subfolder of pictures"):
        open_sequences(DataConfig(path=str(tmp_path)))
    with pytest.raises(UsageError, match="'sunspots', which this task does not support; expected 'digits'"):
        open_sequences(DataConfig(builtin="sunspots"))


def test_the_words_of_the_toy_sentences_are_numbered_by_tag() -> None:
    part = tagged_split(DataConfig(builtin="toy-sentences"), "valid")
    tags = sorted({tag for sentence in part.sentences for tag in sentence.tags})
    named = [[tags[k] for k in numbers] for numbers in part.numbered(tags)]
    assert named == [list(sentence.tags) for sentence in part.sentences]
    assert part.unknown(tags) is None
    assert [numbers.tolist().count(-1) for numbers in part.numbered(tags[1:])] == [2, 1]
    note = part.unknown(tags[1:])
    assert note is not None and note.startswith("toy-sentences:1: the tag 'DET' of the word 'The' does not occur")
    assert note.endswith("3 such words count as errors")


def test_one_text_is_split_in_order_and_read_the_same_way_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWISE_CACHE", str(tmp_path / "cache"))
    lines = [f"word{k} and more" for k in range(30)]
    file = tmp_path / "book.txt"
    file.write_text("\n".join(lines))
    opened = open_corpus(DataConfig(path=str(file), level="auto"))
    assert (opened.settings.valid_size, opened.settings.test_size, opened.settings.level) == (3, 3, "word")
    texts = [opened.parts[split].read_text().splitlines() for split in ("train", "valid", "test")]
    assert [len(text) for text in texts] == [24, 3, 3] and [line for text in texts for line in text] == lines
    assert open_corpus(opened.settings).parts == opened.parts
    opened.parts["valid"].write_text("damaged")
    again = open_corpus(opened.settings)
    assert again.parts["valid"].read_text().splitlines() == texts[1]
    table = tmp_path / "posts.jsonl"
    table.write_text("".join(f'{{"id": {k}, "body": "{line}\\nsecond line"}}\n' for k, line in enumerate(lines)))
    posts = open_corpus(DataConfig(path=str(table), column="auto"))
    assert posts.settings.column == "body"
    assert posts.parts["train"].read_text().splitlines()[:2] == ["word0 and more", "second line"]
    monkeypatch.setenv("GATEWISE_CACHE", str(file / "no folder"))
    with pytest.raises(DataError, match="set GATEWISE_CACHE to a writable folder"):
        open_corpus(DataConfig(path=str(file)))


def test_one_file_of_tagged_sentences_is_split_by_document(tmp_path: Path) -> None:
    lines = []
    for document in range(12):
        lines.append(f"-DOCSTART- -X- O O\n\nWord{document} NN B-NP O\n. . O O\n\nMore NN B-NP B-X\n\n")
    (tmp_path / "a.conll").write_text("".join(lines))
    opened = open_tagged(DataConfig(path=str(tmp_path / "a.conll")))
    of = {split: {sentence.document for sentence in part.sentences} for split, part in opened.parts.items()}
    assert sum(map(len, of.values())) == 12 and {len(of["valid"]), len(of["test"])} <= {1, 2}
    assert {tag for part in opened.parts.values() for s in part.sentences for tag in s.tags} == {"O", "B-X"}
    assert opened.notes[0].startswith("one data set, split with seed 1, whole documents: ")


def test_a_header_of_tagged_sentences_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word\ttag\n" + "the\tDET\ndog\tNN\n\n" * 5)
    expected = f"{tmp_path / 'a.txt'}: line 1, 'word' and 'tag', is a header"
    assert open_tagged(DataConfig(path=str(tmp_path / "a.txt"))).notes[0] == expected
    for split in ("train", "valid", "test"):
        (tmp_path / f"a.{split}.txt").write_text("word\ttag\n" + "the\tDET\ndog\tNN\n\n" * 5)
    (tmp_path / "a.txt").unlink()
    assert len(open_tagged(DataConfig(path=str(tmp_path))).notes) == 3


def test_one_sentence_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the\tDET\ndog\tNN\n" * 20)
    with pytest.raises(DataError, match=r"a\.txt: 1 sentence \(a blank line ends a sentence\); expected at least 3"):
        open_tagged(DataConfig(path=str(tmp_path / "a.txt")))


def test_pictures_in_a_folder_per_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, value in (("dark", 10), ("light", 200)):
        (tmp_path / label).mkdir()
        for k in range(10):
            image.new("L", (20, 20), value + k).save(tmp_path / label / f"{k}.{('png', 'JPG')[k % 2]}", format="PNG")
    (tmp_path / "dark" / "notes.txt").write_text("x")
    opened = open_sequences(DataConfig(path=str(tmp_path)))
    assert opened.settings.image_size == 20, "pictures of one small size keep it"
    assert {split: sorted(part.y.tolist()) for split, part in opened.parts.items()} == {
        "train": ["dark"] * 8 + ["light"] * 8,
        "valid": ["dark", "light"],
        "test": ["dark", "light"],
    }
    x, y, _ = opened.parts["test"].batch(slice(None))
    assert x.shape == (2, 20, 20) and ((x[:, 0, 0] > 0.5) == (y == "light")).all()
    assert opened.notes[1] == f"{tmp_path}: 1 other files are left out"
    image.new("L", (300, 100), 10).save(tmp_path / "dark" / "wide.png")
    assert open_sequences(DataConfig(path=str(tmp_path))).settings.image_size == 32
    (tmp_path / "dark" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        open_sequences(DataConfig(path=str(tmp_path)))


def test_pictures_that_are_split_have_several_names_for_valid(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for label, value in (("dark", 10), ("light", 200)):
            (tmp_path / split / label).mkdir(parents=True)
            for k in range(count):
                image.new("L", (8, 8), value).save(tmp_path / split / label / f"{k}.png")
    opened = open_sequences(DataConfig(path=str(tmp_path)))
    assert {split: len(part) for split, part in opened.parts.items()} == {"train": 8, "valid": 4, "test": 2}
    assert len(opened.notes) == 1, "nothing is left out"
    (tmp_path / "validation").mkdir()
    with pytest.raises(DataError, match=r"2 folders for the split valid \(val, validation\); expected one"):
        open_sequences(DataConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.csv", "a table"), ("a.jsonl", "a table"), ("a.parquet", "a table"), ("a.PNG", "a single picture")],
)
def test_files_without_arrays_are_named_for_what_they_are(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / name).write_text("text,label\na,b\n")
    for read in (
        lambda path: open_sequences(DataConfig(path=str(path))),
        lambda path: sequences_split(DataConfig(), "test", path),
    ):
        with pytest.raises(
            DataError, match=rf"{name}: {found}; expected an \.npz file with the arrays x and y, a folder"
        ):
            read(tmp_path / name)


@pytest.mark.parametrize("inside", ["", "train"])
def test_pictures_of_one_class(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside / "cats").mkdir(parents=True)
    (tmp_path / inside / "cats" / "a.png").touch()
    with pytest.raises(DataError, match="only one class, 'cats'; expected a subfolder of pictures for each of several"):
        open_sequences(DataConfig(path=str(tmp_path)))


def test_other_data_that_is_missing(tmp_path: Path) -> None:
    for read in (find_text, labelled_split, sequences_split, tagged_split):
        with pytest.raises(DataError, match="none: no such file or folder; expected data like that of the training"):
            read(DataConfig(), "test", tmp_path / "none")
