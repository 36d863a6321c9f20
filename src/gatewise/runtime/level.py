"""What a token of a text is: a word between white space, a word of prose, or a character."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from gatewise.runtime.prose import split_as_written
from gatewise.wording import option

_SAMPLE = 2000
"""Lines from which the level is chosen."""
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
"""Letters of scripts that do not separate words: Chinese, Japanese, Thai."""
_ATTACHED = re.compile(r"\w[.,;:!?)\"”]+(?=\s|$)")
_APART = re.compile(r"(?:^|\s)[.,;:!?()\"“”]+(?=\s|$)")


def choose_level(texts: Iterable[str]) -> tuple[str, str]:
    """Return ``character``, ``word`` or ``prose`` for some texts, and a note that says which and why.

    Texts of a script that does not separate words are read by character, unless spaces separate them into words of at
    most three characters on average. Other texts are split at white space if their punctuation marks stand apart, as in
    tokenized text; if not, by the rules of prose.
    """
    sample = "\n".join(islice(texts, _SAMPLE))
    letters = sum(map(str.isalpha, sample))
    if 2 * len(_WITHOUT_SPACES.findall(sample)) > letters:
        words = sample.split()
        if sum(map(len, words)) <= 3 * len(words):
            return "word", "read by word: spaces separate the words"
        return "character", "read by character: spaces do not separate the words"
    if len(_ATTACHED.findall(sample)) > len(_APART.findall(sample)):
        return "prose", "read as prose: lower-cased words, numbers and punctuation marks"
    return "word", "read by word: the text between white space"


def split_lines(lines: Sequence[str], note: Callable[[str], object] = lambda line: None) -> list[list[str]]:
    """Split raw sentences into the words that a tagger tags; a note says if each character is one."""
    if choose_level(lines)[0] == "character":
        how = option("pretokenized", True)
        note(f"spaces do not separate the words of this text: each character is tagged; {how} splits at spaces")
        return [list("".join(line.split())) for line in lines]
    return [split_as_written(line) for line in lines]
