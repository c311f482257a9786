"""The trained agents that the project ships: they load as run directories do, and play as well as is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import assemble, load_agent
from cluster.look.evaluate import evaluate
from tests.cluster.tiny import ROOT

AGENTS = ROOT / "deploy" / "agents"
LEAST = {"breakout-cpu": 25.0}  # mean score of the games below; docs/results.md says what 50 games gave


@pytest.mark.parametrize("name", LEAST)
def test_a_shipped_agent_plays(name: str) -> None:
    loaded = assemble.load(AGENTS / name)
    played = evaluate(loaded.agent, loaded.config.env, episodes=6, seed=3)
    assert sum(played.scores) / 6 >= LEAST[name]


def test_every_shipped_agent_is_small_and_tested() -> None:
    found = {path.name: path for path in AGENTS.iterdir()}
    assert set(found) == set(LEAST)
    for path in found.values():
        assert sum(file.stat().st_size for file in files(path)) < 10e6
        assert {"config.json", "run_id", "metrics.jsonl", "episodes.jsonl", "log.txt"} <= {f.name for f in files(path)}
        assert load_agent(path).world is not None


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
