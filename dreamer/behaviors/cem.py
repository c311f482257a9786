"""Planning anew at every step, with nothing learned but the world model: PlaNet (Hafner et al., 2019).

The cross-entropy method: draw plans, dream all of them, believe more in the actions of the best, draw again. PlaNet's
actions are numbers and its belief is a normal; here each step's is a categorical. Of the last belief the first step is
acted on, the rest is forgotten.

PlaNet scores a plan by the plain sum of the rewards that it leads to. Where rewards are never negative such a score
does not see a lost life, unless it costs rewards within the horizon: see behavior.cem_score.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dreamer.behaviors.parts import GradSteps, Mark, choose, describe_policy, make_networks, move_slow_critic, no_mark
from dreamer.chance import seeded
from dreamer.config import BehaviorConfig
from dreamer.equations import critic_loss, gumbel_like, one_hot_mode, plan_return, scalar_mean, window_return
from dreamer.types import Metrics, Start, State
from dreamer.world_model import WorldModel


class Plans(NamedTuple):
    """What came of planning from N states."""

    belief: Tensor  # float32 [H, N, A]  how often each action should be taken
    score: Tensor  # float32 [J, N]  of the plans drawn last


class Cem(nn.Module):
    """A planner. Only with behavior.cem_score value it learns something: a critic of what comes AFTER a state."""

    updates: Tensor | None

    def __init__(self, config: BehaviorConfig, *, feat_size: int, num_actions: int) -> None:
        super().__init__()
        self.config, self.num_actions = config, num_actions
        self.critic: nn.Module | None = None
        self.slow_critic: nn.Module | None = None
        if config.cem_score == "value":
            _, self.critic, self.slow_critic = make_networks(config, feat_size=feat_size, num_actions=num_actions)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64) if self.critic else None)

    def param_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {"critic": self.critic.parameters()} if self.critic else {}

    @torch.no_grad()
    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        """Draws from the first step's belief, or takes its most probable action.

        Without `sample` the same plans are drawn every time. Where all plans are worth the same, they may then say the
        same for ever: a game that waits for its player to serve is better played with `sample`.
        """
        if sample:
            return choose(self.plan(world, state).belief[0].log(), sample=True)
        with seeded(0, state.h.device):
            return choose(self.plan(world, state).belief[0].log(), sample=False)

    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """Plans once from one state, to tell how planning goes; then the critic learns, if there is one."""
        (h, z), seen = start.state, start.replayed
        with torch.no_grad():
            belief, score = self.plan(world, State(h[-1:], z[-1:]))
        mark("behavior")
        metrics = {
            **describe_policy(belief[0].clamp(min=1e-8).log()),  # 0 log 0 is no number
            "imagined_return": score.mean(),
            "imagined_return_std": score.std(),
        }
        if self.critic is None or self.slow_critic is None or self.updates is None:
            return metrics
        assert seen is not None, "the critic learns from windows of the replay, not from single states"
        c, feat = self.config, seen.state.feat()
        with torch.no_grad():
            value = scalar_mean(self.slow_critic(feat))
            target = window_return(
                seen.reward, discount=seen.discount, value=value, is_first=seen.is_first, lambda_=c.return_lambda
            ).where(seen.discount > 0, 0.0)  # nothing comes after an end
        objective = critic_loss(self.critic(feat), target=target, weight=torch.ones_like(target))
        metrics |= {
            "critic_loss": objective.detach(),
            "slow_value": value.mean(),
            "critic_grad": step["critic"](objective),
        }
        move_slow_critic(self.slow_critic, self.critic, updates=self.updates, config=c)
        return metrics

    def plan(self, world: WorldModel, state: State) -> Plans:
        """The cross-entropy method from each state [N, ...], by itself."""
        c = self.config
        belief = state.h.new_full((c.horizon, len(state.h), self.num_actions), 1 / self.num_actions)
        for number in range(c.cem_rounds):
            plans = draw_plans(belief, c.cem_candidates, hold=0.0 if number else c.cem_hold)
            score = self.score(world, state, plans)
            belief = refit(plans, score, elites=c.cem_elites, mix=c.cem_mix)
        return Plans(belief, score)

    def score(self, world: WorldModel, state: State, plans: Tensor) -> Tensor:
        """Dreams each of J plans from each state [N, ...]: one-hot plans [J, H, N, A] -> score [J, N].

        All plans of a state meet the same chance in their dreams, so that they differ by their actions alone.
        """
        start = Start(state, torch.ones_like(state.h[:, 0]))  # whether it is an end is the same for all plans

        def dream(plan: Tensor) -> Tensor:
            actions = iter(plan)
            dreamt = world.imagine(lambda state: next(actions), start, len(plan), self.config.temperature)
            reward, discount = dreamt.reward[1:], dreamt.discount[1:]  # the first ones came with the start
            if self.config.cem_score == "sum":
                return reward.sum(0)
            if self.slow_critic is None:
                return plan_return(reward, discount=discount)
            last = State(dreamt.state.h[-1], dreamt.state.z[-1])
            return plan_return(reward, discount=discount, value=scalar_mean(self.slow_critic(last.feat())))

        score: Tensor = torch.vmap(dream, randomness="same")(plans)
        return score


def draw_plans(belief: Tensor, count: int, *, hold: float) -> Tensor:
    """Plans, each step drawn by itself: belief [H, N, A] -> one-hot float32 [count, H, N, A].

    hold: how often the action before is repeated instead. Of independent uniform steps a paddle goes nowhere.
    """
    logits = belief.log().expand(count, *belief.shape)
    drawn = one_hot_mode(logits + gumbel_like(logits))
    if hold == 0:
        return drawn
    steps = list(drawn.unbind(1))
    for t in range(1, len(steps)):
        again = torch.rand_like(steps[t][..., :1]) < hold
        steps[t] = steps[t - 1].where(again, steps[t])
    return torch.stack(steps, 1)


def refit(plans: Tensor, score: Tensor, *, elites: int, mix: float) -> Tensor:
    """How often the best plans took each action: plans [J, H, N, A], score [J, N] -> belief [H, N, A].

    mix: share of the uniform distribution, or an action that no elite took would never be tried again.
    """
    best = score.topk(elites, dim=0).indices  # [elites, N]
    chosen = plans.gather(0, best[:, None, :, None].expand(-1, plans.shape[1], -1, plans.shape[3]))
    return (1 - mix) * chosen.mean(0) + mix / plans.shape[-1]
