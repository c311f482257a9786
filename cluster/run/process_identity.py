"""Which process it is: its number may be given to another one later, and the clock may step while it runs."""

from __future__ import annotations

from pathlib import Path

import psutil

PROC = Path("/proc")
START = 22  # field of /proc/PID/stat, counted from 1: clock ticks from boot to the start of the process
STATE = 3  # the first field behind the name, which may have spaces and brackets


def start_of(pid: int, proc: Path = PROC) -> str:
    """When a process began: the name of this boot of the machine, and clock ticks since; "" if there is none.

    No clock that can be set is asked. Where there is no /proc (not Linux), seconds since 1970 must do.
    """
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _start_by_the_clock(pid)
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else f"{boot} {fields[START - STATE]}"


def _start_by_the_clock(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return ""
