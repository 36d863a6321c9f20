"""What classifiers answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Verdict:
    """The predicted probabilities for one sequence.

    Attributes:
        name: what it is called: the file name, with the sequence's index if the file holds several, or its index.
        labels: the C labels.
        probabilities: (1, C), or (T, C) with a prediction after each step.
    """

    name: str
    labels: Sequence[int | str]
    probabilities: npt.NDArray[np.floating]

    @property
    def label(self) -> int | str:
        """The most probable label, after the last step."""
        return self.labels[int(self.probabilities[-1].argmax())]

    def lines(self) -> Iterator[str]:
        """Yield the most probable label with its probability, one line per prediction."""
        for step, row in enumerate(self.probabilities, 1):
            after = f" after step {step}" if len(self.probabilities) > 1 else ""
            yield f"{self.name}{after}: {self.labels[int(row.argmax())]} ({100 * row.max():.1f}%)"

    def as_json(self) -> dict[str, Any]:
        """Return the name, the label and the probability of every label, as a list if there are several predictions."""
        each = [{str(label): float(p) for label, p in zip(self.labels, row, strict=True)} for row in self.probabilities]
        return {"file": self.name, "label": self.label, "probabilities": each if len(each) > 1 else each[0]}


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return ``exp(z) / Σ exp(z)`` over the last axis, in the dtype of the logits."""
    p: npt.NDArray[np.floating] = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p


def verdicts(labels: Sequence[int | str], probabilities: Sequence[npt.NDArray[np.floating]]) -> list[Verdict]:
    """Return the verdict for each of N sequences, named by its index; probabilities: (T_n, C) or (1, C)."""
    return [Verdict(str(k), labels, p) for k, p in enumerate(probabilities)]
