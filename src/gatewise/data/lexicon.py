"""Words (or characters) and their ids, each looked up whole, kept as a file of the tokenizers library."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase

from gatewise.data.vocabulary import UNK, read_tokenizer
from gatewise.errors import RunError


class Lexicon:
    """Tokens in the order of their ids: words that were cut already, spaces and all, or characters.

    A token outside the lexicon reads as ``<unk>``.

    Args:
        tokens: the tokens, ``<unk>`` among them; a token's id is its place.
        lowercase: tokens are looked up in lower case.
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
        """Count the tokens of a training text: ids by falling count, ties in alphabetical order.

        Args:
            tokens: the training text.
            min_count: a token that stands fewer times is left out; ``<unk>`` never is, and comes last where it does
                not stand in the text.
            lowercase: tokens are counted and looked up in lower case.
        """
        counts = Counter(map(lower, tokens) if lowercase else tokens)
        kept = [token for token, count in counts.items() if count >= min_count or token == UNK]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls(kept if UNK in counts else [*kept, UNK], lowercase)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token."""
        get, unk = self.ids.get, self.unk_id
        return [get(token, unk) for token in (map(lower, tokens) if self.lowercase else tokens)]

    @cached_property
    def json(self) -> str:
        """The lexicon as a ``tokenizers`` file, which reads a token whole."""
        tokenizer = Tokenizer(WordLevel(vocab=self.ids, unk_token=UNK))
        if self.lowercase:
            tokenizer.normalizer = Lowercase()
        return tokenizer.to_str(pretty=True)

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what ``json`` was written to.

        Raises:
            RunError: the file is missing, no tokenizer file, or its ids have gaps.
        """
        content, tokens = read_tokenizer(path, "lexicon", (UNK,))
        normalizer = content.get("normalizer")
        if normalizer not in (None, {"type": "Lowercase"}):
            raise RunError(
                f"{path}: its normalizer is unknown; expected none, or lower case: restore it, or train again"
            )
        return cls(tokens, normalizer is not None)


def lower(token: str) -> str:
    """Put a token into lower case, each character by itself as the tokenizers library does (Greek ends in σ too)."""
    return "".join(map(str.lower, token))
