"""What z is made of: S variables, each one of C classes (dreamerv2) or a number (World Models, PlaNet, Dreamer V1).

A kind of latents makes S distributions of what a dense layer gives, draws from them and says how far two of them are
apart. `parameters` numbers describe each distribution, `values` numbers are what is drawn of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer import equations
from dreamer.config import ModelConfig

MIN_STD = 0.1  # of a normal latent: what is drawn can never be foreseen exactly; PlaNet, Dreamer V1


class Categorical(NamedTuple):
    """S variables of C classes: described by C logits each, drawn one-hot."""

    stoch: int  # S
    classes: int  # C
    unimix: float  # share of the uniform distribution

    @property
    def parameters(self) -> int:
        return self.classes

    @property
    def values(self) -> int:
        return self.classes

    def statistics(self, flat: Tensor) -> Tensor:
        """What a dense layer gives [..., S*C] -> logits float32 [..., S, C]."""
        return equations.unimix(flat.float().reshape(*flat.shape[:-1], self.stoch, self.classes), self.unimix)

    def noise(self, like: Tensor, *shape: int) -> Tensor:
        """All the chance in draws of that shape, on the device of `like` -> float32 [*shape, S, C]."""
        return equations.gumbel_like(like.new_empty(*shape, self.stoch, self.classes, dtype=torch.float32))

    def sample(self, logits: Tensor, noise: Tensor | None = None) -> Tensor:
        """A draw, with straight-through gradients (Algorithm 1): [..., S, C] -> [..., S, C]."""
        return equations.straight_through_sample(logits, noise)

    def heated(self, logits: Tensor, temperature: float) -> Tensor:
        """For draws that are more (above 1) or less (below 1) left to chance: [..., S, C] -> [..., S, C]."""
        return logits if temperature == 1 else logits / temperature

    def kl(self, *, post: Tensor, prior: Tensor) -> Tensor:
        """KL(post || prior) in nats, summed over the variables: [..., S, C] -> [...]."""
        return equations.kl_divergence(post=post, prior=prior)

    def entropy(self, logits: Tensor) -> Tensor:
        """In nats, summed over the variables: [..., S, C] -> [...]."""
        return equations.entropy(logits).sum(-1)


class Gaussian(NamedTuple):
    """S normal variables: described by mean and standard deviation each, drawn as one number."""

    stoch: int  # S

    @property
    def parameters(self) -> int:
        return 2

    @property
    def values(self) -> int:
        return 1

    def statistics(self, flat: Tensor) -> Tensor:
        """What a dense layer gives [..., S*2] -> mean and standard deviation, float32 [..., S, 2]."""
        mean, raw = flat.float().reshape(*flat.shape[:-1], self.stoch, 2).chunk(2, -1)
        return torch.cat([mean, F.softplus(raw) + MIN_STD], -1)

    def noise(self, like: Tensor, *shape: int) -> Tensor:
        """All the chance in draws of that shape, on the device of `like` -> float32 [*shape, S, 1]."""
        return torch.randn(*shape, self.stoch, 1, device=like.device)

    def sample(self, stats: Tensor, noise: Tensor | None = None) -> Tensor:
        """A draw through which gradients reach mean and standard deviation: [..., S, 2] -> [..., S, 1]."""
        mean, std = stats.chunk(2, -1)
        return mean + std * (self.noise(stats, *stats.shape[:-2]) if noise is None else noise)

    def heated(self, stats: Tensor, temperature: float) -> Tensor:
        """The variance is multiplied by the temperature: [..., S, 2] -> [..., S, 2]."""
        mean, std = stats.chunk(2, -1)
        return stats if temperature == 1 else torch.cat([mean, std * math.sqrt(temperature)], -1)

    def kl(self, *, post: Tensor, prior: Tensor) -> Tensor:
        """KL(post || prior) in nats, summed over the variables: [..., S, 2] -> [...]."""
        (mean, std), (prior_mean, prior_std) = post.unbind(-1), prior.unbind(-1)
        missed = (std.square() + (mean - prior_mean).square()) / (2 * prior_std.square())
        return (prior_std.log() - std.log() + missed - 0.5).sum(-1)

    def entropy(self, stats: Tensor) -> Tensor:
        """In nats, summed over the variables: [..., S, 2] -> [...]. Of a narrow normal it is below zero."""
        return (0.5 * math.log(2 * math.pi * math.e) + stats[..., 1].log()).sum(-1)


Latent: TypeAlias = Categorical | Gaussian


def make_latent(config: ModelConfig) -> Latent:
    """The kind of latents that the config names. Raises ValueError for an unknown name."""
    match config.latent:
        case "categorical":
            return Categorical(config.stoch, config.classes, config.unimix)
        case "gaussian":
            return Gaussian(config.stoch)
        case _:
            raise ValueError(f"model.latent must be categorical or gaussian, not {config.latent!r}")
