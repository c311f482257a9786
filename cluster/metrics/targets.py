"""Where the metrics of each process of a run are: for Prometheus, and to know who is missing.

A process that starts again replaces its own entry, on a new port. One that died stays listed until then, or until the
driver no longer expects it: a target that vanished could not be missed.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.console.json_text import json_text
from cluster.messages import Target
from cluster.metrics.http import Page
from cluster.metrics.spec import MAILBOX
from cluster.trouble import cannot_write
from replay.atomic import write_text

log = logging.getLogger("targets")
PATIENCE = 3.0  # seconds in which a living process answers, busy as it may be
PERMANENT = ("driver", "inline", MAILBOX)  # roles that the driver never retires


class Targets:
    """The list, as the driver keeps it; read by the threads of its HTTP server."""

    def __init__(self, run_id: str, path: Path) -> None:
        self._run_id, self._path = run_id, path
        self._trouble = cannot_write("prometheus/targets.json", log)
        self._lock = threading.Lock()
        self._listed: dict[str, Target] = {}  # by instance
        self._expected: set[str] = set()

    def announce(self, target: Target) -> None:
        """A process says where it is."""
        with self._lock:
            if self._listed.get(target.instance) == target:
                return
            self._listed[target.instance] = target
        self.write()

    def expect(self, instances: Iterable[str]) -> None:
        """Who should be running from now on; the others are retired."""
        with self._lock:
            self._expected = set(instances)
            kept = {name: t for name, t in self._listed.items() if name in self._expected or t.role in PERMANENT}
            changed, self._listed = kept != self._listed, kept
        if changed:
            self.write()

    def close(self) -> None:
        """The run has ended in order: nobody is to be missed."""
        with self._lock:
            self._expected, self._listed = set(), {}
        self.write()

    def discovery(self) -> list[dict[str, Any]]:
        """What Prometheus reads, from /sd (http_sd) or from the file (file_sd)."""
        with self._lock:
            found = sorted(self._listed.values(), key=lambda target: target.instance)
        return [
            {"targets": [t.address], "labels": {"run": self._run_id, "role": t.role, "instance": t.instance}}
            for t in found
        ]

    def missing(self) -> list[str]:
        """Who should be running and does not answer now, in words; asks all of them at once."""
        with self._lock:
            listed, expected = dict(self._listed), set(self._expected)
        asked = [target for target in listed.values() if target.role not in ("driver", "inline")]
        with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
            answers = list(pool.map(answers_now, (target.address for target in asked)))
        silent = [t.instance for t, answered in zip(asked, answers, strict=True) if not answered]
        unheard = [f"{name} (has not said where it is)" for name in expected - set(listed)]
        return sorted(f"{name} (does not answer)" for name in silent) + sorted(unheard)

    def write(self) -> None:
        """The file, as Prometheus reads it."""
        text = json_text(self.discovery(), indent=2) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, text)
        except OSError as error:  # a full disk is no reason to stop; /sd says the same
            self._trouble.failed(error)
        else:
            self._trouble.over()

    # --- Pages ---

    def discovery_page(self) -> Page:
        return Page(json_text(self.discovery()).encode(), "application/json")

    def health_page(self) -> Page:
        if missing := self.missing():
            return Page(f"missing: {', '.join(missing)}\n".encode(), status=503)
        return Page(b"ok\n")


def answers_now(address: str) -> bool:
    """Whether the process behind host:port is alive; one that was stopped or hangs is not."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", "/alive")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
