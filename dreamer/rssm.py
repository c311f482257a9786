"""The recurrent state-space model (Eq. 1).

h_t = f(h_{t-1}, z_{t-1}, a_{t-1});  z_t ~ q(z given h_t, x_t), or where no picture is, z-hat_t ~ p(z given h_t).
Written for categorical z, as in the paper. With gaussian ones (latents.py) C is 1, and in the place of logits
[..., S, C] stand mean and standard deviation [..., S, 2].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.equations import kl_balancing
from dreamer.latents import make_latent
from dreamer.nets import Activation, LayerNormGRUCell
from dreamer.types import Metrics, State, Unroll


class RSSM(nn.Module):
    """Recurrence, prior and posterior."""

    def __init__(self, config: ModelConfig, *, num_actions: int, embed: int) -> None:
        super().__init__()
        self.latent = make_latent(config)
        self.stoch, self.values, self.deter = config.stoch, self.latent.values, config.deter
        drawn, described = config.stoch * self.latent.values, config.stoch * self.latent.parameters
        self.shown = drawn + config.deter  # features that the decoder sees: all
        # Names as checkpoints have them. `img_in` is the official code's: img stands for imagined, no picture enters.
        self.img_in = nn.Linear(drawn + num_actions, config.hidden)
        self.gru = LayerNormGRUCell(config.hidden, config.deter)
        self.prior_in = nn.Linear(config.deter, config.hidden)
        self.prior_out = nn.Linear(config.hidden, described)
        self.post_in = nn.Linear(config.deter + embed, config.hidden)
        self.post_out = nn.Linear(config.hidden, described)
        self.img_act, self.prior_act, self.post_act = (Activation(config.hidden, norm=config.norm) for _ in range(3))

    def initial(self, batch: int) -> State:
        """The zero state [batch, ...] before anything was seen."""
        zeros = self.img_in.weight.new_zeros
        return State(zeros(batch, self.deter), zeros(batch, self.stoch, self.values))

    def unpack(self, h: Tensor, z: Tensor) -> State:
        """What State.pack made small: float16 [..., D], class indices uint8 [..., S] -> state [...]."""
        return State(h.float(), (z[..., None] == torch.arange(self.values, device=z.device)).float())

    def recur(self, prev: State, action: Tensor) -> Tensor:
        """Recurrent model: state [N, ...], one-hot action [N, A] that leaves it -> h [N, D]."""
        u = self.img_act(self.img_in(torch.cat([prev.z.flatten(-2), action], -1)))
        h: Tensor = self.gru(u, prev.h)
        return h

    def prior(self, h: Tensor) -> Tensor:
        """Transition predictor p(z given h): [..., D] -> logits [..., S, C]."""
        return self.latent.statistics(self.prior_out(self.prior_act(self.prior_in(h))))

    def post(self, h: Tensor, embed: Tensor) -> Tensor:
        """Representation model q(z given h, x): [..., D], embedding [..., E] -> logits [..., S, C]."""
        hidden = self.post_act(self.post_in(torch.cat([h.to(embed.dtype), embed], -1)))
        return self.latent.statistics(self.post_out(hidden))

    def imagine_step(self, prev: State, action: Tensor, temperature: float = 1.0) -> State:
        """One step without a picture: state [N, ...], one-hot action [N, A] -> state [N, ...], z from the prior.

        A prior that has learned little is wider than the game: where that is deterministic, a temperature below 1 makes
        dreams truer.
        """
        h = self.recur(prev, action)
        return State(h, self.latent.sample(self.latent.heated(self.prior(h), temperature)))

    def observe_step(self, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor) -> tuple[State, Tensor]:
        """One step with a picture: prev [N, ...], one-hot prev_action [N, A], is_first [N], embed [N, E].

        -> state [N, ...], posterior logits [N, S, C]. Where a game begins nothing of the past may show: h, z *and* the
        action are zeroed (action 0 is a legal action, so the one-hot is, not the index).
        """
        past = ~is_first
        prev = State(prev.h.where(past[:, None], 0.0), prev.z.where(past[:, None, None], 0.0))
        h = self.recur(prev, prev_action.where(past[:, None], 0.0))
        post = self.post(h, embed)
        return State(h, self.latent.sample(post)), post

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
        return Unroll(State(h, z), post=post, prior=self.prior(h))

    def divergence(self, unroll: Unroll, config: ModelConfig) -> tuple[Tensor, Metrics]:
        """What the pictures told that was not foreseen (Algorithm 2) -> scalar with graph, and what there is to say."""
        post, prior = unroll.post, unroll.prior
        if config.kl_swapped:  # as in the blog: the balance that should train the prior pulls the posterior towards it
            post, prior = prior, post
        kl_loss = kl_balancing(
            post=post,
            prior=prior,
            balance=config.kl_balance,
            free_nats=config.free_nats,
            free_each=config.free_each,
            kl=self.latent.kl,
        )
        with torch.no_grad():
            metrics = {
                "kl_loss": kl_loss,
                "kl": self.latent.kl(post=unroll.post, prior=unroll.prior).mean(),
                "prior_entropy": self.latent.entropy(unroll.prior).mean(),
                "post_entropy": self.latent.entropy(unroll.post).mean(),
            }
        return config.kl_scale * kl_loss, metrics
