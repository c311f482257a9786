"""A batch at a glance, for TensorBoard: what happened, what the model makes of it, how far they are apart."""

from __future__ import annotations

import numpy as np
import torch

from cluster.look.evaluate import device_of, seeded
from cluster.look.images import AMBER, GREEN, Label, difference, grid
from cluster.look.video import decode
from dreamer.agent import Agent
from dreamer.types import Batch, State

COLUMNS = 16  # pictures of a strip at most: a wider one would be shrunk beyond recognition
SEED = 0  # so that a strip is a function of the agent and the batch


def open_loop_strip(agent: Agent, batch: Batch, *, context: int = 5, rows: int = 4) -> np.ndarray:
    """Real, dreamt and error of the first `rows` sequences of a batch [T, B, ...], time goes right -> uint8 [H, W, 3].

    An amber line and the colour of the numbers above show where the model stops seeing and only knows the actions.
    """
    batch = Batch(*(field[:, :rows] for field in batch))
    assert 0 < context < len(batch.obs), f"context {context} of {len(batch.obs)} steps leaves nothing to dream"
    with seeded(SEED, device_of(agent)):
        state = agent.world.open_loop(batch, context)
    columns = strip_columns(len(batch.obs))
    labels = [Label(f"{t}", GREEN) if t < context else Label(f"+{t - context + 1}", AMBER) for t in columns]
    marker = sum(t < context for t in columns)
    return grid(strip_rows(agent, batch, state, columns), labels, marker=marker)


def reconstruction_strip(agent: Agent, batch: Batch, *, rows: int = 4) -> np.ndarray:
    """Real, reconstructed from the posterior, and error of the first `rows` sequences -> uint8 [H, W, 3]."""
    batch = Batch(*(field[:, :rows] for field in batch))
    with torch.no_grad(), seeded(SEED, device_of(agent)):
        state = agent.world.observe(batch).state
    columns = strip_columns(len(batch.obs))
    return grid(strip_rows(agent, batch, state, columns), [Label(f"{t}", GREEN) for t in columns], marker=None)


def strip_columns(steps: int) -> list[int]:
    """The steps that a strip shows, evenly spaced from the first on."""
    return list(range(0, steps, -(-steps // COLUMNS)))


def strip_rows(agent: Agent, batch: Batch, state: State, columns: list[int]) -> dict[str, np.ndarray]:
    """What happened, what the states [T, B, ...] look like, and how far they are apart."""
    real = batch.obs[columns].cpu().numpy()
    model = decode(agent, State(state.h[columns], state.z[columns]))
    return {"real": real, "model": model, "error": difference(real, model)}
