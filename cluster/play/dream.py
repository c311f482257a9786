"""One step of a dream, with all chance given from outside: what Python runs live and a browser runs as ONNX."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dreamer.agent import Agent
from dreamer.behaviors.parts import PolicyAndValue
from dreamer.equations import entropy, one_hot_mode, scalar_mean
from dreamer.types import State

INPUTS = ("h", "z", "action", "noise", "temperature")


class Seen(NamedTuple):
    """What the model says of the states [N, ...] of a dream."""

    picture: Tensor  # float32 [N, H, W, C]  0..255
    reward: Tensor  # float32 [N]  expected on arriving, as model.reward_squash leaves it
    discount: Tensor  # float32 [N]  gamma * P(the game goes on)
    value: Tensor  # float32 [N]  the critic's
    policy: Tensor  # float32 [N, A]  probabilities of the actions
    entropy: Tensor  # float32 [N]  nats, of the prior that the state was or would be drawn from


OUTPUTS = ("next_h", "next_z", *Seen._fields)  # no name of INPUTS again: ONNX would rename one of the two


class DreamStep(nn.Module):
    """State, action and noise -> the next state and what is to be seen of it: one graph, for ONNX too."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        assert isinstance(agent.behavior, PolicyAndValue), agent.behavior
        self.world, self.behavior = agent.world, agent.behavior

    def forward(self, h: Tensor, z: Tensor, action: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
        """h [N, D], z and Gumbel noise [N, S, C], one-hot action [N, A], temperature [] -> h, z, and those of Seen.

        `RSSM.imagine_step` divides the logits by the temperature, here the noise is multiplied by it: the same draw,
        and at 0 it is the most probable class.
        """
        h = self.world.rssm.recur(State(h, z), action)
        prior = self.world.rssm.prior(h)
        z = one_hot_mode(prior + temperature * noise)
        return h, z, *self.see(State(h, z), prior)

    def see(self, state: State, prior: Tensor) -> Seen:
        """States [N, ...] and the prior's logits [N, S, C] there -> what the model says of them."""
        feat = state.feat()
        picture = (self.world.decode(state) + 0.5) * 255
        return Seen(
            picture.clamp(0, 255).permute(0, 2, 3, 1),
            self.world.predict_reward(feat),
            self.world.predict_discount(feat),
            scalar_mean(self.behavior.critic(feat)),
            self.behavior.policy(feat).softmax(-1),
            entropy(prior).sum(-1),
        )

    def look(self, state: State) -> Seen:
        """The same for states that were not dreamt but seen in the game."""
        return self.see(state, self.world.rssm.prior(state.h))


def draw_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of that shape."""
    return torch.rand(like.shape, generator=generator).clamp(min=1e-20).log_().neg_().log_().neg_()
