"""Everything in one process, taking turns: the simplest runtime, bit-identical for one seed, and the end-to-end test.

With actor.workers the games step in processes of their own while the learner trains: bit by bit the same run.
Needs neither Ray nor Reverb nor TensorFlow.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from actors.exploration import make_explorer
from actors.game import resolve
from actors.interface import AnyGames
from actors.parallel import make_parallel_games
from actors.rollout import Tick, play
from cluster.assemble import make_agent, make_replay, with_state
from cluster.config import to_json
from cluster.console.signals import Stop
from cluster.errors import as_run_failed
from cluster.every import Every, SaveTimes
from cluster.look.gallery import Gallery
from cluster.metrics.recorders import ActingRecorder, ReplayRecorder
from cluster.run.directory import Run
from cluster.run.records import RunLog
from cluster.saving import Saver
from cluster.short_games import ShortGames
from cluster.training import ActorNews, Gaps, Job, Tally, append, reached
from learner import checkpoint
from learner.clock import Clock
from learner.device import choose_device, prepare_learner
from learner.loop import learn
from learner.step import make_optimizers
from replay import MemoryReplay, ReplayCorrupt, Sample, UserError, memory_file
from replay.atomic import sweep
from replay.experience import EnvSpec

log = logging.getLogger("inline")
MESSAGE_SECONDS = 1.0  # between looks at the losses: each look waits for the device


class InlineRun:
    """The state of one inline training run."""

    def __init__(self, job: Job, run_log: RunLog, games: AnyGames) -> None:
        self.job, self.log, self.games = job, run_log, games
        self.config = config = job.config
        self.device = device = choose_device(config.train.device)
        prepare_learner(config.train)
        torch.manual_seed(config.train.seed)
        self.rng = np.random.default_rng(config.train.seed)
        self.agent = make_agent(config, self.games.spec).to(device)
        self.optimizers = make_optimizers(self.agent, config.train)
        self.replay = self._restore(with_state(self.games.spec, config))
        self.writers = [self.replay.writer() for _ in range(self.games.num)]
        self.clock = Clock(device)
        self.tally, self.news = Tally(run_log.update, run_log.meter, self.clock), ActorNews(0, 0)
        self.acting_recorder = ActingRecorder(run_log.meter, frame_skip=resolve(config.env).frame_skip)
        self.replay_recorder = ReplayRecorder(run_log.meter, config.replay, self.replay.stats())
        if job.resume:
            self.tally.recorder.saved(job.resume.path)
        self.reports = learn(
            self.agent,
            self.optimizers,
            self._samples(),
            replace(config.train, overlap=False),  # two threads draw their random numbers in an order of chance
            device=device,
            update=run_log.update,
            mark=self.clock.mark,
        )
        self.saver = Saver(self.tally, run_log, self.clock, self._write)
        self.waited = 0.0  # seconds that the games waited for updates
        self.gaps, self.short = Gaps(device), ShortGames(config)
        self.gallery = Gallery(config.train, config.env, self.clock)
        self.began = time.monotonic()

    def train(self, stop: Stop) -> str:
        """Plays and learns in turns until a limit or a signal; saves; returns why it ended."""
        began, look = self.tally.update, Every(MESSAGE_SECONDS)
        save = SaveTimes(self.config.train.checkpoint_every, has_one=self.job.run.has_checkpoint)
        ticks = play(
            self.games,
            self.agent,
            refresh=lambda: self.tally.update if self.tally.update else -1,
            explorer=make_explorer(self.config.actor, self.games.spec.num_actions, self.rng),
            states=self.config.replay.stored_state,
            rng=self.rng,
        )
        why = ""
        try:
            while not why:
                why = self._learn(stop) or self._why_end(stop)  # first: a resumed run goes on where it was left
                if look.due() or why:
                    self._report()
                    self.tally.check(self.config.train.nonfinite_limit, self.job.run.checkpoints)
                if save.due(trained=self.tally.update > began):
                    self.saver.save()
                if not why:
                    self._play(ticks)
        except BaseException as error:  # also when a process of the games has died
            self.saver.save_after(error)
            raise
        self.saver.save()
        return why

    def _report(self) -> None:
        """What happened since the last report. The side that waited for most of that time counts as held back."""
        half = (time.monotonic() - self.news.began) / 2
        held = self.news.wait_seconds > half
        played = self.news.message(self.writers)
        self.log.handle(played)
        self.acting_recorder.report(
            self.writers, waited=self.waited, version=self.news.version, newest=self.tally.update
        )
        self.tally.waited(self.gaps.seconds())
        stats = self.replay.stats()
        self.replay_recorder.stats(stats._replace(actors_wait=held, learner_waits=not held))
        learned = self.tally.message(stats)
        self.log.handle(learned)
        for message in (played, learned):
            self.short.hear(message)
        if line := self.short.look():
            self.log.say(line)

    def _play(self, ticks: Iterator[Tick]) -> None:
        """One record of every game."""
        began = time.monotonic()
        self.clock.mark("wait")
        tick = next(ticks)
        append(self.writers, tick)
        self.clock.mark("other")
        self.news.add(tick)
        self.acting_recorder.tick(tick, time.monotonic() - began)

    def _learn(self, stop: Stop) -> str:
        """As many updates as the replay ratio allows now; the games wait for them. Why training is over, or ""."""
        began, why = time.monotonic(), ""
        while not why and self.replay.can_sample(self.config.replay.batch):
            self.gaps.update_begins()
            with self.saver.updating():
                report = next(self.reports)
            self.gaps.update_ends()
            self.tally.add(report)
            why = self._why_end(stop)
            if look := self.gallery.look(self.agent, report.batch):
                self.log.handle(self.tally.message(look=look))
        seconds = time.monotonic() - began
        self.news.wait_seconds += seconds
        self.waited += seconds
        return why

    def _write(self) -> Path:
        """A checkpoint of everything but the games: replay first, then the file that names the pair complete."""
        config, run = self.config, self.job.run
        began = time.monotonic()
        try:
            memory_file.save(self.replay, _replay_folder(run.replay, self.tally.update))
            self.replay_recorder.saved(time.monotonic() - began)
            return checkpoint.save(
                run.checkpoints,
                self.agent,
                self.optimizers,
                config=to_json(config),
                progress=checkpoint.Progress(self.tally.update, self._policy_step()),
                rng=self.rng,
                keep=config.train.keep_checkpoints,
            )
        finally:
            remove_halves(run)

    def _restore(self, spec: EnvSpec) -> MemoryReplay:
        """The replay, on the learner's GPU if it has one; filled with what the run had saved."""
        config, resume = self.config, self.job.resume
        seed = config.train.seed + (resume.update if resume else 0)
        replay = make_replay(config.replay, spec, seed=seed, device=self.device)
        if resume:
            checkpoint.restore(resume, self.agent, self.optimizers, self.rng)
            try:
                memory_file.restore(replay, _replay_folder(self.job.run.replay, resume.update))
            except (UserError, ReplayCorrupt) as error:
                log.warning("%s; the replay starts empty and is filled before training goes on", error)
        return replay

    def _samples(self) -> Iterator[Sample]:
        sampler = self.replay.sampler()
        while True:
            yield sampler.sample(0)

    def _policy_step(self) -> int:
        return self.log.policy_step + self.news.played

    def _why_end(self, stop: Stop) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        minutes = (time.monotonic() - self.began) / 60
        return reached(self.job.limits, policy_step=self._policy_step(), update=self.tally.update, minutes=minutes)


@contextmanager
def ready(job: Job) -> Iterator[Job]:
    """The job with the address of its metrics: nobody else's business than this machine's."""
    host = job.config.cluster.host
    yield job.at("127.0.0.1" if host == "auto" else host)


def train(job: Job, run_log: RunLog, stop: Stop) -> str:
    """Trains in this process; returns why it ended. Raises UserError, or one of cluster.errors.ENDS."""
    config = job.config
    # A resumed run must not play the games of its beginning once more.
    seed = config.train.seed + (job.resume.update if job.resume else 0)
    remove_halves(job.run)
    with as_run_failed():
        actor = config.actor
        games = make_parallel_games(config.env, actor.games, seed, actor.workers, practice=actor.practice)
        try:
            return InlineRun(job, run_log, games).train(stop)
        finally:
            games.close()


def remove_halves(run: Run) -> None:
    """Removes saved replays whose checkpoint is not there, be it that it was never completed or that it is old."""
    whole = {path.stem for path in checkpoint.list_checkpoints(run.checkpoints)}
    for folder in run.replay.glob("update-*"):
        if folder.name not in whole:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            sweep(folder)


def _replay_folder(replay: Path, update: int) -> Path:
    """Named like the checkpoint that it belongs to."""
    return replay / f"update-{update:09d}"
