"""``gatewise import``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that another framework wrote.")],
    out: Annotated[Path, typer.Option(help="The run folder to create.")],
    framework: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="torch, keras, onnx or tf1.  [what the file says it is]"),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(help="The words of a language model, one a line in the order of the ids; or its training text."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="What the names of the recurrent layers begin with, such as model.rnn.")
    ] = None,
    nonlinearity: Annotated[str | None, typer.Option(help="Of an RNN of PyTorch: tanh or relu.")] = None,
    architecture: Annotated[
        Path | None, typer.Option(help="What model.to_json() returns: of a file of Keras that holds weights alone.")
    ] = None,
    forget_bias: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="What the cells of tf1 add: 1 by BasicLSTMCell's default, 0 in the PTB tutorial."
        ),
    ] = None,
) -> None:
    """Make a run folder from a model of another framework.

    A file of PyTorch is a state_dict, in safetensors or as written by torch.save; nothing but weights is unpickled. A
    language model has encoder (or embedding), a recurrent stack, and decoder. A file of Keras is .keras, .weights.h5 or
    .h5: with an Embedding and a Dense layer at each step, a language model; with numbers and one output for each
    sequence, a classifier, whose labels are 0, 1, …, or a regressor. An ONNX file that Gatewise wrote holds a whole
    run, whatever its task; of others, language models are read: Gather, then LSTM, GRU or RNN, then Gemm, or MatMul and
    Add. The run has no metrics; evaluate it with --data. A bare stack has no task: load it in Python, with
    gatewise.interchange.load_stack.

    A checkpoint of TensorFlow 1 (tf1) is given by its prefix; it holds the language model of the PTB tutorial, under
    the names of any version. --forget-bias is required, since the file does not contain it.
    """
    from gatewise.cli.output import write
    from gatewise.interchange.runs import import_run

    options = {"prefix": prefix, "nonlinearity": nonlinearity, "architecture": architecture, "forget_bias": forget_bias}
    run = import_run(file, out, framework, vocabulary=vocabulary, **options)
    write(f"wrote {run.path}; next: gatewise evaluate {shlex.quote(str(run.path))} --data PATH")
