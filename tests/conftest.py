"""Every test draws the same random numbers, on one thread: these nets are too small to share out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray or Reverb is skipped where they are not installed: on a bare GPU machine, on newer Pythons.

    Where tests run side by side no two Rays do: each is half a dozen processes, and they would starve each other.
    """
    for name, what in (("ray", "Ray"), ("reverb", "Reverb")):
        if find_spec(name) is None:
            skip = pytest.mark.skip(reason=f"needs {what}: Python 3.11")
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)
    for item in items:
        if item.get_closest_marker("ray") or item.get_closest_marker("reverb"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def signals_reach_the_programs_under_test() -> None:
    """Under nohup, or behind the `&` of a script, a child would inherit that SIGHUP or SIGINT is ignored.

    A handler of ours it does not inherit. SIGINT gets Python's own, as in a foreground shell: tests ask for it.
    """
    handlers = {signal.SIGHUP: lambda number, frame: None, signal.SIGINT: signal.default_int_handler}
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
