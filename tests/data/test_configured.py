"""Data that a configuration names: named once, found by split, and replaced by other data."""

from pathlib import Path

import pytest

from gatewise.config import DataConfig
from gatewise.data.configured import find_text, open_corpus, open_labelled, open_sequences, open_tagged
from gatewise.errors import DataError, UsageError


def test_a_corpus_is_named_once_and_wholly() -> None:
    with pytest.raises(UsageError, match="no data; add --data FOLDER"):
        open_corpus(DataConfig())
    with pytest.raises(UsageError, match="only some of"):
        open_corpus(DataConfig(train_file="a"))
    with pytest.raises(UsageError, match="are mutually exclusive"):
        open_corpus(DataConfig(path="a", builtin="python-docs"))


def test_data_is_named_once_and_for_taggers() -> None:
    with pytest.raises(UsageError, match="no data; add --data FOLDER"):
        open_tagged(DataConfig(), "train")
    with pytest.raises(UsageError, match="both path and builtin"):
        open_tagged(DataConfig(path="a", builtin="toy-sentences"), "train")
    with pytest.raises(UsageError, match="which a tagger does not support; expected 'toy-sentences'"):
        open_tagged(DataConfig(builtin="digits"), "train")


def test_a_text_is_found_by_its_split_or_in_other_data(corpus: Path, tmp_path: Path) -> None:
    settings = DataConfig(path=str(corpus))
    assert find_text(settings, "valid") == corpus / "toy.valid.txt"
    assert find_text(settings, "test", corpus / "toy.train.txt") == corpus / "toy.train.txt"
    (tmp_path / "other.test.txt").write_text("a b\n")
    assert find_text(settings, "test", tmp_path) == tmp_path / "other.test.txt"


def test_a_single_file_is_evaluated_but_never_all_three_splits(tmp_path: Path) -> None:
    file = tmp_path / "a.test.csv"
    file.write_text("body,label\nTwo words,x\n")
    path, (text,) = open_labelled(DataConfig(), "valid", file)
    assert (path, text.words, text.label) == (file, ["Two", "words"], "x")
    assert open_labelled(DataConfig(path=str(tmp_path)), "test")[0] == file
    with pytest.raises(DataError, match="a file; expected a folder"):
        open_labelled(DataConfig(path=str(file)), "test")
    with pytest.raises(UsageError, match="no data; add --data FOLDER with labelled texts"):
        open_labelled(DataConfig(), "test")


def test_sequences_are_named_once_and_for_classifiers() -> None:
    with pytest.raises(UsageError, match="no data; add --data FOLDER"):
        open_sequences(DataConfig())
    with pytest.raises(UsageError, match="both path and builtin"):
        open_sequences(DataConfig(path="a", builtin="digits"))
    with pytest.raises(UsageError, match="'sunspots', which this task does not support; expected 'digits'"):
        open_sequences(DataConfig(builtin="sunspots"))


def test_the_words_of_the_toy_sentences_are_numbered_by_tag() -> None:
    part = open_tagged(DataConfig(builtin="toy-sentences"), "valid")
    tags = sorted({tag for sentence in part.sentences for tag in sentence.tags})
    named = [[tags[k] for k in numbers] for numbers in part.numbered(tags)]
    assert named == [list(sentence.tags) for sentence in part.sentences]
    with pytest.raises(DataError, match="does not occur in the training data"):
        part.numbered(tags[1:])
