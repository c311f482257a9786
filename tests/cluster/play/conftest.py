from __future__ import annotations

from typing import NamedTuple

import pytest

from actors.config import EnvConfig
from cluster import assemble
from cluster.play.server import Offer
from cluster.play.session import Session
from cluster.play.starts import StartingPoint, about, find_starts
from dreamer.agent import Agent
from tests.cluster.tiny import ROOT

SHIPPED = ROOT / "deploy" / "agents" / "breakout-cpu"


class Shipped(NamedTuple):
    """The agent that comes with the code, and where its dreams may begin."""

    agent: Agent
    env: EnvConfig
    starts: list[StartingPoint]

    def session(self, seed: int = 0) -> Session:
        return Session(self.agent, self.env, self.starts, seed=seed)

    def offer(self) -> Offer:
        return Offer(about(self.agent, self.env, self.starts, update=7, live=True), self.session)


@pytest.fixture(scope="session")
def shipped() -> Shipped:
    loaded = assemble.load(SHIPPED)
    env = loaded.config.env
    return Shipped(loaded.agent, env, find_starts(loaded.agent, env, seed=0))
