"""The wiring. `from cluster import load_agent` gives a trained agent without Ray or Reverb."""

from cluster.run_dir import load_agent

__all__ = ["load_agent"]
