"""The other side of ``footprint``: a convolutional network as in tutorials, in plain PyTorch."""

from typing import Any

import torch
from torch import Tensor, nn

from gatewise.bench.footprint import Prediction
from gatewise.bench.runners import serve


class Convolution(Prediction):
    """Two convolutions of 5x5 with 32 and 64 channels, 2x2 pooling after each, 1,024 dense units."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(arguments)
        self.model = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(7 * 7 * 64, 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, 10),
        ).eval()

    def predict(self, images: Tensor) -> Tensor:
        """Return the probabilities of one batch."""
        with torch.no_grad():
            probabilities: Tensor = self.model(images[:, None]).softmax(-1)
        return probabilities


if __name__ == "__main__":
    torch.manual_seed(1)
    serve(Convolution)
