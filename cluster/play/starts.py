"""Where dreams may begin: moments of real games that the agent has played, and what a page must know of the run."""

from __future__ import annotations

from base64 import b64encode
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch

from actors.config import EnvConfig
from actors.env import Kept, action_names, make_games
from cluster.look.evaluate import device_of, seeded
from cluster.play.dream import DreamStep, Seen
from dreamer.agent import Agent
from dreamer.behaviors.parts import PolicyAndValue
from dreamer.types import State
from replay.errors import UserError

STARTS = 12  # in the gallery
APART = 40  # steps of the agent's games from one to the next
SETTLED = 16  # steps from a game's start before which none is taken, where games last longer: a ball's way shows late
PATIENCE = 1500  # steps after which the search ends with what there is
FRAMES_PER_SECOND = 60.0  # of an Atari
STEPS_PER_SECOND = 15.0  # of any other game: that of an Atari whose agent acts in every fourth frame


class StartingPoint(NamedTuple):
    """One moment of a real game."""

    state: State  # [1, ...]  posterior: what the model knows after it saw all pictures so far
    picture: np.ndarray  # uint8 [H, W, C]  the real one
    kept: Kept | None  # of the emulator; None where the game has none


def check_policy(agent: Agent) -> None:
    """Raises UserError for a behaviour without actor and critic, or latents without classes: the page shows both."""
    if not isinstance(agent.behavior, PolicyAndValue):
        raise UserError("the page shows an actor and a critic, and this run's behaviour has none: take another RUN")
    if agent.world.config.latent != "categorical":
        raise UserError(
            f"the page draws classes, and this run's latents are {agent.world.config.latent}: take a RUN with "
            "model.latent categorical"
        )


@torch.no_grad()
def find_starts(agent: Agent, env: EnvConfig, *, seed: int) -> list[StartingPoint]:
    """Lets the agent play as in training. Raises UserError where its games are over at once."""
    settled: list[StartingPoint] = []
    early: list[StartingPoint] = []  # for games that are too short for more
    with seeded(seed, device_of(agent)), closing(make_games(env, 1, seed)) as games:
        state, arrived, age = agent.initial(1), games.reset(), 0
        for step in range(PATIENCE):
            age = 0 if arrived.step.is_first[0] else age + 1
            inputs = map(torch.as_tensor, (arrived.step.obs, arrived.step.prev_action, arrived.step.is_first))
            action, state = agent.policy_step(state, *inputs, sample=True)
            found = settled if age >= SETTLED else early
            over = arrived.is_last[0] or arrived.step.is_terminal[0]
            if age > 0 and not over and len(found) < STARTS and step >= APART * (len(found) + 1):
                found.append(StartingPoint(state, arrived.step.obs[0], games.keep()))
            if len(settled) == STARTS:
                break
            arrived = games.step(action.numpy())
    if not (settled or early):
        raise UserError("the agent's games are over at once, before a dream can begin: train it longer")
    return settled or early


def about(agent: Agent, env: EnvConfig, starts: list[StartingPoint], *, update: int, live: bool) -> dict[str, Any]:
    """dream.json: what the page must know before the first step."""
    rssm = agent.world.rssm
    names = action_names(env)
    return {
        "live": live,
        "game": env.id.removeprefix("ALE/").partition("-")[0],
        "update": update,
        "actions": names,
        "serve": names.index("FIRE") if env.auto_fire else -1,
        "gamma": agent.world.config.gamma,
        "temperature": agent.behavior.config.temperature,  # of the dreams that the policy was learned in
        "rate": FRAMES_PER_SECOND / env.frame_skip if starts[0].kept else STEPS_PER_SECOND,
        "over": "a life is lost" if env.life_loss else "the game is over",  # what a low discount says
        "shape": list(starts[0].picture.shape),
        "state": {"deter": agent.world.config.deter, "stoch": rssm.latent.stoch, "classes": rssm.latent.values},
        "starts": [{"picture": encoded(start.picture)} for start in starts],
    }


@torch.no_grad()
def first_frames(agent: Agent, starts: list[StartingPoint]) -> list[dict[str, Any]]:
    """For a page without Python: the states, and what is to be seen of them."""
    dream = DreamStep(agent)
    found = []
    for start in starts:
        h, z = (part[0].numpy().astype("<f4") for part in start.state)
        found.append({"h": encoded(h), "z": encoded(z), "frame": frame(dream.look(start.state), steps=0)})
    return found


def frame(seen: Seen, *, steps: int) -> dict[str, Any]:
    """One state [1, ...] as the page gets it."""
    return {
        "steps": steps,
        "picture": encoded(to_pixels(seen.picture[0])),
        "policy": [round(share, 4) for share in seen.policy[0].tolist()],
        **{name: round(getattr(seen, name).item(), 4) for name in ("reward", "discount", "value", "entropy")},
    }


def to_pixels(picture: torch.Tensor) -> np.ndarray:
    """float [...] 0..255 -> uint8 [...]."""
    pixels: np.ndarray = picture.round().byte().numpy()
    return pixels


def encoded(array: np.ndarray) -> str:
    """Its bytes, row by row, as base64."""
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()
