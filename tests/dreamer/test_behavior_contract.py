"""What every behaviour must do and must never do, then what the actor-critic does besides.

A new behaviour is one line in BEHAVIORS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.equations import one_hot_mode
from dreamer.types import Dream, Start, State
from tests.dreamer.tiny import (
    ACTIONS,
    BEHAVIOR,
    BEHAVIOR_SWITCHES,
    BRED,
    MODEL,
    PLANNED,
    SEARCHED,
    bfloat16,
    copy_weights,
    make_agent,
    make_steps,
    random_start,
    random_state,
    random_windows,
    same_weights,
)

BEHAVIORS = {
    "actor_critic_reinforce": replace(BEHAVIOR, rho=1.0),
    "actor_critic_dynamics": replace(BEHAVIOR, rho=0.0),
    "actor_critic_mixed": replace(BEHAVIOR, rho=0.5),
    "actor_critic_with_everything_on": BEHAVIOR_SWITCHES,
    "ppo": replace(BEHAVIOR, name="ppo", ppo_minibatches=3, ppo_batch=16),
    "ppo_with_everything_on": replace(BEHAVIOR_SWITCHES, name="ppo", ppo_minibatches=3, ppo_batch=16),
    "cem": replace(BEHAVIOR, name="cem", **PLANNED),
    "cem_with_a_value": replace(BEHAVIOR_SWITCHES, name="cem", cem_score="value", cem_hold=0.5, **PLANNED),
    "cma_es": replace(BEHAVIOR, name="cma_es", **BRED),
    "cma_es_with_everything_on": replace(BEHAVIOR_SWITCHES, name="cma_es", **BRED),
    "mcts": replace(BEHAVIOR, name="mcts", **SEARCHED | {"search_acting": 0}),
    "mcts_with_everything_on": replace(BEHAVIOR_SWITCHES, name="mcts", **SEARCHED),
}
close = torch.testing.assert_close


@pytest.fixture(params=BEHAVIORS.values(), ids=BEHAVIORS.keys())
def agent(request: pytest.FixtureRequest) -> Agent:
    return make_agent(request.param)


def update(agent: Agent, start: Start | None = None) -> dict[str, Tensor]:
    return agent.behavior.update(agent.world, start or random_windows(), make_steps(agent.behavior))


# --- every behaviour -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [True, False])
def test_an_action_is_one_hot(agent: Agent, sample: bool) -> None:
    action = agent.behavior.act(agent.world, random_state(50), sample=sample)
    assert action.shape == (50, ACTIONS) and action.dtype == torch.float32
    close(action, one_hot_mode(action))


def test_the_best_action_is_the_same_every_time(agent: Agent) -> None:
    state = random_state(50)
    actions = [agent.behavior.act(agent.world, state, sample=False) for _ in range(3)]
    assert torch.equal(actions[0], actions[1]) and torch.equal(actions[0], actions[2])


def test_drawn_actions_follow_the_seed(agent: Agent) -> None:
    state = random_state(50)
    assert torch.equal(seeded_act(agent, state), seeded_act(agent, state))


def seeded_act(agent: Agent, state: State, *, sample: bool = True) -> Tensor:
    torch.manual_seed(11)
    return agent.behavior.act(agent.world, state, sample=sample)


@pytest.mark.parametrize("sample", [True, False])
def test_what_is_done_in_one_game_does_not_depend_on_the_others(agent: Agent, sample: bool) -> None:
    state, other = random_state(20), random_state(20)
    mine = torch.arange(20) % 2 == 0
    mixed = State(state.h.where(mine[:, None], other.h), state.z.where(mine[:, None, None], other.z))
    actions = [seeded_act(agent, each, sample=sample) for each in (state, mixed)]
    assert torch.equal(actions[0][mine], actions[1][mine])


def test_the_best_action_takes_no_random_numbers_away(agent: Agent) -> None:
    before = torch.get_rng_state()
    agent.behavior.act(agent.world, random_state(5), sample=False)
    state = torch.get_rng_state()
    torch.set_rng_state(before)
    random_state(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_action_has_no_graph_and_leaves_the_agent_alone(agent: Agent) -> None:
    before = copy_weights(agent)
    assert not agent.behavior.act(agent.world, random_state(5), sample=False).requires_grad
    assert same_weights(agent, before)


def test_an_update_leaves_the_world_model_alone(agent: Agent) -> None:
    before = copy_weights(agent.world)
    for _ in range(2):
        update(agent)
    assert same_weights(agent.world, before)
    assert all(parameter.grad is None for parameter in agent.world.parameters())
    assert all(parameter.requires_grad for parameter in agent.world.parameters())


def test_an_update_changes_every_group_and_nothing_else_of_the_behaviors_parameters(agent: Agent) -> None:
    # Two updates: the first one also copies the critic.
    update(agent)
    before = copy_weights(agent.behavior)
    update(agent)
    groups = [list(parameters) for parameters in agent.behavior.param_groups().values()]
    trained = {id(parameter) for group in groups for parameter in group}
    for name, parameter in agent.behavior.named_parameters():
        if id(parameter) not in trained:
            assert torch.equal(parameter, before[name]), name
    for group in groups:
        names = {name for name, p in agent.behavior.named_parameters() if any(p is q for q in group)}
        assert any(not torch.equal(agent.behavior.state_dict()[name], before[name]) for name in names)


def test_groups_are_disjoint_parameters_of_the_behavior_that_want_gradients(agent: Agent) -> None:
    groups = {name: list(parameters) for name, parameters in agent.behavior.param_groups().items()}
    everything = [id(parameter) for group in groups.values() for parameter in group]
    assert len(everything) == len(set(everything))
    assert set(everything) == {id(p) for p in agent.behavior.parameters() if p.requires_grad}


def test_every_group_is_stepped_equally_often_and_no_other_name_is_asked_for(agent: Agent) -> None:
    called = []

    def counting(name: str, step: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda loss: called.append(name) or step(loss)

    steps = {name: counting(name, step) for name, step in make_steps(agent.behavior).items()}
    agent.behavior.update(agent.world, random_windows(), steps)
    c = agent.behavior.config
    times = c.ppo_minibatches if c.name == "ppo" else 1
    assert sorted(called) == sorted([*agent.behavior.param_groups()] * times)


def test_an_update_works_in_mixed_precision_and_keeps_weights_and_metrics_float32(agent: Agent) -> None:
    before = copy_weights(agent.world)
    with bfloat16():
        metrics = update(agent)
    assert same_weights(agent.world, before)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in agent.behavior.parameters())
    assert all(value.dtype == torch.float32 and value.isfinite() for value in metrics.values())


def test_mixed_precision_changes_the_metrics_but_a_little() -> None:
    results = []
    for low in (False, True):
        torch.manual_seed(0)
        agent = make_agent()
        # Certain actions and latents: with the draws equal, only rounding differs.
        with torch.no_grad():
            agent.behavior.actor.out.bias.copy_(torch.tensor([40.0, 0.0, 0.0]))
            agent.world.rssm.prior_out.bias.view(-1, 5)[:, 0] = 40.0
        with torch.autocast("cpu", torch.bfloat16, enabled=low, cache_enabled=False):
            results.append(update(agent))
    for name in ("critic_loss", "imagined_reward", "imagined_discount", "imagined_return"):
        close(results[1][name], results[0][name], rtol=0.03, atol=0.03)


def test_metrics_are_finite_scalars_without_a_graph(agent: Agent) -> None:
    metrics = update(agent)
    assert metrics
    assert all(value.dim() == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())


def test_a_saved_and_loaded_behavior_acts_and_learns_as_before(agent: Agent) -> None:
    update(agent)
    torch.manual_seed(8)
    other = make_agent(agent.behavior.config)
    other.load_state_dict(agent.state_dict())
    state, start = random_state(50), random_windows()
    assert torch.equal(seeded_act(agent, state), seeded_act(other, state))
    for each in (agent, other):
        torch.manual_seed(9)
        update(each, start)
    assert same_weights(other.behavior, copy_weights(agent.behavior))


GOOD = 2  # the action that pays


def pay_for_one_action(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arriving somewhere by GOOD brings a reward of 1 and by anything else nothing; dreams go on nine times in ten."""
    imagine_step = agent.world.rssm.imagine_step

    def remember(prev: State, action: Tensor, *how: float) -> State:
        state = imagine_step(prev, action, *how)
        return State(torch.cat([action, state.h[:, ACTIONS:]], -1), state.z)  # h begins with what led there

    monkeypatch.setattr(agent.world.rssm, "imagine_step", remember)
    monkeypatch.setattr(agent.world, "predict_reward", lambda feat: feat[..., GOOD - MODEL.deter])
    monkeypatch.setattr(agent.world, "predict_discount", lambda feat: torch.full_like(feat[..., 0], 0.9))


def paid_windows() -> Start:
    """Windows of random play that was paid so."""
    start = random_windows(8, 4)
    return Start.of(start.replayed._replace(reward=start.replayed.prev_action[..., GOOD]))


def chance_of(agent: Agent, action: int) -> float:
    with torch.no_grad():
        return agent.behavior.act(agent.world, random_state(2000), sample=True)[:, action].mean().item()


def test_it_chooses_the_action_that_pays(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who plans knows at once; who learns does not know it before."""
    pay_for_one_action(agent, monkeypatch)
    c, first = agent.behavior.config, chance_of(agent, GOOD)
    assert first > 0.9 if c.name == "cem" or (c.name == "mcts" and c.search_acting) else first < 0.6
    if c.name != "cem":
        steps = make_steps(agent.behavior, lr=1e-2, optimizer=torch.optim.Adam)
        metrics = [agent.behavior.update(agent.world, paid_windows(), steps) for _ in range(80)]
        assert metrics[-1]["imagined_reward"] > metrics[0]["imagined_reward"]
    assert chance_of(agent, GOOD) > 0.9


# --- actor-critic ----------------------------------------------------------------------------------------------------


def gradients(agent: Agent) -> dict[str, set[str]]:
    """Which parameters of the whole agent each loss has a gradient for: group -> names."""
    parameters, reached = dict(agent.named_parameters()), {}
    wanted = {name: p for name, p in parameters.items() if p.requires_grad}

    def spy(group: str) -> Callable[[Tensor], Tensor]:
        def step(loss: Tensor) -> Tensor:
            grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
            reached[group] = {
                name for name, g in zip(wanted, grads, strict=True) if g is not None and g.abs().max() > 0
            }
            return loss.detach()

        return step

    agent.behavior.update(agent.world, random_start(), {name: spy(name) for name in agent.behavior.param_groups()})
    return reached


def names_of(agent: Agent, prefix: str) -> set[str]:
    return {name for name, _ in agent.named_parameters() if name.startswith(prefix)}


def test_with_reinforce_each_loss_reaches_its_own_network_and_nothing_else() -> None:
    agent = make_agent(BEHAVIORS["actor_critic_reinforce"])
    reached = gradients(agent)
    assert reached["actor"] == names_of(agent, "behavior.actor.")
    assert reached["critic"] == names_of(agent, "behavior.critic.")


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_critics_loss_reaches_the_critic_alone_whatever_rho_is(rho: float) -> None:
    agent = make_agent(replace(BEHAVIOR, rho=rho))
    reached = gradients(agent)
    assert reached["critic"] == names_of(agent, "behavior.critic.")
    assert names_of(agent, "behavior.actor.") <= reached["actor"]
    assert not names_of(agent, "behavior.critic.") & reached["actor"]


def watch_dreams(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> list[Dream]:
    dreams, imagine = [], agent.world.imagine
    monkeypatch.setattr(agent.world, "imagine", lambda *args: dreams.append(imagine(*args)) or dreams[-1])
    return dreams


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_a_dream_has_a_graph_only_where_gradients_flow_through_it(rho: float, monkeypatch) -> None:
    agent = make_agent(replace(BEHAVIOR, rho=rho))
    dreams = watch_dreams(agent, monkeypatch)
    update(agent)
    (dream,) = dreams
    for tensor in (dream.state.h, dream.state.z, dream.action, dream.reward, dream.discount):
        assert tensor.requires_grad == (rho < 1)


def actor_gradient(behavior) -> Tensor:
    agent = make_agent(behavior)
    before = copy_weights(agent.behavior.actor)
    update(agent)
    after = agent.behavior.actor.state_dict()
    return torch.cat([(after[name] - before[name]).flatten() for name in before])


def test_without_reinforce_and_entropy_the_actor_learns_through_the_dynamics_alone() -> None:
    assert actor_gradient(replace(BEHAVIOR, rho=0.0, entropy_scale=0.0)).norm() > 0


def test_with_entropy_alone_the_actor_moves_to_more_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(replace(BEHAVIOR, rho=0.0, entropy_scale=100.0))
    start = random_start(30)
    first = update(agent, start)["actor_entropy"]
    for _ in range(10):
        last = update(agent, start)["actor_entropy"]
    assert last > first


def losses(agent: Agent, start: Start) -> tuple[float, float]:
    """Actor's and critic's loss of one dream, without any step."""
    torch.manual_seed(4)
    weights = copy_weights(agent)
    idle = {name: torch.Tensor.detach for name in agent.behavior.param_groups()}
    metrics = agent.behavior.update(agent.world, start, idle)
    agent.load_state_dict(weights)
    return metrics["actor_loss"].item(), metrics["critic_loss"].item()


def test_targets_and_baseline_come_from_the_slow_critic() -> None:
    agent, start = make_agent(), random_start()
    actor, critic = losses(agent, start)
    with torch.no_grad():
        agent.behavior.critic.out.bias += 1
    assert losses(agent, start)[0] == actor
    assert losses(agent, start)[1] != critic
    with torch.no_grad():
        agent.behavior.critic.out.bias -= 1
        agent.behavior.slow_critic.out.bias += 1
    assert losses(agent, start)[0] != actor
    assert losses(agent, start)[1] != critic


@pytest.mark.parametrize("later", [False, True], ids=["paper", "mixed policy and scaled returns"])
def test_the_actors_baseline_is_the_slow_value_of_the_state_that_is_left(
    monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """Both losses written out once more, with loops: target of the state reached, weight of the state left."""
    share = 0.3 if later else 0.0
    agent = make_agent(replace(BEHAVIOR, horizon=4, unimix=share, return_scale=0.5 if later else 0.0))
    start = random_start()
    with torch.no_grad():
        agent.behavior.actor.out.bias[0] = 2.0
        agent.behavior.slow_critic.out.bias += 0.7
        if later:
            agent.behavior.return_range[1] = 20.0
    dreams = watch_dreams(agent, monkeypatch)
    actor, critic = losses(agent, start)
    (dream,) = dreams
    with torch.no_grad():
        feat = dream.state.feat()
        online = agent.behavior.critic(feat)[..., 0]
        value = agent.behavior.slow_critic(feat)[..., 0]
        log_pi = ((1 - share) * agent.behavior.actor(feat).softmax(-1) + share / ACTIONS).log()
        target, weight = [None] * 4, torch.ones(len(start.discount))
        future = value[4]
        for i in (3, 2, 1, 0):
            future = dream.reward[i] + dream.discount[i] * (0.05 * value[i + 1] + 0.95 * future)
            target[i] = future
        low, high = torch.stack(target).flatten().quantile(torch.tensor([0.05, 0.95]))
        scale = 10.0 + (high - low) / 2 if later else 1.0
        policy, regression = [], []
        for i in range(4):
            error = (target[i] - online[i]).square() / 2 + math.log(2 * math.pi) / 2
            regression.append(weight * error)
            if i == 3:  # the last action leads to a state that has no return of its own
                break
            gain = (log_pi[i] * dream.action[i]).sum(-1) * (target[i + 1] - value[i]) / scale
            surprise = -(log_pi[i].exp() * log_pi[i]).sum(-1)
            policy.append(-weight * (gain + 1e-3 * surprise))
            weight = weight * dream.discount[i]
    close(torch.stack(policy).mean(), torch.tensor(actor))
    close(torch.stack(regression).mean(), torch.tensor(critic))


def test_a_dream_from_a_terminal_state_teaches_only_that_state() -> None:
    agent = make_agent()
    start = random_start(1)._replace(discount=torch.zeros(1))
    metrics = update(agent, start)
    close(metrics["imagined_weight"], torch.tensor(1 / 5))


def test_the_slow_critic_starts_as_a_copy_that_is_never_trained() -> None:
    behavior = make_agent().behavior
    assert same_weights(behavior.slow_critic, copy_weights(behavior.critic))
    assert not any(parameter.requires_grad for parameter in behavior.slow_critic.parameters())


def test_the_slow_critic_is_copied_after_update_0_and_every_few_and_left_alone_in_between() -> None:
    agent = make_agent(replace(BEHAVIOR, slow_every=3))
    behavior = agent.behavior
    for k in range(7):
        before = copy_weights(behavior.slow_critic)
        update(agent)
        if k % 3 == 0:
            assert same_weights(behavior.slow_critic, copy_weights(behavior.critic))
            assert not same_weights(behavior.slow_critic, before)
        else:
            assert same_weights(behavior.slow_critic, before)
            assert not same_weights(behavior.slow_critic, copy_weights(behavior.critic))


def test_the_count_of_updates_is_saved() -> None:
    agent = make_agent(replace(BEHAVIOR, slow_every=3))
    for _ in range(2):
        update(agent)
    other = make_agent(replace(BEHAVIOR, slow_every=3))
    other.load_state_dict(agent.state_dict())
    assert other.behavior.updates == 2
    update(other)
    assert not same_weights(other.behavior.slow_critic, copy_weights(other.behavior.critic))
    update(other)
    assert same_weights(other.behavior.slow_critic, copy_weights(other.behavior.critic))
