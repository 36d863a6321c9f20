"""All user-facing exceptions, each with its exit status.

Every message is one line: what was found, what was expected, what to do. The command line prints it and exits with
``exit_status``; in Python, the exception carries the same text.
"""

from gatewise.printable import one_line


class GatewiseError(Exception):
    """Base class of all exceptions that Gatewise raises deliberately."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        """Sanitize the message to a single displayable line, whatever file names and values it contains."""
        super().__init__(one_line(message))


class UsageError(GatewiseError):
    """An invalid command line, recipe, ``--set``, engine or precision, or an output folder that is in use."""

    exit_status = 2


class DataError(GatewiseError):
    """Data is missing, empty, unreadable or too short."""

    exit_status = 3


class RunError(GatewiseError):
    """A file in a run folder is missing or invalid."""

    exit_status = 4


class TrainingStopped(GatewiseError):
    """Training cannot continue (NaN, full disk); the last good checkpoint, if any, is kept."""

    exit_status = 1


class NotFinite(GatewiseError):
    """A model's output or a metric is not finite."""

    exit_status = 1


class Interrupted(GatewiseError):
    """The user interrupted training; the current step was completed and saved."""

    exit_status = 130
