"""The agent: a world model and a behaviour, as actors use and learners train it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreamer.behaviors import make_behavior
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.types import PolicySnapshot, State
from dreamer.world_model import WorldModel


class Agent(nn.Module):
    """World model + behaviour for pictures of size x size pixels, `channels` channels, and `num_actions` actions."""

    def __init__(
        self, model: ModelConfig, behavior: BehaviorConfig, *, size: int = 64, channels: int, num_actions: int
    ) -> None:
        super().__init__()
        self.world = WorldModel(model, size=size, channels=channels, num_actions=num_actions)
        self.behavior = make_behavior(behavior, feat_size=self.world.feat_size, num_actions=num_actions)

    def initial(self, games: int) -> State:
        """The state before the first picture of `games` games."""
        return self.world.rssm.initial(games)

    @torch.no_grad()
    def policy_step(
        self, state: State, obs: Tensor, prev_action: Tensor, is_first: Tensor, *, sample: bool
    ) -> tuple[Tensor, State]:
        """What to do now in E games: state [E, ...], obs uint8 [E, H, W, C], prev_action int [E], is_first bool [E].

        -> (action int64 [E], state [E, ...]). The posterior is always sampled; `sample` is about the action alone
        (dreamerv2: eval_state_mean False, evaluation takes the mode of the actor).
        """
        embed = self.world.encode(obs)
        state, _ = self.world.rssm.observe_step(state, self.world.one_hot(prev_action), is_first, embed)
        return self.behavior.act(self.world, state, sample=sample).argmax(-1), state

    def snapshot_keys(self) -> list[str]:
        """Names of what a snapshot holds: everything but the decoder, which only the learner needs."""
        return [key for key in self.state_dict() if not key.startswith("world.decoder.")]

    def snapshot(self, version: int) -> PolicySnapshot:
        """A copy of the policy's weights on the CPU."""
        weights = self.state_dict()
        return PolicySnapshot(version, [weights[key].detach().cpu().clone() for key in self.snapshot_keys()])

    @torch.no_grad()
    def load_snapshot(self, snapshot: PolicySnapshot) -> None:
        """Takes over a snapshot of an agent of the same configuration; raises ValueError where a shape differs."""
        own = self.state_dict()
        pairs = list(zip(self.snapshot_keys(), snapshot.weights, strict=True))
        for key, weight in pairs:
            if own[key].shape != weight.shape:
                raise ValueError(f"snapshot has {tuple(weight.shape)} for {key}, this agent {tuple(own[key].shape)}")
        for key, weight in pairs:
            own[key].copy_(weight)
