"""Five classic mistakes, each made on purpose in an otherwise whole system, to see that it learns no longer.

    python -m tests.cluster.broken GAME MISTAKE RUN_DIR SEED UPDATES

trains one run with that mistake ("none": without), lets it play with the same mistake, and writes result.json.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dreamer.behaviors.actor_critic as actor_critic
import dreamer.equations as equations
import dreamer.rssm as rssm
import dreamer.world_model as world_model
from cluster.cli import main
from dreamer.rssm import RSSM
from dreamer.types import Batch, State, Unroll
from dreamer.world_model import WorldLoss, WorldModel
from tests.cluster.catching import CATCH, CATCH_ONE, Game, play, train_options

kl_balancing, straight_through_sample = equations.kl_balancing, equations.straight_through_sample
lambda_return, actor_loss = equations.lambda_return, equations.actor_loss
update_return_scale = actor_critic.update_return_scale
world_loss, observe_step, fast_observe = WorldModel.loss, RSSM.observe_step, world_model.fast_observe


def nothing() -> None:
    """The algorithm as it is."""


def swap_kl() -> None:
    """Prior and posterior change places: KL(prior || post), whose larger share then trains the posterior."""

    def swapped(*, post: Tensor, prior: Tensor, **others: Any) -> Tensor:
        return kl_balancing(post=prior, prior=post, **others)

    rssm.kl_balancing = swapped


def shift_action() -> None:
    """The model is trained with the action chosen at a picture in the place of the one that led to it."""

    def loss(self: WorldModel, batch: Batch) -> WorldLoss:
        action = torch.cat([batch.prev_action[1:], batch.prev_action[-1:]])
        return world_loss(self, batch._replace(prev_action=action))

    WorldModel.loss = loss


def cut_straight_through() -> None:
    """Draws of z without gradient: neither picture nor reward reaches the posterior and the encoder."""

    def cut(logits: Tensor, noise: Tensor | None = None) -> Tensor:
        return straight_through_sample(logits.detach(), noise)

    equations.straight_through_sample = cut


def shift_baseline() -> None:
    """An action is judged against the value of the state it led to, which knows already how good it was."""
    value: list[Tensor] = []
    scale: list[Tensor] = []

    def keep_value(reward: Tensor, **others: Tensor) -> Tensor:
        value[:] = [others["value"]]
        return lambda_return(reward, **others)

    def keep_scale(target: Tensor, *, return_range: Tensor | None, decay: float) -> Tensor:
        scale[:] = [update_return_scale(target, return_range=return_range, decay=decay)]
        return scale[0]

    def shifted(logits: Tensor, *, baseline: Tensor, **others: Tensor) -> Tensor:
        assert torch.equal(baseline, value[0][:-2] / scale[0])  # what is replaced is what is meant
        return actor_loss(logits, baseline=value[0][1:-1] / scale[0], **others)

    actor_critic.update_return_scale = keep_scale
    actor_critic.lambda_return, actor_critic.actor_loss = keep_value, shifted


def mask_nothing() -> None:
    """A new game begins with the state and the action that ended the one before."""

    def step(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor) -> tuple[State, Tensor]:
        return observe_step(self, prev, prev_action, torch.zeros_like(is_first), embed)

    def observe(model: RSSM, embed: Tensor, prev_action: Tensor, is_first: Tensor, prev: State | None = None) -> Unroll:
        return fast_observe(model, embed, prev_action, torch.zeros_like(is_first), prev)

    RSSM.observe_step, world_model.fast_observe = step, observe


MISTAKES: dict[str, Callable[[], None]] = {
    "none": nothing,
    "KL arguments swapped": swap_kl,
    "action off by one": shift_action,
    "no straight-through gradient": cut_straight_through,
    "baseline of the next state": shift_baseline,
    "is_first not masked": mask_nothing,
}


GAMES = {game.id: game for game in (CATCH, CATCH_ONE)}


def run(game: Game, mistake: str, folder: Path, seed: int, updates: int) -> int:
    """Trains and plays; returns the exit code."""
    MISTAKES[mistake]()
    began = time.monotonic()
    code = main(train_options(game, folder, seed, "--runtime", "inline", "--updates", str(updates)))
    if code == 0:
        result = {
            "game": game.id,
            "mistake": mistake,
            "seed": seed,
            "updates": updates,
            "seconds": time.monotonic() - began,
            "scores": play(game, folder).scores,
        }
        (folder / "result.json").write_text(json.dumps(result) + "\n")
    return code


if __name__ == "__main__":
    what, name, where, number, budget = sys.argv[1:]
    sys.exit(run(GAMES[what], name, Path(where), int(number), int(budget)))
