"""Equations of the behaviours: actor, critic and proximal policy optimisation, by tables of numbers and identities."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer.equations import (
    actor_loss,
    critic_loss,
    entropy,
    log_prob,
    one_hot_mode,
    ppo_loss,
)
from tests.dreamer.test_equations import gradient

close = torch.testing.assert_close


# --- actor and critic ------------------------------------------------------------------------------------------------


def objective(**changes) -> Tensor:
    """One dream (N=1) of two states (K=2) with two actions: chances 1/4, 3/4 then 1/2, 1/2."""
    table = {
        "logits": torch.tensor([[[0.0, math.log(3.0)]], [[2.0, 2.0]]]),
        "action": torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]),
        "target": torch.tensor([[3.0], [1.0]]),
        "baseline": torch.tensor([[1.0], [2.0]]),
        "weight": torch.tensor([[1.0], [0.5]]),
        "rho": 1.0,
        "entropy_scale": 0.0,
    }
    table |= changes
    return actor_loss(table.pop("logits"), **table)


def test_reinforce_of_a_table_made_by_hand() -> None:
    expected = -(1.0 * math.log(3 / 4) * (3 - 1) + 0.5 * math.log(1 / 2) * (1 - 2)) / 2
    close(objective(), torch.tensor(expected))


def test_dynamics_objective_of_a_table_made_by_hand() -> None:
    close(objective(rho=0.0), torch.tensor(-(1.0 * 3 + 0.5 * 1) / 2))


def test_rho_mixes_the_two_objectives() -> None:
    close(objective(rho=0.3), 0.3 * objective(rho=1.0) + 0.7 * objective(rho=0.0))


def test_entropy_of_a_table_made_by_hand_lowers_the_loss() -> None:
    first = -(1 / 4 * math.log(1 / 4) + 3 / 4 * math.log(3 / 4))
    bonus = (1.0 * first + 0.5 * math.log(2)) / 2
    close(objective() - objective(entropy_scale=0.1), torch.tensor(0.1 * bonus))


def test_descending_the_actor_loss_raises_the_entropy() -> None:
    logits = torch.randn(4, 3, 5, requires_grad=True)
    zeros = torch.zeros(4, 3)
    loss = objective(
        logits=logits,
        action=F.one_hot(torch.zeros(4, 3, dtype=torch.int64), 5).float(),
        target=zeros,
        baseline=zeros,
        weight=torch.ones(4, 3),
        entropy_scale=1.0,
    )
    (grad,) = gradient(loss, logits)
    assert (entropy(logits - grad) > entropy(logits)).all()


def test_descending_the_actor_loss_makes_a_good_action_more_probable_and_a_bad_one_less() -> None:
    logits = torch.zeros(2, 1, 2, requires_grad=True)
    (grad,) = gradient(objective(logits=logits), logits)
    assert grad[0, 0, 1] < 0 < grad[0, 0, 0]  # action 1, advantage +2
    assert grad[1, 0, 0] > 0 > grad[1, 0, 1]  # action 0, advantage -1


def test_reinforce_sends_no_gradient_into_target_baseline_or_action() -> None:
    target, baseline = torch.randn(2, 2, 1).unbind()
    action = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]], requires_grad=True)
    logits = torch.zeros(2, 1, 2, requires_grad=True)
    loss = objective(logits=logits, action=action, target=target.requires_grad_(), baseline=baseline.requires_grad_())
    to_logits, *others = gradient(loss, logits, target, baseline, action)
    assert to_logits.abs().max() > 0
    assert all((grad == 0).all() for grad in others)


def test_dynamics_objective_sends_its_gradient_into_the_target_alone() -> None:
    target, baseline = torch.randn(2, 2, 1).unbind()
    logits = torch.zeros(2, 1, 2, requires_grad=True)
    loss = objective(logits=logits, target=target.requires_grad_(), baseline=baseline.requires_grad_(), rho=0.0)
    to_target, *others = gradient(loss, target, logits, baseline)
    close(to_target, torch.tensor([[-0.5], [-0.25]]))  # -weight / K
    assert all((grad == 0).all() for grad in others)


def test_critic_loss_of_a_table_made_by_hand() -> None:
    loss = critic_loss(
        torch.tensor([[[1.0]], [[2.0]]]), target=torch.tensor([[3.0], [1.0]]), weight=torch.tensor([[1.0], [0.5]])
    )
    constant = 0.5 * math.log(2 * math.pi)
    close(loss, torch.tensor((1.0 * (2.0 + constant) + 0.5 * (0.5 + constant)) / 2))


def test_critic_loss_sends_its_gradient_into_the_value_alone() -> None:
    value, target = torch.randn(2, 2, 1).unbind()
    value.requires_grad_()
    target.requires_grad_()
    weight = torch.tensor([[1.0], [0.5]])
    to_value, to_target = gradient(critic_loss(value[..., None], target=target, weight=weight), value, target)
    close(to_value, (weight * (value - target) / 2).detach())
    assert (to_target == 0).all()


# --- proximal policy optimisation ------------------------------------------------------------------------------------


def surrogate(chance: float, advantage: float, **changes) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by the logits of two actions, where the first one, taken, had a chance of 1/2."""
    logits = torch.tensor([[chance, 1 - chance]]).log().requires_grad_()
    table = {
        "action": torch.tensor([[1.0, 0.0]]),
        "old_log_prob": torch.tensor([0.5]).log(),
        "advantage": torch.tensor([advantage]),
        "weight": torch.tensor([1.0]),
        "clip": 0.1,
        "entropy_scale": 0.0,
    }
    loss = ppo_loss(logits, **(table | changes))
    return loss.detach(), gradient(loss, logits)[0]


@pytest.mark.parametrize(
    ("chance", "advantage", "objective", "clipped"),
    [  # ratio = chance / 0.5
        (0.50, 3.0, 1.0 * 3.0, False),
        (0.54, 3.0, 1.08 * 3.0, False),
        (0.60, 3.0, 1.1 * 3.0, True),  # good, and more probable than it should become at once
        (0.30, 3.0, 0.6 * 3.0, False),  # good, and less probable than it was: may come back
        (0.46, -3.0, 0.92 * -3.0, False),
        (0.40, -3.0, 0.9 * -3.0, True),  # bad, and less probable than it should become at once
        (0.70, -3.0, 1.4 * -3.0, False),  # bad, and more probable than it was
    ],
)
def test_clipped_surrogate_of_a_table_made_by_hand(
    chance: float, advantage: float, objective: float, clipped: bool
) -> None:
    loss, grad = surrogate(chance, advantage)
    close(loss, torch.tensor(-objective))
    # d ratio / d logit of the action taken = ratio * (1 - chance)
    slope = 0.0 if clipped else -advantage * chance / 0.5 * (1 - chance)
    close(grad, torch.tensor([[slope, -slope]]))


def test_a_weight_scales_an_actions_surrogate_and_entropy() -> None:
    loss, _ = surrogate(0.5, 3.0, weight=torch.tensor([0.25]), entropy_scale=0.1)
    close(loss, torch.tensor(-0.25 * (3.0 + 0.1 * math.log(2))))


def test_entropy_is_not_clipped() -> None:
    _, grad = surrogate(0.6, 3.0, entropy_scale=1.0)
    assert grad[0, 0] > 0 > grad[0, 1]  # descending it makes the more probable action less so


def test_of_the_policy_that_dreamt_the_surrogates_gradient_is_that_of_reinforce() -> None:
    logits, table = torch.randn(7, 3, 5, requires_grad=True), torch.randn(4, 7, 3)
    action = one_hot_mode(torch.randn(7, 3, 5))
    shared = {"action": action, "weight": table[0].sigmoid(), "entropy_scale": 0.01}
    theirs = actor_loss(logits, target=table[1], baseline=table[2], rho=1.0, **shared)
    old = log_prob(logits, action)
    ours = ppo_loss(logits, old_log_prob=old, advantage=table[1] - table[2], clip=0.1, **shared)
    close(gradient(ours, logits)[0], gradient(theirs, logits)[0])


def test_the_surrogate_sends_no_gradient_into_advantage_and_old_policy() -> None:
    advantage, old = torch.tensor([3.0], requires_grad=True), torch.tensor([-0.7], requires_grad=True)
    logits = torch.zeros(1, 2, requires_grad=True)
    table = {"action": torch.tensor([[1.0, 0.0]]), "weight": torch.ones(1), "clip": 0.1, "entropy_scale": 0.0}
    loss = ppo_loss(logits, old_log_prob=old, advantage=advantage, **table)
    to_logits, *others = gradient(loss, logits, advantage, old)
    assert to_logits.abs().max() > 0
    assert all((grad == 0).all() for grad in others)
