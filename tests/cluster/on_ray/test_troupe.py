"""Who plays: actors are added and retired as nodes offer room, and every copy knows whether it is the newest."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.config import ActorConfig
from actors.exploration import epsilons
from cluster.config import ClusterConfig

pytest.importorskip("ray", reason="needs Ray: Python 3.11")

from cluster.messages import ActorMessage
from cluster.on_ray import placement, troupe
from cluster.on_ray import worker as supervise
from cluster.on_ray.mailbox import Orders
from cluster.on_ray.troupe import Troupe
from replay.errors import UserError
from replay.ports import free_port

pytestmark = pytest.mark.ray


class Stage:
    """A troupe on nodes with so much room; starts are written down instead of made."""

    def __init__(self, cluster: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room, self.started, self.said = 0, [], []
        monkeypatch.setattr(placement, "offered", lambda: self.room)
        monkeypatch.setattr(placement, "found", lambda: "some nodes")
        monkeypatch.setattr(supervise.ray, "kill", lambda handle: None)
        monkeypatch.setattr(troupe, "LOOK_SECONDS", 0.0)
        self.troupe = Troupe(cluster, self._start, self.said.append)

    def _start(self, index: int, incarnation: int) -> Any:
        self.started.append((index, incarnation))
        call = SimpleNamespace(remote=lambda: object())
        return SimpleNamespace(where=call, run=call)

    def look(self, room: int, *, placed: bool = True) -> list[str]:
        """Another look at the nodes -> roles of the actors; `placed`: they find a place at once."""
        self.room = room
        self.troupe.follow_nodes()
        for worker in self.troupe.workers()[: room if placed else 0]:
            worker.where = worker.where or "10.0.0.9"
        return sorted(worker.role for worker in self.troupe.workers())


def test_as_many_actors_as_the_nodes_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(ClusterConfig(actors=0, max_actors=3, address="auto"), monkeypatch)
    assert stage.look(0) == []
    assert stage.look(2) == ["actor-0", "actor-1"] == stage.troupe.expected()
    assert stage.look(9) == ["actor-0", "actor-1", "actor-2"], "never more than max_actors"
    order = stage.troupe.order(Orders())
    assert order.players == (0, 1, 2)

    assert stage.look(2) == ["actor-0", "actor-1"], "the last one is retired"
    assert [worker.role for worker in stage.troupe.leaving()] == ["actor-2"]
    assert "actor-2 is retired" in stage.said[-1]
    order = stage.troupe.order(Orders())
    assert order.players == (0, 1)
    assert order.ends(2, 0) and not order.ends(1, 0) and not order.ends(2, 1)

    stage.troupe.left(stage.troupe.leaving()[0])
    assert stage.look(3) == ["actor-0", "actor-1", "actor-2"]
    assert stage.started[-1] == (2, 1), "the same index, but not the same copy"


def test_an_actor_that_lost_its_node_waits_and_is_not_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """actors=2: both are wanted for ever, so that an autoscaler brings a node; expected is who has room."""
    stage = Stage(ClusterConfig(actors=2, wait_for=2, address="auto"), monkeypatch)
    stage.look(1)
    assert "1 of the 2 actor processes" in stage.troupe.lacking()
    assert stage.look(2) == ["actor-0", "actor-1"] and not stage.troupe.lacking()
    lost = stage.troupe.workers()[0]
    lost.died("its node is gone")
    assert stage.look(1, placed=False) == ["actor-0", "actor-1"]
    assert stage.troupe.expected() == ["actor-1"]
    order = stage.troupe.order(Orders())
    assert order.players == (1,) and order.ends(0, 0), "should its old copy still play behind a cut link, it ends"
    late = ActorMessage(0, 0, 5, [], 0, 1.0, 0.0, 0, 0)
    assert stage.troupe.find(late) is None, "what the old copy says is no sign of life of the new one"


def test_exploration_is_shared_out_anew_among_those_who_play() -> None:
    """Actors 1 and 4 of a larger number play: together they have the whole range, as two actors have."""
    config, players = ActorConfig(games=2, epsilon=0.4), (1, 4)
    shares = [epsilons(config, actor=players.index(n), actors=len(players)) for n in players]
    assert np.concatenate(shares)[0] == pytest.approx(0.4) and np.concatenate(shares)[-1] == pytest.approx(0.05)
    assert (np.diff(np.concatenate(shares)) <= 0).all()


def test_an_address_where_nobody_listens_is_said_at_once() -> None:
    with pytest.raises(UserError, match=r"no Ray answers at cluster.address 127.0.0.1:\d+ .*make cluster-up"):
        placement.check_answers(f"127.0.0.1:{free_port(0)}")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        placement.check_answers(f"127.0.0.1:{listening.getsockname()[1]}")
    placement.check_answers("auto")
