"""World Models' V and M in the place of the RSSM (Ha and Schmidhuber, World Models, 2018).

V: z_t ~ q(z given x_t), a variational autoencoder of single pictures: it knows nothing of what was before.
M: h_t = LSTM(h_{t-1}, z_{t-1}, a_{t-1});  z-hat_t ~ p(z given h_t), for each variable a mixture of K normals.

There V was trained first, then M, then what plays. Here all learn at once, and no gradient crosses: the picture and the
KL train V alone, the mixture trains M alone, and rewards and ends train their heads alone (see WorldModel.loss). So
every loss trains what its stage trained, but what M is to foresee moves while V still learns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.equations import kl_balancing, straight_through_sample
from dreamer.latents import Gaussian
from dreamer.types import Metrics, State, Unroll


class VaeRnn(nn.Module):
    """Posterior, LSTM and mixture prior, with the methods of RSSM. State.h is what the LSTM shows, then its cell."""

    FORGET_BIAS = 1.0  # the cell starts mostly kept; TensorFlow's LSTM cell

    def __init__(self, config: ModelConfig, *, num_actions: int, embed: int) -> None:
        super().__init__()
        self.latent = Gaussian(config.stoch)
        self.units, self.mixtures = config.deter // 2, config.mixtures
        self.shown = config.stoch  # V's decoder sees z alone
        self.post_out = nn.Linear(embed, 2 * config.stoch)
        self.lstm = nn.Linear(config.stoch + num_actions + self.units, 4 * self.units)
        self.prior_out = nn.Linear(self.units, config.stoch * 3 * config.mixtures)

    def initial(self, batch: int) -> State:
        """The zero state [batch, ...] before anything was seen."""
        zeros = self.lstm.weight.new_zeros
        return State(zeros(batch, 2 * self.units), zeros(batch, self.latent.stoch, 1))

    def recur(self, prev: State, action: Tensor) -> Tensor:
        """M's LSTM: state [N, ...], one-hot action [N, A] that leaves it -> h [N, D]. No picture of its own step."""
        shown, cell = prev.h.chunk(2, -1)
        gates: Tensor = self.lstm(torch.cat([prev.z.flatten(-2), action, shown], -1))
        write, candidate, keep, show = gates.float().chunk(4, -1)
        cell = (keep + self.FORGET_BIAS).sigmoid() * cell + write.sigmoid() * candidate.tanh()
        return torch.cat([show.sigmoid() * cell.tanh(), cell], -1)

    def prior(self, h: Tensor) -> Tensor:
        """M's p(z given h): [..., D] -> float32 [..., S, 3*K], the parameters of `mixture_nll`."""
        flat: Tensor = self.prior_out(h[..., : self.units])
        return flat.float().reshape(*h.shape[:-1], self.latent.stoch, 3 * self.mixtures)

    def post(self, embed: Tensor) -> Tensor:
        """V's q(z given x): embedding [..., E] -> mean and standard deviation, float32 [..., S, 2]."""
        flat: Tensor = self.post_out(embed)
        mean, log_variance = flat.float().reshape(*embed.shape[:-1], self.latent.stoch, 2).chunk(2, -1)
        return torch.cat([mean, (log_variance / 2).exp()], -1)

    def imagine_step(self, prev: State, action: Tensor, temperature: float = 1.0) -> State:
        """One step without a picture: state [N, ...], one-hot action [N, A] -> state [N, ...], z from the prior.

        A temperature above 1 makes dreams more uncertain than M is: what plays cannot live on M's faults then.
        """
        h = self.recur(prev, action)
        return State(h, mixture_sample(heated(self.prior(h), temperature)))

    def observe_step(self, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor) -> tuple[State, Tensor]:
        """One step with a picture: prev [N, ...], one-hot prev_action [N, A], is_first [N], embed [N, E].

        -> state [N, ...], posterior [N, S, 2]. Nothing of the past shows where a game begins.
        """
        post = self.post(embed)
        return State(self.remember(prev, prev_action, is_first), self.latent.sample(post)), post

    def remember(self, prev: State, prev_action: Tensor, is_first: Tensor) -> Tensor:
        """M's step on what V has seen, cut from V's graph -> h [N, D]."""
        past = ~is_first[:, None]
        prev = State(prev.h.where(past, 0.0), prev.z.detach().where(past[:, None], 0.0))
        return self.recur(prev, prev_action.where(past, 0.0))

    def observe(self, embed: Tensor, prev_action: Tensor, is_first: Tensor, prev: State | None = None) -> Unroll:
        """A whole batch: embed [T, B, E], one-hot prev_action [T, B, A], is_first [T, B], prev [B, ...] or zeros."""
        post = self.post(embed)
        z = self.latent.sample(post)
        state, steps = self.initial(embed.shape[1]) if prev is None else prev, []
        for t in range(len(embed)):
            state = State(self.remember(state, prev_action[t], is_first[t]), z[t])
            steps.append(state.h)
        h = torch.stack(steps)
        return Unroll(State(h, z), post=post, prior=self.prior(h))

    def divergence(self, unroll: Unroll, config: ModelConfig) -> tuple[Tensor, Metrics]:
        """V's KL to the standard normal and M's loss -> scalar with graph, and what there is to say.

        V's free nats are 0.5 * S for each picture by itself (free_each). M's loss is a mean over the variables.
        """
        post, z = unroll.post, unroll.state.z.detach().squeeze(-1)
        standard = torch.cat([torch.zeros_like(post[..., :1]), torch.ones_like(post[..., 1:])], -1)
        kl_loss = kl_balancing(
            post=post,
            prior=standard,  # nothing to train: all of it for the posterior
            balance=0.0,
            free_nats=config.free_nats,
            free_each=config.free_each,
            kl=self.latent.kl,
        )
        nll = mixture_nll(z, unroll.prior)
        with torch.no_grad():
            foreseen = mixture_sample(unroll.prior).squeeze(-1)
            post_entropy = self.latent.entropy(post)
            metrics = {
                "kl_loss": kl_loss,
                "kl": (nll.sum(-1) - post_entropy).mean(),  # of V's draw: a mixture has no KL in closed form
                "prior_entropy": mixture_nll(foreseen, unroll.prior).sum(-1).mean(),  # nor an entropy
                "post_entropy": post_entropy.mean(),
            }
        return config.kl_scale * kl_loss + nll.mean(), metrics


def mixture_nll(z: Tensor, mixture: Tensor) -> Tensor:
    """-log p(z) of every variable: z [..., S], mixture [..., S, 3*K] -> [..., S].

    mixture: of K normals the logits of their weights, then their means, then the logarithms of their deviations.
    """
    logits, mean, log_std = mixture.chunk(3, -1)
    far = (z[..., None] - mean) * (-log_std).exp()
    log_normal = -0.5 * far.square() - log_std - 0.5 * math.log(2 * math.pi)
    return -(logits.log_softmax(-1) + log_normal).logsumexp(-1)


def mixture_sample(mixture: Tensor) -> Tensor:
    """A draw of every variable, through which gradients flow: [..., S, 3*K] -> [..., S, 1]."""
    logits, mean, log_std = mixture.chunk(3, -1)
    chosen = straight_through_sample(logits)
    mean, std = (chosen * mean).sum(-1, keepdim=True), (chosen * log_std.exp()).sum(-1, keepdim=True)
    return mean + std * torch.randn_like(mean)


def heated(mixture: Tensor, temperature: float) -> Tensor:
    """Both kinds of chance at that temperature, which normal and how far from its mean: [..., S, 3*K], the same."""
    if temperature == 1:
        return mixture
    logits, mean, log_std = mixture.chunk(3, -1)
    return torch.cat([logits / temperature, mean, log_std + 0.5 * math.log(temperature)], -1)
