"""The NumPy model compared with central differences and the reference, in float64, and one SGD step."""

import numpy as np
import pytest

from gatewise.bench.comments_scratch import reference_gradients
from gatewise.reference import Array, cross_entropy, gradcheck
from gatewise.scratch import ScratchModel, initial_weights
from tests.tolerances import FINITE_DIFFERENCES

V, H = 13, 5
SENTENCE = [0, 7, 4, 7, 7, 12, 4, 3, 11, 1]
"""Word 7 occurs three times, twice in a row."""


def weights(dtype: type = np.float64, scale: float = 3.0) -> dict[str, Array]:
    """Weights large enough to saturate the gates partly."""
    return {name: (scale * w).astype(dtype) for name, w in initial_weights(V, H, seed=3).items()}


def differ(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def test_every_gradient_by_central_differences() -> None:
    arrays = weights()
    loss, gradients = ScratchModel(arrays).gradients(SENTENCE)
    del arrays["rnn.bias_hh_l0"]
    assert loss > 10
    assert set(gradients) == set(arrays)
    assert all(np.abs(gradient).max() > 0.01 for gradient in gradients.values())
    assert not gradcheck.check(
        lambda: ScratchModel(arrays).gradients(SENTENCE)[0], arrays, gradients, FINITE_DIFFERENCES
    )


@pytest.mark.parametrize("sentence", [SENTENCE, [0, 1], [0, 5, 1], [0, *[9] * 70, 1]])
def test_loss_and_gradients_are_those_of_the_reference(sentence: list[int]) -> None:
    """With repeated words, without words, and longer than the arrays allocated at first."""
    loss, gradients = ScratchModel(weights()).gradients(sentence)
    expected, reference = reference_gradients(sentence, weights())
    assert loss == pytest.approx(expected, rel=1e-12)
    for name, gradient in gradients.items():
        assert differ(gradient, reference[name]) < 1e-10, name


def test_a_step_subtracts_the_gradients_from_before_it() -> None:
    model, rate = ScratchModel(weights()), 0.3
    for _ in range(3):
        before = model.weights()
        loss, reference = reference_gradients(SENTENCE, before)
        assert model.step(SENTENCE, rate) == pytest.approx(loss, rel=1e-12)
        for name, weight in model.weights().items():
            expected = 0 if name == "rnn.bias_hh_l0" else before[name] - rate * reference[name]
            assert np.abs(weight - expected).max() < 1e-12, name


def test_float32_is_near_float64() -> None:
    exact, quick = ScratchModel(weights()), ScratchModel(weights(np.float32))
    for sentence in (SENTENCE, SENTENCE[3:], SENTENCE):
        assert quick.step(sentence, 0.1) == pytest.approx(exact.step(sentence, 0.1), rel=1e-5)
    for name, weight in quick.weights().items():
        assert weight.dtype == np.float32
        assert weight.flags.c_contiguous
        np.testing.assert_allclose(weight, exact.weights()[name], atol=1e-5)


def test_weights_come_back_bit_for_bit() -> None:
    before = initial_weights(V, H, seed=3)
    for name, weight in ScratchModel(before).weights().items():
        assert np.array_equal(weight, before[name]), name


def test_nll_of_many_is_the_sum_of_each() -> None:
    """Sentences of equal length are read as a batch."""
    model = ScratchModel(weights())
    many = [SENTENCE, SENTENCE[::-1], [0, 1], SENTENCE[:4], [0, 2, 3, 1]]
    nll, tokens = model.nll(many)
    assert tokens == sum(len(sentence) - 1 for sentence in many)
    assert nll == pytest.approx(sum(model.gradients(sentence)[0] for sentence in many), rel=1e-12)


def test_the_order_of_sentences_leaves_nothing_behind() -> None:
    """A short sentence after a long one is read as if it were the first."""
    fresh, used = ScratchModel(weights()), ScratchModel(weights())
    used.step(SENTENCE * 8, 0.0)
    used.step(SENTENCE, 0.0)
    assert fresh.step(SENTENCE[:3], 0.1) == used.step(SENTENCE[:3], 0.1)
    assert all(np.array_equal(w, used.weights()[name]) for name, w in fresh.weights().items())


def test_a_loss_that_is_not_finite_changes_no_weight() -> None:
    poisoned = weights()
    poisoned["decoder.bias"][2] = np.nan
    model = ScratchModel(poisoned)
    before = model.weights()
    assert np.isnan(model.step(SENTENCE, 0.1))
    assert all(np.array_equal(w, before[name], equal_nan=True) for name, w in model.weights().items())


def test_initial_weights() -> None:
    drawn = initial_weights(8000, 100, seed=1)
    assert {name: w.shape for name, w in drawn.items()} == {
        "rnn.weight_ih_l0": (400, 8000),
        "rnn.weight_hh_l0": (400, 100),
        "rnn.bias_ih_l0": (400,),
        "rnn.bias_hh_l0": (400,),
        "decoder.weight": (8000, 100),
        "decoder.bias": (8000,),
    }
    for name, bound in {
        "rnn.weight_ih_l0": 8000**-0.5,
        "rnn.bias_ih_l0": 8000**-0.5,
        "rnn.weight_hh_l0": 0.1,
        "decoder.weight": 0.1,
        "decoder.bias": 0.1,
    }.items():
        assert 0.97 * bound < np.abs(drawn[name]).max() <= np.float32(bound), name
        assert abs(drawn[name].mean()) < bound / 10
    assert not drawn["rnn.bias_hh_l0"].any()
    assert not np.array_equal(initial_weights(20, 4, 1)["decoder.bias"], initial_weights(20, 4, 2)["decoder.bias"])


def test_the_loss_is_the_softmax_cross_entropy() -> None:
    """With all weights zero except the decoder's bias, the loss is that of the bias alone."""
    bare = {name: np.zeros_like(w) for name, w in weights().items()}
    bare["decoder.bias"] = np.linspace(-400, 400, V)
    logits = np.tile(bare["decoder.bias"], (len(SENTENCE) - 1, 1))
    expected, _ = cross_entropy(logits, np.array(SENTENCE[1:]))
    assert ScratchModel(bare).nll([SENTENCE])[0] == pytest.approx(expected, rel=1e-12)
