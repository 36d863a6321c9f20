"""The text classifier: one label for each text."""

from collections.abc import Sequence
from typing import Any

from gatewise.runtime.answers import Verdict, softmax, verdicts
from gatewise.runtime.arguments import check_sentences, words_of
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.library import Inputs, words
from gatewise.runtime.model import Floats, Model
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.sequences import Words
from gatewise.runtime.vocabulary import split_tokens

Texts = Sequence[str] | Sequence[Sequence[str]]


class TextClassifier(Model):
    """A classifier of texts, strings or lists of words; ``step`` reads a word.

    Attributes:
        labels: the C labels, in the order of their ids.
        vocabulary: the words with an embedding.
        level: how a text is split: ``word``, ``character`` or ``prose``.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        super().__init__(file, threads)
        self.labels: list[str] = file.about["labels"]
        self.vocabulary = Lexicon(file.about["tokens"], file.about["lowercase"])
        self.level: str = file.about["level"]

    def _inputs(self, inputs: Any) -> Inputs:
        check_sentences([inputs])
        return words(inputs)

    def split(self, text: str) -> list[str]:
        """Split a text into words in the same way as the training texts."""
        return list(split_tokens(text, self.level))

    def predict_proba(self, texts: Texts) -> Floats:
        """Return the probability of each label for each text, (N, C) float32.

        Raises:
            UsageError: a single string was given, or a text is missing or has no words.
        """
        return softmax(self._read_all(Words(words_of(texts, self.level))))

    def predict_proba_over_time(self, text: str | Sequence[str]) -> Floats:
        """Return, for one text, the probabilities after its first t+1 words only, for each t: (T, C)."""
        return self._over_time([text] if isinstance(text, str) else [list(text)])[0]

    def predict(self, texts: Texts) -> list[str]:
        """Return the most probable label of each text."""
        return [self.labels[k] for k in self.predict_proba(texts).argmax(1).tolist()]

    def classify(self, inputs: Texts, over_time: bool = False) -> list[Verdict]:
        """Return the verdict on each text; with ``over_time``, after each of its words."""
        return verdicts(
            self.labels, self._over_time(inputs) if over_time else list(self.predict_proba(inputs)[:, None])
        )

    def _over_time(self, texts: Texts) -> list[Floats]:
        return [softmax(logits) for logits in self._read_over_time(Words(words_of(texts, self.level)))]
