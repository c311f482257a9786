"""The Ray process that plays: a thin shell around `play`."""

from __future__ import annotations

import logging
import time

import numpy as np
import ray
import torch

from actors.env import make_games
from actors.exploration import epsilons, make_explorer
from actors.game import resolve
from actors.rollout import play
from cluster.assemble import make_agent
from cluster.every import Every
from cluster.metrics import Growth
from cluster.metrics.recorders import ActingRecorder
from cluster.metrics.spec import MAILBOX
from cluster.on_ray.instruments import open_instruments
from cluster.on_ray.mailbox import NoteHandler, Orders
from cluster.on_ray.mailbox_client import MESSAGE_SECONDS, MailboxClient
from cluster.on_ray.placement import Place
from cluster.on_ray.replay_server import replay_lives
from cluster.training import ActorNews, append
from replay import connect


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
        config = place.config
        self.games = make_games(config.env, config.actor.games, int(seeds[0]), practice=config.actor.practice)
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
        self.explorer = make_explorer(place.config.actor, self.games.spec.num_actions, self.rng)
        self.share_exploration()

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
            explorer=self.explorer,
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
            if self.link.post(self.news.message(self.writers)).players != players:
                self.share_exploration()
            self.recorder.report(self.writers, waited=waited, version=self.version, newest=self.link.published)
            self.meter.add("dreamer_actor_errors_total", self.failures.to(self.link.failures), MAILBOX)
        return self.link.orders

    def share_exploration(self) -> None:
        """Sets how often each of our games acts at random, given who else plays now."""
        players = sorted({*self.link.orders.players, self.index})
        share = epsilons(self.place.config.actor, actor=players.index(self.index), actors=len(players))
        if self.explorer is not None and share is not None:
            self.explorer.epsilon[:] = share

    def wait_seconds(self) -> float:
        """That the replay has held this process back, since it began."""
        return sum(writer.wait_seconds for writer in self.writers)
