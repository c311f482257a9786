"""The agent: acting in several games at once, and the snapshots that actors play with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors import make_behavior
from dreamer.equations import one_hot_mode
from dreamer.types import State
from tests.dreamer.tiny import ACTIONS, BEHAVIOR, MODEL, copy_weights, make_agent, random_state, same_weights

GAMES = 4


@pytest.fixture
def agent() -> Agent:
    return make_agent()


def pictures(games: int = GAMES) -> Tensor:
    return torch.randint(0, 256, (games, 64, 64, 1), dtype=torch.uint8)


def play(agent: Agent, *, steps: int = 5, sample: bool = True, seed: int = 3) -> Tensor:
    """Actions [steps, GAMES] of an agent that looks at noise."""
    torch.manual_seed(seed)
    state, action, actions = agent.initial(GAMES), torch.zeros(GAMES, dtype=torch.int64), []
    for t in range(steps):
        is_first = torch.full((GAMES,), t == 0)
        action, state = agent.policy_step(state, pictures(), action, is_first, sample=sample)
        actions.append(action)
    return torch.stack(actions)


def test_a_policy_step_gives_an_action_and_a_state_per_game(agent: Agent) -> None:
    first = torch.ones(GAMES, dtype=torch.bool)
    # Actions come as int32 from the replay's records.
    prev_action = torch.zeros(GAMES, dtype=torch.int32)
    action, state = agent.policy_step(agent.initial(GAMES), pictures(), prev_action, first, sample=True)
    assert action.shape == (GAMES,) and action.dtype == torch.int64
    assert ((action >= 0) & (action < ACTIONS)).all()
    assert state.h.shape == (GAMES, MODEL.deter)
    assert state.z.shape == (GAMES, MODEL.stoch, MODEL.classes)
    assert not state.h.requires_grad and not state.z.requires_grad


def test_a_policy_step_is_a_step_with_the_picture_and_then_the_behaviors_act(agent: Agent) -> None:
    prev, obs, prev_action = random_state(GAMES), pictures(), torch.tensor([0, 1, 2, 0])
    is_first = torch.tensor([True, False, False, False])
    torch.manual_seed(1)
    action, state = agent.policy_step(prev, obs, prev_action, is_first, sample=True)
    torch.manual_seed(1)
    one_hot = torch.eye(ACTIONS)[prev_action]
    expected, _ = agent.world.rssm.observe_step(prev, one_hot, is_first, agent.world.encode(obs))
    expected_action = agent.behavior.act(agent.world, expected, sample=True).argmax(-1)
    assert torch.equal(state.h, expected.h) and torch.equal(state.z, expected.z)
    assert torch.equal(action, expected_action)


def test_a_new_game_forgets_the_old_one_and_only_in_its_own_row(agent: Agent) -> None:
    obs, is_first = pictures(), torch.tensor([False, True, False, False])
    prev = random_state(GAMES)
    other = State(prev.h + 0.5, prev.z.roll(1, -1))
    results = []
    for state, action in ((prev, 0), (other, 2)):
        torch.manual_seed(1)
        prev_action = torch.full((GAMES,), action)
        results.append(agent.policy_step(state, obs, prev_action, is_first, sample=True))
    (action, state), (other_action, other_state) = results
    assert torch.equal(state.h[1], other_state.h[1])
    assert torch.equal(state.z[1], other_state.z[1])
    assert action[1] == other_action[1]
    for row in (0, 2, 3):
        assert not torch.equal(state.h[row], other_state.h[row])


def test_evaluation_takes_the_best_action_of_a_sampled_state(agent: Agent) -> None:
    """`sample` is about the action alone: the posterior is drawn in evaluation too."""
    n = 200
    obs, first = pictures(1).expand(n, -1, -1, -1), torch.ones(n, dtype=torch.bool)
    action, state = agent.policy_step(agent.initial(n), obs, torch.zeros(n), first, sample=False)
    assert torch.equal(action, agent.behavior.actor(state.feat()).argmax(-1))
    assert not torch.equal(state.z, state.z[:1].expand_as(state.z))
    assert torch.equal(state.h, state.h[:1].expand_as(state.h))


def test_training_draws_its_action_from_the_actor(agent: Agent) -> None:
    n = 20_000
    state = random_state(1)
    state = State(state.h.expand(n, -1), state.z.expand(n, -1, -1))
    with torch.no_grad():
        frequency = agent.behavior.act(agent.world, state, sample=True).mean(0)
        chances = agent.behavior.actor(state.feat()[0]).softmax(-1)
        best = agent.behavior.act(agent.world, state, sample=False)
    torch.testing.assert_close(frequency, chances, atol=0.02, rtol=0)
    assert torch.equal(best, one_hot_mode(chances).expand(n, -1))


def test_a_snapshot_makes_another_agent_play_the_same_game(agent: Agent) -> None:
    torch.manual_seed(7)
    other = make_agent()
    assert not torch.equal(play(other, steps=20), play(agent, steps=20))
    other.load_snapshot(agent.snapshot(version=12))
    for sample in (True, False):
        assert torch.equal(play(other, sample=sample), play(agent, sample=sample))


def test_a_snapshot_holds_its_version_and_everything_but_the_decoder(agent: Agent) -> None:
    snapshot = agent.snapshot(version=12)
    assert snapshot.version == 12
    keys = agent.snapshot_keys()
    assert len(keys) == len(snapshot.weights)
    everything = set(agent.state_dict())
    decoder = {f"world.decoder.{key}" for key in agent.world.decoder.state_dict()}
    assert decoder and set(keys) == everything - decoder


def test_loading_a_snapshot_leaves_the_decoder_alone(agent: Agent) -> None:
    torch.manual_seed(7)
    other = make_agent()
    before = copy_weights(other.world.decoder)
    other.load_snapshot(agent.snapshot(version=0))
    assert same_weights(other.world.decoder, before)


def test_a_snapshot_is_a_copy(agent: Agent) -> None:
    snapshot = agent.snapshot(version=0)
    before = [weight.clone() for weight in snapshot.weights]
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 1
    assert all(torch.equal(a, b) for a, b in zip(snapshot.weights, before, strict=True))
    assert all(weight.device.type == "cpu" and not weight.requires_grad for weight in snapshot.weights)


def test_a_loaded_agent_can_still_be_trained(agent: Agent) -> None:
    requires_grad = {name: p.requires_grad for name, p in agent.named_parameters()}
    agent.load_snapshot(agent.snapshot(version=0))
    assert {name: p.requires_grad for name, p in agent.named_parameters()} == requires_grad


def test_a_snapshot_of_other_sizes_is_refused(agent: Agent) -> None:
    wider = make_agent(model=replace(MODEL, deter=MODEL.deter + 1))
    with pytest.raises(ValueError, match="snapshot has"):
        agent.load_snapshot(wider.snapshot(version=0))


def test_a_snapshot_of_other_depth_is_refused(agent: Agent) -> None:
    deeper = make_agent(replace(BEHAVIOR, layers=3))
    with pytest.raises(ValueError):
        agent.load_snapshot(deeper.snapshot(version=0))


def test_an_unknown_behavior_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        make_behavior(replace(BEHAVIOR, name="nonsense"), feat_size=4, num_actions=ACTIONS)
