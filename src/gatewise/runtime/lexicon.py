"""Vocabulary of pre-split words or characters."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from gatewise.errors import RunError
from gatewise.runtime.characters import lower
from gatewise.runtime.vocabulary import UNK, read_tokenizer


class Lexicon:
    """Vocabulary of pre-split tokens: words, which may contain spaces, or characters.

    Out-of-vocabulary tokens are read as ``<unk>``.

    Args:
        tokens: the tokens, including ``<unk>``; a token's id is its index.
        lowercase: look tokens up in lower case.
    """

    def __init__(self, tokens: Sequence[str], lowercase: bool = False) -> None:
        self.tokens = list(tokens)
        self.lowercase = lowercase
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.unk_id = self.ids[UNK]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_tokens(cls, tokens: Iterable[str], min_count: int = 1, lowercase: bool = False) -> "Lexicon":
        """Build the vocabulary of a training text: ids by descending count, ties in alphabetical order.

        Args:
            tokens: the training text.
            min_count: tokens that occur less often are left out; ``<unk>`` is always kept, and comes last if it does
                not occur in the text.
            lowercase: count and look up tokens in lower case.
        """
        counts = Counter(map(lower, tokens) if lowercase else tokens)
        kept = [token for token, count in counts.items() if count >= min_count or token == UNK]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls(kept if UNK in counts else [*kept, UNK], lowercase)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token."""
        get, unk = self.ids.get, self.unk_id
        return [get(token, unk) for token in (map(lower, tokens) if self.lowercase else tokens)]

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read a file that ``lexicon_json`` wrote.

        Raises:
            RunError: the file is missing, is not a tokenizer file, or its ids have gaps.
        """
        content, tokens = read_tokenizer(path, "vocabulary", (UNK,))
        normalizer = content.get("normalizer")
        if normalizer not in (None, {"type": "Lowercase"}):
            raise RunError(
                f"{path}: unknown normalizer; expected none, or lower case: restore the file, or train again"
            )
        return cls(tokens, normalizer is not None)
