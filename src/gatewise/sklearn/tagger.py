"""A tagger of the words of sentences."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from gatewise.data.objects import sentences_of
from gatewise.errors import InputError
from gatewise.sklearn.base import Estimator, of_strings


class Tagger(Estimator):
    """Label each word of a sentence with ``gatewise.Tagger``; the default recipe is tagger.

    X is a list of sentences, each a list of words; y has a list of tags for each. The parameters are those of
    ``Estimator``.

    Attributes:
        classes_: (C,) the tags.
        model_: the ``gatewise.Tagger``.
        history_: the metrics of each epoch.
    """

    _recipe = "tagger"

    def fit(self, X: Any, y: Any) -> "Tagger":
        """Train on sentences X and their tags y.

        Raises:
            ValueError: a sentence is empty or no list of strings, or has not one tag for each word.
        """
        words, tags = sentences_of(X, "words"), sentences_of(y, "tags")
        check_consistent_length(words, tags)
        self._fit_parts(words, tags, None)
        self.classes_ = np.array(self.model_.tags)
        return self

    def predict(self, X: Any) -> list[list[str]]:
        """Return the tags of each sentence."""
        check_is_fitted(self)
        tags: list[list[str]] = self.model_.tag(sentences_of(X, "words"))
        return tags

    def predict_proba(self, X: Any) -> list[npt.NDArray[np.floating]]:
        """Return the probability of each tag for each word, (words, C) for each sentence, as ``classes_``."""
        check_is_fitted(self)
        return [p.numpy() for p in self.model_.tag_probabilities(sentences_of(X, "words"))]

    def score(self, X: Any, y: Any) -> float:
        """Return the share of words whose tag is predicted correctly."""
        found, tags = self.predict(X), sentences_of(y, "tags")
        check_consistent_length(found, tags)
        if any(len(own) != len(given) for own, given in zip(found, tags, strict=True)):
            raise InputError("X and y have sentences of different lengths; expected a tag for each word")
        return float(accuracy_score([tag for own in tags for tag in own], [tag for own in found for tag in own]))

    def __sklearn_tags__(self) -> Any:
        return of_strings(super().__sklearn_tags__())
