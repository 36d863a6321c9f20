"""``python -m benchmarks.runtime_quality RUN...``: the runtime's answers on whole test sets, and what rounding costs.

Each run is a finished one of a language model, a tagger or a classifier, and its test data is read from where it was
trained. Compares ``gatewise.runtime`` in fp32 with the model of PyTorch, input by input, and then with itself: with
weights in bf16 and int8, and in a text that is read over and over with carried state.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import typer

from gatewise import load, runtime
from gatewise.artifact.run_folder import RunFolder
from gatewise.cli.bench import AsJson, Out, finish
from gatewise.data.configured import find_text, sequences_split, tagged_split
from gatewise.data.text import read_lines
from gatewise.interchange.runtime_format import save_run
from gatewise.runtime.model_file import STORED

ROWS, STEPS, GREEDY = 16, 64, 1000


class Measured(NamedTuple):
    """A figure and its target, as a line of the table."""

    what: str
    value: float
    target: str
    met: bool


def language_model(run: RunFolder, passes: int) -> Iterator[Measured]:
    """Logits and most probable tokens at each place of the test text; perplexities; drift."""
    model, ours = load(run.path), runtime.load(run.path)
    path = find_text(run.read_config().data, "test")
    ids = np.array([one for line in read_lines(path) for one in ours.vocabulary.encode_line(line)])
    yield at_most("logits, of the largest", *_logits(model, ours, ids))
    texts = [one.generate("the", max_tokens=GREEDY, temperature=0) for one in (model, ours)]
    yield equal(f"{GREEDY:,} tokens generated greedily", texts[0] == texts[1])
    perplexity = {weights: _perplexity(runtime.load(run.path, weights), ids) for weights in STORED}
    nll, tokens = model.score(ids)
    yield at_most("perplexity against PyTorch's", abs(perplexity["fp32"] / math.exp(nll / tokens) - 1), 1e-5)
    yield at_most("bf16: perplexity, relative", perplexity["bf16"] / perplexity["fp32"] - 1)
    yield at_most("int8: perplexity, relative", perplexity["int8"] / perplexity["fp32"] - 1, 0.005)
    yield from _sizes(run, model)
    if passes > 2:
        each = list(_pass_by_pass(runtime.load(run.path, "int8"), ids, passes))
        yield at_most("int8: pass 2 against pass 1, which starts from zeros", abs(each[1] / each[0] - 1))
        yield at_most(f"int8: pass {passes} against pass 2, of {len(ids):,} tokens", abs(each[-1] / each[1] - 1), 0.001)


def _logits(model: Any, ours: Any, ids: npt.NDArray[np.int64]) -> tuple[float, float]:
    rows = ids[: len(ids) // ROWS * ROWS].reshape(ROWS, -1).T
    state, states = model.initial_state(ROWS), [ours.initial_state() for _ in range(ROWS)]
    furthest = largest = 0.0
    with torch.inference_mode():
        for start in range(0, len(rows), STEPS):
            expected, state = model(torch.from_numpy(rows[start : start + STEPS]), state)
            found = np.stack([ours.step(step, states) for step in rows[start : start + STEPS]])
            furthest = max(furthest, float(np.abs(found - expected.numpy()).max()))
            largest = max(largest, float(expected.abs().max()))
            if not np.array_equal(found.argmax(-1), expected.numpy().argmax(-1)):
                raise SystemExit(f"another token is the most probable one within steps {start} to {start + STEPS}")
    return furthest / largest, 1e-5 if model.rnn.hidden_size >= 1500 else 2e-6


def _perplexity(ours: Any, ids: npt.NDArray[np.int64]) -> float:
    nll, tokens = ours.score(ids)
    return math.exp(nll / tokens)


def _pass_by_pass(ours: Any, ids: npt.NDArray[np.int64], passes: int) -> Iterator[float]:
    """Yield the perplexity of each pass, one step at a time; the state is carried from each to the next."""
    state = ours.initial_state()
    logits = ours.step(ids[:1], [state])[0]
    for _ in range(passes):
        nll = 0.0
        for index in np.append(ids[1:], ids[0]):
            largest = logits.max()
            nll += float(largest + np.log(np.exp(logits - largest).sum()) - logits[index])
            logits = ours.step([index], [state])[0]
        yield math.exp(nll / len(ids))


def tagger(run: RunFolder, passes: int) -> Iterator[Measured]:
    """Scores and best sequences of tags of all sentences; accuracies."""
    part = tagged_split(run.read_config().data, "test")
    words, gold = part.words, [sentence.tags for sentence in part.sentences]
    model, ours = load(run.path), runtime.load(run.path)
    expected, scores = [one.numpy() for one in model.scores(words)], ours.scores(words)
    yield at_most("scores of tags, of the largest", _gap(np.concatenate(scores), np.concatenate(expected)), 2e-6)
    tags = ours.tag(words)
    yield equal(f"tags of {sum(map(len, words)):,} words, best paths", tags == model.tag(words))
    right = np.concatenate([np.equal(a, b) for a, b in zip(tags, gold, strict=True)])
    yield from _points(run, np.mean(right), lambda read: _share(read.tag(words), gold))
    yield from _sizes(run, model)


def classifier(run: RunFolder, passes: int) -> Iterator[Measured]:
    """Probabilities and labels of all sequences; accuracies."""
    part = sequences_split(run.read_config().data, "test")
    model, ours = load(run.path), runtime.load(run.path)
    expected, found = np.asarray(model.predict_proba(part.x)), ours.predict_proba(part.x)
    yield at_most("probabilities, of the largest", _gap(found, expected), 2e-6)
    yield equal(f"labels of {len(expected):,} sequences", np.array_equal(found.argmax(1), expected.argmax(1)))
    yield from _points(
        run, np.mean(ours.predict(part.x) == part.y), lambda read: np.mean(read.predict(part.x) == part.y)
    )
    yield from _sizes(run, model)


def _share(found: list[list[str]], gold: list[list[str]]) -> float:
    return float(
        np.mean([a == b for row, tags in zip(found, gold, strict=True) for a, b in zip(row, tags, strict=True)])
    )


def _points(run: RunFolder, exact: Any, accuracy: Callable[[Any], Any]) -> Iterator[Measured]:
    yield at_most("fp32: accuracy, in percent", 100 * float(exact))
    for weights in STORED[1:]:
        lost = 100 * float(exact - accuracy(runtime.load(run.path, weights)))
        yield at_most(f"{weights}: accuracy lost, in points", lost, 0.1 if weights == "int8" else None)


def _sizes(run: RunFolder, model: Any) -> Iterator[Measured]:
    size = {}
    with tempfile.TemporaryDirectory() as folder:
        for weights in STORED:
            path = Path(folder) / "model.gatewise"
            save_run(run, model, path, weights=weights)
            size[weights] = path.stat().st_size
    yield at_most("fp32: MB of the model file", size["fp32"] / 1e6)
    yield at_most("bf16: size of the model file", size["bf16"] / size["fp32"])
    yield at_most("int8: size of the model file", size["int8"] / size["fp32"], 0.27)


def _gap(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def at_most(what: str, value: float, limit: float | None = None) -> Measured:
    """A figure with its largest allowed value, if it has one."""
    return Measured(what, value, "" if limit is None else f"at most {limit:g}", limit is None or value <= limit)


def equal(what: str, same: bool) -> Measured:
    """Whether two answers are the same: 1 or 0."""
    return Measured(what, float(same), "equal", same)


TASKS: dict[str, Callable[[RunFolder, int], Iterator[Measured]]] = {
    "language-model": language_model,
    "tagger": tagger,
    "classifier": classifier,
}


def measure(runs: list[Path], passes: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure all runs, and report a line for each figure."""
    rows = []
    for path in runs:
        run = RunFolder.existing(path)
        task = run.read_config().task.name
        for measured in TASKS[task](run, passes):
            rows.append({"run": path.name, "task": task, **measured._asdict()})
            verdict = "" if not measured.target else f"   {measured.target}: {'yes' if measured.met else 'NO'}"
            report(f"{path.name:<12}{measured.what:<56}{measured.value:>12.4g}{verdict}")
    return {"bench": "runtime-quality", "passes": passes, "rows": rows}


def main(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(help="Finished runs of a language model, a tagger or a classifier.")],
    passes: Annotated[int, typer.Option(min=0, help="How often the text is read with carried state; 0 to skip.")] = 12,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Compare the runtime with PyTorch on the runs' whole test sets; exit with 1 where a target is missed."""
    result = measure(runs, passes, lambda line: typer.echo(line, err=as_json))
    if not finish(context, result, out, as_json, "runs", "passes"):
        typer.echo(f"on {result['machine']}, {result['date']}")
    raise SystemExit(not all(row["met"] for row in result["rows"]))


if __name__ == "__main__":
    typer.run(main)
