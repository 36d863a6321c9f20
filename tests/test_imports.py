"""What an import of the package loads, and that the public names are there."""

import subprocess
import sys

import pytest

import gatewise

HEAVY = ("torch", "tensorboard", "matplotlib", "pandas", "scipy")


@pytest.mark.parametrize("module", ["gatewise", "gatewise.cli.main"])
def test_import_is_light(module: str) -> None:
    """Importing the package or the command line loads neither torch nor plots."""
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", gatewise.__all__)
def test_public_names_resolve(name: str) -> None:
    """Every public name is there, and dir() shows it."""
    assert getattr(gatewise, name).__name__ == name
    assert name in dir(gatewise)


def test_unknown_name() -> None:
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = gatewise.trian
