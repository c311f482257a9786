"""Equations: tables of numbers computed by hand, and identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dreamer import equations
from dreamer.equations import (
    bernoulli_nll,
    entropy,
    kl_balancing,
    kl_divergence,
    lambda_return,
    log_prob,
    normal_nll,
    one_hot_mode,
    squash,
    straight_through_sample,
    survival_weight,
)

close = torch.testing.assert_close

# Section "golden numbers": one dream of three steps, two categoricals of three classes.
REWARD = torch.tensor([[0.0], [1.0], [0.0], [2.0]])
VALUE = torch.tensor([[0.5], [0.4], [0.3], [0.2]])
DISCOUNT = torch.tensor([[0.9], [0.9], [0.0], [0.9]])
POST = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
PRIOR = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
KL = 0.448499


def random_dream(horizon: int = 6, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(horizon + 1, n), torch.rand(horizon + 1, n), torch.randn(horizon + 1, n)


def gradient(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs, materialize_grads=True, allow_unused=True)


# --- lambda return ---------------------------------------------------------------------------------------------------


def test_lambda_return_of_the_golden_dream() -> None:
    target = lambda_return(REWARD, discount=DISCOUNT, value=VALUE, lambda_=0.95)
    close(target, torch.tensor([[0.884543], [1.0135], [0.0]]), atol=1e-6, rtol=0)


def test_golden_return_tells_rewards_of_the_next_state_from_those_of_the_same_state() -> None:
    shifted = lambda_return(REWARD.roll(-1, 0), discount=DISCOUNT, value=VALUE, lambda_=0.95)
    assert (shifted[0] - 0.884543).abs() > 0.1
    shifted = lambda_return(REWARD, discount=DISCOUNT.roll(-1, 0), value=VALUE, lambda_=0.95)
    assert (shifted[1] - 1.0135).abs() > 0.01


def test_lambda_zero_is_the_one_step_target() -> None:
    reward, discount, value = random_dream()
    target = lambda_return(reward, discount=discount, value=value, lambda_=0.0)
    close(target, reward[:-1] + discount[:-1] * value[1:])


def test_lambda_one_is_the_discounted_sum_of_rewards_and_the_last_value() -> None:
    reward, discount, value = random_dream()
    target = lambda_return(reward, discount=discount, value=value, lambda_=1.0)
    horizon = len(reward) - 1
    for i in range(horizon):
        weight, expected = torch.ones(reward.shape[1]), torch.zeros(reward.shape[1])
        for j in range(i, horizon):
            expected, weight = expected + weight * reward[j], weight * discount[j]
        close(target[i], expected + weight * value[-1])


def test_last_value_bootstraps_whatever_lambda_is_and_last_reward_counts_for_nothing() -> None:
    reward, discount, value = random_dream()
    expected = reward[-2] + discount[-2] * value[-1]
    for lambda_ in (0.0, 0.5, 1.0):
        close(lambda_return(reward, discount=discount, value=value, lambda_=lambda_)[-1], expected)
    reward[-1] += 100
    close(lambda_return(reward, discount=discount, value=value, lambda_=0.5)[-1], expected)


def test_shifted_rewards_and_discounts_give_the_return_of_what_comes_after_a_state() -> None:
    """Two conventions of one value: u_i = r_i + d_i * v_i includes the reward for arriving, v_i does not."""
    reward, discount, after = random_dream()
    own = reward + discount * after
    for lambda_ in (0.0, 0.7, 1.0):
        target = lambda_return(reward[1:], discount=discount[1:], value=after, lambda_=lambda_)
        close(target[-1], own[-1])
        theirs = lambda_return(reward, discount=discount, value=own, lambda_=lambda_)
        close(reward[:-1] + discount[:-1] * target, theirs)


# --- survival weight -------------------------------------------------------------------------------------------------


def test_survival_weight_of_the_golden_dream() -> None:
    close(survival_weight(DISCOUNT), torch.tensor([[1.0], [0.9], [0.81], [0.0]]))


def test_a_discount_weighs_only_the_states_after_its_own() -> None:
    discount = torch.rand(6, 4) * 0.8 + 0.1
    weight = survival_weight(discount)
    close(weight[0], torch.ones(4))
    close(weight[1], discount[0])
    changed = discount.clone()
    changed[2] *= 0.5
    ratio = survival_weight(changed) / weight
    close(ratio, torch.tensor([1.0, 1, 1, 0.5, 0.5, 0.5])[:, None].expand(6, 4))


def test_survival_weight_is_cut_from_its_graph() -> None:
    assert not survival_weight(torch.rand(4, 2, requires_grad=True)).requires_grad


# --- Kullback-Leibler ------------------------------------------------------------------------------------------------


def test_kl_of_the_golden_logits_is_summed_over_categoricals() -> None:
    close(kl_divergence(post=POST, prior=PRIOR), torch.tensor(KL), atol=1e-6, rtol=0)
    separately = [kl_divergence(post=q[None], prior=p[None]) for q, p in zip(POST, PRIOR, strict=True)]
    close(sum(separately), torch.tensor(KL), atol=1e-6, rtol=0)


def test_golden_kl_tells_post_from_prior() -> None:
    assert abs(kl_divergence(post=PRIOR, prior=POST).item() - KL) > 0.01


def test_kl_equals_that_of_torch_distributions() -> None:
    post, prior = torch.randn(2, 7, 3, 4, 5)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=post), torch.distributions.Categorical(logits=prior)
    )
    close(kl_divergence(post=post, prior=prior), theirs.sum(-1))


def test_kl_of_equal_distributions_is_zero() -> None:
    close(kl_divergence(post=POST, prior=POST + 3.0), torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.8, 1.0])
def test_balance_does_not_change_the_value_of_the_kl_loss(balance: float) -> None:
    post, prior = torch.randn(2, 3, 2, 4, 5)
    loss = kl_balancing(post=post, prior=prior, balance=balance, free_nats=0.0)
    close(loss, kl_divergence(post=post, prior=prior).mean())


def test_half_balance_is_half_the_plain_kl_gradient() -> None:
    post, prior = torch.randn(2, 3, 2, 4, 5).unbind()
    post.requires_grad_()
    prior.requires_grad_()
    ours = gradient(kl_balancing(post=post, prior=prior, balance=0.5, free_nats=0.0), post, prior)
    plain = gradient(kl_divergence(post=post, prior=prior).mean(), post, prior)
    for a, b in zip(ours, plain, strict=True):
        close(2 * a, b)


def test_balance_share_reaches_the_prior_and_the_rest_the_posterior() -> None:
    post, prior = torch.randn(2, 3, 2, 4, 5).unbind()
    post.requires_grad_()
    prior.requires_grad_()
    to_post, to_prior = gradient(kl_balancing(post=post, prior=prior, balance=0.8, free_nats=0.0), post, prior)
    plain_post, plain_prior = gradient(kl_divergence(post=post, prior=prior).mean(), post, prior)
    close(to_prior, 0.8 * plain_prior)
    close(to_post, 0.2 * plain_post)
    assert plain_post.abs().max() > 0 and plain_prior.abs().max() > 0


def test_free_nats_clip_the_mean_and_not_its_parts() -> None:
    """Two steps, one with much KL and one with none: clipping step by step would give more than the mean."""
    post = torch.stack([POST * 4, PRIOR])[:, None].requires_grad_()
    prior = torch.stack([PRIOR, PRIOR])[:, None]
    mean = kl_divergence(post=post, prior=prior).mean()
    free = mean.item() * 0.9
    loss = kl_balancing(post=post, prior=prior, balance=0.8, free_nats=free)
    close(loss, mean)
    assert kl_divergence(post=post, prior=prior).clamp(min=free).mean() > mean * 1.1
    assert gradient(loss, post)[0].abs().max() > 0


def test_kl_below_the_free_nats_costs_their_constant_and_has_no_gradient() -> None:
    post, prior = POST[None, None].clone().requires_grad_(), PRIOR[None, None].clone().requires_grad_()
    loss = kl_balancing(post=post, prior=prior, balance=0.8, free_nats=1.0)
    close(loss, torch.tensor(1.0))
    assert all((grad == 0).all() for grad in gradient(loss, post, prior))


# --- categoricals ----------------------------------------------------------------------------------------------------


def test_entropy_of_a_uniform_choice_is_the_logarithm_of_its_classes() -> None:
    close(entropy(torch.full((2, 7), 3.0)), torch.full((2,), math.log(7)))


def test_entropy_of_a_certain_choice_is_zero() -> None:
    close(entropy(torch.tensor([200.0, 0.0, 0.0])), torch.tensor(0.0))


def test_log_prob_is_that_of_the_chosen_class() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    close(log_prob(logits, torch.eye(2)), torch.tensor([0.25, 0.5]).log())


def test_log_prob_sends_no_gradient_into_the_choice() -> None:
    logits = torch.randn(6, 4, requires_grad=True)
    action = straight_through_sample(logits)
    (grad,) = gradient(log_prob(logits, action).sum(), logits)
    close(grad, action.detach() - logits.detach().softmax(-1))


def test_mode_is_the_most_probable_class() -> None:
    mode = one_hot_mode(torch.tensor([[0.1, 0.3, 0.2], [5.0, -1.0, 0.0]], requires_grad=True))
    close(mode, torch.tensor([[0.0, 1, 0], [1, 0, 0]]))
    assert not mode.requires_grad


def test_sample_is_exactly_one_hot() -> None:
    sample = straight_through_sample(torch.randn(500, 8) * 2)
    assert torch.equal(sample, one_hot_mode(sample))


def test_gradient_of_a_sample_is_that_of_the_probabilities() -> None:
    logits, weight = torch.randn(10, 6, requires_grad=True), torch.randn(10, 6)
    (ours,) = gradient((straight_through_sample(logits) * weight).sum(), logits)
    (softmax,) = gradient((logits.softmax(-1) * weight).sum(), logits)
    close(ours, softmax)


def test_samples_are_as_frequent_as_probable() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    frequency = straight_through_sample(logits.expand(40_000, 4)).mean(0)
    close(frequency, logits.softmax(-1), atol=0.01, rtol=0)


def test_sample_without_noise_is_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "gumbel_like", torch.zeros_like)
    logits = torch.randn(50, 5)
    close(straight_through_sample(logits), one_hot_mode(logits))


def test_noise_has_the_mean_and_the_spread_of_a_standard_gumbel() -> None:
    noise = equations.gumbel_like(torch.empty(100_000))
    assert noise.isfinite().all()
    assert abs(noise.mean().item() - 0.5772) < 0.02
    assert abs(noise.std().item() - math.pi / math.sqrt(6)) < 0.02


@pytest.mark.parametrize("function", [straight_through_sample, one_hot_mode, entropy])
def test_categoricals_are_float32_whatever_comes_in(function) -> None:
    assert function(torch.randn(3, 32, dtype=torch.bfloat16)).dtype == torch.float32


def test_bfloat16_logits_lose_no_probability() -> None:
    """Probabilities in bfloat16 miss a sum of one by up to a per cent, and gradients with them."""
    logits, weight = torch.randn(200, 32).bfloat16(), torch.randn(200, 32)
    ours, exact = logits.clone().requires_grad_(), logits.float().requires_grad_()
    (grad,) = gradient((straight_through_sample(ours) * weight).sum(), ours)
    (expected,) = gradient((exact.softmax(-1) * weight).sum(), exact)
    assert torch.equal(grad, expected.bfloat16())


# --- rewards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [("tanh", [0.0, math.tanh(1), math.tanh(7), -math.tanh(2)]), ("clip", [0, 1, 1, -2]), ("none", [0, 1, 7, -2])],
)
def test_squashed_rewards(how: str, expected: list[float]) -> None:
    close(squash(torch.tensor([0.0, 1.0, 7.0, -2.0]), how), torch.tensor(expected, dtype=torch.float32))


def test_an_unknown_way_to_squash_is_an_error() -> None:
    with pytest.raises(ValueError, match="tanh, clip or none, not 'log'"):
        squash(torch.zeros(1), "log")


# --- likelihoods -----------------------------------------------------------------------------------------------------


def test_perfect_picture_of_4096_pixels_costs_3764_nats() -> None:
    picture = torch.rand(1, 64, 64)
    assert round(normal_nll(picture, mean=picture).sum().item(), 1) == 3764.0


def test_normal_nll_equals_that_of_torch_distributions() -> None:
    target, mean = torch.randn(2, 5, 3)
    close(normal_nll(target, mean=mean), -torch.distributions.Normal(mean, 1.0).log_prob(target))


def test_bernoulli_nll_of_a_soft_target_is_least_at_that_target() -> None:
    target, logit = torch.tensor([0.999, 0.0, 0.3]), torch.randn(3, requires_grad=True)
    probability = logit.sigmoid()
    expected = -(target * probability.log() + (1 - target) * (1 - probability).log())
    close(bernoulli_nll(target, logit=logit), expected)
    at_target = torch.logit(torch.tensor([0.999])).requires_grad_()
    (grad,) = gradient(bernoulli_nll(torch.tensor([0.999]), logit=at_target).sum(), at_target)
    close(grad, torch.zeros(1), atol=1e-6, rtol=0)
