"""A `train` in a process of its own with everything that it starts, and ways to hurt it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.cluster.tiny import ROOT, wait_for


class Driver:
    """One `train`; what it says goes to a file, so that it is never held up by a reader."""

    def __init__(self, said: Path, *options: str, **environment: str) -> None:
        self._said = said
        with said.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cluster", *options],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._known: dict[int, psutil.Process] = {}  # everybody ever seen, so that nobody outlives `destroy`

    def said(self) -> str:
        """All that it has said so far."""
        return self._said.read_text(errors="replace")

    def tree(self) -> list[psutil.Process]:
        """It and all its descendants."""
        try:
            me = psutil.Process(self.process.pid)
            found = [me, *me.children(recursive=True)]
        except psutil.Error:
            found = []
        self._known |= {process.pid: process for process in found}
        return found

    def find(self, name: str) -> list[psutil.Process]:
        """Its processes whose program is called `name`: ActorRole, LearnerRole, ReplayRole, Mailbox, /raylet ..."""
        return [process for process in self.tree() if name in command(process).split(" ")[0]]

    def hurt(self, name: str, number: signal.Signals = signal.SIGKILL, *, choice: int = 0) -> psutil.Process:
        """Sends a signal to one of them; waits until there is one."""
        found = wait_for(f"a process of {name}", lambda: self.find(name))
        process = sorted(found, key=lambda each: each.pid)[choice % len(found)]
        process.send_signal(number)
        return process

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 120) -> int:
        """Asks it to end -> exit code."""
        self.tree()
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def left(self) -> list[psutil.Process]:
        """Those of its processes that are still there. Ray's own agents look for their parent once a minute only."""
        self.tree()
        return [each for each in self._known.values() if each.is_running() and "agent" not in command(each).lower()]

    def destroy(self) -> None:
        """Ends whatever is left of it."""
        self.tree()
        for process in self._known.values():
            if process.is_running():
                process.kill()
        self.process.wait(30)


def command(process: psutil.Process) -> str:
    """Its command line, which names the role of a Ray worker; "" if it has gone."""
    try:
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:
        return ""
