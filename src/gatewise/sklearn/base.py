"""What the estimators share: the parameters, and how a model is trained."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from gatewise.data.splitting import split_rows
from gatewise.errors import DataError, InputError, MissingPackage, UsageError
from gatewise.inspection.style import without_pictures
from gatewise.tasks.run import Run
from gatewise.tasks.train import train

FEWEST_HELD_OUT = 10
"""Where the validation fraction would be fewer examples, none are held out, and the training set validates."""


class Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What all estimators share: the parameters, and how a model is trained.

    Args:
        hidden_size: H, the number of units per layer and direction; None as in the recipe, here and below.
        num_layers: the number of recurrent layers.
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        epochs: the most passes over the training data.
        learning_rate: the initial learning rate of the optimizer.
        batch_size: the number of examples per step.
        validation_fraction: the share of the data that is not trained on but selects the best epoch and ends training
            early. Where it is fewer than 10 examples, none are held out, and the training data selects the epoch.
        random_state: the seed, or a generator that draws it.
        recipe: a recipe for this task: its name, or the path of a TOML file; None for the task's starter.
        overrides: further settings by dotted key, such as ``{"model.dropout": 0.5}``; they take precedence.
        out: the run folder to write; None for a temporary folder, which is deleted after training.
        verbose: whether to show the progress of training on standard error.
    """

    _recipe = ""

    def __init__(
        self,
        *,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        cell: str | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        recipe: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size, self.num_layers, self.cell = hidden_size, num_layers, cell
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size
        self.validation_fraction, self.random_state = validation_fraction, random_state
        self.recipe, self.overrides, self.out, self.verbose = recipe, overrides, out, verbose

    def _settings(self) -> dict[str, Any]:
        """Return the settings that the parameters stand for, by dotted key."""
        named: dict[str, Any] = {
            "model.hidden_size": self.hidden_size,
            "model.num_layers": self.num_layers,
            "model.cell": self.cell,
            "training.epochs": self.epochs,
            "training.learning_rate": self.learning_rate,
            "data.batch_size": self.batch_size,
        }
        if self.cell not in (None, "lstm"):
            named["model.forget_bias"] = 0.0  # only an LSTM has a forget gate, and the starters set its bias
        chosen = {key: value for key, value in {**named, **(self.overrides or {})}.items() if value is not None}
        plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in chosen.items()}
        return {"logging.tensorboard": False, **plain}

    @contextmanager
    def _trained(self, data: Any, seed: int, **settings: Any) -> Iterator[Run]:
        """Train, and keep the model; the run folder exists within the block."""
        with ExitStack() as stack, value_errors():
            out = self.out
            if not out:
                out = stack.enter_context(tempfile.TemporaryDirectory(prefix="gatewise-"))
                stack.enter_context(without_pictures())
            chosen = {**settings, **self._settings()}
            recipe = self._recipe if self.recipe is None else self.recipe
            run = train(recipe, data=data, out=out, overrides=chosen, seed=seed, progress=bool(self.verbose))
            self.model_, self.history_ = run.model, run.history
            yield run

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _held_out(self, count: int) -> int:
        """Return the number of examples to hold out."""
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction!r}; expected a share, 0 <= share < 1")
        held = int(count * self.validation_fraction)
        return held if held >= FEWEST_HELD_OUT else 0

    def _fit_parts(self, x: Any, y: Any, strata: Sequence[int] | None) -> None:
        """Train on examples, of which a share is held out for validation.

        Args:
            x: N examples, an array or a list.
            y: their labels or tags.
            strata: the class of each example, to keep its share in both parts.
        """
        seed, count = self._seed(), len(x)
        rows = split_rows(count, self._held_out(count), 0, seed or 1, "the data", labels=strata)
        parts = {name: (_taken(x, some), _taken(y, some)) for name, some in rows.items()}
        valid = parts["valid"] if len(rows["valid"]) else parts["train"]
        # The test figures, which a run has, are those of the validation set: scikit-learn scores by itself.
        with self._trained({"train": parts["train"], "valid": valid, "test": valid}, seed):
            pass


def _taken(data: Any, rows: npt.NDArray[np.int64]) -> Any:
    return data[rows] if isinstance(data, np.ndarray) else [data[row] for row in rows]


def of_strings(tags: Any) -> Any:
    """Return the tags of an estimator that reads strings."""
    tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
    return tags


@contextmanager
def value_errors() -> Iterator[None]:
    """Turn the errors of invalid data and settings into ``InputError``, a ``ValueError``."""
    try:
        yield
    except (InputError, MissingPackage):
        raise
    except (DataError, UsageError) as problem:
        raise InputError(str(problem)) from problem
