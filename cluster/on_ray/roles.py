"""The Ray processes: thin shells around `play`, `learn` and the replay server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import numpy as np
import ray
import torch

from actors.env import make_games, resolve
from actors.exploration import epsilons
from actors.rollout import play
from cluster.assemble import make_agent
from cluster.config import to_json
from cluster.every import Every, SaveTimes
from cluster.look.gallery import Gallery
from cluster.metrics import Growth
from cluster.metrics.recorders import ActingRecorder, ReplayRecorder
from cluster.metrics.spec import MAILBOX
from cluster.on_ray.instruments import AGAIN_SECONDS, open_instruments
from cluster.on_ray.mailbox import NOTHING, NoteHandler, Orders
from cluster.on_ray.mailbox_client import MailboxClient
from cluster.on_ray.placement import Place
from cluster.run.directory import is_ours
from cluster.training import ActorNews, Limits, Tally, append, reached
from learner import checkpoint
from learner.clock import Clock
from learner.device import choose_device, prepare_learner
from learner.loop import learn
from learner.step import make_optimizers
from replay import ReplayStats, ReplayTimeout, ReplayUnavailable, Sample, connect, serve

log = logging.getLogger("roles")
REPLAY = "replay"  # the name under which the replay's process is found, in the Ray namespace of the run
MESSAGE_SECONDS = 1.0  # between messages to the mailbox


def replay_lives() -> bool:
    """Whether the replay's process is there; it may be loading what it had saved."""
    try:
        ray.get_actor(REPLAY)
    except ValueError:  # nobody has that name: it is dead, and not yet started again
        return False
    return True


@ray.remote(num_cpus=0, max_concurrency=4)
class ReplayRole:
    """Holds the Reverb server; starts from its newest checkpoint."""

    def __init__(self, place: Place) -> None:
        logging.getLogger().addHandler(NoteHandler(place.mailbox, "replay"))
        replay, run = place.config.replay, place.run
        host = place.config.cluster.host
        self._server = serve(replay, place.spec, directory=run.replay, run_id=run.id, host=host)
        self._mailbox = place.mailbox
        self._instruments = open_instruments(place.config.cluster, "replay", "replay")
        self._recorder = ReplayRecorder(self._instruments.meter, replay, self._server.stats())

    def where(self) -> str:
        """The address of its machine: answered as soon as it runs, and while it lives."""
        return ray.util.get_node_ip_address()

    def checkpoint(self) -> None:
        began = time.monotonic()
        self._server.checkpoint()
        self._recorder.saved(time.monotonic() - began)

    def run(self) -> None:
        """Never returns: whoever waits for it learns that the process has died. Says how the replay is."""
        self._instruments.announce(self._mailbox)
        again = Every(AGAIN_SECONDS)
        while True:
            time.sleep(MESSAGE_SECONDS)
            self._recorder.stats(self._server.stats())
            if again.due():
                self._instruments.announce(self._mailbox)


@ray.remote(num_cpus=0)
class ActorRole:
    """Plays E games and writes what happens."""

    def __init__(self, place: Place, index: int, incarnation: int, resumed: int) -> None:
        logging.getLogger().addHandler(NoteHandler(place.mailbox, f"actor-{index}"))
        torch.set_num_threads(place.config.actor.threads)
        self.place, self.index, self.incarnation = place, index, incarnation
        # Neither a restarted actor nor a resumed run plays the same games once more.
        seeds = np.random.SeedSequence([place.config.train.seed, index, incarnation, resumed]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        self.rng = np.random.default_rng(int(seeds[1]))
        self.games = make_games(place.config.env, place.config.actor.games, seed=int(seeds[0]))
        self.agent = make_agent(place.config, place.spec)
        instruments = open_instruments(place.config.cluster, "actor", f"actor-{index}")
        self.meter = instruments.meter
        self.recorder = ActingRecorder(self.meter, frame_skip=resolve(place.config.env).frame_skip)
        self.link = MailboxClient(place.mailbox, instruments)
        self.failures = Growth()
        self.news = ActorNews(index, incarnation)
        self.look = Every(MESSAGE_SECONDS)
        self.waited = 0.0
        replay = connect(
            place.replay_address,
            place.config.replay,
            place.spec,
            run_id=place.run.id,
            should_stop=self.ended,
            lives=replay_lives,
        )
        self.writers = [replay.writer() for _ in range(self.games.num)]
        self.version, self.ticks = -1, 0
        self.epsilon = self.share_of_exploration()

    def where(self) -> str:
        """The address of its machine: answered as soon as it runs."""
        return ray.util.get_node_ip_address()

    def run(self) -> None:
        """Plays until the driver says stop."""
        config = self.place.config
        ticks = play(
            self.games,
            self.agent,
            refresh=self.refresh,
            epsilon=self.epsilon,
            states=config.replay.stored_state,
            rng=self.rng,
        )
        began, waited = time.monotonic(), 0.0
        for tick in ticks:
            self.news.add(tick)
            append(self.writers, tick)
            waited_now = self.wait_seconds()
            self.recorder.tick(tick, time.monotonic() - began - (waited_now - waited))
            began, waited = time.monotonic(), waited_now
            if self.ended():
                break
        for writer in self.writers:
            writer.close()
        self.report(now=True)
        self.games.close()

    def refresh(self) -> int:
        """Looks for newer weights every `pull_every` steps."""
        if self.ticks % self.place.config.actor.pull_every == 0 and (snapshot := self.link.newer_weights()):
            self.agent.load_snapshot(snapshot)
            self.version = snapshot.version
        self.ticks += 1
        return self.version

    def ended(self) -> bool:
        """Whether to play on; also asked while a writer waits for the learner."""
        return self.report().ends(self.index, self.incarnation) or self.link.cut_off()

    def report(self, *, now: bool = False) -> Orders:
        """Tells the driver what happened, once a second."""
        if now or self.look.due():
            waited = self.wait_seconds()
            self.news.wait_seconds, self.waited = waited - self.waited, waited
            players = self.link.orders.players
            if self.link.post(self.news.message(self.writers)).players != players and self.epsilon is not None:
                self.epsilon[:] = self.share_of_exploration()  # `play` reads it anew at every step
            self.recorder.report(self.writers, waited=waited, version=self.version, newest=self.link.published)
            self.meter.add("dreamer_actor_errors_total", self.failures.to(self.link.failures), MAILBOX)
        return self.link.orders

    def share_of_exploration(self) -> np.ndarray | None:
        """How often each of our games acts at random, float64 [E], given who else plays now; None = never."""
        players = sorted({*self.link.orders.players, self.index})
        return epsilons(self.place.config.actor, actor=players.index(self.index), actors=len(players))

    def wait_seconds(self) -> float:
        """That the replay has held this process back, since it began."""
        return sum(writer.wait_seconds for writer in self.writers)


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
