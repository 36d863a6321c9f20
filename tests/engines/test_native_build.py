"""The native engine must be built where there is a compiler, or the run fails."""

import shutil

from gatewise.engines.native import module


def test_where_there_is_a_compiler_the_native_engine_is_built() -> None:
    """Not skipped, whatever the reason: where this fails, ``pip install -v -e .`` shows why."""
    compilers = [found for found in map(shutil.which, ("c++", "g++", "clang++")) if found]
    assert module.why_not_built() is None or not compilers, module.why_not_built()
