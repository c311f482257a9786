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
    scalar_mean,
    straight_through_sample,
    survival_weight,
    unimix,
)
from dreamer.nets import MLP, init_glorot
from dreamer.types import Dream, Metrics, Start, State
from dreamer.world_model import WorldModel


class ActorCritic(nn.Module):
    """Actor, critic v, and the slowly copied target critic v' that bootstraps returns and serves as the baseline."""

    updates: Tensor
    return_range: Tensor

    def __init__(self, config: BehaviorConfig, *, feat_size: int, num_actions: int) -> None:
        super().__init__()
        self.config = config
        layers, units, norm = config.layers, config.units, config.norm
        self.actor = MLP(feat_size, layers=layers, units=units, outputs=num_actions, norm=norm)
        self.critic = MLP(feat_size, layers=layers, units=units, outputs=max(1, config.value_bins), norm=norm)
        init_glorot(self)
        if config.value_bins:
            nn.init.zeros_(self.critic.out.weight)  # no value is expected before it was learned; dreamerv3
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        if config.return_scale:
            self.register_buffer("return_range", torch.zeros(2))  # running 5th and 95th percentile of the returns

    def param_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"actor": self.actor.parameters(), "critic": self.critic.parameters()}

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        logits = self.policy(state.feat())
        return straight_through_sample(logits) if sample else one_hot_mode(logits)

    def policy(self, feat: Tensor) -> Tensor:
        """Logits of the actions: [..., F] -> float32 [..., A]."""
        return unimix(self.actor(feat), self.config.unimix)

    def update(self, world: WorldModel, start: Start, step: Mapping[str, Callable[[Tensor], Tensor]]) -> Metrics:
        """Dream, value the dream, improve the actor, then the critic, then perhaps copy the critic."""
        c = self.config
        # REINFORCE needs no gradient through the dream; keeping its graph would double the cost of an update.
        with torch.set_grad_enabled(c.rho < 1):
            dream = world.imagine(lambda state: self.act(world, state, sample=True), start, c.horizon)
            feat = dream.state.feat()
            value = scalar_mean(self.slow_critic(feat))
            target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=c.return_lambda)
            weight = survival_weight(dream.discount)
        feat, value = feat.detach(), value.detach()

        #   state   s_0   s_1   ...  s_{H-2}  s_{H-1}  s_H
        #   action     a_0   a_1 ...        a_{H-2}         (the last one leads to s_H, which has no return of its own)
        #   target        G_1  ...          G_{H-1}         an action is judged by the return of the state it reaches
        logits = self.policy(feat[:-2])
        scale = self.scale_of_returns(target)
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
            "actor_entropy": entropy(logits.detach()).mean(),
            "return_scale": scale,
            **describe(dream, value=value, target=target, weight=weight),
            "actor_grad": step["actor"](actor_objective),
            "critic_grad": step["critic"](critic_objective),
        }
        self.copy_slow_critic()
        return metrics

    @torch.no_grad()
    def copy_slow_critic(self) -> None:
        """Moves v' to v after updates 0, slow_every, 2 slow_every ...; decided on the device, without asking it."""
        due = self.updates % self.config.slow_every == 0
        way = torch.where(due, self.config.slow_fraction, 0.0)
        for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, way)  # all the way is exactly a copy
        self.updates += 1

    @torch.no_grad()
    def scale_of_returns(self, target: Tensor) -> Tensor:
        """What advantages are divided by, so that one entropy scale fits all games: [H, N] -> []; dreamerv3.

        The running range from the 5th to the 95th percentile, but at least 1: small returns are not blown up to noise.
        """
        if not self.config.return_scale:
            return target.new_ones(())
        now = torch.quantile(target.flatten(), target.new_tensor([0.05, 0.95]))
        self.return_range.lerp_(now, 1 - self.config.return_scale)
        return self.return_range.diff().squeeze().clamp(min=1.0)


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
