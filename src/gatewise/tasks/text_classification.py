"""Text classification: data and evaluation."""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder, reading_for
from gatewise.config import Config
from gatewise.data.arrays import check_classes
from gatewise.data.configured import labelled_split, open_labelled, with_batches
from gatewise.data.labelled import LabelledFile, LabelledText
from gatewise.data.tokenizer_file import lexicon_json
from gatewise.models.loading import load
from gatewise.models.text_classifier import TextClassifier
from gatewise.nn.words import EncodedSentences, WordBatch
from gatewise.runtime.lexicon import Lexicon
from gatewise.tasks.classification import (
    Examples,
    LabelTask,
    evaluate_given,
    label_indices,
    unknown_labels,
)
from gatewise.tasks.task import settled
from gatewise.training.batches import Indices
from gatewise.wording import setting


class LabelledTexts(Examples):
    """Texts as word and character ids, with labels."""

    def __init__(
        self, file: LabelledFile, words: Lexicon, characters: Lexicon, labels: Sequence[str], strict: bool = False
    ) -> None:
        texts = file.texts
        self.file = file
        self.encoded = EncodedSentences([text.words for text in texts], words, characters)
        self.lengths = self.encoded.lengths
        found = [text.label for text in texts]
        self.targets = label_indices(found, labels)
        self.notes = unknown_labels(found, labels, [f"{file.path}:{text.line}" for text in texts], strict)
        self.data_hash = file.data_hash
        ids = words.encode(chain.from_iterable(text.words for text in texts))
        self.oov_rate = ids.count(words.unk_id) / len(ids)

    def describe(self, index: int) -> tuple[str, str, str]:
        """Return the line of a text, its label, and its words."""
        text = self.file.texts[index]
        return f"{self.file.path}:{text.line}", text.label, " ".join(text.words)

    def inputs(self, indices: Indices) -> dict[str, WordBatch]:
        """Return a batch of texts."""
        return {"batch": self.encoded.batch(indices)}


class TextClassifierTask(LabelTask):
    """A text classification run with its data loaded.

    Raises:
        UsageError: the configuration names no data.
        DataError: the data is missing or invalid.
    """

    token_name = "words"

    def __init__(self, config: Config) -> None:
        opened = open_labelled(config.data)
        files = opened.parts
        settings = with_batches(opened.settings, len(files["train"].texts))
        self.config = settled(config, settings, len(files["train"].texts) // settings.batch_size)
        self.texts = {split: file.texts for split, file in files.items()}
        self.labels = check_classes([text.label for text in self.texts["train"]], files["train"].path)
        flat = list(chain.from_iterable(text.words for text in self.texts["train"]))
        self.words = Lexicon.from_tokens(flat, settings.min_count, settings.lowercase)
        self.characters = Lexicon.from_tokens(chain.from_iterable(flat))
        self.parts = {
            split: LabelledTexts(file, self.words, self.characters, self.labels, settings.strict)
            for split, file in files.items()
        }
        self.notes = [
            *opened.notes,
            *_many_labels([text.label for part in self.texts.values() for text in part], settings.label_column),
            *(note for part in self.parts.values() for note in part.notes),
        ]

    @property
    def summary(self) -> str:
        """The numbers of training texts, words, vocabulary entries and labels."""
        train = self.parts["train"]
        assert train.lengths is not None
        return (
            f"{len(train):,} texts, {train.lengths.sum():,} words to train on, vocabulary {len(self.words):,}, "
            f"{len(self.labels)} labels"
        )

    def make_model(self) -> TextClassifier:
        """Create the model."""
        config = self.config
        return TextClassifier(
            config.model, self.words, self.characters, self.labels, config.data.level, config.runtime.engine
        )

    def write_parts(self, run: RunFolder) -> None:
        """Write the vocabularies of words and characters, and the labels."""
        write_atomically(run.tokenizer_file, lexicon_json(self.words))
        write_atomically(run.characters_file, lexicon_json(self.characters))
        write_atomically(run.labels_file, json.dumps({"labels": self.labels}, indent=1) + "\n")

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split; score a majority baseline and, if scikit-learn is there, logistic regression."""
        figures = super().final(model, run)
        if find_spec("sklearn"):
            figures["logistic_regression_test_accuracy"] = logistic_regression_accuracy(self.texts)
        return figures


def _many_labels(labels: Sequence[str], column: str) -> list[str]:
    """Return a note if there are more than half as many different labels as texts."""
    different = len(set(labels))
    if 2 * different <= len(labels):
        return []
    return [
        f"{different:,} labels for {len(labels):,} texts: most have too few texts to learn from; if {column!r} does "
        f"not hold the labels, name the column that does with {setting('data.label_column', 'NAME')}"
    ]


STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Values of C for the logistic regression; the best on the validation split is used."""


def logistic_regression_accuracy(texts: Mapping[str, Sequence[LabelledText]]) -> float:
    """Return the test accuracy of a logistic regression on counts of lowercased words, which ignores word order."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    count = CountVectorizer(analyzer=lambda text: [word.lower() for word in text.words])
    x = {split: (count.transform if split != "train" else count.fit_transform)(part) for split, part in texts.items()}
    y = {split: [text.label for text in part] for split, part in texts.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on labels that are many, and on fits that stop early: the best one is taken
        fitted = [LogisticRegression(C=c, max_iter=1000).fit(x["train"], y["train"]) for c in STRENGTHS]
        best = max(fitted, key=lambda one: one.score(x["valid"], y["valid"]))
        return float(best.score(x["test"], y["test"]))


def evaluate_texts(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Evaluate the best weights on a split, or a file, in fp32."""
    model = load(run.path, TextClassifier, device=device)
    with reading_for(run, data):
        file = labelled_split(config.data, split, data)
    part = LabelledTexts(file, model.lexicon, model.alphabet, model.labels, config.data.strict)
    return evaluate_given(model, model.labels, part, run, data, split)
