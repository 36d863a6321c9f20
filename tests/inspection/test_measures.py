"""The numbers behind the figures, compared with plain computations."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import gatewise as gw
from gatewise.errors import DataError, RunError, UsageError
from gatewise.inspection.footprint import read_footprint
from gatewise.inspection.gradient_flow import gradient_norms, measure_gradient_flow, measure_scaled_weights
from gatewise.inspection.inputs import read_text
from gatewise.inspection.memory_task import measure_memory_task
from gatewise.inspection.rows import RowsReading, draw_rows, measure_rows
from gatewise.inspection.runs import open_run, open_runs
from gatewise.inspection.sequences import COUNT, sample_batch
from gatewise.inspection.style import make_figure
from gatewise.inspection.tags import measure_tags
from gatewise.inspection.trace import stack_input
from gatewise.inspection.training import draw_training, measure_training
from gatewise.models.loading import load_fresh
from gatewise.nn import LSTM
from tests.inspection.readable import check_readable


def test_rows_of_a_model(classifier_run: Path) -> None:
    model, image = gw.load(classifier_run), torch.randn(6, 4)
    reading = measure_rows(model, image, "x")
    for t in range(6):
        np.testing.assert_allclose(reading.probabilities[t], model.predict_proba(image[None, : t + 1])[0], atol=1e-6)
    header, *lines = reading.table()
    assert header == ("row", "class", "probability")
    assert len(lines) == 6 * 3
    assert lines[4] == (2, "5", float(reading.probabilities[1, 1]))


def test_rows_show_the_true_label(classifier_run: Path) -> None:
    reading = measure_rows(gw.load(classifier_run), torch.randn(6, 4), "x", "5")
    header, *lines = reading.table()
    assert header == ("row", "class", "probability", "true")
    assert [line[3] for line in lines[:3]] == [0, 1, 0]
    assert reading.verdict.endswith("; the true label is 5")
    p = np.array([[0.2, 0.8], [0.9, 0.1]])
    for true, legend in (
        ("no", "the final answer, right"),
        ("yes", "the true label"),
        ("?", "the final answer, wrong"),
    ):
        texts = check_readable(make_figure(draw_rows, RowsReading(np.zeros((2, 2)), p, ["no", "yes"], "x", true)))
        assert {f"what is read; true label: {true}", legend} <= set(texts)


@pytest.mark.parametrize(("leaders", "row"), [([0, 0, 0], 1), ([1, 0, 0], 2), ([0, 1, 0], 3), ([1, 1, 0], 3)])
def test_from_which_row_on_the_answer_leads(leaders: list[int], row: int) -> None:
    reading = RowsReading(np.zeros((3, 2)), np.eye(2)[leaders] * 0.8 + 0.1, ["no", "yes"])
    assert (reading.answer, reading.decided) == (0, row)
    assert reading.verdict == f"read as no with probability 0.900; in the lead for good from row {row} of 3 on"


def test_stack_input_is_what_the_model_gave_its_stack(tiny_run: Path) -> None:
    model = gw.load(tiny_run)
    steps = read_text(model, "the dog ate\nthe apple")
    assert steps.names == ["<eos>", "the", "dog", "ate", "<eos>", "the", "apple"]
    ids = torch.tensor([model.vocabulary.ids[name] for name in steps.names])
    torch.testing.assert_close(steps.x[:, 0], model.embedding(ids).detach())
    with pytest.raises(RuntimeError, match="was not run"):
        stack_input(model.rnn, lambda: None)


def test_tags(tagger_run: Path) -> None:
    model = gw.load(tagger_run)
    reading = measure_tags(model, ["the", "dog"], "toy")
    np.testing.assert_allclose(reading.probabilities.sum(1), 1, atol=1e-5)
    assert [model.tags[k] for k in reading.chosen] == model.tag([["the", "dog"]])[0]
    assert sum(line[4] for line in list(reading.table())[1:]) == 2


def test_gradient_norms_against_each_sequence_by_itself() -> None:
    torch.manual_seed(0)
    lstm, readout, x = LSTM(3, 4, num_layers=2).double(), torch.nn.Linear(4, 1).double(), torch.randn(6, 5, 3).double()
    found = gradient_norms(lstm, lambda last: readout(last).square().sum(), x)
    expected = np.zeros(6)
    for b in range(5):
        row = x[:, b].clone().requires_grad_()
        last = lstm(row)[0][-1]
        loss = readout(last).square().sum()
        dlast, drow = torch.autograd.grad(loss, (last, row))
        expected += [float(drow[5 - d].norm() / dlast.norm()) / 5 for d in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_fresh_model_is_what_training_began_with(corpus: Path, tagged: Path, sequences: Path, tmp_path: Path) -> None:
    """Training that hardly moves the weights gives the same result as the initial model."""
    still = {
        "training.learning_rate": 1e-30,
        "training.epochs": 1,
        "model.hidden_size": 6,
        "logging.tensorboard": False,
    }
    recipes = {
        "demo": (corpus, {"data.batch_size": 4}),
        "ewt-upos": (tagged, {"data.batch_size": 4}),
        "mnist-rows": (sequences, {"training.max_steps": 1, "training.eval_every": 1, "data.batch_size": 9}),
    }
    for name, (data, others) in recipes.items():
        run = gw.train(name, data=data, out=tmp_path / name, overrides={**still, **others}, seed=3)
        before = torch.get_rng_state()
        fresh = load_fresh(run.path).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        for key, weight in run.model.state_dict().items():
            torch.testing.assert_close(fresh[key], weight, rtol=0, atol=1e-20, msg=f"{name} {key}")


def test_gradient_flow_of_every_kind_of_run(tiny_run: Path, classifier_run: Path, tagger_run: Path) -> None:
    runs = open_runs([tiny_run, classifier_run, tagger_run], "gradient-flow")
    text, numbers, words = measure_gradient_flow(runs, 5).flows
    for flow in (text, numbers, words):
        fresh, trained = flow.norms["fresh"], flow.norms["trained"]
        assert fresh.shape == trained.shape == (5,)
        assert (fresh > 0).all()
        assert not np.allclose(fresh, trained, rtol=1e-3)
    assert text.source == "64 windows of 5 tokens of toy.valid.txt"
    assert numbers.source == "20 sequences of 5 steps of the validation part"
    assert words.source == "64 runs of 5 words of the validation part"


def test_gradients_vanish_and_explode_with_the_scale_of_the_weights() -> None:
    before = torch.get_rng_state()
    lstm, small, large = (flow.norms["scaled"] for flow in measure_scaled_weights().flows)
    assert torch.equal(torch.get_rng_state(), before)
    for norms in (lstm, small, large):
        assert norms.shape == (100,)
    # The bound of Pascanu et al.: a factor of at most 0.9 per step, since tanh' is at most 1.
    assert (small < 2 * small[0] * 0.9 ** np.arange(100)).all()
    assert large[99] > 1e3 * large[50] > 1e5 * large[0]
    assert 0.01 * lstm[0] < lstm.min() < lstm.max() < 10 * lstm[0]
    again = measure_scaled_weights([2.0], 20)
    assert [flow.norms["scaled"].shape for flow in again.flows] == [(20,), (20,)]
    for scale in (0.0, -1.0, 101.0, np.nan, np.inf):
        with pytest.raises(UsageError, match=r"scale=.*: expected a number above 0 and up to 100, such as 0.9 or 2"):
            measure_scaled_weights([scale])


def test_random_sequences_where_the_data_has_gone(tiny_run: Path) -> None:
    (run,) = open_runs([tiny_run], "gradient-flow")
    away = run.config.model_copy(update={"data": run.config.data.model_copy(update={"path": "/nowhere"})})
    (flow,) = measure_gradient_flow([type(run)(run.folder, away, run.name)], 4).flows
    assert flow.source == "64 sequences of 4 random tokens"


def write_run(folder: Path, lines: list[dict[str, object]], config: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def memory_run(folder: Path, cell: str, length: int, rmse: float) -> Path:
    lines = [{"epoch": 1, "step": 100, "valid_rmse": 0.41}, {"epoch": 2, "step": 200, "valid_rmse": rmse}]
    scored = {"test_rmse": rmse, "test_mae": rmse, "test_tokens": 2000, "test_data_hash": "ab"}
    final = {**scored, "best_epoch": 2, "best_step": 200}
    config = f'[task]\nname = "memory-task"\n[data]\nlength = {length}\n[model]\ncell = "{cell}"\nhidden_size = 16\n'
    return write_run(folder, [*lines, final], config)


def test_memory_task_squares_the_error(tmp_path: Path) -> None:
    paths = [memory_run(tmp_path / f"{cell}-{T}", cell, T, 0.1) for cell in ("lstm", "rnn_tanh") for T in (50, 100)]
    found = measure_memory_task(open_runs(paths, "memory-task", "memory-task"))
    assert found.lengths == [50, 100]
    assert found.models == ["LSTM 2×16", "tanh RNN 2×16"]
    np.testing.assert_allclose(found.curves[3].errors, [0.41**2, 0.01])
    assert list(found.curves[3].at) == [100, 200]


def test_memory_task_tells_seeds_apart(tmp_path: Path) -> None:
    paths = [memory_run(tmp_path / name, "lstm", 50, 0.1) for name in ("seed-1", "seed-2")]
    assert measure_memory_task(open_runs(paths, "memory-task")).models == [
        "seed-1 (LSTM 2×16)",
        "seed-2 (LSTM 2×16)",
    ]


def test_training_curves(tiny_run: Path, tmp_path: Path) -> None:
    other = memory_run(tmp_path / "memory", "lstm", 50, 0.1)
    found = measure_training(open_runs([tiny_run, other], "training"))
    assert found.panels == [("perplexity", "epoch"), ("rmse", "step")]
    metrics = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    valid = next(curve for curve in found.curves if curve.part == "valid")
    assert list(valid.values) == [line["valid_perplexity"] for line in metrics[:-1]]
    assert valid.kept == metrics[-1]["best_epoch"]
    assert found.test == {("tiny", "perplexity"): metrics[-1]["test_perplexity"], ("memory", "rmse"): 0.1}
    assert list(found.table())[-1] == ("memory", "rmse", "test", "", "", 0.1)


@pytest.mark.parametrize("odd", [None, 1.7e308, -1e200])
def test_figures_that_no_axis_holds_are_gaps(odd: float | None, tmp_path: Path) -> None:
    """The figure is also drawn without a warning."""
    lines = [{"epoch": k, "train_perplexity": odd if k == 1 else 5.0, "valid_perplexity": 6.0} for k in (1, 2)]
    run = write_run(tmp_path / "r", lines, "")
    found = measure_training([open_run(run, "training")])
    np.testing.assert_array_equal(found.curves[0].values, [np.nan, 5.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_training(found, figure := Figure())
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no metrics; the run has not finished an epoch"),
        ([{"epoch": 1, "learning_rate": 1}], "metrics.jsonl:1: missing valid_perplexity, which a language-model"),
        ([{"epoch": 1, "valid_rmse": 1.0}], "metrics.jsonl:1: missing valid_perplexity"),
        ([{"epoch": 1, "valid_perplexity": "x"}], "metrics.jsonl:1: missing valid_perplexity"),
        (
            [{"epoch": k, "valid_perplexity": 1, **({"train_perplexity": 1} if k == 1 else {})} for k in (1, 2)],
            "train_perplexity is '' in one line; expected a number",
        ),
    ],
)
def test_runs_without_figures(lines: list[dict[str, object]], message: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", lines, "")
    with pytest.raises(RunError, match=message):
        measure_training([open_run(run, "training")])


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [memory_run(tmp_path / part, "lstm", 50, 0.1) for part in ("a/x/run", "b/x/run", "b/y/run", "other")]
    assert [run.name for run in open_runs(paths, "training")] == ["a/x/run", "b/x/run", "y/run", "other"]
    with pytest.raises(UsageError, match=r"the same run is given 2 times; give each run once"):
        open_runs([*paths, paths[0].parent / ".." / "x" / "run"], "training")


def test_unfinished_runs_are_drawn_and_those_without_a_curve_are_named(tmp_path: Path) -> None:
    lines = [{"epoch": k, "valid_perplexity": 6.0 - k, "train_perplexity": 5.0} for k in (1, 2)]
    going = write_run(tmp_path / "going", lines, "")
    fresh = write_run(tmp_path / "fresh", [], "")
    (fresh / "metrics.jsonl").unlink()
    done = memory_run(tmp_path / "done", "lstm", 50, 0.1)
    found = measure_training(open_runs([going, fresh, done], "training"))
    assert (found.runs, found.unfinished, found.without) == (["going", "done"], ["going"], ["fresh"])
    texts = check_readable(make_figure(draw_training, found))
    assert "going (not finished)" in texts
    assert "done (test rmse 0.1)" in texts
    assert "Ring: the kept weights, the best on validation. Not evaluated yet: fresh." in texts
    with pytest.raises(RunError, match="no metrics; the run has not finished an epoch"):
        measure_training(open_runs([fresh], "training"))


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 0.0], [0.9981, 0.9984], [0.3]])
def test_the_axis_of_accuracies_stays_within_0_and_1(values: list[float], tmp_path: Path) -> None:
    lines = [{"epoch": k, "train_accuracy": value, "valid_accuracy": value} for k, value in enumerate(values, 1)]
    run = write_run(tmp_path / "r", lines, '[task]\nname = "tagger"\n')
    figure = make_figure(draw_training, measure_training([open_run(run, "training")]))
    texts = check_readable(figure)
    low, high = figure.axes[0].get_ylim()
    assert 0 <= low < high <= 1
    assert [text.strip() for text in texts].count("0.3") == (2 if len(values) == 1 else 0)  # beside the points


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read it .*; expected the file that gatewise bench footprint writes"),
        (b"{", "no result; expected the JSON"),
        (b'{"bench": "recurrent"}', "the result of bench recurrent; expected the JSON"),
        (b'{"bench": "footprint"}', "a figure is missing or wrong"),
        (b'{"bench": "footprint", "contestants": [{"name": 1}]}', "a figure is missing or wrong"),
    ],
)
def test_no_result_of_the_benchmark(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_footprint(tmp_path / "r.json")


def test_what_enters_a_stack_is_read_without_logits_or_gradients(tiny_run: Path) -> None:
    model, run = gw.load(tiny_run), open_run(tiny_run, "a picture")
    model.decoder.register_forward_pre_hook(lambda *_: pytest.fail("logits were made"))
    graphs: list[bool] = []
    model.rnn.register_forward_hook(lambda module, given, out: graphs.append(out[0].requires_grad))
    assert read_text(model, "the dog").x.shape == (3, 1, 8)
    assert sample_batch(model, run.config, 4).stack_input(model).shape == (4, COUNT, 8)
    assert graphs == [False, False]
