"""A linear controller bred in dreams, as in World Models (Ha and Schmidhuber, 2018).

Logits = W [z, h] + b, and no gradient: a generation of controllers is drawn around a mean, each is tried in the same
dreams, and the mean moves to the better ones. How far and along which numbers the next ones are drawn is adapted by
CMA-ES (Hansen, The CMA Evolution Strategy: A Tutorial, 2016), here with a diagonal covariance (Ros and Hansen, 2008):
a full one of some thousand numbers takes seconds to decompose, and learns a hundred times slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer.behaviors.parts import GradSteps, Mark, choose, describe_policy, no_mark
from dreamer.config import BehaviorConfig
from dreamer.equations import one_hot_mode, plan_return
from dreamer.types import Metrics, Start, State
from dreamer.world_model import WorldModel


class Strategy(NamedTuple):
    """Where the next generation is drawn: N(mean, sigma^2 * diag(variance)), P numbers each."""

    mean: Tensor  # float32 [P]
    sigma: Tensor  # float32 []  step size
    variance: Tensor  # float32 [P]  diagonal of C
    path_sigma: Tensor  # float32 [P]  p_sigma: where the mean has gone of late, every axis on its own scale
    path_c: Tensor  # float32 [P]  p_c: likewise, on the scale of the mean
    generation: Tensor  # int64 []  those that are over


class Tried(NamedTuple):
    """What came of one controller in its dreams."""

    score: Tensor  # []  mean discounted sum of rewards
    reward: Tensor  # []  mean of a step
    discount: Tensor  # []  likewise
    action: Tensor  # [A]  how often each was taken


class CmaEs(nn.Module):
    """The controller is the mean. All state is in buffers, which are saved, broadcast and resumed like weights."""

    mean: Tensor
    sigma: Tensor
    variance: Tensor
    path_sigma: Tensor
    path_c: Tensor
    generation: Tensor

    def __init__(self, config: BehaviorConfig, *, feat_size: int, num_actions: int) -> None:
        super().__init__()
        self.config, self.shape = config, (num_actions, feat_size + 1)
        for name, value in begin(num_actions * (feat_size + 1), sigma=config.es_sigma)._asdict().items():
            self.register_buffer(name, value)

    def param_groups(self) -> dict[str, Iterable[nn.Parameter]]:
        return {}

    def act(self, world: WorldModel, state: State, *, sample: bool) -> Tensor:
        """The controller's one action; with `sample` a share behavior.unimix of all actions is drawn uniformly."""
        best, share = control(self.mean.view(self.shape), state), self.config.unimix
        return choose(((1 - share) * best + share / best.shape[-1]).log(), sample=sample)

    @torch.no_grad()
    def update(self, world: WorldModel, start: Start, step: GradSteps, mark: Mark = no_mark) -> Metrics:
        """One generation."""
        c = self.config
        now = Strategy(self.mean, self.sigma, self.variance, self.path_sigma, self.path_c, self.generation)
        noise = torch.randn(c.es_population, len(self.mean), device=self.mean.device)
        candidates = now.mean + now.sigma * now.variance.sqrt() * noise
        tried = self.try_all(world, self.some(start), candidates)
        mark("behavior")
        for old, new in zip(now, tell(now, candidates, score=tried.score), strict=True):
            old.copy_(new)
        return {
            # Of all that they do: 0 where all do one and the same. The clamp: 0 log 0 is no number.
            **describe_policy(tried.action.mean(0).clamp(min=1e-8).log()),
            "imagined_reward": tried.reward.mean(),
            "imagined_discount": tried.discount.mean(),
            "imagined_return": tried.score.mean(),
            "imagined_return_std": tried.score.std(),
        }

    def some(self, start: Start) -> Start:
        """A few starts, drawn anew for each generation: the same ones for ever would be learned by heart."""
        drawn = torch.randint(len(start.discount), (self.config.es_starts,), device=start.discount.device)
        return Start(State(start.state.h[drawn], start.state.z[drawn]), start.discount[drawn])

    def try_all(self, world: WorldModel, start: Start, candidates: Tensor) -> Tried:
        """Dreams with each controller from the same starts [N]: candidates [J, P] -> fields [J, ...].

        All meet the same chance in their dreams, so that they differ by what they do alone.
        """
        c = self.config

        def dream(candidate: Tensor) -> Tried:
            weights = candidate.view(self.shape)
            dreamt = world.imagine(lambda state: control(weights, state), start, c.horizon, c.temperature)
            reward, discount = dreamt.reward[1:], dreamt.discount[1:]  # the first ones came with the start
            score = start.discount * plan_return(reward, discount=discount)  # nothing comes after an end
            return Tried(score.mean(), reward.mean(), discount.mean(), dreamt.action.mean((0, 1)))

        return Tried(*torch.vmap(dream, randomness="same")(candidates))


def control(weights: Tensor, state: State) -> Tensor:
    """What a linear controller [A, F+1], the bias last, does in states [N, ...]: -> one-hot [N, A]."""
    feat = state.feat()
    with torch.autocast(feat.device.type, enabled=False):  # controllers that hardly differ must not act alike
        return one_hot_mode(F.linear(feat.float(), weights[:, :-1], weights[:, -1]))


# --- CMA-ES with a diagonal covariance ---


def begin(size: int, *, sigma: float) -> Strategy:
    """A strategy of `size` numbers that knows nothing."""
    zeros = torch.zeros(size)
    return Strategy(zeros, torch.tensor(sigma), zeros + 1, zeros.clone(), zeros.clone(), torch.tensor(0))


class Rates(NamedTuple):
    """The constants of the tutorial, Table 1, those of the covariance made larger for a diagonal one."""

    mu_eff: float  # how many candidates the mean is made of, as if all weighed the same
    c_sigma: float
    damping: float  # d_sigma
    c_c: float
    c_1: float
    c_mu: float


def recombination(population: int, like: Tensor) -> Tensor:
    """Weights of the better half, best first: [mu], on the device of `like`; they add up to 1."""
    rank = torch.arange(1, population // 2 + 1, device=like.device, dtype=like.dtype)
    weights = math.log(population / 2 + 0.5) - rank.log()
    return weights / weights.sum()


def rates(size: int, population: int) -> Rates:
    """For `size` numbers and so many candidates a generation."""
    raw = [math.log(population / 2 + 0.5) - math.log(rank) for rank in range(1, population // 2 + 1)]
    mu_eff = sum(raw) ** 2 / sum(weight**2 for weight in raw)
    c_sigma = (mu_eff + 2) / (size + mu_eff + 5)
    faster = (size + 2) / 3  # a diagonal has fewer numbers to learn; Ros and Hansen
    c_1 = min(1.0, faster * 2 / ((size + 1.3) ** 2 + mu_eff))
    c_mu = min(1 - c_1, faster * 2 * (mu_eff - 2 + 1 / mu_eff) / ((size + 2) ** 2 + mu_eff))
    return Rates(
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        damping=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / size) / (size + 4 + 2 * mu_eff / size),
        c_1=c_1,
        c_mu=c_mu,
    )


def tell(now: Strategy, candidates: Tensor, *, score: Tensor) -> Strategy:
    """The next strategy: candidates [J, P] drawn from `now`, score [J]: the higher the better."""
    size, population = len(now.mean), len(candidates)
    r, weights = rates(size, population), recombination(population, now.mean)
    best = candidates[score.topk(len(weights)).indices]
    steps = (best - now.mean) / now.sigma  # [mu, P]
    step = (weights[:, None] * steps).sum(0)  # not a matrix product: autocast would make it one of bfloat16
    path_sigma = (1 - r.c_sigma) * now.path_sigma + math.sqrt(
        r.c_sigma * (2 - r.c_sigma) * r.mu_eff
    ) * step / now.variance.sqrt()
    length, expected = path_sigma.norm(), math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
    # While the path is too long the steps are too small; the covariance must not be stretched for that.
    fading = 1 - (1 - r.c_sigma) ** (2 * (now.generation + 1))
    calm = (length / fading.sqrt() < (1.4 + 2 / (size + 1)) * expected).to(now.mean.dtype)
    path_c = (1 - r.c_c) * now.path_c + calm * math.sqrt(r.c_c * (2 - r.c_c) * r.mu_eff) * step
    missing = (1 - calm) * r.c_c * (2 - r.c_c)
    variance = (
        (1 - r.c_1 - r.c_mu + r.c_1 * missing) * now.variance
        + r.c_1 * path_c.square()
        + r.c_mu * (weights[:, None] * steps.square()).sum(0)
    )
    sigma = now.sigma * ((r.c_sigma / r.damping) * (length / expected - 1)).exp()
    return Strategy(now.mean + now.sigma * step, sigma, variance, path_sigma, path_c, now.generation + 1)
