"""What ``benchmarks.gpu`` proves: layers, captured steps, resumed runs and skipped steps on a device."""

import json
import math
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

import gatewise
from gatewise.config import load_config
from gatewise.errors import Interrupted, UsageError
from gatewise.nn import GRU, LSTM, RNN
from gatewise.tasks.language_modeling import LanguageModelTask
from gatewise.tasks.train import read_task
from gatewise.training.loop import Trainer
from gatewise.training.precision import as_configured, check_precision, fp32_products_in, products_in

PRECISIONS = ("fp32", "high", "bf16", "fp16")
TOLERANCE = {"fp32": 1e-4, "high": 1e-2, "bf16": 8e-2, "fp16": 1e-2}
"""Of the largest entry of each tensor, over a window's roundings: 24 bits, 11 in TF32 and fp16, 8 in bf16."""
LAYERS: dict[str, Callable[..., Any]] = {
    "LSTM": LSTM,
    "LSTM with proj_size": lambda *sizes, **options: LSTM(*sizes, proj_size=sizes[1] // 2, **options),
    "GRU": GRU,
    "RNN tanh": RNN,
    "RNN relu": lambda *sizes, **options: RNN(*sizes, nonlinearity="relu", **options),
    "RNN relu, positive": lambda *sizes, **options: RNN(*sizes, nonlinearity="relu", **options),
}
JUMPS, POSITIVE = "RNN relu", "RNN relu, positive"
"""The derivative of relu jumps at 0, where few bits change the side of some sums: they are given positive sums."""
SIZES, STEPS, LENGTHS = ((7, 12), (32, 64)), 9, (9, 4, 1, 9, 6, 2)
"""Inputs and units, odd ones and ones for tensor cores; steps of a batch; its lengths where they differ."""
POISON, WORDS, MAX_STEPS = "poison", 500, 60
VARIANTS: dict[str, dict[str, Any]] = {
    "sgd": {"training.optimizer": "sgd", "training.learning_rate": 0.5},
    "cosine": {"training.schedule": "cosine", "training.lr_decay": 1.0, "training.lr_decay_after_epoch": 0},
    "average": {"training.average_decay": 0.9},
}
"""Changes, in fp32, to what the part ``graph`` trains with: Adam, whose learning rate changes with the second epoch."""


@dataclass(frozen=True)
class Setting:
    """What a part gets.

    Attributes:
        device: where Gatewise computes.
        data: a folder that contains Penn Treebank in ``ptb``.
        precisions: the precisions of Gatewise to prove and to time.
        seconds: duration of a timing, for the slowest side.
        turns: number of timings of each side.
        report: called with each line.
        changed: changes to every recipe.
    """

    device: torch.device
    data: Path
    precisions: tuple[str, ...]
    seconds: float = 1.0
    turns: int = 3
    report: Callable[[str], None] = print
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def captures(self) -> bool:
        """Whether the device has CUDA graphs."""
        return self.device.type == "cuda"


def available_precisions(device: torch.device, report: Callable[[str], None]) -> tuple[str, ...]:
    """Return the precisions in which a device trains; report why others are left out."""
    available = []
    for precision in PRECISIONS:
        try:
            check_precision(precision, device)
            available.append(precision)
        except UsageError as reason:
            report(f"{precision} is left out: {reason}")
    return tuple(available)


@dataclass(frozen=True)
class Outcome:
    """What a part found: whether it passed, its figures, and the rows of its table."""

    passed: bool
    figures: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


def parity(setting: Setting) -> Outcome:
    """Outputs, final states and all gradients of every layer equal those of the reference, in float64 on the CPU."""
    worst, failures, count = dict.fromkeys(setting.precisions, 0.0), 0, 0
    with as_configured(setting.device):
        for kind, sizes, layers, both, bias, ragged in product(
            LAYERS, SIZES, (1, 2), (False, True), (True, False), (False, True)
        ):
            torch.manual_seed(count)
            how = {"num_layers": layers, "bidirectional": both, "bias": bias}
            reference = LAYERS[kind](*sizes, engine="reference", **how).double()
            x = torch.randn(STEPS, len(LENGTHS), sizes[0], dtype=torch.float64)
            if kind == POSITIVE:
                x = x.abs()
                for parameter in reference.parameters():
                    parameter.detach().abs_().mul_(2 / math.sqrt(sizes[1]))
            lengths = torch.tensor(LENGTHS) if ragged else None
            expected = _outputs_and_gradients(reference, x, lengths, "fp32")
            layer = LAYERS[kind](*sizes, **how)
            layer.load_state_dict(reference.state_dict())
            layer = layer.to(setting.device)
            count += 1
            for precision in ["fp32"] if kind == JUMPS else worst:
                found = _outputs_and_gradients(layer, x.float().to(setting.device), lengths, precision)
                gap = max(_gap(a, b) for a, b in zip(found, expected, strict=True))
                worst[precision] = max(worst[precision], gap)
                if not gap <= TOLERANCE[precision]:
                    failures += 1
                    setting.report(f"{kind} {sizes}, {how}, ragged={ragged}, {precision}: differs by {gap:.1e}")
    for precision, gap in worst.items():
        setting.report(
            f"{precision}: largest difference {gap:.1e} of the largest entry, tolerance {TOLERANCE[precision]}"
        )
    setting.report(f"{count} configurations in each precision, {failures} beyond the tolerance")
    return Outcome(not failures, {"configurations": count, "failures": failures, "largest_difference": worst})


def _outputs_and_gradients(layer: Any, x: Tensor, lengths: Tensor | None, precision: str) -> list[Tensor]:
    """Return outputs, final states, and the gradients of x and the parameters for fixed gradients of the outputs."""
    given = x.detach().requires_grad_()
    with fp32_products_in(precision):
        with products_in(precision, x.device):
            y, state = layer(given, lengths=lengths)
        outputs = [y, *([state] if isinstance(state, Tensor) else state)]
        draw = torch.Generator().manual_seed(1)
        upstream = [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t) for t in outputs]
        gradients = torch.autograd.grad(outputs, [given, *layer.parameters()], upstream)
    return [t.detach().double().cpu() for t in (*outputs, *gradients)]


def _gap(found: Tensor, expected: Tensor) -> float:
    gap = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    return gap if math.isfinite(gap) else math.inf


def graph(setting: Setting) -> Outcome:
    """A captured training step gives the bits of one that is not captured: weights, optimizer, state and metrics."""
    if not setting.captures:
        setting.report(f"{setting.device.type} captures nothing: both runs are eager here")
    figures: dict[str, Any] = {}
    each = {precision: {"training.precision": precision} for precision in setting.precisions}
    with _corpus() as folder:
        for name, more in {**each, **VARIANTS}.items():
            runs, replays = {}, {}
            for captured in (True, False):
                runs[captured] = folder / f"{name}-{captured}"
                with _counted_replays() as replayed:
                    _train(setting, folder, runs[captured], {**more, "runtime.graph": captured})
                replays[captured] = replayed()
            differing = differences(runs[True], runs[False])
            setting.report(
                f"{name}: {MAX_STEPS} steps, {replays[True]} graph launches (without capture {replays[False]}), "
                f"differing: {', '.join(differing) or 'nothing'}"
            )
            enough = not setting.captures or replays[True] >= MAX_STEPS // 2
            if not enough:
                setting.report(f"{name}: the step was not captured; expected at least {MAX_STEPS // 2} launches")
            if differing:
                again = folder / f"{name}-again"
                _train(setting, folder, again, {**more, "runtime.graph": False})
                same = differences(runs[False], again)
                setting.report(f"{name}: two runs without capture differ in: {', '.join(same) or 'nothing'}")
            passed = enough and not replays[False] and not differing
            figures[name] = {"passed": passed, "differing": differing, "replays": replays[True]}
    return Outcome(all(found["passed"] for found in figures.values()), figures)


def resume(setting: Setting) -> Outcome:
    """A run that is interrupted in the middle of an epoch, twice, and resumed ends with the bits of a whole run."""
    stops, stopped = (17, 41), list[int]()
    with _corpus() as folder:
        whole, cut = folder / "whole", folder / "cut"
        _train(setting, folder, whole)
        for stop in stops:
            with _signal_at_step(stop - (stopped[-1] if stopped else 0)):
                try:
                    _train(setting, folder, cut, resume=bool(stopped))
                except Interrupted as line:
                    setting.report(str(line).partition(";")[0])
                    stopped.append(stop)
                else:
                    break
        if len(stopped) < len(stops):
            setting.report(f"interrupted {len(stopped)} times, expected {len(stops)}: a signal had no effect")
            return Outcome(False, {"interruptions": len(stopped)})
        _train(setting, folder, cut, resume=True)
        differing = differences(whole, cut)
    setting.report(f"{MAX_STEPS} steps, interrupted after {stops}; differing: {', '.join(differing) or 'nothing'}")
    return Outcome(not differing, {"interruptions": len(stopped), "differing": differing})


def bad_steps(setting: Setting) -> Outcome:
    """A step whose loss is NaN is skipped and counted, and changes no weight; the other steps train."""
    figures: dict[str, Any] = {}
    make_model = LanguageModelTask.make_model

    def poisoned(task: LanguageModelTask) -> Any:
        """Make the cost of a window NaN if it contains a word, by operations that can be captured."""
        word = task.data.vocabulary.tokens.index(POISON)

        def spoil(model: torch.nn.Module, inputs: Any, outputs: Any) -> Any:
            cost, *others = outputs
            return (torch.where((inputs[0] == word).any(), torch.full_like(cost, math.nan), cost), *others)

        model = make_model(task)
        model.register_forward_hook(spoil)
        return model

    with _corpus(poisoned_lines=6) as folder, mock.patch.object(LanguageModelTask, "make_model", poisoned):
        expected = _windows_with(POISON, load_config("demo", _settings(setting, folder, {})))
        for precision in setting.precisions:
            run = _train(setting, folder, folder / precision, {"training.precision": precision})
            skipped = sum(int(line.get("skipped_steps", 0)) for line in run.history)
            weights = load_file(run.path / "checkpoints" / _newest(run.path))
            damaged = [name for name, t in weights.items() if name[:9] != "generator" and not bool(t.isfinite().all())]
            perplexity = float(run.history[-1]["valid_perplexity"])
            figures[precision] = {"skipped_steps": skipped, "expected": expected, "damaged": damaged}
            setting.report(
                f"{precision}: {skipped} of {MAX_STEPS} steps skipped, expected {expected}; not finite: "
                f"{', '.join(damaged) or 'nothing'}; validation perplexity {perplexity:.1f} with {WORDS} words"
            )
            figures[precision]["passed"] = 0 < skipped == expected and not damaged and perplexity < WORDS
    return Outcome(all(found["passed"] for found in figures.values()), figures)


def differences(a: Path, b: Path) -> list[str]:
    """Return what differs between two runs: tensors of the best weights and the newest checkpoint, metrics.

    The random generators and the times taken are not compared.
    """
    if _newest(a) != _newest(b):
        return [f"{_newest(a)} and {_newest(b)}"]
    found = []
    for name in ("model.safetensors", f"checkpoints/{_newest(a)}"):
        ours, theirs = load_file(a / name), load_file(b / name)
        keys = {key for key in {*ours, *theirs} if not key.startswith("generator.")}
        found += sorted(k for k in keys if k not in ours or k not in theirs or not _same(ours[k], theirs[k]))
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (a, b)]
    timings = ("seconds", "tokens_per_second")
    kept = [[{k: v for k, v in line.items() if k not in timings} for line in part] for part in lines]
    return found + ["metrics"] * (kept[0] != kept[1])


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def _newest(run: Path) -> str:
    return max(path.name for path in (run / "checkpoints").glob("step-*"))


def _settings(setting: Setting, folder: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data.path": str(folder / "text"),
        "data.builtin": "",
        "model.num_layers": 2,
        "training.lr_decay_after_epoch": 1,
        "training.max_steps": MAX_STEPS,
        "training.eval_every": 25,
        "training.checkpoint_every": 1e6,
        "runtime.device": str(setting.device),
        "logging.tensorboard": False,
        **setting.changed,
        **more,
    }


def _train(
    setting: Setting, folder: Path, out: Path, more: Mapping[str, Any] | None = None, resume: bool = False
) -> gatewise.Run:
    """Train the recipe ``demo`` with two layers for ``MAX_STEPS`` steps."""
    chosen = _settings(setting, folder, more or {})
    return gatewise.train("demo", out=out, overrides=chosen, resume=resume, progress=False)


@contextmanager
def _corpus(poisoned_lines: int = 0) -> Iterator[Path]:
    """Make a temporary folder with a text of 500 words with the frequencies of natural text, in lines of 20 words."""
    draw, frequency = np.random.default_rng(1), 1 / np.arange(2, WORDS + 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        for split, lines in (("train", 800), ("valid", 100), ("test", 100)):
            words = draw.choice(WORDS, (lines, 19), p=frequency / frequency.sum())
            text = [[f"w{word}" for word in line] for line in words]
            if split == "train":
                for line in range(20, 20 + 130 * poisoned_lines, 130):
                    text[line][9] = POISON
            content = "".join(" ".join(line) + "\n" for line in text)
            (folder / "text" / f"{split}.txt").write_text(content, encoding="utf-8")
        yield folder


def _windows_with(word: str, config: Any) -> int:
    """Count the training steps that read a word, from the ids and the layout of contiguous rows alone."""
    data, B, T = read_task(config).data, config.data.batch_size, config.data.tbptt_length  # type: ignore[attr-defined]
    ids, sought = np.array(data.texts["train"].ids), data.vocabulary.tokens.index(word)
    rows = ids[: len(ids) // B * B].reshape(B, -1)
    windows = [(rows[:, k : k + T] == sought).any() for k in range(0, rows.shape[1] - T, T)]
    return sum(bool(windows[step % len(windows)]) for step in range(config.training.max_steps))


@contextmanager
def _counted_replays() -> Iterator[Callable[[], int]]:
    """Count the launches of CUDA graphs within the block."""
    count, replay = 0, torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal count
        count += 1
        replay(graph)

    with mock.patch.object(torch.cuda.CUDAGraph, "replay", counted):
        yield lambda: count


@contextmanager
def _signal_at_step(number: int) -> Iterator[None]:
    """Raise SIGTERM as the given step of a training run begins."""
    count, step = 0, Trainer.step

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments, **options)

    with mock.patch.object(Trainer, "step", counted):
        yield
