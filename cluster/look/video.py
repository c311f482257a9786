"""What the agent does, sees and dreams, as videos of games for people.

Every frame shows what ARRIVED together, as in a Batch: the picture, the action that led to it, the reward it brought.
Rewards are predicted as model.reward_squash leaves them, so the real one is shown on that scale as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from actors.config import EnvConfig
from actors.env import action_names
from actors.rollout import Tick
from cluster.look.evaluate import device_of, full_games, seeded
from cluster.look.images import AMBER, GRAY, GREEN, RED, WHITE, Label, Panel, difference, frame, write_gif, write_mp4
from dreamer.agent import Agent
from dreamer.behaviors import Cem
from dreamer.behaviors.parts import PolicyAndValue
from dreamer.equations import scalar_mean, squash
from dreamer.types import Batch, State
from replay.errors import UserError

PLAY_SCALE, COMPARE_SCALE = 6, 4  # screen pixels per pixel of an observation: alone, three side by side
HOLD = 15  # further frames for which the end of a game stays
TRIES = 20  # passages looked at per clip that is wanted: some games are over before the dream begins
DECODE_CHUNK = 64  # pictures decoded at once: the activations of a whole game would take gigabytes
LEARNED = {"tanh": "tanh(reward)", "clip": "min(reward, 1)", "none": "reward"}  # model.reward_squash in words
SUFFIXES = (".gif", ".mp4")


class Film(NamedTuple):
    """A passage of a game, and what the agent expected of each of its states."""

    pictures: np.ndarray  # uint8 [T, H, W, C]
    action: list[str]  # [T]  that led here
    reward: np.ndarray  # float32 [T]  raw
    end: list[str]  # [T]  "GAME OVER" or "TIME LIMIT" where a game ended, else ""
    learned_as: str  # what of the reward is predicted, in words
    learned_reward: np.ndarray  # float32 [T]  that, of the real one
    predicted_reward: np.ndarray  # float32 [T]
    predicted_discount: np.ndarray  # float32 [T]
    value: np.ndarray | None  # float32 [T]  the critic's, in squashed rewards; None for a behaviour without a critic


# --- Videos. All chance is drawn at once, frames are painted when they are asked for: a long game has many ---


def record_play(agent: Agent, env: EnvConfig, *, seed: int, steps_limit: int) -> Iterator[np.ndarray]:
    """One real game from its start to its end, or to `steps_limit` policy steps: frames uint8 [H, W, 3]."""
    with seeded(seed, device_of(agent)), closing(full_games(agent, env, slots=1, seed=seed)) as game:
        ticks = until_end(islice(game, steps_limit + 1))  # the first record is that of the reset
        batch = as_batch(ticks, device_of(agent))
        film = make_film(agent, action_names(env), ticks, batch, watch(agent, batch))
    score = film.reward.cumsum()

    def draw(t: int) -> np.ndarray:
        title = Label(f"step {t}   score {score[t]:g}")
        return frame([Panel(title, film.pictures[t])], caption(film, t), scale=PLAY_SCALE)

    return (draw(t) for t in held(film.end))


def record_reconstruct(
    agent: Agent, env: EnvConfig, *, seed: int, start: int = 100, steps: int = 300
) -> Iterator[np.ndarray]:
    """`steps` records of the agent's games from record `start` on: real, seen through the latent state, difference."""
    with seeded(seed, device_of(agent)), closing(full_games(agent, env, slots=1, seed=seed)) as game:
        ticks = list(islice(game, start + steps))
        batch = as_batch(ticks, device_of(agent))
        state = watch(agent, batch)
    seen, batch = State(state.h[start:], state.z[start:]), Batch(*(field[start:] for field in batch))
    film = make_film(agent, action_names(env), ticks[start:], batch, seen)
    rebuilt = decode(agent, seen)[:, 0]

    def draw(t: int) -> np.ndarray:
        middle = Label("reconstruction", GREEN)
        return frame(compare(film.pictures[t], rebuilt[t], middle), caption(film, t), scale=COMPARE_SCALE)

    return (draw(t) for t in held(film.end))


def record_dream(
    agent: Agent,
    env: EnvConfig,
    *,
    seed: int,
    context: int = 5,
    horizon: int = 45,
    start: int = 100,
    clips: int = 4,
) -> Iterator[np.ndarray]:
    """Dreams beside what really happened under the same actions: `clips` passages of the agent's games, one by one.

    Of a passage the first `context` pictures are seen, then nothing but the actions. It ends where its game ends.
    """
    films, dreams, names = [], [], action_names(env)
    with seeded(seed, device_of(agent)), closing(full_games(agent, env, slots=1, seed=seed)) as game:
        for ticks in cut_clips(game, start=start, context=context, length=context + horizon, clips=clips):
            batch = as_batch(ticks, device_of(agent))
            state = agent.world.open_loop(batch, context)
            films.append(make_film(agent, names, ticks, batch, state))
            dreams.append(decode(agent, state)[:, 0])

    def draw(n: int, t: int) -> np.ndarray:
        middle = Label("context", GREEN) if t < context else Label(f"dream +{t - context + 1}", AMBER)
        panels = compare(films[n].pictures[t], dreams[n][t], middle)
        clip = Label(f"clip {n + 1}/{clips}", GRAY)
        return frame(panels, caption(films[n], t, clip), scale=COMPARE_SCALE)

    return (draw(n, t) for n, film in enumerate(films) for t in held(film.end))


def until_end(ticks: Iterator[Tick]) -> list[Tick]:
    """The records of the first game."""
    found = []
    for tick in ticks:
        found.append(tick)
        if tick.is_last[0]:
            break
    return found


def cut_clips(ticks: Iterator[Tick], *, start: int, context: int, length: int, clips: int) -> list[list[Tick]]:
    """Passages of `length` records from record `start` on, shorter where the game ends, but longer than the context."""
    found: list[list[Tick]] = []
    passage: list[Tick] = []
    for tick in islice(ticks, start, start + clips * length * TRIES):
        passage.append(tick)
        if len(passage) == length or tick.is_last[0]:
            if len(passage) > context:
                found.append(passage)
            passage = []
        if len(found) == clips:
            return found
    raise UserError(
        f"the agent's games are over within {context} steps, before a dream can begin: take a smaller context"
    )


def as_batch(ticks: list[Tick], device: torch.device) -> Batch:
    """Records of one game as a time-major batch [T, 1, ...] that begins with a zero state."""
    fields = (torch.as_tensor(np.stack(field), device=device) for field in zip(*(t.step for t in ticks), strict=True))
    batch = Batch(*fields)
    batch.is_first[0] = True
    return batch


@torch.no_grad()
def watch(agent: Agent, batch: Batch) -> State:
    """Posterior states [T, 1, ...], like WorldModel.observe, but picture by picture: a game may be very long."""
    state, states = agent.initial(batch.obs.shape[1]), []
    for t in range(len(batch.obs)):
        action = agent.world.one_hot(batch.prev_action[t])
        state, _ = agent.world.rssm.observe_step(state, action, batch.is_first[t], agent.world.encode(batch.obs[t]))
        states.append(state)
    return State(torch.stack([s.h for s in states]), torch.stack([s.z for s in states]))


@torch.no_grad()
def make_film(agent: Agent, names: list[str], ticks: list[Tick], batch: Batch, state: State) -> Film:
    """The passage `ticks` = `batch` [T, 1, ...], with the predictions at its states [T, 1, ...]."""
    feat = state.feat()[:, 0]
    how = agent.world.config.reward_squash
    critic = agent.behavior.critic if isinstance(agent.behavior, PolicyAndValue | Cem) else None
    return Film(
        pictures=batch.obs[:, 0].cpu().numpy(),
        action=["reset" if t.step.is_first[0] else names[t.step.prev_action[0]] for t in ticks],
        reward=batch.reward[:, 0].cpu().numpy(),
        end=[end_of(t) for t in ticks],
        learned_as=LEARNED[how],
        learned_reward=squash(batch.reward[:, 0], how).cpu().numpy(),
        predicted_reward=agent.world.predict_reward(feat).cpu().numpy(),
        predicted_discount=agent.world.predict_discount(feat).cpu().numpy(),
        value=scalar_mean(critic(feat)).cpu().numpy() if critic else None,
    )


@torch.no_grad()
def decode(agent: Agent, state: State) -> np.ndarray:
    """Pictures of states: [T, B, ...] -> uint8 [T, B, H, W, C]."""
    chunks = zip(state.h.split(DECODE_CHUNK), state.z.split(DECODE_CHUNK), strict=True)
    image = torch.cat([agent.world.decode(State(h, z)) for h, z in chunks])
    return ((image + 0.5) * 255).clamp(0, 255).round().byte().movedim(-3, -1).cpu().numpy()


def end_of(tick: Tick) -> str:
    """How the one game of a tick ended with it, if it did."""
    if not tick.is_last[0]:
        return ""
    return "GAME OVER" if tick.step.is_terminal[0] else "TIME LIMIT"


def held(end: list[str]) -> Iterator[int]:
    """0 .. T-1; the end of a game several times, so that it can be read."""
    for t, word in enumerate(end):
        yield from [t] * (1 + HOLD if word else 1)


def compare(real: np.ndarray, other: np.ndarray, middle: Label) -> list[Panel]:
    """Three panels: real, the other, how far they are apart."""
    return [
        Panel(Label("real"), real),
        Panel(middle, other),
        Panel(Label("error (black = none)"), difference(real, other)),
    ]


def caption(film: Film, t: int, *first: Label) -> list[list[Label]]:
    """Three lines: what happened, and what the agent expected of it."""
    reward = film.reward[t]
    happened = [*first, Label(film.action[t]), Label(f"reward {reward:g}", GREEN if reward > 0 else WHITE)]
    happened.append(Label(film.end[t], RED))
    expected = [Label(f"predicted discount {film.predicted_discount[t]:.3f}")]
    if film.value is not None:
        expected.append(Label(f"value {film.value[t]:z.2f}"))
    learned, predicted = film.learned_reward[t], film.predicted_reward[t]
    squashed = Label(f"predicted {film.learned_as} {predicted:z.2f}, real {learned:.2f}")
    return [happened, [squashed], expected]


# --- Files ---


def check_video_path(path: Path) -> None:
    """Raises a UserError where no video can be written to `path`: worth asking before a long recording."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"a video ends in {' or '.join(SUFFIXES)}, not in {path.suffix or 'nothing'}: {path}")
    if path.suffix.lower() == ".mp4" and find_spec("av") is None:
        raise UserError("MP4 needs the package av, which is not installed: record a .gif, or make setup")
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist: create it or choose another file than {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: choose the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"the folder {path.parent} is not writable: choose another file than {path}")


def write_video(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """Frames uint8 [H, W, 3] of one size -> .gif or .mp4. `path` appears complete or not at all."""
    check_video_path(path)
    write = write_gif if path.suffix.lower() == ".gif" else write_mp4
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        write(frames, unfinished, fps)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
