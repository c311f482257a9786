"""What the world model sees and foresees, shown now and then while it trains: strips, films, and numbers.

All of it is of the batch that was just trained on, and leaves the random numbers of training alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from actors.config import EnvConfig
from cluster.every import Every
from cluster.look.evaluate import device_of, seeded
from cluster.look.images import AMBER, GREEN, Label, frame
from cluster.look.strips import open_loop_strip, reconstruction_strip
from cluster.look.video import compare, decode
from cluster.look.world_report import judge
from dreamer.agent import Agent
from dreamer.types import Batch
from learner.clock import Clock
from learner.config import TrainConfig

FRAMES = 64  # of a film, about: windows of the batch, one after the other, at least one
SCALE = 3  # screen pixels per pixel of an observation
CONTEXT = 5  # steps of a window that are seen before its dream
BLACK = 3  # frames between two windows: the eye must notice the cut
SEED = 0  # so that pictures are a function of agent and batch


class Look(NamedTuple):
    """What the world model makes of one batch."""

    images: dict[str, np.ndarray]  # uint8 [H, W, 3]; of a film [N, H, W, 3]
    sight: dict[str, float]  # see cluster/look/world_report.py


class Gallery:
    """Says when something is to be shown, and makes it."""

    def __init__(self, train: TrainConfig, env: EnvConfig, clock: Clock) -> None:
        self._env, self._clock = env, clock
        self._pictures, self._films = Every(train.image_every), Every(train.video_every)

    def look(self, agent: Agent, batch: Batch) -> Look | None:
        """After every update: mostly None."""
        pictures, films = self._pictures.due(), self._films.due()
        if not (pictures or films):
            return None
        self._clock.mark_read("pictures")
        seen = look_at(agent, self._env, batch) if pictures else Look({}, {})
        if films:
            seen = seen._replace(images=seen.images | film(agent, batch))
        self._clock.mark("other")
        return seen


def look_at(agent: Agent, env: EnvConfig, batch: Batch) -> Look:
    """Strips of a batch [T, B, ...], and its numbers."""
    with seeded(SEED, batch.obs.device), torch.no_grad():
        images = {
            "open_loop_dream": open_loop_strip(agent, batch),
            "reconstruction": reconstruction_strip(agent, batch),
        }
        return Look(images, judge(agent, env, batch))


def film(agent: Agent, batch: Batch) -> dict[str, np.ndarray]:
    """Two films of the first windows of a batch [T, B, ...], uint8 [N, H, W, 3]: seen, and dreamt after CONTEXT steps.

    Left the real game, in the middle the model, right how far they are apart.
    """
    clips = max(1, FRAMES // len(batch.obs))
    batch = Batch(*(field[:, :clips] for field in batch))
    context = min(CONTEXT, len(batch.obs) - 1)
    with seeded(SEED, device_of(agent)), torch.no_grad():
        seen, dreamt = agent.world.observe(batch).state, agent.world.open_loop(batch, context)
    steps = range(len(batch.obs))
    watching = [Label(f"reconstruction {t}", GREEN) for t in steps]
    dreaming = [Label("context", GREEN) if t < context else Label(f"dream +{t - context + 1}", AMBER) for t in steps]
    real = batch.obs.cpu().numpy()
    return {
        "reconstruction_film": reel(real, decode(agent, seen), watching),
        "open_loop_dream_film": reel(real, decode(agent, dreamt), dreaming),
    }


def reel(real: np.ndarray, model: np.ndarray, labels: list[Label]) -> np.ndarray:
    """Windows one after the other: real and model uint8 [T, B, H, W, C], labels [T] of the model -> [N, H, W, 3]."""
    frames = []
    for b in range(real.shape[1]):
        steps = zip(real[:, b], model[:, b], labels, strict=True)
        shown = [frame(compare(happened, seen, label), [], scale=SCALE) for happened, seen, label in steps]
        frames += [*shown, *[np.zeros_like(shown[0])] * BLACK]
    return np.stack(frames)
