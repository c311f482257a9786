"""End to end in one process: real Breakout, real nets, the real command line."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from cluster import load_agent
from cluster.cli import main
from learner import checkpoint
from tests.cluster.tiny import ROOT, finish, rows, start, train_options, update_of, wait_for

INLINE = ("--runtime", "inline")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 updates."""
    path = tmp_path_factory.mktemp("inline") / "run"
    code, out, err = finish(start(*train_options(path, *INLINE, "--updates", "40", "--train.image-every", "0.2")))
    assert code == 0, err
    assert out == ""
    return path


def test_a_run_leaves_its_files(run: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "episodes.jsonl", "log.txt", "checkpoints/latest", "videos"):
        assert (run / name).exists(), name
    assert list((run / "tensorboard").glob("events*"))
    row = rows(run / "metrics.jsonl")[-1]
    assert row["update"] == 40 and row["frame"] == 4 * row["policy_step"]
    losses = {"model_loss", "image_loss", "kl", "actor_loss", "critic_loss", "model_grad", "actor_entropy"}
    assert any("sight/moved_recall" in row for row in rows(run / "metrics.jsonl"))
    assert losses <= {name for row in rows(run / "metrics.jsonl") for name in row}
    episodes = rows(run / "episodes.jsonl")
    assert episodes and all(0 < e["length"] <= 60 and e["score"] >= 0 for e in episodes)


def test_the_replay_ratio_is_exact(run: Path) -> None:
    found = checkpoint.load_newest(run / "checkpoints")
    # One update of 4 x 8 steps per 8 policy steps at ratio 4, after the prefill of 100. At most one turn of the loop
    # off: a window is stored per 4 steps, and two games step together.
    assert found is not None
    assert abs((found.policy_step - 100) * 4 / (4 * 8) - found.update) <= 4


def test_the_agent_can_be_loaded_and_plays(run: Path) -> None:
    agent = load_agent(run)
    obs = torch.zeros(3, 40, 40, 1, dtype=torch.uint8)
    action, _ = agent.policy_step(
        agent.initial(3), obs, torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool), sample=True
    )
    assert action.shape == (3,) and action.max() < 4


def test_the_blogs_variant_runs(tmp_path: Path) -> None:
    """Preset blog with small nets: PPO, games that act at random, rewards of at most 1, and its KL."""
    path = tmp_path / "run"
    ppo = ("--behavior.ppo-minibatches", "2", "--behavior.ppo-batch", "16", "--model.kl-swapped")
    code, _, err = finish(start(*train_options(path, *INLINE, "--preset", "blog", *ppo, "--updates", "5")))
    assert code == 0, err
    found = checkpoint.load_newest(path / "checkpoints")
    assert found and found.config["behavior"]["name"] == "ppo" and found.config["actor"]["epsilon"] == 0.5
    row = rows(path / "metrics.jsonl")[-1]
    assert all(math.isfinite(row[name]) for name in ("model_loss", "kl", "actor_loss", "critic_loss", "ppo_clipped"))


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize(
    "options",
    ["--preset dreamer1", "--model.latent gaussian --model.dynamics vae_rnn --model.mixtures 2 --model.free-each"],
    ids=["dreamer1", "vae_rnn"],
)
def test_other_world_models_run_and_are_filmed(tmp_path: Path, options: str) -> None:
    """They are trained, saved, resumed and looked at like any other."""
    path, film = tmp_path / "run", tmp_path / "dream.gif"
    for more in (["--updates", "3"], ["--updates", "5", "--resume"]):
        assert main(train_options(path, *INLINE, *options.split(), *more)) == 0
    row = rows(path / "metrics.jsonl")[-1]
    names = ("model_loss", "kl", "prior_entropy", "post_entropy", "actor_loss", "critic_loss")
    assert all(math.isfinite(row[name]) for name in names)
    assert main(["record", str(path), "--kind", "dream", "--out", str(film)]) == 0
    assert film.stat().st_size > 0


def test_one_seed_gives_one_run_bit_for_bit(tmp_path: Path) -> None:
    """Also where the games step in other processes, as long as nobody practises what others there have lost."""
    paths = [tmp_path / name for name in ("a", "b", "other seed", "plain", "workers")]
    alone = ("--actor.practice", "0", "--actor.workers")
    differ = ([], [], ["--seed", "2"], [*alone, "0"], [*alone, "2"])
    for path, more in zip(paths, differ, strict=True):
        code, _, err = finish(start(*train_options(path, *INLINE, "--updates", "25", "--seed", "1", *more)))
        assert code == 0, err
    agents = [checkpoint.load_newest(path / "checkpoints") for path in paths]
    assert all(agents)
    first, same, other, plain, in_workers = [agent for agent in agents if agent]
    assert first.policy_step == same.policy_step and plain.policy_step == in_workers.policy_step
    for key, value in first.agent.items():
        assert torch.equal(value, same.agent[key]), key
        assert torch.equal(plain.agent[key], in_workers.agent[key]), key
    assert any(not torch.equal(value, other.agent[key]) for key, value in first.agent.items())
    played = [[(e["score"], e["length"], e["game"]) for e in rows(path / "episodes.jsonl")] for path in paths]
    assert played[0] == played[1] and played[3] == played[4] and played[0] and played[3]


def test_a_resumed_run_counts_on_without_a_burst(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert finish(start(*train_options(path, *INLINE, "--updates", "20")))[0] == 0
    before = checkpoint.load_newest(path / "checkpoints")
    state = path / "state.json"
    state.write_text(state.read_text().replace('"inline"', '"ray"'))
    code, _, err = finish(
        start(*train_options(path, *INLINE, "--resume", "--steps", str(before.policy_step + 60), "--replay.batch", "8"))
    )
    assert code == 0, err
    assert "replay.batch: 4 -> 8" in err and "replay.length" not in err  # every changed key is named, no other
    assert "so far the run had --runtime ray" in err
    after = checkpoint.load_newest(path / "checkpoints")
    assert after.policy_step >= before.policy_step + 60
    # 60 steps at ratio 8 with batches of 8 x 8 make 7.5 updates; a burst would make many more.
    assert 3 <= after.update - before.update <= 11


def test_the_first_signal_saves_and_ends(tmp_path: Path) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        path = tmp_path / str(code)
        process = start(*train_options(path, *INLINE))
        wait_for("updates", lambda path=path: update_of(path) > 5)
        process.send_signal(number)
        assert finish(process)[0] == code
        found = checkpoint.load_newest(path / "checkpoints")
        assert found is not None and found.update >= 5


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = start(*train_options(path, *INLINE, "--train.checkpoint-every", "1"))
    wait_for("a checkpoint", lambda: (path / "checkpoints" / "latest").exists())
    process.kill()
    finish(process)
    before = checkpoint.load_newest(path / "checkpoints")
    code, _, err = finish(start(*train_options(path, "--resume", "--updates", str(before.update + 10))))
    assert code == 0, err
    assert "runtime inline" in err and "so far the run had" not in err  # as before, without being told
    assert "starts empty" not in err  # the replay came back with the weights
    assert checkpoint.load_newest(path / "checkpoints").update == before.update + 10


def test_it_runs_where_ray_reverb_and_tensorflow_are_not_installed(tmp_path: Path) -> None:
    program = """
import sys
sys.modules |= {"ray": None, "reverb": None, "tensorflow": None}  # an import of them fails as if they were absent
from cluster.cli import main
sys.exit(main(sys.argv[1:]))
"""
    base = [sys.executable, "-c", program]
    inline = subprocess.run(
        [*base, *train_options(tmp_path / "run", *INLINE, "--updates", "3")], cwd=ROOT, capture_output=True, text=True
    )
    assert inline.returncode == 0, inline.stderr
    with_ray = subprocess.run([*base, *train_options(tmp_path / "ray")], cwd=ROOT, capture_output=True, text=True)
    assert with_ray.returncode == 2
    assert with_ray.stderr.startswith("error: --runtime ray needs ray") and "--runtime inline" in with_ray.stderr
    assert not (tmp_path / "ray").exists()


@pytest.mark.slow
def test_the_one_before_comes_with_its_own_replay(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert finish(start(*train_options(path, *INLINE, "--updates", "10")))[0] == 0
    assert finish(start(*train_options(path, *INLINE, "--resume", "--updates", "15")))[0] == 0
    newest = path / "checkpoints" / "update-000000015.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    code, _, err = finish(start(*train_options(path, *INLINE, "--resume", "--updates", "12")))
    assert code == 0, err
    assert "damaged" in err and "going on from update-000000010.pt" in err and "starts empty" not in err


def test_a_killed_process_of_the_games_costs_no_update(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*train_options(run, *INLINE, "--actor.workers", "2"))
    wait_for("updates", lambda: update_of(run) > 5)
    psutil.Process(process.pid).children()[0].kill()
    code, _, err = finish(process)
    assert code == 1 and "was killed by SIGKILL" in err
    saved = checkpoint.load_newest(run / "checkpoints")
    assert saved and saved.update >= update_of(run)


def test_a_run_whose_updates_are_not_finite_stops_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = finish(start(*train_options(run, *INLINE, "--updates", "10")))
    assert code == 0, err
    wild = ["--train.model-lr", "1e30", "--train.nonfinite-limit", "20"]
    code, _, err = finish(start(*train_options(run, *INLINE, "--resume", *wild)))
    assert code == 1 and "Traceback" not in err
    assert "were not finite and changed nothing; the last good checkpoint is" in err
    assert "update-000000010.pt" in err.splitlines()[-1]
    saved = checkpoint.load_newest(run / "checkpoints")
    assert saved and saved.update == 10
