"""Every test draws the same random numbers, on one thread: these nets are too small to share out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray or Reverb is skipped where they are not installed: on a bare GPU machine, on newer Pythons."""
    for name, what in (("ray", "Ray"), ("reverb", "Reverb")):
        if find_spec(name) is None:
            skip = pytest.mark.skip(reason=f"needs {what}: Python 3.11")
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def hangups_reach_the_programs_under_test() -> None:
    """Under nohup a child would inherit that SIGHUP is ignored; a handler of ours it does not inherit."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
