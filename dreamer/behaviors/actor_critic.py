"""Actor and critic learned in imagination (section 2.2 of the paper)."""

from __future__ import annotations

import torch

from dreamer.behaviors.parts import (
    ActorAndCritic,
    GradSteps,
    Mark,
    compare_with_replay,
    describe,
    describe_policy,
    update_return_scale,
)
from dreamer.equations import actor_loss, critic_loss, lambda_return, survival_weight
from dreamer.types import Metrics, Start
from dreamer.world_model import WorldModel


def improve(own: ActorAndCritic, world: WorldModel, start: Start, step: GradSteps, mark: Mark) -> Metrics:
    """Dream, value the dream, improve the actor, then the critic.

    The critic's v(s_i) includes the reward for arriving at s_i. v' bootstraps returns and, as in the official code, is
    the baseline: any value that does not know the action leaves REINFORCE unbiased, but with v an advantage would also
    hold what the critic has learned since v' was copied.
    """
    c = own.config
    # REINFORCE needs no gradient through the dream; keeping its graph would double the cost of an update.
    with torch.set_grad_enabled(c.rho < 1):
        dream, feat, value = own.dream(world, start, mark)
        target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=c.return_lambda)
        weight = survival_weight(dream.discount)
    feat, value = feat.detach(), value.detach()

    #   state   s_0   s_1   ...  s_{H-2}  s_{H-1}  s_H
    #   action     a_0   a_1 ...        a_{H-2}         (the last one leads to s_H, which has no return of its own)
    #   target        G_1  ...          G_{H-1}         an action is judged by the return of the state it reaches
    logits = own.policy(feat[:-2])
    scale = update_return_scale(target, return_range=own.return_range, decay=c.return_scale)
    actor_objective = actor_loss(
        logits,
        action=dream.action[:-1],
        target=target[1:] / scale,
        baseline=value[:-2] / scale,
        weight=weight[:-2],
        rho=c.rho,
        entropy_scale=c.entropy_scale,
    )
    critic_objective = critic_loss(own.critic(feat[:-1]), target=target, weight=weight[:-1])

    return {
        "actor_loss": actor_objective.detach(),
        "critic_loss": critic_objective.detach(),
        **describe_policy(logits),
        "advantage_abs": (target.detach()[1:] - value[:-2]).abs().mean(),
        "return_scale": scale,
        **describe(dream, value=value, target=target, weight=weight),
        **compare_with_replay(start, own.slow_critic, target=target.detach(), lambda_=c.return_lambda),
        "actor_grad": step["actor"](actor_objective),
        "critic_grad": step["critic"](critic_objective),
    }
