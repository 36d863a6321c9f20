"""Our side of ``footprint``: the row reader of ``mnist-rows``, two LSTM layers of 256."""

from typing import Any

import torch
from torch import Tensor

from gatewise.bench.footprint import Prediction
from gatewise.bench.runners import serve
from gatewise.config import load_config
from gatewise.models.sequence_classifier import SequenceClassifier


class RowReader(Prediction):
    """Reads each image as 28 rows of 28 numbers."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(arguments)
        self.reader = SequenceClassifier(load_config("mnist-rows").model, 28, list(range(10)), steps=28)
        self.model = self.reader.eval()

    def predict(self, images: Tensor) -> Tensor:
        """Return the probabilities of one batch."""
        probabilities: Tensor = self.reader.predict_proba(images, batch_size=len(images))
        return probabilities


if __name__ == "__main__":
    torch.manual_seed(1)
    serve(RowReader)
