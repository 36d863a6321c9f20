"""Run tests on another build of the native engine: ``python -m tests.engines.emulated MODULE PRECISION ARGUMENTS``.

ARGUMENTS are pytest's. PRECISION is that of float32 products, as PyTorch names it; at ``high`` the tests allow float32
what ``high`` may cost.
"""

import importlib.util
import sys

import pytest
import torch

from tests.tolerances import HIGH, RELATIVE

NAME = "gatewise._native"

PRODUCTS = ["tests/engines/test_products.py", "tests/nn/test_loss.py"]
OF_KERNELS = "(native or products) and not 10007"
"""Of the engines' tests, those of an instruction set; 10,007 classes take half a minute each where it is emulated."""
QUIET = ["-q", "-p", "no:cacheprovider", "-m", "not slow"]
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Of pytest, none of which these tests need; one takes a second to import."""


def main(path: str, precision: str, *arguments: str) -> int:
    """Replace the installed module before anything imports it, and run pytest."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    from gatewise.engines.native.module import native

    assert native is module
    torch.set_float32_matmul_precision(precision)
    if precision == "high":
        RELATIVE[torch.float32] = HIGH
    return pytest.main(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
