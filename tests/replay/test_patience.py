"""A server that loads gigabytes is silent for as long as that takes: its clients ask whether its process lives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import replay
from replay import ReplayConfig, ReplayUnavailable
from replay.ports import free_port
from tests.replay.testkit import RUN, SPEC

pytestmark = pytest.mark.reverb
CONFIG = ReplayConfig(length=4, stride=2, capacity=100, batch=2, prefill=0)


def given_up_after(lives: Callable[[], bool]) -> None:
    """Waits for a server that is not there."""
    pytest.importorskip("reverb")
    with pytest.raises(ReplayUnavailable, match="has been silent"):
        replay.connect(f"127.0.0.1:{free_port(0)}", CONFIG, SPEC, run_id=RUN, patience=0.5, lives=lives)


@pytest.mark.slow
def test_one_that_lives_is_waited_for() -> None:
    answers = [True, True, False]
    given_up_after(lambda: answers.pop(0))
    assert answers == [], "asked again after each further silence"


def test_one_that_is_dead_is_not() -> None:
    asked = []
    given_up_after(lambda: bool(asked.append(1)))
    assert asked == [1]
