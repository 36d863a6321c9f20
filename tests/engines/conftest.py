"""Which of the product of cells and engines there is to test."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the native engine refuses, as ``test_native_engine.py`` proves: the projected LSTM."""
    refused = []
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if (params.get("cell"), params.get("engine")) == ("lstm projected", "native"):
            refused.append(item)
    if refused:
        items[:] = [item for item in items if item not in refused]
        config.hook.pytest_deselected(items=refused)
