"""Actor and critic learned in imagination (section 2.2 of the paper)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from dreamer.config import BehaviorConfig
from dreamer.equations import (
    actor_loss,
    critic_loss,
    entropy,
    lambda_return,
    one_hot_mode,
    straight_through_sample,
    survival_weight,
)
from dreamer.nets import MLP, init_glorot
from dreamer.types import Dream, Metrics, Start, State
from dreamer.world_model import WorldModel


class ActorCritic(nn.Module):
    """Actor, critic v, and the slowly copied target critic v' that bootstraps returns and serves as the baseline."""

    updates: Tensor

    def __init__(self, config: BehaviorConfig, *, feat_size: int, num_actions: int) -> None:
        super().__init__()
        self.config = config
        self.actor = MLP(feat_size, layers=config.layers, units=config.units, outputs=num_actions)
        self.critic = MLP(feat_size, layers=config.layers, units=config.units, outputs=1)
        init_glorot(self)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def param_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"actor": self.actor.parameters(), "critic": self.critic.parameters()}

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        logits = self.actor(state.feat())
        return straight_through_sample(logits) if sample else one_hot_mode(logits)

    def update(self, world: WorldModel, start: Start, step: Mapping[str, Callable[[Tensor], Tensor]]) -> Metrics:
        """Dream, value the dream, improve the actor, then the critic, then perhaps copy the critic."""
        c = self.config
        # REINFORCE needs no gradient through the dream; keeping its graph would double the cost of an update.
        with torch.set_grad_enabled(c.rho < 1):
            dream = world.imagine(lambda state: self.act(world, state, sample=True), start, c.horizon)
            feat = dream.state.feat()
            value = self.slow_critic(feat).squeeze(-1)
            target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=c.return_lambda)
            weight = survival_weight(dream.discount)
        feat, value = feat.detach(), value.detach()

        #   state   s_0   s_1   ...  s_{H-2}  s_{H-1}  s_H
        #   action     a_0   a_1 ...        a_{H-2}         (the last one leads to s_H, which has no return of its own)
        #   target        G_1  ...          G_{H-1}         an action is judged by the return of the state it reaches
        logits = self.actor(feat[:-2])
        actor_objective = actor_loss(
            logits,
            action=dream.action[:-1],
            target=target[1:],
            baseline=value[:-2],
            weight=weight[:-2],
            rho=c.rho,
            entropy_scale=c.entropy_scale,
        )
        critic_value = self.critic(feat[:-1]).squeeze(-1)
        critic_objective = critic_loss(critic_value, target=target, weight=weight[:-1])

        metrics = {
            "actor_loss": actor_objective.detach(),
            "critic_loss": critic_objective.detach(),
            "actor_entropy": entropy(logits.detach()).mean(),
            **describe(dream, value=value, target=target, weight=weight),
            "actor_grad": step["actor"](actor_objective),
            "critic_grad": step["critic"](critic_objective),
        }
        self.copy_slow_critic()
        return metrics

    @torch.no_grad()
    def copy_slow_critic(self) -> None:
        """v' <- v after updates 0, slow_every, 2 slow_every ...; decided on the device, without asking it."""
        due = self.updates % self.config.slow_every == 0
        for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
            slow.copy_(torch.where(due, fast, slow))
        self.updates += 1


@torch.no_grad()
def describe(dream: Dream, *, value: Tensor, target: Tensor, weight: Tensor) -> Metrics:
    """Means that tell how the dreams go."""
    return {
        "imagined_reward": dream.reward.mean(),
        "imagined_discount": dream.discount.mean(),
        "imagined_weight": weight.mean(),
        "imagined_return": target.mean(),
        "imagined_return_std": target.std(),
        "slow_value": value.mean(),
        "advantage_abs": (target[1:] - value[:-2]).abs().mean(),
    }
