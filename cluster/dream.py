"""A behaviour learns alone, in a world model that stays as it is: World Models' own experiment.

From the run that is dreamt of come the world model and the replay in whose states dreams begin. Both are in the new
run's directory before the first update: from then on it needs the old run no more, in which nothing is ever written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from actors.env import make_games
from actors.exploration import Explorer
from actors.interface import AnyGames
from actors.rollout import Tick, play
from cluster.assemble import Loaded, make_agent, make_replay
from cluster.config import to_json
from cluster.console.signals import Stop
from cluster.errors import as_run_failed
from cluster.every import Every, SaveTimes
from cluster.metrics.recorders import ReplayRecorder
from cluster.run import origin as run_origin
from cluster.run import saved_replay
from cluster.run.directory import Run
from cluster.run.origin import Origin
from cluster.run.records import RunLog
from cluster.saving import Saver
from cluster.training import Job, Tally, append, reached
from dreamer.agent import Agent
from learner import checkpoint
from learner.clock import Clock
from learner.device import choose_device, prepare_learner
from learner.loop import learn
from learner.step import make_optimizers
from replay import EnvSpec, MemoryReplay, Sample, UserError, memory_file

EPSILON = 0.3  # share of random actions of the last game of those collected; the first has none, those between less
MESSAGE_SECONDS = 1.0  # between looks at the losses: each look waits for the device
ANEW = "begin a new dream in another --run-dir"
INSTEAD = "add --collect 20000 to play so many policy steps instead"


class Source(NamedTuple):
    """The run that is dreamt of."""

    run: Run
    loaded: Loaded

    @property
    def replay(self) -> Path | None:
        """Where it has saved its replay; None = nowhere."""
        return saved_replay.find(self.run, self.loaded.checkpoint.update)

    def origin(self, collected: int) -> Origin:
        """What is kept of it in the dream's directory."""
        found = self.loaded.checkpoint
        return Origin(self.run.path.name, self.run.id, found.update, found.policy_step, collected)


class Dream:
    """What trains, as the two runtimes do: `ready`, then `train`."""

    def __init__(self, spec: EnvSpec, origin: Origin, source: Source | None) -> None:
        """source: None where a dream is gone on with."""
        self._spec, self._origin, self._source = spec, origin, source
        self._replay: MemoryReplay | None = None

    @contextmanager
    def ready(self, job: Job) -> Iterator[Job]:
        """Reads the replay, and gives the job the address of its metrics. Raises UserError."""
        config, host = job.config, job.config.cluster.host
        device, seed = choose_device(config.train.device), config.train.seed
        self._replay = make_replay(config.replay, self._spec, seed=seed, device=device)
        if self._source is None:
            saved_replay.read(self._replay, job.run.replay, else_=ANEW)
        elif not self._origin.collected:
            assert self._source.replay is not None
            saved_replay.read(self._replay, self._source.replay, else_=INSTEAD)
        self._replay.rng = np.random.default_rng(seed)  # not that of the other run
        yield job.at("127.0.0.1" if host == "auto" else host)

    def train(self, job: Job, run_log: RunLog, stop: Stop) -> str:
        """Trains in this process; returns why it ended. Raises UserError, or one of cluster.errors.ENDS."""
        assert self._replay is not None
        with as_run_failed():
            return DreamRun(job, run_log, self._origin, self._replay).train(self._source, stop)


class DreamRun:
    """The state of one training in a dream."""

    def __init__(self, job: Job, run_log: RunLog, origin: Origin, replay: MemoryReplay) -> None:
        self.job, self.log, self.origin, self.replay = job, run_log, origin, replay
        self.config = config = job.config
        self.device = device = choose_device(config.train.device)
        prepare_learner(config.train)
        torch.manual_seed(config.train.seed)
        self.agent = make_agent(config, replay.spec).to(device)
        self.agent.world.requires_grad_(False)  # so `learn` lets it be
        self.optimizers = make_optimizers(self.agent, config.train)
        if job.resume:
            checkpoint.restore(job.resume, self.agent, self.optimizers, replay.rng)
        self.clock = Clock(device)
        self.tally = Tally(run_log.update, run_log.meter, self.clock)
        if job.resume:
            self.tally.recorder.saved(job.resume.path)
        self.replay_recorder = ReplayRecorder(run_log.meter, config.replay, replay.stats())
        self.saver = Saver(self.tally, run_log, self.clock, self._write)
        self.reports = learn(
            self.agent,
            self.optimizers,
            self._samples(),
            config.train,
            device=device,
            update=run_log.update,
            mark=self.clock.mark,
        )
        self.began = time.monotonic()

    def train(self, source: Source | None, stop: Stop) -> str:
        """Takes the world model over, then lets the behaviour learn until a limit or a signal; saves; why it ended.

        source: of a new dream.
        """
        if source:
            (self.job.run.replay / memory_file.FILE).unlink(missing_ok=True)  # of a try that was killed
            run_origin.write(self.job.run.path, self.origin)
            if self.origin.collected and not self._collect(source.loaded.agent, stop):
                return f"signal {stop.signal}, before enough steps were played to dream of"
            self.agent.world.load_state_dict(source.loaded.agent.world.state_dict())
        self.log.policy_step = self.origin.policy_step + self.origin.collected
        if source:
            self.saver.save()
        if not self.agent.behavior.state_dict():
            return f"{self.config.behavior.name} has nothing to learn"
        self.began = time.monotonic()
        self.log.begin_interval()
        try:
            why = self._learn(stop)
        except BaseException as error:
            self.saver.save_after(error)
            raise
        self.saver.save()
        return why

    def _learn(self, stop: Stop) -> str:
        look = Every(MESSAGE_SECONDS)
        save = SaveTimes(self.config.train.checkpoint_every, has_one=self.job.run.has_checkpoint)
        began, why = self.tally.update, self._why_end(stop)
        while not why:
            with self.saver.updating():
                report = next(self.reports)
            self.tally.add(report)
            why = self._why_end(stop)
            if look.due() or why:
                self._report()
                self.tally.check(self.config.train.nonfinite_limit, self.job.run.checkpoints)
            if save.due(trained=self.tally.update > began):
                self.saver.save()
        return why

    def _collect(self, agent: Agent, stop: Stop) -> bool:
        """Plays the steps in which dreams are to begin, by the run's own agent; False: a signal came first.

        Raises UserError where no game is as long as a window.
        """
        config, wanted, look = self.config, self.origin.collected, Every(MESSAGE_SECONDS)
        self.log.say(f"the agent of {self.origin.run} plays {wanted:,} policy steps, in which dreams will begin")
        began, played, scores = time.monotonic(), 0, list[float]()
        writers = [self.replay.writer() for _ in range(config.actor.games)]
        with closing(make_games(config.env, config.actor.games, config.train.seed)) as games:
            ticks = play_mixed(agent, games, seed=config.train.seed, states=config.replay.stored_state)
            while played < wanted and not stop.signal:
                tick = next(ticks)
                append(writers, tick)
                played += tick.played
                scores += [episode.score for episode in tick.episodes]
                if look.due():
                    self._report()
        if stop.signal:
            return False
        if not self.replay.windows:
            length = config.replay.length
            raise UserError(f"no game was as long as a window, replay.length {length}: take more --collect")
        mean = f"score {np.mean(scores):.2f} ({len(scores)} games)" if scores else "no game is over yet"
        self.log.say(f"played {played:,} policy steps in {time.monotonic() - began:.0f} s: {mean}")
        return True

    def _report(self) -> None:
        """What happened since the last report."""
        stats = self.replay.stats()._replace(actors_wait=False, learner_waits=False)
        self.replay_recorder.stats(stats)
        self.log.handle(self.tally.message(stats))

    def _write(self) -> Path:
        """A checkpoint; what never changes is written where it is missing. Raises OSError, FloatingPointError."""
        run = self.job.run
        if not (run.replay / memory_file.FILE).exists():
            memory_file.save(self.replay, run.replay)
        if not (run.path / run_origin.FILE).exists():
            run_origin.write(run.path, self.origin)
        return checkpoint.save(
            run.checkpoints,
            self.agent,
            self.optimizers,
            config=to_json(self.config),
            progress=checkpoint.Progress(self.tally.update, self.log.policy_step),
            rng=self.replay.rng,
            keep=self.config.train.keep_checkpoints,
        )

    def _samples(self) -> Iterator[Sample]:
        """Batches for ever: no ratio holds them back, because nobody plays; by none of the policies that learn here."""
        batch = self.config.replay.batch
        while True:
            yield self.replay.draw(batch)._replace(policy_version=np.full(batch, -1))

    def _why_end(self, stop: Stop) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        minutes = (time.monotonic() - self.began) / 60
        return reached(self.job.limits, policy_step=self.log.policy_step, update=self.tally.update, minutes=minutes)


def play_mixed(agent: Agent, games: AnyGames, *, seed: int, states: bool = False) -> Iterator[Tick]:
    """Games for ever of an agent that stays as it is, more random from one to the next: all sorts of states are met."""
    epsilon, rng = np.linspace(0, EPSILON, games.num), np.random.default_rng(seed)
    explorer = Explorer(epsilon, num_actions=games.spec.num_actions, rng=rng)
    return play(games, agent, refresh=lambda: 0, explorer=explorer, states=states, rng=rng)
