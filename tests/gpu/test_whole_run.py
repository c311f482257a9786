"""A whole tiny inline run where the learner is: trained, killed, gone on with, played. The CPU's proves the test."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from learner import checkpoint
from tests.cluster.tiny import finish, rows, start, train_options, wait_for
from tests.devices import GPU


@pytest.mark.parametrize(
    ("device", "behavior"),
    [
        pytest.param("cpu", "actor_critic", marks=pytest.mark.slow),
        pytest.param("cuda", "actor_critic", marks=GPU),
        pytest.param("cuda", "ppo", marks=GPU),
    ],
)
def test_a_run_is_killed_goes_on_and_plays(device: str, behavior: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    options = ["--device", device, "--actor.workers", "2", "--behavior.name", behavior]
    options += ["--behavior.ppo-minibatches", "2", "--behavior.ppo-batch", "16"]
    options += ["--train.precision", "bfloat16"] if device == "cuda" else ["--runtime", "inline"]
    process = start(*train_options(path, *options, "--train.checkpoint-every", "1"))
    try:
        wait_for("a checkpoint", lambda: (path / "checkpoints" / "latest").exists(), seconds=100)
    finally:
        process.kill()
        _, err = finish(process)[1:]
    assert "runtime inline, games in 2 processes" in err
    if device == "cuda":  # which nobody asked for
        assert "learner on cuda" in err and "one machine with a GPU" in err
    before = checkpoint.load_newest(path / "checkpoints")
    assert before and len(before.rng["cuda"]) == (1 if device == "cuda" else 0)

    more = ["--resume", "--device", device, "--updates", str(before.update + 10)]
    code, _, err = finish(start(*train_options(path, *more)))
    assert code == 0, err
    assert "runtime inline" in err and "as it was before" in err and "starts empty" not in err
    after = checkpoint.load_newest(path / "checkpoints")
    assert after and after.update == before.update + 10 and after.policy_step > before.policy_step
    assert any(not torch.equal(value, before.agent[name]) for name, value in after.agent.items())
    last = rows(path / "metrics.jsonl")[-1]
    assert all(math.isfinite(last[name]) for name in ("model_loss", "kl", "actor_loss", "critic_loss"))
    assert last["nonfinite"] == 0

    code, out, err = finish(start("evaluate", str(path), "--episodes", "2", "--device", device, "--json"))
    assert code == 0, err
    played = json.loads(out)
    assert len(played["scores"]) == 2 and played["checkpoint"]["update"] == after.update
