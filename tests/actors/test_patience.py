"""A game that does not answer is said, once for each call, and one that does is not."""

from __future__ import annotations

import gc
import logging
import threading
import time

import pytest

from actors import patience
from actors.calling import Calling
from tests.cluster.tiny import wait_for


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "patience"]


def test_who_is_waited_for_is_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    monkeypatch.setattr(patience, "LOOK_EVERY", 0.01)
    with caplog.at_level(logging.WARNING, "games"):
        stepping, resetting = Calling("A game", "step()", often=True), Calling("A game", "reset()")
        watch = patience.Patience([stepping, resetting])
        with resetting:
            wait_for("the line", lambda: "A game: reset() has not returned for 0 s" in caplog.text, seconds=20)
            time.sleep(0.1)
        assert len(caplog.records) == 1
        with stepping:
            wait_for("the line", lambda: "A game: step() has not returned" in caplog.text, seconds=20)
        before = len(watchers())
        del watch
        gc.collect()
        wait_for("the watch to end", lambda: len(watchers()) < before, seconds=20)


def test_a_game_that_answers_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    call = Calling("A game", "step()", often=True)
    watch = patience.Patience([call])
    with call:
        watch.look()
    watch.look()
    assert not caplog.records
