"""The table of tasks: the name, the metric that selects the best weights, and the metrics of a finished run."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

TaskName = Literal[
    "language-model",
    "scratch-language-model",
    "tagger",
    "classifier",
    "text-classifier",
    "regressor",
    "memory-task",
]


@dataclass(frozen=True)
class Metric:
    """A metric of a model on a split.

    Attributes:
        name: its name, without the split.
        label: its name on an axis.
        higher_is_better: its direction.
    """

    name: str
    label: str
    higher_is_better: bool = False

    def to_minimize(self, value: float) -> float:
        """Return the value, negated if higher is better."""
        return -value if self.higher_is_better else value


class TaskRow(NamedTuple):
    """A row of the table."""

    metric: Metric
    """What an evaluation measures."""
    final: tuple[str, ...]
    """The keys of the final line of a finished run, in addition to the best epoch."""
    split: str = "valid"
    """The split that evaluations during training use."""

    @property
    def evaluated(self) -> str:
        """The key of the metric in the line of an evaluation, such as ``valid_perplexity``."""
        return f"{self.split}_{self.metric.name}"


PERPLEXITY = Metric("perplexity", "perplexity")
LOSS = Metric("loss", "loss")
ACCURACY = Metric("accuracy", "accuracy", higher_is_better=True)
RMSE = Metric("rmse", "root mean squared error")

_TEST, _TEXT = ("test_tokens", "test_data_hash"), ("test_tokens", "test_oov_rate", "test_data_hash")
_LABELS = ("test_accuracy", *_TEXT, "majority_test_accuracy")
_NUMBERS = ("test_rmse", "test_mae", *_TEST)
_TRAIN = ("train_sentences", "train_tokens", "train_oov_rate", "train_data_hash")

TASKS: dict[TaskName, TaskRow] = {
    "language-model": TaskRow(PERPLEXITY, ("test_perplexity", *_TEXT, "unigram_test_perplexity")),
    "scratch-language-model": TaskRow(LOSS, ("train_loss", "unigram_train_loss", *_TRAIN), "train"),
    "tagger": TaskRow(
        ACCURACY,
        ("test_accuracy", "test_accuracy_unseen", *_TEXT, "commonest_tag_test_accuracy"),
    ),
    "classifier": TaskRow(ACCURACY, _LABELS),
    "text-classifier": TaskRow(ACCURACY, _LABELS),
    "regressor": TaskRow(RMSE, _NUMBERS),
    "memory-task": TaskRow(RMSE, _NUMBERS),
}
"""Every task by its name; ``models/loading.py`` makes their models, ``tasks/kinds.py`` trains and evaluates them."""

MAY_BE_NULL = ("test_accuracy_unseen",)
"""Keys of a final line whose value may be missing: without unseen words, they have no accuracy."""

BASELINES = tuple(f"_test_{metric.name}" for metric in (ACCURACY, RMSE))
"""The ends of the keys of baselines in a final line, such as ``majority_test_accuracy``."""
