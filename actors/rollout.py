"""Playing: games and policy in one loop that yields what happened and does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from actors.episodes import EpisodeReport, Episodes
from actors.exploration import Explorer
from actors.interface import AnyGames
from dreamer.agent import Agent
from dreamer.types import State
from replay.experience import NO_STATE, PrevState, Step


class Tick(NamedTuple):
    """One record of every game."""

    step: Step  # fields [E, ...]
    is_last: np.ndarray  # bool [E]  the game ended with this record
    played: int  # policy steps in it: records that are not resets
    policy_version: int  # of the policy that chose the actions leading here; -1 = random play
    episodes: list[EpisodeReport]
    prev: PrevState = NO_STATE  # fields [E, ...]: the state in which the policy met it; without `states` of no size


def play(
    games: AnyGames,
    agent: Agent,
    *,
    refresh: Callable[[], int],
    sample: bool = True,
    explorer: Explorer | None = None,
    states: bool = False,
    rng: np.random.Generator,
) -> Iterator[Tick]:
    """Plays E games for ever.

    `refresh` brings the agent's weights up to date as it sees fit and returns their version, or -1 while there are
    none: then actions are drawn uniformly from `rng`. `sample=False` takes the most probable action instead of a draw.
    `explorer` does something random now and then instead of what the policy says; None = never.
    With `states` every tick says in which state the policy met it: the zero state while play is random, and what the
    game before left behind where a game begins.

    A game that ended is reset by the next tick, whose record of it is a reset: action 0, reward 0, is_first.

    When a tick is yielded the next actions have been chosen, so weights that the consumer brings act from the tick
    after the next one on. Games in other processes play while it works. With the policy on a GPU it is the other way
    round: first the consumer gives the GPU its work, which goes on while the games play and is not waited for.
    """
    device = next(agent.parameters()).device
    on_gpu = device.type == "cuda"
    state = agent.initial(games.num)
    prev = keep(state, states=states)
    arrived = games.reset()
    running = Episodes(games.num)
    version = -1
    while True:
        step, is_last = arrived.step, arrived.is_last
        led_here, version = version, refresh()
        if version < 0:
            drawn = torch.from_numpy(rng.integers(games.spec.num_actions, size=games.num))
        else:
            inputs = (torch.as_tensor(x, device=device) for x in (step.obs, step.prev_action, step.is_first))
            drawn, state = agent.policy_step(state, *inputs, sample=sample)
            if explorer:
                drawn = explorer(drawn)
        met, prev = prev(), keep(state, states=states)
        actions = fetch(drawn)
        if not on_gpu:
            games.send(actions())
        episodes = running.take(arrived, policy_version=led_here)
        yield Tick(step, is_last, int((~step.is_first).sum()), led_here, episodes, met)
        if on_gpu:
            games.send(actions())
        arrived = games.receive()


def keep(state: State, *, states: bool) -> Callable[[], PrevState]:
    """Starts the way of a state [E, ...] to the host, packed for storing; nothing [E, 0] if states are not wanted."""
    if not states:
        nothing = PrevState(np.zeros((len(state.h), 0), np.float16), np.zeros((len(state.h), 0), np.uint8))
        return lambda: nothing
    h, z = map(fetch, state.pack())
    return lambda: PrevState(h(), z())


def fetch(tensor: Tensor) -> Callable[[], np.ndarray]:
    """Starts a tensor's way to the host; the result waits for it, and not for work that the device was given later."""
    on_host = tensor.to("cpu", non_blocking=True)
    if not tensor.is_cuda:
        return on_host.numpy
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> np.ndarray:
        copied.synchronize()
        return on_host.numpy()

    return wait
