"""Where lives are lost: the share that ends before the next reward, by rewards already had in that life.

In Breakout a reward is a brick, and the ball flies faster after the fourth and the twelfth hit of the paddle: a jump of
the share at 4 says that the agent cannot play the faster ball yet, one at 0 that it does not play some serve at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from actors.episodes import EpisodeReport

WATCHED = (0, 4)  # rewards: the serve, and Breakout's first faster ball
FEW = 8  # lives of which a share would say nothing


class Hazard(NamedTuple):
    """What became of the lives that got so far."""

    rewards: int  # had in this life: steps with a positive reward, whatever its size
    lives: int  # that had as many
    lost: float  # share of these that was lost before the next one; a life that a limit ended was not lost


def hazards(games: Iterable[EpisodeReport]) -> list[Hazard]:
    """One for every number of rewards that some life had, from 0 on; of no games none."""
    ends = [(won, n < game.lost) for game in games for n, won in enumerate(game.lives)]
    found = []
    for rewards in range(max((won + 1 for won, _ in ends), default=0)):
        there = sum(won >= rewards for won, _ in ends)
        found.append(Hazard(rewards, there, sum(won == rewards and lost for won, lost in ends) / there))
    return found


def watched(games: Iterable[EpisodeReport]) -> dict[int, float | None]:
    """The share lost at each of WATCHED; None where no life got so far."""
    shares = {one.rewards: one.lost for one in hazards(games)}
    return {rewards: shares.get(rewards) for rewards in WATCHED}


def table(found: Sequence[Hazard]) -> list[str]:
    """Lines for a person: as far as at least FEW lives got."""
    shown = [one for one in found if one.lives >= FEW]
    columns = [("rewards had in this life", "lives", "lost before the next")]
    columns += [(f"{one.rewards}", f"{one.lives}", f"{one.lost:.2f}") for one in shown]
    return [f"  {a:>24} {b:>7} {c:>21}" for a, b, c in columns] if shown else []
