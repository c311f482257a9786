"""Everything that wires the parts into one system. `from cluster import load_agent` gives a trained agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.assemble import Loaded
    from dreamer.agent import Agent

__all__ = ["load", "load_agent"]

# Torch and the games are imported only when an agent is asked for: `python -m cluster` comes through here, and --help
# and doctor must work where those cannot be loaded.


def load(run: str | Path, *, device: str = "cpu") -> Loaded:
    """(agent, config, checkpoint) of a run directory. Needs neither Ray nor Reverb. Raises UserError."""
    from cluster import assemble

    return assemble.load(run, device=device)


def load_agent(run: str | Path, *, device: str = "cpu") -> Agent:
    """The trained agent of a run directory, ready for `policy_step`. Needs neither Ray nor Reverb. Raises UserError."""
    return load(run, device=device).agent
