"""The ``gatewise`` command: its subcommands, and a one-line message and an exit status for every error."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

import typer

from gatewise.cli import (
    bench,
    classify,
    compare,
    data,
    doctor,
    evaluate,
    export,
    forecast,
    generate,
    import_,
    inspect,
    new,
    recipes,
    score,
    serve,
    tag,
    train,
)
from gatewise.cli.output import remark
from gatewise.cli.unforeseen import out_of_memory, save_traceback
from gatewise.errors import GatewiseError
from gatewise.extras import extra_of
from gatewise.training.interrupt import signals_interrupt
from gatewise.wording import on_command_line

# Typer bundles Click since 0.26 and depended on it before; the base class of usage errors is reachable either way.
ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    help="Train, inspect and deploy recurrent sequence models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("generate")(generate.command)
app.command("tag")(tag.command)
app.command("classify")(classify.command)
app.add_typer(inspect.app, name="inspect")
app.command("forecast")(forecast.command)
app.command("score")(score.command)
app.command("serve")(serve.command)
app.command("import")(import_.command)
app.command("export")(export.command)
app.command("recipes")(recipes.command)
app.command("new")(new.command)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.command)
app.add_typer(bench.app, name="bench")


def _print_version(asked: bool) -> None:
    if asked:
        from gatewise import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the full traceback of an error."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Declare the options before the command; run() handles --debug."""


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of the statuses that ARCHITECTURE.md lists."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = "--debug" in arguments
    # --debug may appear anywhere on the command line.
    arguments = [*(["--debug"] if debug else []), *(word for word in arguments if word != "--debug")]
    _open_closed_streams()
    try:
        with signals_interrupt(), on_command_line():
            status = app(arguments, standalone_mode=False)
        if status == 130:  # Typer turns KeyboardInterrupt into this status, without a message
            raise KeyboardInterrupt
    except GatewiseError as error:
        if debug:
            raise
        _fail(str(error), error.exit_status)
    except ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "gatewise"
        _fail(f"{' '.join(error.format_message().split())} (see {command} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    except BrokenPipeError:
        _leave(0)  # the reader, such as head, has closed the pipe
    except OSError as error:
        if debug:
            raise
        full = " (the disk is full)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        path = error.filename2 or error.filename or "a file"  # for a rename, filename2 is the file to be replaced
        _fail(f"{path}: {error.strerror}{full}; nothing that was saved before is lost", 1)
    except Exception as error:
        if debug:
            raise
        if line := out_of_memory(error):
            _fail(line, 1)
        if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name or "")):
            _fail(f"this command needs {error.name}, which is not installed; it comes with the extra {extra!r}", 2)
        text = " ".join(str(error).split()) or "no message"
        where = save_traceback(error)
        how = f"the traceback is in {where}" if where else "run again with --debug for the traceback"
        _fail(f"unforeseen: {type(error).__name__}: {text[:300]}; {how}", 1)
    _leave(status if isinstance(status, int) else 0)


def _open_closed_streams() -> None:
    """Open the null device for each closed standard stream, so that no other file takes its descriptor."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115


def _fail(line: str, status: int) -> NoReturn:
    with suppress(OSError, ValueError):  # standard error may be closed
        remark(f"gatewise: {line}")
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit with a status; without this, a stream that cannot be flushed changes it to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
