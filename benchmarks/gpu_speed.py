"""What ``benchmarks.gpu`` times: a whole run; training steps against a plain PyTorch program, eager and captured."""

import gc
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gatewise
from benchmarks.gpu_proofs import Outcome, Setting
from benchmarks.training.language_model import Model
from benchmarks.training.ours import NOWHERE, Ours
from gatewise.bench.harness import in_turns, line_of, row
from gatewise.config import Config, load_config
from gatewise.tasks.train import read_task
from gatewise.training.distributed import Group
from gatewise.training.precision import as_configured, fp32_products_in

RECIPES = {"ptb-small": 5.0, "ptb-medium": 2.0, "ptb-large": 1.15}
"""Target speedup of each recipe over the eager PyTorch program."""
OF_CAPTURED = 0.95
"""Target speedup over the captured one."""
PEER_PRECISIONS = ("fp32", "high", "bf16")
AT_MOST = {"fp32": 1, "high": 2, "bf16": 3, "fp16": 3}
"""How many of the peer's precisions have at most the error of ours: ours is compared with the fastest of them."""
WARM_UP = 24
"""Steps before a side is compared or timed."""
LOSS = {"fp32": 1e-4, "high": 1e-3, "bf16": 1e-2, "fp16": 1e-1}
CHANGE = {"fp32": 1e-3, "high": 1e-2, "bf16": 5e-2}
"""Tolerances after ``WARM_UP`` steps: of the loss, and of the change of all weights, by its norm. In fp16, the loss
scaler skips the first steps, so that the weights are not compared."""
PUBLISHED, WITHIN = 114.5, 4.0
"""Test perplexity of the small model (Zaremba et al. 2014, arXiv 1409.2329, their non-regularized LSTM)."""


class Peer:
    """A plain PyTorch program of the same model, whose data is on the device: nothing in a step waits.

    Args:
        task: the task, for its data and settings.
        weights: initial weights.
        device: the device.
        precision: ``fp32``, ``high`` (TF32) or ``bf16`` (autocast).
        captured: whether the whole step is a CUDA graph; on a CPU, it is eager.
    """

    def __init__(
        self, task: Any, weights: Mapping[str, Tensor], device: torch.device, precision: str, captured: bool
    ) -> None:
        model, data, training = task.config.model, task.config.data, task.config.training
        self.B, self.T, self.clip, self.precision = (
            data.batch_size,
            data.tbptt_length,
            training.max_grad_norm,
            precision,
        )
        sizes = model.embedding_size or model.hidden_size, model.hidden_size, model.num_layers
        self.model = Model(len(task.data.vocabulary), *sizes, model.dropout).to(device)
        self.model.load_state_dict(weights)
        fused = {"fused": True} if device.type == "cuda" else {}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=training.learning_rate, **fused)
        ids = torch.from_numpy(np.array(task.data.texts["train"].ids)).long().to(device)
        length = len(ids) // self.B
        self.rows = ids[: self.B * length].view(self.B, length).t().contiguous()
        self.ids, self.targets = self.rows[: self.T].clone(), self.rows[1 : self.T + 1].clone()
        shape = model.num_layers, self.B, model.hidden_size
        self.state = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.total, self.start = torch.zeros((), device=device), 0
        self.device, self.precision = device, precision
        self.model.train()
        self.graph = self._capture() if captured and self.can_capture(device) else None

    @staticmethod
    def can_capture(device: torch.device) -> bool:
        """Return whether the device has CUDA graphs."""
        return device.type == "cuda"

    def _step(self) -> None:
        """Do a step on the window in ``ids`` and ``targets``, from the state in ``state``, which is replaced."""
        precision = torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)
        with precision if self.precision == "bf16" else nullcontext():
            logits, state = self.model(self.ids, self.state)
            cost = F.cross_entropy(logits.flatten(0, 1), self.targets.flatten()) * self.T
        cost.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        with torch.no_grad():
            for kept, new in zip(self.state, state, strict=True):
                kept.copy_(new)
            self.total += cost

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture the step as PyTorch documents it, after a warm-up in another stream, whose changes are undone."""
        before = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with fp32_products_in(self.precision):
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.optimizer.zero_grad()
                    self._step()
            torch.cuda.current_stream().wait_stream(stream)
            self.optimizer.zero_grad()
            with torch.cuda.graph(graph):
                self._step()
        self.model.load_state_dict(before)
        for part in (*self.state, self.total):
            part.zero_()
        return graph

    def step(self) -> None:
        """Do the next step, from the start again after the last window."""
        if self.start + self.T + 1 > len(self.rows):
            self.start = 0
            for part in self.state:
                part.zero_()
        self.ids.copy_(self.rows[self.start : self.start + self.T])
        self.targets.copy_(self.rows[self.start + 1 : self.start + self.T + 1])
        self.start += self.T
        if self.graph is None:
            self.optimizer.zero_grad()
            self._step()
        else:
            self.graph.replay()

    def run(self, steps: int) -> float:
        """Do training steps; return their seconds."""
        with fp32_products_in(self.precision):
            return _timed(self.step, steps, self.device)


class Gatewise:
    """The training steps of ``gatewise train``."""

    def __init__(self, task: Any, weights: Mapping[str, Tensor], device: torch.device, precision: str) -> None:
        config, group = _in(precision, task.config), Group(0, 1, device)
        self.model = task.make_model().to(device)
        self.model.load_state_dict(weights)
        arguments = {"threads": torch.get_num_threads(), "group": group}
        self.ours, self.device = Ours(config, task.workload(self.model, NOWHERE, group), arguments), device
        self.model.train()

    def run(self, steps: int) -> float:
        """Do training steps; return their seconds."""
        return _timed(self.ours.step, steps, self.device)


def _timed(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Return the seconds of some steps, to the end of the device's work."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _in(precision: str, config: Config) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def _sides(setting: Setting, task: Any, weights: Mapping[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """Return by name what makes each side; the peer's are called ``eager`` and ``captured``."""
    made: dict[str, Callable[[], Any]] = {
        f"{'captured' if captured else 'eager'} {precision}": partial(
            Peer, task, weights, setting.device, precision, captured
        )
        for captured, precision in product((False, True), PEER_PRECISIONS)
    }
    for precision in setting.precisions:
        made[f"ours {precision}"] = partial(Gatewise, task, weights, setting.device, precision)
    return made


def speed(setting: Setting, recipes: Iterable[str] = RECIPES) -> Outcome:
    """Training steps are faster than those of a plain PyTorch program, eager or captured whole as a CUDA graph."""
    if not setting.captures:
        setting.report(f"{setting.device.type} captures nothing: the captured program is eager here; no target applies")
    passed, figures, rows = True, dict[str, Any](), list[dict[str, Any]]()
    for recipe in recipes:
        changed = {"data.path": str(setting.data / "ptb"), "runtime.device": str(setting.device), **setting.changed}
        task: Any = read_task(load_config(recipe, changed))
        torch.manual_seed(task.config.training.seed)
        weights = {name: weight.detach().clone() for name, weight in task.make_model().state_dict().items()}
        with as_configured(setting.device):
            agreeing = _agreeing(setting, recipe, changed, weights)
            sides, made, peaks = _sides(setting, task, weights), dict[str, Any](), {}
            passed &= len(agreeing) == len(sides)
            if not agreeing:
                continue
            for name in agreeing:
                made[name], peaks[name] = _with_peak(sides[name], setting.device)
            steps, seconds = in_turns({n: side.run for n, side in made.items()}, setting.turns, setting.seconds)
            del made
        found = _table(recipe, seconds, peaks, setting.captures, task.config.data)
        passed &= all(not line["target"] or line["ratio"] >= float(line["target"]) for line in found)
        rows += found
        words = task.config.data.batch_size * task.config.data.tbptt_length
        figures[recipe] = {"steps": steps, "words_per_second": {n: words / median(s) for n, s in seconds.items()}}
        for name, rate in figures[recipe]["words_per_second"].items():
            memory = "" if peaks[name] is None else f", peak {peaks[name]:,.0f} MiB"
            setting.report(f"{recipe:<11}{name:<14}{rate:>12,.0f} words/s{memory}")
        for line in found:
            setting.report(line_of(line))
    return Outcome(passed, figures, rows)


def _agreeing(setting: Setting, recipe: str, changed: Mapping[str, Any], weights: Mapping[str, Tensor]) -> list[str]:
    """Return the sides that train as the eager program in fp32 does.

    After ``WARM_UP`` steps, the weights and their loss on the first windows are compared: without dropout, whose masks
    differ, and at a learning rate at which rounding does not grow from step to step.
    """
    task: Any = read_task(load_config(recipe, {**changed, "model.dropout": 0.0, "training.learning_rate": 0.1}))
    agreeing, judge = [], Peer(task, weights, setting.device, "fp32", False)
    reference: tuple[float, dict[str, Tensor]] | None = None
    for name, make in _sides(setting, task, weights).items():
        try:
            side = make()
            side.run(WARM_UP)
        except RuntimeError as problem:  # the other sides are timed; the part fails
            setting.report(f"{recipe:<11}{name:<14} fails: {str(problem).partition(chr(10))[0]}; not timed")
            traceback.print_exc()
            continue
        now = {key: weight.detach().clone() for key, weight in side.model.state_dict().items()}
        del side
        loss = _loss(judge, now)
        if reference is None:
            reference = loss, now
        precision = name.split()[1]
        off = abs(loss - reference[0]) / reference[0]
        change = _distance(now, reference[1]) / _distance(reference[1], weights)
        text = (
            f"{recipe:<11}{name:<14} loss {loss:.4f} after {WARM_UP} steps, change of the weights off by {change:.1e}"
        )
        if off <= LOSS[precision] and change <= CHANGE.get(precision, float("inf")):
            agreeing.append(name)
            setting.report(text)
        else:
            setting.report(f"{text}: differs from {reference[0]:.4f}; not timed")
    return agreeing


@torch.no_grad()
def _loss(judge: Peer, weights: Mapping[str, Tensor]) -> float:
    """Return the mean loss of the first ten windows by the plain program in eval mode, without carried state."""
    judge.model.load_state_dict(weights)
    judge.model.eval()
    windows = range(0, min(10 * judge.T, len(judge.rows) - judge.T - 1) + 1, judge.T)
    nll = [
        F.cross_entropy(
            judge.model(judge.rows[k : k + judge.T], tuple(map(torch.zeros_like, judge.state)))[0].flatten(0, 1),
            judge.rows[k + 1 : k + judge.T + 1].flatten(),
        )
        for k in windows
    ]
    return float(torch.stack(nll).mean())


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    each = [(a[key].double().cpu() - b[key].double().cpu()).square().sum() for key in a]
    return math.sqrt(float(torch.stack(each).sum()))


def _with_peak(make: Callable[[], Any], device: torch.device) -> tuple[Any, float | None]:
    """Make a side and warm it up; return it with the peak of the device memory that it took, in MiB."""
    if device.type != "cuda":
        side = make()
        side.run(WARM_UP)
        return side, None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    side = make()
    side.run(WARM_UP)
    return side, (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _table(
    recipe: str, seconds: Mapping[str, list[float]], peaks: Mapping[str, float | None], on_gpu: bool, data: Any
) -> list[dict[str, Any]]:
    """Return the rows of ours at each precision against the peer's fastest eager and captured at most as inexact."""
    words, rows = data.batch_size * data.tbptt_length, []
    for ours, how in product([name for name in seconds if name.startswith("ours")], ("eager", "captured")):
        precision = ours.split()[1]
        peers = [f"{how} {each}" for each in PEER_PRECISIONS[: AT_MOST[precision]] if f"{how} {each}" in seconds]
        if not peers:
            continue
        peer = min(peers, key=lambda name: median(seconds[name]))
        target = RECIPES[recipe] if how == "eager" else OF_CAPTURED
        more: dict[str, Any] = {
            "ours_words_per_second": words / median(seconds[ours]),
            "peer_words_per_second": words / median(seconds[peer]),
        }
        if peaks[ours] is not None:
            more |= {"ours_peak_mib": peaks[ours], "peer_peak_mib": peaks[peer]}
        work, against = f"{recipe}, training step, {precision}", f"PyTorch {peer.split()[1]}, {how}"
        stated = f"{target}" if on_gpu and precision != "fp16" else ""
        rows.append(row(work, against, seconds[ours], seconds[peer], stated, **more))
    return rows


def perplexity(setting: Setting) -> Outcome:
    """``ptb-small``, trained to its end in the faster of fp32 and bf16, reaches the published test perplexity."""
    changed = {"data.path": str(setting.data / "ptb"), "runtime.device": str(setting.device), **setting.changed}
    task: Any = read_task(load_config("ptb-small", changed))
    weights = task.make_model().state_dict()
    with as_configured(setting.device):
        each = {
            precision: Gatewise(task, weights, setting.device, precision)
            for precision in ("fp32", "bf16")
            if precision in setting.precisions
        }
        for side in each.values():
            side.run(WARM_UP)
        _, seconds = in_turns({name: side.run for name, side in each.items()}, 1, setting.seconds)
    precision = min(seconds, key=lambda name: seconds[name][0])
    del each, side
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        more = {"training.precision": precision, "logging.tensorboard": False}
        run = gatewise.train("ptb-small", out=Path(folder) / "run", overrides={**changed, **more}, progress=False)
        found, epochs = float(run.metrics["test_perplexity"]), len(run.history)
        best = min(float(line["valid_perplexity"]) for line in run.history)
    taken = time.perf_counter() - began
    setting.report(
        f"{precision}, {epochs} epochs in {taken:.0f} s: test perplexity {found:.2f} (published {PUBLISHED}, accepted "
        f"within {WITHIN}), validation {best:.2f}"
    )
    figures = {"precision": precision, "epochs": epochs, "training_seconds": taken}
    figures |= {"test_perplexity": found, "valid_perplexity": best}
    return Outcome(abs(found - PUBLISHED) <= WITHIN, figures)
