"""Models of sequences of different lengths: each row is read as if it were alone."""

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.config import ModelConfig
from gatewise.data.objects import sequences
from gatewise.errors import UsageError
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor

ALONE = [np.random.default_rng(k).normal(size=(n, 2)).astype(np.float32) for k, n in enumerate((3, 7, 1, 5))]
LENGTHS = [len(one) for one in ALONE]
SETTINGS = {"hidden_size": 5, "num_layers": 2, "bidirectional": True, "init_scale": 0.5}


def padded(garbage: float) -> np.ndarray:
    x = np.full((4, 9, 2), garbage, np.float32)
    for row, one in zip(x, ALONE, strict=True):
        row[: len(one)] = one
    return x


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_each_row_is_read_as_if_it_were_alone(pooling: Any, engine: str, kind: str) -> None:
    config = ModelConfig(**SETTINGS, pooling=pooling)
    if kind == "classifier":
        model: Any = SequenceClassifier(config, 2, ["a", "b", "c"], engine)
        call = model.predict_proba
        assert (model.predict(ALONE) == model.predict(padded(np.nan), lengths=LENGTHS)).all()
    else:
        model = SequenceRegressor(config, 2, Scaling([1.0, 2.0], [2.0, 0.5], 3.0, 4.0), engine)
        call = model.predict
    each = np.concatenate([call(one[None]) for one in ALONE])
    together = (call(ALONE), call(padded(np.nan), lengths=LENGTHS), call(padded(7.0), 2, lengths=np.array(LENGTHS)))
    for found in together:
        np.testing.assert_allclose(found, each, rtol=2e-6)
    as_tensor = call(torch.from_numpy(padded(np.nan)), lengths=torch.tensor(LENGTHS))
    assert isinstance(as_tensor, torch.Tensor)
    np.testing.assert_allclose(as_tensor.numpy(), each, rtol=2e-6)


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (padded(0), [3, 7, 1], r"lengths has shape \(3,\), type int64; expected integers \(4,\)"),
        (padded(0), [3.0, 7.0, 1.0, 5.0], r"lengths has shape \(4,\), type float64; expected integers"),
        (padded(0), [3, 10, 1, 5], r"lengths range from 1 to 10; expected 1 to 9, the steps of x"),
        (padded(0), [3, 9, 0, 5], r"lengths range from 0 to 9; expected 1 to 9"),
        (padded(np.inf), [3, 9, 1, 5], "x holds numbers that are not finite"),
        ([], None, "x is an empty list"),
        ([ALONE[0], np.zeros(4)], None, r"x\[1\] has 1 numbers per step, x\[0\] has 2; expected equally many"),
        ([ALONE[0], np.zeros((4, 2, 1))], None, r"x\[1\] has shape \(4, 2, 1\); expected sequences of shape \(T, I\)"),
        (np.zeros((0, 4, 2)), None, "x is empty; expected at least one sequence"),
        ([np.zeros((4, 3))], None, r"x has shape \(1, 4, 3\); expected \(N, T, 2\)"),
    ],
)
def test_bad_lengths(x: Any, lengths: Any, message: str) -> None:
    model = SequenceClassifier(ModelConfig(**SETTINGS), 2, ["a", "b"])
    with pytest.raises(UsageError, match=message):
        model.predict(x, lengths=lengths)


def test_one_number_per_step_needs_no_second_dimension() -> None:
    model = SequenceRegressor(ModelConfig(**SETTINGS), 1)
    flat = [one[:, 0] for one in ALONE]
    np.testing.assert_array_equal(model.predict(flat), model.predict([one[:, None] for one in flat]))
    together, lengths = sequences(flat)
    assert together.shape == (4, 7, 1) and lengths is not None and lengths.tolist() == LENGTHS
