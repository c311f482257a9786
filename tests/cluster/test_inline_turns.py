"""The inline runtime inside this process: where its random numbers come from, and who has how many turns."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from actors.parallel import make_parallel_games
from cluster.console.signals import Stop
from cluster.inline import InlineRun
from cluster.presets import cpu
from cluster.run import directory as run_dir
from cluster.run.records import RunLog
from cluster.training import Job, Limits
from replay import ReplayConfig
from tests.dreamer.tiny import BEHAVIOR, MODEL

MakeRun = Callable[..., InlineRun]
REPLAY = ReplayConfig(capacity=2000, length=8, stride=4, batch=4, prefill=40, replay_ratio=64.0)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(seed: int, name: str = "run") -> InlineRun:
        small = cpu()
        config = replace(
            small,
            env=replace(small.env, size=64, shrink="area", time_limit=30),
            model=MODEL,
            behavior=BEHAVIOR,
            replay=REPLAY,
            actor=replace(small.actor, games=2),
            train=replace(small.train, seed=seed, threads=0, log_every=0.0, image_every=0.0, video_every=0.0),
            cluster=replace(small.cluster, host="127.0.0.1", metrics_port=-1),
        )
        run = run_dir.create(tmp_path / name, config)
        games = make_parallel_games(config.env, config.actor.games, seed, config.actor.workers)
        records = RunLog(config, run, Console(file=io.StringIO()))
        return InlineRun(Job(config, run, Limits(updates=60), None), records, games)

    return make


def test_networks_and_replay_draw_from_the_runs_seed_whatever_was_drawn_before(make_run: MakeRun) -> None:
    runs = []
    for before, seed in ((5, 1), (6, 1), (5, 2)):
        torch.manual_seed(before)
        runs.append(make_run(seed, f"{before}-{seed}"))
        runs[-1].games.close()
    weights = [torch.cat([weight.flatten() for weight in run.agent.parameters()]) for run in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    for draws in ([run.rng.random() for run in runs], [run.replay.rng.random() for run in runs]):
        assert draws[0] == draws[1] != draws[2]


@pytest.fixture
def stop() -> Iterator[Stop]:
    """Nobody asks for the end; what signals did before they do again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield Stop()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_games_wait_for_as_many_updates_as_their_steps_have_earned(make_run: MakeRun, stop: Stop) -> None:
    """At ratio 64 an update of 4 x 8 steps is due twice per policy step: several in one turn."""
    run = make_run(0)
    assert run.train(stop) == "60 updates done"
    assert run.tally.update == 60  # not one more: the limit holds within a turn
    stats = run.replay.stats()
    assert stats.sampled == 60 * 4
    earned = (stats.inserted - 40 / 4) * 64 * 4 / 8
    assert stats.sampled <= earned < stats.sampled + 4 * 32 + 4  # two games store four windows in a turn at most
    windows = list(run.replay.windows.values())
    versions = run.replay.records.gather([windows[0], windows[-1]]).policy_version
    assert versions[0] == -1 and 0 < versions[1] < 60  # first at random, then by the policy of then
