"""The text classifier: word and character representations, a recurrent stack, and one label per text."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.models.finite import check_finite
from gatewise.models.stack import configured_stack, pooled
from gatewise.nn import draw_weights, in_eval_mode
from gatewise.nn.dropout import dropout
from gatewise.nn.words import EncodedSentences, WordBatch, WordEncoder
from gatewise.runtime.arguments import words_of
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.vocabulary import split_tokens


class TextClassifier(WordEncoder):
    """Classify each text into C labels.

    ``x = dropout([embedding[word], characters(spelling)])``; ``y, (h_n, …) = rnn(x)`` with dropout between layers;
    ``p = pool(y, h_n)``: last, mean or maximum; ``z = decoder(dropout(p))``; ``p(label) = softmax(z)``.

    Args:
        config: sizes and options: the ``[model]`` section of a recipe.
        words: the words with an embedding.
        characters: the characters with an embedding.
        labels: the C labels, in the order of their ids.
        level: how to split a text into words: ``word``, ``character`` or ``prose``.
        engine: the engine of the recurrent layers.
    """

    def __init__(
        self,
        config: ModelConfig,
        words: Lexicon,
        characters: Lexicon,
        labels: Sequence[str],
        level: str = "word",
        engine: str = "auto",
    ) -> None:
        super().__init__(config, words, characters, engine)
        self.labels, self.level = list(labels), level
        self.rnn = configured_stack(config, self.word_size, engine)
        self.decoder = nn.Linear(self.rnn.spec.num_directions * config.hidden_size, len(self.labels))
        draw_weights(self, config.init_scale, config.forget_bias, config.decoder_std, config.decoder_bias)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.decoder.weight.device

    def forward(self, batch: WordBatch, targets: Int[Tensor, " B"] | None = None) -> Tensor:
        """Return the logits (B, C); with targets, the mean negative log-likelihood in nats, a scalar."""
        x = dropout(self.encode(batch), self.config.dropout, self.training)
        outputs = pooled(self.rnn, x, batch.lengths, self.config.pooling)
        logits: Tensor = self.decoder(dropout(outputs, self.config.dropout, self.training))
        return logits if targets is None else F.cross_entropy(logits, targets)

    def split(self, text: str) -> list[str]:
        """Split a text into words in the same way as the training texts."""
        return list(split_tokens(text, self.level))

    def predict_proba(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> Float[Tensor, "N C"]:
        """Return the probability of each label for each text, on the CPU.

        Args:
            texts: strings, or lists of words.

        Raises:
            UsageError: a single string was given, or a text is missing or has no words.
        """
        return self._each(texts, lambda words: [words])

    def predict_proba_over_time(self, text: str | Sequence[str]) -> Float[Tensor, "T C"]:
        """Return, for one text, the probabilities after its first t+1 words only, for each t."""
        return self._each([text], lambda words: [words[: k + 1] for k in range(len(words))])

    def predict(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> list[str]:
        """Return the most probable label of each text."""
        return [self.labels[k] for k in self.predict_proba(texts).argmax(1).tolist()]

    def _each(
        self, texts: Sequence[str] | Sequence[Sequence[str]], cut: Callable[[list[str]], list[list[str]]]
    ) -> Float[Tensor, "N C"]:
        """Classify the pieces that ``cut`` makes of each text, in batches of similar length, in eval mode."""
        read = [piece for words in words_of(texts, self.level) for piece in cut(words)]
        encoded = EncodedSentences(read, self.lexicon, self.alphabet)
        answers = torch.empty(len(read), len(self.labels), dtype=self.decoder.weight.dtype)
        with in_eval_mode(self):
            for rows in batches_by_length(encoded.lengths.tolist()):
                answers[np.array(rows)] = self(encoded.batch(rows).to(self.device)).softmax(1).cpu()
        return check_finite(answers, "the probabilities")
