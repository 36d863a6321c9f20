"""Tagging: sentences with tags, the training workload, evaluation."""

import json
from collections import Counter
from collections.abc import Iterator, Set
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gatewise.artifact.atomic import write_atomically
from gatewise.artifact.run_folder import Metrics, RunFolder, reading_for
from gatewise.config import TASKS, Config
from gatewise.config.tasks import ACCURACY
from gatewise.data.configured import TaggedPart, open_tagged, tagged_split, with_batches
from gatewise.data.tokenizer_file import lexicon_json
from gatewise.errors import DataError
from gatewise.models.loading import load
from gatewise.models.tagger import Tagger
from gatewise.nn.words import EncodedSentences, WordBatch
from gatewise.runtime.lexicon import Lexicon
from gatewise.tasks.confusion import Confusion
from gatewise.tasks.entities import entity_figures, marks_entities
from gatewise.tasks.task import Task, report_folder, settled, tested
from gatewise.training.batches import BatchWorkload
from gatewise.training.distributed import Group


class TaggerTask(Task):
    """A tagging run with its data loaded.

    Raises:
        UsageError: a setting has an unsupported value.
        DataError: the data is missing or invalid.
    """

    def __init__(self, config: Config) -> None:
        opened = open_tagged(config.data)
        self.parts = opened.parts
        train = self.parts["train"]
        settings = with_batches(opened.settings, len(train.sentences))
        self.config = settled(config, settings, len(train.sentences) // settings.batch_size)
        self.tags = sorted({tag for sentence in train.sentences for tag in sentence.tags})
        if len(self.tags) < 2:
            raise DataError(f"{train.name}: only {len(self.tags)} distinct tag ({self.tags[0]}); expected at least 2")
        unknown = [part.unknown(self.tags, settings.strict) for part in self.parts.values()]
        self.notes = [*opened.notes, *filter(None, unknown)]
        self.targets = {
            split: [torch.from_numpy(tags) for tags in part.numbered(self.tags)] for split, part in self.parts.items()
        }
        words = list(chain.from_iterable(train.words))
        self.seen = set(words)
        self.words = Lexicon.from_tokens(words, settings.min_count, settings.lowercase)
        self.characters = Lexicon.from_tokens(chain.from_iterable(words))

    @property
    def summary(self) -> str:
        """The numbers of training words and sentences, vocabulary entries and tags."""
        train = self.parts["train"]
        count = sum(map(len, train.words))
        return (
            f"{count:,} words in {len(train.sentences):,} sentences to train on, {len(self.words):,} words and "
            f"{len(self.characters)} characters known, {len(self.tags)} tags"
        )

    def make_model(self) -> Tagger:
        """Create the model."""
        engine = self.config.runtime.engine
        return Tagger(self.config.model, self.words, self.characters, self.tags, engine=engine)

    def write_parts(self, run: RunFolder) -> None:
        """Write the vocabularies of words and characters, the tags, and the words seen in training."""
        write_atomically(run.tokenizer_file, lexicon_json(self.words))
        write_atomically(run.characters_file, lexicon_json(self.characters))
        facts = {"labels": self.tags, "seen_words": sorted(self.seen)}
        write_atomically(run.labels_file, json.dumps(facts, indent=0, ensure_ascii=False) + "\n")

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Tagging":
        """Return a workload of shuffled batches of sentences of similar length."""
        assert isinstance(model, Tagger)
        return Tagging(self, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split, and score the most-frequent-tag baseline."""
        assert isinstance(model, Tagger)
        part = self.parts["test"]
        confusion, figures = score(model, part, self.seen)
        confusion.save(run.figures, f"test, {part.data_hash[:12]}")
        guessed, own = self._commonest_tags(part), [sentence.tags for sentence in part.sentences]
        hits = [guess == tag for pair in zip(guessed, own, strict=True) for guess, tag in zip(*pair, strict=True)]
        found = {**tested(self.config, figures), "commonest_tag_test_accuracy": sum(hits) / len(hits)}
        if figures.get("entity_f1") is not None:
            entities = entity_figures(own, guessed)
            found |= {"test_entity_f1": figures["entity_f1"], "commonest_tag_test_entity_f1": entities["entity_f1"]}
        return found

    def _commonest_tags(self, part: TaggedPart) -> list[list[str]]:
        """Return each word's most frequent tag in training and, for unseen words, the most frequent tag of all."""
        counts: dict[str, Counter[str]] = {}
        every: Counter[str] = Counter()
        for word, tag in _pairs(self.parts["train"]):
            counts.setdefault(word, Counter())[tag] += 1
            every[tag] += 1
        best = {word: found.most_common(1)[0][0] for word, found in counts.items()}
        fallback = every.most_common(1)[0][0]
        return [[best.get(word, fallback) for word in words] for words in part.words]


def _pairs(part: TaggedPart) -> Iterator[tuple[str, str]]:
    for sentence in part.sentences:
        yield from zip(sentence.words, sentence.tags, strict=True)


class Tagging(BatchWorkload):
    """The training workload: the mean negative log-likelihood per word of a batch."""

    token_name = "words"

    def __init__(self, task: TaggerTask, model: Tagger, run: RunFolder, group: Group) -> None:
        own = slice(group.rank, None, group.world_size)  # this process's share of the validation split
        words = {"train": task.parts["train"].words, "valid": task.parts["valid"].words[own]}
        self._encoded = {split: EncodedSentences(some, task.words, task.characters) for split, some in words.items()}
        lengths = self._encoded["train"].lengths
        super().__init__(task.config, model, run, group, len(lengths), lengths.tolist())
        self.targets = {"train": task.targets["train"], "valid": task.targets["valid"][own]}
        self.tagger = model

    def tokens_in(self, step: int) -> int:
        """Return the number of words in the batch."""
        return int(self._encoded["train"].lengths[self.chosen(step)].sum())

    def inputs(self, step: int) -> tuple[WordBatch, Tensor, int]:
        """Return sentences, their tags (T, B), and the number of words over all processes."""
        chosen = self.share(self.chosen(step))
        targets = pad_sequence([self.targets["train"][row] for row in chosen])
        return self._encoded["train"].batch(chosen), targets, self.tokens_in(step)

    def cost(self, inputs: tuple[WordBatch, Tensor, int]) -> tuple[Tensor, float]:
        """Return the mean over the words of the whole batch, scaled so that averaging over the processes is exact."""
        batch, targets, words = inputs
        cost: Tensor = self.forward(batch, targets)
        if self.group.world_size > 1:
            cost = cost * (int(batch.lengths.sum()) * self.group.world_size / words)
        return cost, 1.0

    def validate(self) -> tuple[Metrics, float]:
        """Return the accuracy on the validation split, in fp32."""
        found = self.tagger.read_each(self._encoded["valid"], self.tagger.predict)
        pairs = list(zip(found, self.targets["valid"], strict=True))
        hits = sum(int((tags == target).sum()) for tags, target in pairs)
        total, count = self.group.sum(hits, sum(len(target) for _, target in pairs))
        return {TASKS["tagger"].evaluated: total / count}, ACCURACY.to_minimize(total / count)


def score(model: Tagger, part: TaggedPart, seen: Set[str]) -> tuple[Confusion, dict[str, Any]]:
    """Tag a split and compare with its tags; return the confusion matrix, and the metrics of the split.

    Args:
        model: the tagger.
        part: tagged sentences.
        seen: the words of the training text, as written.

    A tag that the model does not know counts as an error.
    """
    expected = np.concatenate(part.numbered(model.tags))
    encoded = EncodedSentences(part.words, model.lexicon, model.alphabet)
    each = model.read_each(encoded, model.predict)
    found = torch.cat(each).numpy()
    words = list(chain.from_iterable(part.words))
    unseen = np.array([word not in seen for word in words])
    right = found == expected
    confusion = Confusion.count(model.tags, expected, found)
    entities = dict[str, Any]()
    if marks_entities(model.tags):
        named = [[model.tags[tag] for tag in tags.tolist()] for tags in each]
        entities = entity_figures([sentence.tags for sentence in part.sentences], named)
    return confusion, {
        "accuracy": float(right.mean()),
        "accuracy_unseen": float(right[unseen].mean()) if unseen.any() else None,
        "tokens": len(expected),
        "oov_rate": float(np.mean(np.array(model.lexicon.encode(words)) == model.lexicon.unk_id)),
        "data_hash": part.data_hash,
        "baseline_accuracy": confusion.majority / len(expected),
        "unknown_labels": int((expected < 0).sum()),
        **entities,
    }


def evaluate_tagger(
    run: RunFolder, config: Config, data: str | Path | None, split: str, device: torch.device
) -> dict[str, Any]:
    """Evaluate the best weights on a split, in fp32, and save the confusion matrix in the run folder.

    Args:
        run: the run folder.
        config: the run's configuration.
        data: a folder with the split, or a file; defaults to the run's own data.
        split: ``train``, ``valid`` or ``test``.
        device: the device to compute on.

    Returns:
        ``accuracy, accuracy_unseen`` (None if all words were seen in training), ``tokens`` (words scored), ``oov_rate``
        (words read as ``<unk>``), ``data_hash, baseline_accuracy`` (of the most frequent tag of this split),
        ``unknown_labels`` (words whose tag the model does not know, which count as errors); the figures of
        ``entity_figures`` for tags that mark entities; for each tag ``precision_TAG, recall_TAG, f1_TAG`` (None where
        the denominator is zero) and ``tokens_TAG``; ``confusion``, the file with the matrix (None if the run folder is
        not writable).
    """
    model = load(run.path, Tagger, device=device)
    seen = run.read_labels("seen_words").seen_words or frozenset()
    with reading_for(run, data):
        part = tagged_split(config.data, split, data)
        part.unknown(model.tags, config.data.strict, some=data is not None)
    confusion, figures = score(model, part, seen)
    saved = _save(confusion, report_folder(run, data), f"{split}, {part.data_hash[:12]}")
    return {**figures, **confusion.figures(), "confusion": saved}


def _save(confusion: Confusion, folder: Path, title: str) -> str | None:
    """Save the matrix and return its path, or None if it cannot be written: the metrics are printed all the same."""
    try:
        return str(confusion.save(folder, title))
    except OSError:  # another user's folder, a read-only file system, a full disk
        return None
