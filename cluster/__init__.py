"""The wiring. `from cluster import load_agent` gives a trained agent without Ray or Reverb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamer.agent import Agent

__all__ = ["load_agent"]


def load_agent(run: str | Path, *, device: str = "cpu") -> Agent:
    """The trained agent of a run directory, ready for `policy_step`. Needs neither Ray nor Reverb. Raises UserError.

    Imports torch and the games only when called: `python -m cluster` comes through here, and --help and doctor must
    work where those cannot be loaded.
    """
    from cluster.run import directory as run_dir

    return run_dir.load_agent(run, device=device)
