"""The closed set of user-facing errors, each with the exit status of its kind.

Every message is one line: what was found, what was expected, what to do. The command line prints it and exits with
``exit_status``; from Python the exception carries the same text.
"""

from gatewise.printable import one_line


class GatewiseError(Exception):
    """The base of every error that Gatewise raises on purpose."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        """Keep the message as one line that is fit to be shown, whatever the file names and values in it hold."""
        super().__init__(one_line(message))


class UsageError(GatewiseError):
    """An invalid command line, recipe, ``--set``, engine or precision, or an output folder that is in use."""

    exit_status = 2


class DataError(GatewiseError):
    """Data that is missing, empty, unreadable or too short."""

    exit_status = 3


class RunError(GatewiseError):
    """Anything missing or wrong inside a run folder."""

    exit_status = 4


class TrainingStopped(GatewiseError):
    """Training cannot go on (NaN, a full disk); the last good checkpoint, where there is one, is kept."""

    exit_status = 1


class NotFinite(GatewiseError):
    """What a model answers, or how well it does, is not a finite number."""

    exit_status = 1


class Interrupted(GatewiseError):
    """The user asked to stop; the step was finished and saved."""

    exit_status = 130
