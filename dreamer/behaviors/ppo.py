"""Proximal policy optimisation in imagination: several small steps on one dream. The blog's way to learn a policy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamer.behaviors.parts import (
    ActorAndCritic,
    GradSteps,
    Mark,
    compare_with_replay,
    describe,
    describe_policy,
    update_return_scale,
)
from dreamer.equations import critic_loss, lambda_return, log_prob, ppo_loss, scalar_mean, survival_weight
from dreamer.types import Metrics, Start
from dreamer.world_model import WorldModel


class Transitions(NamedTuple):
    """Imagined actions and what came of them, [H, N, ...] or a minibatch [M, ...]; nothing has a graph."""

    feat: Tensor  # [..., F]  of the state that was left
    action: Tensor  # float32 [..., A]  one-hot
    log_prob: Tensor  # float32 [...]  of the action, by the policy that dreamt
    target: Tensor  # float32 [...]  return of what came after the state
    weight: Tensor  # float32 [...]  probability that anything did


def improve(own: ActorAndCritic, world: WorldModel, start: Start, step: GradSteps, mark: Mark) -> Metrics:
    """Dream, value the dream, improve actor and critic on minibatches of it.

    The critic's v(s_i) is of what comes AFTER s_i, unlike that of actor_critic.py; so every action has a return, the
    last one too, and the advantage is taken over the critic of now, which has seen the minibatches before.
    """
    c = own.config
    #   state             s_0     s_1   ...   s_{H-1}     s_H
    #   action                a_0     a_1 ...     a_{H-1}
    #   reward, discount       1       2    ...        H       of the state that is reached
    #   target            G_0     G_1   ...   G_{H-1}   v'_H   G_i = r_{i+1} + d_{i+1} * (...)
    #   weight             d_0  d_0 d_1 ...                    after an end nothing comes
    with torch.no_grad():
        dream, feat, value = own.dream(world, start, mark)
        target = lambda_return(dream.reward[1:], discount=dream.discount[1:], value=value, lambda_=c.return_lambda)
        weight = survival_weight(dream.discount)[1:]
        log_probs = log_prob(own.policy(feat[:-1]), dream.action)
    scale = update_return_scale(target, return_range=own.return_range, decay=c.return_scale)

    dreamt = Transitions(feat[:-1], dream.action, log_probs, target, weight)
    reports = [
        improve_on(own, batch, scale, step) for batch in minibatches(dreamt, count=c.ppo_minibatches, size=c.ppo_batch)
    ]
    metrics = {name: torch.stack([report[name] for report in reports]).mean() for name in reports[0]}
    told = compare_with_replay(start, own.slow_critic, target=target, lambda_=c.return_lambda, skip=1)
    return metrics | {"return_scale": scale} | describe(dream, value=value, target=target, weight=weight) | told


def improve_on(own: ActorAndCritic, batch: Transitions, scale: Tensor, step: GradSteps) -> Metrics:
    """One step of the actor and one of the critic on a minibatch [M, ...]; scale [] as in `update_return_scale`."""
    c = own.config
    logits, out = own.policy(batch.feat), own.critic(batch.feat)
    advantage = batch.target - scalar_mean(out.detach())
    actor_objective = ppo_loss(
        logits,
        action=batch.action,
        old_log_prob=batch.log_prob,
        advantage=advantage / scale,
        weight=batch.weight,
        clip=c.ppo_clip,
        entropy_scale=c.entropy_scale,
    )
    critic_objective = critic_loss(out, target=batch.target, weight=batch.weight)
    moved = (log_prob(logits.detach(), batch.action) - batch.log_prob).exp() - 1
    return {
        "actor_loss": actor_objective.detach(),
        "critic_loss": critic_objective.detach(),
        **describe_policy(logits),
        "advantage_abs": advantage.abs().mean(),
        "ppo_clipped": (moved.abs() > c.ppo_clip).float().mean(),
        "actor_grad": step["actor"](actor_objective),
        "critic_grad": step["critic"](critic_objective),
    }


def minibatches(dreamt: Transitions, *, count: int, size: int) -> list[Transitions]:
    """Random minibatches [M=size, ...] of all the transitions of a dream [H, N, ...].

    Drawn on the device and with replacement: the blog's 10 * 512 are more than its 3,200 transitions anyway.
    """
    flat = Transitions(*(field.flatten(0, 1) for field in dreamt))
    drawn = torch.randint(len(flat.target), (count, size), device=flat.target.device)
    return [Transitions(*(field[rows] for field in flat)) for rows in drawn]
