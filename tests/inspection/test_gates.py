"""Gates and states by unit, which units are shown, and the answers beside them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gatewise as gw
from gatewise.errors import NotFinite, UsageError
from gatewise.inspection import answers
from gatewise.inspection.answers import predict_answers
from gatewise.inspection.gates import GatesReading, draw_gates, measure_gates
from gatewise.inspection.inputs import Steps, read_numbers, read_text
from gatewise.inspection.style import make_figure
from gatewise.inspection.trace import LayerTrace, trace_layer
from gatewise.nn import GRU, LSTM, RNN
from tests.inspection.readable import check_readable


def test_units_are_sorted_by_their_time_scale() -> None:
    torch.manual_seed(0)
    lstm, x = LSTM(3, 7, num_layers=2, bidirectional=True), torch.randn(5, 1, 3)
    *_, traced = lstm(x, trace=("i", "f", "o", "c"))
    found = trace_layer(lstm, x, layer=1, backward=True)
    f = traced["f"][0, 1, :, 0].double().detach().numpy()
    np.testing.assert_allclose(found.memory, np.sort(-1 / np.log(f.mean(0)))[::-1], rtol=1e-6)
    for name, values in traced.items():
        np.testing.assert_allclose(found.values[name], values[0, 1, :, 0].detach().numpy()[:, found.units], atol=1e-7)
    assert trace_layer(lstm, x).layer == 2
    assert not trace_layer(lstm, x).backward


def test_time_scales_of_a_gru_follow_z_and_of_an_rnn_the_state() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 1, 3)
    gru, rnn = GRU(3, 5), RNN(3, 5)
    z = gru(x, trace=("z",))[2]["z"][0, 0, :, 0].double().detach().numpy()
    np.testing.assert_allclose(trace_layer(gru, x).memory, np.sort(-1 / np.log(z.mean(0)))[::-1], rtol=1e-6)
    h = rnn(x)[0][:, 0].double().detach().numpy()
    h = h - h.mean(0)
    expected = [(column[1:] * column[:-1]).sum() / (column**2).sum() for column in h.T]
    np.testing.assert_allclose(trace_layer(rnn, x).memory, sorted(expected, reverse=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "backward", "message"),
    [
        (3, False, r"layer=3: this model has 2 rec"),
        (-1, False, "layer=-1"),
        (0, True, "this model has no backward direction"),
    ],
)
def test_no_such_layer(layer: int, backward: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trace_layer(LSTM(3, 4, num_layers=2), torch.randn(2, 1, 3), layer, backward)


def test_gates_as_a_table() -> None:
    lstm = LSTM(2, 3)
    reading = measure_gates(lstm, Steps(torch.randn(2, 1, 2), ["the", "dog"], "word"))
    header, *lines = reading.table()
    assert header == ("step", "word", "layer", "direction", "unit", "time_scale_steps", "i", "f", "o", "c")
    assert [line[:4] for line in lines] == [(1, "the", 1, "forward")] * 3 + [(2, "dog", 1, "forward")] * 3
    assert sorted(line[4] for line in lines[:3]) == [0, 1, 2]
    assert lines[4][4] == reading.traces[0].units[1]
    assert lines[4][9] == reading.traces[0].values["c"][1, 1]


@pytest.mark.parametrize(
    ("direction", "ways"), [(None, [False, True]), ("both", [False, True]), ("forward", [False]), ("backward", [True])]
)
def test_both_directions_unless_one_is_asked_for(direction: str | None, ways: list[bool]) -> None:
    steps = Steps(torch.randn(4, 1, 3), list("abcd"), "word")
    reading = measure_gates(LSTM(3, 5, bidirectional=True), steps, direction=direction)
    assert [trace.backward for trace in reading.traces] == ways
    assert len(list(reading.table())) == 1 + len(ways) * 4 * 5
    assert [trace.backward for trace in measure_gates(LSTM(3, 5), steps).traces] == [False]


def test_of_neighbours_in_memory_the_unit_that_varies_most_is_shown() -> None:
    still, moving = np.full(4, 0.5), np.array([0.5, 0.9, 0.5, 0.1])
    gates = np.stack([still, moving, still, still, 0.5 + (moving - 0.5) / 2, moving], 1)
    values = {"i": gates, "f": np.full((4, 6), 0.5), "o": np.full((4, 6), 0.5), "c": np.zeros((4, 6))}
    trace = LayerTrace("lstm", 1, False, values, np.array([9, 8, 7, 6, 5, 4]), np.arange(6, 0, -1.0))
    data = GatesReading([trace], list("abcd"), "word", units=2)
    assert data.shown(trace).tolist() == [1, 5]
    assert {"8 (5)", "4 (1)"} <= set(check_readable(make_figure(draw_gates, data)))
    assert GatesReading([trace], list("abcd"), "word", units=None).shown(trace).tolist() == list(range(6))
    trace.values["c"][:, 3] = [0, 9, -9, 0]  # the state counts too
    assert data.shown(trace).tolist() == [1, 3]


def test_answers_of_a_language_model_are_its_next_tokens(tiny_run: Path) -> None:
    model = gw.load(tiny_run)
    found = predict_answers(model, read_text(model, "the dog ate"))
    for k, prompt in enumerate([None, "the", "the dog", "the dog ate"]):
        ((token, p),) = model.next_tokens(prompt, 1)
        assert (found.each[k], found.probabilities[k]) == (token, pytest.approx(p, rel=1e-4))
    assert len(found.each) == 4


def test_answers_that_are_not_finite(tiny_run: Path) -> None:
    model = gw.load(tiny_run)
    steps = read_text(model, "the dog")
    with torch.no_grad():
        model.decoder.bias[0] = torch.inf
    with pytest.raises(NotFinite, match="the probabilities of the next tokens are not finite"):
        predict_answers(model, steps)


def test_a_model_of_sentences_never_predicts_its_start(scratch_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = gw.load(scratch_run)
    with torch.no_grad():
        model.decoder.bias[model.vocabulary.bos_id] = 100
    steps = read_text(model, "the dog ate the apple")
    whole = predict_answers(model, steps)
    assert model.vocabulary.tokens[model.vocabulary.bos_id] not in whole.each
    monkeypatch.setattr(answers, "WINDOW", 2)
    assert predict_answers(model, steps).each == whole.each


def test_answers_of_the_other_models(tagger_run: Path, classifier_run: Path, regressor_run: Path) -> None:
    tagger = gw.load(tagger_run)
    found = predict_answers(tagger, read_text(tagger, "the dog ate"))
    assert found.each == tagger.tag([["the", "dog", "ate"]])[0]
    p = tagger.tag_probabilities([["the", "dog", "ate"]])[0]
    assert found.probabilities == [float(row[tagger.tags.index(tag)]) for row, tag in zip(p, found.each, strict=True)]
    classifier, x = gw.load(classifier_run), np.ones((6, 4), np.float32)
    p = classifier.predict_proba(torch.from_numpy(x)[None])[0]
    sentence = f"Predicted class: {classifier.labels[int(p.argmax())]}, with probability {p.max():.3f}."
    assert predict_answers(classifier, read_numbers(classifier, x)).whole == sentence
    regressor, x = gw.load(regressor_run), np.arange(8.0)[:, None] + 5
    value = float(regressor.predict(torch.from_numpy(x)[None])[0])
    assert predict_answers(regressor, read_numbers(regressor, x)).whole == f"Predicted value: {value:.5g}."
