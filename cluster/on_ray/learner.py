"""The Ray process that trains: a thin shell around `learn`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import ray
import torch

from cluster.assemble import make_agent
from cluster.config import to_json
from cluster.every import Every, SaveTimes
from cluster.look.gallery import Gallery
from cluster.on_ray.instruments import open_instruments
from cluster.on_ray.mailbox import NOTHING, NoteHandler, Orders
from cluster.on_ray.mailbox_client import MESSAGE_SECONDS, MailboxClient
from cluster.on_ray.placement import Place
from cluster.on_ray.replay_server import REPLAY, replay_lives
from cluster.run.directory import is_ours
from cluster.training import Limits, Tally, reached
from learner import checkpoint
from learner.clock import Clock
from learner.device import choose_device, prepare_learner
from learner.loop import learn
from learner.step import make_optimizers
from replay import ReplayStats, ReplayTimeout, ReplayUnavailable, Sample, connect


@ray.remote(num_cpus=0)
class LearnerRole:
    """Trains, publishes and saves."""

    def __init__(self, place: Place, updates: int | None) -> None:
        config = place.config
        logging.getLogger().addHandler(NoteHandler(place.mailbox, "learner"))
        prepare_learner(config.train)
        self.place, self.limits = place, Limits(updates=updates)
        torch.manual_seed(config.train.seed)
        self.device = choose_device(config.train.device)
        self.agent = make_agent(config, place.spec).to(self.device)
        self.optimizers = make_optimizers(self.agent, config.train)
        found = checkpoint.load_newest(place.run.checkpoints, set_aside=True)
        if found:
            checkpoint.restore(found, self.agent, self.optimizers)
        instruments = open_instruments(config.cluster, "learner", "learner")
        self.clock = Clock(self.device)
        self.tally = Tally(found.update if found else 0, instruments.meter, self.clock)
        if found:
            self.tally.recorder.saved(found.path)
        self.link = MailboxClient(place.mailbox, instruments)
        self.link.orders = Orders(policy_step=found.policy_step if found else 0)
        self.look = Every(MESSAGE_SECONDS)
        self.replay = connect(place.replay_address, config.replay, place.spec, run_id=place.run.id, lives=replay_lives)

    def where(self) -> str:
        """The address of its machine: answered as soon as it runs."""
        return ray.util.get_node_ip_address()

    def run(self) -> None:
        """Trains until the driver says stop or the last update is done, and saves."""
        config = self.place.config.train
        self.clock.take()  # starting is no phase of training
        began, save = self.tally.update, SaveTimes(config.checkpoint_every, has_one=self.place.run.has_checkpoint)
        gallery = Gallery(config, self.place.config.env, self.clock)
        if self.tally.update:
            self.publish()  # a resumed run does not play at random
        reports = learn(
            self.agent,
            self.optimizers,
            self.samples(),
            config,
            device=self.device,
            update=self.tally.update,
            mark=self.clock.mark,
        )
        for report in reports:
            self.tally.add(report)
            if report.update == 1 or report.update % config.publish_every == 0:
                self.publish()
            if look := gallery.look(self.agent, report.batch):
                self.link.post(self.tally.message(look=look))
            if save.due(trained=self.tally.update > began):
                self.save()
            if self.ended():
                break
        reports.close()
        self.save()
        self.report(now=True)

    def samples(self) -> Iterator[Sample]:
        """Batches as they come; while none comes, the driver still hears from us. Ends on the driver's word."""
        self.clock.mark("wait")
        sampler = self.replay.sampler()
        try:
            while not self.ended():
                began = time.monotonic()
                self.clock.mark("wait")
                try:
                    sample = sampler.sample(timeout=MESSAGE_SECONDS)
                except ReplayTimeout:
                    continue
                finally:
                    self.clock.mark("other")
                    self.tally.waited(time.monotonic() - began)
                yield sample
        finally:
            sampler.close()

    def ended(self) -> bool:
        done = reached(self.limits, policy_step=0, update=self.tally.update, minutes=0)
        return bool(done) or self.report().stop_learner

    def report(self, *, now: bool = False) -> Orders:
        if now or self.look.due():
            self.link.post(self.tally.message(self.stats()))
            if self.tally.update and self.link.published == NOTHING:
                self.publish()
            self.tally.check(self.place.config.train.nonfinite_limit, self.place.run.checkpoints)
        return self.link.orders

    def stats(self) -> ReplayStats | None:
        """The replay's counts; None while its server is being started again."""
        try:
            return self.replay.stats()
        except ReplayUnavailable:
            return None

    def publish(self) -> None:
        self.clock.mark_read("publish")
        snapshot = self.agent.snapshot(self.tally.update)
        self.link.publish(snapshot.version, [weight.numpy() for weight in snapshot.weights])
        self.clock.mark("other")

    def save(self) -> None:
        """Replay first, then the weights. What cannot be saved is said, and training goes on."""
        config = self.place.config
        if not self.tally.savable():
            return
        if not is_ours(self.place.run):
            self.tally.not_saved("another run lies in its directory now")
            return
        self.clock.mark_read("checkpoint")
        try:
            saved = ray.get_actor(REPLAY).checkpoint.remote()
            # As long as it takes: should its process die, or hang and be killed by the driver, this ends with an error.
            while not ray.wait([saved], timeout=MESSAGE_SECONDS)[0]:
                self.report()  # the driver must hear that we live
                self.clock.mark("checkpoint")
            ray.get(saved)
        except (ray.exceptions.RayError, ValueError) as error:
            self.tally.saving_replay.failed(type(error).__name__)
        else:
            self.tally.saving_replay.over()
        try:
            path = checkpoint.save(
                self.place.run.checkpoints,
                self.agent,
                self.optimizers,
                config=to_json(config),
                progress=checkpoint.Progress(self.tally.update, self.link.orders.policy_step),
                keep=config.train.keep_checkpoints,
            )
            self.tally.saved(path)
        except (OSError, FloatingPointError) as error:
            self.tally.not_saved(error)
        self.clock.mark("other")
