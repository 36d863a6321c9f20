"""The tagger: word and character representations, a recurrent stack, and a tag for each word."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gatewise.config import ModelConfig
from gatewise.models.finite import check_finite
from gatewise.models.stack import configured_stack
from gatewise.nn import draw_weights, in_eval_mode, linear_cross_entropy
from gatewise.nn.crf import CRF
from gatewise.nn.dropout import dropout
from gatewise.nn.words import EncodedSentences, WordBatch, WordEncoder
from gatewise.runtime.arguments import check_sentences
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.lexicon import Lexicon


class Tagger(WordEncoder):
    """Label each word of a sentence (Huang, Xu and Yu 2015, arXiv 1508.01991).

    ``x = dropout([embedding[word], characters(spelling)])``; ``y = rnn(x)`` with dropout between layers, in one
    direction or two; ``e = decoder(dropout(y))``; then ``p(tag) = softmax(e)`` for each word independently, or a
    linear-chain CRF over the sentence.

    Args:
        config: sizes and options: the ``[model]`` section of a recipe.
        words: the words with an embedding.
        characters: the characters with an embedding.
        tags: the tags, in the order of their ids.
        generator: generator for the initial weights, see ``draw_weights``; torch's default if not given.
        engine: the engine of the recurrent layers and the loss.
    """

    def __init__(
        self,
        config: ModelConfig,
        words: Lexicon,
        characters: Lexicon,
        tags: Sequence[str],
        generator: torch.Generator | None = None,
        engine: str = "auto",
    ) -> None:
        super().__init__(config, words, characters, engine)
        self.tags = list(tags)
        self.rnn = configured_stack(config, self.word_size, engine)
        self.decoder = nn.Linear(config.hidden_size * (2 if config.bidirectional else 1), len(self.tags))
        self.crf = CRF(len(self.tags)) if config.output == "crf" else None
        draw_weights(self, config.init_scale, config.forget_bias, generator=generator)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.decoder.weight.device

    def features(self, batch: WordBatch) -> Float[Tensor, "T B K"]:
        """Return the outputs of the last layer after dropout, K = H for one direction or 2·H for two."""
        x = dropout(self.encode(batch), self.config.dropout, self.training)
        y: Tensor = self.rnn(x, lengths=batch.lengths)[0]
        return dropout(y, self.config.dropout, self.training)

    def forward(self, batch: WordBatch, tags: Int[Tensor, "T B"]) -> Float[Tensor, ""]:
        """Return the mean over the batch's words of the negative log-likelihood in nats.

        With a CRF, this is the likelihood of whole sentences, divided by the number of words.

        Args:
            batch: a batch of sentences.
            tags: ids of their tags; values past the end of a sentence are ignored.
        """
        y, count = self.features(batch), int(batch.lengths.sum())
        if self.crf is not None:
            return self.crf.nll(self.decoder(y), tags, batch.lengths).sum() / count
        inside = (torch.arange(len(y))[:, None] < batch.lengths).to(y.device)
        weight, bias, engine = self.decoder.weight, self.decoder.bias, self.rnn.engine
        return linear_cross_entropy(y[inside], weight, bias, tags[inside], scale=1 / count, engine=engine)

    def predict(self, batch: WordBatch) -> Int[Tensor, "T B"]:
        """Return the ids of the best tags: for each word, or with a CRF for the sentence as a whole."""
        scores = self._scores(batch)
        return scores.argmax(2) if self.crf is None else self.crf.decode(scores, batch.lengths)

    def probabilities(self, batch: WordBatch) -> Float[Tensor, "T B C"]:
        """Return the probability of each tag for each word; with a CRF, the marginals."""
        scores = self._scores(batch)
        return torch.softmax(scores, 2) if self.crf is None else self.crf.marginals(scores, batch.lengths)

    def _scores(self, batch: WordBatch) -> Float[Tensor, "T B C"]:
        return check_finite(self.decoder(self.features(batch)), "the scores of the tags")

    def scores(self, sentences: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return the scores of the tags for each word, (words, C) on the CPU; a CRF's transitions are not part of them.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        return [scores.view(-1, len(self.tags)) for scores in self._each(sentences, self._scores)]

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the best tag of each word.

        Args:
            sentences: the words of each sentence; an empty sentence has no tags.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        return [[self.tags[index] for index in ids.tolist()] for ids in self._each(sentences, self.predict)]

    def tag_probabilities(self, sentences: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return the probability of each tag for each word, (words, C) on the CPU, tags in the order of ``tags``.

        With a CRF, these are its marginals: the probability for one word, summed over the tags of all others.

        Args:
            sentences: the words of each sentence.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        return [p.view(-1, len(self.tags)) for p in self._each(sentences, self.probabilities)]

    def _each(self, sentences: Sequence[Sequence[str]], read: Callable[[WordBatch], Tensor]) -> list[Tensor]:
        check_sentences(sentences)
        return self.read_each(EncodedSentences(sentences, self.lexicon, self.alphabet), read)

    def read_each(self, sentences: EncodedSentences, read: Callable[[WordBatch], Tensor]) -> list[Tensor]:
        """Process sentences in batches of similar length, in eval mode.

        Args:
            sentences: encoded with the words and characters of this model.
            read: ``predict`` or ``probabilities``.

        Returns:
            The part of the result for each sentence, on the CPU, in order; an empty tensor for one without words.
        """
        found = [torch.empty(0)] * len(sentences)
        with in_eval_mode(self):
            for rows in batches_by_length(sentences.lengths.tolist()):
                batch = sentences.batch(rows).to(self.device)
                result = read(batch).cpu()
                for column, (row, length) in enumerate(zip(rows, batch.lengths.tolist(), strict=True)):
                    found[row] = result[:length, column]
        return found
