"""Every figure with ordinary and with extreme numbers: nothing is cut off, nothing overlaps."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from gatewise.inspection.answers import Answers
from gatewise.inspection.confusion import ConfusionMatrix, draw_confusion
from gatewise.inspection.fonts import family_of
from gatewise.inspection.footprint import Footprint, ModelFootprint, draw_footprint
from gatewise.inspection.forecast import ForecastReading, Line, draw_forecast
from gatewise.inspection.gates import GatesReading, draw_gates
from gatewise.inspection.gradient_flow import GradientFlow, GradientFlows, draw_gradient_flow, measure_scaled_weights
from gatewise.inspection.memory_task import ErrorCurve, MemoryTask, draw_memory_task
from gatewise.inspection.rows import RowsReading, draw_rows
from gatewise.inspection.style import make_figure, save_picture
from gatewise.inspection.tags import TagsReading, draw_tags
from gatewise.inspection.trace import LayerTrace
from gatewise.inspection.training import Curve, TrainingCurves, draw_training
from tests.inspection.readable import check_readable

P = np.array([[0.3, 0.7], [0.6, 0.4]])
RNG = np.random.default_rng(1)
CELLS = {"lstm": ("i", "f", "g", "o", "c", "h"), "gru": ("r", "z", "n", "h"), "rnn_tanh": ("h",)}


def distribution(*shape: int) -> np.ndarray:
    p = np.exp(3 * RNG.normal(size=shape))
    return p / p.sum(-1, keepdims=True)


def rows(T: int, I: int, labels: list[str]) -> RowsReading:
    return RowsReading(RNG.random((T, I)), distribution(T, len(labels)), labels, "t10k-images-idx3-ubyte.gz, 9999")


def gates(cell: str, T: int, H: int, words: list[str] | None = None, both: bool = False, **kept: Any) -> GatesReading:
    traces = []
    for backward in (False, True) if both else (True,):
        values = {name: RNG.random((T, H)) - (0.5 if name in "gcnh" else 0) for name in CELLS[cell]}
        memory = np.sort(RNG.lognormal(size=H))[::-1]
        traces.append(LayerTrace(cell, 2, backward, values, RNG.permutation(H), memory))
    if words:
        return GatesReading(traces, words, "word", None, "ptb-small", **kept)
    answer = Answers(whole="Predicted class: 7, with probability 0.998.")
    return GatesReading(traces, [str(t + 1) for t in range(T)], "row", RNG.random((T, 28)), "a" * 60, answer, **kept)


def answers(each: list[str]) -> Answers:
    return Answers(each, RNG.random(len(each)).tolist())


def tags(T: int, C: int, word: str = "word") -> TagsReading:
    p = distribution(T, C)
    return TagsReading([f"{word}{t}" for t in range(T)], [f"TAG{k}" for k in range(C)], p, p.argmax(1), "ewt-upos")


def flows(number: int, T: int) -> GradientFlows:
    cells = ["rnn_tanh", "gru", "lstm", "rnn_relu", "lstm", "lstm", "lstm"]
    decay = [np.exp(-(k + 1) * np.arange(T)) for k in range(number)]
    names = [
        "tanh RNN 1×128",
        "GRU 1×128",
        "LSTM 1×128",
        "ReLU RNN 1×128",
        *(f"LSTM 1×128, seed-{k}" for k in (1, 2, 3)),
    ]
    return GradientFlows(
        [
            GradientFlow(names[k], cells[k], {"fresh": decay[k], "trained": decay[k] ** 0.01}, "64 windows")
            for k in range(number)
        ]
    )


def memory(lengths: list[int], points: int = 20) -> MemoryTask:
    curves = []
    for length in lengths:
        for k, cell in enumerate(("rnn_tanh", "gru", "lstm")):
            steps = np.arange(1, points + 1) * 1000.0
            curves.append(
                ErrorCurve(
                    f"{cell}-{length}", f"{cell} 1×128", cell, length, "step", steps, np.exp(-k * steps / 3000) / 6
                )
            )
    return MemoryTask(curves)


def falling(figure: str, k: int, at: np.ndarray) -> np.ndarray:
    values = (300 + k) * np.exp(-at / at[-1] * 4) + 1
    return 1 - values / 400 if figure == "accuracy" else values


def training(figures: list[str], runs: int, points: int = 12, axis: str = "epoch") -> TrainingCurves:
    at = np.arange(1, points + 1) * (200.0 if axis == "step" else 1.0)
    curves = [
        Curve(f"run-{k}", figure, part, axis, at, falling(figure, k, at), float(at[-1]))
        for k in range(runs)
        for figure in figures
        for part in ("train", "valid")
    ]
    return TrainingCurves(curves, {(f"run-{k}", figures[0]): 114.5 + k for k in range(runs)})


def values(figure: str, *valid: float, runs: int = 1) -> TrainingCurves:
    at = np.arange(1.0, len(valid) + 1)
    curves = [
        Curve(f"run-{k}", figure, part, "epoch", at, np.array(valid) * (1 - 1e-3 * (part == "train")), at[-1])
        for k in range(runs)
        for part in ("train", "valid")
    ]
    return TrainingCurves(curves, {}, ["run-0"], ["run-x"])


def footprint(seconds: float, mib: float) -> Footprint:
    turns = [seconds, 1.1 * seconds, 0.9 * seconds]
    names = ("row reader, 2 LSTM layers of 256", "convolutional network, 32 and 64 channels")
    models = [ModelFootprint(name, 3_274_634, mib / 3, mib * k, turns) for k, name in enumerate(names, 1)]
    return Footprint(models, 10_000, 2, "AMD EPYC 7763 64-Core Processor", "2026-11-21")


def forecast(
    history: int, horizon: int, axis: np.ndarray, *, target: str = "sales", known: bool = True
) -> ForecastReading:
    values, radii = np.exp(RNG.normal(size=(2, horizon)))
    truth = np.exp(RNG.normal(size=history))
    truth[history // 2 : history // 2 + 2] = np.nan
    lines = [Line("forecast of known steps", history - horizon, values, radii)]
    lines += [Line("forecast of the steps to come", history, values, None)] if known else []
    return ForecastReading("LSTM 1×48, run", target, truth, [str(at) for at in axis], axis, lines)


def dates(first: str, unit: str, count: int) -> np.ndarray:
    return np.datetime64(first, "us") + np.arange(count) * np.timedelta64(1, unit).astype("timedelta64[us]")


DIGITS = [str(k) for k in range(10)]
CASES: dict[str, tuple[Callable[..., None], object]] = {
    "rows of MNIST": (draw_rows, rows(28, 28, DIGITS)),
    "rows of 8x8 digits": (draw_rows, rows(8, 8, DIGITS)),
    "one row, two classes": (draw_rows, rows(1, 1, ["no", "yes"])),
    "many long labels, a long sequence": (
        draw_rows,
        rows(300, 3, [f"a class with a long name {k}" for k in range(30)]),
    ),
    "gates of an LSTM over an image": (draw_gates, gates("lstm", 28, 256)),
    "gates of an LSTM over words": (draw_gates, gates("lstm", 12, 200, [f"word{k}" for k in range(12)])),
    "gates of a GRU": (draw_gates, gates("gru", 12, 33, ["$5", "$6", *"abcdefghij"])),
    "gates of an RNN": (draw_gates, gates("rnn_tanh", 9, 5, ["the"] * 9)),
    "gates of both directions": (
        draw_gates,
        gates("lstm", 12, 200, ["They", *["refuse", "to"] * 5, "us"], True, answers=answers(["VERB"] * 12)),
    ),
    "gates of both directions over an image": (draw_gates, gates("lstm", 28, 64, both=True)),
    "all gates of a GRU in both directions": (draw_gates, gates("gru", 12, 200, ["word"] * 12, True, units=None)),
    "gates of a language model": (
        draw_gates,
        gates("lstm", 10, 200, ["the", "of"] * 5, answers=answers(["a-long-prediction-here"] * 10)),
    ),
    "gates of a character model": (draw_gates, gates("lstm", 60, 64, ["a"] * 60, answers=answers(["b"] * 60))),
    "all gates": (draw_gates, gates("lstm", 10, 650, ["the"] * 10, units=None)),
    "one step, one unit": (draw_gates, gates("lstm", 1, 1, ["one"])),
    "a long text": (draw_gates, gates("gru", 400, 8, ["internationalisation"] * 400)),
    "tags": (draw_tags, tags(14, 17)),
    "one word, two tags": (draw_tags, tags(1, 2)),
    "many tags, long words": (draw_tags, tags(40, 50, "Donaudampfschifffahrtsgesellschaft")),
    "gradient flow": (draw_gradient_flow, flows(3, 200)),
    "gradient flow of one run": (draw_gradient_flow, flows(1, 28)),
    "gradient flow of seven runs": (draw_gradient_flow, flows(7, 28)),
    "gradients that vanish and explode": (draw_gradient_flow, measure_scaled_weights()),
    "gradients beyond all bounds": (draw_gradient_flow, measure_scaled_weights([1e-200, 20.0, 1.0], 400)),
    "memory task": (draw_memory_task, memory([200])),
    "memory task of four lengths": (draw_memory_task, memory([50, 100, 200, 400])),
    "memory task of two lengths, one point": (draw_memory_task, memory([50, 1000], 1)),
    "training": (draw_training, training(["perplexity"], 1)),
    "training of three runs": (draw_training, training(["loss", "accuracy"], 3, axis="step")),
    "training of eight runs": (draw_training, training(["loss", "rmse"], 8, 1)),
    "accuracies that hardly differ": (draw_training, values("accuracy", 0.9981, 0.9982, 0.9984)),
    "an accuracy of 1": (draw_training, values("accuracy", 0.0, 1.0, 1.0)),
    "a tiny error": (draw_training, values("rmse", 1e-7, 1.1e-7, 0.9e-7)),
    "an error that falls by eight decades": (draw_training, values("rmse", 1.0, 1e-4, 3e-8)),
    "a loss that does not change": (draw_training, values("loss", 0.6931, 0.6931, 0.6931)),
    "a loss that hardly changes": (draw_training, values("loss", 0.6931471, 0.6931472, 0.6931472)),
    "a loss of 0": (draw_training, values("loss", 0.0, 0.0)),
    "a huge loss": (draw_training, values("loss", 1e90, 2e90)),
    "no finite loss": (draw_training, values("loss", np.nan, np.nan)),
    "one evaluation": (draw_training, values("accuracy", 0.9981)),
    "one evaluation of five runs": (draw_training, values("accuracy", 0.9981, runs=5)),
    "one perfect evaluation": (draw_training, values("accuracy", 1.0)),
    "one evaluation of forty runs": (draw_training, values("perplexity", 120.5, runs=40)),
    "forecast by the hour": (draw_forecast, forecast(120, 24, dates("2024-02-27T13:00", "h", 144))),
    "forecast by the week": (draw_forecast, forecast(300, 13, dates("1958-03-29", "W", 313))),
    "forecast of one step": (draw_forecast, forecast(60, 1, 1949 + np.arange(61.0))),
    "forecast of known steps alone": (draw_forecast, forecast(20, 6, np.arange(26.0), known=False)),
    "forecast of a long name": (draw_forecast, forecast(20, 6, np.arange(26.0) * 1e9, target="$" + "value" * 20)),
    "footprint": (draw_footprint, footprint(2.0, 1245.0)),
    "memory task of one epoch": (
        draw_memory_task,
        MemoryTask([ErrorCurve("a", "LSTM 1×128", "lstm", 5, "epoch", np.ones(1), P[0, :1])]),
    ),
    "a fast footprint": (draw_footprint, footprint(0.03, 24.0)),
    "a slow footprint": (draw_footprint, footprint(640.0, 12450.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_cut_off_or_hidden(name: str) -> None:
    draw, measured = CASES[name]
    check_readable(make_figure(draw, measured))


def test_the_check_finds_what_is_wrong() -> None:
    def outside(_: object, figure: Figure) -> None:
        figure.suptitle("title")
        figure.text(0.99, 0.5, "beyond the edge")

    def upon(_: object, figure: Figure) -> None:
        figure.suptitle("title")
        figure.text(0.5, 0.5, "one")
        figure.text(0.51, 0.5, "two")

    with pytest.raises(AssertionError, match="leaves the picture"):
        check_readable(make_figure(outside, None))
    with pytest.raises(AssertionError, match="stands upon"):
        check_readable(make_figure(upon, None))


NAME = "$x_1$ and $y$ 登録\U0003fffd\n\\frac{ سلام"
TRACE = LayerTrace("lstm", 1, False, {k: np.eye(2) / 2 for k in "ifoc"}, np.arange(2), np.ones(2))
HOSTILE: dict[str, tuple[Callable[..., None], object]] = {
    "rows": (draw_rows, RowsReading(P, P, [NAME, "$$"], NAME, NAME)),
    "gates": (
        draw_gates,
        GatesReading([TRACE], [NAME, "$"], "word", None, NAME, Answers([NAME, "$"], [0.5, 0.5], NAME)),
    ),
    "tags": (draw_tags, TagsReading([NAME, "$"], [NAME, "$"], P, np.array([1, 0]), NAME)),
    "gradient flow": (draw_gradient_flow, GradientFlows([GradientFlow(NAME, "gru", {"fresh": P[0]}, NAME)], NAME)),
    "memory task": (draw_memory_task, MemoryTask([ErrorCurve(NAME, NAME, "gru", 5, "step", np.array([1, 2]), P[1])])),
    "training": (
        draw_training,
        TrainingCurves([Curve(NAME, "loss", "valid", "epoch", P[0, :1], P[0, :1])], {}, (), [NAME]),
    ),
    "footprint": (
        draw_footprint,
        Footprint([ModelFootprint(NAME, 5, 1.0, 2.0, [1.0])], 10, 1, NAME, NAME),
    ),
    "confusion": (draw_confusion, ConfusionMatrix([NAME, "$"], np.eye(2, dtype=int), NAME, "$a$", "$b$")),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_names_are_drawn_as_they_are(name: str, ending: str, tmp_path: Path) -> None:
    """Nothing in a name starts mathematics, breaks a line or warns of missing characters."""
    draw, measured = HOSTILE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        save_picture(draw, measured, tmp_path / f"a.{ending}")
    texts = [text for text in check_readable(make_figure(draw, measured)) if "$" in text]
    assert texts
    for text in texts:
        assert all(letter == "\n" or family_of(letter) for letter in text), text
