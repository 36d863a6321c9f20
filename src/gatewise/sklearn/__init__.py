"""Estimators with scikit-learn's interface: each trains a model through ``gatewise.train``.

They work in pipelines, grid searches and cross-validation, and can be cloned and pickled. Invalid input and invalid
parameters raise a ``ValueError``, as scikit-learn expects; those of Gatewise are ``InputError``, which is one.
"""

from gatewise.extras import import_extra

import_extra("sklearn", "scikit-learn", "gatewise.sklearn", "datasets")
import_extra("gatewise.tasks.train", "", "gatewise.sklearn", "train")

from gatewise.sklearn.classifiers import SequenceClassifier, TextClassifier  # noqa: E402  # after the two checks
from gatewise.sklearn.forecaster import Forecaster  # noqa: E402
from gatewise.sklearn.tagger import Tagger  # noqa: E402

__all__ = ["Forecaster", "SequenceClassifier", "Tagger", "TextClassifier"]
