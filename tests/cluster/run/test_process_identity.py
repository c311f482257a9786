"""Is it still the same process? Not by any clock that can be set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster.run import state as run_state
from cluster.run.process_identity import start_of


def test_a_clock_that_steps_kills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_state.begin(tmp_path, runtime="inline", metrics="off")
    state = run_state.read(tmp_path)
    assert state is not None and run_state.alive(state)
    # What a step of the clock does: Linux derives the time of boot, and psutil every start, from the clock as it is.
    before = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: before(self) + 3600)
    assert run_state.alive(state)


def test_a_number_given_to_another_process_is_not_the_same_process(tmp_path: Path) -> None:
    def process(pid: int, name: str, ticks: int, *, state: str = "S", boot: str = "b1") -> str:
        (tmp_path / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        fields = " ".join(["1"] * 18)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {fields} {ticks} 0 0\n")
        return start_of(pid, tmp_path)

    assert process(7, "python", 500) == "b1 500"
    assert process(7, "odd ) name (", 500) == "b1 500"
    assert process(7, "python", 501) != "b1 500"
    assert process(7, "python", 500, boot="b2") != "b1 500", "the machine was started again"
    assert process(7, "python", 500, state="Z") == "", "it has ended, nobody has asked for its exit code yet"
    assert start_of(8, tmp_path) == ""


def test_of_real_processes() -> None:
    assert start_of(os.getpid()) == start_of(os.getpid()) != ""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert start_of(child.pid) not in ("", start_of(os.getpid()))
    finally:
        child.communicate()
    assert start_of(child.pid) == ""
