"""The records that travel between the parts of the algorithm. Everything here is time-major.

T time  B batch  N=T*B dream starts  H horizon  A actions  E games of one actor
D=|h|  S categoricals  C classes  F=D+S*C

Data: index t holds what ARRIVED together - the picture, the action that led to it, the reward that it brought.

    prev_action   0 --- a_0 --- a_1 --- a_2
    obs             x_0     x_1     x_2     x_3
    reward           0      r_1     r_2     r_3
    is_first         1       0       0       0

Dream: action i LEAVES state i; reward and discount i belong to ARRIVING at state i.

    state           s_0     s_1     s_2  ...  s_H
    action              a_0     a_1  ...  a_{H-1}
    reward, discount 0      1       2    ...   H
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Training windows on the device of the learner."""

    obs: Tensor  # uint8   [T, B, H, W, C]  scaled in WorldModel.encode
    prev_action: Tensor  # int64   [T, B]
    reward: Tensor  # float32 [T, B]  raw game reward, squashed in WorldModel.loss
    is_first: Tensor  # bool    [T, B]
    is_terminal: Tensor  # bool    [T, B]


class State(NamedTuple):
    """The compact state of the world: s = (h, z)."""

    h: Tensor  # float32 [..., D]     deterministic
    z: Tensor  # float32 [..., S, C]  one-hot draws with straight-through gradients

    def feat(self) -> Tensor:
        """What the heads see: [..., F], z first as in the official code."""
        return torch.cat([self.z.flatten(-2), self.h], -1)

    def detach(self) -> State:
        return State(self.h.detach(), self.z.detach())

    def flatten(self) -> State:
        """[T, B, ...] -> [N, ...], N = T*B."""
        return State(self.h.flatten(0, 1), self.z.flatten(0, 1))


class Unroll(NamedTuple):
    """What the RSSM makes of a batch."""

    state: State  # [T, B, ...]  posterior states
    post: Tensor  # float32 [T, B, S, C]  logits of q(z given h, x)
    prior: Tensor  # float32 [T, B, S, C]  logits of p(z given h)


class Start(NamedTuple):
    """Where dreams begin: every posterior state of the batch, cut from its graph."""

    state: State  # [N, ...]
    discount: Tensor  # float32 [N]  gamma * (1 - is_terminal), from the data


class Dream(NamedTuple):
    """Imagined futures."""

    state: State  # [H+1, N, ...]
    action: Tensor  # float32 [H, N, A]  one-hot
    reward: Tensor  # float32 [H+1, N]  predicted mean, on the squashed scale
    discount: Tensor  # float32 [H+1, N]  index 0 from the data, the rest predicted


class PolicySnapshot(NamedTuple):
    """What an actor needs of the agent: everything but the decoder."""

    version: int  # update that it was taken after
    weights: list[Tensor]  # in the order of Agent.snapshot_keys


Metrics = dict[str, Tensor]  # detached scalars, still on the device
