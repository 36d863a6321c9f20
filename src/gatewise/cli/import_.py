"""``gatewise import``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that another framework wrote.")],
    out: Annotated[Path, typer.Option(help="The run folder to create.")],
    framework: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="torch or onnx.  [what the file says it is]")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="The words of a language model: one a line, in the order of the ids.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="What the names of the recurrent layers begin with, such as model.rnn.")
    ] = None,
    nonlinearity: Annotated[str | None, typer.Option(help="Of an RNN: tanh or relu.")] = None,
) -> None:
    """Make a run folder from a model of another framework.

    A file of PyTorch is a state_dict, in safetensors or as written by torch.save; nothing but weights is unpickled. A
    language model has encoder (or embedding), a recurrent stack, and decoder. An ONNX file that Gatewise wrote holds a
    whole run, whatever its task; of others, language models are read: Gather, then LSTM, GRU or RNN, then Gemm, or
    MatMul and Add. The run has no metrics; evaluate it with --data. A bare stack has no task: load it in Python, with
    gatewise.interchange.load_stack.
    """
    from gatewise.cli.output import write
    from gatewise.interchange.runs import import_run

    run = import_run(file, out, framework, vocabulary=vocabulary, prefix=prefix, nonlinearity=nonlinearity)
    write(f"wrote {run.path}; next: gatewise evaluate {run.path} --data PATH")
