"""The recurrent state-space model (Eq. 1).

h_t = f(h_{t-1}, z_{t-1}, a_{t-1});  z_t ~ q(z given h_t, x_t), or where no picture is, z-hat_t ~ p(z given h_t).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.equations import straight_through_sample, unimix
from dreamer.nets import Activation, LayerNormGRUCell
from dreamer.types import State, Unroll


class RSSM(nn.Module):
    """Recurrence, prior and posterior."""

    def __init__(self, config: ModelConfig, *, num_actions: int, embed: int) -> None:
        super().__init__()
        self.stoch, self.classes, self.deter = config.stoch, config.classes, config.deter
        self.unimix = config.unimix
        latent = config.stoch * config.classes
        # Names as checkpoints have them. `img_in` is the official code's: img stands for imagined, no picture enters.
        self.img_in = nn.Linear(latent + num_actions, config.hidden)
        self.gru = LayerNormGRUCell(config.hidden, config.deter)
        self.prior_in = nn.Linear(config.deter, config.hidden)
        self.prior_out = nn.Linear(config.hidden, latent)
        self.post_in = nn.Linear(config.deter + embed, config.hidden)
        self.post_out = nn.Linear(config.hidden, latent)
        self.img_act, self.prior_act, self.post_act = (Activation(config.hidden, norm=config.norm) for _ in range(3))

    def initial(self, batch: int) -> State:
        """The zero state [batch, ...] before anything was seen."""
        zeros = self.img_in.weight.new_zeros
        return State(zeros(batch, self.deter), zeros(batch, self.stoch, self.classes))

    def unpack(self, h: Tensor, z: Tensor) -> State:
        """What State.pack made small: float16 [..., D], class indices uint8 [..., S] -> state [...]."""
        return State(h.float(), (z[..., None] == torch.arange(self.classes, device=z.device)).float())

    def recur(self, prev: State, action: Tensor) -> Tensor:
        """Recurrent model: state [N, ...], one-hot action [N, A] that leaves it -> h [N, D]."""
        u = self.img_act(self.img_in(torch.cat([prev.z.flatten(-2), action], -1)))
        h: Tensor = self.gru(u, prev.h)
        return h

    def prior_logits(self, h: Tensor) -> Tensor:
        """Transition predictor p(z given h): [..., D] -> logits [..., S, C]."""
        return self.to_logits(self.prior_out(self.prior_act(self.prior_in(h))))

    def post_logits(self, h: Tensor, embed: Tensor) -> Tensor:
        """Representation model q(z given h, x): [..., D], embedding [..., E] -> logits [..., S, C]."""
        return self.to_logits(self.post_out(self.post_act(self.post_in(torch.cat([h.to(embed.dtype), embed], -1)))))

    def imagine_step(self, prev: State, action: Tensor, temperature: float = 1.0) -> State:
        """One step without a picture: state [N, ...], one-hot action [N, A] -> state [N, ...], z from the prior.

        A prior that has learned little is wider than the game: where that is deterministic, a temperature below 1 makes
        dreams truer.
        """
        h = self.recur(prev, action)
        prior = self.prior_logits(h)
        return State(h, straight_through_sample(prior if temperature == 1 else prior / temperature))

    def observe_step(self, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor) -> tuple[State, Tensor]:
        """One step with a picture: prev [N, ...], one-hot prev_action [N, A], is_first [N], embed [N, E].

        -> state [N, ...], posterior logits [N, S, C]. Where a game begins nothing of the past may show: h, z *and* the
        action are zeroed (action 0 is a legal action, so the one-hot is, not the index).
        """
        past = ~is_first
        prev = State(prev.h.where(past[:, None], 0.0), prev.z.where(past[:, None, None], 0.0))
        h = self.recur(prev, prev_action.where(past[:, None], 0.0))
        post = self.post_logits(h, embed)
        return State(h, straight_through_sample(post)), post

    def observe(self, embed: Tensor, prev_action: Tensor, is_first: Tensor, prev: State | None = None) -> Unroll:
        """A whole batch: embed [T, B, E], one-hot prev_action [T, B, A], is_first [T, B], prev [B, ...] or zeros.

        `prev` is the state before the first pictures; where is_first[0], nothing of it shows.
        The prior never feeds the recurrence here, so its logits are computed for all steps at once afterwards. This is
        the specification; the learner uses `fast_observe`, which computes the same.
        """
        state = self.initial(embed.shape[1]) if prev is None else prev
        steps = []
        for t in range(len(embed)):
            state, post = self.observe_step(state, prev_action[t], is_first[t], embed[t])
            steps.append((state.h, state.z, post))
        h, z, post = (torch.stack(field) for field in zip(*steps, strict=True))
        return Unroll(State(h, z), post=post, prior=self.prior_logits(h))

    def to_logits(self, flat: Tensor) -> Tensor:
        """[..., S*C] -> float32 [..., S, C]."""
        return unimix(flat.float().reshape(*flat.shape[:-1], self.stoch, self.classes), self.unimix)
