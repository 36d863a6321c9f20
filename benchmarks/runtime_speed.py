"""``python -m benchmarks.runtime_speed``: steps of ``gatewise.runtime`` against ONNX Runtime and PyTorch, in turns.

Two LSTM layers and an output layer of 10,000 words, at batch size 1, as in ``gatewise bench streaming``: here our side
is what an installation with NumPy alone does, from Python. Then 64 sessions stepped together and one at a time.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gatewise import runtime
from gatewise.artifact.run_folder import RunFolder
from gatewise.bench.harness import agree, in_turns, line_of, row
from gatewise.bench.streaming import TARGETS, Side, drawn_model, faster, stored_as
from gatewise.bench.streaming_peers import Step, onnxruntime_step, pytorch_step, refuse_without_onnxruntime
from gatewise.cli.bench import AsJson, Out, Threads, Turns, finish
from gatewise.config import Config
from gatewise.data.tokenizer_file import vocabulary_json
from gatewise.models.language_model import LanguageModel
from gatewise.models.loading import save_weights
from gatewise.runtime.model_file import STORED

SESSIONS, TOKEN, CHECKED = 64, 7, 4
SECONDS_A_TURN = 1.0
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-5, "int8": 1e-4}
"""Of logits, against PyTorch with the weights as they are stored; int8 also rounds activations to 16 bits."""
SIZES = (200, 650, 1500)
TARGETS_OF = {weights: dict.fromkeys(SIZES, least) for weights, least in {"fp32": "1.0", "bf16": "1.7"}.items()}
TARGETS_OF["int8"] = dict(zip(SIZES, TARGETS["int8"], strict=True))
"""Target speedups over ONNX Runtime's step in fp32."""
TOGETHER = "8.0"


def main(
    context: typer.Context,
    sizes: Annotated[list[int] | None, typer.Option("--size", help="H; can be repeated.")] = None,
    threads: Threads = 2,
    turns: Turns = 9,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Check logits first, then time each size: single steps with each storage of weights, and sessions together."""
    refuse_without_onnxruntime()
    rows: list[dict[str, Any]] = []
    for H in sizes or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            model = drawn_model(H)
            write_run(model, Path(folder))
            for measured in [*single_steps(model, Path(folder), threads, turns), *sessions(Path(folder), H, turns)]:
                rows.append(measured)
                typer.echo(f"{line_of(measured)}; of the fastest turns {measured['fastest_ratio']:.2f}", err=as_json)
    result = {"bench": "runtime-speed", "threads": threads, "turns": turns, "rows": rows}
    if not finish(context, result, out, as_json, "sizes", "threads", "turns"):
        typer.echo("columns: Gatewise, the other side, ratio: median of the turns (range)")
        typer.echo(f"on {result['machine']}, {result['date']}")


def write_run(model: LanguageModel, folder: Path) -> None:
    """Write the part of a run folder that inference needs."""
    run = RunFolder(folder)
    run.tokenizer_file.write_text(vocabulary_json(model.vocabulary), encoding="utf-8")
    config = Config(task={"name": "language-model"}, model=model.config)  # type: ignore[arg-type]
    save_weights(model, run, config, {})
    run.write_config(config)


def single_steps(model: LanguageModel, folder: Path, threads: int, turns: int) -> list[dict[str, Any]]:
    """Time a step with each storage of weights, and those of the peers, each with the better number of threads."""
    H, counts, peer = model.rnn.hidden_size, sorted({1, threads}), "ONNX Runtime fp32"
    sides: dict[str, Side] = {}
    for weights in STORED:
        expected = pytorch_step(stored_as(model, weights), TOKEN)
        check(f"H={H}, {weights} weights", stepper(folder, weights, 1), logits_of(expected), TOLERANCE[weights])
        sides[weights] = faster([Side(n, stepper(folder, weights, n)) for n in counts])
    theirs, expected = onnxruntime_step(model, TOKEN, 1), pytorch_step(model, TOKEN)
    check(f"H={H}, {peer}", logits_of(theirs), logits_of(expected), 1e-4)
    sides[peer] = faster([Side(n, onnxruntime_step(model, TOKEN, n)) for n in counts])
    sides["PyTorch fp32"] = faster([Side(n, pytorch_step(model, TOKEN)) for n in counts])
    _, seconds = in_turns({name: side.run for name, side in sides.items()}, turns, SECONDS_A_TURN)
    return [
        row(
            f"one step, batch 1, H={H}, {weights} weights",
            against,
            seconds[weights],
            seconds[against],
            TARGETS_OF[weights].get(H, "") if against == peer else "",
            weights=weights,
            fastest_ratio=min(seconds[against]) / min(seconds[weights]),
            ours_threads=sides[weights].threads,
            peer_threads=sides[against].threads,
        )
        for weights in STORED
        for against in (peer, "PyTorch fp32")
    ]


def sessions(folder: Path, H: int, turns: int) -> list[dict[str, Any]]:
    """Time all sessions stepped in one call, against one after the other, one token each."""
    rows = []
    for weights in STORED:
        model = runtime.load(folder, weights)
        alone, together = ([model.initial_state() for _ in range(SESSIONS)] for _ in range(2))
        ids = np.arange(SESSIONS) + TOKEN

        def one_by_one(model: Any = model, states: Any = alone, ids: Any = ids) -> Any:
            return np.concatenate([model.step(ids[k : k + 1], states[k : k + 1]) for k in range(SESSIONS)])

        def at_once(model: Any = model, states: Any = together, ids: Any = ids) -> Any:
            return model.step(ids, states)

        check(f"H={H}, {SESSIONS} sessions, {weights} weights", at_once, one_by_one, 0.0)
        sides = {"together": Side(1, at_once).run, "one at a time": Side(1, one_by_one).run}
        _, seconds = in_turns(sides, turns, SECONDS_A_TURN)
        what = f"{SESSIONS} sessions, one token each, H={H}, {weights}"
        best = min(seconds["one at a time"]) / min(seconds["together"])
        rows.append(
            row(what, "one at a time", seconds["together"], seconds["one at a time"], TOGETHER, fastest_ratio=best)
        )
    return rows


def stepper(folder: Path, weights: str, threads: int) -> Callable[[], Any]:
    """Return a function that reads the token once more and returns the logits."""
    model = runtime.load(folder, weights, threads)
    states, ids = [model.initial_state()], np.array([TOKEN])
    return lambda: model.step(ids, states)


def logits_of(step: Step) -> Callable[[], Any]:
    """Return a function that does a peer's step and returns its logits."""
    return lambda: step()[0]


def check(what: str, ours: Callable[[], Any], expected: Callable[[], Any], tolerance: float) -> None:
    """Compare the logits of some steps.

    Raises:
        OutputsDiffer: they differ; nothing is timed.
    """
    for _ in range(CHECKED):
        agree({"logits": ours()}, {"logits": np.asarray(expected())}, tolerance, what)


if __name__ == "__main__":
    typer.run(main)
