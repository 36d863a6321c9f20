"""Classifiers of sequences of numbers and of texts."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from gatewise.data.objects import sequences, texts_of
from gatewise.errors import InputError
from gatewise.sklearn.base import Estimator, of_strings, value_errors


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A classifier with a label for each example."""

    def _fit_classes(self, x: Any, y: npt.NDArray[Any]) -> Any:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y has only one class, {self.classes_[0]!r}; expected at least two classes")
        self._fit_parts(x, codes, codes.tolist())
        return self

    def _ordered(self, probabilities: Any) -> npt.NDArray[np.float64]:
        """Return probabilities in the order of ``classes_``: the labels of the model are their numbers."""
        order = np.argsort([int(label) for label in self.model_.labels])
        p: npt.NDArray[np.float64] = np.asarray(probabilities, np.float64)[:, order]
        p /= p.sum(1, keepdims=True)
        return p

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable label of each example, (N,)."""
        best = self.predict_proba(X).argmax(1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels


class SequenceClassifier(Classifier):
    """Classify sequences of numbers with ``gatewise.SequenceClassifier``; the default recipe is sequence-classifier.

    X is an array (N, T, I): N sequences of T steps of I numbers; or a list of N arrays (T_n, I), for sequences of
    different lengths; or a table (N, F), whose rows are read as F steps of one number, in the order of the columns.
    Numbers are read as they are: scale them, for instance with ``StandardScaler``. An array of uint8 holds pixels,
    which are scaled by 1/255.

    The parameters are those of ``Estimator``.

    Attributes:
        classes_: (C,) the labels.
        n_features_in_: I or, for a table, F.
        model_: the ``gatewise.SequenceClassifier``, whose labels are the positions in ``classes_``.
        history_: the metrics of each epoch.
    """

    _recipe = "sequence-classifier"

    def fit(self, X: Any, y: Any) -> "SequenceClassifier":
        """Train on sequences X and their labels y, (N,).

        Raises:
            ValueError: the shapes do not fit, a number is not finite, or there are fewer than two classes.
        """
        if _is_table(X):
            x, y = validate_data(self, X, y, dtype="numeric")
            x, self._reads_table = x[:, :, None], True
        else:
            x, y = self._read(X), column_or_1d(y, warn=True)
            check_consistent_length(x, y)
            self.n_features_in_, self._reads_table = x[0].shape[1], False
        return self._fit_classes(x, y)  # type: ignore[no-any-return]

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each label, (N, C), in the order of ``classes_``."""
        check_is_fitted(self)
        if self._reads_table != _is_table(X):
            found, expected = ("a table", "sequences") if _is_table(X) else ("sequences", "a table")
            raise InputError(f"X holds {found}; expected {expected}, as in fit")
        x = validate_data(self, X, dtype="numeric", reset=False)[:, :, None] if self._reads_table else self._read(X)
        if not self._reads_table and x[0].shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {x[0].shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        with value_errors():
            return self._ordered(self.model_.predict_proba(x))

    @staticmethod
    def _read(X: Any) -> Any:
        """Return sequences as an array (N, T, I) or a list of arrays (T_n, I), checked."""
        if isinstance(X, list | tuple) or X.dtype == object:
            together, lengths = sequences(X, "X")
            return together if lengths is None else [row[:n] for row, n in zip(together, lengths, strict=True)]
        return check_array(X, dtype="numeric", ensure_2d=False, allow_nd=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class TextClassifier(Classifier):
    """Classify texts with ``gatewise.TextClassifier``; the default recipe is text-classifier.

    X is a list, array or column of strings. How a text is split into words follows from the training texts
    (``overrides={"data.level": ...}`` sets it). The parameters are those of ``Estimator``.

    Attributes:
        classes_: (C,) the labels.
        model_: the ``gatewise.TextClassifier``, whose labels are the positions in ``classes_``.
        history_: the metrics of each epoch.
    """

    _recipe = "text-classifier"

    def fit(self, X: Any, y: Any) -> "TextClassifier":
        """Train on texts X and their labels y, (N,).

        Raises:
            ValueError: a text is no string or has no words, or there are fewer than two classes.
        """
        texts, y = self._read(X), column_or_1d(y, warn=True)
        check_consistent_length(texts, y)
        return self._fit_classes(texts, y)  # type: ignore[no-any-return]

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each label, (N, C), in the order of ``classes_``."""
        check_is_fitted(self)
        texts = self._read(X)
        with value_errors():
            return self._ordered(self.model_.predict_proba(texts))

    @staticmethod
    def _read(X: Any) -> list[str]:
        texts = texts_of(X)
        if (place := next((place for place, text in enumerate(texts) if not text.strip()), None)) is not None:
            raise InputError(f"text {place} has no words; expected at least one word in each text")
        return texts

    def __sklearn_tags__(self) -> Any:
        return of_strings(super().__sklearn_tags__())


def _is_table(X: Any) -> bool:
    """Return whether X is two-dimensional, or anything else that scikit-learn shall read or refuse."""
    if isinstance(X, list | tuple):
        return not (len(X) and _dimensions(X[0]) == 2)
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        return not (len(X) and _dimensions(X[0]) == 2)
    return not (hasattr(X, "dtype") and getattr(X, "ndim", 0) == 3)


def _dimensions(one: Any) -> int:
    """Return 2 for an array (T, I) or a list of lists."""
    if hasattr(one, "ndim"):
        return int(one.ndim)
    return 2 if isinstance(one, list | tuple) and len(one) and isinstance(one[0], list | tuple) else 1
