"""Everything in one process, taking turns: the simplest runtime, bit-identical for one seed, and the end-to-end test.

Needs neither Ray nor Reverb nor TensorFlow.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from actors.env import make_games
from actors.rollout import Tick, play
from cluster.config import to_json
from cluster.run_dir import choose_device, make_agent
from cluster.run_log import RunLog
from cluster.signals import Stop
from cluster.training import ActorNews, Every, Job, Tally, append, pictures, reached
from learner import checkpoint
from learner.loop import learn
from learner.step import make_optimizers
from replay import MemoryReplay, ReplayCorrupt, Sample, UserError, in_memory, memory_file
from replay.experience import EnvSpec

log = logging.getLogger("inline")
MESSAGE_SECONDS = 1.0  # between looks at the losses: each look waits for the device


class InlineRun:
    """The state of one inline training run."""

    def __init__(self, job: Job, run_log: RunLog) -> None:
        self.job, self.log, config = job, run_log, job.config
        device = choose_device(config.train.device)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        torch.manual_seed(config.train.seed)
        self.rng = np.random.default_rng(config.train.seed)
        # A resumed run must not play the games of its beginning once more.
        resumed = job.resume.update if job.resume else 0
        self.games = make_games(config.env, config.actor.games, seed=config.train.seed + resumed)
        self.agent = make_agent(config, self.games.spec).to(device)
        self.optimizers = make_optimizers(self.agent, config.train)
        self.replay = self._restore(self.games.spec)
        self.writers = [self.replay.writer() for _ in range(self.games.num)]
        self.reports = learn(
            self.agent, self.optimizers, self._samples(), config.train, device=device, update=run_log.update
        )
        self.tally = Tally(run_log.update)
        self.device = device

    def train(self, stop: Stop) -> str:
        """Plays and learns until a limit or a signal; saves; returns why it ended."""
        config, began = self.job.config, time.monotonic()
        save, look, draw = (
            Every(config.train.checkpoint_every),
            Every(MESSAGE_SECONDS),
            Every(config.train.image_every),
        )
        news = ActorNews(0, 0)
        why = ""
        ticks = play(
            self.games,
            self.agent,
            refresh=lambda: self.tally.update if self.tally.update else -1,
            rng=self.rng,
            device=self.device,
        )
        while not why:
            tick_began = time.monotonic()
            tick = next(ticks)
            self._remember(tick)
            news.add(tick)
            self.tally.waited(time.monotonic() - tick_began)
            learning_since = time.monotonic()
            while not why and self.replay.can_sample(config.replay.batch):
                report = next(self.reports)
                self.tally.add(report)
                why = self._why_end(stop, began, news.played)
                if draw.due():
                    self.log.handle(self.tally.message(images=pictures(self.agent, report.batch)))
            news.wait_seconds += time.monotonic() - learning_since
            why = why or self._why_end(stop, began, news.played)
            if look.due() or why:
                self.log.handle(news.message(sum(writer.acknowledged for writer in self.writers)))
                self.log.handle(self.tally.message(self.replay.stats()))
            if save.due():
                self.save()
        self.save()
        self.games.close()
        return why

    def save(self) -> None:
        """Checkpoint of everything but the games: replay first, then the file that names the pair complete."""
        config, run = self.job.config, self.job.run
        try:
            folder = _replay_folder(run.replay, self.tally.update)
            memory_file.save(self.replay, folder)
            checkpoint.save(
                run.checkpoints,
                self.agent,
                self.optimizers,
                config=to_json(config),
                progress=checkpoint.Progress(self.tally.update, self.log.policy_step),
                rng=self.rng,
                keep=config.train.keep_checkpoints,
            )
        except OSError as error:
            log.error("no checkpoint now (%s); the one before it stays, and training goes on", error)
            return
        for old in run.replay.iterdir():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _restore(self, spec: EnvSpec) -> MemoryReplay:
        config, resume = self.job.config, self.job.resume
        if resume is None:
            return in_memory(config.replay, spec, seed=config.train.seed)
        checkpoint.restore(resume, self.agent, self.optimizers, self.rng)
        try:
            return memory_file.load(_replay_folder(self.job.run.replay, resume.update), config.replay, spec)
        except (UserError, ReplayCorrupt) as error:
            log.warning("%s; the replay starts empty and is filled before training goes on", error)
            return in_memory(config.replay, spec, seed=config.train.seed + resume.update)

    def _samples(self) -> Iterator[Sample]:
        sampler = self.replay.sampler()
        while True:
            yield sampler.sample(0)

    def _remember(self, tick: Tick) -> None:
        for e, writer in enumerate(self.writers):
            append(writer, tick, e)

    def _why_end(self, stop: Stop, began: float, played: int) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        policy_step = self.log.policy_step + played
        minutes = (time.monotonic() - began) / 60
        return reached(self.job.limits, policy_step=policy_step, update=self.tally.update, minutes=minutes)


def train(job: Job, run_log: RunLog, stop: Stop) -> str:
    """Trains in this process; returns why it ended."""
    return InlineRun(job, run_log).train(stop)


def _replay_folder(replay: Path, update: int) -> Path:
    return replay / f"update-{update:09d}"
