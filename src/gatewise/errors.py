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
    """An invalid command line, recipe, setting, engine or precision, or an output folder that is in use."""

    exit_status = 2


class MissingPackage(UsageError, ImportError):
    """A package that Gatewise needs for this is not installed; the message names the extra that brings it."""


class DataError(GatewiseError):
    """Data is missing, empty, unreadable or too short."""

    exit_status = 3


class InputError(DataError, ValueError):
    """An object given to a Python function is invalid: an array, a list, a data frame. It is a ``ValueError``, too."""


class RunError(GatewiseError):
    """A file in a run folder is missing or invalid."""

    exit_status = 4


class ServerError(GatewiseError):
    """A server cannot be reached, or does not do what was asked for a reason other than the input.

    Attributes:
        status: of HTTP; None where there was no answer, or where a stream had begun.
        code: a word for programs: the server's own, such as ``busy``, or ``unreachable``, ``timeout``, ``lost`` (the
            connection), ``answer`` (not that of ``gatewise serve``).
    """

    exit_status = 1

    def __init__(self, message: str = "", status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class TrainingStopped(GatewiseError):
    """Training cannot continue (NaN, full disk); the last good checkpoint, if any, is kept."""

    exit_status = 1


class NotFinite(GatewiseError):
    """A model's output or a metric is not finite."""

    exit_status = 1

    @classmethod
    def of(cls, what: str) -> "NotFinite":
        """Return the error for outputs of a model; ``what`` names them, in the plural."""
        return cls(
            f"{what} are not finite: the weights or the input are too large; scale the input as in training, or train "
            "again with a lower training.learning_rate"
        )


class OutOfMemory(GatewiseError, MemoryError):
    """There is not enough memory for a call of ``gatewise.runtime``."""

    exit_status = 1


class NotVerified(GatewiseError):
    """An exported file does not give the model's outputs in the other framework; it is not kept."""

    exit_status = 1


class Interrupted(GatewiseError):
    """The user interrupted training; the current step was completed and saved."""

    exit_status = 130
