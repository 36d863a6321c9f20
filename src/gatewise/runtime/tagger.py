"""The tagger: a tag for each word of a sentence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatewise.runtime.arguments import check_sentences
from gatewise.runtime.batches import batches_by_length
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.library import Inputs, words
from gatewise.runtime.model import Floats, Model
from gatewise.runtime.model_file import ModelFile
from gatewise.runtime.sequences import Words


class Tagger(Model):
    """A tagger; its inputs are words, and ``step`` returns the scores of the tags.

    Attributes:
        tags: the tags, in the order of their ids.
        vocabulary: the words with an embedding.
    """

    def __init__(self, file: ModelFile, threads: int) -> None:
        super().__init__(file, threads)
        self.tags: list[str] = file.about["labels"]
        self.vocabulary = Lexicon(file.about["tokens"], file.about["lowercase"])

    def _inputs(self, inputs: Any) -> Inputs:
        check_sentences([inputs])
        return words(inputs)

    def scores(self, sentences: Sequence[Sequence[str]]) -> list[Floats]:
        """Return the scores of the tags for each word, (words, C) float32; the CRF's transitions are not part of them.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        check_sentences(sentences)
        return self._read_over_time(Words(sentences))

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the best tag of each word or, with a CRF, the best sequence of tags.

        Args:
            sentences: the words of each sentence; an empty sentence has no tags.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        return [[self.tags[index] for index in ids.tolist()] for ids in self._each(sentences, self._native.tag)]

    def tag_probabilities(self, sentences: Sequence[Sequence[str]]) -> list[npt.NDArray[np.float64]]:
        """Return the probability of each tag for each word, (words, C), tags in the order of ``tags``.

        With a CRF, these are its marginals: the probability for one word, summed over the tags of all others.

        Args:
            sentences: the words of each sentence.

        Raises:
            UsageError: a string was given instead of a list of words.
        """
        return [p.reshape(-1, len(self.tags)) for p in self._each(sentences, self._native.tag_probabilities)]

    def _each(
        self, sentences: Sequence[Sequence[str]], read: Callable[[npt.NDArray[np.int64], Inputs], npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """Read sentences in batches of similar length; return what there is for the words of each."""
        check_sentences(sentences)
        given = Words(sentences)
        found: list[npt.NDArray[Any]] = [np.zeros(0)] * len(sentences)
        for rows in batches_by_length(given.lengths.tolist()):
            lengths = given.lengths[rows]
            each = np.split(read(lengths, given.batch(rows)), np.cumsum(lengths)[:-1])
            for row, part in zip(rows, each, strict=True):
                found[row] = part
        return found
