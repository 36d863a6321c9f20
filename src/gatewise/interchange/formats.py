"""The table of formats, and what a module of a format provides.

A format is one module, imported when it is first used, with the functions of ``Format``. Bare stacks go through
``load_stack`` and ``save_stack``, whole models through ``load_model`` and ``save_model``. A loader reads an untrusted
file: it compares every size with the file's length before it allocates, and raises a ``DataError`` for what it cannot
represent. A saver writes to the path it is given, or to paths that begin with it, and need not be atomic: ``staged``
gives it a path in a temporary folder, and moves what it wrote. ``differences`` checks a file with the other framework.

To add a format: write its module after ``torch_format``'s example, from ``layouts.LAYOUTS`` and ``StackWeights``, and
add a line to ``FORMATS`` and to ``PEERS``. Its options, such as ``forget_bias`` or ``graph``, are keyword arguments of
its functions; ``check_options`` refuses those that a function does not have. Tests of all formats share
``tests/interchange/rig.py``.
"""

import importlib.metadata
import importlib.util
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from gatewise.errors import DataError, GatewiseError, UsageError
from gatewise.files import check_regular
from gatewise.interchange.model import ModelWeights
from gatewise.interchange.stack import StackWeights
from gatewise.runtime.library import NAME
from gatewise.wording import option


class Format(Protocol):
    """The functions of a format's module; after the path, each may take options by keyword.

    Attributes:
        recognises: whether a file's first bytes or name are those of this format; reads a few bytes, never raises.
        load_stack: reads the only recurrent stack of a file.
        save_stack: writes a bare stack.
        load_model: reads a whole model, as far as the file describes one.
        save_model: writes a model of ``gatewise.models``; raises a ``UsageError`` if the format cannot hold it.
        differences: the largest difference between a model and its file, run by the other framework on random and
            ragged input, under the name of what was compared; may take options of ``save_model``; raises
            ``MissingPackage`` if that is not installed.

    A format whose outputs may differ by more, or less, than usual has ``limits``, which takes the same options and
    returns how far each may differ.

    A format that keeps whole runs also has ``save_run(run, model, path)``, in place of ``save_model``, and
    ``load_run(path)``, which returns a ``CarriedRun``, or None for another program's file.
    """

    recognises: Callable[[Path], bool]
    load_stack: Callable[..., StackWeights]
    save_stack: Callable[..., None]
    load_model: Callable[..., ModelWeights]
    save_model: Callable[..., None]
    differences: Callable[..., Mapping[str, float]]


FORMATS: Mapping[str, str] = {
    "runtime": "gatewise.interchange.runtime_format",
    "torch": "gatewise.interchange.torch_format",
    "keras": "gatewise.interchange.keras_format",
    "onnx": "gatewise.interchange.onnx_format",
    "tf1": "gatewise.interchange.tf1",
}
"""The module of each format, by the framework's name; tried in this order where none is given."""

READERS: Mapping[str, str] = {"keras": "h5py", "onnx": "onnx"}
"""The package that reads and writes the files of a format, where that needs one; the extra has the format's name."""

WRITTEN_ONLY = ("runtime",)
"""The formats that are not imported."""

PEERS: Mapping[str, str] = {
    "runtime": NAME,
    "torch": "torch",
    "keras": "keras",
    "onnx": "onnxruntime",
    "tf1": "tensorflow",
}
"""The package that runs the other side when an export is compared."""


def why_unreadable(framework: str) -> str:
    """Return why files of a format cannot be read or written here; empty if they can."""
    package = READERS.get(framework)
    if package is None or importlib.util.find_spec(package) is not None:
        return ""
    return f"{package} is not installed; it comes with the extra {framework!r}"


def why_unverified(framework: str) -> str:
    """Return why exports in a format cannot be run on the other side here; empty if they can."""
    package = PEERS[framework]
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    if package != "keras":
        return ""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "keras is installed without metadata, so that its version is unknown"
    return "" if int(version.partition(".")[0]) >= 3 else f"keras {version} is installed; expected 3"


def format_named(framework: str, flag: str = "") -> Format:
    """Return the module of a format.

    Args:
        framework: a name in ``FORMATS``.
        flag: the option of the command that gives it.

    Raises:
        UsageError: there is none of this name.
    """
    if framework not in FORMATS:
        raise UsageError(
            f"{option('framework', framework, flag)}: no such format; expected one of {', '.join(FORMATS)}"
        )
    return cast(Format, importlib.import_module(FORMATS[framework]))


def format_of(path: Path, framework: str | None, flag: str = "") -> Format:
    """Return the format with a name or, without one, the first that recognises a file.

    Args:
        path: a file; for a format of several, what their names begin with.
        framework: a name in ``FORMATS``, or None.
        flag: the option of the command that gives it.

    Raises:
        UsageError: there is none of this name.
        DataError: the file is missing, or no format recognises it.
    """
    if framework is not None:
        return format_named(framework, flag)
    for known in FORMATS:
        if (found := format_named(known)).recognises(path):
            return found
    check_regular(path, "a file with weights")
    raise DataError(
        f"{path}: not recognized as a file of {', '.join(FORMATS)}; name the program that wrote it with "
        f"{option('framework', flag=flag)}"
    )


def check_options(function: Callable[..., Any], framework: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None, after checking that a format's function takes them.

    Raises:
        UsageError: it does not take one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    taken = inspect.signature(function).parameters
    for name, value in given.items():
        if name not in taken:
            raise UsageError(f"{option(name, value)}: does not apply to {framework}; omit it")
    return given


def taken_by(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that a function takes."""
    taken = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in taken}


def framework_of(found: Format) -> str:
    """Return the framework's name of a format's module."""
    return next(name for name, module in FORMATS.items() if module == getattr(found, "__name__", None))


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; at the end of the block, move all files there to the target.

    If the block raises an error, nothing is moved. Of several files, the last one by name is moved last: it is the one
    that makes the others readable.

    Raises:
        UsageError: the target is a folder, a device or a pipe, or in no folder.
    """
    _check_target(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder:
        beside = Path(folder) / path.name
        try:
            yield beside
        except GatewiseError as problem:  # names the temporary file
            raise type(problem)(str(problem).replace(str(beside), str(path))) from None
        files = sorted(Path(folder).iterdir())
        for written in files:
            _check_target(path.with_name(written.name))
        for written in files:
            with written.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(written, path.with_name(written.name))


def _check_target(path: Path) -> None:
    """Check that a path is a regular file, which is then replaced, or none yet."""
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        what = f"no folder {path.parent}"
        if path.parent.is_dir():
            what = "a folder" if path.is_dir() else "a device or a pipe, not a regular file"
        raise UsageError(f"{path}: {what}; expected the name of a file to write")
