"""One pure function per equation.

"Eq." and "Algorithm" numbers are those of Hafner et al., Mastering Atari with Discrete World Models (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SYMLOG = 8.0  # two-hot heads reach to e^8 - 1 = 2980; dreamerv3 has 20, whose far classes drown the near ones early
MOVED = 0.05  # share of the gray scale by which a pixel must change to count as moved


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
    # And not scatter_, which torch.vmap (behaviors/cem.py) knows only as a loop.
    return logits.new_zeros(logits.shape, dtype=torch.float32).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)


def unimix(logits: Tensor, share: float) -> Tensor:
    """Logits of (1 - share) * softmax(logits) + share * uniform: [..., C] -> [..., C]; no KL is infinite then."""
    if share == 0:
        return logits
    return ((1 - share) * logits.softmax(-1) + share / logits.shape[-1]).log()


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


def kl_balancing(
    *,
    post: Tensor,
    prior: Tensor,
    balance: float,
    free_nats: float,
    free_each: bool = False,
    kl: Callable[..., Tensor] = kl_divergence,
) -> Tensor:
    """KL loss that trains the prior faster than it pulls the posterior (Algorithm 2): logits [T, B, S, C] -> scalar.

    `balance` (alpha, 0.8) weighs the term that trains the prior. Free nats clip the *mean* over time and batch, or with
    `free_each` every step by itself (dreamerv3): then a step of much surprise does not pay for those of little.
    """
    terms = kl(post=post.detach(), prior=prior), kl(post=post, prior=prior.detach())
    if free_each:
        train_prior, train_post = (term.clamp(min=free_nats).mean() for term in terms)
    else:
        train_prior, train_post = (term.mean().clamp(min=free_nats) for term in terms)
    return balance * train_prior + (1 - balance) * train_post


def squash(reward: Tensor, how: str) -> Tensor:
    """Rewards as they are learned [...] -> [...]: tanh (dreamerv2), clip = at most 1, or none."""
    match how:
        case "tanh":
            return reward.tanh()
        case "clip":
            return reward.clamp(max=1.0)
        case "none":
            return reward
        case _:
            raise ValueError(f"model.reward_squash must be tanh, clip or none, not {how!r}")


def picture_nll(image: Tensor, *, drawn: Tensor, what: str) -> Tensor:
    """-log p(image), pixel by pixel: image on the scale -0.5..0.5, what the decoder has drawn, both [..., C, H, W].

    normal: drawn is the mean of a normal of unit variance (dreamerv2). bernoulli: the logit that a pixel is white; a
    gray one is so with its share. Of a ball that may be in one of k places a normal learns next to nothing until k is
    small: its loss falls by a share 1/k of what a white pixel costs. A Bernoulli's falls by log 2 whenever k halves.
    """
    return bernoulli_nll(image + 0.5, logit=drawn) if what == "bernoulli" else normal_nll(image, mean=drawn)


def picture_mean(drawn: Tensor, *, what: str) -> Tensor:
    """The picture that the decoder means, on the scale -0.5..0.5: [..., C, H, W] -> float32 [..., C, H, W]."""
    return drawn.float().sigmoid() - 0.5 if what == "bernoulli" else drawn


def normal_nll(target: Tensor, *, mean: Tensor) -> Tensor:
    """-log N(target; mean, 1), element by element, with its constant."""
    return 0.5 * (target - mean.float()).square() + 0.5 * math.log(2 * math.pi)


def scalar_nll(target: Tensor, *, out: Tensor) -> Tensor:
    """-log p(target) of a head's output: target [...], out [..., 1] a normal's mean, or [..., bins] two-hot logits."""
    if out.shape[-1] == 1:
        return normal_nll(target, mean=out.squeeze(-1))
    return -(two_hot(target, out.shape[-1]) * out.float().log_softmax(-1)).sum(-1)


def scalar_mean(out: Tensor) -> Tensor:
    """The number that a head predicts: [..., 1] or two-hot logits [..., bins] -> [...]."""
    if out.shape[-1] == 1:
        return out.squeeze(-1)
    # Not a matrix product: autocast would make it one of bfloat16.
    return (out.float().softmax(-1) * bin_values(out.shape[-1], out.device)).sum(-1)


def bin_values(bins: int, device: torch.device) -> Tensor:
    """What the classes of a two-hot head stand for: float32 [bins], dense around zero, to +-symexp(MAX_SYMLOG)."""
    x = torch.linspace(-MAX_SYMLOG, MAX_SYMLOG, bins, device=device)
    return x.sign() * x.abs().expm1()


def two_hot(x: Tensor, bins: int) -> Tensor:
    """Shares of the two nearest classes whose mean is x, clipped to the range of the classes: [...] -> [..., bins]."""
    values = bin_values(bins, x.device)
    x = x.float().clamp(values[0], values[-1])
    above = torch.searchsorted(values, x.contiguous()).clamp(1, bins - 1)
    below = above - 1
    share = ((x - values[below]) / (values[above] - values[below]))[..., None]
    place = torch.arange(bins, device=x.device)
    return (1 - share) * (place == below[..., None]) + share * (place == above[..., None])


def moving(image: Tensor, is_first: Tensor, *, reach: int) -> Tensor:
    """Where something changed on the way to a picture, and up to `reach` pixels beside: float [T, B, C, H, W] -> bool.

    The first picture of the window and those of a game's start have none before them: nothing moved.
    """
    changed = ((image[1:] - image[:-1]).abs() > MOVED) & ~is_first[1:, :, None, None, None]
    changed = torch.cat([torch.zeros_like(changed[:1]), changed])
    for axis in (-2, -1):  # one after the other: a tenth of the time of torch's max_pool2d
        pixels, near = changed.shape[axis], changed.clone()
        for by in range(1, reach + 1):
            near.narrow(axis, by, pixels - by).logical_or_(changed.narrow(axis, 0, pixels - by))
            near.narrow(axis, 0, pixels - by).logical_or_(changed.narrow(axis, by, pixels - by))
        changed = near
    return changed


def bernoulli_nll(target: Tensor, *, logit: Tensor) -> Tensor:
    """-log Bernoulli(target; logit), element by element. The target may be soft: gamma instead of 1."""
    return F.binary_cross_entropy_with_logits(logit.float(), target, reduction="none")


def lambda_return(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    """V-lambda (Eq. 4): reward, discount, value [H+1, N] -> target [H, N].

    G_i = r_i + d_i * ((1 - lambda) * v_{i+1} + lambda * G_{i+1}),   G_H = v_H.
    Reward and discount have the SAME index as the state that is valued: they came with arriving there. Those of the
    last state count for nothing; so reward[1:] and discount[1:] give the value of what comes AFTER each state (ppo).
    """
    steps = len(value) - 1
    reward, discount = reward[:steps], discount[:steps]
    return accumulate(reward + (1 - lambda_) * discount * value[1:], kept=lambda_ * discount, last=value[-1])[:-1]


def window_return(reward: Tensor, *, discount: Tensor, value: Tensor, is_first: Tensor, lambda_: float) -> Tensor:
    """Return of what comes AFTER each state of a window of the replay: all [T, B] -> target [T, B].

    G_t = r_{t+1} + d_{t+1} * ((1 - lambda) * v_{t+1} + lambda * G_{t+1}). Where nothing that is known comes after a
    state, at the end of the window or because another game begins, G_t = v_t.
    """
    unknown, discount = is_first[1:], discount[1:]
    now = value[:-1].where(unknown, reward[1:] + (1 - lambda_) * discount * value[1:])
    return accumulate(now, kept=(lambda_ * discount).masked_fill(unknown, 0.0), last=value[-1])


def accumulate(now: Tensor, *, kept: Tensor, last: Tensor) -> Tensor:
    """G_t = now_t + kept_t * G_{t+1} with G_T = last: now, kept [T, ...], last [...] -> G [T+1, ...].

    What does not wait for G_{t+1} was computed for all steps at once, so that each step is one operation. A kept_t of 0
    cuts off what is finite.
    """
    sums = [last]
    for one, share in zip(reversed(now.unbind()), reversed(kept.unbind()), strict=True):
        sums.append(torch.addcmul(one, share, sums[-1]))
    return torch.stack(sums[::-1])


def plan_return(reward: Tensor, *, discount: Tensor, value: Tensor | None = None) -> Tensor:
    """What a plan brings: reward, discount [H, ...] of the H states that it leads to -> [...].

    The sum of r_i * d_1 ... d_{i-1}, and d_1 ... d_H * value; value [...]: of what comes AFTER the last state.
    """
    brought = (survival_weight(discount) * reward).sum(0)
    return brought if value is None else brought + discount.prod(0) * value


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


def ppo_loss(
    logits: Tensor,
    *,
    action: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    weight: Tensor,
    clip: float,
    entropy_scale: float,
) -> Tensor:
    """Clipped surrogate and entropy (Schulman et al., Proximal Policy Optimization, 2017, Eq. 7 and 9) -> scalar.

    logits, action [M, A]; old_log_prob (of the action, by the policy that chose it), advantage, weight [M]. There is no
    gradient left once a good action has become 1 + clip times as probable as it was, or a bad one 1 - clip times.
    Weighted by survival, like `actor_loss`.
    """
    advantage = advantage.detach()
    ratio = (log_prob(logits, action) - old_log_prob.detach()).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -(weight * (surrogate + entropy_scale * entropy(logits))).mean()


def critic_loss(out: Tensor, *, target: Tensor, weight: Tensor) -> Tensor:
    """Eq. 5: regression of the return, weighted by survival: head's output [..., 1 or bins], [...] x 2 -> scalar."""
    return (weight * scalar_nll(target.detach(), out=out)).mean()
