"""The tagger: a tag for each word of a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
        check_sentences(sentences)
        given = Words(sentences)
        found = [list[str]() for _ in sentences]
        for rows in batches_by_length(given.lengths.tolist()):
            lengths = given.lengths[rows]
            ids = self._native.tag(lengths, given.batch(rows))
            for row, part in zip(rows, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
                found[row] = [self.tags[index] for index in part.tolist()]
        return found
