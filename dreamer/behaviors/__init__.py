"""Behaviours: ways to get a policy out of a world model. To add one: a file here and one `case` below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter

from dreamer.behaviors import actor_critic, ppo
from dreamer.behaviors.cem import Cem
from dreamer.behaviors.cma_es import CmaEs
from dreamer.behaviors.mcts import Mcts
from dreamer.behaviors.parts import ActorAndCritic, GradSteps, Mark, no_mark
from dreamer.config import BehaviorConfig
from dreamer.types import Metrics, Start, State
from dreamer.world_model import WorldModel

# Their critics say what comes AFTER a state, so one can think with what another has learned. The value of actor_critic
# includes the reward for arriving at a state.
VALUE_AFTER = frozenset({"ppo", "cem", "mcts"})


class Behavior(Protocol):
    """What the agent asks of a behaviour: an nn.Module, so that its weights and buffers are saved and broadcast."""

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        """State [N, ...] -> one-hot action [N, A], drawn or (sample=False) the best one."""

    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """One improvement from dreams that begin at `start`; for the learner only. `mark("behavior")` after them."""

    def param_groups(self) -> dict[str, Iterable[Parameter]]:
        """The parameters that each `step[name]` trains; {} if no gradient is used."""


def make_behavior(config: BehaviorConfig, *, feat_size: int, num_actions: int) -> ActorAndCritic | Cem | CmaEs | Mcts:
    """The behaviour that the config names. Raises ValueError for an unknown name."""
    match config.name:
        case "actor_critic":
            return ActorAndCritic(config, actor_critic.improve, feat_size=feat_size, num_actions=num_actions)
        case "ppo":
            return ActorAndCritic(config, ppo.improve, feat_size=feat_size, num_actions=num_actions)
        case "cem":
            return Cem(config, feat_size=feat_size, num_actions=num_actions)
        case "cma_es":
            return CmaEs(config, feat_size=feat_size, num_actions=num_actions)
        case "mcts":
            return Mcts(config, feat_size=feat_size, num_actions=num_actions)
        case _:
            raise ValueError(f"behavior.name must be actor_critic, ppo, cem, cma_es or mcts, not {config.name!r}")
