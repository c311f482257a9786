"""Windows that start from the player's state: from its memory through the replay into the learner's unroll."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actors.config import EnvConfig
from actors.env import make_games
from actors.rollout import Tick, play
from cluster.training import append
from dreamer.agent import Agent
from dreamer.types import State
from learner import checkpoint
from learner.feed import to_batch
from replay import ReplayConfig, Sample, in_memory
from replay.schema import mark_starts
from tests.cluster.tiny import finish, rows, start, train_options
from tests.dreamer.tiny import BEHAVIOR, MODEL

GAMES = 2
TICKS = 90
ENV = EnvConfig(id="BreakoutDeterministic-v4", time_limit=30)
T = 8
CONFIG = ReplayConfig(capacity=1000, length=T, stride=4, batch=4, prefill=0)
STORED = ("--replay.stored-state",)


class Played(NamedTuple):
    """What the player did, for every tick and game."""

    noise: Tensor  # [TICKS, GAMES, S, C]
    post: Tensor  # [TICKS, GAMES, S, C]  posterior logits
    first: np.ndarray  # bool [TICKS, GAMES]
    samples: list[list[tuple[Sample, int]]]  # of every game its windows one by one, with the tick of their first record


def make_agent() -> Agent:
    """One whose states tell something: with the weights of a new one all logits are nearly alike."""
    torch.manual_seed(0)
    agent = Agent(MODEL, BEHAVIOR, channels=1, num_actions=4)
    for weight in agent.world.rssm.parameters():
        nn.init.normal_(weight, std=0.7)
    return agent


def play_and_store(agent: Agent, monkeypatch: pytest.MonkeyPatch, *, stored: bool) -> Played:
    """Plays with noise that is kept, into a replay for each game; a record's version is the tick that it came with."""
    noise = torch.distributions.Gumbel(0, 1).sample((TICKS, GAMES, MODEL.stoch, MODEL.classes))
    left, posts = iter(noise), []
    observe_step = agent.world.rssm.observe_step

    def spy(*inputs: Tensor) -> tuple[State, Tensor]:
        state, post = observe_step(*inputs)
        posts.append(post)
        return state, post

    monkeypatch.setattr(agent.world.rssm, "observe_step", spy)
    monkeypatch.setattr("dreamer.equations.gumbel_like", lambda logits: next(left) if logits.dim() == 3 else logits * 0)
    games, versions = make_games(ENV, num=GAMES, seed=0), iter(range(TICKS))
    spec = games.spec._replace(state=(MODEL.deter, MODEL.stoch) if stored else (0, 0))
    memories = [in_memory(CONFIG, spec, seed=0) for _ in range(GAMES)]
    writers = [memory.writer() for memory in memories]
    rng = np.random.default_rng(0)
    ticks: Iterator[Tick] = play(games, agent, refresh=lambda: next(versions), states=stored, rng=rng)
    first = []
    for number, tick in enumerate(islice(ticks, TICKS)):
        append(writers, tick._replace(policy_version=number))
        first.append(tick.step.is_first)
    games.close()
    samples = [[memory.records.gather([window]) for window in memory.windows.values()] for memory in memories]
    dated = []
    for of_game in samples:
        for sample in of_game:
            mark_starts(sample.sequences, spec)  # as a sampler does
        dated.append([(sample, int(sample.policy_version[0]) - T + 1) for sample in of_game])
    return Played(noise, torch.stack(posts), np.array(first), dated)


def errors(agent: Agent, played: Played, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, float]]:
    """Of every window: does a game begin with it, and how far are the learner's logits from the player's?"""
    found = []
    for game, samples in enumerate(played.samples):
        for sample, begin in samples:
            noise = played.noise[begin : begin + T, game : game + 1]
            monkeypatch.setattr("dreamer.equations.gumbel_like", lambda _, noise=noise: noise)
            with torch.no_grad():
                post = agent.world.observe(to_batch(sample.sequences, "cpu")).post[:, 0]
            error = (post - played.post[begin : begin + T, game]).abs().max().item()
            found.append((bool(played.first[begin, game]), error))
    return found


def test_the_learner_sees_what_the_player_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same weights, same draws: the logits are the same but for the rounding of h to float16."""
    agent = make_agent()
    found = errors(agent, play_and_store(agent, monkeypatch, stored=True), monkeypatch)
    assert len(found) > 30 and {begins for begins, _ in found} == {True, False}
    assert max(error for _, error in found) < 0.003
    assert max(error for begins, error in found if begins) < 1e-4


def test_from_zeros_it_sees_that_only_where_a_game_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    found = errors(agent, play_and_store(agent, monkeypatch, stored=False), monkeypatch)
    assert max(error for begins, error in found if begins) < 1e-4
    assert min(error for begins, error in found if not begins) > 0.1


def test_a_run_trains_from_stored_states_and_resumes_with_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    inline = ("--runtime", "inline", *STORED)
    code, _, err = finish(start(*train_options(run, *inline, "--updates", "12", "--train.image-every", "0.1")))
    assert code == 0, err
    code, _, err = finish(start(*train_options(run, "--runtime", "inline", "--resume", "--updates", "16", *STORED)))
    assert code == 0, err
    assert "starts empty" not in err
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None and found.update == 16
    assert np.isfinite(rows(run / "metrics.jsonl")[-1]["model_loss"])


@pytest.mark.slow
def test_a_run_that_takes_the_option_up_later_fills_its_replay_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert finish(start(*train_options(run, "--runtime", "inline", "--updates", "4")))[0] == 0
    code, _, err = finish(start(*train_options(run, "--runtime", "inline", "--resume", "--updates", "8", *STORED)))
    assert code == 0, err
    assert "replay.stored_state: False -> True" in err and "starts empty" in err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.reverb
def test_a_run_on_ray_trains_from_stored_states(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = finish(start(*train_options(run, *STORED, "--updates", "30")))
    assert code == 0, err
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None and found.update == 30
    assert " died" not in err
