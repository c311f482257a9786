"""Actor and critic learned in imagination (section 2.2 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dreamer.behaviors.parts import (
    GradSteps,
    Mark,
    choose,
    compare_with_replay,
    describe,
    describe_policy,
    make_networks,
    move_slow_critic,
    no_mark,
    scale_of_returns,
)
from dreamer.config import BehaviorConfig
from dreamer.equations import (
    actor_loss,
    critic_loss,
    lambda_return,
    scalar_mean,
    survival_weight,
    unimix,
)
from dreamer.types import Metrics, Start, State
from dreamer.world_model import WorldModel


class ActorCritic(nn.Module):
    """Actor, critic v, and the slowly copied target critic v' that bootstraps returns and serves as the baseline."""

    updates: Tensor
    return_range: Tensor | None

    def __init__(self, config: BehaviorConfig, *, feat_size: int, num_actions: int) -> None:
        super().__init__()
        self.config = config
        networks = make_networks(config, feat_size=feat_size, num_actions=num_actions)
        self.actor, self.critic, self.slow_critic = networks
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # Running 5th and 95th percentile of the returns.
        self.register_buffer("return_range", torch.zeros(2) if config.return_scale else None)

    def param_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"actor": self.actor.parameters(), "critic": self.critic.parameters()}

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        return choose(self.policy(state.feat()), sample=sample)

    def policy(self, feat: Tensor) -> Tensor:
        """Logits of the actions: [..., F] -> float32 [..., A]."""
        return unimix(self.actor(feat), self.config.unimix)

    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """Dream, value the dream, improve the actor, then the critic, then perhaps copy the critic."""
        c = self.config
        # REINFORCE needs no gradient through the dream; keeping its graph would double the cost of an update.
        with torch.set_grad_enabled(c.rho < 1):
            dream = world.imagine(lambda state: self.act(world, state, sample=True), start, c.horizon)
            mark("behavior")
            feat = dream.state.feat()
            value = scalar_mean(self.slow_critic(feat))
            target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=c.return_lambda)
            weight = survival_weight(dream.discount)
        feat, value = feat.detach(), value.detach()

        #   state   s_0   s_1   ...  s_{H-2}  s_{H-1}  s_H
        #   action     a_0   a_1 ...        a_{H-2}         (the last one leads to s_H, which has no return of its own)
        #   target        G_1  ...          G_{H-1}         an action is judged by the return of the state it reaches
        logits = self.policy(feat[:-2])
        scale = scale_of_returns(target, return_range=self.return_range, decay=c.return_scale)
        actor_objective = actor_loss(
            logits,
            action=dream.action[:-1],
            target=target[1:] / scale,
            baseline=value[:-2] / scale,
            weight=weight[:-2],
            rho=c.rho,
            entropy_scale=c.entropy_scale,
        )
        critic_objective = critic_loss(self.critic(feat[:-1]), target=target, weight=weight[:-1])

        metrics = {
            "actor_loss": actor_objective.detach(),
            "critic_loss": critic_objective.detach(),
            **describe_policy(logits),
            "advantage_abs": (target.detach()[1:] - value[:-2]).abs().mean(),
            "return_scale": scale,
            **describe(dream, value=value, target=target, weight=weight),
            **compare_with_replay(start, value=value, target=target.detach(), lambda_=c.return_lambda),
            "actor_grad": step["actor"](actor_objective),
            "critic_grad": step["critic"](critic_objective),
        }
        move_slow_critic(self.slow_critic, self.critic, updates=self.updates, config=c)
        return metrics
