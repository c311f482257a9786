"""Learning from search: what actor and critic are taught, at which states, and what must not reach them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors.mcts import Lessons
from dreamer.search import Found
from dreamer.types import Replayed, State
from tests.dreamer.tiny import (
    ACTIONS,
    BEHAVIOR,
    MODEL,
    SEARCHED,
    make_agent,
    make_steps,
    random_actions,
    random_state,
    random_windows,
)

close = torch.testing.assert_close
SEARCH = replace(BEHAVIOR, name="mcts", return_lambda=0.5, **SEARCHED)
T, B = 5, 2


def counting_world(monkeypatch: pytest.MonkeyPatch, **more: int) -> Agent:
    """h begins with what was lived through: the state's own name, then how often it was imagined from there on."""
    agent = make_agent(replace(SEARCH, **more))

    def step(prev: State, action: Tensor, *how: float) -> State:
        taken = (action * torch.arange(ACTIONS)).sum(-1)
        told = torch.stack([prev.h[:, 0], prev.h[:, 1] + 1, taken], -1)
        return State(torch.cat([told, prev.h[:, 3:]], -1), prev.z)

    monkeypatch.setattr(agent.world.rssm, "imagine_step", step)
    return agent


def seen(ends: tuple[tuple[int, int], ...] = ()) -> Replayed:
    """Windows whose states are named 10 t + b; where a game ends the next one begins."""
    replayed = random_windows(T, B).replayed
    replayed.state.h[..., 0] = 10 * torch.arange(T)[:, None] + torch.arange(B)
    replayed.state.h[..., 1] = 0
    for t, b in ends:
        replayed.discount[t, b] = 0
        if t + 1 < T:
            replayed.is_first[t + 1, b] = True
    return replayed


def taught(agent: Agent, replayed: Replayed) -> Lessons:
    policy = torch.arange(T * B).view(T, B, 1).expand(-1, -1, ACTIONS).float()
    with torch.no_grad():
        return agent.behavior.lessons(agent.world, replayed, policy=policy, value=torch.rand(T, B))


def test_every_state_and_what_is_expected_in_its_place_learn_what_was_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent, replayed = counting_world(monkeypatch), seen()
    lessons = taught(agent, replayed)
    assert len(lessons.target) == B * (T + (T - 1) + (T - 2))  # search_unroll 2
    name, ahead, action = lessons.feat[:, -MODEL.deter :][:, :3].T
    for row in range(len(lessons.target)):
        t, b, k = int(name[row]) // 10, int(name[row]) % 10, int(ahead[row])
        at = t + k  # the place in the window that it stands for
        assert lessons.policy[row, 0] == at * B + b
        if k:
            assert action[row] == replayed.prev_action[at, b].argmax()
    assert (lessons.weight == 1).all() and (lessons.alive == 1).all()
    assert sorted(ahead.tolist()) == [0.0] * 10 + [1.0] * 8 + [2.0] * 6


def test_no_lesson_crosses_the_beginning_of_a_game_and_an_end_has_no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, replayed = counting_world(monkeypatch), seen(ends=((2, 0),))
    lessons = taught(agent, replayed)
    name, ahead = lessons.feat[:, -MODEL.deter :][:, :2].T
    for row in range(len(lessons.target)):
        t, b, k = int(name[row]) // 10, int(name[row]) % 10, int(ahead[row])
        crosses = b == 0 and t <= 2 < t + k
        assert lessons.weight[row] == float(not crosses)
        is_end = b == 0 and t + k == 2
        assert lessons.alive[row] == float(not crosses and not is_end)
        if is_end:
            assert lessons.target[row] == 0.0


def test_values_are_learned_towards_the_window_and_what_the_search_says_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = counting_world(monkeypatch, search_unroll=0)
    replayed = seen()._replace(reward=torch.zeros(T, B), discount=torch.full((T, B), 0.5))
    replayed.reward[2] = 8.0
    with torch.no_grad():
        lessons = agent.behavior.lessons(
            agent.world, replayed, policy=torch.zeros(T, B, ACTIONS), value=torch.full((T, B), 4.0)
        )
    target = lessons.target.view(T, B)
    last = torch.tensor([4.0, 0.5 * 4.0, 0.5 * (2.0 + 0.5 * 2.0)])  # at T-1, T-2, T-3
    close(target[[4, 3, 2], 0], last)
    close(target[1, 0], 8 + 0.5 * (2.0 + 0.5 * last[2]))


def found(agent: Agent, state: State, simulations: int) -> Found:
    with torch.no_grad():
        return agent.behavior.search(agent.world, state, simulations, noise=False)


def test_a_search_asks_the_target_critic_and_the_model_for_each_node() -> None:
    torch.manual_seed(0)
    agent, state = make_agent(SEARCH), random_state(6)
    tree = found(agent, state, 5).tree
    for node in range(6):
        feat = State(tree.state.h[:, node], tree.state.z[:, node]).feat()
        with torch.no_grad():
            close(tree.raw[:, node], agent.behavior.slow_critic(feat).squeeze(-1))
            close(tree.logits[:, node], agent.behavior.policy(feat))
            if node:
                close(tree.reward[:, node], agent.world.predict_reward(feat))
                close(tree.discount[:, node], agent.world.predict_discount(feat))
    assert torch.equal(tree.state.h[:, 0], state.h)


def test_the_states_of_a_tree_are_what_the_model_expects_after_the_actions_on_the_way() -> None:
    """h has no chance in it: it follows from the state before and the action."""
    torch.manual_seed(0)
    agent, state = make_agent(SEARCH), random_state(4)
    tree = found(agent, state, 6).tree
    for row in range(4):
        for node in range(1, 7):
            parent = int(tree.parent[row, node])
            action = (tree.child[row, parent] == node).float()
            assert action.sum() == 1
            before = State(tree.state.h[row, parent][None], tree.state.z[row, parent][None])
            with torch.no_grad():
                close(agent.world.rssm.recur(before, action[None])[0], tree.state.h[row, node])


def test_with_no_simulations_it_acts_as_the_actor_says() -> None:
    agent, state = make_agent(replace(SEARCH, search_acting=0)), random_state(30)
    agent.behavior.actor.out.bias.data[1] = 9.0
    assert (agent.behavior.act(agent.world, state, sample=False).argmax(-1) == 1).all()


def test_with_simulations_it_acts_on_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor is for action 1, but only action 2 pays."""
    agent, state = counting_world(monkeypatch, search_acting=8), random_state(30)
    agent.behavior.actor.out.bias.data[1] = 2.0
    monkeypatch.setattr(agent.world, "predict_reward", lambda feat: (feat[..., 2 - MODEL.deter] == 2).float())
    for sample in (True, False):
        assert (agent.behavior.act(agent.world, state, sample=sample).argmax(-1) == 2).float().mean() > 0.9


def test_a_policy_is_not_ruled_by_differences_that_are_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of a reward must not turn the policy round, a whole one must."""
    agent, state = counting_world(monkeypatch), random_state(30)
    agent.behavior.critic.out.weight.data.zero_()
    agent.behavior.slow_critic.out.weight.data.zero_()
    chances = []
    for pays in (0.001, 1.0):
        monkeypatch.setattr(
            agent.world, "predict_reward", lambda feat, pays=pays: pays * (feat[..., 2 - MODEL.deter] == 2)
        )
        with torch.no_grad():
            before = agent.behavior.policy(state.feat()).softmax(-1)[:, 2]
        chances.append((found(agent, state, 6).policy[:, 2] - before).mean().item())
    assert chances[0] < 0.01 < 0.4 < chances[1]


def test_windows_are_needed_and_their_absence_is_said() -> None:
    agent = make_agent(SEARCH)
    start = random_windows()._replace(replayed=None)
    with pytest.raises(AssertionError, match="windows of the replay"):
        agent.behavior.update(agent.world, start, make_steps(agent.behavior))


def test_after_real_rewards_the_critic_expects_them() -> None:
    """Every step brings 1 and goes on nine times in ten: a state is worth 10."""
    torch.manual_seed(0)
    agent = make_agent(replace(SEARCH, slow_every=5, search_unroll=0, return_lambda=1.0))
    steps = make_steps(agent.behavior, lr=1e-2, optimizer=torch.optim.Adam)
    for _ in range(200):
        replayed = random_windows(8, 2).replayed
        replayed = replayed._replace(
            reward=torch.ones(8, 2), discount=torch.full((8, 2), 0.9), prev_action=random_actions(8, 2)
        )
        agent.behavior.update(agent.world, random_windows()._replace(replayed=replayed), steps)
    with torch.no_grad():
        value = agent.behavior.critic(random_state(50).feat()).mean().item()
    assert 3.0 < value < 11.0  # at the end of a window the search says the rest, in whose model nothing pays
