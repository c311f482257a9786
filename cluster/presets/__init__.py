"""The presets: functions that return a whole configuration. docs/commands.md says what each is for."""

from __future__ import annotations

from collections.abc import Callable

from cluster.config import Config
from cluster.presets.dreamerv2 import breakout, cpu, fast, paper
from cluster.presets.lineage import blog, dreamer1, planet, world_models
from replay.errors import UserError

__all__ = [
    "OLD_NAMES",
    "PRESETS",
    "blog",
    "breakout",
    "cpu",
    "dreamer1",
    "fast",
    "paper",
    "planet",
    "preset",
    "world_models",
]

PRESETS: dict[str, Callable[[], Config]] = {
    "paper": paper,
    "fast": fast,
    "cpu": cpu,
    "blog": blog,
    "dreamer1": dreamer1,
    "planet": planet,
    "world_models": world_models,
}
OLD_NAMES = {"seed": "blog"}  # of presets: understood wherever one is named, shown nowhere


def preset(name: str) -> Config:
    """The preset of that name, or of an old one; a UserError that lists them."""
    today = OLD_NAMES.get(name, name)
    if today not in PRESETS:
        raise UserError(f"--preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[today]()
