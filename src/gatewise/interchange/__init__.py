"""Weights in and out of other frameworks.

``layouts.py`` is the table of layouts; ``stack.py`` and ``model.py`` describe weights between frameworks;
``formats.py`` lists the formats, with one module each. Nothing of another framework is imported before its converter is
called.
"""

from pathlib import Path
from typing import Any

from gatewise.interchange.formats import FORMATS, check_options, format_named, format_of, framework_of, staged
from gatewise.interchange.stack import StackWeights
from gatewise.nn import Recurrent

__all__ = ["FORMATS", "load_stack", "save_stack"]


def load_stack(path: str | Path, framework: str | None = None, **options: Any) -> Recurrent:
    """Load the recurrent stack of a file that another framework wrote.

    Args:
        path: the file.
        framework: a name in ``FORMATS``; None if the file identifies itself.
        options: what the format needs to know beyond the file: ``prefix`` and ``nonlinearity`` (torch). One that is
            None counts as not given.

    Returns:
        An ``LSTM``, ``GRU`` or ``RNN`` in eval mode, time first. Files in 16 bits give float32 of the same values.

    Raises:
        DataError: the file is missing or damaged, or holds something that these modules cannot represent.
        UsageError: there is no such framework, it does not take an option, or an option is missing.

    >>> lstm = load_stack("encoder.safetensors", prefix="encoder.lstm.")
    >>> y, (h_n, c_n) = lstm(torch.randn(5, 3, lstm.input_size))
    """
    path = Path(path).expanduser()
    found = format_of(path, framework)
    return found.load_stack(path, **check_options(found.load_stack, framework_of(found), options)).to_module()


def save_stack(stack: Recurrent, path: str | Path, framework: str, **options: Any) -> None:
    """Write a stack in the format of another framework; the file is complete, or not written.

    Args:
        stack: an ``LSTM``, ``GRU`` or ``RNN``; its weights are written as float32. Dropout is not.
        path: the file; an existing one is replaced.
        framework: a name in ``FORMATS``.
        options: what the format offers.

    Raises:
        UsageError: there is no such framework, it does not take an option, cannot hold this stack, or the path cannot
            be written.
        OSError: writing failed; an existing file is unchanged.
    """
    path = Path(path).expanduser()
    found = format_named(framework)
    given = check_options(found.save_stack, framework, options)
    weights = StackWeights.from_module(stack)
    with staged(path) as beside:
        found.save_stack(weights, beside, **given)
