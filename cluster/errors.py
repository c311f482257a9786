"""What ends a run and is said in one line; what the user can mend beforehand is replay.config.UserError."""

from __future__ import annotations


class HeadLost(RuntimeError):
    """The Ray that the run lives on has died; exit code 1."""


class RunDirLost(RuntimeError):
    """Another run lies where the run's directory was; exit code 1."""
