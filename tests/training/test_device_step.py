"""Steps that do not wait for the device, as operations and as a graph, on the CPU: they are those of the loop."""

import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

import gatewise as gw
from gatewise.artifact.run_folder import RunFolder
from gatewise.config import Config
from gatewise.errors import TrainingStopped
from gatewise.tasks.language_modeling import LanguageModelling
from gatewise.tasks.memory import Adding
from gatewise.tasks.run import Run
from gatewise.tasks.train import _as_graph
from gatewise.training import device_step
from gatewise.training.checkpoints import Checkpoint, load_newest
from gatewise.training.device_step import DeviceStep
from gatewise.training.distributed import Group
from gatewise.training.feed import shape_of
from gatewise.training.interrupt import InterruptGuard
from gatewise.training.loop import Trainer
from tests.conftest import TINY, TINY_CLASSIFIER, TINY_REGRESSOR, TINY_TAGGER
from tests.tolerances import differ
from tests.training.replay import as_on_a_device, in_the_gradient_of_the_loss
from tests.training.rig import make_trainer

Patch = pytest.MonkeyPatch
LANGUAGE = {**TINY, "runtime.engine": "torch", "model.num_layers": 2}
MEMORY = {
    "data.length": 6,
    "data.batch_size": 8,
    "training.max_steps": 24,
    "training.eval_every": 8,
    "runtime.engine": "torch",
    "logging.tensorboard": False,
}


@pytest.fixture
def captures(monkeypatch: Patch) -> Iterator[list[int]]:
    """The number of replays of each capture."""
    with as_on_a_device(monkeypatch) as found:
        yield found


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model.safetensors")


def last_checkpoint(run: Run) -> Checkpoint:
    checkpoint, _ = load_newest(run.path / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def assert_same_runs(a: Run, b: Run) -> None:
    for mine, other in zip(*(RunFolder(run.path).read_metrics() for run in (a, b)), strict=True):
        for key in mine:
            assert key in ("seconds", "tokens_per_second") or mine[key] == other[key], key
    for name, weight in weights_of(a).items():
        assert torch.equal(weight, weights_of(b)[name]), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_the_steps_are_those_of_a_loop_that_waits(
    optimizer: str, limit: float, corpus: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Clipping, update, carried state and running average; the optimizers' kernels round differently."""
    settings = {
        **LANGUAGE,
        "training.optimizer": optimizer,
        "training.learning_rate": 0.5 if optimizer == "sgd" else 0.01,
        "training.weight_decay": 0.01,
        "training.max_grad_norm": limit,
        "training.average_decay": 0.9,
        "training.schedule": "cosine",
        "training.lr_decay": 1.0,
        "training.lr_decay_after_epoch": 0,
        "model.dropout": 0.0,
    }
    waiting = gw.train("demo", data=corpus, out=tmp_path / "waiting", overrides=settings)
    with as_on_a_device(monkeypatch) as captures:
        ahead = gw.train("demo", data=corpus, out=tmp_path / "ahead", overrides=settings)
    assert captures and captures[0] > 90
    lines = (RunFolder(run.path).read_metrics() for run in (waiting, ahead))
    for mine, other in zip(*lines, strict=True):
        for name in ("train_perplexity", "valid_perplexity", "learning_rate"):
            assert name not in mine or mine[name] == pytest.approx(other[name], rel=2e-4), name
    tolerance = 1e-4 if optimizer == "sgd" else 5e-3
    a, b = (last_checkpoint(run).tensors for run in (waiting, ahead))
    for name in a:
        if name.startswith(("model.", "average.", "optimizer.")):
            assert differ(b[name], a[name]) < tolerance, name
    assert differ(b["average.0"], b["model.embedding.weight"]) > tolerance


def train_rows(folder: Path, data: dict[str, Path], graph: bool) -> Run:
    settings = {**TINY_CLASSIFIER, "runtime.engine": "torch", "model.dropout": 0.3, "runtime.graph": graph}
    return gw.train("mnist-rows", data=data["sequences"], out=folder, overrides=settings)


def train_words(folder: Path, data: dict[str, Path], graph: bool) -> Run:
    settings = {**LANGUAGE, "model.dropout": 0.3, "training.average_decay": 0.9, "runtime.graph": graph}
    return gw.train("demo", data=data["corpus"], out=folder, overrides=settings)


def train_memory(folder: Path, data: dict[str, Path], graph: bool) -> Run:
    return gw.train("memory-task", out=folder, overrides={**MEMORY, "runtime.graph": graph})


def train_waves(folder: Path, data: dict[str, Path], graph: bool) -> Run:
    settings = {**TINY_REGRESSOR, "data.columns": ["level"], "runtime.engine": "torch", "runtime.graph": graph}
    return gw.train("sunspots", data=data["waves"], out=folder, overrides=settings)


@pytest.mark.parametrize("train", [train_words, train_rows, train_memory, train_waves])
def test_a_graph_makes_the_same_steps(
    train: Callable[..., Run],
    tmp_path: Path,
    captures: list[int],
    corpus: Path,
    sequences: Path,
    waves: Path,
) -> None:
    data = {"corpus": corpus, "sequences": sequences, "waves": waves}
    with_graph = train(tmp_path / "graph", data, True)
    assert len(captures) == 1 and captures[0] > 10
    without = train(tmp_path / "eager", data, False)
    assert len(captures) == 1
    assert_same_runs(with_graph, without)


def test_batches_of_different_lengths_are_not_captured(tagged: Path, tmp_path: Path, captures: list[int]) -> None:
    run = gw.train("ewt-upos", data=tagged, out=tmp_path / "run", overrides={**TINY_TAGGER, "runtime.engine": "torch"})
    assert math.isfinite(run.metrics["test_accuracy"]) and not captures


def test_a_batch_of_another_shape_is_made_beside_the_graph(
    tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    honest = Adding.inputs

    def inputs(self: Adding, step: int) -> tuple[Any, ...]:
        x, y, lengths = honest(self, step)
        return (x, y, lengths) if step % 3 else (x[:5], y[:5], lengths)

    monkeypatch.setattr(Adding, "inputs", inputs)
    with_graph = train_memory(tmp_path / "graph", {}, True)
    assert len(captures) == 1 and 5 < captures[0] < 20
    assert_same_runs(with_graph, train_memory(tmp_path / "eager", {}, False))


def test_what_cannot_be_captured_trains_without_a_graph_and_says_why(
    corpus: Path, tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    def refused(make: Callable[[], None], device: torch.device) -> None:
        make_nothing = torch.get_rng_state()
        raise RuntimeError(f"operation not permitted when stream is capturing\nof {len(make_nothing)} bytes")

    expected = train_words(tmp_path / "expected", {"corpus": corpus}, False)
    monkeypatch.setattr(device_step, "captured", refused)
    with (tmp_path / "out").open("w") as file:
        settings = {**LANGUAGE, "model.dropout": 0.3, "training.average_decay": 0.9}
        out = Console(file=file, width=500)
        found = gw.train("demo", data=corpus, out=tmp_path / "run", overrides=settings, progress=out)
    assert_same_runs(found, expected)
    said = (tmp_path / "out").read_text()
    line = "the step is not captured as a CUDA graph (operation not permitted when stream is capturing); training "
    assert said.count(line + "continues without it\n") == 1


@pytest.mark.parametrize("graph", [True, False])
def test_a_run_cut_off_and_resumed_equals_one_that_was_not(
    graph: bool, corpus: Path, tmp_path: Path, captures: list[int]
) -> None:
    settings = {
        **LANGUAGE,
        "model.dropout": 0.3,
        "training.optimizer": "adam",
        "training.learning_rate": 0.01,
        "training.max_steps": 90,
        "training.eval_every": 30,
        "runtime.graph": graph,
    }
    whole = gw.train("demo", data=corpus, out=tmp_path / "whole", overrides=settings)
    trainer_stops(corpus, tmp_path / "cut", settings, after=47)
    cut = gw.train("demo", data=corpus, out=tmp_path / "cut", overrides=settings, resume=True)
    assert_same_runs(whole, cut)


def trainer_stops(corpus: Path, out: Path, settings: dict[str, Any], after: int) -> None:
    """Train, and interrupt the run after a step."""
    honest, made = DeviceStep.make, iter(range(10**6))
    with pytest.MonkeyPatch.context() as here:
        here.setattr(
            DeviceStep, "make", lambda self, at, wanted: honest(self, at, lambda: (next(made) == after - 1, False))
        )
        with pytest.raises(gw.errors.Interrupted):
            gw.train("demo", data=corpus, out=out, overrides=settings)
    checkpoint, _ = load_newest(out / "checkpoints")
    assert checkpoint is not None and checkpoint.progress["step"] == after


def poison(monkeypatch: Patch, bad_steps: set[int]) -> None:
    """Make the input of some steps NaN."""
    honest = Adding.inputs

    def inputs(self: Adding, step: int) -> tuple[Any, ...]:
        x, *others = honest(self, step)
        return (x * math.nan if step in bad_steps else x), *others

    monkeypatch.setattr(Adding, "inputs", inputs)


@pytest.mark.parametrize("graph", [True, False])
def test_a_step_that_is_not_finite_is_skipped_counted_and_reported(
    graph: bool, tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    poison(monkeypatch, {1, 9, 10, 13})
    settings = {**MEMORY, "training.average_decay": 0.9, "runtime.graph": graph, "training.optimizer": "adam"}
    with (tmp_path / "out").open("w") as file:
        out = Console(file=file, width=500)
        run = gw.train("memory-task", out=tmp_path / "run", overrides=settings, progress=out)
    lines = RunFolder(run.path).read_metrics()
    assert [line.get("skipped_steps", 0) for line in lines[:3]] == [1, 3, 0]
    assert all(math.isfinite(line["train_loss"]) for line in lines[:3])
    said = [line.split("; ")[0] for line in (tmp_path / "out").read_text().splitlines() if "skipped" in line]
    assert said == [f"epoch 1, step {k + 1}: loss nan" for k in (1, 9, 10, 13)]
    assert "nearest to the loss: decoder.bias; step skipped (2 in a row" in (tmp_path / "out").read_text()
    assert all(bool(weight.isfinite().all()) for weight in weights_of(run).values())
    assert last_checkpoint(run).tensors["optimizer.0.step"].item() == 20  # of 24


@pytest.mark.parametrize("graph", [True, False])
def test_nothing_changes_in_a_skipped_step(graph: bool, corpus: Path, tmp_path: Path, captures: list[int]) -> None:
    trainer = make_trainer(corpus, tmp_path, "torch", **{"training.average_decay": 0.9, "runtime.graph": graph})
    work, making = trainer.workload, trainer.making
    work.begin_epoch(1)
    work.model.train()
    for _ in range(6):
        trainer.step(InterruptGuard())
    making.read(trainer.at)
    bias = work.model.get_parameter("decoder.bias")
    with torch.no_grad():
        kept = bias[3].clone()
        bias[3] = 3e38  # the sum of the costs is more
    state = {name: part.clone() for name, part in work.carried().items()}
    before = [t.clone() for t in (*making.parameters, *making.average.weights)]
    cost = trainer.at.cost
    trainer.step(InterruptGuard())
    assert making.read(trainer.at) == 1
    assert (trainer.at.cost, trainer.at.skipped) == (cost, 1)
    assert all(torch.equal(part, state[name]) for name, part in work.carried().items())
    after = [*making.parameters, *making.average.weights]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    with torch.no_grad():
        bias[3] = kept
    trainer.step(InterruptGuard())
    assert making.read(trainer.at) == 1  # it was one in a row until this step
    assert trainer.at.skipped_in_a_row == 0 and trainer.at.cost > cost
    assert not any(torch.equal(part, state[name]) for name, part in work.carried().items())
    assert bool(captures) == graph


def test_too_many_in_a_row_stop_training_at_the_next_reading(
    tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    """Also if others followed that were made: a loop that waits stops, too."""
    poison(monkeypatch, {9, 10, 11, 12})
    settings = {**MEMORY, "training.max_bad_steps": 4}
    with pytest.raises(TrainingStopped, match=r"^4 consecutive steps were not finite \(epoch 1, step 16 of 100\)"):
        gw.train("memory-task", out=tmp_path / "run", overrides=settings)
    checkpoint, _ = load_newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.progress["step"] == 8
    gw.train("memory-task", out=tmp_path / "other", overrides={**settings, "training.max_bad_steps": 5})


def test_more_steps_than_there_is_room_for_are_read_in_between(
    tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    expected = train_memory(tmp_path / "expected", {}, True)
    monkeypatch.setattr(device_step, "UNREAD", 3)
    assert_same_runs(train_memory(tmp_path / "found", {}, True), expected)


def test_tensorboard_gets_the_same_points(corpus: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**LANGUAGE, "logging.tensorboard": True, "logging.tensorboard_every": 7, "model.dropout": 0.0}
    curves = []
    for name in ("waiting", "ahead"):
        with as_on_a_device(monkeypatch) if name == "ahead" else monkeypatch.context():
            gw.train("demo", data=corpus, out=tmp_path / name, overrides=settings)
        events = EventAccumulator(str(tmp_path / name / "tensorboard"))
        events.Reload()
        curves.append([(point.step, point.value) for point in events.Scalars("train/loss")])
    steps, values = zip(*curves[0], strict=True)
    assert steps == tuple(range(0, 102, 7)) == tuple(step for step, _ in curves[1])
    assert [value for _, value in curves[1]] == pytest.approx(values, rel=1e-4)


class Reads(TorchDispatchMode):
    """Counts where a program reads a tensor: ``item``, ``float``, ``bool``, ``tolist``, ``numpy``, ``cpu``."""

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self.found = list[str]()
        for name in ("tolist", "numpy", "cpu", "item", "__float__", "__bool__", "__int__"):
            patch.setattr(torch.Tensor, name, self._watched(name, getattr(torch.Tensor, name)))

    def _watched(self, name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            self._note(name)
            return honest(tensor, *arguments, **options)

        return call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            self._note(str(func))
        return func(*args, **(kwargs or {}))

    def _note(self, name: str) -> None:
        if not in_the_gradient_of_the_loss():
            self.found.append(f"{name} in {[frame.name for frame in traceback.extract_stack()[-10:-2]]}")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("graph", [True, False])
def test_no_step_waits_for_the_device(
    graph: bool, precision: str, corpus: Path, tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    keys = {"training.average_decay": 0.9, "runtime.graph": graph, "training.precision": precision}
    keys |= {"training.schedule": "cosine", "training.lr_decay": 1.0, "training.lr_decay_after_epoch": 0}
    trainer = make_trainer(corpus, tmp_path, "torch", **keys)
    trainer.workload.begin_epoch(1)
    trainer.workload.model.train()
    with monkeypatch.context() as here, Reads(here) as reads:
        for _ in range(9):
            trainer.step(InterruptGuard())
        assert not reads.found
        trainer.making.read(trainer.at)
        assert len(reads.found) == 1
    assert trainer.at.units == 9 * 5


def test_each_batch_is_read_once_one_step_ahead(
    corpus: Path, tmp_path: Path, captures: list[int], monkeypatch: Patch
) -> None:
    read, honest = list[int](), LanguageModelling.inputs
    monkeypatch.setattr(LanguageModelling, "inputs", lambda self, step: read.append(step) or honest(self, step))
    trainer = make_trainer(corpus, tmp_path, "torch")
    trainer.workload.begin_epoch(1)
    for step in range(trainer.workload.steps_per_epoch):
        trainer.step(InterruptGuard())
        assert read == list(range(min(step + 2, trainer.workload.steps_per_epoch)))


def test_checkpoints_are_saved_when_they_are_due(tmp_path: Path, captures: list[int], monkeypatch: Patch) -> None:
    saved, honest = list[tuple[int, float]](), Trainer.save

    def save(self: Trainer) -> None:
        saved.append((self.at.step, self.at.units))
        honest(self)

    monkeypatch.setattr(Trainer, "save", save)
    gw.train("memory-task", out=tmp_path / "run", overrides={**MEMORY, "training.checkpoint_every": 0.0})
    # After each step, with the sums of all steps since the evaluation; twice where there is one.
    assert [step for step, _ in saved] == sorted([*range(1, 25), 8, 16, 24])
    assert [units for _, units in saved[:9]] == [*range(1, 9), 0]


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(("limit", "first"), [(0.0, 2.0**16), (0.5, 2.0**16), (0.5, 2.0**8)])
def test_a_scaled_loss_makes_the_steps_of_a_loop_that_waits(
    graph: bool, limit: float, first: float, corpus: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Steps that overflow count as nothing; the scale falls, and rises after three steps, of which two were before."""
    keys = {"runtime.graph": graph, "training.max_grad_norm": limit, "model.dropout": 0.0}

    def trained(folder: Path) -> Trainer:
        trainer = make_trainer(corpus, folder, "torch", **keys)
        making, guard = trainer.making, InterruptGuard()
        making.scaler = torch.amp.GradScaler("cpu", init_scale=first, growth_interval=3)
        bias = trainer.workload.model.get_parameter("decoder.bias")
        bias.register_hook(lambda d: torch.where(d.abs() > 2.0**12, math.inf, d))  # as in 16 bits
        making.scaler.load_state_dict({**making.scaler.state_dict(), "_growth_tracker": 2})
        making.set_learning_rate(0.5)
        if isinstance(making, DeviceStep):
            making._begin()
        else:
            making.update.scaler = making.scaler
        trainer.workload.begin_epoch(1)
        trainer.workload.model.train()
        for _ in range(16):
            trainer.step(guard)
        making.read(trainer.at)
        return trainer

    waiting = trained(tmp_path / "waiting")
    with as_on_a_device(monkeypatch) as captures:
        ahead = trained(tmp_path / "ahead")
    assert bool(captures) == graph
    assert 0 < waiting.at.units < 16 * 5  # some steps overflowed
    for name in ("units", "skipped", "skipped_in_a_row"):
        assert getattr(ahead.at, name) == getattr(waiting.at, name), name
    assert ahead.at.skipped == 0
    assert ahead.at.cost == pytest.approx(waiting.at.cost, rel=1e-5)
    assert ahead.making.scaler.state_dict() == waiting.making.scaler.state_dict()
    for a, b in zip(ahead.making.parameters, waiting.making.parameters, strict=True):
        assert differ(a, b) < 1e-5


def test_the_loss_scale_is_that_of_pytorchs_scaler(corpus: Path, tmp_path: Path, captures: list[int]) -> None:
    making = make_trainer(corpus, tmp_path, "torch").making
    assert isinstance(making, DeviceStep)
    making.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    making._begin()
    peer = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    for finite in np.random.default_rng(0).random(60) > 0.3:
        weight.grad = torch.ones(1) if finite else torch.full((1,), math.inf)
        peer.scale(torch.ones(1))
        peer.unscale_(optimizer)
        peer.update()
        making._update_scale(torch.tensor(bool(finite)))
        making.read(make_trainer(corpus, tmp_path / "other", "torch").at)
        assert making.scaler.state_dict() == peer.state_dict()
        assert making.scaled(torch.tensor(3.0)).item() == 3 * peer.get_scale()


def test_a_step_depends_on_shapes_unless_numbers_plan_it() -> None:
    cpu, x = torch.device("cpu"), torch.zeros(2, 3)
    assert shape_of((x, None), cpu) == shape_of((x + 1, None), cpu) != shape_of((x[:1], None), cpu)
    assert shape_of((x, x), cpu) != shape_of((x, None), cpu)
    assert shape_of(x, torch.device("cpu", 0)) == shape_of(x, cpu)  # as a tensor on cuda is on cuda:0
    assert shape_of({"x": x, "lengths": np.ones(2)}, cpu) is None and shape_of(x.to("meta"), cpu) is None


@pytest.mark.parametrize(
    ("graph", "processes", "batch", "said"),
    [
        (True, 1, torch.zeros(2), ", each step one CUDA graph"),
        (True, 1, np.zeros(2), ", no CUDA graph (batches of different shapes)"),
        (True, 2, torch.zeros(2), ", no CUDA graph (several processes)"),
        (False, 1, torch.zeros(2), ", no CUDA graph (runtime.graph)"),
    ],
)
def test_the_first_line_says_whether_steps_are_captured(graph: bool, processes: int, batch: Any, said: str) -> None:
    config = Config.model_validate({"runtime": {"graph": graph}})
    workload: Any = SimpleNamespace(inputs=lambda step: batch)
    assert _as_graph(config, workload, Group(0, processes, torch.device("cuda"))) == said
    assert _as_graph(config, workload, Group(0, processes, torch.device("cpu"))) == ""
