"""PlaNet's planner: its belief by hand, plans that are found, and mistakes that would be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors.cem import Cem, draw_plans, refit
from dreamer.config import BehaviorConfig
from dreamer.equations import one_hot_mode, plan_return, window_return
from dreamer.types import State
from tests.dreamer.tiny import ACTIONS, BEHAVIOR, MODEL, make_agent, make_steps, random_state, random_windows

close = torch.testing.assert_close
PLAN = replace(BEHAVIOR, name="cem", horizon=3, cem_candidates=200, cem_rounds=4, cem_elites=10, cem_score="sum")


def hot(actions: list[str], number: int = 4) -> Tensor:
    """One game's plans, a letter for each step: -> [J, H, 1, A]."""
    return torch.eye(number)[torch.tensor([[int(a) for a in plan] for plan in actions])][:, :, None]


# --- The belief ------------------------------------------------------------------------------------------------------


def test_the_belief_is_how_often_the_best_plans_took_each_action() -> None:
    plans, score = hot(["012", "310", "312", "103"]), torch.tensor([1.0, 2.5, 2.0, -1.0])[:, None]
    belief = refit(plans, score, elites=2, mix=0.1)[:, 0]
    close(
        belief, torch.tensor([[0.025, 0.025, 0.025, 0.925], [0.025, 0.925, 0.025, 0.025], [0.475, 0.025, 0.475, 0.025]])
    )
    assert refit(plans, score, elites=2, mix=0.0)[:, 0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [0.5, 0, 0.5, 0]]


def test_every_game_believes_its_own_best_plans() -> None:
    plans = torch.cat([hot(["00", "11", "22"]), hot(["30", "21", "12"])], 2)
    score = torch.tensor([[1.0, 0.0], [2.0, 5.0], [3.0, 7.0]])
    belief = refit(plans, score, elites=1, mix=0.0)
    assert belief[:, 0].argmax(-1).tolist() == [2, 2] and belief[:, 1].argmax(-1).tolist() == [1, 2]


def test_plans_are_drawn_as_believed_and_never_an_action_is_given_up() -> None:
    belief = torch.tensor([[[0.7, 0.2, 0.1]], [[0.0, 1.0, 0.0]]])
    plans = draw_plans(belief, 20_000, hold=0.0)
    close(plans, one_hot_mode(plans))
    close(plans.mean(0), belief, atol=0.02, rtol=0)
    assert (refit(plans, torch.rand(20_000, 1), elites=2, mix=0.1) > 0).all()


def test_plans_that_hold_repeat_the_action_before() -> None:
    belief = torch.full((6, 2, 3), 1 / 3)
    for hold, expected in ((0.0, 1 / 3), (0.5, 0.5 + 0.5 / 3), (0.9, 0.9 + 0.1 / 3)):
        plans = draw_plans(belief, 4000, hold=hold)
        same = (plans[:, 1:] * plans[:, :-1]).sum(-1)
        close(same.mean((0, 2)), torch.full((5,), expected), atol=0.03, rtol=0)
        close(plans.mean(0), belief, atol=0.04, rtol=0)  # each action as often as ever


# --- The score -------------------------------------------------------------------------------------------------------


def test_what_a_plan_brings_in_numbers() -> None:
    reward, discount, value = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.99, 0.9, 0.99]), torch.tensor(2.0)
    close(plan_return(reward, discount=torch.ones(3)), torch.tensor(1.5))
    close(plan_return(reward, discount=discount), torch.tensor(1.4355))
    close(plan_return(reward, discount=discount, value=value), torch.tensor(3.19968))


def test_nothing_counts_after_an_end_but_the_reward_that_came_with_it() -> None:
    reward, discount = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 0.0, 0.5])
    close(plan_return(reward, discount=discount, value=torch.tensor(8.0)), torch.tensor(1.0 + 0.5 * 2.0))


def test_the_return_of_a_window_in_numbers() -> None:
    reward, discount = torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([0.99, 0.99, 0.99, 0.0])
    value, never = torch.tensor([0.5, 0.6, 0.2, 0.9]), torch.zeros(4, dtype=torch.bool)
    found = window_return(reward, discount=discount, value=value, is_first=never, lambda_=0.5)
    close(found, torch.tensor([1.346005, 0.099, 0.0, 0.9]))
    # Another game begins with the third state: of what comes after the second nothing is known.
    found = window_return(reward, discount=discount, value=value, is_first=torch.arange(4) == 2, lambda_=0.5)
    close(found, torch.tensor([1 + 0.99 * 0.6, 0.6, 0.0, 0.9]))


@pytest.mark.parametrize("lambda_", [0.0, 1.0])
def test_the_return_of_a_window_at_both_ends_of_lambda(lambda_: float) -> None:
    reward, discount, value = torch.rand(6, 2), torch.rand(6, 2), torch.rand(6, 2)
    found = window_return(reward, discount=discount, value=value, is_first=value < 0, lambda_=lambda_)
    for row, t in product(range(2), range(5)):
        if lambda_ == 0:
            expected = reward[t + 1, row] + discount[t + 1, row] * value[t + 1, row]
        else:
            expected, weight = torch.zeros(()), 1.0
            for i in range(t + 1, 6):
                expected, weight = expected + weight * reward[i, row], weight * discount[i, row]
            expected = expected + weight * value[5, row]
        close(found[t, row], expected)


# --- Planning in a world of arithmetic -------------------------------------------------------------------------------


def arithmetic_world(
    monkeypatch: pytest.MonkeyPatch,
    reward: Callable[[Tensor, Tensor], Tensor],
    discount: Callable[[Tensor], Tensor] = torch.ones_like,
    config: BehaviorConfig = PLAN,
) -> Agent:
    """h = (steps so far, the number of the game, the last action, those taken so far in base A); reward(h, action)."""
    agent = make_agent(config)

    def step(prev: State, action: Tensor, *how: float) -> State:
        taken = (action * torch.arange(ACTIONS)).sum(-1)
        h = torch.stack([prev.h[..., 0] + 1, prev.h[..., 1], taken, prev.h[..., 3] * ACTIONS + taken], -1)
        return State(torch.cat([h, prev.h[..., 4:]], -1), prev.z)

    monkeypatch.setattr(agent.world.rssm, "imagine_step", step)
    monkeypatch.setattr(agent.world, "predict_reward", lambda feat: reward(feat[..., -MODEL.deter :], feat))
    monkeypatch.setattr(agent.world, "predict_discount", lambda feat: discount(feat[..., -MODEL.deter]))
    return agent


def games(number: int) -> State:
    state = random_state(number)
    state.h[:, :4] = 0.0
    state.h[:, 1] = torch.arange(number)
    return state


def first(agent: Agent, state: State, *, sample: bool = False) -> list[int]:
    return agent.behavior.act(agent.world, state, sample=sample).argmax(-1).tolist()


def test_a_plan_that_pays_at_its_end_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one plan 2, 0, 1 of 27."""
    goal = (2 * ACTIONS + 0) * ACTIONS + 1
    agent = arithmetic_world(monkeypatch, lambda h, _: ((h[..., 0] == 3) & (h[..., 3] == goal)).float())
    plans = agent.behavior.plan(agent.world, games(4))
    assert plans.belief.argmax(-1).T.tolist() == [[2, 0, 1]] * 4
    assert (plans.belief > 0.03).all() and (plans.score == 1).any(0).all()


def test_games_with_opposite_best_actions_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """States and plans must be paired in the same order: with one game no mistake would show."""
    agent = arithmetic_world(monkeypatch, lambda h, _: (h[..., 2] == h[..., 1] % ACTIONS).float())
    assert first(agent, games(7)) == [0, 1, 2, 0, 1, 2, 0]
    alone = [first(agent, State(games(7).h[n : n + 1], games(7).z[n : n + 1]))[0] for n in range(7)]
    assert alone == [0, 1, 2, 0, 1, 2, 0]


def test_the_reward_of_where_it_stands_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = arithmetic_world(monkeypatch, lambda h, _: (h[..., 0] == 0).float())
    assert (agent.behavior.plan(agent.world, games(2)).score == 0).all()


def one_life(h: Tensor, _: Tensor) -> Tensor:
    """Action 0 brings 1 and then the end; action 1 brings 0.6 each step."""
    return torch.where(h[..., 2] == 0, 1.0, torch.where(h[..., 2] == 1, 0.6, 0.0))


@pytest.mark.parametrize(("how", "action"), [("sum", 0), ("discounted", 1), ("value", 1)])
def test_only_with_a_discount_an_end_is_seen(monkeypatch: pytest.MonkeyPatch, how: str, action: int) -> None:
    """PlaNet's own sum goes on counting beyond it: 1, 1, 1."""
    config = replace(PLAN, cem_score=how)
    agent = arithmetic_world(monkeypatch, one_life, config=config)
    monkeypatch.setattr(agent.world, "predict_discount", lambda feat: (feat[..., 2 - MODEL.deter] != 0).float())
    assert first(agent, games(3)) == [action] * 3


def test_what_comes_after_the_plan_counts_with_a_value_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All plans bring nothing; a state is worth the more the more often action 2 was taken."""
    scores = {}
    for how in ("discounted", "value"):
        agent = arithmetic_world(monkeypatch, lambda h, _: h[..., 0] * 0, config=replace(PLAN, cem_score=how))
        behavior = agent.behavior
        if how == "value":
            monkeypatch.setattr(behavior.slow_critic, "forward", lambda feat: feat[..., 3 - MODEL.deter, None])
            assert first(agent, games(3)) == [2, 2, 2]
        scores[how] = behavior.plan(agent.world, games(3)).score
    assert (scores["discounted"] == 0).all()
    assert scores["value"].max() == 26.0  # 2, 2, 2 in base 3


def test_where_all_plans_are_worth_the_same_every_action_is_taken_sooner_or_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A game that waits for the player to serve."""
    agent = arithmetic_world(monkeypatch, lambda h, _: h[..., 0] * 0)
    taken = {action for _ in range(50) for action in first(agent, games(1), sample=True)}
    assert taken == {0, 1, 2}


def test_it_plans_anew_at_every_step_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = arithmetic_world(monkeypatch, lambda h, _: (h[..., 2] == h[..., 1] % ACTIONS).float())
    before = first(agent, games(3))
    other = games(3)
    other.h[:, 1] += 1
    first(agent, other)
    assert first(agent, games(3)) == before


def test_all_plans_of_a_state_meet_the_same_chance() -> None:
    """One and the same plan, drawn many times, always brings the same; from other states something else."""
    torch.manual_seed(0)
    agent = make_agent(PLAN)
    plans = hot(["012"], ACTIONS).expand(6, -1, 4, -1)
    with torch.no_grad():
        score = agent.behavior.score(agent.world, random_state(4), plans)
    close(score, score[:1].expand_as(score))
    assert len(score[0].unique()) == 4


# --- Its critic ------------------------------------------------------------------------------------------------------


def test_where_an_action_is_given_up_the_entropy_is_still_a_number() -> None:
    agent = make_agent(replace(PLAN, cem_candidates=4, cem_elites=1, cem_mix=0.0))
    assert agent.behavior.update(agent.world, random_windows(), {})["actor_entropy"] == pytest.approx(0.0, abs=1e-6)


def test_only_with_a_value_there_is_a_critic() -> None:
    agent = make_agent(PLAN)
    assert not list(agent.behavior.parameters()) and agent.behavior.param_groups() == {}
    assert set(make_agent(replace(PLAN, cem_score="value")).behavior.param_groups()) == {"critic"}


def test_the_critic_learns_what_comes_after_a_state() -> None:
    """Rewards of 1 at every step that go on nine times in ten are worth 10; an end is worth nothing."""
    torch.manual_seed(0)
    agent = make_agent(replace(PLAN, cem_score="value", cem_candidates=4, cem_elites=2, cem_rounds=1, slow_every=10))
    assert isinstance(agent.behavior, Cem) and agent.behavior.critic is not None
    steps = make_steps(agent.behavior, lr=1e-2, optimizer=torch.optim.Adam)
    end = torch.arange(4).expand(6, 4) == 0  # games of one picture, in the first window
    for _ in range(400):
        start = random_windows(6, 4)
        seen = start.replayed
        seen.state.h[..., 0] = end.float() * 5 - 1
        seen = seen._replace(reward=torch.ones(6, 4), discount=torch.where(end, 0.0, 0.9), is_first=end)
        agent.behavior.update(agent.world, start._replace(replayed=seen), steps)
    state = random_state(50)
    for where, expected in ((-1.0, 10.0), (4.0, 0.0)):
        state.h[:, 0] = where
        with torch.no_grad():
            assert abs(agent.behavior.critic(state.feat()).mean().item() - expected) < 1.5
