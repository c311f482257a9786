"""CMA-ES: by hand, beside PyPI's cma, and what breeding in dreams must and must not do."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors.cma_es import Strategy, begin, control, rates, recombination, tell
from dreamer.types import Start, State
from tests.dreamer.tiny import ACTIONS, BEHAVIOR, BRED, MODEL, make_agent, random_start, random_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like to draw
    import cma

close = torch.testing.assert_close
BREED = replace(BEHAVIOR, name="cma_es", **BRED)


def test_one_generation_by_hand() -> None:
    """Hansen's tutorial, with the faster rates of a diagonal covariance: lambda 4, two numbers."""
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    after = tell(begin(2, sigma=1.0), candidates, score=-torch.tensor([3.0, 1.0, 2.0, 4.0]))
    close(recombination(4, torch.zeros(2)), torch.tensor([0.804163, 0.195837]), atol=1e-6, rtol=0)
    r = rates(2, 4)
    found = torch.tensor([r.mu_eff, r.c_1, r.c_mu, r.damping])
    close(found, torch.tensor([1.459790, 0.215928, 0.022119, 1.408969]), atol=1e-6, rtol=0)
    close(after.mean, torch.tensor([-0.195837, 0.804163]), atol=1e-6, rtol=0)
    close(after.path_sigma, torch.tensor([-0.190864, 0.783743]), atol=1e-6, rtol=0)
    close(after.path_c, torch.tensor([-0.220201, 0.904209]), atol=1e-6, rtol=0)
    close(after.variance, torch.tensor([0.776755, 0.956282]), atol=1e-6, rtol=0)
    close(after.sigma, torch.tensor(0.901597), atol=1e-6, rtol=0)
    assert after.generation == 1


def test_weights_of_world_models_population() -> None:
    weights = recombination(64, torch.zeros(1))
    assert len(weights) == 32
    close(weights[:3], torch.tensor([0.116657, 0.093429, 0.079842]), atol=1e-6, rtol=0)
    assert rates(2052, 64).mu_eff == pytest.approx(17.621652, abs=1e-6)


def bowl(x: Tensor) -> Tensor:
    """Axes of very different lengths around (1, ..., 1): the score of points [J, P]."""
    scales = torch.logspace(0, 2, x.shape[-1])
    return -((x - 1).square() * scales).sum(-1)


def test_two_generations_move_the_mean_as_the_cma_of_pypi_does() -> None:
    """The same candidates in both. Its own rates for the covariance are others than the tutorial's; and the step of the
    second generation depends on them only a little."""
    ours = begin(8, sigma=0.5)
    # Its own candidates, both times: what is compared is what is made of them.
    theirs = cma.CMAEvolutionStrategy(
        np.zeros(8), 0.5, {"popsize": 12, "CMA_diagonal": True, "seed": 3, "verbose": -9, "CMA_active": False}
    )
    for _ in range(2):
        candidates = theirs.ask()
        scores = bowl(torch.tensor(np.array(candidates), dtype=torch.float32))
        ours = tell(ours, torch.tensor(np.array(candidates), dtype=torch.float32), score=scores)
        theirs.tell(candidates, (-scores).tolist())
        close(ours.mean, torch.tensor(theirs.mean, dtype=torch.float32), atol=1e-4, rtol=1e-3)
        assert ours.sigma.item() == pytest.approx(theirs.sigma, rel=0.1)


def breed(generations: int, size: int = 12, population: int = 12) -> Strategy:
    torch.manual_seed(0)
    now = begin(size, sigma=0.3)
    for _ in range(generations):
        candidates = now.mean + now.sigma * now.variance.sqrt() * torch.randn(population, size)
        now = tell(now, candidates, score=bowl(candidates))
    return now


def test_it_finds_the_bottom_of_a_long_bowl_and_learns_its_axes() -> None:
    now = breed(400)
    close(now.mean, torch.ones(12), atol=1e-3, rtol=0)
    assert now.variance[0] / now.variance[-1] > 10  # a hundred times as flat along the first axis
    assert now.sigma < 0.01


def test_scores_are_maximised_and_only_their_order_counts() -> None:
    torch.manual_seed(0)
    now, candidates = begin(3, sigma=1.0), torch.randn(6, 3)
    score = torch.randn(6)
    after = tell(now, candidates, score=score)
    same = tell(now, candidates, score=torch.exp(3 * score))
    assert all(torch.equal(x, y) for x, y in zip(after, same, strict=True))
    assert (after.mean - candidates[score.argmax()]).norm() < (after.mean - candidates[score.argmin()]).norm()


# --- The controller --------------------------------------------------------------------------------------------------


def test_a_controller_is_linear_in_z_and_h_with_a_bias() -> None:
    state = random_state(20)
    weights = torch.randn(ACTIONS, MODEL.deter + MODEL.stoch * MODEL.classes + 1)
    feat = torch.cat([state.z.flatten(1), state.h, torch.ones(20, 1)], -1)
    assert torch.equal(control(weights, state).argmax(-1), (feat @ weights.T).argmax(-1))


def dreams(agent: Agent, start: Start, candidates: Tensor, seed: int = 5):
    torch.manual_seed(seed)
    with torch.no_grad():
        return agent.behavior.try_all(agent.world, start, candidates)


def test_the_same_controller_fares_the_same_twice_in_a_generation_and_another_one_does_not() -> None:
    torch.manual_seed(0)
    agent, start = make_agent(BREED), random_start(5)
    candidates = torch.randn(3, len(agent.behavior.mean))[[0, 1, 0, 2, 1]]
    score = dreams(agent, start, candidates).score
    close(score[[0, 1]], score[[2, 4]])
    assert len({round(number, 6) for number in score.tolist()}) == 3


def test_a_score_is_the_mean_over_the_starts_of_what_a_dream_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out with loops; nothing comes of a start that is an end."""
    torch.manual_seed(0)
    agent = make_agent(BREED)
    start = random_start(4)._replace(discount=torch.tensor([0.9, 0.0, 0.5, 0.9]))
    candidates = torch.randn(2, len(agent.behavior.mean))
    monkeypatch.setattr("dreamer.equations.gumbel_like", torch.zeros_like)  # the most probable is drawn
    tried = dreams(agent, start, candidates)
    for candidate, score in zip(candidates, tried.score, strict=True):
        total = 0.0
        for row in range(4):
            state, weight = State(start.state.h[row : row + 1], start.state.z[row : row + 1]), start.discount[row]
            for _ in range(BEHAVIOR.horizon):
                with torch.no_grad():
                    action = control(candidate.view(agent.behavior.shape), state)
                    state = agent.world.rssm.imagine_step(state, action)
                    total += (weight * agent.world.predict_reward(state.feat())).item()
                    weight = weight * agent.world.predict_discount(state.feat())
        assert score.item() == pytest.approx(total / 4, rel=1e-4, abs=1e-5)


def test_it_acts_by_the_mean_and_never_by_chance_but_for_its_share() -> None:
    torch.manual_seed(0)
    agent, state = make_agent(BREED), random_state(300)
    agent.behavior.mean.normal_()
    best = control(agent.behavior.mean.view(agent.behavior.shape), state)
    for sample in (True, False):
        assert torch.equal(agent.behavior.act(agent.world, state, sample=sample), best)
    shy = make_agent(replace(BREED, unimix=0.3))
    shy.load_state_dict(agent.state_dict())
    assert torch.equal(shy.behavior.act(shy.world, state, sample=False), best)
    drawn = shy.behavior.act(shy.world, state, sample=True)
    assert 0.7 < (drawn * best).sum(-1).mean() < 0.9  # 1 - 0.3 + 0.3 / 3


def test_everything_that_it_knows_is_saved_and_every_update_is_a_generation() -> None:
    torch.manual_seed(0)
    agent = make_agent(BREED)
    assert not list(agent.behavior.parameters())
    before = {name: value.clone() for name, value in agent.behavior.state_dict().items()}
    assert set(before) == set(Strategy._fields)
    for count in (1, 2):
        agent.behavior.update(agent.world, random_start(30), {})
        assert agent.behavior.generation == count
    assert all(not torch.equal(before[name], value) for name, value in agent.behavior.state_dict().items())


def test_where_all_do_one_and_the_same_there_is_no_entropy() -> None:
    agent = make_agent(replace(BREED, es_sigma=1e-6))
    agent.behavior.mean.view(agent.behavior.shape)[1, -1] = 5.0
    told = agent.behavior.update(agent.world, random_start(30), {})
    assert told["actor_entropy"] == pytest.approx(0.0, abs=1e-6)


def test_starts_are_drawn_anew_for_each_generation() -> None:
    torch.manual_seed(0)
    agent, start = make_agent(BREED), random_start(1000)
    drawn = [agent.behavior.some(start).state.h for _ in range(2)]
    assert len(drawn[0]) == BREED.es_starts and not torch.equal(*drawn)
