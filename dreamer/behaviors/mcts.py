"""Actor and critic learned from a search in the world model, after MuZero (Schrittwieser et al., 2020).

At every state of the replay a small search says which actions are better than the actor thinks and what the state is
worth; the two networks learn that. The tree is Gumbel MuZero's (dreamer/search.py), which improves the policy however
few simulations there are. Unlike MuZero's, the model is learned from pictures and rewards alone: nothing that is
learned here changes it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamer.behaviors.parts import (
    GradSteps,
    Mark,
    PolicyAndValue,
    choose,
    compare_with_replay,
    describe_policy,
    move_slow_critic,
    no_mark,
    update_return_scale,
)
from dreamer.chance import seeded
from dreamer.equations import critic_loss, entropy, gumbel_like, log_prob, scalar_mean, window_return
from dreamer.search import Found, Node, search
from dreamer.types import Metrics, Replayed, Start, State
from dreamer.world_model import WorldModel, weights_cast_once


class Lessons(NamedTuple):
    """What the networks learn of the states of a batch and of those that the model expects after them; no graph."""

    feat: Tensor  # [L, F]
    policy: Tensor  # [L, A]  the improved one
    target: Tensor  # [L]  return of what comes after the state
    weight: Tensor  # [L]  1, or 0 where another game has begun
    alive: Tensor  # [L]  likewise; and 0 where the game has ended, for there is nothing left to choose


class Mcts(PolicyAndValue):
    """Its critic's v is of what comes AFTER a state; it searches with the target critic v'."""

    @torch.no_grad()
    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        """What the actor says, or with behavior.search_acting what a search finds.

        Without `sample` the search's own chance, that of the latents, is the same every time.
        """
        if self.config.search_acting == 0:
            return choose(self.policy(state.feat()), sample=sample)
        if sample:
            return self.search(world, state, self.config.search_acting, noise=True).action
        with seeded(0, state.h.device):
            return self.search(world, state, self.config.search_acting, noise=False).action

    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """Searches at every state of the batch, and brings actor and critic nearer to what was found."""
        c, seen = self.config, start.replayed
        assert seen is not None, "mcts learns from windows of the replay, not from single states"
        with torch.no_grad(), weights_cast_once():
            found = self.search(world, seen.state.flatten(), c.search_learning, noise=True)
            policy, value = found.policy, (found.policy * found.value).sum(-1).view_as(seen.reward)
            lessons = self.lessons(world, seen, policy=policy.view(*value.shape, -1), value=value)
        mark("behavior")
        scale = update_return_scale(value, return_range=self.return_range, decay=c.return_scale)
        logits = self.policy(lessons.feat)
        actor_objective = -(
            lessons.alive * (log_prob(logits, lessons.policy) + c.entropy_scale * entropy(logits))
        ).mean()
        out = self.critic(lessons.feat)
        critic_objective = critic_loss(out, target=lessons.target, weight=lessons.weight)
        of_starts = value[start.every - 1 :: start.every].flatten()[None]
        told = compare_with_replay(start, self.slow_critic, target=of_starts, lambda_=c.return_lambda, skip=1)
        metrics = {
            "actor_loss": actor_objective.detach(),
            "critic_loss": critic_objective.detach(),
            **describe_policy(logits),
            "advantage_abs": (found.value - value.flatten()[:, None]).abs().mean(),
            "return_scale": scale,
            "imagined_reward": found.tree.reward[:, 1:].mean(),
            "imagined_discount": found.tree.discount[:, 1:].mean(),
            "imagined_weight": lessons.weight.mean(),
            "imagined_return": value.mean(),
            "imagined_return_std": value.std(),
            "slow_value": found.tree.raw[:, 0].mean(),
            **told,
            "actor_grad": step["actor"](actor_objective),
            "critic_grad": step["critic"](critic_objective),
        }
        move_slow_critic(self.slow_critic, self.critic, updates=self.updates, config=c)
        return metrics

    def search(self, world: WorldModel, state: State, simulations: int, *, noise: bool) -> Found:
        """A search from each state [N, ...]. noise: among equals chance decides which actions are tried."""

        def look(state: State, feat: Tensor, reward: Tensor, discount: Tensor) -> Node:
            return Node(state, self.policy(feat), scalar_mean(self.slow_critic(feat)), reward, discount)

        def expand(state: State, action: Tensor) -> Node:
            state = world.rssm.imagine_step(state, action, self.config.temperature)
            feat = state.feat()
            return look(state, feat, world.predict_reward(feat), world.predict_discount(feat))

        nothing = state.h.new_zeros(len(state.h))
        root = look(state, state.feat(), nothing, nothing)  # of a root, how it was reached is of no interest
        gumbel = gumbel_like(root.logits) if noise else torch.zeros_like(root.logits)
        return search(expand, root, simulations=simulations, gumbel=gumbel, scale=self.scale())

    def scale(self) -> Tensor:
        """What differences of value are divided by: [], the running range of values, at least 1.

        Not the range of each node's own, as in mctx: far from the ball all actions are worth the same, and what little
        they differ by would be blown up until it ruled the policy.
        """
        if self.return_range is None:
            return self.updates.new_ones((), dtype=torch.float32)
        return self.return_range.diff().squeeze().clamp(min=1.0)

    def lessons(self, world: WorldModel, seen: Replayed, *, policy: Tensor, value: Tensor) -> Lessons:
        """policy [T, B, A] and value [T, B] as the search found them at the states of the batch.

        The same is learned of the states that the model expects there after up to search_unroll of the actions that
        were really taken, for these are what a search sees:

            seen        s_0 --- s_1 --- s_2 --- s_3         each s_t teaches what was found at s_t;
            expected      '---> s_1' -> s_2' -> ...         so do all states that are expected in its place
                                  '---> s_2' -> ...
        """
        c = self.config
        target = window_return(
            seen.reward, discount=seen.discount, value=value, is_first=seen.is_first, lambda_=c.return_lambda
        ).where(seen.discount > 0, 0.0)  # nothing comes after an end
        going_on = (seen.discount > 0).float()
        state, weight, lessons = seen.state, torch.ones_like(value), []
        for ahead in range(1 + min(c.search_unroll, len(value) - 1)):
            if ahead:
                before = State(state.h[:-1], state.z[:-1]).flatten()
                flat = world.rssm.imagine_step(before, seen.prev_action[ahead:].flatten(0, 1), c.temperature)
                state = State(flat.h.view_as(state.h[1:]), flat.z.view_as(state.z[1:]))
                weight = weight[:-1] * ~seen.is_first[ahead:]
            lesson = state.feat(), policy[ahead:], target[ahead:], weight, weight * going_on[ahead:]
            lessons.append(tuple(part.flatten(0, 1) for part in lesson))
        return Lessons(*(torch.cat(parts) for parts in zip(*lessons, strict=True)))
