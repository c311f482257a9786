"""Planner, bred controller and search through the commands: whatever a run is of, it is trained, judged and filmed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster import assemble, load_agent
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


def test_a_behaviour_that_needs_no_learning_plays_on_the_world_model_of_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {name: tmp_path / name for name in ("actor_critic", "ppo")}
    for name, run in runs.items():
        assert main(train_options(run, "--runtime", "inline", "--behavior.name", name, "--updates", "2")) == 0
    capsys.readouterr()

    def evaluate(run: Path, *options: str) -> tuple[int, str, str]:
        code = main(["evaluate", str(run), "--episodes", "1", *options])
        return (code, *capsys.readouterr())

    code, out, _ = evaluate(runs["actor_critic"], *SYSTEMS["cem"].split())
    assert code == 0 and "behavior.name: actor_critic -> cem" in out and "behavior.cem_candidates: 1000 -> 12" in out
    code, out, _ = evaluate(runs["ppo"], *SYSTEMS["mcts"].split(), "--json")  # its critic, too, is of what comes after
    assert code == 0 and json.loads(out)["behavior"] == "mcts"

    for name, asked in (("actor_critic", "mcts"), ("actor_critic", "cem with a value"), ("ppo", "cma_es")):
        code, out, err = evaluate(runs[name], *SYSTEMS[asked].split())
        assert code == 2 and not out and f"dream {runs[name]} with the same --behavior options" in err
    code, _, err = evaluate(runs["ppo"], "--behavior.layers", "2")
    assert code == 2 and "has not learned" in err


def test_another_behaviour_acts_by_the_weights_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(train_options(run, "--runtime", "inline", "--behavior.name", "ppo", "--updates", "2")) == 0
    own, config, _ = assemble.load(run)
    searching, config, _ = assemble.load(run, behavior=replace(config.behavior, name="mcts"))
    assert config.behavior.name == "mcts" and own.state_dict().keys() == searching.state_dict().keys()
    assert all(torch.equal(weight, searching.state_dict()[name]) for name, weight in own.state_dict().items())
    planning = assemble.load(run, behavior=replace(config.behavior, name="cem")).agent
    assert planning.state_dict().keys() == {name for name in own.state_dict() if name.startswith("world.")}


def test_parts_are_counted_whatever_a_policy_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {}
    for preset in ("cpu", "planet"):
        assert main(["params", "--preset", preset, "--json"]) == 0
        counts[preset] = json.loads(capsys.readouterr().out)
    assert {"actor", "critic"} <= set(counts["cpu"]) and not {"actor", "critic"} & set(counts["planet"])
    assert counts["planet"]["total"] == counts["planet"]["world_model"]
    cpu = counts["cpu"]
    assert cpu["total"] == cpu["world_model"] + cpu["actor"] + cpu["critic"]
