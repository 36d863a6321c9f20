"""The rules that cut prose into sentences and words."""

import pytest

from gatewise.runtime.prose import split_as_written, split_sentences, split_words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("so good. i loved it", ["so good.", "i loved it"]),
        ("Dr. Smith met Mr. J. R. Jones. They left.", ["Dr. Smith met Mr. J. R. Jones.", "They left."]),
        ("Enron Corp. said so. Ask Enron Corp. They know.", ["Enron Corp. said so.", "Ask Enron Corp.", "They know."]),
        ("At 5 p.m. we left at 3.50 a head.", ["At 5 p.m. we left at 3.50 a head."]),
        ("It ends at 5 p.m. We left the U.S. in May.", ["It ends at 5 p.m.", "We left the U.S. in May."]),
        ("Well... maybe. Well... Maybe!!! yes", ["Well... maybe.", "Well...", "Maybe!!!", "yes"]),
        ('He said "Stop!" Then (at last.) he left.', ['He said "Stop!"', "Then (at last.)", "he left."]),
        ("1. First 2) Second", ["1. First 2) Second"]),
        ("No. 5 is alive. No. It is not.", ["No. 5 is alive.", "No.", "It is not."]),
        ("So did I. You too.", ["So did I.", "You too."]),
        ("See www.a.com/b.html for more.", ["See www.a.com/b.html for more."]),
        ("one\ntwo\r\n\n three ", ["one", "two", "three"]),
        ("  \n\t", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Dog, it ATE!", ["the", "dog", ",", "it", "ate", "!"]),
        ("I don’t like O'Rourke's rip-off", ["i", "don't", "like", "o'rourke's", "rip-off"]),
        ("“So,” he said -- 'so'...", ['"', "so", ",", '"', "he", "said", "--", "'", "so", "'", "..."]),
        ("$3.50 or 1,000 at 10:30, 50%", ["$", "3.50", "or", "1,000", "at", "10:30", ",", "50", "%"]),
        ("Mr. X of the U.S. etc.", ["mr.", "x", "of", "the", "u.s.", "etc."]),
        ("http://a.org/b?c=d. Or me.you@a-b.org!!", ["http://a.org/b?c=d", ".", "or", "me.you@a-b.org", "!!"]),
        ("<bos> a</b>", ["<", "bos", ">", "a", "<", "/", "b", ">"]),
        (" \t ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("text", ["It’s “Over” (at 5 p.m.)... OK?", "Mr. İnan met J. Doe", "https://A.com/B x@Y.org"])
def test_words_as_written_have_the_boundaries_of_words(text: str) -> None:
    kept = split_as_written(text)
    assert "".join(kept) == "".join(text.split())
    if len(text.lower()) == len(text):
        straight = [word.lower().translate(str.maketrans("’“”", '\'""')) for word in kept]
        assert straight == split_words(text)
