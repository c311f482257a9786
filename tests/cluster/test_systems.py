"""Planner, bred controller and search through the commands: whatever a run is of, it is trained, judged and filmed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cluster import load_agent
from cluster.cli import main
from tests.cluster.tiny import SYSTEMS, rows, train_options

pytestmark = pytest.mark.usefixtures("signals_as_before")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_is_trained_judged_and_filmed(system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    how = ("--runtime", "inline", *SYSTEMS[system].split(), "--updates", "12", "--train.log-every", "0.1")
    assert main(train_options(run, *how)) == 0
    found = [row for row in rows(run / "metrics.jsonl") if "imagined_return" in row]
    assert found and all(math.isfinite(row["imagined_return"]) and row["nonfinite"] == 0 for row in found)

    capsys.readouterr()
    assert main(["status", str(run), "--json"]) == 0
    policy = json.loads(capsys.readouterr().out)["policy"]
    assert 0 <= policy["actor_entropy"] <= math.log(4) + 1e-6 and "imagined_return" in policy

    for action in ("sample", "mode"):
        assert main(["evaluate", str(run), "--episodes", "1", "--action", action, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["scores"]) == 1

    assert main(["record", str(run), "--out", str(tmp_path / "film.gif"), "--kind", "play", "--steps", "3"]) == 0
    assert (tmp_path / "film.gif").stat().st_size > 1000
    assert load_agent(run).behavior.config.name == system.split()[0]


def test_parts_are_counted_whatever_a_policy_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {}
    for preset in ("cpu", "planet"):
        assert main(["params", "--preset", preset, "--json"]) == 0
        counts[preset] = json.loads(capsys.readouterr().out)
    assert {"actor", "critic"} <= set(counts["cpu"]) and not {"actor", "critic"} & set(counts["planet"])
    assert counts["planet"]["total"] == counts["planet"]["world_model"]
    cpu = counts["cpu"]
    assert cpu["total"] == cpu["world_model"] + cpu["actor"] + cpu["critic"]
