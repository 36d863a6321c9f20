"""Classification with one label per example, whatever the input: workload, validation, evaluation and model card."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatewise.artifact.run_folder import Metrics, RunFolder
from gatewise.config import TASKS
from gatewise.config.tasks import ACCURACY
from gatewise.data.configured import none_known
from gatewise.errors import DataError
from gatewise.inspection.mistakes import Picture
from gatewise.models.finite import check_finite
from gatewise.nn import in_eval_mode
from gatewise.tasks.confusion import Confusion
from gatewise.tasks.mistakes import DRAWN, Mistake, find_mistakes, save_mistakes
from gatewise.tasks.task import Task, report_folder, tested
from gatewise.training.batches import BatchWorkload, Indices
from gatewise.training.distributed import Group
from gatewise.training.feed import moved

SCORED_TOGETHER = 500
"""Examples evaluated per batch; the accuracy does not depend on it."""
SOME = 1000
"""Training examples whose accuracy is measured at each evaluation, the same ones each time."""
FEW_EXAMPLES = 100
"""Examples whose labels an error message draws on."""


class Examples(ABC):
    """One split of the data: N examples with the indices of their labels.

    Attributes:
        targets: label indices, (N,).
        data_hash: SHA-256 of the data.
        lengths: steps of each example, (N,); None if all have the same length.
        oov_rate: the share of out-of-vocabulary words; 0 for numbers.
        notes: on labels that do not occur in the training split.
    """

    targets: npt.NDArray[np.int64]
    data_hash: str
    lengths: npt.NDArray[np.int64] | None = None
    oov_rate: float = 0.0
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def describe(self, index: int) -> tuple[str, str, str]:
        """Return where an example comes from, its label as text, and its text, if it is one."""

    def picture(self, mistake: Mistake) -> Picture | None:
        """Return a mistake as a picture, if the examples are numbers."""
        return None

    @abstractmethod
    def inputs(self, indices: Indices) -> dict[str, Any]:
        """Return a batch of examples as arguments of the model, on the CPU."""


def label_indices(found: Sequence[Any], labels: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return the index of each label in the labels of the training split; -1 for one that does not occur there."""
    ids = {label: index for index, label in enumerate(labels)}
    return np.array([ids.get(label, -1) for label in found], dtype=np.int64)


def unknown_labels(
    found: Sequence[Any], labels: Sequence[Any], where: Sequence[str] | str, strict: bool = False
) -> list[str]:
    """Return a note on labels that do not occur in the training split, which count as errors; none if all do.

    Args:
        found: the labels of some examples.
        labels: the labels of the training split.
        where: a name for each example, or one name for the whole split.
        strict: refuse them.

    Raises:
        DataError: there are such labels, and ``strict`` refuses them.
    """
    unknown = np.flatnonzero(label_indices(found, labels) < 0)
    if not len(unknown):
        return []
    first, count = int(unknown[0]), len(unknown)
    name = f"{where}, example {first}" if isinstance(where, str) else where[first]
    what = f"{name}: the label {found[first]!r} does not occur in the training data"
    if strict:
        raise DataError(f"{what}; expected known labels only (data.strict), correct it or train on it")
    return [
        f"{what}; {'1 such example counts as an error' if count == 1 else f'{count:,} such examples count as errors'}"
    ]


def check_some_known(part: Examples, labels: Sequence[Any]) -> None:
    """Check that data given for an evaluation has at least one label of the training split.

    Raises:
        DataError: it has none.
    """
    if (part.targets >= 0).any():
        return
    found = list(dict.fromkeys(part.describe(index)[1] for index in range(min(len(part), FEW_EXAMPLES))))
    raise DataError(f"{part.describe(0)[0]}: {none_known('labels', found, [str(label) for label in labels])}")


class LabelTask(Task):
    """A classification run with its data loaded.

    Attributes:
        labels: the C labels.
        parts: the splits ``train``, ``valid`` and ``test``.
    """

    labels: list[Any]
    parts: Mapping[str, Examples]
    token_name = "sequences"

    def workload(self, model: nn.Module, run: RunFolder, group: Group) -> "Classification":
        """Return a workload of shuffled batches."""
        return Classification(self, model, run, group)

    def final(self, model: nn.Module, run: RunFolder) -> Metrics:
        """Evaluate on the test split, save its confusion matrix and mistakes, and score the majority-label baseline."""
        test, train = self.parts["test"], self.parts["train"]
        figures = evaluate_part(model, self.labels, test, run.figures, "test")
        majority = float((test.targets == np.bincount(train.targets).argmax()).mean())
        return {
            **tested(self.config, figures),
            "test_macro_f1": figures["macro_f1"],
            "majority_test_accuracy": majority,
        }


class Classification(BatchWorkload):
    """The training workload: the mean negative log-likelihood of a batch's labels."""

    def __init__(self, task: LabelTask, model: nn.Module, run: RunFolder, group: Group) -> None:
        train = task.parts["train"]
        super().__init__(task.config, model, run, group, len(train), train.lengths)
        self.task, self.token_name = task, task.token_name
        self.label_weights: Tensor | None = None
        if task.config.training.class_weights == "balanced":
            counts = np.bincount(train.targets, minlength=len(task.labels))
            self.label_weights = torch.tensor(len(train) / (len(counts) * counts), dtype=torch.float32).to(group.device)

    def tokens_in(self, step: int) -> int:
        """Return the total steps of the batch if lengths differ, otherwise the number of examples."""
        return self.batch_size if self.lengths is None else int(self.lengths[self.chosen(step)].sum())

    def inputs(self, step: int) -> tuple[dict[str, Any], Tensor]:
        """Return the arguments of the model, and the targets."""
        chosen, part = self.share(self.chosen(step)), self.task.parts["train"]
        return part.inputs(chosen), torch.from_numpy(part.targets[chosen])

    def cost(self, inputs: tuple[dict[str, Any], Tensor]) -> tuple[Tensor, float]:
        """Return the mean over this process's share of the batch."""
        arguments, targets = inputs
        if self.label_weights is None:
            cost: Tensor = self.forward(**arguments, targets=targets)
        else:
            each = F.cross_entropy(self.forward(**arguments), targets, reduction="none")
            cost = (each * self.label_weights[targets]).mean()
        # Gradients are averaged over the processes, so each mean is weighted by its share of the batch.
        return cost * (len(targets) * self.group.world_size / self.batch_size), 1.0

    def validate(self) -> tuple[Metrics, float]:
        """Return the accuracy on the validation split and on the training split, without dropout.

        Of a large training split, ``SOME`` examples stand for all, or as many as the validation split has.
        """
        figures: Metrics = {}
        valid, train = len(self.task.parts["valid"]), len(self.task.parts["train"])
        some = np.random.default_rng(0).permutation(train)[: max(valid, SOME)]
        for name, chosen in (("train", self.share(some)), ("valid", self.share(np.arange(valid)))):
            hits, total = self.group.sum(hits_among(self.model, self.task.parts[name], chosen), len(chosen))
            figures[f"{name}_{ACCURACY.name}"] = hits / total
        return figures, ACCURACY.to_minimize(figures[TASKS["classifier"].evaluated])


def logits_of(model: nn.Module, part: Examples, chosen: Indices) -> Iterator[tuple[Indices, Tensor]]:
    """Yield the chosen examples, some at a time, and the logits (n, C) that the model, in eval mode, gives them."""
    device = next(model.parameters()).device
    if part.lengths is not None:
        chosen = chosen[np.argsort(part.lengths[chosen], kind="stable")]
    with in_eval_mode(model):
        for start in range(0, len(chosen), SCORED_TOGETHER):
            some = chosen[start : start + SCORED_TOGETHER]
            yield some, check_finite(model(**moved(part.inputs(some), device)), "the logits")


def hits_among(model: nn.Module, part: Examples, chosen: Indices) -> int:
    """Count the chosen examples that the model, in eval mode, classifies correctly."""
    found = (
        (logits.argmax(-1).cpu().numpy() == part.targets[some]).sum() for some, logits in logits_of(model, part, chosen)
    )
    return int(sum(found))


def evaluate_given(
    model: nn.Module, labels: Sequence[Any], part: Examples, run: RunFolder, data: object, split: str
) -> dict[str, Any]:
    """Evaluate a split of the run's own data; or, unless ``data`` is None, other data with a label that is known."""
    if data is not None:
        check_some_known(part, labels)
    return evaluate_part(model, labels, part, report_folder(run, data), split)


def evaluate_part(model: nn.Module, labels: Sequence[Any], part: Examples, folder: Path, split: str) -> dict[str, Any]:
    """Evaluate a split; save its confusion matrix and its mistakes in a folder.

    Returns:
        ``accuracy, tokens`` (examples), ``oov_rate, data_hash, baseline_accuracy`` (of the most frequent label of this
        split), ``macro_f1`` (the mean F1 of its labels), ``unknown_labels`` (examples whose label the model does not
        know, which count as errors); for each label ``precision_LABEL, recall_LABEL, f1_LABEL`` (None where the
        denominator is zero) and ``tokens_LABEL``; ``confusion`` and ``mistakes``, the files (None if the run folder is
        not writable).
    """
    p = np.empty((len(part), len(labels)), np.float32)
    for some, logits in logits_of(model, part, np.arange(len(part))):
        p[some] = logits.softmax(-1).cpu().numpy()
    confusion = Confusion.count([str(label) for label in labels], part.targets, p.argmax(1))
    mistakes = find_mistakes(p, part.targets, labels, part.describe)
    about = f"{split}, {part.data_hash[:12]}"
    saved: dict[str, str | None] = {"confusion": None, "mistakes": None}
    with suppress(OSError):  # a run folder may be read-only; the figures are of use without the files
        saved["confusion"] = str(confusion.save(folder, about, "examples", "label"))
        pictures = [found for one in mistakes[:DRAWN] if (found := part.picture(one)) is not None]
        saved["mistakes"] = str(save_mistakes(mistakes, folder, pictures, about))
    return {
        "accuracy": float((p.argmax(1) == part.targets).mean()),
        "tokens": len(part),
        "oov_rate": part.oov_rate,
        "data_hash": part.data_hash,
        "baseline_accuracy": confusion.majority / len(part),
        "macro_f1": confusion.macro_f1,
        "unknown_labels": int((part.targets < 0).sum()),
        **confusion.figures(),
        **saved,
    }
