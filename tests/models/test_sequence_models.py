"""Sequence classifiers and regressors: against PyTorch's own layers, over time, and input checks."""

import numpy as np
import pytest
import torch
from torch import nn

from gatewise.config import ModelConfig
from gatewise.errors import UsageError
from gatewise.models.sequence_classifier import SequenceClassifier
from gatewise.models.sequence_regressor import Scaling, SequenceRegressor, scaling_of
from gatewise.nn import pool

I, T, N, LABELS = 5, 7, 4, ["no", "yes", "perhaps"]


def classifier(**options: object) -> SequenceClassifier:
    torch.manual_seed(3)
    config = ModelConfig(**{"hidden_size": 6, "num_layers": 2, "init_scale": 0.0, **options})
    return SequenceClassifier(config, I, LABELS)


def x(n: int = N) -> torch.Tensor:
    return torch.randn(n, T, I, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_the_logits_are_those_of_pytorchs_layers(pooling: str, bidirectional: bool) -> None:
    model = classifier(pooling=pooling, bidirectional=bidirectional, forget_bias=1.0)
    rnn = nn.LSTM(I, 6, 2, batch_first=True, bidirectional=bidirectional)
    rnn.load_state_dict(model.rnn.state_dict())
    y, _ = rnn(x())
    if pooling == "last":  # each direction where it has read everything
        pooled = torch.cat([y[:, -1, :6], y[:, 0, 6:]], 1) if bidirectional else y[:, -1]
    else:
        pooled = y.mean(1) if pooling == "mean" else y.amax(1)
    expected = pooled @ model.decoder.weight.t() + model.decoder.bias
    assert torch.allclose(model.eval()(x()), expected, atol=1e-6)
    assert np.allclose(model.predict_proba(x().numpy()), expected.softmax(-1).detach(), atol=1e-6)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_over_time_each_row_is_the_verdict_on_the_steps_up_to_it_alone(pooling: str, bidirectional: bool) -> None:
    model = classifier(pooling=pooling, bidirectional=bidirectional)
    rows = model.predict_proba_over_time(x())
    assert rows.shape == (N, T, 3)
    for t in range(T):
        assert torch.allclose(rows[:, t], model.predict_proba(x()[:, : t + 1]), atol=1e-6)


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_pooling_of_ragged_rows_is_that_of_each_row_alone(kind: str) -> None:
    model, lengths = classifier(bidirectional=True), torch.tensor([7, 0, 3, 1])
    given = x().transpose(0, 1).clone()
    y, (h_n, _) = model.rnn(given, lengths=lengths)
    pooled = pool(kind, y, h_n, 2, lengths)
    assert (pooled[1] == 0).all()
    for row in (0, 2, 3):
        y, (h_n, _) = model.rnn(given[: lengths[row], row : row + 1])
        assert torch.allclose(pooled[row], pool(kind, y, h_n, 2)[0], atol=1e-6)


def test_what_is_given_decides_what_comes_back_and_batches_change_nothing() -> None:
    model = classifier()
    assert isinstance(model.predict_proba(x()), torch.Tensor)
    array = model.predict_proba(x().numpy())
    assert isinstance(array, np.ndarray)
    assert np.allclose(array, model.predict_proba(x(), batch_size=1), atol=1e-6)
    assert model.predict(x().numpy()).tolist() == [LABELS[k] for k in array.argmax(1)]
    assert SequenceClassifier(model.config, I, [7, 9]).predict(x()).dtype == np.int64


def test_dropout_acts_in_training_alone_and_predicting_leaves_the_mode_as_it_was() -> None:
    model = classifier(dropout=0.5).train()
    first = model.predict_proba(x())
    assert model.training
    assert torch.equal(first, model.predict_proba(x()))
    torch.manual_seed(0)
    assert not torch.allclose(model(x()).softmax(-1), first)


def test_the_tutorials_decoder_and_forget_bias() -> None:
    config = ModelConfig(
        hidden_size=256, num_layers=2, init_scale=0.0, forget_bias=1.0, decoder_std=0.1, decoder_bias=0.1
    )
    model = SequenceClassifier(config, 28, list(range(10)))
    weight = model.decoder.weight
    assert float(weight.abs().max()) <= 0.2
    assert float(weight.std()) == pytest.approx(0.088, abs=0.004)  # of a normal cut at two deviations
    assert (model.decoder.bias == 0.1).all()
    for layer in range(2):
        forget = getattr(model.rnn, f"bias_ih_l{layer}").chunk(4)[1]
        assert float(forget.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(N, T, I + 1), r"shape \(4, 7, 6\); expected \(N, T, 5\)"),
        (torch.zeros(T, I), r"shape \(7, 5\)"),
        (torch.zeros(N, 0, I), r"shape \(4, 0, 5\)"),
        (torch.full((N, T, I), float("nan")), "not finite"),
    ],
)
def test_what_is_no_sequence_of_this_width_is_refused(wrong: torch.Tensor, message: str) -> None:
    for answer in (classifier().predict_proba, classifier().predict_proba_over_time, classifier().predict):
        with pytest.raises(UsageError, match=message):
            answer(wrong)


def test_a_regressor_answers_in_the_users_units() -> None:
    scaling = scaling_of(np.array([[[1.0, 10.0], [3.0, 10.0]]]), np.array([100.0, 300.0]), ["a", "b"], "a")
    assert scaling == Scaling([2.0, 10.0], [1.0, 1.0], 200.0, 100.0, ["a", "b"], "a")
    torch.manual_seed(2)
    model = SequenceRegressor(ModelConfig(hidden_size=4, num_layers=1, init_scale=0.0), 2, scaling).eval()
    given = torch.randn(3, 5, 2) + torch.tensor([2.0, 10.0])
    plain = SequenceRegressor(model.config, 2).eval()
    plain.load_state_dict(model.state_dict())
    z = plain(given - torch.tensor([2.0, 10.0]))
    assert model(given).dtype == model.predict(given).dtype == torch.float64
    assert torch.allclose(model(given), 200 + 100 * z, atol=1e-4)
    assert np.allclose(model.predict(given.numpy()), 200 + 100 * z.detach(), atol=1e-4)
    # What float32 cannot tell apart keeps its digits in float64, in and out.
    moved = Scaling([2e9, 10.0], [1.0, 1.0], 3e9, 100.0, ["a", "b"], "a")
    far = SequenceRegressor(model.config, 2, moved).eval()
    far.load_state_dict(model.state_dict())
    wide = given.double() + torch.tensor([2e9 - 2.0, 0.0], dtype=torch.float64)
    assert np.allclose(far.predict(wide) - 3e9, model.predict(given) - 200, atol=1e-4)
    assert np.allclose(far.predict(wide.numpy()) - 3e9, model.predict(given) - 200, atol=1e-4)
    targets = torch.tensor([150.0, 250.0, 200.0])
    assert float(model(given, targets)) == pytest.approx(float(((z - (targets - 200) / 100) ** 2).mean()), rel=1e-4)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_relative_regressor_answers_with_differences_from_the_last_value(horizon: int) -> None:
    """Its answers move with the level of the target, and not with that of another column."""
    scaling = Scaling([0.5, 10.0], [2.0, 5.0], 0.25, 3.0, ["a", "b"], "a", horizon=horizon, relative=True)
    torch.manual_seed(2)
    model = SequenceRegressor(ModelConfig(hidden_size=4, num_layers=1, init_scale=0.0), 2, scaling).eval()
    plain = SequenceRegressor(model.config, 2, Scaling(horizon=horizon)).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(6, 5, 2).double()
    last = x[:, -1, 0]
    seen = torch.stack([(x[:, :, 0] - last[:, None] - 0.5) / 2, (x[:, :, 1] - 10) / 5], 2)
    end = last if horizon == 1 else last[:, None]
    expected = end + 3 * plain(seen.float()) + 0.25
    assert torch.allclose(model(x), expected, atol=1e-5)
    assert np.allclose(model.predict(x.numpy()), expected.detach(), atol=1e-5)
    up = torch.tensor([1e9, 0.0], dtype=torch.float64)
    assert np.allclose(model.predict(x + up) - 1e9, expected.detach(), atol=1e-5)
    assert not np.allclose(model.predict(x + up.flip(0)), expected.detach(), atol=1e-3)
    y = torch.randn(6, horizon).double().squeeze(1) if horizon == 1 else torch.randn(6, horizon).double()
    cost = ((model(x) - y) / 3).square().mean()
    assert model(x, y).item() == pytest.approx(cost.item(), rel=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("layout", ["plain", "reversed", "fortran", "read-only"])
def test_any_layout_and_type_of_numbers_is_read(layout: str, dtype: type) -> None:
    given = (10 * x().numpy()).clip(0, 9).astype(dtype)
    plain = given.astype(np.float32) * (np.float32(1 / 255) if dtype is np.uint8 else np.float32(1))
    if layout == "reversed":
        given, plain = given[::-1], plain[::-1].copy()
    elif layout == "fortran":
        given = np.asfortranarray(given)
    given.flags.writeable = layout != "read-only"
    model = classifier()
    np.testing.assert_array_equal(model.predict_proba(given), model.predict_proba(plain))
