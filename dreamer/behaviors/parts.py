"""What behaviours with actor and critic have in common: networks, dream, choice, target critic, scale, means."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from dreamer.config import BehaviorConfig
from dreamer.equations import entropy, lambda_return, one_hot_mode, scalar_mean, straight_through_sample, unimix
from dreamer.nets import MLP, init_glorot
from dreamer.types import Dream, Metrics, Start, State
from dreamer.world_model import WorldModel

# Called as each part of an update begins, with the part's name: whoever measures learns where the time goes.
Mark = Callable[[str], None]
GradSteps = Mapping[str, Callable[[Tensor], Tensor]]  # group name -> (loss -> gradient norm); updates that group alone


def no_mark(phase: str) -> None:
    """Does nothing: the time of the parts is not measured."""


class Dreamt(NamedTuple):
    """A dream and what its states are worth."""

    dream: Dream
    feat: Tensor  # [H+1, N, F]
    value: Tensor  # float32 [H+1, N]  v' of the states


class PolicyAndValue(nn.Module):
    """Actor, critic v, and the slowly copied target critic v'; how they are improved, a subclass says."""

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

    def policy(self, feat: Tensor) -> Tensor:
        """Logits of the actions: [..., F] -> float32 [..., A]."""
        return unimix(self.actor(feat), self.config.unimix)


class ActorAndCritic(PolicyAndValue):
    """They act by the actor; `improve` says how a dream makes them better."""

    def __init__(self, config: BehaviorConfig, improve: Improve, *, feat_size: int, num_actions: int) -> None:
        super().__init__(config, feat_size=feat_size, num_actions=num_actions)
        self._improve = improve

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        return choose(self.policy(state.feat()), sample=sample)

    def dream(self, world: WorldModel, start: Start, mark: Mark) -> Dreamt:
        """What comes of this policy. `mark("behavior")` after the dream."""
        c = self.config
        dream = world.imagine(lambda state: self.act(world, state, sample=True), start, c.horizon, c.temperature)
        mark("behavior")
        feat = dream.state.feat()
        return Dreamt(dream, feat, scalar_mean(self.slow_critic(feat)))

    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """Improves actor and critic by a dream, then perhaps copies the critic."""
        metrics = self._improve(self, world, start, step, mark)
        move_slow_critic(self.slow_critic, self.critic, updates=self.updates, config=self.config)
        return metrics


Improve: TypeAlias = Callable[[ActorAndCritic, WorldModel, Start, GradSteps, Mark], Metrics]


class Networks(NamedTuple):
    """Maps from features [..., F]."""

    actor: MLP  # -> logits of the actions [..., A]
    critic: MLP  # v -> [..., 1] or two-hot logits [..., bins]
    slow_critic: MLP  # v', the target critic: a copy that no gradient trains


def make_networks(config: BehaviorConfig, *, feat_size: int, num_actions: int) -> Networks:
    """New networks for features of `feat_size` numbers."""
    layers, units, norm = config.layers, config.units, config.norm
    actor = MLP(feat_size, layers=layers, units=units, outputs=num_actions, norm=norm)
    critic = MLP(feat_size, layers=layers, units=units, outputs=max(1, config.value_bins), norm=norm)
    for network in (actor, critic):
        init_glorot(network)
    if config.value_bins:
        nn.init.zeros_(critic.out.weight)  # no value is expected before it was learned; dreamerv3
    return Networks(actor, critic, copy.deepcopy(critic).requires_grad_(False))


def choose(logits: Tensor, *, sample: bool) -> Tensor:
    """Logits [..., A] -> one-hot action [..., A], drawn or (sample=False) the most probable one."""
    return straight_through_sample(logits) if sample else one_hot_mode(logits)


@torch.no_grad()
def move_slow_critic(slow_critic: nn.Module, critic: nn.Module, *, updates: Tensor, config: BehaviorConfig) -> None:
    """Moves v' to v after updates 0, slow_every, 2 slow_every ...; counts `updates` int64 [] up.

    Decided on the device, without asking it.
    """
    due = updates % config.slow_every == 0
    way = torch.where(due, config.slow_fraction, 0.0)
    for slow, fast in zip(slow_critic.parameters(), critic.parameters(), strict=True):
        slow.lerp_(fast, way)  # all the way is exactly a copy
    updates += 1


@torch.no_grad()
def update_return_scale(target: Tensor, *, return_range: Tensor | None, decay: float) -> Tensor:
    """Moves `return_range` on, in place, and returns what advantages are divided by: [H, N] -> []; dreamerv3.

    Divided by it, one entropy scale fits all games. `return_range` [2] is the running 5th and 95th percentile of the
    returns; the scale is the way from one to the other, but at least 1: small returns are not blown up to noise. None:
    the scale is 1.
    """
    if return_range is None:
        return target.new_ones(())
    # One by one: a tensor of both shares would be made on the host, and a device that works ahead would wait for it.
    now = torch.stack([torch.quantile(target.flatten(), share) for share in (0.05, 0.95)])
    now = torch.where(now.isfinite(), now, return_range)  # one bad dream must not spoil it for ever
    return_range.lerp_(now, 1 - decay)
    return return_range.diff().squeeze().clamp(min=1.0)


@torch.no_grad()
def describe(dream: Dream, *, value: Tensor, target: Tensor, weight: Tensor) -> Metrics:
    """Means that tell how the dreams go; value [H+1, N] of the target critic, target and weight [.., N]."""
    return {
        "imagined_reward": dream.reward.mean(),
        "imagined_discount": dream.discount.mean(),
        "imagined_weight": weight.mean(),
        "imagined_return": target.mean(),
        "imagined_return_std": target.std(),
        "slow_value": value.mean(),
    }


@torch.no_grad()
def describe_policy(logits: Tensor) -> Metrics:
    """How much is left to chance: entropy of the policy [..., A], and its share of what it could be at most."""
    mean = entropy(logits).mean()
    return {"actor_entropy": mean, "actor_entropy_share": mean / math.log(max(2, logits.shape[-1]))}


@torch.no_grad()
def compare_with_replay(
    start: Start, critic: Callable[[Tensor], Tensor], *, target: Tensor, lambda_: float, skip: int = 0
) -> Metrics:
    """Dreams beside what really came after the same states, by the same return (Eq. 4): means that add up over batches.

    critic: of v', features [..., F] to its output; target [H, N]. Real rewards go on to the end of the window [T, B],
    where the critic says the rest. skip: 1 where a return is of what comes AFTER a state (see lambda_return). {} where
    the real rewards are not known. A critic explains 1 - var(return - value) / var(return) of the returns.
    """
    if start.replayed is None:
        return {}
    state, discount, reward = start.replayed[:3]
    now = scalar_mean(critic(state.feat()))
    real = lambda_return(reward[skip:], discount=discount[skip:], value=now, lambda_=lambda_)
    spread, missed = (x.var(correction=0) for x in (real, real - now[:-1]))
    of_starts = real[start.every - 1 :: start.every]
    dreamt = target[0].view(-1, reward.shape[1])[: len(of_starts)]  # the last state has no real return
    return {
        "start_return": dreamt.mean(),
        "replay_return": of_starts.mean(),
        "replay_return_spread": spread,
        "replay_return_explained": spread - missed,
    }
