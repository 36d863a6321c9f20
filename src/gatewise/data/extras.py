"""Packages that come with an extra: imported when first used, and named in one line where one is missing."""

import importlib
from types import ModuleType

from gatewise.errors import UsageError


def import_extra(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module that is no plain dependency.

    Args:
        module: what is imported, such as ``PIL.Image``.
        package: its package as people know it, such as ``Pillow``.
        purpose: what needs it, the first words of the error.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or problem.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the package is there and lacks something of its own
        raise UsageError(f"{purpose} needs {package}, which is not installed; pip install 'gatewise[all]'") from None
