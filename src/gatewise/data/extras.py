"""Optional packages: imported on first use, with a one-line error if one is missing."""

import importlib
from types import ModuleType

from gatewise.errors import UsageError


def import_extra(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: the module to import, such as ``PIL.Image``.
        package: the display name of its package, such as ``Pillow``.
        purpose: what needs it; this starts the error message.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or problem.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the package is installed, but one of its own dependencies is missing
        raise UsageError(f"{purpose} needs {package}, which is not installed; pip install 'gatewise[all]'") from None
