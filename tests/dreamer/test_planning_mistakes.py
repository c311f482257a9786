"""Classic mistakes of planners, search and evolution, made on purpose: a test of theirs must notice each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import dreamer.behaviors.cem as cem
import dreamer.search as search
import tests.dreamer.test_evolution as of_evolution
import tests.dreamer.test_planner as of_planner
import tests.dreamer.test_search as of_search
from dreamer.behaviors.cma_es import Strategy, tell
from dreamer.equations import window_return
from dreamer.search import Edges, Found, Tree
from dreamer.types import Dream, Start, State
from dreamer.world_model import WorldModel

Patch = pytest.MonkeyPatch
vmap, imagine, refit, judge, at, choose_at_root = (
    torch.vmap,
    WorldModel.imagine,
    cem.refit,
    search.judge,
    search.at,
    search.choose_at_root,
)
searched = search.search


# --- The planner -----------------------------------------------------------------------------------------------------


def other_order(self: cem.Cem, world: WorldModel, state: State, plans: Tensor) -> Tensor:
    """States repeated plan by plan, actions game by game: right for one game alone."""
    count, horizon, games, _ = plans.shape
    many = State(state.h.repeat(count, 1), state.z.repeat(count, 1, 1))
    steps = iter(plans.transpose(1, 2).transpose(0, 1).flatten(0, 1).transpose(0, 1))
    dream = world.imagine(lambda state: next(steps), Start(many, torch.ones(count * games)), horizon)
    return dream.reward[1:].sum(0).view(games, count).T


def shifted_rewards(self: WorldModel, *args: object) -> Dream:
    dream = imagine(self, *args)
    return dream._replace(reward=dream.reward.roll(1, 0))


def blind_to_ends(reward: Tensor, *, discount: Tensor, value: Tensor | None = None) -> Tensor:
    return reward.sum(0) if value is None else reward.sum(0) + value


def different_chance(function: Callable, **how: str) -> Callable:
    return vmap(function, randomness="different")


# --- Evolution -------------------------------------------------------------------------------------------------------


def minimises(now: Strategy, candidates: Tensor, *, score: Tensor) -> Strategy:
    return tell(now, candidates, score=-score)


def no_path(now: Strategy, candidates: Tensor, *, score: Tensor) -> Strategy:
    """The step size stays as it is."""
    return tell(now, candidates, score=score)._replace(sigma=now.sigma)


# --- Search ----------------------------------------------------------------------------------------------------------


def back_up_by_parents(tree: Tree, number: int) -> None:
    """Reward and discount of the node that was left instead of the one that was reached."""
    for row in range(len(tree.value)):
        node, brought = number, tree.value[row, number].clone()
        while node:
            parent = int(tree.parent[row, node])
            brought = tree.reward[row, parent] + tree.discount[row, parent] * brought
            count = tree.visits[row, parent].clone()
            tree.value[row, parent] = (tree.value[row, parent] * count + brought) / (count + 1)
            tree.visits[row, parent] += 1
            node = parent


def nothing_expected(tree: Tree, scale: Tensor | None, tuning: search.Tuning) -> Edges:
    """What was never tried counts as worth nothing."""
    edges = judge(tree, scale, tuning)
    return edges._replace(value=edges.value * (tree.child > 0))


def noise_again(logits: Tensor, edges: Edges, *, gumbel: Tensor, tried: int | Tensor) -> Tensor:
    """Gumbel noise drawn anew at each simulation."""
    return choose_at_root(logits, edges, gumbel=gumbel + 3 * torch.randn_like(gumbel), tried=tried)


def rows_mixed(state: State, node: Tensor) -> State:
    found = at(state, node)
    return State(found.h.roll(1, 0), found.z)


def policy_of_visits(*args: object, **how: object) -> Found:
    found = searched(*args, **how)
    return found._replace(policy=found.visits / found.visits.sum(-1, keepdim=True))


def beyond_the_game(reward: Tensor, *, is_first: Tensor, **others: object) -> Tensor:
    return window_return(reward, is_first=torch.zeros_like(is_first), **others)


MISTAKES: dict[str, tuple[Callable[[Patch], None], Callable[[Patch], None]]] = {  # how to make it, who notices
    "plans and games paired in another order": (
        lambda m: m.setattr(cem.Cem, "score", other_order),
        of_planner.test_games_with_opposite_best_actions_do_not_mix,
    ),
    "the worst plans are believed": (
        lambda m: m.setattr(cem, "refit", lambda plans, score, **how: refit(plans, -score, **how)),
        of_planner.test_a_plan_that_pays_at_its_end_alone_is_found,
    ),
    "an action that no elite took is given up": (
        lambda m: m.setattr(
            of_planner, "refit", lambda plans, score, elites, mix: refit(plans, score, elites=elites, mix=0)
        ),
        lambda m: of_planner.test_plans_are_drawn_as_believed_and_never_an_action_is_given_up(),
    ),
    "the reward of where it stands is counted": (
        lambda m: m.setattr(WorldModel, "imagine", shifted_rewards),
        of_planner.test_the_reward_of_where_it_stands_is_not_counted,
    ),
    "rewards after the end are counted": (
        lambda m: m.setattr(cem, "plan_return", blind_to_ends),
        lambda m: of_planner.test_only_with_a_discount_an_end_is_seen(m, "discounted", 1),
    ),
    "plans of a state meet different chance": (
        lambda m: m.setattr(torch, "vmap", different_chance),
        lambda m: of_planner.test_all_plans_of_a_state_meet_the_same_chance(),
    ),
    "a window's return crosses the beginning of a game": (
        lambda m: m.setattr(of_planner, "window_return", beyond_the_game),
        lambda m: of_planner.test_the_return_of_a_window_in_numbers(),
    ),
    "evolution makes costs of scores": (
        lambda m: m.setattr(of_evolution, "tell", minimises),
        lambda m: of_evolution.test_it_finds_the_bottom_of_a_long_bowl_and_learns_its_axes(),
    ),
    "the step size is not adapted": (
        lambda m: m.setattr(of_evolution, "tell", no_path),
        lambda m: of_evolution.test_it_finds_the_bottom_of_a_long_bowl_and_learns_its_axes(),
    ),
    "controllers of a generation meet different chance": (
        lambda m: m.setattr(torch, "vmap", different_chance),
        lambda m: of_evolution.test_the_same_controller_fares_the_same_twice_in_a_generation_and_another_one_does_not(),
    ),
    "a search backs up reward and discount of the wrong node": (
        lambda m: m.setattr(search, "back_up", back_up_by_parents),
        lambda m: of_search.test_returns_go_up_a_chain_with_rewards_and_discounts_of_the_states_that_were_reached(),
    ),
    "what was never tried is worth nothing": (
        lambda m: m.setattr(of_search, "judge", nothing_expected),
        lambda m: of_search.test_actions_that_were_never_tried_are_expected_to_be_worth_what_the_others_are(),
    ),
    "noise is drawn again at each simulation": (
        lambda m: m.setattr(search, "choose_at_root", noise_again),
        lambda m: of_search.test_without_noise_a_search_is_the_same_every_time_and_noise_decides_what_is_tried_first(),
    ),
    "roots mix": (
        lambda m: m.setattr(search, "at", rows_mixed),
        lambda m: of_search.test_roots_do_not_mix(),
    ),
    "the policy learns how often actions were tried": (
        lambda m: m.setattr(of_search, "search", policy_of_visits),
        lambda m: of_search.test_the_improved_policy_is_better_than_the_actor_however_few_simulations(),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_noticed(mistake: str, monkeypatch: Patch) -> None:
    make, notice = MISTAKES[mistake]
    notice(monkeypatch)
    make(monkeypatch)
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        notice(monkeypatch)
