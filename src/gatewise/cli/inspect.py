"""``gatewise inspect``."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(help="Draw figures of finished runs.", rich_markup_mode=None)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
Out = Annotated[Path, typer.Option(help="The figure, .png or .svg.", show_default=False)]
DataOut = Annotated[Path | None, typer.Option(help="The numbers shown in the figure, .csv.")]
Index = Annotated[int | None, typer.Option(help="Index of the sequence in a file with several, from 0.")]
Resize = Annotated[bool, typer.Option("--resize", help="Resize images to the size the model expects.")]
Invert = Annotated[bool, typer.Option("--invert", help="Invert the brightness, for dark strokes on light.")]


class Direction(str, Enum):
    """The directions of ``gates``."""

    forward = "forward"
    backward = "backward"
    both = "both"


@app.callback()
def _group() -> None:
    """Draw figures of finished runs, as PNG or SVG, with the numbers behind each. Nothing is trained."""


@app.command("rows")
def rows_command(
    run: Run,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image, or arrays (.npy, .npz, IDX).")],
    out: Out,
    data_out: DataOut = None,
    index: Index = None,
    resize: Resize = False,
    invert: Invert = False,
) -> None:
    """Draw an image and the class probabilities after each of its rows.

    The true label is shown too if the arrays have it (y of an .npz file, the labels beside an IDX file), or if the
    image's folder has the name of a class.
    """
    write = _checked(out, data_out)
    import torch

    from gatewise.inspection.inputs import read_sequence
    from gatewise.inspection.rows import draw_rows, measure_rows
    from gatewise.inspection.runs import open_run
    from gatewise.models.loading import load

    opened = open_run(run, "rows", "classifier")
    model = load(run)
    numbers, source, true = read_sequence(model, image, index, resize=resize, invert=invert)
    measured = measure_rows(model, torch.from_numpy(numbers), f"{source}, {opened.name}", true)
    write(draw_rows, measured, measured.verdict)


@app.command("gates")
def gates_command(
    run: Run,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="An image, arrays, or a text file.")] = None,
    *,
    out: Out,
    text: Annotated[str | None, typer.Option(help="The text for a text model to read.")] = None,
    data_out: DataOut = None,
    layer: Annotated[int, typer.Option(help="Layer, counted from 1; 0 is the top layer.")] = 0,
    direction: Annotated[
        Direction | None,
        typer.Option(help="Direction of a bidirectional layer.", show_default="both, if the layer has both"),
    ] = None,
    units: Annotated[str, typer.Option(metavar="N|all", help="Show the N units that vary most, or all.")] = "24",
    index: Index = None,
    resize: Resize = False,
    invert: Invert = False,
) -> None:
    """Draw gates and cell state over the words of a text or rows of an image.

    Each row is a unit, sorted by how long it remembers; the model's predictions stand beside the steps. A GRU has reset
    and update gates and its state; a plain RNN has only its state.
    """
    write = _checked(out, data_out)
    from gatewise.cli.figures import unknown_line
    from gatewise.cli.output import remark
    from gatewise.errors import UsageError
    from gatewise.inspection.answers import predict_answers
    from gatewise.inspection.gates import draw_gates, measure_gates
    from gatewise.inspection.inputs import read_file, read_text
    from gatewise.inspection.runs import open_run
    from gatewise.models.language_model import LanguageModel
    from gatewise.models.loading import load

    name = open_run(run, "gates").name
    if (text is None) == (file is None):
        raise UsageError("expected one of --text TEXT and FILE: the input for the model")
    if units != "all" and not (units.isascii() and units.isdecimal() and int(units) > 0):
        raise UsageError(f"--units {units}: expected a positive number, or all")
    model = load(run)
    if file is not None:
        steps, source = read_file(model, file, index, resize=resize, invert=invert)
        name = f"{name}, {source}"
    else:
        steps = read_text(model, text or "")
        if isinstance(model, LanguageModel) and (unknown := model.vocabulary.unknown_tokens(text or "")):
            remark(unknown_line(unknown))
    measured = measure_gates(
        model.rnn,
        steps,
        layer=layer,
        direction=direction and direction.value,
        units=None if units == "all" else int(units),
        name=name,
        answers=predict_answers(model, steps),
    )
    write(draw_gates, measured, f"layer {measured.traces[0].layer}, {len(steps.names)} {steps.kind}(s)")


@app.command("tags")
def tags_command(
    run: Run,
    text: Annotated[str, typer.Option(help="A sentence, split into words as by gatewise tag.", show_default=False)],
    out: Out,
    data_out: DataOut = None,
) -> None:
    """Draw each word of a sentence with the probabilities of its tags."""
    write = _checked(out, data_out)
    from gatewise.errors import UsageError
    from gatewise.inspection.inputs import read_text
    from gatewise.inspection.runs import open_run
    from gatewise.inspection.tags import draw_tags, measure_tags
    from gatewise.models.loading import load

    opened = open_run(run, "tags", "tagger")
    if not text.split():
        raise UsageError("--text is empty; expected at least one word")
    model = load(run)
    measured = measure_tags(model, read_text(model, text).names, opened.name)
    answer = (f"{word}/{measured.tags[k]}" for word, k in zip(measured.words, measured.chosen, strict=True))
    write(draw_tags, measured, " ".join(answer))


@app.command("gradient-flow")
def gradient_flow_command(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders.")] = None,
    *,
    out: Out,
    data_out: DataOut = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Sequence length; 0 uses the run's own, or 100 for text and without runs.")
    ] = 0,
    scale: Annotated[
        list[float] | None,
        typer.Option(help="Without runs: scale of an RNN's recurrent weights; repeatable.", show_default="0.9 and 2"),
    ] = None,
) -> None:
    """Draw how the last step's gradient vanishes or explodes with distance.

    Shows the gradient of the last step's loss before and after the training of the runs. Without runs, it shows
    untrained networks: a tanh RNN whose recurrent weights are scaled below 1, where the gradient vanishes, one above 1,
    where it explodes, and an LSTM, where it does neither.
    """
    write = _checked(out, data_out)
    from gatewise.errors import UsageError
    from gatewise.inspection.gradient_flow import (
        SCALES,
        draw_gradient_flow,
        measure_gradient_flow,
        measure_scaled_weights,
    )
    from gatewise.inspection.runs import open_runs

    if runs and scale:
        raise UsageError("--scale is for networks without training; omit it, or the runs")
    if runs:
        measured, finding = measure_gradient_flow(open_runs(runs, "gradient-flow"), steps), f"{len(runs)} run(s)"
    else:
        measured = measure_scaled_weights(scale or SCALES, steps)
        ends = ((flow.model, flow.norms["scaled"]) for flow in measured.flows)
        finding = "; ".join(f"{name}: × {norms[-1] / norms[0]:.2g} over {len(norms) - 1} steps" for name, norms in ends)
    write(draw_gradient_flow, measured, finding)


@app.command("forecast")
def forecast_command(
    run: Run,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The series.  [the run's own data]")] = None,
    *,
    out: Out,
    data_out: DataOut = None,
) -> None:
    """Draw the end of a series with its forecasts.

    One forecast is of the last steps whose values are known, to compare with them: a whole horizon, or several one
    after another. The other is of the steps to come.
    """
    write = _checked(out, data_out)
    from gatewise.inspection.forecast import draw_forecast, measure_forecast
    from gatewise.inspection.runs import open_run

    measured = measure_forecast(open_run(run, "forecast", "regressor"), file)
    write(draw_forecast, measured, ", ".join(f"{line.name}: {len(line.values)}" for line in measured.lines))


@app.command("memory-task")
def memory_task_command(runs: Runs, out: Out, data_out: DataOut = None) -> None:
    """Draw the error on the adding problem.

    Shows the error against training step and against sequence length.
    """
    write = _checked(out, data_out)
    from gatewise.inspection.memory_task import draw_memory_task, measure_memory_task
    from gatewise.inspection.runs import open_runs

    measured = measure_memory_task(open_runs(runs, "memory-task", "memory-task"))
    write(draw_memory_task, measured, f"{len(runs)} run(s)")


@app.command("training")
def training_command(runs: Runs, out: Out, data_out: DataOut = None) -> None:
    """Draw the training curves of one or several runs."""
    write = _checked(out, data_out)
    from gatewise.inspection.runs import open_runs
    from gatewise.inspection.training import draw_training, measure_training

    write(draw_training, measure_training(open_runs(runs, "training")), f"{len(runs)} run(s)")


@app.command("footprint")
def footprint_command(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT.json", help="The output of gatewise bench footprint --out.")
    ],
    out: Out,
    data_out: DataOut = None,
) -> None:
    """Draw peak memory and time to predict many images in one batch."""
    write = _checked(out, data_out)
    from gatewise.inspection.footprint import draw_footprint, read_footprint

    measured = read_footprint(result)
    write(draw_footprint, measured, f"{len(measured.models)} models")


def _checked(out: Path, data_out: Path | None) -> Callable[[Callable[[Any, "Figure"], None], Any, str], None]:
    """Check the output paths of figure and numbers; return a function that writes both and reports it."""
    from gatewise.cli.output import write as print_out
    from gatewise.inspection.style import check_out, save_picture, save_table

    out, data_out = out.expanduser(), data_out and data_out.expanduser()
    check_out(out, data_out)

    def write(draw: Callable[[Any, "Figure"], None], measured: Any, finding: str) -> None:
        save_picture(draw, measured, out)
        if data_out is not None:
            save_table(measured.table(), data_out)
        print_out(f"{out}: {finding}" + (f"; numbers in {data_out}" if data_out else ""))

    return write
