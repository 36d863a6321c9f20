"""Packages that come with an extra."""

import importlib
import math

import pytest

import gatewise
from gatewise.data.arrays import load_digits
from gatewise.data.images import read_image
from gatewise.data.series import load_sunspots
from gatewise.errors import UsageError
from gatewise.extras import extra_of, import_extra, installed_version
from tests.conftest import REPOSITORY


def refuse(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Make an import fail as it does where a package is not installed."""

    def fail(_name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", fail)


def test_the_extra_of_a_module() -> None:
    assert [extra_of(name) for name in ("torch.nn", "tomli_w", "pyarrow", "numpy", "unheard_of")] == [
        "train",
        "train",
        "tables",
        None,
        None,
    ]
    assert installed_version() == gatewise.__version__


def test_what_is_there_is_imported() -> None:
    assert import_extra("math", "Mathematics", "counting") is math


@pytest.mark.parametrize(
    ("missing", "call", "line"),
    [
        ("PIL", lambda: read_image(REPOSITORY / "README.md", 2, 2), "reading an image needs Pillow"),
        ("sklearn", lambda: load_digits(1, 1), "the data set digits needs scikit-learn"),
        ("statsmodels", load_sunspots, "the data set sunspots needs statsmodels"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, missing: str, call: object, line: str) -> None:
    refuse(monkeypatch, missing)
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call()
    assert str(caught.value) == f"{line}, which is not installed; it comes with the extra 'all'"


def test_a_package_that_lacks_something_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of a package that is there is not hidden behind advice to install it."""
    refuse(monkeypatch, "pandas")
    with pytest.raises(ModuleNotFoundError, match="pandas"):
        load_sunspots()
