"""Optional packages: imported on first use, with a one-line error if one is missing."""

import importlib
import re
from types import ModuleType

from gatewise.errors import MissingPackage


def import_extra(module: str, package: str, purpose: str, extra: str = "all") -> ModuleType:
    """Import a module of an optional package, or a module of Gatewise that needs optional packages.

    Args:
        module: the module to import, such as ``PIL.Image`` or ``gatewise.tasks.train``.
        package: the display name of its package, such as ``Pillow``; if empty, that of the missing module.
        purpose: what needs it; this starts the error message.
        extra: the extra of Gatewise that installs it.

    Raises:
        MissingPackage: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        missing, wanted = ((name or "").partition(".")[0] for name in (problem.name, module))
        if not missing or (missing == wanted) == (wanted == "gatewise"):
            raise  # the package is installed, but a part or a dependency of its own is missing
        raise MissingPackage(
            f"{purpose} needs {package or missing}, which is not installed; it comes with the extra {extra!r}"
        ) from None


def installed_version() -> str:
    """Return the version of Gatewise that is installed; "" if it is used from its source folder."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gatewise")
    except PackageNotFoundError:
        return ""


def extra_of(module: str) -> str | None:
    """Return the first extra of Gatewise that requires a package with the name of a module; None if none does."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("gatewise") or []
    except PackageNotFoundError:  # used from its source folder
        return None
    for line in lines:
        package = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if package and extra and package[0].replace("-", "_").lower() == module.partition(".")[0].lower():
            return extra[1]
    return None
