"""One pure function per equation.

"Eq." and "Algorithm" numbers are those of Hafner et al., Mastering Atari with Discrete World Models (2021).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gumbel_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise [...] : arg-max of (logits + noise) is a draw from softmax(logits).

    -log(-log(uniform)), which on a CPU takes a fifth of the time of torch's exponential_.
    """
    return torch.rand_like(logits).log_().neg_().log_().neg_()


def straight_through_sample(logits: Tensor, noise: Tensor | None = None) -> Tensor:
    """logits [..., C] -> a one-hot draw [..., C] whose gradient is that of the probabilities (Algorithm 1).

    noise [..., C]: Gumbel noise drawn before. In float32 whatever comes in: in bfloat16 the probabilities would no
    longer sum to one.
    """
    logits = logits.float()
    draw = one_hot_mode(logits + (gumbel_like(logits) if noise is None else noise))
    if not logits.requires_grad:
        return draw
    probs = logits.softmax(-1)
    return draw + (probs - probs.detach())  # the bracket is exactly zero, so the value stays exactly one-hot


def one_hot_mode(logits: Tensor) -> Tensor:
    """logits [..., C] -> the most probable class as one-hot float32 [..., C]; no gradient."""
    # Not F.one_hot: outside CUDA it looks at the values first, which no device that works ahead can be asked for.
    return logits.new_zeros(logits.shape, dtype=torch.float32).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


def log_prob(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Log-probability of a one-hot choice: [..., C], [..., C] -> [...]."""
    return (logits.float().log_softmax(-1) * one_hot.detach()).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of a categorical: [..., C] -> [...]."""
    log_p = logits.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def kl_divergence(*, post: Tensor, prior: Tensor) -> Tensor:
    """KL(post || prior) in nats, summed over the S categoricals: logits [..., S, C] -> [...]."""
    log_q, log_p = post.float().log_softmax(-1), prior.float().log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum((-2, -1))


def kl_balancing(*, post: Tensor, prior: Tensor, balance: float, free_nats: float) -> Tensor:
    """KL loss that trains the prior faster than it pulls the posterior (Algorithm 2): logits [T, B, S, C] -> scalar.

    `balance` (alpha, 0.8) weighs the term that trains the prior. Free nats clip the *mean* over time and batch.
    """
    train_prior = kl_divergence(post=post.detach(), prior=prior).mean()
    train_post = kl_divergence(post=post, prior=prior.detach()).mean()
    return balance * train_prior.clamp(min=free_nats) + (1 - balance) * train_post.clamp(min=free_nats)


def normal_nll(target: Tensor, *, mean: Tensor) -> Tensor:
    """-log N(target; mean, 1), element by element, with its constant."""
    return 0.5 * (target - mean.float()).square() + 0.5 * math.log(2 * math.pi)


def bernoulli_nll(target: Tensor, *, logit: Tensor) -> Tensor:
    """-log Bernoulli(target; logit), element by element. The target may be soft: gamma instead of 1."""
    return F.binary_cross_entropy_with_logits(logit.float(), target, reduction="none")


def lambda_return(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    """V-lambda (Eq. 4): reward, discount, value [H+1, N] -> target [H, N].

    G_i = r_i + d_i * ((1 - lambda) * v_{i+1} + lambda * G_{i+1}),   G_H = v_H.
    Reward and discount have the SAME index as the state that is valued: they came with arriving there.
    """
    future = value[-1]
    targets = []
    for i in reversed(range(len(value) - 1)):
        future = reward[i] + discount[i] * ((1 - lambda_) * value[i + 1] + lambda_ * future)
        targets.append(future)
    return torch.stack(targets[::-1])


def survival_weight(discount: Tensor) -> Tensor:
    """Probability that the dream still runs on arriving at each state: [H+1, N] -> [H+1, N], detached.

    weight_0 = 1, weight_i = d_0 * ... * d_{i-1}: the discount of a state weighs the states after it.
    """
    alive = torch.cat([torch.ones_like(discount[:1]), discount[:-1]])
    return alive.cumprod(0).detach()


def actor_loss(
    logits: Tensor,
    *,
    action: Tensor,
    target: Tensor,
    baseline: Tensor,
    weight: Tensor,
    rho: float,
    entropy_scale: float,
) -> Tensor:
    """Eq. 6: rho * REINFORCE + (1 - rho) * dynamics backpropagation + eta * entropy, weighted by survival -> scalar.

    logits, action [K, N, A] and baseline, weight [K, N] of the state that is left; target [K, N] of the one reached.
    """
    advantage = (target - baseline).detach()
    objective = rho * log_prob(logits, action) * advantage + (1 - rho) * target
    return -(weight * (objective + entropy_scale * entropy(logits))).mean()


def critic_loss(value: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
    """Eq. 5: regression of the return with unit variance, weighted by survival: [H, N] x 3 -> scalar."""
    return (weight * normal_nll(target.detach(), mean=value)).mean()
