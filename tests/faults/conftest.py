"""Marks of the fault tests."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kill: SIGKILL of the broker, again and again; `make kill-test` runs it")
