"""What a trained world model sees and foresees in games that it was not trained on: `evaluate --world-model`.

A window is CONTEXT real steps and then AHEAD steps of which the model gets the actions alone:

    real     x_0 ... x_15 | x_16 ... x_30        seen:     how the posterior shows x_t, t < CONTEXT
    model    s_0 ... s_15 | dreamt under a_16..  foreseen: how the dream shows x_t after 1, 5, 15 steps

Balls are judged once more where not the policy but chance moves the paddle from x_15 on. To the model an action is
evidence: a policy that sees the ball runs to where it will fall, so its own actions tell the dream where the ball
flies. An actor that learns in dreams tries other ones.

And once more in dreams of the temperature in which the behaviour learned, where that is not 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from actors.config import EnvConfig
from cluster.look.evaluate import device_of, seeded
from cluster.look.windows import CONTEXT, Wandering, play_windows
from dreamer.agent import Agent
from dreamer.equations import scalar_mean, squash
from dreamer.insight import RATIOS, foresee_events, see_what_moves
from dreamer.types import Batch
from dreamer.world_model import scale_pixels

SETTLED = 4  # steps from the zero state after which the posterior is judged: before, nobody can know how the ball flies
LOOKS = (1, 5, 15)  # steps ahead at which the dream is judged
LEAST = 0.1  # of white: what is darker is no ball
# Screen pixels per frame. Breakout's ball has a few speeds: measured in windows of the shipped agent, 45 % fly at 1.41,
# 43 % at 1.80 (with the angle's part), the rest at 2.06 to 4.03, after the fourth or twelfth hit of the paddle.
SPEEDS = {"slow": (0.0, 1.6), "middle": (1.6, 1.95), "fast": (1.95, np.inf)}
KINDS = (*SPEEDS, "random", "temperature")  # of windows, with a row of their own

Report = dict[str, float]


def world_report(agent: Agent, env: EnvConfig, *, windows: int, seed: int) -> Report:
    """Plays as in training (served balls, lives as ends) until `windows` windows are there -> numbers by name.

    Shares are of 0..1, distances in pixels of the observation; a number that nothing happened for is left out. Balls
    ahead also by how fast they fly: `ball_recall_5_ahead_fast`, beside `windows_fast`, the windows that it is of. As
    many windows more are of random actions: `ball_recall_5_ahead_random`. `ball_recall_5_ahead_temperature`: the first
    windows dreamt at `temperature`, that of the behaviour's dreams, where it is not 1.
    """
    with seeded(seed, device_of(agent)):
        played = play_windows(agent, env, windows=windows, seed=seed)
        found = judge(agent, env, played)
        if ball_region(env) is None:
            return found
        others = {"random": judge(agent, env, play_windows(agent, env, windows=windows, seed=seed, through=Wandering))}
        if (temperature := agent.behavior.config.temperature) != 1:
            others["temperature"] = judge(agent, env, played, temperature)
            found["temperature"] = temperature
        for kind, other in others.items():
            found[f"windows_{kind}"] = windows
            found |= {f"{name}_{kind}": other[name] for name in (f"ball_recall_{ahead}_ahead" for ahead in LOOKS)}
        return found


@torch.no_grad()
def judge(agent: Agent, env: EnvConfig, batch: Batch, temperature: float = 1.0) -> Report:
    """The numbers of `world_report` for windows [T, B]; of shorter ones, such as a training batch, half is context."""
    world, image = agent.world, scale_pixels(batch.obs)
    context = min(CONTEXT, len(image) // 2)
    states = world.open_loop(batch, context, temperature)
    shown, feat = world.decode(states), states.feat()
    seen = slice(min(SETTLED, context - 1), context)
    reward = squash(batch.reward, world.config.reward_squash)
    pairs = slice(seen.start - 1, seen.stop)  # what moved shows in two pictures
    sums = see_what_moves(image[pairs], reconstruction=shown[pairs], is_first=batch.is_first[pairs]) | foresee_events(
        reward=reward[seen],
        predicted=scalar_mean(world.reward(feat[seen])),
        is_terminal=batch.is_terminal[seen],
        goes_on=world.predict_discount(feat[seen]) / world.config.gamma,
    )
    found = {name: (sums[a] / sums[b]).item() for name, (a, b) in RATIOS.items() if b in sums and sums[b] > 0}
    flight = ball_region(env)
    if flight is None:
        return found
    lit, dreamt = (pictures[..., flight[0], flight[1]].mean(2) + 0.5 for pictures in (image, shown))
    truth = brightest_spot(lit, least=lit.new_tensor(LEAST))
    dream = brightest_spot(dreamt, least=0.5 * lit.amax((-2, -1)).clamp(min=LEAST))
    found["ball_recall"] = hits(truth, dream, steps=range(seen.start, seen.stop))
    for ahead in (ahead for ahead in LOOKS if context + ahead <= len(image)):
        at = [context + ahead - 1]
        found[f"ball_recall_{ahead}_ahead"] = hits(truth, dream, steps=at)
        if (distance := error(truth, dream, steps=at)) is not None:
            found[f"ball_error_{ahead}_ahead"] = distance
    return found | by_speed(truth, dream, speed=flying_speed(truth, env, context=context), context=context)


# --- Breakout's ball ---


def ball_region(env: EnvConfig) -> tuple[slice, slice] | None:
    """Rows and columns of the observation where in Breakout nothing but the ball is; None in another game.

    On the screen (210 x 160): below the bricks (row 93), above the paddle (row 189), between the walls.
    """
    if "Breakout" not in env.id:
        return None
    top, bottom, left, right = env.crop
    high, wide = 210 - top - bottom, 160 - left - right
    rows = (np.array([93, 189]) - top) / high * env.size
    columns = (np.array([8, 152]) - left) / wide * env.size
    (a, b), (c, d) = ((int(np.ceil(low)), int(np.floor(end))) for low, end in (rows, columns))
    return slice(max(a, 0), b), slice(max(c, 0), d)


def brightest_spot(light: torch.Tensor, *, least: torch.Tensor) -> torch.Tensor:
    """[T, B, h, w] on the scale 0..1 -> float [T, B, 2] row and column; NaN where nothing is brighter than `least`.

    The centre of mass around the brightest pixel: the ball may cover several.
    """
    light = light.clamp(min=0)
    high, wide = light.shape[-2:]
    peak, place = light.flatten(-2).max(-1)
    rows, columns = torch.arange(high, device=light.device), torch.arange(wide, device=light.device)
    near = ((rows[:, None] - (place // wide)[..., None, None]).abs() <= 2) & (
        (columns - (place % wide)[..., None, None]).abs() <= 2
    )
    weight = light * near
    total = weight.sum((-2, -1)).clamp(min=1e-6)
    centre = (
        torch.stack([(weight * rows[:, None]).sum((-2, -1)), (weight * columns).sum((-2, -1))], -1) / total[..., None]
    )
    return centre.where((peak > least)[..., None], torch.nan)


def flying_speed(truth: torch.Tensor, env: EnvConfig, *, context: int) -> torch.Tensor:
    """Balls [T, B, 2] -> [B], how fast each flies where its dream begins, in screen pixels per frame; NaN: not seen.

    The median of the steps from the middle of the context to a few steps into the dream: a bounce does not count.
    """
    top, bottom, left, right = env.crop
    pixel = truth.new_tensor([210 - top - bottom, 160 - left - right]) / env.size  # of the screen, high and wide
    steps = (truth[1:] - truth[:-1])[context // 2 : context + SETTLED]
    return (steps * pixel).norm(dim=-1).nanmedian(0).values / env.frame_skip


def by_speed(truth: torch.Tensor, dream: torch.Tensor, *, speed: torch.Tensor, context: int) -> Report:
    """Balls [T, B, 2] and how fast they fly [B] -> `windows_fast`, `ball_recall_5_ahead_fast` ... where there are any.

    What training sees seldom, the model dreams badly: the mean over all balls hides the fast ones.
    """
    found: Report = {}
    for name, (least, most) in SPEEDS.items():
        mine = (speed >= least) & (speed < most)
        looks = [ahead for ahead in LOOKS if context + ahead <= len(truth)]
        if mine.any():
            found[f"windows_{name}"] = int(mine.sum())
            of_these = truth[:, mine], dream[:, mine]
            found |= {f"ball_recall_{n}_ahead_{name}": hits(*of_these, steps=[context + n - 1]) for n in looks}
    return found


def kinds_table(found: Report) -> list[str]:
    """Balls ahead by kind of window, as lines for a person; none where no ball was seen to fly."""
    labels = {"random": "random actions", "temperature": f"temperature {found.get('temperature', 1):g}"}
    rows = [("balls", "windows", *(f"{ahead} ahead" for ahead in LOOKS))]
    for name in (name for name in KINDS if f"windows_{name}" in found):
        shares = (found.get(f"ball_recall_{ahead}_ahead_{name}") for ahead in LOOKS)
        shown = ("-" if share is None else f"{share:.2f}" for share in shares)
        rows.append((labels.get(name, name), f"{found[f'windows_{name}']:g}", *shown))
    return [f"  {first:22}" + "".join(f"{cell:>10}" for cell in rest) for first, *rest in rows] if rows[1:] else []


def hits(truth: torch.Tensor, dream: torch.Tensor, *, steps: Iterable[int]) -> float:
    """Of the steps that show a ball, the share where the model shows one within 2 pixels, half as bright at least."""
    at = list(steps)
    there = ~truth[at].isnan().any(-1)
    near = (dream[at] - truth[at]).norm(dim=-1) <= 2  # false where the model shows none
    return (near & there).sum().item() / max(1, there.sum().item())


def error(truth: torch.Tensor, dream: torch.Tensor, *, steps: Iterable[int]) -> float | None:
    """Mean distance in pixels where both show a ball; None where that never happens."""
    at = list(steps)
    distance = (dream[at] - truth[at]).norm(dim=-1)
    known = distance[~distance.isnan()]
    return known.mean().item() if len(known) else None
