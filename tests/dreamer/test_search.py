"""Gumbel search: whole trees that mctx 0.0.71 computes the same, written out once more by hand, and what must hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dreamer.search import Found, Node, Tuning, as_one_hot, judge, plant, schedule, search
from dreamer.types import State

A = 4
GUMBEL = torch.tensor([[0.2, -0.1, 1.0, 0.4]], dtype=torch.float64)


def close(actual: Tensor, expected: list[float], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


def whole(number: Tensor) -> State:
    """A state that is one whole number: [N] -> [N, 1]."""
    return State(number.double()[:, None], torch.zeros(len(number), 1, 1, dtype=torch.float64))


def numbered(logits: Tensor, value: Tensor, reward: Tensor, discount: float, number: Tensor) -> Node:
    return Node(whole(number), logits, value, reward, torch.full_like(value, discount))


# --- A model made of arithmetic: from state s action a leads to t = 4s + a + 1 ---------------------------------------


def arithmetic(state: State, action: Tensor) -> Node:
    t = 4 * state.h[:, 0] + action.argmax(-1) + 1
    logits = torch.stack([(t * k) % 7 / 4 for k in (1, 2, 3, 4)], -1)
    return numbered(logits, (3 * t) % 11 / 11, (7 * t) % 5 / 4, 0.9, t)


def arithmetic_root(rows: int = 1) -> Node:
    logits = torch.tensor([[0.0, 0.5, -0.5, 1.0]], dtype=torch.float64).repeat(rows, 1)
    nothing = torch.zeros(rows, dtype=torch.float64)
    return Node(whole(nothing), logits, nothing + 0.2, nothing, nothing)


@pytest.mark.parametrize(
    ("simulations", "visits", "q", "root", "policy", "action"),
    [
        (
            4,
            [1, 1, 1, 1],
            [0.745455, 1.490909, 0.986364, 0.831818],
            0.850909,
            [0.003578, 0.967582, 0.011279, 0.017561],
            1,
        ),
        (8, [1, 3, 3, 1], [0.745455, 1.51, 1.568909, 0.831818], 1.223778, [0.00283, 0.639845, 0.343911, 0.013413], 2),
        (
            16,
            [2, 6, 2, 6],
            [0.808864, 1.952152, 1.287045, 2.145921],
            1.704721,
            [0.001065, 0.210983, 0.004788, 0.783164],
            3,
        ),
    ],
)
def test_whole_searches_as_mctx_makes_them(
    simulations: int, visits: list[int], q: list[float], root: float, policy: list[float], action: int
) -> None:
    found = search(arithmetic, arithmetic_root(), simulations=simulations, gumbel=GUMBEL)
    assert found.visits[0].tolist() == visits
    close(found.value[0], q)
    close(found.tree.value[0, 0], root)
    close(found.policy[0], policy)
    assert found.action[0].tolist() == [float(a == action) for a in range(A)]


def test_values_that_include_the_reward_of_arriving_give_another_tree() -> None:
    """The convention of actor_critic's critic: whoever mixes the two up counts rewards twice."""

    def twice(state: State, action: Tensor) -> Node:
        node = arithmetic(state, action)
        return node._replace(value=node.value + node.reward)

    found = search(twice, arithmetic_root(), simulations=8, gumbel=GUMBEL)
    assert (found.tree.value[0, 0] - 1.223778).abs() > 0.1


def test_one_step_bandit_as_in_mctxs_own_test() -> None:
    """Two of four actions are forbidden, the others bring 3 and -1; the critic expects -5."""

    def bandit(state: State, action: Tensor) -> Node:
        reward = torch.tensor([0.0, 3.0, -1.0, 0.0], dtype=torch.float64)[action.argmax(-1)]
        zeros = torch.zeros(len(reward), dtype=torch.float64)
        return numbered(zeros[:, None].repeat(1, A), zeros, reward, 0.0, zeros)

    logits = torch.tensor([[-math.inf, -1.0, 2.0, -math.inf]], dtype=torch.float64)
    nothing = torch.zeros(1, dtype=torch.float64)
    root = Node(whole(nothing), logits, nothing - 5, nothing, nothing)
    tuning = Tuning(value_scale=0.05, base_visits=60.0, considered=2)
    found = search(bandit, root, simulations=17, gumbel=torch.zeros_like(logits), tuning=tuning)
    assert found.visits[0].tolist() == [0, 9, 8, 0]
    close(found.value[0], [-1.043058, 3.0, -1.0, -1.043058])
    close(found.policy[0], [0.0, 0.601869, 0.398131, 0.0])


# --- Parts of it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("considered", "simulations", "order"),
    [
        (4, 2, "00"),
        (4, 4, "0000"),
        (4, 8, "00001122"),
        (4, 12, "000011223344"),
        (4, 16, "0000111122334455"),
        (3, 8, "00011223"),
        (1, 4, "0123"),
    ],
)
def test_sequential_halving(considered: int, simulations: int, order: str) -> None:
    assert "".join(map(str, schedule(considered, simulations))) == order


def tried_before() -> tuple[Node, list[int], list[float]]:
    logits = torch.tensor([[0.0, 0.5, -0.5, 1.0]], dtype=torch.float64)
    nothing = torch.zeros(1, dtype=torch.float64)
    return Node(whole(nothing), logits, nothing + 0.2, nothing, nothing), [2, 0, 1, 1], [0.3, 0.0, 0.9, 0.1]


def test_actions_that_were_never_tried_are_expected_to_be_worth_what_the_others_are() -> None:
    root, visits, q = tried_before()
    tree = plant(root, 4)
    for node, action in enumerate((0, 2, 3), 1):
        tree.child[0, 0, action] = node
        tree.visits[0, node], tree.reward[0, node] = visits[action], q[action]
    edges = judge(tree, None, Tuning())
    chance = [0.167405, 0.276004, 0.101536, 0.455054]
    close(root.logits[0].softmax(-1), chance)
    tried = (0.3 * chance[0] + 0.9 * chance[2] + 0.1 * chance[3]) / (1 - chance[1])
    close(edges.value[0, 0], [0.3, (0.2 + 4 * tried) / 5, 0.9, 0.1])
    close(edges.value[0, 0, 1], 0.246752)
    close(edges.bonus[0, 0], [1.3, 0.953889, 5.2, 0.0])
    improved = (root.logits[0] + edges.bonus[0, 0]).softmax(-1)
    close(improved, [0.030422, 0.035483, 0.911559, 0.022537])
    close(improved - edges.visits[0, 0] / 5, [-0.369578, 0.035483, 0.711559, -0.177463])


def test_with_a_scale_of_its_own_small_differences_stay_small() -> None:
    root = tried_before()[0]
    tree = plant(root, 4)
    tree.child[0, 0] = torch.tensor([1, 2, 3, 4])
    tree.visits[0, 1:], tree.reward[0, 1:] = 1, torch.tensor([0.0, 0.001, 0.0, 0.0])
    blown_up, kept = judge(tree, None, Tuning()), judge(tree, torch.ones(()), Tuning())
    close(blown_up.bonus[0, 0], [0.0, 5.1, 0.0, 0.0])
    close(kept.bonus[0, 0], [0.0, 0.0051, 0.0, 0.0])


def chain(rewards: list[float], discounts: list[float], leaf: float) -> Callable[[State, Tensor], Node]:
    """States 0, 1, 2 ... whatever is done; the critic knows the last one's value alone."""

    def step(state: State, action: Tensor) -> Node:
        t = (state.h[:, 0] + 1).long()
        value = torch.where(t == len(rewards), leaf, 0.0).double()
        reward, discount = (torch.tensor(numbers, dtype=torch.float64)[t - 1] for numbers in (rewards, discounts))
        return Node(whole(t), torch.zeros(len(t), 1, dtype=torch.float64), value, reward, discount)

    return step


def chain_root() -> Node:
    nothing = torch.zeros(1, dtype=torch.float64)
    return Node(whole(nothing), nothing[:, None], nothing, nothing, nothing)


def test_returns_go_up_a_chain_with_rewards_and_discounts_of_the_states_that_were_reached() -> None:
    rewards, discounts = [1.0, 10.0, 100.0], [0.9, 0.8, 0.7]
    found = search(chain(rewards, discounts, 1000.0), chain_root(), simulations=3, gumbel=torch.zeros(1, 1))
    third = 100 + 0.7 * 1000
    second = (0 + third) / 2  # mean of what the critic said (0) and what came through
    first = (0 + (10 + 0.8 * 0) + (10 + 0.8 * third)) / 3
    root = (0 + (1 + 0.9 * 0) + (1 + 0.9 * 10) + (1 + 0.9 * (10 + 0.8 * third))) / 4
    close(found.tree.value[0], [root, first, second, 1000.0])
    assert found.tree.visits[0].tolist() == [4, 3, 2, 1]
    close(found.value[0], [1 + 0.9 * first])


def test_nothing_counts_beyond_an_end() -> None:
    found = search(chain([1.0, 7.0, 100.0], [0.9, 0.0, 0.7], 1000.0), chain_root(), simulations=3, gumbel=GUMBEL[:, :1])
    close(found.tree.value[0, 1], (0 + 7 + 7) / 3)


# --- What must hold of every search ----------------------------------------------------------------------------------


def many(rows: int) -> tuple[Node, Tensor]:
    """Different roots, and Gumbel noise for them."""
    number = torch.arange(rows).double()
    logits, gumbel = torch.randn(rows, A).double(), torch.randn(rows, A).double()
    return Node(whole(number), logits, torch.rand(rows).double(), number * 0, number * 0), gumbel


def pick(root: Node, rows: Tensor) -> Node:
    return Node(State(root.state.h[rows], root.state.z[rows]), *(field[rows] for field in root[1:]))


def test_roots_do_not_mix() -> None:
    root, gumbel = many(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    together = search(arithmetic, root, simulations=12, gumbel=gumbel)
    permuted = search(arithmetic, pick(root, order), simulations=12, gumbel=gumbel[order])
    for ours, theirs in zip(together[:4], permuted[:4], strict=True):
        assert torch.equal(ours[order], theirs)
    for row in range(6):
        alone = search(arithmetic, pick(root, torch.tensor([row])), simulations=12, gumbel=gumbel[row : row + 1])
        assert torch.equal(alone.visits[0], together.visits[row]) and torch.equal(alone.policy[0], together.policy[row])


@pytest.mark.parametrize("simulations", [1, 2, 3, 5, 8, 16])
def test_every_simulation_opens_one_node_and_passes_the_root(simulations: int) -> None:
    root, gumbel = many(5)
    found = search(arithmetic, root, simulations=simulations, gumbel=gumbel)
    assert (found.visits.sum(-1) == simulations).all() and (found.tree.visits[:, 0] == simulations + 1).all()
    opened = found.tree.child.flatten(1).sort(-1).values[:, -simulations:]
    assert torch.equal(opened, torch.arange(1, simulations + 1).repeat(5, 1))
    close(found.policy.sum(-1), [1.0] * 5)


def test_the_improved_policy_is_better_than_the_actor_however_few_simulations() -> None:
    """A thousand bandits whose rewards the search sees exactly: sum pi' Q >= sum pi Q for each, and for the action."""
    rows, better = 1000, []
    table = torch.randn(rows, A).double()

    def bandit(state: State, action: Tensor) -> Node:
        reward = (table[state.h[:, 0].long()] * action).sum(-1)
        return Node(state, torch.zeros_like(action).double(), reward * 0, reward, reward * 0)

    number = torch.arange(rows).double()
    logits = torch.randn(rows, A).double()
    value = (logits.softmax(-1) * table).sum(-1)  # of a critic that is right
    root = Node(whole(number), logits, value, number * 0, number * 0)
    for simulations in (1, 2, 4, 8):
        found = search(bandit, root, simulations=simulations, gumbel=torch.randn(rows, A).double())
        gain = (found.policy * table).sum(-1) - value
        assert gain.min() > -1e-9 and gain.mean() > 0
        better.append(((found.action * table).sum(-1) - value).mean())
    assert better == sorted(better) and better[0] > -0.1


def test_without_noise_a_search_is_the_same_every_time_and_noise_decides_what_is_tried_first() -> None:
    root, gumbel = many(50)
    first, second = (search(arithmetic, root, simulations=2, gumbel=torch.zeros_like(gumbel)) for _ in range(2))
    assert torch.equal(first.action, second.action) and torch.equal(first.policy, second.policy)
    best_two = root.logits.topk(2).indices.sort(-1).values
    assert torch.equal(first.visits.nonzero()[:, 1].view(50, 2), best_two)
    noisy = search(arithmetic, root, simulations=2, gumbel=gumbel)
    assert torch.equal(noisy.visits.nonzero()[:, 1].view(50, 2), (root.logits + gumbel).topk(2).indices.sort(-1).values)


def test_actions_become_one_hot() -> None:
    assert as_one_hot(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_a_result_has_the_shapes_that_are_promised() -> None:
    root, gumbel = many(3)
    found: Found = search(arithmetic, root, simulations=4, gumbel=gumbel)
    assert found.action.shape == found.policy.shape == found.value.shape == found.visits.shape == (3, A)
    assert found.action.dtype == torch.float32 and found.tree.state.h.shape == (3, 5, 1)
