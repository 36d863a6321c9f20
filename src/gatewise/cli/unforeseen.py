"""Handling of unexpected errors: a one-line message for out of memory, and a saved traceback for all others."""

import os
import platform
import re
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from gatewise.artifact.atomic import write_atomically


def out_of_memory(error: Exception) -> str | None:
    """Return a message if an error means out of memory, otherwise None.

    PyTorch raises ``RuntimeError`` for this on the CPU, and a subclass on a GPU.
    """
    of_torch = isinstance(error, RuntimeError) and re.search(r"can't allocate memory|out of memory", str(error))
    if not isinstance(error, MemoryError) and not of_torch:
        return None
    asked = re.search(r"allocate (\d[\d.]* [A-Za-z]+)", str(error))
    more = f" for another {asked[1]}" if asked else ""
    return (
        f"not enough memory{more}; use a smaller model.hidden_size, data.batch_size or data.length, or a part of "
        "the data"
    )


def save_traceback(error: Exception) -> Path | None:
    """Write the traceback to ``traceback.txt`` in the failed run's folder, else in the cache or temporary folder.

    Returns:
        The file, or None if no location is writable.
    """
    from gatewise import __version__

    name = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    places = [Path(tempfile.gettempdir()) / f"gatewise-{name}"]
    # A user without a home directory, or an installation without training.
    with suppress(RuntimeError, ModuleNotFoundError):
        from gatewise.data.token_cache import cache_folder

        places.insert(0, cache_folder() / "tracebacks" / name)
    run = vars(error).get("gatewise_run")
    if run is not None and run.path.is_dir():
        places.insert(0, run.traceback_file)
    said = f"gatewise {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
    text = said + "".join(traceback.format_exception(error))
    for place in places:
        with suppress(OSError):
            if place.parent.name == "tracebacks":
                place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, text)
            return place
    return None
