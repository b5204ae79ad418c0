"""Settings for tests and benchmarks: one thread, the ``--benchmark`` option, hypothesis
profiles."""

from __future__ import annotations

import os

import hypothesis
import pytest
import torch

# With two threads, small operations wait for each other whenever another process is busy.
torch.set_num_threads(1)

pytest_plugins = ["sweeps", "pytester"]  # sweeps: tests/sweeps.py

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--benchmark",
        action="store_true",
        help="run benchmarks at full size and time them; otherwise each runs once, small",
    )


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether benchmarks run at full size."""
    return bool(request.config.getoption("--benchmark"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    asked = (
        option.benchmark
        or getattr(option, "benchmark_only", False)
        or getattr(option, "benchmark_enable", False)
    )
    if not asked:
        option.benchmark_disable = True
    if option.benchmark:
        option.timeout = 0  # measuring takes as long as it takes
