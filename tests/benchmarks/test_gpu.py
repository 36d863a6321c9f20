"""``benchmarks.gpu`` on a CPU, at a small size: every part passes here, and says FAILED where something is wrong."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_proofs, gpu_speed
from benchmarks.gpu_proofs import Outcome, Setting
from gatewise.nn import GRU
from gatewise.tasks.train import read_task
from gatewise.training.loop import Trainer

SMALL = {
    "model.hidden_size": 16,
    "data.vocabulary_size": 60,
    "data.batch_size": 4,
    "data.tbptt_length": 6,
    "training.epochs": 1,
    "training.max_grad_norm": 0.5,
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_speed, "WARM_UP", 8)
    monkeypatch.setattr(gpu_proofs, "VARIANTS", {"cosine": gpu_proofs.VARIANTS["cosine"]})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of Penn Treebank, with 60 words."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    (folder / "ptb").mkdir()
    for split, lines in (("train", 60), ("valid", 10), ("test", 10)):
        text = "".join(" ".join(f"w{word}" for word in draw.integers(0, 58, 9)) + "\n" for _ in range(lines))
        (folder / "ptb" / f"ptb.{split}.txt").write_text(text, encoding="utf-8")
    return folder


class Here(Setting):
    """A setting on this CPU that keeps what is reported."""

    def __init__(self, data: Path = Path(), **changes: Any) -> None:
        lines: list[str] = []
        given: dict[str, Any] = {"precisions": ("fp32",), "seconds": 0.01, "turns": 2, "report": lines.append}
        super().__init__(torch.device("cpu"), data, **{**given, "changed": {"model.hidden_size": 16}, **changes})
        vars(self)["lines"] = lines

    @property
    def said(self) -> str:
        """All lines."""
        return "\n".join(vars(self)["lines"])


class Capturing(Here):
    """A CPU that is taken for a device with CUDA graphs."""

    captures = True


def test_parity_of_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_proofs, "SIZES", ((7, 12),))
    setting = Here(precisions=("fp32", "bf16"))
    found = gpu_proofs.parity(setting)
    assert found.passed and found.figures["configurations"] == len(gpu_proofs.LAYERS) * 2**4
    largest = found.figures["largest_difference"]
    assert 0 < largest["fp32"] < 1e-5 < largest["bf16"] < gpu_proofs.TOLERANCE["bf16"]


def test_parity_fails_where_one_gradient_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*sizes: int, engine: str = "auto", **options: Any) -> GRU:
        layer = GRU(*sizes, engine=engine, **options)
        if engine == "auto" and options["num_layers"] == 2:
            layer.weight_hh_l1.register_hook(lambda gradient: 1.001 * gradient)
        return layer

    monkeypatch.setattr(gpu_proofs, "SIZES", ((7, 12),))
    monkeypatch.setattr(gpu_proofs, "LAYERS", {"GRU": damaged})
    setting = Here()
    found = gpu_proofs.parity(setting)
    assert not found.passed and found.figures["failures"] == 8
    assert "GRU (7, 12), {'num_layers': 2, 'bidirectional': False, 'bias': True}, ragged=False, fp32" in setting.said


def test_not_a_number_differs() -> None:
    assert gpu_proofs._gap(torch.tensor([torch.nan]), torch.ones(1)) == float("inf")


def test_both_runs_of_the_graph_part_are_the_same() -> None:
    setting = Here()
    assert gpu_proofs.graph(setting).passed
    assert "cpu captures nothing" in setting.said and "differing: nothing" in setting.said


def with_training(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Change what the proofs train with, by a function of the settings of a run."""
    train = gpu_proofs._train

    def changed(setting: Setting, folder: Path, out: Path, more: Any = None, resume: bool = False) -> Any:
        return train(setting, folder, out, {**(more or {}), **change(dict(more or {}))}, resume)

    monkeypatch.setattr(gpu_proofs, "_train", changed)


def test_the_graph_part_fails_where_the_runs_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_proofs, "VARIANTS", {})
    with_training(monkeypatch, lambda given: {"training.seed": 2} if given["runtime.graph"] else {})
    setting = Here()
    found = gpu_proofs.graph(setting)
    assert not found.passed
    assert {"decoder.weight", "model.decoder.weight", "metrics"} <= set(found.figures["fp32"]["differing"])
    assert "two runs without capture differ in: nothing" in setting.said


@pytest.mark.parametrize(("launches", "passed"), [((60, 0), True), ((0, 0), False), ((60, 1), False)])
def test_a_step_that_is_silently_not_captured_fails(
    monkeypatch: pytest.MonkeyPatch, launches: tuple[int, int], passed: bool
) -> None:
    def train(setting: Setting, folder: Path, out: Path, more: Any = None, resume: bool = False) -> None:
        for _ in range(launches[0 if more["runtime.graph"] else 1]):
            torch.cuda.CUDAGraph.replay(None)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: None)
    monkeypatch.setattr(gpu_proofs, "_train", train)
    monkeypatch.setattr(gpu_proofs, "differences", lambda a, b: [])
    found = gpu_proofs.graph(Capturing())
    assert found.passed is passed and found.figures["fp32"]["replays"] == launches[0]


def test_resumed_runs_end_with_the_same_bits() -> None:
    setting = Here()
    found = gpu_proofs.resume(setting)
    assert found.passed and found.figures == {"interruptions": 2, "differing": []}
    assert "interrupted in epoch 1, step 17 of" in setting.said


def test_the_resume_part_fails_where_the_random_generator_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    resume = Trainer.resume

    def forgetful(trainer: Trainer, *arguments: Any) -> None:
        resume(trainer, *arguments)
        torch.manual_seed(1)

    monkeypatch.setattr(Trainer, "resume", forgetful)
    found = gpu_proofs.resume(Here())
    assert not found.passed and "model.decoder.weight" in found.figures["differing"]


def test_the_resume_part_fails_where_a_signal_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_proofs.signal, "raise_signal", lambda number: None)
    found = gpu_proofs.resume(Here())
    assert not found.passed and found.figures == {"interruptions": 0}


def test_bad_steps_are_skipped_and_counted() -> None:
    found = gpu_proofs.bad_steps(Here())
    figures = found.figures["fp32"]
    assert found.passed and figures["skipped_steps"] == figures["expected"] > 2 and not figures["damaged"]


def test_the_bad_steps_part_fails_where_a_count_or_a_weight_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    load, count = gpu_proofs.load_file, gpu_proofs._windows_with
    with monkeypatch.context() as change:
        change.setattr(gpu_proofs, "load_file", lambda path: {**load(path), "model.x": torch.tensor([1.0, torch.nan])})
        found = gpu_proofs.bad_steps(Here())
        assert not found.passed and found.figures["fp32"]["damaged"] == ["model.x"]
    monkeypatch.setattr(gpu_proofs, "_windows_with", lambda *given: count(*given) + 1)
    assert not gpu_proofs.bad_steps(Here()).passed


def test_sides_that_agree_are_timed(data: Path) -> None:
    setting = Here(data, precisions=("fp32", "bf16"), changed=SMALL)
    found = gpu_speed.speed(setting, ["ptb-small", "ptb-large"])
    assert found.passed, setting.said
    rows = [(row["work"], row["against"].split(",")[1].strip()) for row in found.rows]
    assert rows == [
        (f"{recipe}, training step, {precision}", how)
        for recipe in ("ptb-small", "ptb-large")
        for precision in ("fp32", "bf16")
        for how in ("eager", "captured")
    ]
    for row in found.rows:
        assert row["ours_words_per_second"] * row["ours_ms"] == pytest.approx(24e3)
        assert row["target"] == "" and row["against"].startswith("PyTorch ")
    assert all(row["against"].startswith("PyTorch fp32") for row in found.rows if row["work"].endswith("fp32"))


def test_a_side_that_trains_otherwise_is_not_timed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_speed.nn.utils, "clip_grad_norm_", lambda parameters, norm: None)
    setting = Here(data, changed=SMALL)
    found = gpu_speed.speed(setting, ["ptb-small"])
    assert not found.passed and found.rows == []
    assert "ours fp32" in setting.said and "not timed" in setting.said


def test_a_side_that_fails_leaves_the_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(peer: gpu_speed.Peer) -> None:
        raise RuntimeError("no capture here\nmore")

    monkeypatch.setattr(gpu_speed.Peer, "_capture", refuse)
    monkeypatch.setattr(gpu_speed.Peer, "can_capture", staticmethod(lambda device: True))
    setting = Here(data, changed=SMALL)
    found = gpu_speed.speed(setting, ["ptb-small"])
    assert not found.passed and len(found.rows) == 1
    assert "captured bf16  fails: no capture here; not timed" in setting.said


def test_targets_apply_on_a_device_that_captures(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"eager fp32": [5.2, 5.2], "captured fp32": [0.9, 0.9], "ours fp32": [1.0, 1.0]}
    rows = gpu_speed._table("ptb-small", seconds, dict.fromkeys(seconds, 7.0), True, SimpleNamespace(**SIZES))
    assert [(row["target"], row["ratio"]) for row in rows] == [("5.0", 5.2), ("0.95", 0.9)]
    assert rows[0]["ours_peak_mib"] == 7.0
    monkeypatch.setattr(gpu_speed, "_table", lambda *given: rows)
    assert not gpu_speed.speed(Here(data, changed=SMALL), ["ptb-small"]).passed
    assert gpu_speed.speed(Here(data, changed=SMALL), []).passed
    rows.pop()
    assert gpu_speed.speed(Here(data, changed=SMALL), ["ptb-small"]).passed


SIZES = {"batch_size": 4, "tbptt_length": 6}


def test_the_warm_up_before_a_capture_is_undone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the graph that does the step again, the captured program is the eager one."""

    class Stream:
        def wait_stream(self, other: Any) -> None:
            pass

    class Graph:
        def replay(self) -> None:
            captured.optimizer.zero_grad()
            captured._step()

    @contextmanager
    def capture(graph: Graph) -> Iterator[None]:
        assert all(parameter.grad is None for parameter in captured.model.parameters())
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    config = gpu_speed.load_config("ptb-small", {"data.path": str(data / "ptb"), **SMALL})
    task: Any = read_task(config)
    weights = {name: weight.clone() for name, weight in task.make_model().state_dict().items()}
    eager, captured = (gpu_speed.Peer(task, weights, torch.device("cpu"), "fp32", False) for _ in range(2))
    captured.graph = captured._capture()
    for peer in (eager, captured):
        peer.run(len(peer.rows) // peer.T + 2)  # beyond the end of the text
    for ours, theirs in zip(eager.model.parameters(), captured.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(eager.total, captured.total)


def test_perplexity_beside_the_published_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu_speed.perplexity(Here(data, changed=SMALL))
    assert not found.passed and found.figures["epochs"] == 1 and 30 < found.figures["test_perplexity"] < 80
    monkeypatch.setattr(gpu_speed, "PUBLISHED", found.figures["test_perplexity"] + 3)
    setting = Here(data, changed=SMALL)
    assert gpu_speed.perplexity(setting).passed
    assert "fp32, 1 epochs in " in setting.said


def test_parts_that_fail_decide_the_status_and_stop_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(setting: Setting) -> Outcome:
        """Shows that an error is one part's."""
        raise ArithmeticError("wrong\nand more")

    def passes(setting: Setting) -> Outcome:
        """Shows what is said."""
        setting.report("a figure")
        return Outcome(True, {"figure": 1}, [{"work": "a row"}])

    monkeypatch.setattr(gpu, "PARTS", {"parity": fails, "graph": passes})
    words = [str(tmp_path), "--device", "cpu", "--out", str(tmp_path / "gpu.json"), "--parts"]
    assert gpu.main([*words, "parity,graph"]) == 1
    printed = capsys.readouterr()
    assert "ArithmeticError: wrong" in printed.err  # the traceback
    assert "== graph: Shows what is said.\n   a figure\n   graph passed (" in printed.out
    assert "   parity FAILED (" in printed.out
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert printed.out.endswith(f"```json\n{json.dumps(record, indent=2)}\n```\n")
    assert record["parts"]["parity"]["error"] == "ArithmeticError: wrong" and record["rows"] == [{"work": "a row"}]
    assert {"command", "machine", "date", "torch", "device"} <= set(record)
    assert gpu.main([*words, "graph"]) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--device", "cpu", "--parts", "parity,speeds"], "--parts names speeds; expected some of parity,graph,"),
        (["--device", "cpu", "--parts", "speed"], "ptb: no such folder; expected Penn Treebank in it"),
        (["--device", "xpu"], "device 'xpu' is not available"),
    ],
)
def test_wrong_arguments_are_one_line(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([str(tmp_path), *words]) == 2
    assert line in capsys.readouterr().err


def test_precisions_that_are_left_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    lines: list[str] = []
    assert {"fp32", "bf16"} <= set(gpu_proofs.available_precisions(torch.device("cpu"), lines.append))
    assert lines[-1].startswith("fp16 is left out: precision 'fp16' is not available")
