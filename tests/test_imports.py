"""What an import of the package loads, and that the public names are there."""

import subprocess
import sys
from pathlib import Path

import pytest

import gatewise

HEAVY = ("torch", "tensorboard", "matplotlib", "pandas", "scipy")


@pytest.mark.parametrize("module", ["gatewise", "gatewise.cli.main"])
def test_import_is_light(module: str) -> None:
    """Importing the package or the command line loads neither torch nor plots."""
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_training_and_evaluation_do_not_import_the_compiler(tmp_path: Path) -> None:
    """PyTorch's compiler is 800 modules, which take more than a second; ``torch.optim`` imports it."""
    program = (
        f"import sys, gatewise as gw; run = gw.train('demo', out={str(tmp_path / 'run')!r}, "
        "overrides={'training.max_steps': 2}); run.evaluate(); print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", gatewise.__all__)
def test_public_names_resolve(name: str) -> None:
    """Every public name is there, and dir() shows it."""
    assert getattr(gatewise, name).__name__ == name
    assert name in dir(gatewise)


def test_unknown_name() -> None:
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = gatewise.trian
