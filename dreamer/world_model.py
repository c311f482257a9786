"""The world model: what a step of the game means, and what would come next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.equations import (
    bernoulli_nll,
    moving,
    picture_mean,
    picture_nll,
    scalar_mean,
    scalar_nll,
    squash,
)
from dreamer.fast_observe import fast_observe
from dreamer.insight import foresee_events, see_what_moves
from dreamer.nets import MLP, init_glorot
from dreamer.pictures import make_decoder, make_encoder
from dreamer.rssm import RSSM
from dreamer.types import Batch, Dream, Metrics, Replayed, Start, State, Unroll
from dreamer.vae_rnn import VaeRnn


class WorldLoss(NamedTuple):
    """What one pass over a batch gives."""

    loss: Tensor  # scalar with graph
    unroll: Unroll  # [T, B]
    discount: Tensor  # float32 [T, B]  gamma * (1 - is_terminal): the true discount of every state
    reward: Tensor  # float32 [T, B]  squashed: the true reward on arriving at every state
    metrics: Metrics


class WorldModel(nn.Module):
    """Encoder, RSSM, decoder, reward and discount heads, and their one loss (Eq. 2)."""

    def __init__(self, config: ModelConfig, *, size: int, channels: int, num_actions: int) -> None:
        super().__init__()
        self.config, self.num_actions = config, num_actions
        self.encoder = make_encoder(config, size=size, channels=channels)
        Kind: type[RSSM] | type[VaeRnn] = VaeRnn if config.dynamics == "vae_rnn" else RSSM
        self.rssm = Kind(config, num_actions=num_actions, embed=self.encoder.outputs)
        self.feat_size = config.deter + config.stoch * self.rssm.latent.values
        self.decoder = make_decoder(config, feat_size=self.rssm.shown, size=size, channels=channels)
        layers, units, norm = config.head_layers, config.head_units, config.norm
        self.reward = MLP(self.feat_size, layers=layers, units=units, outputs=max(1, config.reward_bins), norm=norm)
        self.discount = MLP(self.feat_size, layers=layers, units=units, outputs=1, norm=norm)
        init_glorot(self)
        if config.reward_bins:
            nn.init.zeros_(self.reward.out.weight)  # nothing is expected before it was learned; dreamerv3

    def encode(self, obs: Tensor) -> Tensor:
        """Embedding of pictures: uint8 [..., H, W, C] -> [..., E]."""
        image = scale_pixels(obs)
        embed: Tensor = self.encoder(image.flatten(0, -4))
        return embed.reshape(*obs.shape[:-3], -1)

    def decode(self, state: State) -> Tensor:
        """Mean of the predicted picture: state [..., ] -> float32 [..., C, H, W], on the scale -0.5..0.5."""
        return picture_mean(self.draw(state.feat()), what=self.config.picture)

    def draw(self, feat: Tensor) -> Tensor:
        """What the decoder draws, see `picture_nll`: [..., F] -> float32 [..., C, H, W]."""
        drawn: Tensor = self.decoder(feat[..., : self.rssm.shown].flatten(0, -2))
        return drawn.reshape(*feat.shape[:-1], *drawn.shape[1:])

    def predict_reward(self, feat: Tensor) -> Tensor:
        """Mean of the reward on arriving, as `squash` leaves it: [..., F] -> float32 [...]."""
        return scalar_mean(self.reward(feat))

    def predict_discount(self, feat: Tensor) -> Tensor:
        """gamma * P(the game goes on): [..., F] -> float32 [...]. Gamma is inside: the head learns soft targets."""
        logit: Tensor = self.discount(feat)
        return logit.squeeze(-1).sigmoid()

    def one_hot(self, action: Tensor) -> Tensor:
        """Action indices [...] -> float32 [..., A]."""
        return (action[..., None] == torch.arange(self.num_actions, device=action.device)).float()

    def observe(self, batch: Batch) -> Unroll:
        """Posterior states of a batch."""
        embed, action = self.encode(batch.obs), self.one_hot(batch.prev_action)
        if isinstance(self.rssm, VaeRnn):
            return self.rssm.observe(embed, action, batch.is_first)
        return fast_observe(self.rssm, embed, action, batch.is_first, self.prev_state(batch))

    def prev_state(self, batch: Batch) -> State | None:
        """The player's state [B, ...] before the first pictures, where the batch brings it."""
        if not isinstance(self.rssm, RSSM) or not batch.prev_h.shape[-1]:
            return None
        return self.rssm.unpack(batch.prev_h[0], batch.prev_z[0])

    def told(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a batch says of each of its states, float32 [T, B] each: the discount, and the reward, squashed here."""
        c = self.config
        return c.gamma * (1.0 - batch.is_terminal.float()), squash(batch.reward, c.reward_squash)

    @torch.no_grad()
    def replayed(self, batch: Batch) -> Replayed:
        """A batch as it is understood, where nothing of the model is to be learned from it."""
        return Replayed(self.observe(batch).state, *self.told(batch), self.one_hot(batch.prev_action), batch.is_first)

    def loss(self, batch: Batch) -> WorldLoss:
        """The world-model loss of a batch (Eq. 2): means over time and batch, sums over pixels and categoricals."""
        c = self.config
        discount, reward = self.told(batch)
        unroll = self.observe(batch)
        feat = unroll.state.feat()
        image = scale_pixels(batch.obs)
        drawn = self.draw(feat)
        told = feat.detach() if c.dynamics == "vae_rnn" else feat  # there what pays shapes neither V nor M
        reward_out, discount_out = self.reward(told), self.discount(told).squeeze(-1)
        pixel_nll = picture_nll(image, drawn=drawn, what=c.picture)
        # A ball is one to four of cpu's 1,600 pixels. Unweighted, a state without the ball costs next to nothing.
        if c.motion_weight > 0:
            pixel_nll = pixel_nll * (1 + c.motion_weight * moving(image, batch.is_first, reach=1))
        image_nll = pixel_nll.sum((-3, -2, -1))
        reward_nll = scalar_nll(reward, out=reward_out)
        discount_nll = bernoulli_nll(discount, logit=discount_out)
        divergence, of_latents = self.rssm.divergence(unroll, c)
        loss = (
            image_nll.mean() + c.reward_scale * reward_nll.mean() + c.discount_scale * discount_nll.mean() + divergence
        )
        with torch.no_grad():
            reconstruction = picture_mean(drawn, what=c.picture)
            metrics = {
                "model_loss": loss,
                "image_loss": image_nll.mean(),
                "reward_loss": reward_nll.mean(),
                "discount_loss": discount_nll.mean(),
                **of_latents,
                "batch_reward": batch.reward.mean(),
                **see_what_moves(image, reconstruction=reconstruction, is_first=batch.is_first),
                **foresee_events(
                    reward=reward,
                    predicted=scalar_mean(reward_out),
                    is_terminal=batch.is_terminal,
                    goes_on=discount_out.sigmoid() / c.gamma,
                ),
            }
        return WorldLoss(loss, unroll, discount, reward, {name: value.detach() for name, value in metrics.items()})

    @torch.no_grad()
    def open_loop(self, batch: Batch, context: int, temperature: float = 1.0) -> State:
        """Posterior states of the first `context` steps, then a dream under the batch's actions: -> State [T, B, ...].

        Shows what the model knows rather than what it sees: nothing after `context` reaches it but the actions.
        """
        assert 0 < context < len(batch.obs), (context, len(batch.obs))
        action = self.one_hot(batch.prev_action)
        embed, prev = self.encode(batch.obs[:context]), self.prev_state(batch)
        observed = self.rssm.observe(embed, action[:context], batch.is_first[:context], prev).state
        state, states = State(observed.h[-1], observed.z[-1]), []
        for t in range(context, len(action)):
            state = self.rssm.imagine_step(state, action[t], temperature)
            states.append(state)
        h, z = torch.stack([s.h for s in states]), torch.stack([s.z for s in states])
        return State(torch.cat([observed.h, h]), torch.cat([observed.z, z]))

    def imagine(self, act: Callable[[State], Tensor], start: Start, horizon: int, temperature: float = 1.0) -> Dream:
        """Dreams of `horizon` steps from every start: act maps a state [N, ...] to a one-hot action [N, A].

        The policy sees the state cut from its graph: gradients reach an action only through what it brings about.
        """
        with weights_cast_once():
            state, states, actions = start.state, [start.state], []
            for _ in range(horizon):
                action = act(state.detach())
                state = self.rssm.imagine_step(state, action, temperature)
                states.append(state)
                actions.append(action)
            dreamt = State(torch.stack([s.h for s in states]), torch.stack([s.z for s in states]))
            feat = dreamt.feat()
            # A start may be a terminal state, and of that the data knows for certain.
            discount = torch.cat([start.discount[None], self.predict_discount(feat[1:])])
            return Dream(dreamt, torch.stack(actions), self.predict_reward(feat), discount)


@contextmanager
def weights_cast_once() -> Iterator[None]:
    """Under autocast, casts every weight once in here instead of at every use.

    For code that is all with gradient or all without: what was cast without gradient must not serve where one is due.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
        torch.clear_autocast_cache()


def scale_pixels(obs: Tensor) -> Tensor:
    """uint8 [..., H, W, C] -> float32 [..., C, H, W] in -0.5..0.5."""
    return obs.movedim(-1, -3).float() / 255.0 - 0.5
