"""The records that travel between the parts of the algorithm. Everything here is time-major.

T time  B batch  N dream starts, at most T*B  H horizon  A actions  E games of one actor
D=|h|  S categoricals  C classes  F=D+S*C  (gaussian latents: S numbers, C=1)

Data: index t holds what ARRIVED together - the picture, the action that led to it, the reward that it brought.

    prev_action   0 --- a_0 --- a_1 --- a_2
    obs             x_0     x_1     x_2     x_3
    reward           0      r_1     r_2     r_3
    is_first         1       0       0       0
    prev_h, prev_z   *      s_0     s_1     s_2     the player's state before x_t, if stored; * is erased by is_first

Dream: action i LEAVES state i; reward and discount i belong to ARRIVING at state i.

    state           s_0     s_1     s_2  ...  s_H
    action              a_0     a_1  ...  a_{H-1}
    reward, discount 0      1       2    ...   H
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NO_CLASS = 255  # of a categorical in which nothing is drawn yet: the zero vector of the zero state
# Where none are stored: of no size, and yet cut and joined along [T, B] like the other fields of a batch.
NO_H, NO_Z = torch.zeros(0, 0, 0, dtype=torch.float16), torch.zeros(0, 0, 0, dtype=torch.uint8)


class Batch(NamedTuple):
    """Training windows on the device of the learner. Without stored states D and S are 0 here."""

    obs: Tensor  # uint8   [T, B, H, W, C]  scaled in WorldModel.encode
    prev_action: Tensor  # int64   [T, B]
    reward: Tensor  # float32 [T, B]  raw game reward, squashed in WorldModel.told
    is_first: Tensor  # bool    [T, B]
    is_terminal: Tensor  # bool    [T, B]
    prev_h: Tensor = NO_H  # float16 [T, B, D]  as `State.pack` makes it; the unroll starts from that of t = 0
    prev_z: Tensor = NO_Z  # uint8   [T, B, S]


class State(NamedTuple):
    """The compact state of the world: s = (h, z)."""

    h: Tensor  # float32 [..., D]     deterministic
    z: Tensor  # float32 [..., S, C]  one-hot draws with straight-through gradients; gaussian: numbers [..., S, 1]

    def feat(self) -> Tensor:
        """What the heads see: [..., F], z first as in the official code."""
        return torch.cat([self.z.flatten(-2), self.h], -1)

    def detach(self) -> State:
        return State(self.h.detach(), self.z.detach())

    def flatten(self) -> State:
        """[T, B, ...] -> [T*B, ...]."""
        return State(self.h.flatten(0, 1), self.z.flatten(0, 1))

    def pack(self) -> tuple[Tensor, Tensor]:
        """Small, for storing: h float16 [..., D], class indices of z uint8 [..., S]. RSSM.unpack turns it back."""
        assert 1 < self.z.shape[-1] <= NO_CLASS, self.z.shape
        drawn = self.z.amax(-1) > 0
        return self.h.detach().half(), self.z.argmax(-1).where(drawn, NO_CLASS).to(torch.uint8)


class Unroll(NamedTuple):
    """What the RSSM makes of a batch."""

    state: State  # [T, B, ...]  posterior states
    post: Tensor  # float32 [T, B, S, C]  logits of q(z given h, x); gaussian: mean and deviation [T, B, S, 2]
    prior: Tensor  # float32 [T, B, S, C]  logits of p(z given h); gaussian: the same two; vae_rnn: a mixture's


class Replayed(NamedTuple):
    """Windows of the replay as the world model understands them, cut from its graph."""

    state: State  # [T, B, ...]  posterior states
    discount: Tensor  # float32 [T, B]  gamma * (1 - is_terminal), from the data
    reward: Tensor  # float32 [T, B]  squashed, what really came with these states
    prev_action: Tensor  # float32 [T, B, A]  one-hot, what led to these states
    is_first: Tensor  # bool    [T, B]  a game begins: what led here says nothing


class Start(NamedTuple):
    """Where dreams begin."""

    state: State  # [N, ...]  posterior states, cut from their graph
    discount: Tensor  # float32 [N]  gamma * (1 - is_terminal), from the data
    replayed: Replayed | None = None  # the windows that these states are of; None = what really came is not known
    every: int = 1  # steps of a window from one of these states to the next

    @classmethod
    def of(cls, replayed: Replayed, every: int = 1) -> Start:
        """All states, or the last of each `every` steps: neighbours dream alike, and the first ones know least."""
        (h, z), discount = replayed.state, replayed.discount
        kept = slice(every - 1, None, every)
        return cls(State(h[kept], z[kept]).flatten(), discount[kept].flatten(), replayed, every)


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
