"""The tokens that a model knows and their ids, and the reader of ``tokenizer.json``."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatewise.errors import RunError
from gatewise.files import LARGEST_PART
from gatewise.reading import read_json
from gatewise.runtime.prose import TOKEN, split_sentences, split_words

BOS = "<bos>"
EOS = "<eos>"
UNK = "<unk>"

# Word separators: exactly the characters that Python's str.split() treats as whitespace.
_WHITE_SPACE = r"[\s\x1c-\x1f]+"

CUTS = {"word": (_WHITE_SPACE, "removed"), "character": (r"(?m:.)", "isolated"), "prose": (TOKEN, "removed")}
"""How a ``tokenizers`` file splits each level: the pattern, and what happens to its matches (for prose, the rest)."""


class Vocabulary:
    """Mapping between tokens and ids.

    ``<eos>`` ends each line. Like ``<unk>``, it is counted and ordered as any other token: ids are assigned by
    descending count in the training text, ties in alphabetical order. Out-of-vocabulary tokens are read as ``<unk>``.

    A vocabulary with a start token, ``<bos>`` (counted like ``<eos>``), is meant for independent sentences: each
    sentence is read after ``<bos>``, and no state is carried to the next. Without it, a text is read after ``<eos>``.

    Args:
        tokens: the tokens; a token's id is its index.
        level: ``word`` (whitespace-separated), ``character``, or ``prose`` (the rules of ``runtime/prose.py``).
        start: whether the vocabulary has the start token ``<bos>``.
    """

    def __init__(self, tokens: Sequence[str], level: str = "word", start: bool = False) -> None:
        self.tokens = list(tokens)
        self.level = level
        self.separator = "" if level == "character" else " "
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.eos_id = self.ids[EOS]
        self.unk_id = self.ids[UNK]
        self.bos_id = self.ids[BOS] if start else None

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_lines(
        cls, lines: Iterable[str], level: str = "word", max_size: int = 0, start: bool = False
    ) -> "Vocabulary":
        """Count the tokens of a training text and keep the ``max_size`` most frequent (0 keeps all).

        ``<unk>`` and, with ``start``, ``<bos>`` count towards ``max_size``. If ``<unk>`` does not occur in the text, it
        comes last.
        """
        specials = (BOS, EOS, UNK) if start else (EOS, UNK)
        counts: Counter[str] = Counter()
        number = 0
        for line in lines:
            counts.update(split_tokens(line, level))
            number += 1
        for closing in specials[:-1]:
            counts[closing] += number
        tokens = sorted(counts, key=lambda token: (-counts[token], token))
        if max_size:
            tokens = tokens[:max_size]
        missing = [special for special in specials if special not in tokens]
        missing.sort(key=lambda token: (-counts[token], token))
        while max_size and len(tokens) + len(missing) > max(max_size, len(specials)):
            tokens.remove(next(token for token in reversed(tokens) if token not in specials))
        return cls([*tokens, *missing], level, start)

    def encode_line(self, line: str) -> list[int]:
        """Return the ids of a line's tokens, followed by ``<eos>``."""
        get, unk = self.ids.get, self.unk_id
        return [*(get(token, unk) for token in split_tokens(line, self.level)), self.eos_id]

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a text of one or more lines, each ended by ``<eos>``."""
        return [index for line in _lines(text) for index in self.encode_line(line)]

    def sequences(self, text: str) -> list[list[int]]:
        """Return the ids of each independent sequence: sentences after ``<bos>``, or the text after ``<eos>``."""
        if self.bos_id is None:
            return [[self.eos_id, *self.encode_text(text)]]
        return [[self.bos_id, *self.encode_line(sentence)] for sentence in split_sentences(text) or [""]]

    def unknown_tokens(self, text: str) -> list[str]:
        """Return the out-of-vocabulary tokens of a text, which are read as ``<unk>``."""
        return [token for line in _lines(text) for token in split_tokens(line, self.level) if token not in self.ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Join tokens into text; ``<eos>`` becomes a line break."""
        lines: list[list[str]] = [[]]
        for index in ids:
            if index == self.eos_id:
                lines.append([])
            else:
                lines[-1].append(self.tokens[index])
        return "\n".join(self.separator.join(line) for line in lines)

    @classmethod
    def load(cls, path: Path, level: str) -> "Vocabulary":
        """Read a ``tokenizer.json``.

        Raises:
            RunError: the file is missing, is not a Gatewise tokenizer file, has gaps in its ids, or has another level.
        """
        content, tokens = read_tokenizer(path, "vocabulary", (EOS, UNK))
        pattern = _part(_part(content, "pre_tokenizer"), "pattern").get("Regex")
        found = next((name for name, (cuts, _) in CUTS.items() if pattern == cuts), level)
        if found != level:
            raise RunError(
                f"{path}: a vocabulary of {found}s, but data.level in config.toml is {level!r}; set it to {found!r}"
                if found != "prose"
                else f"{path}: a vocabulary of prose, but data.level in config.toml is {level!r}; set it to 'prose'"
            )
        return cls(tokens, level, BOS in _part(_part(content, "post_processor"), "special_tokens"))


def _part(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object nested in a JSON object, or an empty one if it is missing."""
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def read_tokenizer(path: Path, what: str, needed: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """Read a word-level file of the tokenizers library; return its content, and its tokens in the order of their ids.

    Args:
        path: the file.
        what: what it contains, for error messages.
        needed: tokens that must be present.

    Raises:
        RunError: the file is missing, is not a word-level tokenizer file, has gaps in its ids, or lacks a token.
    """
    expected = f"the {what} as written by training: restore it, or train again"
    content = read_json(path, LARGEST_PART, expected, RunError)
    model = _part(content, "model") if isinstance(content, dict) else {}
    ids = model.get("vocab")
    if model.get("type") != "WordLevel" or model.get("unk_token") != UNK or not isinstance(ids, dict):
        raise RunError(f"{path}: not a word-level {what} with {UNK}; expected {expected}")
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or any(
        not isinstance(one, dict) or one.get("id", -1) != ids.get(str(one.get("content"))) for one in added
    ):
        raise RunError(f"{path}: tokens were added to this {what}; expected {expected}")
    tokens = list[str]([""] * len(ids))
    whole = all(type(index) is int and 0 <= index < len(ids) for index in ids.values())
    if not whole or len(set(ids.values())) < len(ids) or any(token not in ids for token in needed):
        raise RunError(
            f"{path}: invalid ids; expected 0 to {len(ids) - 1}, including those of {' and '.join(needed)}: restore "
            "the file, or train again"
        )
    for token, index in ids.items():
        tokens[index] = token
    return content, tokens


def _lines(text: str) -> list[str]:
    """Return the lines of a text, which LF or CRLF separates."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def split_tokens(line: str, level: str) -> Sequence[str]:
    """Split a line into whitespace-separated words, characters, or tokens of prose."""
    if level == "prose":
        return split_words(line)
    return line.split() if level == "word" else line
